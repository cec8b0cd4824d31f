"""Does every session's account add up, whatever the network does to it?

`python -m benchmarks.soak` keeps 200 sessions going, blocking ones in threads, others on asyncio
and on trio. Faults chosen by a seed happen to their connections to the local server. In the end,
the plan of each session and its fault have to explain everything that happened to it.
Exits with 1 if they do not, or if a thread, a socket or a task is left.
"""

from __future__ import annotations

import argparse
import asyncio
import faulthandler
import gc
import itertools
import random
import sys
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

import anyio

from benchmarks.processes import prepare_client_process
from benchmarks.soak_account import Account, Kind, ServerBooks, account_table, random_plan
from benchmarks.soak_sessions import carry_out_async, carry_out_blocking
from soniox_adapters.server import LocalServer, run_in_thread
from soniox_adapters.testing import FaultInjector

_SESSIONS: Final = 200
_KINDS: Final[tuple[Kind, ...]] = ("blocking", "asyncio", "trio")
_LAST_SESSIONS_SECONDS: Final = 60.0
"""Seconds that the last sessions may take to end: several times the sum of their deadlines."""
_SETTLE_SECONDS: Final = 10.0
"""Seconds that threads and sockets may take to go away after the last session."""
_MOST_PROBLEMS: Final = 40
"""Maximum number of problems to print."""


