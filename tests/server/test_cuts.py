"""Real recognition over a connection that is cut; `benchmarks.cuts` has more places for it."""

from __future__ import annotations

import pytest

from benchmarks import cuts
from soniox_adapters.server import pocketsphinx_installed


@pytest.mark.skipif(not pocketsphinx_installed(), reason="needs the extra local")
def test_the_words_are_those_without_the_cut(capsys: pytest.CaptureFixture[str]) -> None:
    assert cuts.main(["--cuts", "1", "--sample", "meeting.wav"]) == 0
    table = capsys.readouterr().out
    assert table.count("| meeting.wav | ") == table.count(" | 0 ms | the same |") == 1


def test_places_are_evenly_apart_within_the_recording() -> None:
    assert cuts.places("meeting.wav", 3) == [2502, 5005, 7507]


@pytest.mark.parametrize(
    ("text", "connections", "lost_ms", "good"),
    [
        ("one two", 2, 0, True),
        ("one too", 2, 0, False),
        ("one two", 1, 0, False),
        ("one two", 2, 20, False),
    ],
)
def test_what_counts_as_good(text: str, connections: int, lost_ms: int, good: bool) -> None:
    cut = cuts.Cut("a.wav", 500, text, "one two", connections, 400, lost_ms)
    assert cut.is_good is good
    assert ("the same" in cuts.row(cut)) is (text == "one two")
