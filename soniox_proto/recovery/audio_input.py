"""What the user's audio is made of: a header that is not sent again, and what follows it.

Only raw audio can be sent again from the middle. A WAV file with uncompressed samples is raw audio
behind a header, so later links declare its samples as what they are and get no header. Every other
container has to be sent again from its start.
"""

from __future__ import annotations

from typing import Final

from soniox_proto.config import RealtimeSTTConfig
from soniox_proto.errors import SonioxStateError, SonioxValidationError
from soniox_proto.wav import WavReader

__all__ = ["MAY_BE_WAV", "AudioInput"]

MAY_BE_WAV: Final = frozenset({"auto", "wav"})
"""Formats of audio that is looked into."""

_FIXED: Final = ("audio_format", "sample_rate", "num_channels")
"""What the audio is. A configuration that changes it would be wrong for what is sent already."""


class AudioInput:
    """Finds out what the user's audio is, and returns what can be sent again of it.

    Args:
        config: The user's configuration.
    """

    __slots__ = ("_declared", "_reader", "config", "frame", "head", "is_known", "rate")

    def __init__(self, config: RealtimeSTTConfig) -> None:
        # What the user says it is, and what is known in place of that.
        self._declared = {name: getattr(config, name) for name in _FIXED}
        self.config = config
        """What a link that is made now has to declare."""
        self.rate = config.bytes_per_second
        """Bytes per second; None for containers, which cannot be cut."""
        self.frame = config.bytes_per_frame or 1
        """Bytes of one frame."""
        self.head = b""
        """What links that declare the user's configuration have to get ahead of the audio."""
        self._reader = WavReader() if config.audio_format in MAY_BE_WAV else None
        self.is_known = self._reader is None
        """Whether it is certain what the audio is. Until then it is held."""

    def feed(self, data: bytes) -> bytes:
        """Take audio of the user, and return what of it, or of what was held, is to be sent now."""
        reader = self._reader
        if reader is None:
            return data
        if self.is_known:
            return reader.feed(data)
        self.head += data
        try:
            samples = reader.feed(data)
        except SonioxValidationError:
            # It is for the service to say what is wrong with it, or to know the container.
            return self.end()
        if reader.header_bytes is None:
            return b""
        assert reader.format is not None, "no samples come before the format"
        raw_format = reader.format.audio_format
        if raw_format is None:
            return self.end()
        self.is_known = True
        self.head = self.head[: reader.header_bytes]
        self.config = self.config.model_copy(
            update={
                "audio_format": raw_format,
                "sample_rate": reader.format.sample_rate,
                "num_channels": reader.format.channels,
            }
        )
        self.rate, self.frame = self.config.bytes_per_second, self.config.bytes_per_frame or 1
        return samples

    def reconfigure(self, config: RealtimeSTTConfig) -> None:
        """Take another configuration for links that are made from now on.

        Raises:
            SonioxValidationError: It says that the audio is something else.
            SonioxStateError: The audio cannot go on on another link, or that is not known yet.
        """
        for name, declared in self._declared.items():
            if getattr(config, name) != declared:
                raise SonioxValidationError(
                    f"{name} cannot change while audio is being sent: it is {declared!r}, not "
                    f"{getattr(config, name)!r}; open another session for other audio"
                )
        if not self.is_known:
            raise SonioxStateError(
                f"audio_format is {config.audio_format!r}, and what the audio is shows only once "
                "it has begun; send its beginning first"
            )
        if self.rate is None:
            raise SonioxStateError(
                "audio in a container cannot go on on another connection; a session can be "
                "reconfigured if its audio is raw, or WAV with uncompressed samples"
            )
        known = {name: getattr(self.config, name) for name in _FIXED}
        self.config = config.model_copy(update=known)

    def end(self) -> bytes:
        """Take it that the audio is no WAV file after all, and return what is held."""
        held, self.head = self.head, b""
        self._reader, self.is_known = None, True
        return held
