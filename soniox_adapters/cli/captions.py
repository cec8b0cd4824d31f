"""Utterances on the screen: bright once they are final, dim while they may still change."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import zip_longest
from types import TracebackType
from typing import Final

from rich.console import Console, ConsoleOptions, RenderResult
from rich.progress_bar import ProgressBar
from rich.segment import Segment
from rich.table import Table
from rich.text import Text
from typing_extensions import Self

from soniox_adapters.cli.live_region import LiveRegion
from soniox_adapters.cli.output import say
from soniox_adapters.cli.recording import Recording
from soniox_adapters.cli.wording import format_seconds, format_span, utterance_text
from soniox_proto import Transcript, TranscriptUpdate, Utterance
from soniox_proto.writers import written_now

__all__ = ["Captions", "announce_stop", "output_console"]

_MAX_LINES: Final = 8
_BAR_WIDTH: Final = 40
_TIMES_HEADING: Final = "seconds  "
_STOPPING: Final = "finishing; Ctrl-C again stops at once"


def output_console() -> Console:
    """Return a console on standard output, which writes plain text unless that is a terminal."""
    return _Console(force_terminal=sys.stdout.isatty(), highlight=False, markup=False, emoji=False)


class _Console(Console):
    def on_broken_pipe(self) -> None:
        # rich would exit the program here, which a task of an event loop must not do. This runs
        # inside its exception handler: raised again, the exception ends the stream in good order.
        raise


def announce_stop() -> None:
    """Report on standard error that the program is waiting for the rest of the text."""
    say(_STOPPING)


class Captions:
    """The captions of one stream, as a context manager around it.

    On a terminal, the current utterance and the progress are shown below the complete utterances.
    Anywhere else only complete utterances are written, one per line.

    Args:
        console: Where to show them.
        transcript: What has been said so far.
        recording: The audio, for the progress.
        times: Whether to show when each utterance was said.
        lines: Whether to write complete utterances.
    """

    def __init__(
        self,
        console: Console,
        transcript: Transcript,
        recording: Recording,
        *,
        times: bool = False,
        lines: bool = True,
    ) -> None:
        self._console = console
        self._transcript = transcript
        self._recording = recording
        self._times = times
        # Where the text begins, behind any span of times, so that it stays in one column.
        self._text_column = len(_TIMES_HEADING)
        if recording.duration is not None:
            length_ms = int(recording.duration * 1000)
            self._make_room_for(format_span(max(0, length_ms - 100), length_ms))
        self._lines = lines
        self._stopping = False
        self._under_way = transcript.open_utterances
        self._live: LiveRegion | None = None
        if console.is_terminal and not console.is_dumb_terminal and not console.legacy_windows:
            self._live = LiveRegion(console, self)

    def show(self, update: TranscriptUpdate) -> None:
        """Write the utterances that an update completes, and show those under way."""
        # Assigned once, because the display reads it from another thread.
        self._under_way = self._transcript.open_utterances
        if not self._lines:
            return
        for utterance in written_now(update):
            text = utterance_text(utterance)
            span = self._span(utterance.start_ms, utterance.end_ms)
            if self._live is not None and self._live.is_shown:
                self._live.print_above(self._row(span, Text(text)))
            elif self._console.is_terminal:
                self._console.print(self._row(span, Text(text)))
            else:
                self._console.print(f"{span}{text}" if span.strip() else text, soft_wrap=True)

    @property
    def heading(self) -> str:
        """What stands above utterances and their times."""
        return f"{_TIMES_HEADING:<{self._text_column}}transcript"

    def announce_stop(self) -> None:
        """Show that the audio was stopped, and the program is waiting for the rest of the text."""
        if self._live is None:
            announce_stop()
        else:
            self._stopping = True

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Show the current utterance, or the end of it if it is long, and the progress."""
        caption = self._caption()
        if caption is not None:
            rows = console.render_lines(caption, options, pad=False)
            for row in rows[-min(_MAX_LINES, max(1, console.height - 4)) :]:
                yield from row
                yield Segment.line()
        yield ""
        yield self._progress(console)

    def _caption(self) -> Table | Text | None:
        utterances = self._under_way
        if not utterances:
            return None
        span = self._span(utterances[0].start_ms, utterances[-1].end_ms)
        lines = [line for utterance in utterances for line in _firm_and_dim(utterance)]
        return self._row(span, Text("\n").join(lines))

    def _span(self, start_ms: int | None, end_ms: int | None) -> str:
        """Return a time span, and the space up to the text; ``""`` if times are not shown."""
        if not self._times:
            return ""
        span = format_span(start_ms, end_ms)
        self._make_room_for(span)
        return span.ljust(self._text_column)

    def _make_room_for(self, span: str) -> None:
        # How long live audio gets is not known. Once the text has moved, it does not move back.
        self._text_column = max(self._text_column, len(span) + 1)

    def _row(self, span: str, text: Text) -> Table | Text:
        if not self._times:
            return text
        row = Table.grid()
        row.add_column(style="dim", no_wrap=True, min_width=self._text_column)
        row.add_column()
        row.add_row(span, text)
        return row

    def _progress(self, console: Console) -> Table | Text:
        if self._stopping:
            return Text(_STOPPING, style="dim")
        recording = self._recording
        if recording.size is None:
            return Text(f"{format_seconds(int(recording.played * 1000))} s", style="dim")
        done = min(1.0, recording.position / recording.size)
        width = min(_BAR_WIDTH, max(8, console.width - 24))
        if recording.duration is None:
            label = f"{done:.0%}"
        else:
            length_ms = int(recording.duration * 1000)
            label = f"{format_seconds(int(length_ms * done))} of {format_seconds(length_ms)} s"
        row = Table.grid(padding=(0, 2, 0, 0), pad_edge=False)
        row.add_row(ProgressBar(total=1.0, completed=done, width=width), Text(label, style="dim"))
        return row


def _firm_and_dim(utterance: Utterance) -> Iterator[Text]:
    """Yield the lines of an utterance; what may still change is dim."""
    final = Utterance(tuple(token for token in utterance.tokens if token.is_final))
    lines, firm_lines = (utterance_text(each).split("\n") for each in (utterance, final))
    for line, firm in zip_longest(lines, firm_lines, fillvalue=""):
        text = Text(line)
        text.stylize("dim", len(firm) if line.startswith(firm) else 0)
        yield text
