"""What a terminal shows of lines that change, and what it is sent for that."""

from __future__ import annotations

import io
import re
import threading

import pyte
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from soniox_adapters.cli import live_region
from soniox_adapters.cli.live_region import LiveRegion


class Terminal:
    """A terminal, a console that writes to it, and the changing text of a region."""

    def __init__(self, width: int = 20, height: int = 8) -> None:
        self.screen = pyte.HistoryScreen(width, height, history=10_000)
        self.text = ""
        self.file = io.StringIO()
        self.console = Console(
            file=self.file,
            force_terminal=True,
            width=width,
            height=height,
            color_system="standard",
            highlight=False,
            markup=False,
            _environ={"TERM": "xterm"},
        )
        self.region = LiveRegion(self.console, self)
        self._stream = pyte.Stream(self.screen)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if self.text:
            yield Text(self.text)

    def take(self) -> str:
        """Show what was written since, and return it."""
        text = self.file.getvalue()
        self.file.seek(0)
        self.file.truncate()
        # pyte takes this mode for another one.
        self._stream.feed(text.replace("\x1b[?2026h", "").replace("\x1b[?2026l", ""))
        return text

    def show(self, text: str) -> str:
        self.text = text
        self.region.refresh()
        return self.take()

    def print_above(self, printed: str, text: str = "") -> str:
        self.text = text
        self.region.print_above(Text(printed))
        return self.take()

    @property
    def rows(self) -> list[str]:
        """All rows, those that have scrolled away too, without empty ones at the end."""
        above = [
            "".join(row[column].data for column in range(self.screen.columns))
            for row in self.screen.history.top
        ]
        rows = [row.rstrip() for row in (*above, *self.screen.display)]
        while rows and not rows[-1]:
            rows.pop()
        return rows


def plain(written: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written)


def test_only_lines_that_differ_are_written() -> None:
    terminal = Terminal()
    terminal.show("one\ntwo\nthree")
    assert terminal.rows == ["one", "two", "three"]
    assert plain(terminal.show("one\nTWO\nthree")).split() == ["TWO"]
    assert terminal.rows == ["one", "TWO", "three"]
    assert terminal.show("one\nTWO\nthree") == ""
    assert plain(terminal.show("one\nTWO\nthree\nfour")).split() == ["four"]
    assert plain(terminal.show("one\nTWO")).split() == []
    assert terminal.rows == ["one", "TWO"]
    terminal.show("")
    assert terminal.rows == []


def test_nothing_is_erased_before_it_is_written_anew() -> None:
    terminal = Terminal()
    terminal.show("hello")
    assert terminal.show("hello there") == ("\x1b[?2026h\rhello there\x1b[K\x1b[?2026l")


def test_what_is_printed_stays_above() -> None:
    terminal = Terminal()
    terminal.show("under way")
    terminal.print_above("done", "next")
    assert terminal.rows == ["done", "next"]
    terminal.print_above("done too")
    assert terminal.rows == ["done", "done too"]
    terminal.show("again")
    assert terminal.rows == ["done", "done too", "again"]


def test_a_line_of_the_whole_width_is_not_cut() -> None:
    terminal = Terminal(width=10)
    terminal.show("0123456789\nx")
    assert terminal.rows == ["0123456789", "x"]
    terminal.print_above("abcdefghij", "0123456789")
    assert terminal.rows == ["abcdefghij", "0123456789"]
    terminal.show("")
    assert terminal.rows == ["abcdefghij"]


def test_no_more_is_shown_than_fits_the_screen() -> None:
    terminal = Terminal(height=4)
    terminal.show("\n".join(f"line {number}" for number in range(10)))
    assert terminal.rows == ["line 7", "line 8", "line 9"]


def test_a_terminal_that_became_narrower_is_drawn_anew() -> None:
    terminal = Terminal(width=20)
    terminal.print_above("said", "0123456789abcdef")
    # The terminal breaks the line into two rows.
    terminal.console.width = 10
    terminal.screen.reset()
    pyte.Stream(terminal.screen).feed("said\r\n0123456789\r\nabcdef")
    terminal.show("new")
    assert terminal.rows == ["said", "new"]


WORDS = st.sampled_from(["a", "word", "日本語", "שלום", "a-long-word-without-end", "\n", " ", "é"])
TEXTS = st.lists(WORDS, max_size=14).map(" ".join)


@given(
    st.lists(st.tuples(TEXTS, st.none() | TEXTS), max_size=12),
    st.integers(8, 24),
    st.integers(2, 9),
)
def test_the_screen_is_what_it_would_be_if_it_were_drawn_at_once(
    steps: list[tuple[str, str | None]], width: int, height: int
) -> None:
    terminal = Terminal(width, height)
    for text, printed in steps:
        if printed is None:
            terminal.show(text)
        else:
            terminal.print_above(printed, text)
    expected = Terminal(width, height)
    for _, printed in steps:
        if printed is not None:
            expected.print_above(printed)
    if steps:
        expected.show(steps[-1][0])
    assert terminal.rows == expected.rows
    # Nothing that has scrolled away was written again.
    lines = [line for _, printed in steps if printed is not None for line in printed.split("\n")]
    assert len(terminal.rows) <= sum(len(line) * 2 // width + 2 for line in lines) + height


def test_it_keeps_itself_up_to_date(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_region, "_FRAMES_PER_SECOND", 1000)
    terminal = Terminal()
    seen = threading.Event()
    write = terminal.file.write

    def watch(text: str) -> int:
        if "later" in text:
            seen.set()
        return write(text)

    monkeypatch.setattr(terminal.file, "write", watch)
    terminal.region.start()
    assert terminal.region.is_shown
    terminal.text = "later"
    assert seen.wait(10)
    terminal.region.stop()
    assert not terminal.region.is_shown
    terminal.take()
    assert terminal.rows == []


def test_it_ends_when_the_output_has_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_region, "_FRAMES_PER_SECOND", 1000)
    terminal = Terminal()
    terminal.region.start()
    failed = threading.Event()

    def fail(text: str) -> int:
        failed.set()
        raise OSError

    with monkeypatch.context() as patch:
        patch.setattr(terminal.file, "write", fail)
        terminal.text = "new"
        assert failed.wait(10)
    terminal.region.stop()
