"""What a scripted server is to expect of one connection, and what it is to do, in words.

A script is made of cues. Each begins with what sets it off (`on_finalize`, `after_audio`, `at`) and
goes on with what the server does then. Cues of the same kind are used up in order: the second
`on_finalize` is for the second finalize. Cues of different kinds are independent of each other.
Expectations (`expect_start` and so on) are counted in the same way, on their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from typing_extensions import Self

from soniox_proto.credentials import Authentication, check_headers
from soniox_proto.errors import SonioxValidationError
from soniox_proto.messages import RealtimeEvent, Token
from soniox_proto.testing import factories
from soniox_proto.testing.actions import (
    Action,
    Close,
    Cut,
    Drop,
    Error,
    Finish,
    GoDark,
    Ignore,
    Refuse,
    Say,
    Send,
    SendBytes,
    Stall,
    Wait,
)
from soniox_proto.testing.checks import (
    checked_close_code,
    checked_count,
    checked_message,
    checked_number,
    checked_speech,
    checked_status,
    checked_text,
)
from soniox_proto.testing.factories import Speech, is_translation, tokens_of

__all__ = ["Cue", "Expectation", "Script", "Trigger"]

TRANSLATION_DELAY = 0.04
"""Seconds from originals to their translations; 14 to 77 ms were measured."""


class Trigger(Enum):
    """What sets off a cue."""

    UPGRADE = "the upgrade request"
    START = "the start message"
    AUDIO = "audio"
    KEEPALIVE = "a keepalive"
    FINALIZE = "a finalize"
    END_OF_AUDIO = "end-of-audio"
    CLOSE = "the client's close"
    TIME = "a time"


@dataclass(frozen=True, slots=True)
class AudioAmount:
    """An amount of audio: bytes, or milliseconds of the declared format."""

    ms: float | None
    size: int | None

    def in_bytes(self, bytes_per_second: int) -> int:
        """Return the amount in bytes."""
        if self.size is not None:
            return self.size
        assert self.ms is not None, "an amount has one of the two"
        return round(self.ms * bytes_per_second / 1000)

    def __str__(self) -> str:
        return f"{self.size} bytes" if self.size is not None else f"{self.ms:g} ms"


class Cue:
    """What the server does once something has happened. The methods add to it, in order.

    The answer that the service itself would give follows afterwards, unless the cue ends the
    session or says `ignore`.
    """

    def __init__(
        self, trigger: Trigger, *, audio: AudioAmount | None = None, seconds: float = 0.0
    ) -> None:
        self.trigger = trigger
        self.audio = audio
        self.seconds = seconds
        self.actions: list[Action] = []
        self.reached = False
        """Whether what sets it off has happened."""
        self.done = 0
        """How many of the actions were carried out."""

    def say(self, *speech: Speech | RealtimeEvent) -> Self:
        """Send tokens as one result.

        Tokens without times are placed between what was said before and the audio received, and
        positions are put on the service's clock. Translations go out in a message of their own, a
        moment after their originals, as those of the service do. In the answer to a finalize the
        tokens become final, and `<fin>` follows in the same message.

        Args:
            speech: Tokens, texts of final tokens, or results whose tokens are meant.
        """
        tokens: list[Token] = []
        for item in speech:
            item = checked_speech(item)
            tokens += item.tokens if isinstance(item, RealtimeEvent) else tokens_of([item])
        originals = tuple(token for token in tokens if not is_translation(token))
        translations = tuple(token for token in tokens if is_translation(token))
        if originals and translations:
            return self._do(Say(originals), Wait(TRANSLATION_DELAY), Say(translations))
        return self._do(Say(originals or translations))

    def send(self, message: RealtimeEvent | Mapping[str, Any]) -> Self:
        """Send a message exactly as it is, whether or not the service would."""
        return self._do(Send(checked_message(message)))

    def send_bytes(self, data: bytes) -> Self:
        """Put bytes on the wire that need not be a WebSocket frame."""
        return self._do(SendBytes(bytes(memoryview(data))))

    def error(
        self,
        error_code: int,
        error_type: str | None = None,
        error_message: str | None = None,
        **fields: Any,
    ) -> Self:
        """Send an error message and close, as the service does.

        Args:
            error_code: Number of the error.
            error_type: Its stable name; by default the usual one for the number.
            error_message: Its description; by default that of the service.
            fields: Further fields: `request_id`, `more_info`.
        """
        checked_count("error_code", error_code)
        message = factories.error(error_code, error_type, error_message, **fields)
        return self._do(Error(message))

    def finish(self) -> Self:
        """Send the finished response and close, whether or not the audio has ended."""
        return self._do(Finish())

    def wait(self, seconds: float) -> Self:
        """Let time pass before what comes next."""
        return self._do(Wait(checked_number("seconds", seconds)))

    def ignore(self) -> Self:
        """Do not give the answer that the service would give."""
        return self._do(Ignore())

    def close(self, code: int = 1000, reason: str = "") -> Self:
        """Send a close frame without an error message or a finished response before it."""
        return self._do(Close(checked_close_code(code), checked_text("reason", reason)))

    def refuse(
        self,
        status_code: int,
        *,
        body: str | bytes = b"",
        headers: Mapping[str, str] | None = None,
    ) -> Self:
        """Refuse the upgrade with an HTTP status. Only possible in `on_upgrade`."""
        content = body.encode() if isinstance(body, str) else bytes(memoryview(body))
        pairs = check_headers(headers, Authentication.MESSAGE)
        return self._do(Refuse(checked_status(status_code), tuple(pairs), content))

    def drop(self, *, after_bytes: int = 0) -> Self:
        """End the byte stream without a close frame, at once or after some more bytes."""
        return self._do(Drop(checked_count("after_bytes", after_bytes)))

    def cut(self, *, at: int) -> Self:
        """Deliver the next bytes in two reads, the first of them `at` bytes long."""
        return self._do(Cut(checked_count("at", at, at_least=1)))

    def stall(self, seconds: float | None = None) -> Self:
        """Neither read nor write for some seconds, or for ever; then go on where it stopped."""
        return self._do(Stall(None if seconds is None else checked_number("seconds", seconds)))

    def half_open(self) -> Self:
        """Lose everything in both directions from now on, as if a cable had been pulled."""
        return self._do(GoDark())

    def _do(self, *actions: Action) -> Self:
        self.actions += actions
        return self

    def __str__(self) -> str:
        words = self.when
        return f"{words}: {', '.join(map(str, self.actions))}" if self.actions else words

    @property
    def when(self) -> str:
        """What sets it off, in words."""
        if self.audio is not None:
            return f"after {self.audio} of audio"
        if self.trigger is Trigger.TIME:
            return f"at {self.seconds:g} s"
        return f"on {self.trigger.value}"


@dataclass(slots=True)
class Expectation:
    """What has to happen, and what has to be true of it."""

    trigger: Trigger
    fields: dict[str, object]
    audio: AudioAmount | None = None
    met: bool = False

    def __str__(self) -> str:
        if self.audio is not None:
            return f"{self.audio} of audio"
        return f"{self.trigger.value}{_with(self.fields)}"


class Script:
    """What the server expects of one connection, and what it does.

    Where the script is silent, the server behaves like the service. Times are in seconds since the
    client connected.
    """

    def __init__(self) -> None:
        self.cues: list[Cue] = []
        self.expectations: list[Expectation] = []

    # What has to happen

    def expect_upgrade(self, **fields: object) -> None:
        """Expect the upgrade request.

        Args:
            fields: What it has to contain: `api_key`, `target`, or headers, with underscores for
                hyphens.
        """
        self._expect(Trigger.UPGRADE, fields)

    def expect_start(self, **fields: object) -> None:
        """Expect the start message, with these fields; it may have others."""
        self._expect(Trigger.START, fields)

    def expect_audio(
        self, *, ms: float | None = None, seconds: float | None = None, size: int | None = None
    ) -> None:
        """Expect at least so much audio: in milliseconds, in seconds or in bytes."""
        amount = _amount(ms, seconds, size)
        self.expectations.append(Expectation(Trigger.AUDIO, {}, amount))

    def expect_finalize(self, **fields: object) -> None:
        """Expect a finalize, with these fields (`trailing_silence_ms`)."""
        self._expect(Trigger.FINALIZE, fields)

    def expect_keepalive(self, times: int = 1) -> None:
        """Expect so many keepalives, at least."""
        for _ in range(checked_count("times", times, at_least=1)):
            self._expect(Trigger.KEEPALIVE, {})

    def expect_end_of_audio(self) -> None:
        """Expect end-of-audio."""
        self._expect(Trigger.END_OF_AUDIO, {})

    def expect_close(self, **fields: object) -> None:
        """Expect the client's close frame, or the end of its stream, with these fields (`code`)."""
        self._expect(Trigger.CLOSE, fields)

    # What the server does

    def on_upgrade(self) -> Cue:
        """Do something when the upgrade request comes. The service accepts it."""
        return self._cue(Cue(Trigger.UPGRADE))

    def on_start(self) -> Cue:
        """Do something when the start message comes."""
        return self._cue(Cue(Trigger.START))

    def after_audio(
        self, *, ms: float | None = None, seconds: float | None = None, size: int | None = None
    ) -> Cue:
        """Do something once so much audio has come: in milliseconds, in seconds or in bytes."""
        return self._cue(Cue(Trigger.AUDIO, audio=_amount(ms, seconds, size)))

    def on_finalize(self) -> Cue:
        """Do something when the next finalize comes; by default 180 ms after it.

        The service answers with the provisional tokens as final ones, and `<fin>`.
        """
        return self._cue(Cue(Trigger.FINALIZE))

    def on_keepalive(self) -> Cue:
        """Do something when the next keepalive comes. The service does nothing."""
        return self._cue(Cue(Trigger.KEEPALIVE))

    def on_end_of_audio(self) -> Cue:
        """Do something when the audio ends; by default 160 ms after that.

        The service sends the provisional tokens as final ones, then the finished response.
        """
        return self._cue(Cue(Trigger.END_OF_AUDIO))

    def at(self, seconds: float) -> Cue:
        """Do something so many seconds after the client has connected."""
        return self._cue(Cue(Trigger.TIME, seconds=checked_number("seconds", seconds)))

    # Inside

    def _cue(self, cue: Cue) -> Cue:
        self.cues.append(cue)
        return cue

    def _expect(self, trigger: Trigger, fields: Mapping[str, object]) -> None:
        self.expectations.append(Expectation(trigger, dict(fields)))


def _amount(ms: float | None, seconds: float | None, size: int | None) -> AudioAmount:
    if [ms, seconds, size].count(None) != 2:
        raise SonioxValidationError("give one of ms, seconds and size")
    if size is not None:
        return AudioAmount(None, checked_count("size", size))
    if seconds is not None:
        ms = checked_number("seconds", seconds) * 1000
    return AudioAmount(checked_number("ms", ms or 0), None)


def _with(fields: Mapping[str, object]) -> str:
    words = ", ".join(f"{name}={value!r}" for name, value in fields.items())
    return f" with {words}" if words else ""
