"""A recognizer that plays a script: for tests, and for what offline recognition cannot do.

Its results depend on nothing but the script and the amount of audio, so tests of clients are exact,
and it can show speakers and translations without a model for them.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias, cast

from pydantic import ValidationError

from soniox_adapters.server.audio import AudioLayout, WavReader
from soniox_adapters.server.container import SIGNATURE_BYTES, container_of
from soniox_adapters.server.recognizer import (
    HeaderAwaitedError,
    Recognizer,
    RecognizerFactory,
    refuse_unsupported,
)
from soniox_proto import (
    TOKEN_TEXT_END,
    TOKEN_TEXT_FIN,
    RealtimeEvent,
    RealtimeSTTConfig,
    SonioxValidationError,
    Token,
)
from soniox_proto.messages import MARKERS

__all__ = [
    "ASSUMED_BYTES_PER_SECOND",
    "Script",
    "ScriptedRecognizer",
    "load_script",
    "scripted",
]

Script: TypeAlias = str | Sequence[RealtimeEvent | Mapping[str, Any]]
"""Plain text, or result messages in the order in which they are sent."""

ASSUMED_BYTES_PER_SECOND: Final = 16_000
"""Assumed for audio whose bit rate is unknown (compressed containers): 128 kbit/s."""

_DEFAULT_MS_PER_MESSAGE: Final = 200
_DEFAULT_MS_PER_WORD: Final = 300
_DEFAULT_DELAY_MS: Final = 650
"""The service shows a word about this long after it was spoken (measured in production)."""
_FINAL_WINDOW_MS: Final = 2_000
"""Between endpoints and finalizes, the service makes words final about this often."""
_FINAL_LATENESS_MS: Final = 2_350
"""Words that ended less than this ago wait for the next window. With the delay above, words become
final four seconds after they were spoken on average, as those of the service do."""


class _Cue(NamedTuple):
    due_ms: int
    message: RealtimeEvent


def scripted(
    script: Script,
    *,
    ms_per_message: int = _DEFAULT_MS_PER_MESSAGE,
    ms_per_word: int = _DEFAULT_MS_PER_WORD,
    delay_ms: int = _DEFAULT_DELAY_MS,
    assumed_bytes_per_second: int = ASSUMED_BYTES_PER_SECOND,
) -> RecognizerFactory:
    """Return a factory of recognizers that all play `script` from its beginning.

    `script` is one of these:

    - Result messages (`RealtimeEvent`, or dicts of its fields). A message with
      `total_audio_proc_ms` is due once that much audio has been received; one without it,
      `ms_per_message` of audio after the previous message. A missing `final_audio_proc_ms` or
      `total_audio_proc_ms` is filled in. `finished` is ignored and `<fin>` tokens are left out,
      because the server and `finalize` add them. An error message is sent as it is.
    - Plain text. Each word takes `ms_per_word` of audio: first half of it appears, then all of it,
      at the end of the non-final tokens. A pause of one word follows the end of a sentence or line.
      If the configuration enables endpoint detection, the utterance becomes final there, with
      `<end>`. Else words become final as those of the service do, every two seconds and about four
      seconds late. All of that comes `delay_ms` of audio late, as it does from the service; a
      finalize and the end of the audio do not wait for it.

    Time is measured in the audio received, so the pace of sending makes no difference to what is
    played. It is exact for raw formats and WAV; other containers count as
    `assumed_bytes_per_second`. What the audio contains does not matter. Plain text has no speakers
    and no translation, so its factory refuses configurations that ask for them; messages may have
    both.

    Raises `SonioxValidationError` for an invalid message, a pace below 1, and a delay below 0.
    """
    paces = {
        "ms_per_message": ms_per_message,
        "ms_per_word": ms_per_word,
        "assumed_bytes_per_second": assumed_bytes_per_second,
    }
    for name, value in paces.items():
        if value < 1:
            raise SonioxValidationError(f"{name} must be 1 or more, not {value}")
    if delay_ms < 0:
        raise SonioxValidationError(f"delay_ms must be 0 or more, not {delay_ms}")
    text = script if isinstance(script, str) else ""
    cues_of_messages = (
        []
        if isinstance(script, str)
        else _cues_of_messages(_checked_messages(script), ms_per_message)
    )

    def make_recognizer(config: RealtimeSTTConfig) -> Recognizer:
        if isinstance(script, str):
            refuse_unsupported(config)
            cues, delay = _cues_of_text(text, config, ms_per_word), delay_ms
        else:
            cues, delay = cues_of_messages, 0
        return ScriptedRecognizer(
            config, cues, delay_ms=delay, assumed_bytes_per_second=assumed_bytes_per_second
        )

    return make_recognizer


def load_script(path: str | os.PathLike[str]) -> Script:
    """Read a script from a UTF-8 file, for `scripted`.

    `.json` contains a list of messages, `.jsonl` or `.ndjson` one message per line; any other file
    is plain text. Raises `SonioxValidationError` if the file cannot be read or is not valid.
    """
    file = Path(path)
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SonioxValidationError(f"cannot read the script {file}: {error}") from error
    suffix = file.suffix.lower()
    try:
        if suffix == ".json":
            messages: object = json.loads(text)
        elif suffix in {".jsonl", ".ndjson"}:
            messages = _json_lines(text)
        else:
            return text
    except ValueError as error:
        raise SonioxValidationError(f"the script {file} is not valid JSON: {error}") from error
    except RecursionError as error:
        raise SonioxValidationError(f"the script {file} is nested too deeply") from error
    if not isinstance(messages, list):
        raise SonioxValidationError(
            f"the script {file} must be a list of result messages, not {type(messages).__name__}"
        )
    try:
        return _checked_messages(cast("list[object]", messages))
    except SonioxValidationError as error:
        raise SonioxValidationError(f"the script {file}: {error}") from error


class ScriptedRecognizer:
    """A `Recognizer` that plays each message once enough audio for it has been received.

    `finalize` must not change the transcript. So it takes the final form of the non-final tokens
    from later in the script, which then skips them when their own time comes. Only if the script
    never makes them final do they become final as they are.
    """

    def __init__(
        self,
        config: RealtimeSTTConfig,
        cues: Sequence[tuple[int, RealtimeEvent]],
        *,
        delay_ms: int = 0,
        assumed_bytes_per_second: int = ASSUMED_BYTES_PER_SECOND,
    ) -> None:
        """Play `cues`: messages in order, each with the ms of received audio after which it is due.

        With `delay_ms`, each is sent only after so much more audio. `scripted` makes them from a
        `Script`. Raises `SonioxValidationError` for an impossible sample rate or number of
        channels.
        """
        self._cues = cues
        self._delay_ms = delay_ms
        self._next_cue = 0
        self._bytes_received = 0
        self._wav: WavReader | None = None
        # With `auto`, the audio so far, until there is enough of it to detect the container.
        self._start: bytes | None = b"" if config.audio_format == "auto" else None
        layout = AudioLayout.of_config(config)
        if layout is not None:
            self._bytes_per_second = layout.bytes_per_second
        else:
            self._bytes_per_second = assumed_bytes_per_second
            if config.audio_format == "wav":
                self._wav = WavReader()
        self._tail: list[Token] = []
        # Tokens that `finalize` has made final ahead of the script, which has to skip them.
        self._settled_early = 0
        self._final_ms = 0
        self._total_ms = 0

    @property
    def final_audio_proc_ms(self) -> int:
        """Audio turned into final tokens so far, in ms from the start of the stream."""
        return self._final_ms

    @property
    def total_audio_proc_ms(self) -> int:
        """Audio turned into final or non-final tokens so far, in ms from the stream's start."""
        return max(self._total_ms, self._received_ms)

    def feed(self, audio: bytes) -> list[RealtimeEvent]:
        """Count the audio, and return the messages that are due by now; see `Recognizer.feed`.

        Raises `AudioDecodeError` if the format is `wav` but the audio is not a WAV file, or if it
        is `auto` but the audio is not in a container.
        """
        self._count(audio)
        return self._played_until(self._received_ms - self._delay_ms)

    def finalize(self, trailing_silence_ms: int | None = None) -> list[RealtimeEvent]:
        """Make the non-final tokens final, and answer with `<fin>`; see `Recognizer.finalize`.

        `trailing_silence_ms` is ignored.
        """
        heard = self._played_until(self._received_ms)
        finals = [token for message in heard for token in message.tokens if token.is_final]
        settled = self._upcoming_finals(len(self._tail)) or _as_final(self._tail)
        self._settled_early += len(settled)
        self._tail = []
        fin = Token(text=TOKEN_TEXT_FIN, is_final=True)
        return [self._everything_settled([*finals, *settled, fin])]

    def finish(self) -> list[RealtimeEvent]:
        """Return the rest of the script, all of it final; see `Recognizer.finish`."""
        rest = self._cues[self._next_cue :]
        self._next_cue = len(self._cues)
        messages = [self._played(message, due_ms) for due_ms, message in rest]
        if self._tail:
            messages.append(self._everything_settled(_as_final(self._tail)))
            self._tail = []
        self._final_ms = self._total_ms = self.total_audio_proc_ms
        return messages

    def close(self) -> None:
        """Do nothing: there is nothing to release."""

    @property
    def _received_ms(self) -> int:
        return self._bytes_received * 1000 // self._bytes_per_second

    def _count(self, audio: bytes) -> None:
        if self._start is not None:
            self._start += audio
            if len(self._start) < SIGNATURE_BYTES:
                return
            audio, self._start = self._start, None
            container = container_of(audio)
            if container is None:
                raise HeaderAwaitedError(audio[:SIGNATURE_BYTES])
            if container == "wav":
                self._wav = WavReader()
        if self._wav is None:
            self._bytes_received += len(audio)
            return
        self._bytes_received += len(self._wav.feed(audio))
        if self._wav.layout is not None:
            self._bytes_per_second = self._wav.layout.bytes_per_second

    def _played_until(self, audio_ms: int) -> list[RealtimeEvent]:
        """Return the messages that are due once this much audio has been recognized."""
        messages: list[RealtimeEvent] = []
        while self._next_cue < len(self._cues):
            due_ms, message = self._cues[self._next_cue]
            if due_ms > audio_ms:
                break
            self._next_cue += 1
            messages.append(self._played(message, due_ms))
        return messages

    def _played(self, message: RealtimeEvent, due_ms: int) -> RealtimeEvent:
        """Return a message of the script as it is sent, without tokens that became final early."""
        if message.error_code is not None:
            return message
        tokens: list[Token] = []
        for token in message.tokens:
            if token.text == TOKEN_TEXT_FIN:
                continue
            if token.text == TOKEN_TEXT_END:
                self._settled_early = 0
            elif token.is_final and self._settled_early:
                self._settled_early -= 1
                continue
            tokens.append(token)
        finals = [token for token in tokens if token.is_final]
        self._tail = [token for token in tokens if not token.is_final][self._settled_early :]
        ends_ms = [token.end_ms for token in finals if token.end_ms is not None]
        self._total_ms = max(self._total_ms, message.total_audio_proc_ms or due_ms)
        final_ms = message.final_audio_proc_ms
        if final_ms is None:
            final_ms = max(ends_ms, default=0)
        self._final_ms = min(self._total_ms, max(self._final_ms, final_ms))
        return message.model_copy(
            update={
                "tokens": [*finals, *self._tail],
                "final_audio_proc_ms": self._final_ms,
                "total_audio_proc_ms": self._total_ms,
                "finished": False,
            }
        )

    def _upcoming_finals(self, count: int) -> list[Token]:
        """Return the next final tokens of this utterance not sent yet, `count` at most."""
        finals: list[Token] = []
        for _, message in self._cues[self._next_cue :]:
            for token in message.tokens:
                if token.text == TOKEN_TEXT_END:
                    return finals[self._settled_early :][:count]
                if token.is_final and token.text not in MARKERS:
                    finals.append(token)
            if len(finals) >= self._settled_early + count:
                break
        return finals[self._settled_early :][:count]

    def _everything_settled(self, tokens: list[Token]) -> RealtimeEvent:
        self._final_ms = self._total_ms = self.total_audio_proc_ms
        return RealtimeEvent(
            tokens=tokens,
            final_audio_proc_ms=self._final_ms,
            total_audio_proc_ms=self._total_ms,
        )


