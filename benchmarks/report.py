"""The results as Markdown tables and as JSON."""

from __future__ import annotations

import dataclasses
import math
import os
import platform
import statistics
import sys
import time
from collections.abc import Iterable, Sequence
from typing import Any, Final

from benchmarks.contenders import BARE_SOCKET, PACKAGES, installed_version, label, missing_packages
from benchmarks.harness import OURS, SONIOX, Figure, Series

__all__ = [
    "detail_table",
    "environment",
    "far_end_note",
    "others_table",
    "quietness_note",
    "summary_table",
    "to_json",
]

_NOTHING: Final = "-"

_QUIET: Final = 0.97
"""The least share of a core that a process gets on a machine that is otherwise idle."""


def environment(*, separate_cores: bool) -> str:
    """Return the machine and the versions with which the figures were measured."""
    system = "uname"
    if hasattr(os, "uname"):
        system = f"{os.uname().sysname} {os.uname().release}"
    load = (
        ", ".join(f"{value:.1f}" for value in os.getloadavg()) if hasattr(os, "getloadavg") else ""
    )
    versions = [
        f"{package} {version}"
        for package in (*PACKAGES.values(), "pydantic", "msgspec", "wsproto", "trio")
        if (version := installed_version(package))
    ]
    machine = (
        f"{time.strftime('%Y-%m-%d %H:%M UTC', time.gmtime())}, Python "
        f"{platform.python_version()} on {system}, {os.cpu_count()} cores; "
        f"load of the machine during the last 1, 5 and 15 minutes: {load or 'unknown'}."
    )
    lines = [
        machine,
        f"Versions: {', '.join(versions)}.",
        "Client and far end have a core each."
        if separate_cores
        else "Client and far end share what cores there are: only one is available, or processes "
        "cannot be pinned here.",
    ]
    if missing := missing_packages():
        lines.append(f"Left out, because not installed: {', '.join(missing)}.")
    return "\n".join(lines)


def summary_table(figures: Iterable[Figure]) -> str:
    """Return a table of ours next to the client that it is compared with."""
    rows = [["figure", label(SONIOX), "ours", "ratio", "target", "met"]]
    for figure in figures:
        baseline, ours = figure.series.get(figure.baseline), figure.series.get(figure.contender)
        unit = f", {figure.unit}" if figure.unit else ""
        against = _NOTHING
        if baseline is not None:
            name = "" if figure.baseline == SONIOX else f" ({figure.baseline})"
            against = _number(baseline.median) + name
        rows.append(
            [
                figure.name + unit,
                against,
                _NOTHING if ours is None else _number(ours.median),
                _ratio(figure),
                _NOTHING if figure.target is None else str(figure.target),
                _verdict(figure),
            ]
        )
    return _markdown(rows)


def others_table(figures: Iterable[Figure]) -> str:
    """Return a table of the medians of ours and all other clients; `""` if there are no others."""
    chosen = [figure for figure in figures if OURS in figure.series]
    known = [name for name in (*PACKAGES, BARE_SOCKET) if name not in {OURS, SONIOX}]
    names = [name for name in known if any(name in figure.series for figure in chosen)]
    rows = [["figure", "ours", *map(label, names)]]
    for figure in chosen:
        if any(name in figure.series for name in names):
            series = [figure.series.get(name) for name in (OURS, *names)]
            unit = f", {figure.unit}" if figure.unit else ""
            rows.append([figure.name + unit, *map(_median, series)])
    return _markdown(rows) if len(rows) > 1 else ""


def detail_table(figures: Iterable[Figure]) -> str:
    """Return a table with a row for each contender of each figure, with the quartiles."""
    rows = [["figure", "contender", "median", "quartiles", "on the clock", "far end busy"]]
    for figure in figures:
        name = figure.name + (f", {figure.unit}" if figure.unit else "")
        for contender, series in figure.series.items():
            low, high = series.quartiles
            rows.append(
                [
                    name,
                    contender,
                    _number(series.median),
                    f"{_number(low)} to {_number(high)}",
                    f"{_number(statistics.median(series.wall))} µs" if series.wall else _NOTHING,
                    f"{statistics.median(series.far_end):.0%}" if series.far_end else _NOTHING,
                ]
            )
            name = ""
        if figure.ratio_quartiles is not None:
            low, high = figure.ratio_quartiles
            quartiles = f"{low:.2f} to {high:.2f}"
            who = f"{figure.contender} / {figure.baseline}"
            rows.append(["", who, f"{figure.ratio:.2f}", quartiles, _NOTHING, _NOTHING])
    return _markdown(rows)


def far_end_note(figures: Iterable[Figure]) -> str:
    """Return how busy the far end was. With time to spare, it does not slow the clients down."""
    busiest = max(
        (
            (statistics.median(series.far_end), figure.name, contender)
            for figure in figures
            for contender, series in figure.series.items()
            if series.far_end and contender != BARE_SOCKET
        ),
        default=None,
    )
    if busiest is None:
        return ""
    share, figure_name, contender = busiest
    return (
        f"The far end was busy for {share:.0%} of the time at most, of medians ({contender}, "
        f"{figure_name}); the bare sockets show how much faster it can go."
    )


def quietness_note(shares: Sequence[float]) -> str:
    """Return the share of its core that the client got in the samples taken between benchmarks."""
    share = statistics.median(shares)
    note = f"When the client asked for all of its core, it got {share:.0%} of it (median)."
    if share < _QUIET:
        note += (
            " Something else was at work on this machine: ratios of CPU time are rough, and times "
            "on the clock, latencies and rates mean little."
        )
    return note


def to_json(sections: dict[str, list[Figure]], surroundings: str) -> dict[str, Any]:
    """Return all measurements, round by round."""
    return {
        "measured on": surroundings.splitlines(),
        "questions": {
            name: [
                {**dataclasses.asdict(figure), "ratio": figure.ratio, "met": figure.met}
                for figure in figures
            ]
            for name, figures in sections.items()
        },
    }


def _verdict(figure: Figure) -> str:
    if figure.target is None:
        return _NOTHING
    if figure.contender not in figure.series:
        return "no: it failed"
    return {True: "yes", False: "**no**", None: _NOTHING}[figure.met]


def _ratio(figure: Figure) -> str:
    if figure.ratio is None or figure.ratio_quartiles is None:
        return _NOTHING
    low, high = figure.ratio_quartiles
    return f"{figure.ratio:.2f} ({low:.2f} to {high:.2f})"


def _median(series: Series | None) -> str:
    return _NOTHING if series is None else _number(series.median)


def _number(value: float) -> str:
    """Return a number with three significant digits."""
    if math.isnan(value):
        return _NOTHING
    size = abs(value)
    return f"{value:.0f}" if size >= 100 else f"{value:.1f}" if size >= 10 else f"{value:.2f}"


def _markdown(rows: Sequence[Sequence[str]]) -> str:
    """Return rows as a Markdown table with aligned columns; the first row is the header."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]

    def line(row: Sequence[str]) -> str:
        return (
            "| "
            + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            + " |"
        )

    head, *body = rows
    rule = "| " + " | ".join("-" * width for width in widths) + " |"
    return "\n".join([line(head), rule, *map(line, body)])


if __name__ == "__main__":
    sys.exit("run python -m benchmarks")
