"""Recognizers in processes of their own."""

from __future__ import annotations

import io
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from soniox_adapters.server import recognizer_process
from soniox_adapters.server.pocketsphinx_recognizer import PocketsphinxRecognizer
from soniox_adapters.server.recognizer import AudioDecodeError, Recognizer
from soniox_adapters.server.recognizer_process import OwnProcess
from soniox_proto import RealtimeEvent, RealtimeSTTConfig, SonioxError, SonioxValidationError
from tests.support.server.speech import config, heard, needs_pocketsphinx, pieces_of


class Parrot:
    """A recognizer that tells what it is told, and in which process."""

    def __init__(self, config: RealtimeSTTConfig) -> None:
        if config.client_reference_id == "refuse":
            raise SonioxValidationError("refused")
        self.final_audio_proc_ms = 0
        self.total_audio_proc_ms = 0

    def feed(self, audio: bytes) -> list[RealtimeEvent]:
        os.write(1, b"libraries print\n")
        if audio == b"undecodable":
            raise AudioDecodeError("not audio")
        if audio == b"hang":
            time.sleep(60)
        if audio == b"die":
            os._exit(3)
        if audio == b"bug":
            raise KeyError("bug")
        self.total_audio_proc_ms += len(audio)
        return [RealtimeEvent(pid=os.getpid(), size=len(audio))]  # type: ignore[call-arg]

    def finalize(self, trailing_silence_ms: int | None = None) -> list[RealtimeEvent]:
        self.final_audio_proc_ms = trailing_silence_ms or 0
        return []

    def finish(self) -> list[RealtimeEvent]:
        return [RealtimeEvent(final_audio_proc_ms=self.final_audio_proc_ms)]

    def close(self) -> None:
        """Hold nothing."""


def pid_of(stream: Recognizer) -> int:
    (message,) = stream.feed(b"")
    pid = (message.model_extra or {})["pid"]
    assert isinstance(pid, int)
    return pid


@pytest.fixture
def parrots() -> Iterator[OwnProcess]:
    factory = OwnProcess(Parrot, max_idle_processes=1)
    yield factory
    factory.close()