class Soak:
    """All sessions of one run, their accounts, and everything that goes wrong outside of them."""

    def __init__(self, *, seed: int, seconds: float, sessions: int) -> None:
        self._seed = seed
        self._end = time.monotonic() + seconds
        self._sessions = sessions
        # Each kind of session has its own numbers, so that a number always has the same plan.
        self._numbers = {
            kind: itertools.count(first, len(_KINDS)) for first, kind in enumerate(_KINDS)
        }
        self._books = ServerBooks()
        self._lock = threading.Lock()
        self._under_way: dict[int, Account] = {}
        self.accounts: list[Account] = []
        self.problems: list[str] = []

    def run(self) -> None:
        """Keep the sessions going until the time is up, then wait for the last ones."""
        server = LocalServer(recognizer=self._books, max_queued_audio=256 * 1024)
        with run_in_thread(server):
            self._url = server.url
            share = self._sessions // 3
            threads = [
                threading.Thread(target=self._keep_blocking, name=f"soak-{number}", daemon=True)
                for number in range(self._sessions - 2 * share)
            ]
            for backend in ("asyncio", "trio"):
                target = partial(self._keep_async, backend, share)
                threads.append(threading.Thread(target=target, name=f"soak-{backend}", daemon=True))
            for thread in threads:
                thread.start()
            self._wait_for(threads)
            self._wait_until(lambda: server.connections == 0)
            if server.connections:
                self._problem(f"the server still has {server.connections} connections")
            finished = sum(
                self._books.account(str(one.plan.number)).finished for one in self.accounts
            )
            if server.sessions_served > finished:
                self._problem("the server served more sessions than were finished")

    def _wait_for(self, threads: Sequence[threading.Thread]) -> None:
        last = self._end + _LAST_SESSIONS_SECONDS
        told = time.monotonic()
        while any(thread.is_alive() for thread in threads):
            time.sleep(0.2)
            now = time.monotonic()
            if now > last:
                for number, account in list(self._under_way.items()):
                    self._problem(f"session {number} does not end: {account.plan}")
                faulthandler.dump_traceback()
                return
            if now - told > 10:
                told = now
                print(f"  {len(self.accounts)} sessions so far", flush=True)

    def _keep_blocking(self) -> None:
        while time.monotonic() < self._end:
            account = self._open("blocking")
            carry_out_blocking(account, self._url)
            self._close(account)

    def _keep_async(self, backend: Kind, count: int) -> None:
        async def main() -> None:
            tasks_before = _living_tasks(backend)
            if backend == "asyncio":
                asyncio.get_running_loop().set_exception_handler(self._loop_failed)
            async with anyio.create_task_group() as group:
                for _ in range(count):
                    group.start_soon(worker)
            # Gives cancelled tasks time to end.
            await anyio.sleep(0.5)
            left = _living_tasks(backend) - tasks_before
            if left:
                self._problem(f"{left} tasks of {backend} are left")

        async def worker() -> None:
            while time.monotonic() < self._end:
                account = self._open(backend)
                await carry_out_async(account, self._url)
                self._close(account)

        anyio.run(main, backend=backend)

    def _open(self, kind: Kind) -> Account:
        plan = random_plan(self._seed, next(self._numbers[kind]), kind)
        account = Account(plan, FaultInjector(plan.faults))
        self._under_way[plan.number] = account
        return account

    def _close(self, account: Account) -> None:
        number = account.plan.number
        account.injector.close()
        del self._under_way[number]
        account.server = self._books.account(str(number))
        with self._lock:
            self.accounts.append(account)

    def _wait_until(self, condition: Callable[[], bool]) -> None:
        end = time.monotonic() + _SETTLE_SECONDS
        while not condition() and time.monotonic() < end:
            time.sleep(0.05)

    def _loop_failed(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self._problem(f"asyncio reports: {context.get('message')}: {context.get('exception')!r}")

    def _problem(self, text: str) -> None:
        with self._lock:
            self.problems.append(text)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the soak; return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long; 60 by default")
    parser.add_argument("--sessions", type=int, default=_SESSIONS, help="at once; 200 by default")
    parser.add_argument("--seed", type=int, default=None, help="of all randomness")
    options = parser.parse_args(arguments)
    seed = random.randrange(10**9) if options.seed is None else options.seed
    prepare_client_process(pinned=False)
    print(f"{options.sessions} sessions for {options.seconds:g} s; repeat with --seed {seed}")

    watch = _Watch()
    soak = Soak(seed=seed, seconds=options.seconds, sessions=options.sessions)
    begin = time.monotonic()
    soak.run()
    seconds = time.monotonic() - begin
    print("\n" + account_table(soak.accounts) + "\n")

    problems = [*soak.problems, *watch.what_is_left()]
    for account in soak.accounts:
        problems += [
            f"session {account.plan.number} ({account.plan.kind}, {account.plan.ending.value}, "
            f"{account.plan.faults}, happened: {account.fault_happened}): {problem}"
            for problem in account.unexplained()
        ]
    for problem in problems[:_MOST_PROBLEMS]:
        print(f"unexplained: {problem}")
    if len(problems) > _MOST_PROBLEMS:
        print(f"and {len(problems) - _MOST_PROBLEMS} more")
    verdict = f"{len(problems)} things are unexplained" if problems else "everything is explained"
    print(f"{len(soak.accounts)} sessions in {seconds:.0f} s: {verdict}")
    return 1 if problems or not soak.accounts else 0


class _Watch:
    """Finds leaks, and collects exceptions that are raised where nobody can catch them."""

    def __init__(self) -> None:
        warnings.simplefilter("error", ResourceWarning)
        self._raised: list[str] = []
        sys.unraisablehook = self._note_unraisable
        threading.excepthook = self._note_in_thread
        # Run both libraries once first, because what they load or start only once is not a leak.
        for backend in ("asyncio", "trio"):
            anyio.run(anyio.sleep, 0, backend=backend)
        self._threads = set(threading.enumerate())
        self._descriptors = _open_descriptors()

    def what_is_left(self) -> list[str]:
        """Return what exists now but not before, after giving it time to go away."""
        end = time.monotonic() + _SETTLE_SECONDS
        while time.monotonic() < end and (self._new_threads() or self._new_descriptors() > 0):
            gc.collect()
            time.sleep(0.1)
        problems = [f"the thread {name} is left" for name in self._new_threads()]
        if (left := self._new_descriptors()) > 0:
            problems.append(f"{left} files or sockets are left")
        return problems + self._raised

    def _new_threads(self) -> list[str]:
        return [thread.name for thread in set(threading.enumerate()) - self._threads]

    def _new_descriptors(self) -> int:
        return _open_descriptors() - self._descriptors

    def _note_unraisable(self, unraisable: sys.UnraisableHookArgs) -> None:
        self._raised.append(f"raised in {unraisable.object!r}: {unraisable.exc_value!r}")

    def _note_in_thread(self, arguments: threading.ExceptHookArgs) -> None:
        name = arguments.thread.name if arguments.thread else "?"
        self._raised.append(f"raised in the thread {name}: {arguments.exc_value!r}")


def _open_descriptors() -> int:
    import psutil

    process = psutil.Process()
    return int(process.num_handles() if sys.platform == "win32" else process.num_fds())


def _living_tasks(backend: Kind) -> int:
    if backend == "asyncio":
        return len(asyncio.all_tasks())
    import trio

    return trio.lowlevel.current_statistics().tasks_living


if __name__ == "__main__":
    sys.exit(main())
