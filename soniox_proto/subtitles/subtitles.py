"""Subtitles, written while the transcript grows or at its end.

Originals become cues as soon as their words are final, since each word has its time. Translations
have none. They share the time of the clause that they translate, so they become cues when the
utterance is complete.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Final, Literal, TypeAlias

from soniox_proto.errors import SonioxValidationError
from soniox_proto.subtitles.cue import FORMATS, Cue
from soniox_proto.subtitles.layout import Layout, Phrases, printable, spread, width
from soniox_proto.subtitles.timeline import Timeline
from soniox_proto.transcript import Addition, TranscriptUpdate, Utterance, Word, WordBuilder
from soniox_proto.transcript.utterance import is_translation
from soniox_proto.transcript.words import words_of

__all__ = ["Subtitles"]

SubtitleFormat: TypeAlias = Literal["srt", "vtt"]
SubtitleTrack: TypeAlias = Literal["original", "translation", "both"]

_TRACKS: Final = ("original", "translation", "both")
_SILENCE_MS: Final = 1_000
"""Silence after which words wait for no others."""


class Subtitles:
    """Makes subtitles of a transcript: feed it each update, and append what it returns to a file.

    Cues are in order and never overlap. They hold what fits, and end where a phrase does. A cue is
    returned once its text is final, and the time until which it stands is known.

    Args:
        format: `srt` or `vtt` (WebVTT).
        track: What was said (`original`), its `translation`, or `both`, one below the other. What
            was not translated is shown as it was said, and a translation that comes late by itself.
        speakers: Whether to name the speakers, or their names by the labels of the service.
        max_line_characters: Characters of a line. Characters of double width count twice.
        max_lines: Lines of a cue, of both languages together.
        max_characters_per_second: How fast people can read. A cue stands longer for it, as far as
            there is room.
        min_duration_ms: For how long a cue stands at least, as far as there is room.
        max_duration_ms: For how long a cue stands at most.
        gap_ms: Time between cues.

    Raises:
        SonioxValidationError: An argument is out of its range.
    """

    def __init__(
        self,
        format: SubtitleFormat = "srt",
        *,
        track: SubtitleTrack = "original",
        speakers: bool | Mapping[str, str] = False,
        max_line_characters: int = 42,
        max_lines: int = 2,
        max_characters_per_second: float = 20.0,
        min_duration_ms: int = 1_000,
        max_duration_ms: int = 7_000,
        gap_ms: int = 80,
    ) -> None:
        if format not in FORMATS:
            raise SonioxValidationError(f"format must be srt or vtt, not {format!r}")
        if track not in _TRACKS:
            raise SonioxValidationError(f"track must be one of {', '.join(_TRACKS)}; not {track!r}")
        _check("max_line_characters", max_line_characters, 2)
        _check("max_lines", max_lines, 2 if track == "both" else 1)
        _check("min_duration_ms", min_duration_ms, 1)
        _check("max_duration_ms", max_duration_ms, min_duration_ms)
        _check("gap_ms", gap_ms, 0)
        if not max_characters_per_second > 0:
            raise SonioxValidationError(
                f"max_characters_per_second must be above 0, not {max_characters_per_second!r}"
            )
        self._format = FORMATS[format]
        self._track = track
        self._names = speakers
        self._layout = Layout(max_line_characters, max_lines, max_duration_ms)
        self._timeline = Timeline(
            min_duration_ms, max_duration_ms, gap_ms, max_characters_per_second
        )
        self._words = WordBuilder()
        self._phrases = Phrases(self._layout)
        # The utterance whose words are being gathered, and who spoke in the latest cue.
        self._utterance_index = 0
        self._speaker: str | None = None
        self._count = 0
        self._begun = False

    def feed(self, update: TranscriptUpdate) -> str:
        """Take the next update of the transcript; return the text to append to the file."""
        cues = self.feed_cues(update)
        return self._written(cues) if cues else ""

    def finish(self) -> str:
        """Return the rest of the text, because the transcript has ended."""
        return self._written(self.finish_cues())

    def document(self, utterances: Iterable[Utterance]) -> str:
        """Return the whole text for utterances that are complete. Only for new subtitles."""
        parts = [
            self.feed(
                TranscriptUpdate(
                    additions=(Addition(utterance.index, utterance.tokens),),
                    completed=(utterance,),
                )
            )
            for utterance in utterances
        ]
        return "".join((*parts, self.finish()))

    def feed_cues(self, update: TranscriptUpdate) -> tuple[Cue, ...]:
        """Do as `feed` does, and return the cues themselves."""
        if self._track != "original":
            return tuple(self._translated(update))
        return (*self._originals(update), *self._silence(update))

    def finish_cues(self) -> tuple[Cue, ...]:
        """Do as `finish` does, and return the cues themselves."""
        return (*self._end_utterance(), *self._timeline.finish())

    def _written(self, cues: Iterable[Cue]) -> str:
        parts: list[str] = []
        if not self._begun:
            self._begun = True
            parts.append(self._format.header)
        for cue in cues:
            self._count += 1
            parts.append(self._format.cue(self._count, cue))
        return "".join(parts)

    def _originals(self, update: TranscriptUpdate) -> Iterator[Cue]:
        for addition in update.additions:
            originals = [token for token in addition.tokens if not is_translation(token)]
            if originals and addition.utterance_index != self._utterance_index:
                yield from self._end_utterance()
                self._utterance_index = addition.utterance_index
            for token in originals:
                for word in self._words.add(token):
                    yield from self._add_word(word)
        if any(utterance.index >= self._utterance_index for utterance in update.completed):
            yield from self._end_utterance()

    def _end_utterance(self) -> Iterator[Cue]:
        for word in self._words.finish():
            yield from self._add_word(word)
        yield from self._end_phrase()

    def _add_word(self, word: Word) -> Iterator[Cue]:
        speaker = self._phrases.speaker
        if word.speaker is not None and speaker not in {None, word.speaker}:
            yield from self._end_phrase()
        if not self._phrases:
            self._phrases.begin(self._label(word.speaker))
        for words in self._phrases.add(word):
            yield from self._place(words)

    def _end_phrase(self) -> Iterator[Cue]:
        for words in self._phrases.finish():
            yield from self._place(words)

    def _silence(self, update: TranscriptUpdate) -> Iterator[Cue]:
        """Yield what waits for words that will not come, because nothing was said for a while."""
        until_ms = update.audio_ms
        for token in update.provisional_tokens:
            if not is_translation(token):
                # Nothing final begins before what is provisional.
                until_ms = token.start_ms
                break
        if until_ms is None:
            return
        unfinished = self._words.unfinished
        end_ms = self._phrases.end_ms if unfinished is None else unfinished.end_ms
        if end_ms is not None and until_ms - end_ms >= _SILENCE_MS:
            yield from self._end_utterance()
            unfinished = None
        if unfinished is None and not self._phrases:
            yield from self._timeline.pass_silence(until_ms)

    # Translations

    def _translated(self, update: TranscriptUpdate) -> Iterator[Cue]:
        amended = {utterance.index: utterance for utterance in update.amended}
        for addition in update.additions:
            utterance = amended.get(addition.utterance_index)
            if utterance is not None:
                late = words_of(filter(is_translation, addition.tokens))
                yield from self._divided(self._timed(utterance, late))
        for utterance in update.completed:
            for clause in utterance.clauses:
                translation = words_of(filter(is_translation, clause.tokens))
                if not translation:
                    yield from self._divided(clause.words)
                elif self._track == "both" and clause.words:
                    yield from self._side_by_side(clause, translation)
                else:
                    yield from self._divided(self._timed(clause, translation))

    def _divided(self, words: Iterable[Word]) -> Iterator[Cue]:
        for word in words:
            yield from self._add_word(word)
        yield from self._end_phrase()

    def _timed(self, clause: Utterance, words: Iterable[Word]) -> list[Word]:
        start = self._timeline.free_ms if clause.start_ms is None else clause.start_ms
        end = start if clause.end_ms is None else clause.end_ms
        return spread(tuple(words), start, max(start, end))

    def _side_by_side(self, clause: Utterance, translation: Iterable[Word]) -> Iterator[Cue]:
        """Yield cues with what was said above its translation: as few as hold both."""
        layout = self._layout
        upper = Layout(layout.columns, layout.lines // 2, layout.max_duration_ms)
        lower = Layout(layout.columns, layout.lines - upper.lines, layout.max_duration_ms)
        said = [piece for word in clause.words for piece in layout.pieces(word)]
        timed = self._timed(clause, translation)
        meant = [piece for word in timed for piece in layout.pieces(word)]
        parts = max(len(said), len(meant))
        if not parts:
            return
        fewest = sum(width(piece.text) for piece in meant) // (lower.columns * lower.lines)
        for count in range(max(1, fewest), parts + 1):
            if all(map(upper.fits, _shares(said, count))) and all(
                map(lower.fits, _shares(meant, count))
            ):
                parts = count
                break
        for above, below in zip(_shares(said, parts), _shares(meant, parts), strict=True):
            label = self._label(clause.speaker)
            lines = (*upper.wrap(_labelled(label, above, upper)), *lower.wrap(below))
            yield from self._place(above or below, lines, clause.speaker)

    # What both have in common

    def _label(self, speaker: str | None) -> str:
        """Return what is written in front of a cue to say who speaks, ``""`` if nothing is."""
        if not self._format.names_in_text or speaker == self._speaker:
            return ""
        name = self._name(speaker)
        # A name that does not fit into a line is left out.
        return "" if name is None or width(name) >= self._layout.columns else f"{name}:"

    def _name(self, speaker: str | None) -> str | None:
        if speaker is None or not self._names:
            return None
        name = f"Speaker {speaker}"
        if not isinstance(self._names, bool):
            name = self._names.get(speaker, name)
        return printable(" ".join(name.split())) or None

    def _place(
        self, words: list[Word], lines: tuple[str, ...] = (), speaker: str | None = None
    ) -> Iterator[Cue]:
        """Yield the cues that are settled when the next one is placed."""
        if speaker is None:
            speaker = next((word.speaker for word in words if word.speaker is not None), None)
        if not lines:
            lines = self._layout.wrap(_labelled(self._label(speaker), words, self._layout))
        self._speaker = speaker
        # Words without times are shown after those before them.
        start = min(_known(word.start_ms for word in words), default=self._timeline.free_ms)
        end = max(_known(word.end_ms for word in words), default=start)
        yield from self._timeline.add(Cue(start, end, lines, self._name(speaker)))


def _labelled(label: str, words: list[Word], layout: Layout) -> list[Word]:
    """Return words with a label in front, if there is room for it."""
    if not label or not words:
        return words
    first, *rest = words
    labelled = [Word(label), replace(first, space_before=True), *rest]
    return labelled if layout.fits(labelled) else words


def _shares(words: list[Word], count: int) -> list[list[Word]]:
    """Return words in so many shares of about the same number."""
    ends = [len(words) * number // count for number in range(count + 1)]
    return [words[a:b] for a, b in pairwise(ends)]


def _known(times: Iterable[int | None]) -> Iterator[int]:
    return (time for time in times if time is not None)


def _check(name: str, value: int, lowest: int) -> None:
    if type(value) is not int or value < lowest:
        raise SonioxValidationError(
            f"{name} must be a whole number of {lowest} or more; not {value!r}"
        )
