"""The interface of a speech recognizer for the local server, and its errors."""

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

    The text says what was found and what was expected. The client gets it as the message of a 400
    `invalid_request` error.
    """


class HeaderAwaitedError(AudioDecodeError):
    """The audio format is `auto`, but the audio does not start like any container.

    The service goes on waiting for a header, and gives up with a 408 `request_timeout` error. The
    local server sends that error at once, because a header can no longer come.
    """

    def __init__(self, start: bytes) -> None:
        super().__init__(
            f"Audio data decode timeout (audio_format 'auto' needs a container, and no container "
            f"starts with {start!r}; declare raw audio as such, for example as 'pcm_s16le')"
        )
        self.start = start

    def __reduce__(self) -> tuple[type[HeaderAwaitedError], tuple[bytes]]:
        # Makes it picklable: it may be raised in another process.
        return type(self), (self.start,)


class Recognizer(Protocol):
    """Turns the audio of one stream into result messages.

    A recognizer belongs to one stream and is used by one thread at a time. Every method may take
    long, so the server calls them in a worker thread.

    The messages must follow the rules of the protocol. A final token is sent once and never
    changes. The non-final tokens of a message replace those of the previous message.
    `final_audio_proc_ms` is never above `total_audio_proc_ms`, and neither ever decreases. The text
    of a token includes its leading space, except for the first token of the transcript.

    Calls come in this order: any number of `feed` and `finalize`, then at most one `finish`;
    `close` may come at any point. After `finish` or `close`, only `close` and the two properties
    are used.
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
        """Process the next piece of audio, and return the result messages that are due now.

        `audio` is what the client sent, in the format that the configuration declares. It may be
        split anywhere, even inside a sample, without changing the messages.

        Raises `AudioDecodeError` if the audio is not in the declared format; the recognizer can
        only be closed after that.
        """
        ...

    def finalize(self, trailing_silence_ms: int | None = None) -> list[RealtimeEvent]:
        """Make everything outstanding final, and return at least one message.

        The last message is the answer: the pending tokens, all final, then the final token `<fin>`.
        By then all audio fed so far is processed, so `total_audio_proc_ms` is its whole length. The
        server moves the times of the answer, and of all later messages, to the padded clock of the
        service. `trailing_silence_ms` is how much silence, in ms, the client says that it has
        already sent after the speech.

        Raises `AudioDecodeError` as `feed` does.
        """
        ...

    def finish(self) -> list[RealtimeEvent]:
        """Make everything final at the end of the audio, and return the last result messages.

        None of them has `finished` set, because the server adds the finished response.

        Raises `AudioDecodeError` if the audio ended too early to be decoded.
        """
        ...

    def close(self) -> None:
        """Release what the recognizer holds. Must not raise, and must be safe to repeat."""
        ...


RecognizerFactory: TypeAlias = Callable[[RealtimeSTTConfig], Recognizer]
"""Makes the recognizer of a new stream.

Raises `SonioxValidationError` if it cannot serve the configuration, for example a container that
it cannot decode; the client gets the text as the message of a 400 `invalid_request` error. May take
long (models are loaded from disk), so the server calls it in a worker thread.
"""


def refuse_unsupported(config: RealtimeSTTConfig) -> None:
    """Refuse what a mere speech recognizer cannot do, rather than silently leaving it out.

    Raises `SonioxValidationError` for translation and for speaker diarization.
    """
    if config.translation is not None:
        raise SonioxValidationError("Model does not support translations.")
    if config.enable_speaker_diarization:
        raise SonioxValidationError("Model does not support speaker diarization.")


def import_local_package(name: str) -> Any:
    """Import a package of the `local` extra on first use.

    Raises `SonioxValidationError`, which names the extra, if the package is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise SonioxValidationError(
            f"offline recognition needs the package {name!r}, which cannot be imported here "
            f"({error}); install it with: pip install 'soniox-proto[local]'"
        ) from error
