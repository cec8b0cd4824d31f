"""From the service's clock to the audio that the user sent, on one connection.

The service stamps everything with positions on its own clock, which starts at 0 on every connection
and gains 1 to 120 ms of silence with every finalize (`server_clock.py` has the rule). To know where
to go on after a connection is lost, and to give out times that are positions in the user's audio,
both shifts have to be taken back.

A map is a list of breakpoints. Between two of them both clocks run alike. A finalize makes the
service's clock jump, and the audio stands still meanwhile; audio that was dropped because too much
was held makes the audio jump, and the service's clock stands still.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from math import floor
from typing import Final

from soniox_proto.messages import TOKEN_TEXT_FIN, RealtimeEvent
from soniox_proto.server_clock import FINALIZE_STEP_MS

__all__ = ["ClockMap"]

_LONGEST_PAD_MS: Final = 1000
"""More silence than any finalize adds, in ms. An answer that claims more is not believed."""

_LONGEST_MS: Final = 10**12
"""The largest position that is taken seriously, in ms: 30 years."""


@dataclass(slots=True)
class _Breakpoint:
    server_ms: float
    """Where the service's clock stands after the jump."""
    audio_ms: float
    """Where the audio stands after the jump."""
    audio_before_ms: float
    """Where the audio stood before the jump; beyond it, the piece before does not reach."""
    is_finalize: bool
    answered: bool = False


class ClockMap:
    """Maps positions on the service's clock, on one connection, to positions in the user's audio.

    Args:
        begins_ms: Where in the user's audio the connection's audio begins, in ms.
    """

    __slots__ = ("_answered_before", "_breakpoints")

    def __init__(self, begins_ms: float) -> None:
        # No finalize before this index is unanswered. Without it each answer would look at all of
        # the stream's finalizes.
        self._answered_before = 1
        self._breakpoints = [_Breakpoint(0.0, begins_ms, begins_ms, is_finalize=False)]

    def audio_ms(self, server_ms: float) -> float:
        """Return the position in the user's audio, in ms."""
        points = self._breakpoints
        # The service may send any number, which need not fit into a float.
        server_ms = min(max(server_ms, 0), _LONGEST_MS)
        index = bisect_right(points, server_ms, key=_server_ms) - 1
        position = points[index].audio_ms + server_ms - points[index].server_ms
        following = points[index + 1 : index + 2]
        return min([position, *(point.audio_before_ms for point in following)])

    def server_ms(self, audio_ms: float) -> float:
        """Return where the service's clock stands once audio up to `audio_ms` has been sent."""
        last = self._breakpoints[-1]
        return last.server_ms + audio_ms - last.audio_ms

    def finalize(self, audio_ms: float) -> None:
        """Note that a finalize was sent after audio up to `audio_ms`."""
        server_ms = _padded(self.server_ms(audio_ms))
        self._breakpoints.append(_Breakpoint(server_ms, audio_ms, audio_ms, is_finalize=True))

    def answered(self, server_ms: float | None) -> int:
        """Correct an unanswered finalize by its answer, which stands at `server_ms`.

        It is the oldest one, unless the position rules that out. Then the answers to those before
        it were lost, or never given; the return value says to how many. What was sent since then
        has moved with it.
        """
        points = self._breakpoints
        unanswered = [
            index
            for index in range(self._answered_before, len(points))
            if points[index].is_finalize
        ]
        if not unanswered:
            return 0
        passed_over = self._passed_over(server_ms, unanswered)
        for index in unanswered[: passed_over + 1]:
            points[index].answered = True
        index = unanswered[passed_over]
        self._answered_before = index + 1
        # Whether the service padded its clock for those, nobody knows. The answer counts it in.
        for skipped in range(unanswered[0], index):
            points[skipped].server_ms = self._server_before(skipped)
        point, before = points[index], self._server_before(index)
        if passed_over:
            point.server_ms = _padded(before)
        if server_ms is not None and before <= server_ms <= before + _LONGEST_PAD_MS:
            point.server_ms = server_ms
        for behind in range(index + 1, len(points)):
            server = self._server_before(behind)
            later = points[behind]
            later.server_ms = _padded(server) if later.is_finalize else server
        return passed_over

    def _passed_over(self, server_ms: float | None, unanswered: list[int]) -> int:
        """Return how many of the unanswered finalizes come before the one answered at a position.

        The first whose pad may end there is the one; 0 if there is none.
        """
        if server_ms is None:
            return 0
        pads = 0.0
        for passed_over, index in enumerate(unanswered):
            # Those before may have been lost, and their pads with them.
            before = self._server_before(index) - pads
            if before <= server_ms <= before + pads + _LONGEST_PAD_MS:
                return passed_over
            pads += self._breakpoints[index].server_ms - self._server_before(index)
        return 0

    def answered_in(self, message: RealtimeEvent) -> int:
        """Correct the finalize that is answered by the message with its `<fin>`.

        The position of such a message is that of the `<fin>` if both of its positions agree.
        Results for later audio in the same message would set them apart. It is that of the last
        `<fin>`, if there are several.

        Returns how many finalizes before that one have remained without an answer.
        """
        settled = message.final_audio_proc_ms
        if settled != message.total_audio_proc_ms or _answers(message) > 1:
            settled = None
        return self.answered(settled)

    def forget(self, audio_ms: float) -> None:
        """Drop what is needed only for positions before `audio_ms`."""
        points = self._breakpoints
        while (
            len(points) > 1
            and points[1].audio_ms < audio_ms
            and (points[1].answered or not points[1].is_finalize)
        ):
            points.pop(0)
            self._answered_before = max(1, self._answered_before - 1)

    def _server_before(self, index: int) -> float:
        """Return where the service's clock stands before a jump."""
        before, point = self._breakpoints[index - 1 : index + 1]
        return before.server_ms + point.audio_before_ms - before.audio_ms

    def skip(self, from_ms: float, to_ms: float) -> None:
        """Note that the audio between two positions is not sent on this connection."""
        server_ms = self.server_ms(from_ms)
        self._breakpoints.append(_Breakpoint(server_ms, to_ms, from_ms, is_finalize=False))


def _server_ms(point: _Breakpoint) -> float:
    return point.server_ms


def _answers(message: RealtimeEvent) -> int:
    return sum(1 for token in message.tokens if token.is_final and token.text == TOKEN_TEXT_FIN)


def _padded(server_ms: float) -> float:
    return float((floor(server_ms) // FINALIZE_STEP_MS + 1) * FINALIZE_STEP_MS)