def _json_lines(text: str) -> list[Any]:
    values: list[Any] = []
    # Not splitlines, which also splits at characters that may occur inside JSON strings.
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                values.append(json.loads(line))
            except ValueError as error:
                raise ValueError(f"line {number}: {error}") from error
    return values


def _as_final(tokens: list[Token]) -> list[Token]:
    return [token.model_copy(update={"is_final": True}) for token in tokens]


def _checked_messages(messages: Sequence[object]) -> list[RealtimeEvent]:
    return [_checked_message(*numbered) for numbered in enumerate(messages, start=1)]


def _checked_message(number: int, message: object) -> RealtimeEvent:
    try:
        return RealtimeEvent.model_validate(message)
    except ValidationError as error:
        problems = "; ".join(
            ": ".join(filter(None, (".".join(map(str, item["loc"])), item["msg"])))
            for item in error.errors(include_url=False)
        )
        raise SonioxValidationError(
            f"message {number} of the script is not a result message: {problems}"
        ) from error


def _cues_of_messages(messages: list[RealtimeEvent], ms_per_message: int) -> list[_Cue]:
    cues: list[_Cue] = []
    due_ms = 0
    for message in messages:
        if message.total_audio_proc_ms is None:
            due_ms += ms_per_message
        else:
            due_ms = max(due_ms, message.total_audio_proc_ms)
        cues.append(_Cue(due_ms, message))
    return cues


