"""The messages of a stream, gathered into what was said, utterance by utterance.

What makes this more than joining texts is the order in which the service sends things:

- Provisional tokens are replaced by every message. Only final ones are kept, and only they open
  an utterance or a segment, because the labels of provisional ones come and go.
- Translation comes clause by clause. The originals of a clause become final first, and their
  translations follow in a later message (Soniox docs, "Real-time translation"), usually just after
  the `<end>` of the utterance that they belong to. So an utterance whose audio is over may still be
  owed its translation, while the next one is already under way.
- The markers `<end>` and `<fin>` are not text, and `<fin>` usually ends no utterance: a finalize
  may come in the middle of a sentence.

Each message costs in proportion to its tokens, however long the transcript has become. Reading a
property costs in proportion to what it returns.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from typing import Final

from soniox_proto.messages import MARKERS, TOKEN_TEXT_END, RealtimeEvent, Token
from soniox_proto.transcript.change import Change, text_of
from soniox_proto.transcript.draft import Draft
from soniox_proto.transcript.limits import Limits
from soniox_proto.transcript.live_text import LINE_BREAK, LiveText
from soniox_proto.transcript.update import Addition, TranscriptUpdate
from soniox_proto.transcript.utterance import (
    Segment,
    Utterance,
    UtteranceEnd,
    is_translation,
    joined,
)
from soniox_proto.transcript.words import Word, highest

__all__ = ["Transcript"]

_LOOK_BACK: Final = 8
"""How many complete utterances may still get a late translation, if the labels say that it is
theirs."""

_LONGEST_WAIT_MS: Final = 10_000
"""How much audio may be transcribed after an utterance until it is complete without its
translation. Usually that comes within 0.1 s, but a recording may be sent faster than it plays."""


class Transcript:
    """Everything said so far: feed it each message of the service.

    An utterance ends at an `<end>` token, where the speaker changes, and at the limits given here.
    It is complete then, unless it still waits for its translation: at most until the next one ends,
    or 10 s of audio have been transcribed. Words are never cut by a limit.

    Args:
        pause_ms: End utterances at pauses of this many ms too. Meant for streams without endpoint
            detection, as are the next two.
        max_utterance_ms: End an utterance when it has lasted this many ms.
        max_utterance_characters: End an utterance when it has this many characters.
        split_on_speaker: Whether a change of speaker ends an utterance.
        split_on_finalize: Whether the answer to a finalize ends an utterance.
        max_tokens: How many final tokens to keep. Beyond that, the oldest utterances leave, and
            each update says which. An utterance that takes half of this ends there.
        max_ms: The same, in ms of audio from the first utterance to the last.

    Raises:
        SonioxValidationError: A limit is not a whole number of 1 or more.
    """

    def __init__(
        self,
        *,
        pause_ms: int | None = None,
        max_utterance_ms: int | None = None,
        max_utterance_characters: int | None = None,
        split_on_speaker: bool = True,
        split_on_finalize: bool = False,
        max_tokens: int | None = None,
        max_ms: int | None = None,
    ) -> None:
        self._limits = Limits(
            pause_ms=pause_ms,
            max_utterance_ms=max_utterance_ms,
            max_utterance_characters=max_utterance_characters,
            split_on_speaker=split_on_speaker,
            max_tokens=max_tokens,
            max_ms=max_ms,
        )
        self._split_on_finalize = split_on_finalize
        # What is kept: complete utterances, one that has ended but waits for its translation, and
        # the one under way.
        self._utterances: list[Utterance] = []
        self._owed: Draft | None = None
        self._open = Draft(0)
        # Complete utterances with what is needed to match a late translation.
        self._recent: deque[Draft] = deque(maxlen=_LOOK_BACK)
        self._tail: tuple[Token, ...] = ()
        self._translation_tails: dict[int, list[Token]] = {}
        self._first = 0
        self._kept_tokens = 0
        # Where complete utterances begin in the audio, and where the latest token ends.
        self._starts: deque[int] = deque()
        self._end_ms: int | None = None
        self._text = LiveText(_LOOK_BACK + 2)
        self._translation_text = LiveText(_LOOK_BACK + 2)
        self._change = Change()

    # What was said

    @property
    def utterances(self) -> Sequence[Utterance]:
        """Complete utterances, the oldest first."""
        return self._utterances

    @property
    def open_utterances(self) -> tuple[Utterance, ...]:
        """Utterances that are not complete, with the provisional tokens at their ends: one that
        waits for its translation, if there is such a one, and the one under way."""
        drafts = (draft.utterance() for draft in self._drafts())
        utterances = (replace(u, tokens=(*u.tokens, *self._tail_of(u.index))) for u in drafts)
        return tuple(utterance for utterance in utterances if utterance.tokens)

    @property
    def tokens(self) -> tuple[Token, ...]:
        """All final tokens, utterance by utterance, without markers."""
        return tuple(token for utterance in self._firm() for token in utterance.tokens)

    @property
    def segments(self) -> tuple[Segment, ...]:
        """All final tokens in runs of one speaker and language, utterance by utterance."""
        return tuple(segment for utterance in self._firm() for segment in utterance.segments)

    @property
    def words(self) -> tuple[Word, ...]:
        """All words of the final tokens, without translations. The last may still go on."""
        return tuple(word for utterance in self._firm() for word in utterance.words)

    @property
    def final_text(self) -> str:
        """What was said and will not change, one utterance on each line."""
        return _lines(utterance.text for utterance in self._firm())

    @property
    def provisional_text(self) -> str:
        """What comes after `final_text` in `text`, and may still change. If it begins a new
        utterance, it begins with a line break."""
        return self._text.tail_of(self._open.index)

    @property
    def text(self) -> str:
        """What was said, one utterance on each line, with the text that may still change."""
        return _lines(utterance.text for utterance in self._all())

    @property
    def translation_text(self) -> str:
        """The translations, one utterance on each line, with the text that may still change.

        What was not translated has no line.
        """
        return _lines(
            joined(
                (
                    *filter(is_translation, utterance.tokens),
                    *self._translation_tails.get(utterance.index, ()),
                )
            )
            for utterance in self._firm()
        )

    # What happens

    def feed(self, event: RealtimeEvent, now: float | None = None) -> TranscriptUpdate:
        """Take the next message of the service, and return what it changed.

        `now`, in seconds on any clock, is only kept, as `Utterance.settled_at`.
        """
        tail: list[Token] = []
        for token in event.tokens:
            text = token.text
            if text in MARKERS:
                self._take_marker(text)
            elif not token.is_final:
                tail.append(token)
            elif is_translation(token):
                self._add_translation(token, now)
            else:
                self._add_original(token, now)
        self._watch_owed(event.total_audio_proc_ms)
        # An error message has no tokens, but that does not mean that the tail has gone.
        if event.error_code is None:
            self._replace_tail(tail)
        if event.finished:
            self._end_stream()
        return self._update(event.total_audio_proc_ms)

    def finish(self) -> TranscriptUpdate:
        """End the utterance under way, because nothing more will come; return what that changes.

        Tokens that are still provisional are kept: nothing better will come. The finished response
        of the service does this by itself, so this is for streams that end without it. Doing it
        again changes nothing.
        """
        self._end_stream()
        return self._update(None)

    def _take_marker(self, text: str) -> None:
        if text == TOKEN_TEXT_END:
            self._end_utterance(UtteranceEnd.ENDPOINT)
        elif self._split_on_finalize:
            self._end_utterance(UtteranceEnd.FINALIZE)

    def _add_original(self, token: Token, now: float | None) -> None:
        # What follows a translation in the stream belongs to the next clause, so the utterance
        # before has got all that it was owed.
        if self._owed is not None and not self._owed.awaits_translation:
            self._complete_owed()
        end = self._limits.end_before(self._open, token)
        if end is not None:
            self._end_utterance(end)
        self._add(self._open, token, now)

    def _add_translation(self, token: Token, now: float | None) -> None:
        owner = self._owner(token)
        if owner is self._open and self._limits.are_reached_by(owner):
            self._end_utterance(UtteranceEnd.LENGTH)
            owner = self._open
        self._add(owner, token, now)

    def _add(self, draft: Draft, token: Token, now: float | None) -> None:
        if draft is self._open and not draft.tokens and not token.text.strip():
            # White space before an utterance is not text.
            return
        if draft is self._open or draft is self._owed:
            draft.add(token, now)
        else:
            self._change.late.setdefault(draft.index, []).append(token)
        self._kept_tokens += 1
        if not is_translation(token):
            self._end_ms = highest(self._end_ms, token.end_ms)
        self._change.add(draft.index, token)

    def _owner(self, translation: Token) -> Draft:
        """Return the utterance that a translation belongs to.

        It is the one that waits for it, else the one under way, else the latest complete one, as
        far as the labels of speaker and language allow.
        """
        if self._owed is not None and self._owed.may_be_original_of(translation):
            return self._owed
        if self._open.is_spoken and self._open.may_be_original_of(translation):
            return self._open
        late = (draft for draft in reversed(self._recent) if draft.may_be_original_of(translation))
        return next(late, self._open)

    def _end_utterance(self, end: UtteranceEnd) -> None:
        # Without any text there is no utterance, for example after a second `<end>`.
        if not self._open.tokens:
            return
        # Only the latest utterance waits for its translation; the one before has waited enough.
        self._complete_owed()
        ended, self._open = self._open, Draft(self._open.index + 1)
        ended.ended_by = end
        self._owed = ended
        if not ended.awaits_translation:
            self._complete_owed()

    def _watch_owed(self, audio_ms: int | None) -> None:
        """Complete the utterance that has got its translation, or has waited too long for it."""
        owed = self._owed
        if owed is None:
            return
        if not owed.awaits_translation:
            self._complete_owed()
        elif owed.waits_from_ms is None:
            owed.waits_from_ms = audio_ms
        elif audio_ms is not None and audio_ms - owed.waits_from_ms > _LONGEST_WAIT_MS:
            self._complete_owed()

    def _complete_owed(self) -> None:
        owed, self._owed = self._owed, None
        if owed is not None:
            self._utterances.append(owed.utterance())
            self._starts.append(owed.start_ms or 0)
            owed.tokens = []
            self._recent.append(owed)
            self._change.completed.append(owed.index)

    def _replace_tail(self, tail: Iterable[Token]) -> None:
        originals: list[Token] = []
        self._translation_tails = {}
        for token in tail:
            if is_translation(token):
                owner = self._owner(token).index
                self._translation_tails.setdefault(owner, []).append(token)
            else:
                originals.append(token)
        self._tail = tuple(originals)

    def _end_stream(self) -> None:
        translations, self._translation_tails = self._translation_tails, {}
        tail, self._tail = self._tail, ()
        drafts = {draft.index: draft for draft in (*self._recent, *self._drafts())}
        for index, tokens in translations.items():
            for token in tokens:
                # Whatever an error message brought may have left the utterance far behind.
                self._add(drafts.get(index, self._open), token, None)
        for token in tail:
            self._add(self._open, token, None)
        self._end_utterance(UtteranceEnd.STREAM)
        self._complete_owed()

    # What that changes

    def _update(self, audio_ms: int | None) -> TranscriptUpdate:
        change = self._change
        amended = self._amend(change.late)
        tails = {index: text_of(tokens) for index, tokens in self._translation_tails.items()}
        edits = self._text.change(
            change.texts(translations=False), {self._open.index: text_of(self._tail)}
        )
        translation_edits = self._translation_text.change(change.texts(translations=True), tails)
        removed: list[Utterance] = []
        while self._is_over_bounds() and (self._utterances or self._owed is not None):
            if not self._utterances:
                self._complete_owed()
            utterance = self._remove_first()
            removed.append(utterance)
            edits += self._text.remove_first(utterance.index, len(utterance.text))
            translation_edits += self._translation_text.remove_first(
                utterance.index, len(utterance.translation or "")
            )
        self._change = Change()
        known = {utterance.index: utterance for utterance in removed}
        return TranscriptUpdate(
            edits=tuple(edits),
            translation_edits=tuple(translation_edits),
            additions=tuple(Addition(index, tuple(tokens)) for index, tokens in change.additions),
            provisional_tokens=(*self._tail, *chain(*self._translation_tails.values())),
            completed=tuple(
                known.get(index) or self._utterances[index - self._first]
                for index in change.completed
            ),
            amended=tuple(
                utterance for utterance in amended if utterance.index not in change.completed
            ),
            removed=tuple(removed),
            audio_ms=audio_ms,
        )

    def _amend(self, late: dict[int, list[Token]]) -> list[Utterance]:
        """Add late translations to complete utterances, and return those."""
        amended: list[Utterance] = []
        for index, tokens in late.items():
            before = self._utterances[index - self._first]
            utterance = replace(before, tokens=(*before.tokens, *tokens))
            self._utterances[index - self._first] = utterance
            amended.append(utterance)
        return amended

    def _is_over_bounds(self) -> bool:
        oldest_ms = self._starts[0] if self._starts else next(self._drafts()).start_ms
        return self._limits.are_exceeded_by(self._kept_tokens, oldest_ms, self._end_ms)

    def _remove_first(self) -> Utterance:
        utterance = self._utterances.pop(0)
        self._starts.popleft()
        self._first += 1
        self._kept_tokens -= len(utterance.tokens)
        if self._recent[0].index == utterance.index:
            self._recent.popleft()
        self._translation_tails.pop(utterance.index, None)
        return utterance

    def _drafts(self) -> Iterator[Draft]:
        if self._owed is not None:
            yield self._owed
        yield self._open

    def _tail_of(self, index: int) -> Iterator[Token]:
        if index == self._open.index:
            yield from self._tail
        yield from self._translation_tails.get(index, ())

    def _firm(self) -> Iterator[Utterance]:
        """Yield all utterances, without provisional tokens."""
        yield from self._utterances
        for draft in self._drafts():
            yield draft.utterance()

    def _all(self) -> Iterator[Utterance]:
        """Yield all utterances, with provisional tokens."""
        yield from self._utterances
        yield from self.open_utterances


def _lines(texts: Iterable[str]) -> str:
    return LINE_BREAK.join(filter(None, texts))
