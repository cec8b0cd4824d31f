"""How long does it take to import the session classes?"""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from importlib.util import find_spec
from typing import Final

from benchmarks.harness import (
    OURS,
    SONIOX,
    Effort,
    Figure,
    Sample,
    Series,
    Target,
    interleave,
    ratio_at_most,
)

__all__ = ["measure"]

_ROUNDS: Final = 11

_IMPORTS: Final = {
    SONIOX: ("soniox", "import soniox, soniox.realtime.stt, soniox.realtime.async_stt"),
    OURS: ("soniox_adapters", "import soniox_adapters; soniox_adapters.AsyncRealtimeSTTSession"),
    "wsproto and pydantic alone": ("wsproto", "import wsproto, pydantic; pydantic.BaseModel"),
}
"""What each contender's program imports, by the module that has to be installed."""

_FIRST_SESSION: Final = """
from {sessions} import RealtimeSTTSession
from {models} import RealtimeSTTConfig
RealtimeSTTSession(
    "ws://localhost", RealtimeSTTConfig(model="stt-rt-v5", audio_format="auto"), "key"
)
"""

_FIRST_SESSIONS: Final = {
    SONIOX: (
        "soniox",
        _FIRST_SESSION.format(sessions="soniox.realtime.stt", models="soniox.types"),
    ),
    OURS: (
        "soniox_adapters",
        _FIRST_SESSION.format(sessions="soniox_adapters", models="soniox_adapters"),
    ),
}
"""The same plus a first session, because our library imports some modules only then."""

_PROGRAM: Final = """
import time
wall, cpu = time.perf_counter(), time.process_time()
{imports}
print((time.process_time() - cpu) * 1000, (time.perf_counter() - wall) * 1000)
"""


def measure(effort: Effort) -> list[Figure]:
    """Import in new Python processes, with the files in the system's cache."""
    return [
        *_compare("import of the session classes", _IMPORTS, effort, ratio_at_most(0.60)),
        *_compare("import, and a first session made", _FIRST_SESSIONS, effort),
    ]


def _compare(
    name: str,
    imports: dict[str, tuple[str, str]],
    effort: Effort,
    target: Target | None = None,
) -> list[Figure]:
    turns = {
        who: partial(_run, _PROGRAM.format(imports=imported))
        for who, (module, imported) in imports.items()
        if find_spec(module) is not None
    }
    samples = interleave(turns, effort.rounds(_ROUNDS))
    on_the_clock = {who: Series([one.wall for one in taken]) for who, taken in samples.items()}
    cpu = {who: Series([one.cpu for one in taken]) for who, taken in samples.items()}
    return [
        Figure(name, "ms", on_the_clock, target),
        Figure(f"{name}: CPU", "ms", cpu),
    ]


def _run(program: str) -> Sample:
    """Run a program that prints the ms that it took: CPU time and wall-clock time."""
    completed = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    cpu, wall = map(float, completed.stdout.split())
    return Sample(cpu, wall)
