"""`python -m benchmarks`: answer the questions, print the tables, write the results."""

from __future__ import annotations

import argparse
import json
import sys
import time
import traceback
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Final

from benchmarks import plot, readme, report
from benchmarks.harness import Effort, Figure, share_of_core
from benchmarks.processes import prepare_client_process

QUESTIONS: Final = (
    "sending",
    "without_c",
    "with_websocket_client",
    "receiving",
    "round_trip",
    "on_trio",
    "over_tls",
    "many_sessions",
    "many_blocking_sessions",
    "opening",
    "first_audio",
    "idle_sessions",
    "importing",
    "kept_events",
    "parsing",
    "core",
    "age",
    "scale",
)
"""Modules that answer one question each, in the order of the tables."""

_RESULTS: Final = Path(__file__).resolve().parent / "results"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmarks; return 1 if one failed to run, else 0, even if a target is missed."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure what the library costs, beside the official client and others.",
        epilog="; ".join(f"{name}: {_question(name)}" for name in QUESTIONS),
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="what to measure; all by default")
    parser.add_argument("--quick", action="store_true", help="only see that everything runs")
    options = parser.parse_args(arguments)
    names: list[str] = options.names or list(QUESTIONS)
    if unknown := sorted(set(names) - set(QUESTIONS)):
        parser.error(f"no benchmark {', '.join(unknown)}; there are {', '.join(QUESTIONS)}")

    separate_cores = prepare_client_process()
    surroundings = report.environment(separate_cores=separate_cores)
    print(surroundings, flush=True)
    sections: dict[str, list[Figure]] = {}
    failed: list[str] = []
    shares: list[float] = []
    begin = time.monotonic()
    for name in names:
        print(f"\n{name}: {_question(name)}", flush=True)
        shares.append(share_of_core())
        try:
            sections[name] = _module(name).measure(Effort(quick=options.quick))
        except Exception:
            traceback.print_exc()
            failed.append(name)
            continue
        if options.names:
            print("\n" + report.detail_table(sections[name]))
        print(f"  {time.monotonic() - begin:.0f} s", flush=True)
    if not sections:
        return 1

    figures = [figure for section in sections.values() for figure in section]
    notes = [
        report.far_end_note(figures),
        report.quietness_note(shares),
        f"Measured in {time.monotonic() - begin:.0f} s.",
    ]
    if failed:
        notes.append(f"Failed: {', '.join(failed)}.")
    summary = _summary(figures, notes)
    print("\n" + summary)
    stem = "quick" if options.quick else "-".join(options.names) or "latest"
    _write(stem, surroundings, summary, sections)
    return 1 if failed else 0


def _summary(figures: list[Figure], notes: list[str]) -> str:
    """Return the tables, with the notes that explain them."""
    judged = [figure for figure in figures if figure.target is not None]
    others = [figure for figure in figures if figure.target is None and figure.ratio is not None]
    legend = (
        "Figures are medians, CPU time of the client's process unless they say otherwise. Ratios "
        "are medians of neighbouring runs, with the range that half of them lie in."
    )
    parts = [legend]
    if judged:
        parts.append(report.summary_table(judged))
    if others:
        parts += ["Without a target:", report.summary_table(others)]
    if table := report.others_table(figures):
        parts += ["Other clients; those that know only WebSocket parse with our models:", table]
    return "\n\n".join(part for part in [*parts, *notes] if part)


def _write(stem: str, surroundings: str, summary: str, sections: dict[str, list[Figure]]) -> None:
    figures = [figure for section in sections.values() for figure in section]
    details = [
        f"## {_question(name)}\n\n`python -m benchmarks {name}`\n\n{report.detail_table(section)}"
        for name, section in sections.items()
    ]
    picture = f"![Ratios]({stem}.svg)"
    text = "\n\n".join(["# What it costs", surroundings, summary, picture, *details]) + "\n"
    if len(sections) == 1:
        (name,) = sections
        chart = plot.plot_contenders(_question(name), figures)
    else:
        chart = plot.plot_ratios(figures)
    _RESULTS.mkdir(exist_ok=True)
    (_RESULTS / f"{stem}.md").write_text(text, encoding="utf-8")
    (_RESULTS / f"{stem}.svg").write_text(chart, encoding="utf-8")
    data = json.dumps(report.to_json(sections, surroundings), indent=1)
    (_RESULTS / f"{stem}.json").write_text(data + "\n", encoding="utf-8")
    print(f"\nWritten: {_RESULTS / stem}.md, .svg and .json")
    if stem == "latest":
        readme.update()


def _module(name: str) -> ModuleType:
    return import_module(f"benchmarks.{name}")


def _question(name: str) -> str:
    """Return the question that a module answers: the first line of its docstring."""
    return (_module(name).__doc__ or name).splitlines()[0]


if __name__ == "__main__":
    sys.exit(main())
