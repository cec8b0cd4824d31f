"""Tokens gathered into what was said: text, words, segments and utterances, with every change."""

from soniox_proto.transcript.transcript import Transcript
from soniox_proto.transcript.update import Addition, TextEdit, TranscriptUpdate
from soniox_proto.transcript.utterance import Segment, Utterance, UtteranceEnd
from soniox_proto.transcript.words import Word, WordBuilder

__all__ = [
    "Addition",
    "Segment",
    "TextEdit",
    "Transcript",
    "TranscriptUpdate",
    "Utterance",
    "UtteranceEnd",
    "Word",
    "WordBuilder",
]
