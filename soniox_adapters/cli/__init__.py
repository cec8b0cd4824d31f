"""The command line `soniox-rt`, also `python -m soniox_adapters` (extra `cli`)."""

from __future__ import annotations

import sys
from typing import Final

__all__ = ["main"]

_PACKAGES_OF_THE_EXTRA: Final = {"typer", "rich", "click"}


def main() -> int:
    """Run the command line with the arguments of this process, and return its exit status."""
    try:
        from soniox_adapters.cli.application import run
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _PACKAGES_OF_THE_EXTRA:
            raise
        sys.stderr.write(
            "soniox-rt: the command line is not installed completely; install it with: "
            "pip install 'soniox-proto[cli]'\n"
        )
        return 1
    except KeyboardInterrupt:
        return 130
    return run(sys.argv[1:])
