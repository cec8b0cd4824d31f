"""Real offline recognition of English with pocketsphinx (extra `local`).

It makes the local server useful without a network: tests and demos that hear real speech, with
results that grow, settle and end utterances as those of the service do.
"""

from __future__ import annotations

import importlib.util
import re
import threading
from collections import deque
from collections.abc import Iterable
from typing import Final, NamedTuple, Protocol

from soniox_adapters.server.audio import OUTPUT_SAMPLE_RATE, AudioDecoder
from soniox_adapters.server.recognizer import import_local_package, refuse_unsupported
from soniox_proto import (
    TOKEN_TEXT_END,
    TOKEN_TEXT_FIN,
    RealtimeEvent,
    RealtimeSTTConfig,
    SonioxValidationError,
    Token,
)

__all__ = ["PocketsphinxRecognizer", "load_pocketsphinx", "pocketsphinx_installed"]

_LANGUAGE: Final = "en"
"""The language of the model."""

_BYTES_PER_MS: Final = OUTPUT_SAMPLE_RATE * 2 // 1000

_DECODER_FRAME_MS: Final = 10
"""The unit of the decoder's word times."""

_WINDOW_MS: Final = 300
"""Audio that must be all speech, or all silence, before the endpointer reports it."""

_PARTIAL_INTERVAL_MS: Final = 120
"""Audio after which the decoder is asked again what it has understood so far."""

_PROGRESS_INTERVAL_MS: Final = 1_000
"""Audio after which a message reports the progress even if there is nothing else to report."""

_LONG_UTTERANCE_MS: Final = 15_000
"""Beyond this length an utterance ends at the first short pause."""

_LONGEST_UTTERANCE_MS: Final = 20_000
"""At this length an utterance is cut, because its memory and the work at its end keep growing."""

_LONGEST_CARRIED_WORD_MS: Final = 2_000
"""If the last word is longer than this, it is not a word that the cut went through."""

_NON_FINAL_CONFIDENCE: Final = 0.5
"""A placeholder: the decoder computes confidences only at the end of an utterance."""

_DEFAULT_ENDPOINT_DELAY_MS: Final = 2_000

_MAX_IDLE_DECODERS: Final = 2
"""Each holds about 90 MB."""


class _Segment(Protocol):
    word: str
    start_frame: int
    end_frame: int
    prob: float


class _Decoder(Protocol):
    def start_utt(self) -> None: ...
    def process_raw(self, data: bytes) -> object: ...
    def end_utt(self) -> None: ...
    def seg(self) -> Iterable[_Segment] | None: ...
    def reinit_feat(self) -> None: ...


class _Endpointer(Protocol):
    frame_bytes: int
    in_speech: bool

    def process(self, frame: bytes) -> bytes | None: ...


class _VoiceActivity(Protocol):
    def is_speech(self, frame: bytes) -> bool: ...


class _Word(NamedTuple):
    text: str
    start_ms: int
    end_ms: int
    confidence: float


class _DecoderPool:
    """Keeps idle decoders for later streams, because loading one takes half a second."""

    def __init__(self) -> None:
        self._idle: list[_Decoder] = []
        self._lock = threading.Lock()

    def borrow(self) -> _Decoder:
        pocketsphinx = import_local_package("pocketsphinx")
        with self._lock:
            decoder = self._idle.pop() if self._idle else None
        if decoder is None:
            loaded: _Decoder = pocketsphinx.Decoder(samprate=OUTPUT_SAMPLE_RATE, loglevel="FATAL")
            return loaded
        # Drop what it adapted to in the previous stream, so that results do not depend on that.
        decoder.reinit_feat()
        return decoder

    def give_back(self, decoder: _Decoder) -> None:
        with self._lock:
            if len(self._idle) < _MAX_IDLE_DECODERS:
                self._idle.append(decoder)


_pool = _DecoderPool()


def pocketsphinx_installed() -> bool:
    """Return whether the package that `PocketsphinxRecognizer` needs is installed."""
    return importlib.util.find_spec("pocketsphinx") is not None


