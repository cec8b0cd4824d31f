"""Drawing the results as SVG, without a plotting library, so that a plot is a small text file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from xml.sax.saxutils import escape

from benchmarks.harness import OURS, Figure

__all__ = ["plot_contenders", "plot_ratios"]

_WIDTH: Final = 960
_LABEL_WIDTH: Final = 430
_NUMBER_WIDTH: Final = 90
_ROW: Final = 22
_TOP: Final = 56
_BAR_WIDTH: Final = _WIDTH - _LABEL_WIDTH - _NUMBER_WIDTH

_GOOD, _BAD, _NEUTRAL = "#2a7f62", "#b8473d", "#6c7a89"
_LONGEST_RATIO: Final = 2.0
"""Bars of larger ratios are cut off at the edge; the number next to the bar shows their value."""


def plot_ratios(figures: Sequence[Figure]) -> str:
    """Return a chart of ours divided by the baseline. Shorter is better; the tick is the target."""
    chosen = [figure for figure in figures if figure.ratio is not None]
    picture = _Picture(
        len(chosen),
        "Cost of ours, as a share of the other's",
        "bar: median; line: half of all runs; black tick: target; dashed: equal",
    )
    one = picture.x(1 / _LONGEST_RATIO)
    picture.line(one, _TOP - 8, one, picture.height - 12, _NEUTRAL, dashes="4 3")
    for row, figure in enumerate(chosen):
        ratio, spread = figure.ratio or 0.0, figure.ratio_quartiles or (0.0, 0.0)
        colour = {True: _GOOD, False: _BAD, None: _NEUTRAL}[figure.met]
        low, high = (value / _LONGEST_RATIO for value in spread)
        picture.bar(row, figure.name, ratio / _LONGEST_RATIO, (low, high), f"{ratio:.2f}", colour)
        if figure.target is not None and figure.target.kind == "ratio at most":
            at = picture.x(figure.target.limit / _LONGEST_RATIO)
            picture.line(at, picture.y(row) + 2, at, picture.y(row) + _ROW - 4, "black", width=2)
    return picture.finished()


def plot_contenders(title: str, figures: Sequence[Figure]) -> str:
    """Return a chart of all contenders, each figure on its own scale."""
    rows = sum(len(figure.series) + 1 for figure in figures)
    picture = _Picture(rows, title, "bar: median; line: half of all runs; shorter is less")
    row = 0
    for figure in figures:
        unit = f", {figure.unit}" if figure.unit else ""
        picture.heading(row, figure.name + unit)
        longest = max((one.median for one in figure.series.values()), default=0.0) or 1.0
        for contender, series in figure.series.items():
            row += 1
            low, high = series.quartiles
            colour = _GOOD if contender.startswith(OURS) else _NEUTRAL
            spread = low / longest, high / longest
            share = series.median / longest
            picture.bar(row, contender, share, spread, f"{series.median:.4g}", colour)
        row += 1
    return picture.finished()


class _Picture:
    """Rows of horizontal bars."""

    def __init__(self, rows: int, title: str, legend: str) -> None:
        self.height = _TOP + rows * _ROW + 16
        size = f'width="{_WIDTH}" height="{self.height}"'
        self._parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif">',
            f'<rect {size} fill="white"/>',
        ]
        self._text(12, 22, title, size=15)
        self._text(12, 40, legend, colour=_NEUTRAL)

    def x(self, share: float) -> float:
        """Return the x coordinate for a share of the longest bar, cut off at the edge."""
        return _LABEL_WIDTH + min(max(share, 0.0), 1.0) * _BAR_WIDTH

    def y(self, row: int) -> float:
        """Return the y coordinate of the top of a row."""
        return _TOP + row * _ROW

    def heading(self, row: int, text: str) -> None:
        """Write the heading of a group of rows."""
        self._text(12, self.y(row) + 15, text, weight="bold")

    def bar(
        self,
        row: int,
        name: str,
        share: float,
        spread: tuple[float, float],
        number: str,
        colour: str,
    ) -> None:
        """Draw a bar with its name and number."""
        top, end = self.y(row), self.x(share)
        self._text(_LABEL_WIDTH - 8, top + 15, name, anchor="end")
        self._parts.append(
            f'<rect x="{_LABEL_WIDTH}" y="{top + 4:.1f}" width="{end - _LABEL_WIDTH:.1f}" '
            f'height="{_ROW - 8}" fill="{colour}" fill-opacity="0.75"/>'
        )
        middle = top + _ROW / 2
        self.line(self.x(spread[0]), middle, self.x(spread[1]), middle, "#222")
        self._text(max(end, self.x(spread[1])) + 6, top + 15, number)

    def line(
        self,
        x1: float,
        y1: float,
        x2: float,
        y2: float,
        colour: str,
        *,
        width: float = 1,
        dashes: str = "",
    ) -> None:
        """Draw a line."""
        extra = f' stroke-dasharray="{dashes}"' if dashes else ""
        self._parts.append(
            f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" '
            f'stroke="{colour}" stroke-width="{width}"{extra}/>'
        )

    def finished(self) -> str:
        """Return the picture."""
        return "\n".join([*self._parts, "</svg>", ""])

    def _text(
        self,
        x: float,
        y: float,
        text: str,
        *,
        size: int = 12,
        colour: str = "#222",
        anchor: str = "start",
        weight: str = "normal",
    ) -> None:
        self._parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{colour}" '
            f'text-anchor="{anchor}" font-weight="{weight}">{escape(text)}</text>'
        )
