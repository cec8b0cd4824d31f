"""What the tests of the local server share."""

from __future__ import annotations

import pytest


@pytest.fixture
def anyio_backend() -> str:
    """The local server is a server on asyncio."""
    return "asyncio"