class TestOwnProcess:
    @needs_pocketsphinx
    def test_hears_what_is_heard_in_this_one(self, meeting: bytes) -> None:
        factory = OwnProcess(PocketsphinxRecognizer)
        factory.preload()
        audio = list(pieces_of(meeting[: 32 * 4_000], 9_600))
        assert heard(audio, config(), factory) == heard(audio, config())
        factory.close()

    def test_carries_calls_and_answers(self, parrots: OwnProcess) -> None:
        stream = parrots(config())
        large = bytes(3_000_000)
        (message,) = stream.feed(large)
        assert (message.model_extra or {})["size"] == len(large)
        assert stream.finalize(250) == []
        assert (stream.final_audio_proc_ms, stream.total_audio_proc_ms) == (250, 3_000_000)
        assert stream.finish() == [RealtimeEvent(final_audio_proc_ms=250)]
        stream.close()
        stream.close()

    def test_is_another_one_for_each_stream_and_used_again(self, parrots: OwnProcess) -> None:
        first, second = parrots(config()), parrots(config())
        pids = {os.getpid(), pid_of(first), pid_of(second)}
        assert len(pids) == 3
        kept = pid_of(first)
        first.close()
        second.close()
        third = parrots(config())
        assert pid_of(third) == kept
        assert third.total_audio_proc_ms == 0
        third.close()

    def test_passes_errors_on_and_stays_usable(self, parrots: OwnProcess) -> None:
        stream = parrots(config())
        pid = pid_of(stream)
        with pytest.raises(AudioDecodeError, match="not audio"):
            stream.feed(b"undecodable")
        stream.close()
        with pytest.raises(SonioxValidationError, match="refused"):
            parrots(config(client_reference_id="refuse"))
        stream = parrots(config())
        assert pid_of(stream) == pid
        stream.close()

    @pytest.mark.parametrize(("word", "status"), [(b"die", 3), (b"bug", 1)])
    def test_that_ends_is_told_and_replaced(
        self, parrots: OwnProcess, word: bytes, status: int
    ) -> None:
        stream = parrots(config())
        pid = pid_of(stream)
        with pytest.raises(SonioxError, match=f"ended unexpectedly, with exit status {status}"):
            stream.feed(word)
        with pytest.raises(SonioxError, match="ended unexpectedly"):
            stream.feed(b"")
        stream.close()
        stream = parrots(config())
        assert pid_of(stream) != pid
        stream.close()

    def test_is_not_used_again_after_an_interrupted_call(
        self, parrots: OwnProcess, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def interrupted(*_: object) -> object:
            raise KeyboardInterrupt

        stream = parrots(config())
        with monkeypatch.context() as patch:
            patch.setattr(pickle, "load", interrupted)
            with pytest.raises(KeyboardInterrupt):
                stream.feed(b"")
        with pytest.raises(SonioxError, match="ended unexpectedly"):
            stream.feed(b"")
        stream.close()

    def test_ends_with_its_stream_once_the_factory_is_closed(self, parrots: OwnProcess) -> None:
        stream = parrots(config())
        parrots.close()
        assert pid_of(stream) != os.getpid()
        stream.close()
        with pytest.raises(AssertionError):
            stream.feed(b"")

    def test_are_all_ended_at_once(self, parrots: OwnProcess) -> None:
        at_work, between_calls = parrots(config()), parrots(config())
        pids = [pid_of(at_work), pid_of(between_calls)]
        with ThreadPoolExecutor() as executor:
            call = executor.submit(at_work.feed, b"hang")
            parrots.kill()
            with pytest.raises(SonioxError, match="ended unexpectedly"):
                call.result()
        with pytest.raises(SonioxError, match="ended unexpectedly"):
            between_calls.feed(b"")
        for pid in pids:
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)
        with pytest.raises(SonioxError, match="were ended"):
            parrots(config())
        at_work.close()
        between_calls.close()
        parrots.kill()

    def test_that_cannot_start_is_told(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "executable", "/nowhere/python")
        with pytest.raises(SonioxError, match="cannot start a process"):
            OwnProcess(Parrot)(config())

    def test_needs_a_factory_that_it_can_import(self) -> None:
        def local(config: RealtimeSTTConfig) -> Recognizer:
            return Parrot(config)

        for factory in (local, lambda config: Parrot(config)):
            with pytest.raises(SonioxValidationError, match="top level of a module"):
                OwnProcess(factory)

    def test_far_end_serves_until_there_are_no_more_requests(self) -> None:
        # The far end runs in processes that no coverage is measured in.
        serve: Callable[[str, io.BytesIO, io.BytesIO], None] = vars(recognizer_process)["_serve"]
        requests, answers = io.BytesIO(), io.BytesIO()
        calls: list[tuple[str, tuple[Any, ...]]] = [
            ("open", (config(),)),
            ("finalize", (90,)),
            ("feed", (b"undecodable",)),
            ("close", ()),
        ]
        for call in calls:
            pickle.dump(call, requests)
        requests.seek(0)
        serve(f"{__name__}:Parrot", requests, answers)
        answers.seek(0)
        assert [pickle.load(answers) for _ in range(2)] == [([], 0, 0), ([], 90, 0)]
        assert isinstance(pickle.load(answers), AudioDecodeError)
        assert pickle.load(answers) == ([], 90, 0)


@pytest.mark.parametrize("cut", [False, True])
def test_a_process_whose_parent_is_gone_ends_quietly(cut: bool) -> None:
    program = vars(recognizer_process)["_WORKER_PROGRAM"]
    process = subprocess.Popen(
        [sys.executable, "-c", program, f"{__name__}:Parrot", *sys.path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    request = pickle.dumps(("open", (RealtimeSTTConfig(model="m"),)))
    assert process.stdout is not None
    process.stdout.close()
    _, errors = process.communicate(request[:-10] if cut else request)
    assert (process.returncode, errors) == (0, b"")
