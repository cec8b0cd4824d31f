"""`python -m soniox_adapters` is the command line `soniox-rt`."""

import sys

from soniox_adapters.cli import main

if __name__ == "__main__":
    sys.exit(main())
