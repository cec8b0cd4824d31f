"""Whatever the network does, a session ends with everything, or with an error."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any, Final

import pytest

from soniox_adapters import Outcome, SonioxConnectionError, SonioxRealtimeError, SonioxTimeoutError
from soniox_adapters.testing import FaultInjector, FaultPlan
from tests.support.adapters.server import PATIENCE, FakeServer, obliging
from tests.support.adapters.sessions import Kind, label, open_session

AUDIO: Final = [bytes(1_500)] * 10

IMPATIENT: Final = {"connect_timeout_sec": 0.3, "ping_interval_sec": 0.1, "ping_timeout_sec": 0.2}
"""For sessions that cannot go well."""


@pytest.mark.parametrize("seed", range(16))
@pytest.mark.parametrize("kind", [Kind.BLOCKING, Kind.ASYNCIO_STREAM, Kind.TRIO])
def test_a_session_ends(kind: Kind, seed: int) -> None:
    plan = FaultPlan.from_seed(seed, max_sent=15_000, max_received=160, max_seconds=0.1)
    options: dict[str, Any] = {"close_timeout_sec": 0.2, **(IMPATIENT if plan.fatal else {})}
    with FakeServer(obliging) as server, FaultInjector(plan) as faults:
        options["transport"] = faults.connect_async if kind.asynchronous else faults.connect
        with open_session(kind, server.url, **options) as driver:
            sending: Future[Any] | None = None
            try:
                with driver.connected():
                    sending = driver.start("send_bytes", AUDIO)
                    received = [label(event) for event in driver.collect()]
                sending.result(PATIENCE)
            except (SonioxConnectionError, SonioxTimeoutError) as error:
                # A busy machine may be too slow for the impatient.
                too_slow = plan.fatal and isinstance(error, SonioxTimeoutError)
                assert too_slow or faults.connections[0].ended, faults
                assert driver.outcome is Outcome.LOST
                failure = None if sending is None else sending.exception(PATIENCE)
                assert failure is None or isinstance(failure, SonioxRealtimeError), faults
            else:
                assert received == ["finished"], faults
                assert driver.outcome is Outcome.FINISHED
                heard = [one for one in server.peer().messages if isinstance(one, bytes)]
                assert b"".join(heard) == b"".join(AUDIO), faults
