"""Subtitles from a transcript: cues laid out for reading, as SRT or WebVTT."""

from soniox_proto.subtitles.cue import Cue
from soniox_proto.subtitles.subtitles import Subtitles

__all__ = ["Cue", "Subtitles"]
