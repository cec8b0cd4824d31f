"""The README: every example runs as it is printed, and every generated part is up to date."""

from __future__ import annotations

import os
import re
import ssl
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeAlias

import pytest
import trustme

from benchmarks import readme
from soniox_adapters import DEFAULT_WEBSOCKET_URL, Endpoint
from soniox_adapters.server import LocalServer, run_in_thread, scripted
from tests.support import outcome_table, retry_table, state_diagram
from tests.support.adapters.proxy import FakeProxy, http_connect

README: Final = Path(__file__).parent.parent / "README.md"
TEXT: Final = README.read_text(encoding="utf-8")
EXAMPLES: Final = re.findall(r"^```python\n(.*?)^```", TEXT, re.S | re.M)

API_KEY: Final = "key-of-the-readme"
PATIENCE: Final = 120.0
SIDE_BY_SIDE: Final = 6
"""Examples that run at the same time."""


def final(text: str, **fields: Any) -> dict[str, Any]:
    return {"text": text, "is_final": True, **fields}


ORIGINAL: Final = {"language": "en", "translation_status": "original"}

SCRIPT: Final = [
    {"tokens": [{"text": "Good", "is_final": False, "speaker": "1"}]},
    {"tokens": [final("Good morning", speaker="1", **ORIGINAL, start_ms=0, end_ms=900)]},
    {"tokens": [final("<end>")]},
    {
        "tokens": [
            final("Buenos días", speaker="1", language="es", translation_status="translation")
        ]
    },
    {"tokens": [final(" Hello", speaker="2", **ORIGINAL, start_ms=4500, end_ms=4900)]},
    {"tokens": [final("<end>")]},
]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Yield the environment of a user of the service, which is behind a proxy of theirs.

    The examples connect to the service's own URL, with TLS. A proxy leads them to a local server,
    and the system's trust store is one that trusts it.
    """
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(Endpoint.parse(DEFAULT_WEBSOCKET_URL).host).configure_cert(context)
    trusted = tmp_path_factory.mktemp("trust") / "authority.pem"
    authority.cert_pem.write_to_path(str(trusted))
    service = LocalServer(recognizer=scripted(SCRIPT), api_key=API_KEY, ssl_context=context)
    inherited = {
        name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")
    }
    with (
        run_in_thread(service),
        FakeProxy(http_connect, scheme="http", server_port=service.port) as proxy,
    ):
        yield {
            **inherited,
            "SONIOX_API_KEY": API_KEY,
            "SSL_CERT_FILE": str(trusted),
            "WSS_PROXY": proxy.url(),
        }


Run: TypeAlias = "Future[subprocess.CompletedProcess[str]]"


@pytest.fixture(scope="module")
def runs(
    environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[Run]]:
    """Yield the runs of all examples, each in a folder of its own, several side by side.

    Most of them stream a recording at the speed of speech, and wait more than they work. All at
    once they would keep a small machine so busy that connecting takes too long.
    """

    def run(example: str, folder: Path) -> subprocess.CompletedProcess[str]:
        (folder / "example.py").write_text(example, encoding="utf-8")
        return subprocess.run(
            [sys.executable, "-W", "error", "example.py"],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=PATIENCE,
            check=False,
        )

    with ThreadPoolExecutor(SIDE_BY_SIDE) as executor:
        yield [
            executor.submit(run, example, tmp_path_factory.mktemp("example"))
            for example in EXAMPLES
        ]
        executor.shutdown(cancel_futures=True)


def number_of(words: str) -> int:
    """Return the number of the one example that has these words."""
    (number,) = (number for number, example in enumerate(EXAMPLES) if words in example)
    return number


# What an example prints, where that is worth a closer look.
PRINTED: Final = {
    "provisional": "Speaker 1:\n[en] Good morning\n[Translation] [es] Buenos días\n\n"
    "Speaker 2:\n[en] Hello\nOutcome.FINISHED\n",
    "render_tokens(final, []))": "Speaker 1:\n[en] Good morning\n[Translation] [es] Buenos días\n\n"
    "Speaker 2:\n[en] Hello\n",
    "TOKEN_TEXT_END": "Good morning\nBuenos días Hello\n",
    ".completed:": "1: Good morning / Buenos días\n2: Hello / None\n",
    "shown = update.apply(shown)": "0 0 'I scream'\n0 3 'ice '\n",
    'Subtitles("vtt"': "WEBVTT\n\n00:00:00.000 --> 00:00:01.000\n<v Ann>Good morning</v>\n\n"
    "00:00:04.500 --> 00:00:05.500\n<v Speaker 2>Hello</v>\n\n\n",
    "captured_at=1_000.0": "Good morning 1000.0\n Hello 1005.5\n",
    "RealtimeSTTProtocol(config)": "Outcome.FINISHED\n",
}
EXPECTED: Final = {number_of(words): printed for words, printed in PRINTED.items()}


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_example(number: int, runs: list[Run]) -> None:
    done = runs[number].result()
    output, errors = done.stdout, done.stderr
    assert (done.returncode, errors) == (0, "")
    assert bool(output.strip()) == ("print(" in EXAMPLES[number])
    assert output.endswith(EXPECTED.get(number, ""))


def test_the_readme_has_examples_of_every_kind() -> None:
    everything = "\n".join(EXAMPLES)
    for words in ("SonioxClient()", "asyncio.run(", "trio.run(", "websocket_base_url=server.url"):
        assert words in everything


def test_every_link_leads_to_this_page_or_to_a_site() -> None:
    """A package index shows the page without the repository around it."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", TEXT, flags=re.S | re.M), re.M)
    anchors = {f"#{heading.lower().replace(' ', '-')}" for heading in headings}
    links = re.findall(r"\]\(([^)]+)\)", TEXT)
    assert links
    for link in links:
        assert link in anchors or link.startswith("https://"), link


def test_every_path_that_the_readme_names_exists() -> None:
    paths = re.findall(r"`((?:\.ci|tests|benchmarks|soniox_\w+)/[\w./-]+)`", TEXT)
    assert paths
    for path in paths:
        assert (README.parent / path).exists(), path


def test_every_module_of_the_layout_exists() -> None:
    (layout,) = re.findall(r"^```text\n(.*?)^```", TEXT, re.S | re.M)
    folder = README.parent
    for line in layout.splitlines():
        names, _, _ = line.strip().partition("  ")
        for name in names.split():
            if not line.startswith(" "):
                folder = README.parent / name
            path = folder if not line.startswith(" ") else folder / name
            assert path.is_dir() if name.endswith("/") else path.with_suffix(".py").is_file(), name


def test_the_table_of_endings_is_the_one_that_is_tested() -> None:
    assert outcome_table.written_table() == outcome_table.table(), (
        "run: python -m tests.support.outcome_table"
    )


def test_the_table_of_what_is_worth_retrying_is_the_one_that_the_core_goes_by() -> None:
    assert retry_table.written_table() == retry_table.table(), (
        "run: python -m tests.support.retry_table"
    )


def test_the_diagram_of_the_states_is_the_table_of_transitions() -> None:
    assert state_diagram.written_diagram() == state_diagram.diagram(), (
        "run: python -m tests.support.state_diagram"
    )


def test_the_table_of_costs_is_the_latest_that_was_measured() -> None:
    assert readme.written() == readme.measured(), "run: python -m benchmarks.readme"
