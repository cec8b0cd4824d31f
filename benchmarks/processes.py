"""The processes of a benchmark: the far end on its own core, and fresh ones to measure in."""

from __future__ import annotations

import functools
import json
import os
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Any, Final, cast

from typing_extensions import Self

__all__ = [
    "FarEnd",
    "in_fresh_process",
    "prepare_client_process",
]

_HOST: Final = "127.0.0.1"

_PATIENCE_SECONDS: Final = 60.0
"""Seconds after which a fresh process is given up."""

_ROOT: Final = Path(__file__).resolve().parent.parent

_DESCRIPTORS_NEEDED: Final = 4096
"""Open files that the largest benchmark needs."""


_CORES_VARIABLE: Final = "BENCHMARK_CORES"
"""Environment variable that names both cores to fresh processes, which are pinned already."""


@functools.cache
def _cores() -> tuple[int, int] | None:
    """Return the client's and the far end's core; None where processes cannot be pinned."""
    if sys.platform != "linux":
        return None
    if told := os.environ.get(_CORES_VARIABLE):
        client, far_end = map(int, told.split(","))
        return client, far_end
    available = sorted(os.sched_getaffinity(0))
    return (available[0], available[1]) if len(available) > 1 else None


def prepare_client_process(*, pinned: bool = True) -> bool:
    """Prepare this process, and those that it starts; return whether the cores are separate.

    Raises the limit of open files as far as the system permits, bypasses proxies for this machine,
    and, if `pinned`, keeps the process on the client's core.
    """
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = _HOST
    _raise_descriptor_limit()
    cores = _cores() if pinned else None
    if cores is not None and sys.platform == "linux":
        os.environ[_CORES_VARIABLE] = f"{cores[0]},{cores[1]}"
        os.sched_setaffinity(0, {cores[0]})
    return cores is not None


def _raise_descriptor_limit() -> None:
    if sys.platform == "win32":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = (
        _DESCRIPTORS_NEEDED if hard == resource.RLIM_INFINITY else min(_DESCRIPTORS_NEEDED, hard)
    )
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class FarEnd:
    """The process of `benchmarks.far_end`. It runs until the end of a `with` block.

    Args:
        secure: Whether to serve TLS, with a certificate that this process is made to trust.
        delay: Seconds by which everything is delayed, in each direction.
    """

    def __init__(self, *, secure: bool = False, delay: float = 0.0) -> None:
        program = [sys.executable, "-m", "benchmarks.far_end", "--delay-ms", f"{delay * 1000}"]
        if secure:
            program += ["--certificate", _trusted_certificate()]
        self._scheme = "wss" if secure else "ws"
        self._process = subprocess.Popen(
            program,
            cwd=_ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        cores = _cores()
        if cores is not None and sys.platform == "linux":
            os.sched_setaffinity(self._process.pid, {cores[1]})
        self._port = int(self._answer())

    def url(self, path: str) -> str:
        """Return the URL of a path; `benchmarks.far_end` lists the paths."""
        return f"{self._scheme}://{_HOST}:{self._port}{path}"

    @property
    def port(self) -> int:
        """TCP port on 127.0.0.1."""
        return self._port

    def cpu_seconds(self) -> float:
        """Return the CPU time that the far end has used so far, in seconds."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        return float(self._answer())

    def close(self) -> None:
        """End the process."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the far end of the benchmark ended unexpectedly")
        return line


@functools.cache
def _trusted_certificate() -> str:
    """Return a file with a certificate for this machine, and make this process trust it."""
    import trustme

    directory = Path(tempfile.mkdtemp(prefix="soniox-benchmark-"))
    authority = trustme.CA()
    certificate = authority.issue_cert(_HOST)
    server_file = directory / "server.pem"
    server_file.write_bytes(
        certificate.private_key_pem.bytes()
        + b"".join(blob.bytes() for blob in certificate.cert_chain_pems)
    )
    # Added to the system's trust store, because loading one of that size is part of TLS's cost.
    system_file = ssl.get_default_verify_paths().cafile
    system = Path(system_file).read_bytes() if system_file else b""
    trust_file = directory / "trusted.pem"
    trust_file.write_bytes(system + b"\n" + authority.cert_pem.bytes())
    os.environ["SSL_CERT_FILE"] = str(trust_file)
    return str(server_file)


def in_fresh_process(
    function: Callable[..., dict[str, float]],
    *arguments: str | float,
) -> dict[str, float]:
    """Call a module's function in a new Python process, and return what it returns.

    Raises `RuntimeError`, with the output of the process, if it fails or takes too long.
    """
    name = f"{function.__module__}:{function.__qualname__}"
    try:
        completed = subprocess.run(
            [sys.executable, "-m", "benchmarks.processes", name, json.dumps(arguments)],
            cwd=_ROOT,
            capture_output=True,
            text=True,
            check=False,
            timeout=_PATIENCE_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"{name}{arguments} took over {_PATIENCE_SECONDS:g} s") from None
    if completed.returncode:
        raise RuntimeError(f"{name}{arguments} failed:\n{completed.stderr}")
    return cast("dict[str, float]", json.loads(completed.stdout.splitlines()[-1]))


def _main() -> None:
    name, arguments = sys.argv[1:]
    module, function = name.split(":")
    _raise_descriptor_limit()
    answer: Any = getattr(import_module(module), function)(*json.loads(arguments))
    print(json.dumps(answer), flush=True)
    # Exits at once, because ending a thousand threads would take longer than the benchmark.
    os._exit(0)


if __name__ == "__main__":
    _main()
