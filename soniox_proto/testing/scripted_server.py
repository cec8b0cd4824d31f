"""A server that follows a script."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from soniox_proto.options import check_seconds
from soniox_proto.testing.checks import checked_count
from soniox_proto.testing.log import Log, LogEntry
from soniox_proto.testing.script import Script, Trigger
from soniox_proto.testing.scripted_connection import ScriptedConnection

__all__ = ["ScriptedServer"]

ASSUMED_BYTES_PER_SECOND: Final = 32_000
"""Bytes per second of containers and `auto`: 16 kHz, 16 bits, mono."""

MAX_DURATION: Final = 300 * 60.0
"""Seconds after which the service ends a stream with error 413 (Soniox docs, "Limits & quotas").
Also what ends a test that waits in vain: virtual hours pass in a moment."""


class ScriptedServer(Script):
    """A test double of the service: a conversation written down, and checked afterwards.

    The server itself is the script of the first connection; `next_connection` begins those of
    later ones. Where a script is silent, the server behaves like the service: it accepts any
    client, answers finalizes and the end of the audio, counts on a padded clock, and ends a client
    that falls silent.

    Args:
        bytes_per_second: What to take for the rate of audio whose format does not tell: containers
            and `auto`.
        max_duration: Seconds after which a stream ends with error 413; None for never. Then
            nothing ends a test that waits in vain.
    """

    def __init__(
        self,
        *,
        bytes_per_second: int = ASSUMED_BYTES_PER_SECOND,
        max_duration: float | None = MAX_DURATION,
    ) -> None:
        super().__init__()
        self._bytes_per_second = checked_count("bytes_per_second", bytes_per_second, at_least=1)
        self._max_duration = check_seconds("max_duration", max_duration)
        self._scripts: list[Script] = [self]
        self._connections: list[ScriptedConnection] = []
        self._log = Log()

    def next_connection(self) -> Script:
        """Begin the script of one more connection, and return it."""
        script = Script()
        self._scripts.append(script)
        return script

    def connect(self, now: float) -> ScriptedConnection:
        """Return the server's end of one more connection, which begins now.

        For those who move the bytes; see `Simulation` for a way to have them moved.
        """
        number = len(self._connections) + 1
        script = self._scripts[number - 1] if number <= len(self._scripts) else Script()
        connection = ScriptedConnection(
            number,
            script,
            self._log,
            now,
            bytes_per_second=self._bytes_per_second,
            max_duration=self._max_duration,
        )
        self._connections.append(connection)
        return connection

    @property
    def connections(self) -> Sequence[ScriptedConnection]:
        """The connections so far."""
        return tuple(self._connections)

    @property
    def log(self) -> Sequence[LogEntry]:
        """What both ends did so far, with repetitions of the same counted."""
        return tuple(self._log.entries)

    def check(self) -> None:
        """Check that everything in the script has happened, as it says.

        Raises `ScriptMismatchError`, an `AssertionError`, which lists what is missing, what was
        different, and the latest events.
        """
        failure = self._log.failure(self._missing())
        if failure is not None:
            raise failure

    def _missing(self) -> Iterator[str]:
        for number, script in enumerate(self._scripts, start=1):
            connected = number <= len(self._connections)
            audio_ms = self._connections[number - 1].audio_ms if connected else 0
            if script is not self and not connected:
                yield f"connection {number} was expected, and no client made it"
                continue
            for expectation in script.expectations:
                if not expectation.met:
                    came = _audio_came(expectation.trigger, audio_ms) or ", which did not come"
                    yield f"connection {number}: expected {expectation}{came}"
            for cue in script.cues:
                if not cue.reached:
                    came = _audio_came(cue.trigger, audio_ms)
                    yield f'connection {number}: never got to "{cue}"{came}'
                elif cue.done < len(cue.actions):
                    left = ", ".join(map(str, cue.actions[cue.done :]))
                    yield f'connection {number}: did not get to the end of "{cue}": {left}'


def _audio_came(trigger: Trigger, audio_ms: int) -> str:
    return f"; {audio_ms} ms came" if trigger is Trigger.AUDIO else ""
