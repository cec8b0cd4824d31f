"""What the screen shows."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from soniox_adapters.cli.captions import Captions, output_console
from soniox_adapters.cli.recording import Recording, recording_of_bytes
from soniox_proto import RealtimeEvent, Token, Transcript, TranscriptUpdate, Utterance

from .servers import MEETING_LINES


def terminal(*, width: int = 80, height: int = 24) -> Console:
    return Console(
        file=io.StringIO(),
        force_terminal=True,
        width=width,
        height=height,
        color_system="standard",
        highlight=False,
        markup=False,
        _environ={"TERM": "xterm"},
    )


def written(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


def audio(size: int = 100, *, bytes_per_second: int | None = None) -> Recording:
    recording = recording_of_bytes(bytes(size), "x")
    if bytes_per_second is not None:
        recording.duration = size / bytes_per_second
    return recording


def said(*words: tuple[str, bool], start_ms: int = 4500) -> RealtimeEvent:
    tokens = [
        Token(text=text, is_final=final, start_ms=start_ms, end_ms=start_ms + 1000)
        for text, final in words
    ]
    return RealtimeEvent(tokens=tokens)


def spoken(text: str, *, start_ms: int = 4500, end_ms: int = 8600) -> Utterance:
    return Utterance((Token(text=text, start_ms=start_ms, end_ms=end_ms),))


def completing(*utterances: Utterance) -> TranscriptUpdate:
    return TranscriptUpdate(completed=utterances)


def shown(transcript: Transcript, recording: Recording, console: Console, *, times: bool) -> str:
    console.print(Captions(console, transcript, recording, times=times))
    return written(console)


def test_final_text_is_firm_and_the_rest_dim() -> None:
    transcript = Transcript()
    transcript.feed(said(("good", True), (" morning", True), (" ever", False)), 1)
    text = shown(transcript, audio(), terminal(), times=True)
    assert "4.5-5.5" in text
    assert "good morning\x1b[2m ever\x1b[0m" in text


def test_the_caption_without_times() -> None:
    transcript = Transcript()
    transcript.feed(said(("nothing is sure", False)), 1)
    text = shown(transcript, audio(), terminal(), times=False)
    assert text.startswith("\x1b[2mnothing is sure\x1b[0m\n")


def test_a_space_at_the_end_of_final_text_is_kept() -> None:
    transcript = Transcript()
    transcript.feed(said(("good ", True), ("mor", False)), 1)
    assert "good\x1b[2m mor\x1b[0m" in shown(transcript, audio(), terminal(), times=False)


def test_the_caption_names_the_speaker_and_has_the_translation_below() -> None:
    transcript = Transcript()
    tokens = [
        Token(text="good", speaker="1", is_final=True),
        Token(text="bue", translation_status="translation", language="es", is_final=False),
    ]
    transcript.feed(RealtimeEvent(tokens=tokens), 1)
    rows = shown(transcript, audio(), terminal(), times=False).splitlines()
    assert rows[0] == "Speaker 1: good"
    assert rows[1] == "\x1b[2m    [es] bue\x1b[0m"


def test_the_screen_tells_that_it_is_finishing() -> None:
    console = terminal()
    captions = Captions(console, Transcript(), audio())
    captions.announce_stop()
    console.print(captions)
    assert plain(written(console)) == "\nfinishing; Ctrl-C again stops at once\n"


def test_no_caption_while_nobody_speaks() -> None:
    assert plain(shown(Transcript(), audio(), terminal(), times=True)).startswith("\n━")


@pytest.mark.parametrize(("height", "lines"), [(24, 8), (10, 6), (3, 1)])
def test_of_a_long_caption_the_end_is_shown(height: int, lines: int) -> None:
    transcript = Transcript()
    words = [(f" word{number}", True) for number in range(200)]
    transcript.feed(said(*words), 1)
    console = terminal(width=40, height=height)
    rows = plain(shown(transcript, audio(), console, times=False)).splitlines()
    assert len([row for row in rows if "word" in row]) == lines
    assert any("word199" in row for row in rows)


def test_the_progress_of_a_recording() -> None:
    recording = audio(1000, bytes_per_second=100)
    assert "0.0 of 10.0 s" in shown(Transcript(), recording, terminal(), times=False)
    recording.position = 250
    assert "2.5 of 10.0 s" in shown(Transcript(), recording, terminal(), times=False)
    recording.position = 2000
    assert "10.0 of 10.0 s" in shown(Transcript(), recording, terminal(), times=False)


def test_the_progress_without_a_known_duration() -> None:
    recording = audio(1000)
    recording.position = 250
    assert "25%" in shown(Transcript(), recording, terminal(), times=False)
    recording.size = None
    assert "0.0 s" in shown(Transcript(), recording, terminal(), times=False)


def test_the_screen_is_clean_when_it_is_over() -> None:
    console = terminal()
    transcript = Transcript()
    with Captions(console, transcript, audio(), times=True) as captions:
        transcript.feed(said(("good", False)), 1)
        captions.show(completing(spoken("good morning")))
    text = written(console)
    assert "\x1b[?25l" in text
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")
    assert "good morning" in plain(text)


def test_the_longest_line_of_the_sample_fits_a_terminal() -> None:
    console = terminal(width=80)
    with Captions(console, Transcript(), audio(10, bytes_per_second=1), times=True) as captions:
        captions.show(completing(spoken(MEETING_LINES[1])))
    assert f"4.5-8.6  {MEETING_LINES[1]}" in plain(written(console))


LATER = [(200, 3_100), (9_500, 10_200), (10_400, 13_100), (59_000, 61_500)]


@pytest.mark.parametrize("on_terminal", [True, False])
def test_the_text_stays_in_one_column_when_the_times_get_longer(
    on_terminal: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    console = terminal() if on_terminal else output_console()
    captions = Captions(console, Transcript(), audio(65, bytes_per_second=1), times=True)
    captions.show(completing(*(spoken("text", start_ms=a, end_ms=b) for a, b in LATER)))
    rows = plain(written(console) if on_terminal else capsys.readouterr().out).splitlines()
    assert {row.index("text") for row in rows} == {len("1:04.9-1:05.0 ")}
    assert captions.heading.index("transcript") == len("1:04.9-1:05.0 ")


def test_without_a_known_length_the_column_moves_to_the_right_only() -> None:
    console = terminal()
    captions = Captions(console, Transcript(), audio(), times=True)
    spans = [*LATER, (None, 62_000)]
    captions.show(
        completing(*(Utterance((Token(text="text", start_ms=a, end_ms=b),)) for a, b in spans))
    )
    columns = [row.index("text") for row in plain(written(console)).splitlines()]
    assert columns == sorted(columns)


def test_longer_lines_are_wrapped_beside_their_times() -> None:
    console = terminal(width=40)
    captions = Captions(console, Transcript(), audio(), times=True)
    captions.show(completing(spoken(MEETING_LINES[1])))
    rows = plain(written(console)).splitlines()
    assert rows[0].startswith("4.5-8.6  today we will")
    assert all(row.startswith(" " * 9) for row in rows[1:])


def test_a_late_translation_is_written_below_what_came_meanwhile(
    capsys: pytest.CaptureFixture[str],
) -> None:
    original = Token(text="Hello.", translation_status="original", language="en")
    translation = Token(text="Hola.", translation_status="translation", language="es")
    captions = Captions(output_console(), Transcript(), audio())
    captions.show(completing(Utterance((original,))))
    captions.show(TranscriptUpdate(amended=(Utterance((original, translation)),)))
    assert capsys.readouterr().out == "[en] Hello.\n    [es] Hola.\n"


def test_complete_utterances_can_be_left_out() -> None:
    console = terminal()
    Captions(console, Transcript(), audio(), lines=False).show(completing(spoken("good morning")))
    assert written(console) == ""


@pytest.mark.parametrize(("times", "line"), [(True, "4.5-8.6  {}\n"), (False, "{}\n")])
def test_what_is_not_a_terminal_gets_plain_lines(
    times: bool, line: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    transcript = Transcript()
    with Captions(output_console(), transcript, audio(), times=times) as captions:
        transcript.feed(said(("good", False)), 1)
        captions.show(completing(spoken(MEETING_LINES[1])))
    assert capsys.readouterr().out == line.format(MEETING_LINES[1])


def test_an_utterance_without_times_is_its_text(capsys: pytest.CaptureFixture[str]) -> None:
    captions = Captions(output_console(), Transcript(), audio(), times=True)
    captions.show(completing(Utterance((Token(text="hi"),))))
    assert capsys.readouterr().out == "hi\n"
