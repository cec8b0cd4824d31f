"""Scripts are played in the time of the received audio, and finalize never garbles them."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soniox_adapters.server import scripted_recognizer
from soniox_adapters.server.recognizer import AudioDecodeError, HeaderAwaitedError, Recognizer
from soniox_adapters.server.scripted_recognizer import (
    ASSUMED_BYTES_PER_SECOND,
    Script,
    ScriptedRecognizer,
    load_script,
    scripted,
)
from soniox_proto import (
    TOKEN_TEXT_END,
    TOKEN_TEXT_FIN,
    RealtimeEvent,
    RealtimeSTTConfig,
    SonioxValidationError,
)

MEETING = Path(scripted_recognizer.__file__).parent / "samples" / "meeting.wav"
TEXT = "Good morning everyone. Welcome to the meeting.\n\nToday we talk about water"
BYTES_PER_MS = 32


def config(**fields: object) -> RealtimeSTTConfig:
    return RealtimeSTTConfig.model_validate(
        {
            "model": "stt-rt-v5",
            "audio_format": "pcm_s16le",
            "sample_rate": 16_000,
            "num_channels": 1,
            **fields,
        }
    )


def recognizer(script: Script, **fields: object) -> Recognizer:
    return scripted(script)(config(**fields))


def audio(ms: int) -> bytes:
    return bytes(ms * BYTES_PER_MS)


def final(text: str, **fields: object) -> dict[str, Any]:
    return {"text": text, "is_final": True, **fields}


def tentative(text: str, **fields: object) -> dict[str, Any]:
    return {"text": text, "is_final": False, **fields}


def result(*tokens: dict[str, Any], **fields: object) -> dict[str, Any]:
    return {"tokens": list(tokens), **fields}


def shown(message: RealtimeEvent) -> tuple[str, str]:
    """Return the final and the non-final text of a message."""
    finals = "".join(token.text for token in message.tokens if token.is_final)
    return finals, "".join(token.text for token in message.tokens if not token.is_final)


def transcript(messages: Iterable[RealtimeEvent]) -> str:
    """Return the final text of messages, without markers."""
    return "".join(
        token.text
        for message in messages
        for token in message.tokens
        if token.is_final and token.text not in {TOKEN_TEXT_END, TOKEN_TEXT_FIN}
    )


def played(recognizer: Recognizer, ms: int, step_ms: int = 100) -> list[RealtimeEvent]:
    """Feed audio to the end and return all messages."""
    steps = [recognizer.feed(audio(step_ms)) for _ in range(ms // step_ms)]
    return [*itertools.chain(*steps), *recognizer.finish()]


def assert_rules_kept(messages: Sequence[RealtimeEvent]) -> None:
    final_ms = total_ms = 0
    for message in messages:
        assert message.final_audio_proc_ms is not None
        assert message.total_audio_proc_ms is not None
        assert final_ms <= message.final_audio_proc_ms <= message.total_audio_proc_ms
        assert total_ms <= message.total_audio_proc_ms
        final_ms, total_ms = message.final_audio_proc_ms, message.total_audio_proc_ms
        finality = [bool(token.is_final) for token in message.tokens]
        assert finality == sorted(finality, reverse=True)
        assert not message.finished


class TestMessages:
    def test_are_due_after_the_audio_they_name(self) -> None:
        player = recognizer(
            [
                result(tentative("hel"), total_audio_proc_ms=400),
                result(final("hello"), final_audio_proc_ms=700, total_audio_proc_ms=1_000),
            ]
        )
        assert player.feed(audio(399)) == []
        (first,) = player.feed(audio(1))
        assert shown(first) == ("", "hel")
        assert (first.final_audio_proc_ms, first.total_audio_proc_ms) == (0, 400)
        assert player.feed(audio(599)) == []
        (second,) = player.feed(audio(1))
        assert shown(second) == ("hello", "")
        assert (player.final_audio_proc_ms, player.total_audio_proc_ms) == (700, 1_000)

    def test_without_times_are_spread_evenly(self) -> None:
        script = [result(final("a", end_ms=180)), result(final("b")), result(final("c"))]
        player = scripted(script, ms_per_message=250)(config())
        messages = [player.feed(audio(250)) for _ in range(4)]
        assert [list(map(shown, due)) for due in messages] == [
            [("a", "")],
            [("b", "")],
            [("c", "")],
            [],
        ]
        assert [due[0].total_audio_proc_ms for due in messages[:3]] == [250, 500, 750]
        assert [due[0].final_audio_proc_ms for due in messages[:3]] == [180, 180, 180]
        assert player.total_audio_proc_ms == 1_000

    def test_without_times_follow_those_with_times(self) -> None:
        player = recognizer([result(total_audio_proc_ms=1_000), result(), result()])
        assert [message.total_audio_proc_ms for message in played(player, 1_400)] == [
            1_000,
            1_200,
            1_400,
        ]

    def test_times_that_go_back_are_held(self) -> None:
        script = [
            result(total_audio_proc_ms=800, final_audio_proc_ms=700),
            result(total_audio_proc_ms=500, final_audio_proc_ms=900),
        ]
        messages = recognizer(script).feed(audio(800))
        assert len(messages) == 2
        assert_rules_kept(messages)

    def test_keep_every_field_of_the_wire(self) -> None:
        token = final(
            "Hallo",
            speaker="2",
            language="de",
            translation_status="translation",
            source_language="en",
            brand_new=[1],
        )
        event = RealtimeEvent.model_validate(result(token, also_new=True))
        for script in ([event], [MappingProxyType(result(token, also_new=True))]):
            (message,) = recognizer(script).feed(audio(200))
            assert message.tokens == event.tokens
            assert message.model_extra == {"also_new": True}

    def test_leave_the_finished_response_and_fin_to_others(self) -> None:
        script = [result(final("a"), final(TOKEN_TEXT_FIN)), result(finished=True)]
        messages = played(recognizer(script), 1_000)
        assert list(map(shown, messages)) == [("a", ""), ("", "")]
        assert_rules_kept(messages)

    def test_errors_are_delivered_as_they_are(self) -> None:
        error = {"error_code": 503, "error_type": "service_unavailable", "error_message": "Bye."}
        (message,) = recognizer([error]).feed(audio(200))
        assert message == RealtimeEvent.model_validate(error)

    def test_are_the_same_for_every_stream_of_a_factory(self) -> None:
        factory = scripted([result(tentative("a")), result(final("a"))])
        first = played(factory(config()), 1_000)
        second = factory(config())
        assert second.finalize() != []
        assert played(factory(config()), 1_000) == first

    @pytest.mark.parametrize(
        ("script", "complaint"),
        [
            ([{}, {"tokens": [{"is_final": True}]}], r"message 2 .*tokens\.0\.text"),
            (["hello"], "message 1 "),
        ],
    )
    def test_that_are_none_are_refused_at_once(self, script: Any, complaint: str) -> None:
        with pytest.raises(SonioxValidationError, match=complaint):
            scripted(script)

    @pytest.mark.parametrize("name", ["ms_per_message", "ms_per_word", "assumed_bytes_per_second"])
    def test_need_a_pace(self, name: str) -> None:
        with pytest.raises(SonioxValidationError, match=f"{name} must be 1 or more, not 0"):
            scripted([], **{name: 0})

    def test_none_at_all_is_a_silent_stream(self) -> None:
        player = recognizer([])
        assert played(player, 1_000) == []
        assert (player.final_audio_proc_ms, player.total_audio_proc_ms) == (1_000, 1_000)


class TestFinish:
    def test_delivers_what_is_left(self) -> None:
        script = [result(tentative("a")), result(final("a")), result(final(" b"))]
        player = recognizer(script)
        assert len(player.feed(audio(200))) == 1
        messages = player.finish()
        assert list(map(shown, messages)) == [("a", ""), (" b", "")]
        assert player.final_audio_proc_ms == player.total_audio_proc_ms == 600

    def test_settles_a_tail_that_the_script_leaves_open(self) -> None:
        player = recognizer([result(final("a")), result(tentative(" b"))])
        messages = played(player, 1_000)
        assert list(map(shown, messages)) == [("a", ""), ("", " b"), (" b", "")]
        assert_rules_kept(messages)
        player.close()
        player.close()


class TestFinalize:
    SCRIPT = (
        result(tentative("go")),
        result(tentative("good"), tentative(" more")),
        result(final("Good"), tentative(" morning"), tentative(" all")),
        result(final(" morning"), final("!"), final(TOKEN_TEXT_END)),
        result(tentative(" Tod")),
        result(final(" Today"), tentative(" we")),
    )
    WHOLE = "Good morning! Today we"

    def test_with_nothing_outstanding_answers_with_fin_alone(self) -> None:
        player = recognizer(self.SCRIPT)
        player.feed(audio(100))
        (answer,) = player.finalize(trailing_silence_ms=300)
        assert shown(answer) == ("<fin>", "")
        assert (answer.final_audio_proc_ms, answer.total_audio_proc_ms) == (100, 100)

    def test_settles_the_tail_as_the_script_will(self) -> None:
        player = recognizer(self.SCRIPT)
        player.feed(audio(400))
        (answer,) = player.finalize()
        assert shown(answer) == ("Good morning<fin>", "")
        assert list(map(shown, player.feed(audio(400)))) == [("", " all"), ("!<end>", "")]

    def test_settles_a_tail_as_it_is_if_the_script_never_does(self) -> None:
        script = [result(tentative("a")), result(tentative("a"), tentative(" b")), result()]
        player = recognizer(script)
        player.feed(audio(200))
        assert shown(player.finalize()[-1]) == ("a<fin>", "")
        assert list(map(shown, player.feed(audio(200)))) == [("", " b")]
        assert shown(player.finalize()[-1]) == (" b<fin>", "")
        assert list(map(shown, player.finish())) == [("", "")]

    @given(st.lists(st.integers(0, 1_400), max_size=6))
    def test_at_any_time_leaves_the_transcript_whole(self, times: list[int]) -> None:
        player = recognizer(self.SCRIPT)
        messages: list[RealtimeEvent] = []
        now = 0
        for time in sorted(times):
            messages += player.feed(audio(time - now))
            answers = player.finalize()
            assert answers[-1].tokens[-1].text == TOKEN_TEXT_FIN
            messages += answers
            now = time
        messages += player.finish()
        assert transcript(messages) == self.WHOLE
        assert_rules_kept(messages)
        markers = [t.text for m in messages for t in m.tokens if t.text == TOKEN_TEXT_END]
        assert markers == [TOKEN_TEXT_END]


class TestText:
    def test_shows_each_word_half_then_whole_then_final(self) -> None:
        messages = played(recognizer("one two three four"), 1_800, step_ms=150)
        assert list(map(shown, messages)) == [
            ("", "on"),
            ("", "one"),
            ("", "one t"),
            ("", "one two"),
            ("", "one two th"),
            ("", "one two three"),
            ("", "one two three fo"),
            ("", "one two three four"),
            ("one two three four", ""),
        ]
        assert_rules_kept(messages)

    def test_words_become_final_in_windows_and_late(self) -> None:
        # What users have measured: windows of two seconds, four seconds late.
        player = scripted(" ".join(["word"] * 100))(config())
        final_at_ms: dict[int, int] = {}
        for now_ms in range(10, 40_000, 10):
            for message in player.feed(audio(10)):
                for token in message.tokens:
                    if token.is_final:
                        final_at_ms[token.end_ms or 0] = now_ms
        assert len(final_at_ms) == 100
        late_ms = sorted(at_ms - end_ms for end_ms, at_ms in final_at_ms.items())
        assert late_ms[0] > 2_900
        assert late_ms[-1] < 5_800
        assert 3_500 < sum(late_ms) / len(late_ms) < 4_500
        windows = sorted(set(final_at_ms.values()))
        assert all(1_500 < later - at < 2_500 for at, later in itertools.pairwise(windows))

    @pytest.mark.parametrize(("options", "delay_ms"), [({}, 650), ({"delay_ms": 0}, 0)])
    def test_a_word_is_shown_some_time_after_it_was_spoken(
        self, options: dict[str, int], delay_ms: int
    ) -> None:
        player = scripted("one two", ms_per_word=500, **options)(config())
        if delay_ms:
            assert player.feed(audio(249 + delay_ms)) == []
            shown_first = player.feed(audio(1))
        else:
            shown_first = player.feed(audio(250))
        assert list(map(shown, shown_first)) == [("", "on")]
        assert shown_first[0].total_audio_proc_ms == 250

    def test_a_finalize_does_not_wait_for_what_was_spoken(self) -> None:
        player = scripted("one two three", ms_per_word=500)(config())
        assert player.feed(audio(600)) == []
        (answer,) = player.finalize()
        assert shown(answer) == ("one<fin>", "")

    def test_a_delay_is_no_less_than_none(self) -> None:
        with pytest.raises(SonioxValidationError, match="delay_ms must be 0 or more, not -1"):
            scripted("one", delay_ms=-1)

    def test_words_carry_times_and_confidence(self) -> None:
        factory = scripted("one two", ms_per_word=500)
        messages = played(factory(config()), 2_000)
        tokens = [token for message in messages for token in message.tokens if token.is_final]
        assert [(token.text, token.start_ms, token.end_ms) for token in tokens] == [
            ("one", 0, 500),
            (" two", 500, 1_000),
        ]
        assert all(0 < (t.confidence or 0) < 1 for m in messages for t in m.tokens)
        assert {token.language for token in tokens} == {None}

    def test_sentences_and_lines_end_utterances(self) -> None:
        messages = played(recognizer(TEXT, enable_endpoint_detection=True), 6_000)
        words = [t.text for m in messages for t in m.tokens if t.is_final]
        assert "".join(words) == (
            "Good morning everyone.<end> Welcome to the meeting.<end>"
            " Today we talk about water<end>"
        )
        assert_rules_kept(messages)

    def test_without_endpoint_detection_has_no_markers(self) -> None:
        messages = played(recognizer(TEXT), 6_000)
        assert transcript(messages) == " ".join(TEXT.split())
        assert all(token.text != TOKEN_TEXT_END for m in messages for token in m.tokens)

    @pytest.mark.parametrize(("hints", "language"), [(None, "en"), (["sl", "de"], "sl")])
    def test_names_the_language_if_asked(self, hints: list[str] | None, language: str) -> None:
        player = recognizer("dober dan", enable_language_identification=True, language_hints=hints)
        tokens = [token for message in played(player, 2_000) for token in message.tokens]
        assert {token.language for token in tokens} == {language}

    @pytest.mark.parametrize(
        ("fields", "complaint"),
        [
            ({"enable_speaker_diarization": True}, "does not support speaker diarization"),
            (
                {"translation": {"type": "one_way", "target_language": "es"}},
                "does not support translations",
            ),
        ],
    )
    def test_what_a_text_cannot_hold_is_refused(
        self, fields: dict[str, Any], complaint: str
    ) -> None:
        with pytest.raises(SonioxValidationError, match=complaint):
            recognizer(TEXT, **fields)
        assert recognizer([result(final("a", speaker="1"))], **fields).feed(audio(200))

    def test_empty_text_says_nothing(self) -> None:
        assert played(recognizer(" \n\n "), 2_000) == []

    @given(st.lists(st.integers(0, 5_000), max_size=5))
    def test_finalized_at_any_time_stays_whole(self, times: list[int]) -> None:
        player = recognizer(TEXT, enable_endpoint_detection=True)
        messages: list[RealtimeEvent] = []
        now = 0
        for time in sorted(times):
            messages += player.feed(audio(time - now))
            messages += player.finalize()
            now = time
        messages += player.finish()
        assert transcript(messages) == " ".join(TEXT.split())
        assert_rules_kept(messages)


class TestTime:
    @given(data=st.data())
    def test_does_not_depend_on_the_cuts(self, data: st.DataObject) -> None:
        whole = audio(3_000)
        positions = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=20)))
        player = recognizer(TEXT)
        edges = [0, *positions, len(whole)]
        pieces = [player.feed(whole[start:end]) for start, end in itertools.pairwise(edges)]
        assert list(itertools.chain(*pieces)) == recognizer(TEXT).feed(whole)

    def test_of_raw_audio_comes_from_the_configuration(self) -> None:
        player = recognizer([], audio_format="pcm_s24be", sample_rate=48_000, num_channels=2)
        player.feed(bytes(288_000))
        assert player.total_audio_proc_ms == 1_000

    @pytest.mark.parametrize("audio_format", ["wav", "auto"])
    def test_of_wav_audio_comes_from_its_header(self, audio_format: str) -> None:
        recording = MEETING.read_bytes()
        player = recognizer([], audio_format=audio_format)
        for byte in recording[:64]:
            player.feed(bytes([byte]))
        player.feed(recording[64:])
        assert player.total_audio_proc_ms == 10_010

    @pytest.mark.parametrize("audio_format", ["mp3", "webm", "auto"])
    def test_of_other_containers_is_assumed(self, audio_format: str) -> None:
        player = recognizer([], audio_format=audio_format)
        player.feed(b"\x1a\x45\xdf\xa3")
        player.feed(bytes(ASSUMED_BYTES_PER_SECOND - 4))
        assert player.total_audio_proc_ms == 1_000
        paced = scripted([], assumed_bytes_per_second=4_000)(config(audio_format=audio_format))
        paced.feed(b"\x1a\x45\xdf\xa3")
        paced.feed(bytes(3_996))
        assert paced.total_audio_proc_ms == 1_000

    def test_raw_audio_that_is_to_be_detected_is_told(self) -> None:
        player = recognizer([], audio_format="auto")
        assert player.feed(bytes(11)) == []
        with pytest.raises(HeaderAwaitedError):
            player.feed(bytes(1))

    def test_declared_wav_must_be_wav(self) -> None:
        with pytest.raises(AudioDecodeError, match="WAV header"):
            recognizer([], audio_format="wav").feed(b"OggS")


class TestLoadScript:
    MESSAGES = (result(tentative("a")), result(final("a \u2028 b")))

    @pytest.mark.parametrize("suffix", ["json", "JSON"])
    def test_list_of_messages(self, tmp_path: Path, suffix: str) -> None:
        file = tmp_path / f"script.{suffix}"
        file.write_text(json.dumps(self.MESSAGES), encoding="utf-8")
        assert load_script(file) == [RealtimeEvent.model_validate(m) for m in self.MESSAGES]

    @pytest.mark.parametrize("suffix", ["jsonl", "ndjson"])
    def test_one_message_a_line(self, tmp_path: Path, suffix: str) -> None:
        file = tmp_path / f"script.{suffix}"
        lines = [json.dumps(message, ensure_ascii=False) for message in self.MESSAGES]
        file.write_text("\n\n".join(lines) + "\n", encoding="utf-8")
        assert load_script(str(file)) == [RealtimeEvent.model_validate(m) for m in self.MESSAGES]

    @pytest.mark.parametrize("name", ["script.txt", "script"])
    def test_plain_text(self, tmp_path: Path, name: str) -> None:
        (tmp_path / name).write_text("Dober dan, Želimlje!\n", encoding="utf-8")
        assert load_script(tmp_path / name) == "Dober dan, Želimlje!\n"

    @pytest.mark.parametrize(
        ("name", "content", "complaint"),
        [
            ("script.json", b"{", "script.json is not valid JSON"),
            ("script.json", b"{}", "must be a list of result messages, not dict"),
            ("script.json", b'[{"tokens": 1}]', "script.json: message 1 .*tokens"),
            ("script.jsonl", b"{}\n\n{oops\n", "not valid JSON: line 3: "),
            ("script.txt", b"\xff\xfe", "cannot read the script"),
        ],
    )
    def test_what_is_no_script_is_told(
        self, tmp_path: Path, name: str, content: bytes, complaint: str
    ) -> None:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(SonioxValidationError, match=complaint):
            load_script(tmp_path / name)

    def test_a_missing_file_is_told(self, tmp_path: Path) -> None:
        with pytest.raises(SonioxValidationError, match=r"cannot read the script .*nowhere\.txt"):
            load_script(tmp_path / "nowhere.txt")


def test_needs_none_of_the_packages_for_recognition() -> None:
    program = (
        "import sys\n"
        "for name in ('numpy', 'soxr', 'soundfile', 'pocketsphinx'): sys.modules[name] = None\n"
        "from soniox_adapters.server.scripted_recognizer import scripted\n"
        "from soniox_proto import RealtimeSTTConfig\n"
        "player = scripted('hello', delay_ms=0)(RealtimeSTTConfig(model='m', audio_format='mp3'))\n"
        "print(len(player.feed(bytes(16_000))))\n"
    )
    path = [str(Path(__file__).parents[2]), *sys.path]
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:] = {path!r}\n{program}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("2\n", "")


def test_cues_can_be_given_directly() -> None:
    message = RealtimeEvent.model_validate(result(final("now")))
    player = ScriptedRecognizer(config(), [(0, message)])
    assert list(map(shown, player.feed(b""))) == [("now", "")]
