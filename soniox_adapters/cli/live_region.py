"""Lines at the bottom of a terminal that change, without flicker.

Only lines that differ from what is on the screen are written, over the old ones and without erasing
those first, and each change as one frame. Nothing above the lines is ever touched, so what has
scrolled away is not drawn again.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from itertools import takewhile
from typing import Final

from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.segment import Segment, Segments

__all__ = ["LiveRegion"]

_FRAMES_PER_SECOND: Final = 12
_BEGIN_FRAME: Final = "\x1b[?2026h"
"""Asks a terminal that can do so to show nothing until the end of the frame."""
_END_FRAME: Final = "\x1b[?2026l"
_ERASE_LINE_END: Final = "\x1b[K"
_ERASE_BELOW: Final = "\x1b[J"


class LiveRegion:
    """Shows a renderable below what is printed, and again whenever it has changed.

    A thread looks for changes, because some come with the time alone. Safe to use from any thread,
    but not from a signal handler.
    """

    def __init__(self, console: Console, content: RenderableType) -> None:
        self._console = console
        self._content = content
        # What is on the screen: its lines as they were written, and the columns they take.
        self._lines: list[str] = []
        self._widths: list[int] = []
        self._painted_width = 0
        self._lock = threading.RLock()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def is_shown(self) -> bool:
        """Whether the lines are on the screen."""
        return self._thread is not None and not self._stopping.is_set()

    def start(self) -> None:
        """Show the lines, and keep them up to date."""
        self._console.show_cursor(False)
        self.refresh()
        self._thread = threading.Thread(target=self._keep_fresh, name="soniox-live", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Remove the lines from the screen."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
        with self._lock:
            self._paint([], [])
            self._console.show_cursor(True)

    def refresh(self) -> None:
        """Show what has changed."""
        with self._lock:
            self._paint(self._rendered(self._content)[-max(1, self._console.height - 1) :], [])

    def print_above(self, renderable: RenderableType) -> None:
        """Print above the lines, for good."""
        with self._lock:
            lines = self._rendered(self._content)[-max(1, self._console.height - 1) :]
            self._paint(lines, self._rendered(renderable))

    def _keep_fresh(self) -> None:
        # If the output has gone, those who write the transcript to it find out too.
        with suppress(OSError, ValueError):
            while not self._stopping.wait(1 / _FRAMES_PER_SECOND):
                self.refresh()

    def _rendered(self, renderable: RenderableType) -> list[list[Segment]]:
        return self._console.render_lines(renderable, pad=False)

    def _written(self, line: list[Segment]) -> str:
        with self._console.capture() as capture:
            self._console.print(Segments(line), end="")
        return capture.get()

    def _paint(self, lines: list[list[Segment]], above: list[list[Segment]]) -> None:
        """Turn what is on the screen into `above`, which stays, and `lines` below it.

        Before and after, the cursor stands in the last of the lines, or where the first would be.
        """
        frame: list[str] = []
        if self._lines and self._painted_width != self._console.width:
            # A terminal of another width has broken the lines anew. Begin from their first row.
            frame += (self._to_line(0), _ERASE_BELOW)
            self._lines, self._widths = [], []
        self._painted_width = self._console.width
        old, new = self._lines, [self._written(line) for line in (*above, *lines)]
        widths = [sum(cell_len(segment.text) for segment in line) for line in (*above, *lines)]
        same = sum(
            1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(old, new, strict=False))
        )
        if same < len(old):
            frame.append(self._to_line(same))
        elif old and same < len(new):
            frame.append("\r\n")
        for number in range(same, len(new)):
            if number > same:
                frame.append("\r\n")
            if old[number : number + 1] != new[number : number + 1]:
                frame.append(new[number])
                # Behind a full line the cursor still stands on its last column.
                frame.append(_ERASE_LINE_END if widths[number] < self._console.width else "")
        if len(new) < len(old):
            # Unless it stands there already, the cursor goes to the first line too many, and back.
            frame += ("\r\n" if same < len(new) else "", _ERASE_BELOW, "\x1b[A" if new else "")
        if above and not lines:
            frame.append("\r\n")
        self._lines, self._widths = new[len(above) :], widths[len(above) :]
        if any(frame):
            self._console.file.write("".join((_BEGIN_FRAME, *frame, _END_FRAME)))
            self._console.file.flush()

    def _to_line(self, number: int) -> str:
        """Return what moves the cursor from the last line to the beginning of another."""
        width = self._console.width
        rows = sum(max(1, -(-columns // width)) for columns in self._widths[number:])
        return f"\x1b[{rows - 1}A\r" if rows > 1 else "\r"