def _cues_of_text(text: str, config: RealtimeSTTConfig, ms_per_word: int) -> list[_Cue]:
    language = None
    if config.enable_language_identification:
        language = (config.language_hints or ["en"])[0]
    speech = _Speech()
    start_ms = 0
    for utterance in re.split(r"\n+|(?<=[.!?])\s+", text):
        words = utterance.split()
        if not words:
            continue
        for word in words:
            speech.say(
                Token(
                    text=f" {word}" if start_ms else word,
                    start_ms=start_ms,
                    end_ms=start_ms + ms_per_word,
                    confidence=0.95,
                    is_final=True,
                    language=language,
                )
            )
            start_ms += ms_per_word
        # The pause of one word behind it.
        start_ms += ms_per_word
        if config.enable_endpoint_detection:
            speech.end_utterance(start_ms)
    return speech.ended(start_ms)


class _Speech:
    """Makes the messages of words: shown as they are spoken, and final in windows, as the service
    does it, or at an endpoint.
    """

    def __init__(self) -> None:
        self._cues: list[_Cue] = []
        # Words that have been said but are not final, in their final form.
        self._pending: list[Token] = []
        self._window_ends_ms = _FINAL_WINDOW_MS

    def say(self, word: Token) -> None:
        """Show half of a word, then all of it, behind what is not final."""
        start_ms, end_ms = cast("int", word.start_ms), cast("int", word.end_ms)
        half_ms = (start_ms + end_ms) // 2
        half_text = word.text[: -(-len(word.text) // 2)]
        self._show(half_ms, word.model_copy(update={"text": half_text, "end_ms": half_ms}))
        self._pending.append(word)
        self._show(end_ms)

    def end_utterance(self, due_ms: int) -> None:
        """Make all words final, with an endpoint, if there are any."""
        if self._pending:
            end = Token(text=TOKEN_TEXT_END, is_final=True)
            self._cues.append(_Cue(due_ms, RealtimeEvent(tokens=[*self._pending, end])))
            self._pending.clear()

    def ended(self, ended_ms: int) -> list[_Cue]:
        """Return all messages; the last ones come during the silence after the last word."""
        while self._pending:
            due_ms = max(self._window_ends_ms, ended_ms)
            finals = self._became_final(due_ms)
            if finals:
                self._add(due_ms, finals)
        return self._cues

    def _show(self, due_ms: int, *unfinished: Token) -> None:
        self._add(due_ms, self._became_final(due_ms), *unfinished)

    def _became_final(self, due_ms: int) -> list[Token]:
        """Return the words that the window makes final which ends here, if one does."""
        finals: list[Token] = []
        if due_ms >= self._window_ends_ms:
            self._window_ends_ms = due_ms - due_ms % _FINAL_WINDOW_MS + _FINAL_WINDOW_MS
            while self._pending and (self._pending[0].end_ms or 0) <= due_ms - _FINAL_LATENESS_MS:
                finals.append(self._pending.pop(0))
        return finals

    def _add(self, due_ms: int, finals: list[Token], *unfinished: Token) -> None:
        tail = _as_tail([*self._pending, *unfinished])
        self._cues.append(_Cue(due_ms, RealtimeEvent(tokens=[*finals, *tail])))


def _as_tail(tokens: list[Token]) -> list[Token]:
    return [token.model_copy(update={"is_final": False, "confidence": 0.6}) for token in tokens]
