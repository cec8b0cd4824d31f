"""Every example of the README runs, as it stands there."""

import re
import shutil
from pathlib import Path

import pytest

from benchmarks import readme
from soniox_adapters import client as client_module
from soniox_adapters.server import LocalServer, run_in_thread
from tests.support import outcome_table, retry_table

README = Path(__file__).parent.parent / "README.md"
SAMPLE = Path(client_module.__file__).parent / "server" / "samples" / "meeting.wav"

EXAMPLES = re.findall(r"^```python\n(.*?)^```", README.read_text(encoding="utf-8"), re.S | re.M)


def test_the_readme_has_examples_of_every_kind() -> None:
    everything = "\n".join(EXAMPLES)
    for word in ("SonioxClient()", "asyncio.run", "trio.run", "RealtimeSTTConnection("):
        assert word in everything


@pytest.mark.parametrize("example", EXAMPLES, ids=range(len(EXAMPLES)))
def test_example(
    example: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # The examples speak to the real service; here the local one stands in for it.
    with run_in_thread(LocalServer(recognizer="scripted")) as server:
        monkeypatch.setattr(client_module, "DEFAULT_WEBSOCKET_URL", server.url)
        monkeypatch.setenv("SONIOX_API_KEY", "key")
        monkeypatch.chdir(tmp_path)
        shutil.copy(SAMPLE, tmp_path / "meeting.wav")
        exec(compile(example, str(README), "exec"), {"__name__": "__main__"})
    assert "print(" not in example or capsys.readouterr().out.strip()


def test_the_table_of_endings_is_the_one_that_is_tested() -> None:
    assert outcome_table.written_table() == outcome_table.table(), (
        "run: python -m tests.support.outcome_table"
    )


def test_the_table_of_what_is_worth_retrying_is_the_one_that_the_core_goes_by() -> None:
    assert retry_table.written_table() == retry_table.table(), (
        "run: python -m tests.support.retry_table"
    )


def test_the_table_of_costs_is_the_latest_that_was_measured() -> None:
    assert readme.written() == readme.measured(), "run: python -m benchmarks.readme"