def load_pocketsphinx() -> None:
    """Load the model ahead of time, so that the first stream does not have to wait for it.

    Takes about half a second and 90 MB. Raises `SonioxValidationError` if pocketsphinx is not
    installed.
    """
    _pool.give_back(_pool.borrow())


class PocketsphinxRecognizer:
    """A `Recognizer` on pocketsphinx and the English model in its wheel.

    The class itself is a `RecognizerFactory`. During speech, what has been understood so far is
    sent as non-final tokens, one per word, at most every 120 ms of audio and only if it changed. At
    a pause they become final, followed by `<end>` if the configuration enables endpoint detection.
    The pause has to last a quarter of `max_endpoint_delay_ms`, but at least 300 ms; after 15 s of
    speech, 300 ms are enough, and after 20 s no pause is needed. During silence, a message without
    tokens reports the progress for every second of audio. All these times are measured in the audio
    received, not by a clock.

    Refused: translation, speaker diarization, and strict language hints without English.
    Ignored: other language hints, context and the finer settings of endpoint detection. Containers
    other than WAV are recognized when their audio ends.

    pocketsphinx holds the interpreter's lock while it works: a few milliseconds at a time, but
    0.1 s and more to load the model and to settle an utterance. If other threads must not wait, use
    `OwnProcess(PocketsphinxRecognizer)` instead.
    """

    def __init__(self, config: RealtimeSTTConfig) -> None:
        """Prepare for one stream; load the model unless an idle one is available.

        Raises `SonioxValidationError` if the configuration asks for what cannot be done or decoded
        offline, and if the packages of the `local` extra are not installed.
        """
        refuse_unsupported(config)
        hints = config.language_hints
        if config.language_hints_strict and hints and _LANGUAGE not in hints:
            raise SonioxValidationError(
                f"Invalid language hint. (this recognizer knows {_LANGUAGE!r} only)"
            )
        self._audio = AudioDecoder(config)
        pocketsphinx = import_local_package("pocketsphinx")
        self._endpointer: _Endpointer = pocketsphinx.Endpointer(
            window=_WINDOW_MS / 1000, sample_rate=OUTPUT_SAMPLE_RATE
        )
        # The endpointer needs a whole window of speech to see that a pause is over, too late to
        # keep the utterance in one piece. So pauses are measured frame by frame.
        self._voice_activity: _VoiceActivity = pocketsphinx.Vad(sample_rate=OUTPUT_SAMPLE_RATE)
        self._frame_bytes = self._endpointer.frame_bytes
        self._frame_ms: int = self._frame_bytes // _BYTES_PER_MS
        self._decoder: _Decoder | None = _pool.borrow()
        self._language = _LANGUAGE if config.enable_language_identification else None
        self._marks_endpoints = bool(config.enable_endpoint_detection)
        pause_ms = (config.max_endpoint_delay_ms or _DEFAULT_ENDPOINT_DELAY_MS) // 4
        self._pause_ms = max(_WINDOW_MS, pause_ms)

        self._unread = bytearray()
        # The endpointer reports speech one window late. These frames then go to the decoder first.
        self._undecoded: deque[bytes] = deque(maxlen=_WINDOW_MS // self._frame_ms)
        self._heard_bytes = 0
        self._final_ms = 0
        self._last_message_ms = 0

        self._in_utterance = False
        self._utterance_audio = bytearray()
        self._utterance_start_ms = 0
        self._quiet_ms = 0
        self._next_look_ms = 0
        self._tail: list[Token] = []
        self._transcript_started = False
        self._words_since_marker = False

    @property
    def final_audio_proc_ms(self) -> int:
        """Audio turned into final tokens so far, in ms from the start of the stream."""
        return self._final_ms

    @property
    def total_audio_proc_ms(self) -> int:
        """Audio turned into final or non-final tokens so far, in ms from the stream's start."""
        return self._heard_bytes // _BYTES_PER_MS

    def feed(self, audio: bytes) -> list[RealtimeEvent]:
        """Recognize the next piece of audio; see `Recognizer.feed`."""
        self._unread += self._audio.decode(audio)
        return self._recognize()

    def finalize(self, trailing_silence_ms: int | None = None) -> list[RealtimeEvent]:
        """End the utterance here and make it final; if speech goes on, a new one begins.

        `trailing_silence_ms` is ignored. See `Recognizer.finalize`.
        """
        self._unread += self._audio.settle()
        messages = self._recognize()
        self._hear_incomplete_frame()
        tokens = self._final_tokens(self._end_utterance()) if self._in_utterance else []
        self._words_since_marker = False
        if self._quiet_ms >= self._undecoded_ms:
            self._undecoded.clear()
        self._settle_until(self.total_audio_proc_ms - self._undecoded_ms)
        fin = Token(text=TOKEN_TEXT_FIN, is_final=True)
        return [*messages, self._message([*tokens, fin])]

    def finish(self) -> list[RealtimeEvent]:
        """Make everything final at the end of the audio; see `Recognizer.finish`."""
        self._unread += self._audio.flush()
        messages = self._recognize()
        self._hear_incomplete_frame()
        tokens = self._final_tokens(self._end_utterance()) if self._in_utterance else None
        self._settle_until(self.total_audio_proc_ms)
        return messages if tokens is None else [*messages, self._message(tokens)]

    def close(self) -> None:
        """Return the model to the pool; safe to repeat."""
        decoder, self._decoder = self._decoder, None
        if decoder is not None:
            if self._in_utterance:
                decoder.end_utt()
            _pool.give_back(decoder)

    def _recognize(self) -> list[RealtimeEvent]:
        messages: list[RealtimeEvent] = []
        position = 0
        while position + self._frame_bytes <= len(self._unread):
            frame = bytes(self._unread[position : position + self._frame_bytes])
            position += self._frame_bytes
            message = self._hear(frame)
            if message is not None:
                messages.append(message)
        del self._unread[:position]
        return messages

    def _hear(self, frame: bytes) -> RealtimeEvent | None:
        self._heard_bytes += len(frame)
        self._endpointer.process(frame)
        is_quiet = not self._voice_activity.is_speech(frame)
        self._quiet_ms = self._quiet_ms + self._frame_ms if is_quiet else 0
        self._undecoded.append(frame)
        in_speech = bool(self._endpointer.in_speech)
        if in_speech and not self._in_utterance:
            self._start_utterance()
        if not self._in_utterance:
            return self._progress()
        self._decode(b"".join(self._undecoded))
        self._undecoded.clear()
        length_ms = self.total_audio_proc_ms - self._utterance_start_ms
        pause_ms = self._pause_ms if length_ms < _LONG_UTTERANCE_MS else _WINDOW_MS
        if not in_speech and self._quiet_ms >= pause_ms:
            return self._endpoint()
        if length_ms >= _LONGEST_UTTERANCE_MS:
            return self._cut()
        return self._partial()

    def _hear_incomplete_frame(self) -> None:
        rest = bytes(self._unread)
        self._unread.clear()
        self._heard_bytes += len(rest)
        if self._in_utterance:
            self._decode(rest)
        elif self._undecoded:
            # Added to the frame before it, because one more frame would push the oldest out.
            self._undecoded[-1] += rest

    def _start_utterance(self) -> None:
        self._open_utterance(self.total_audio_proc_ms - self._undecoded_ms)
        self._next_look_ms = self.total_audio_proc_ms + _PARTIAL_INTERVAL_MS

    def _open_utterance(self, start_ms: int) -> None:
        self._borrowed_decoder.start_utt()
        self._in_utterance = True
        self._utterance_start_ms = start_ms
        self._quiet_ms = 0
        self._settle_until(start_ms)

    def _decode(self, audio: bytes) -> None:
        self._utterance_audio += audio
        # In small steps, because no other thread runs before the decoder returns.
        step = _DECODER_FRAME_MS * _BYTES_PER_MS
        for start in range(0, len(audio), step):
            self._borrowed_decoder.process_raw(audio[start : start + step])

    def _end_utterance(self) -> list[_Word]:
        self._in_utterance = False
        self._borrowed_decoder.end_utt()
        self._utterance_audio.clear()
        self._tail = []
        return self._words()

    def _progress(self) -> RealtimeEvent | None:
        self._settle_until(self.total_audio_proc_ms - self._undecoded_ms)
        return self._message([]) if self._progress_is_due else None

    def _partial(self) -> RealtimeEvent | None:
        if self.total_audio_proc_ms < self._next_look_ms:
            return None
        self._next_look_ms = self.total_audio_proc_ms + _PARTIAL_INTERVAL_MS
        tail = self._tokens(self._words(), is_final=False)
        if tail == self._tail and not self._progress_is_due:
            return None
        self._tail = tail
        return self._message(tail)

    def _endpoint(self) -> RealtimeEvent:
        tokens = self._final_tokens(self._end_utterance())
        if self._marks_endpoints and self._words_since_marker:
            tokens.append(Token(text=TOKEN_TEXT_END, is_final=True))
            self._words_since_marker = False
        self._settle_until(self.total_audio_proc_ms)
        return self._message(tokens)

    def _cut(self) -> RealtimeEvent:
        """Make an endless utterance final, except the last word: the cut may go through it."""
        audio = bytes(self._utterance_audio)
        words = self._end_utterance()
        now_ms = self.total_audio_proc_ms
        restart_ms = now_ms
        if len(words) > 1 and now_ms - words[-1].start_ms <= _LONGEST_CARRIED_WORD_MS:
            restart_ms = words.pop().start_ms
        tokens = self._final_tokens(words)
        carried = audio[(restart_ms - self._utterance_start_ms) * _BYTES_PER_MS :]
        self._open_utterance(restart_ms)
        self._decode(carried)
        return self._message(tokens)

    def _words(self) -> list[_Word]:
        words: list[_Word] = []
        for segment in self._borrowed_decoder.seg() or ():
            if segment.word.startswith(("<", "[", "+")):
                continue
            words.append(
                _Word(
                    # "(2)" marks an alternative pronunciation of the same word.
                    re.sub(r"\(\d+\)$", "", segment.word),
                    self._utterance_start_ms + segment.start_frame * _DECODER_FRAME_MS,
                    self._utterance_start_ms + (segment.end_frame + 1) * _DECODER_FRAME_MS,
                    min(1.0, max(0.0, segment.prob)),
                )
            )
        return words

    def _final_tokens(self, words: list[_Word]) -> list[Token]:
        tokens = self._tokens(words, is_final=True)
        if tokens:
            self._transcript_started = True
            self._words_since_marker = True
        return tokens

    def _tokens(self, words: list[_Word], *, is_final: bool) -> list[Token]:
        return [
            Token(
                text=f" {word.text}" if index or self._transcript_started else word.text,
                start_ms=word.start_ms,
                end_ms=word.end_ms,
                confidence=word.confidence if is_final else _NON_FINAL_CONFIDENCE,
                is_final=is_final,
                language=self._language,
            )
            for index, word in enumerate(words)
        ]

    def _message(self, tokens: list[Token]) -> RealtimeEvent:
        self._last_message_ms = self.total_audio_proc_ms
        return RealtimeEvent(
            tokens=tokens,
            final_audio_proc_ms=self._final_ms,
            total_audio_proc_ms=self.total_audio_proc_ms,
        )

    def _settle_until(self, ms: int) -> None:
        self._final_ms = max(self._final_ms, ms)

    @property
    def _undecoded_ms(self) -> int:
        return sum(map(len, self._undecoded)) // _BYTES_PER_MS

    @property
    def _progress_is_due(self) -> bool:
        return self.total_audio_proc_ms - self._last_message_ms >= _PROGRESS_INTERVAL_MS

    @property
    def _borrowed_decoder(self) -> _Decoder:
        assert self._decoder is not None, "a closed recognizer is only closed again"
        return self._decoder
