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

_PROGRAM: Final = """
import time
wall, cpu = time.perf_counter(), time.process_time()
{imports}
print((time.process_time() - cpu) * 1000, (time.perf_counter() - wall) * 1000)
"""


def measure(effort: Effort) -> list[Figure]:
    """Import in a new Python, which has read the files before."""
    turns = {
        name: partial(_run, _PROGRAM.format(imports=imports))
        for name, (module, imports) in _IMPORTS.items()
        if find_spec(module) is not None
    }
    samples = interleave(turns, effort.rounds(_ROUNDS))
    on_the_clock = {name: Series([one.wall for one in taken]) for name, taken in samples.items()}
    cpu = {name: Series([one.cpu for one in taken]) for name, taken in samples.items()}
    return [
        Figure("import of the session classes", "ms", on_the_clock, ratio_at_most(0.60)),
        Figure("import of the session classes: CPU", "ms", cpu),
    ]


def _run(program: str) -> Sample:
    """Run a program that prints the ms it took: CPU, and on the clock."""
    completed = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    cpu, wall = map(float, completed.stdout.split())
    return Sample(cpu, wall)
