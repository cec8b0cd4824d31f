"""What the local server expects of a speech recognizer."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

from soniox_proto import RealtimeEvent, RealtimeSTTConfig, SonioxError, SonioxValidationError

__all__ = [
    "AudioDecodeError",
    "HeaderAwaitedError",
    "Recognizer",
    "RecognizerFactory",
    "import_local_package",
    "refuse_unsupported",
]


class AudioDecodeError(SonioxError):
    """The audio received is not what the configuration declared.

    The text says what was found and what was expected; it is meant for the client, as the
    message of a 400 `invalid_request` error.
    """


class HeaderAwaitedError(AudioDecodeError):
    """The audio format is to be detected, and the audio begins like none of the containers.

    The service waits for a header then, until it gives up with a 408 `request_timeout` error. The
    local server answers so at once, because no header can come any more.
    """

    def __init__(self, start: bytes) -> None:
        super().__init__(
            f"Audio data decode timeout (audio_format 'auto' needs a container, and no container "
            f"starts with {start!r}; declare raw audio as such, for example as 'pcm_s16le')"
        )
        self.start = start

    def __reduce__(self) -> tuple[type[HeaderAwaitedError], tuple[bytes]]:
        # It may have to travel from another process.
        return type(self), (self.start,)


class Recognizer(Protocol):
    """Turns the audio of one stream into result messages.

    A recognizer belongs to one stream and is used by one thread at a time. Every method may take
    long, so an event loop calls them in a worker thread.

    The messages keep the rules of the protocol: a final token is sent once and never changes; the
    non-final tokens of a message replace those of the message before; `final_audio_proc_ms` is
    never above `total_audio_proc_ms`, and neither ever goes back. A token's text carries its own
    leading space, except for the first token of the transcript.

    The order of calls is any number of `feed` and `finalize`, then at most one `finish`, and
    `close` at any point. After `finish` or `close` only `close` and the two properties are used.
    """

    @property
    def final_audio_proc_ms(self) -> int:
        """Audio turned into final tokens so far, in ms from the start of the stream."""
        ...

    @property
    def total_audio_proc_ms(self) -> int:
        """Audio turned into final or non-final tokens so far, in ms from the stream's start."""
        ...

    def feed(self, audio: bytes) -> list[RealtimeEvent]:
        """Take the next piece of audio and return the result messages that are due now.

        `audio` is what the client sent, in the format that the configuration declared; it may be
        cut anywhere, also in the middle of a sample, and the cuts do not change the messages.

        Raises `AudioDecodeError` if the audio is not in the declared format; the recognizer can
        then only be closed.
        """
        ...

    def finalize(self, trailing_silence_ms: int | None = None) -> list[RealtimeEvent]:
        """Settle everything outstanding, and return at least one message.

        The last message is the answer: the pending tokens, all final, then the final token `<fin>`.
        All audio fed so far is taken now, so `total_audio_proc_ms` is its whole length. The server
        moves the answer, and every later message, onto the padded clock of the service.
        `trailing_silence_ms` is how much silence, in ms, the client says it already sent after the
        speech.

        Raises `AudioDecodeError` as `feed` does.
        """
        ...

    def finish(self) -> list[RealtimeEvent]:
        """Settle everything at the end of the audio, and return the last result messages.

        None of them has `finished` set: the finished response is the server's to add.

        Raises `AudioDecodeError` if the audio ended before it was complete enough to decode.
        """
        ...

    def close(self) -> None:
        """Free what the recognizer holds. Raises nothing; safe to call again."""
        ...


RecognizerFactory: TypeAlias = Callable[[RealtimeSTTConfig], Recognizer]
"""Makes the recognizer of a new stream.

Raises `SonioxValidationError` if it cannot serve the configuration, for example a container that
it cannot decode; the text is meant for the client, as the message of a 400 `invalid_request`
error. May take long (models are loaded from disk), so an event loop calls it in a worker thread.
"""


def refuse_unsupported(config: RealtimeSTTConfig) -> None:
    """Refuse what a recognizer of speech alone cannot do, so that nobody waits for it in vain.

    Raises `SonioxValidationError` for translation and for speaker diarization.
    """
    if config.translation is not None:
        raise SonioxValidationError("Model does not support translations.")
    if config.enable_speaker_diarization:
        raise SonioxValidationError("Model does not support speaker diarization.")


def import_local_package(name: str) -> Any:
    """Import a package of the `local` extra on first need.

    Raises `SonioxValidationError`, which names the extra, if the package is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise SonioxValidationError(
            f"offline recognition needs the package {name!r}, which cannot be imported here "
            f"({error}); install it with: pip install 'soniox-proto[local]'"
        ) from error
