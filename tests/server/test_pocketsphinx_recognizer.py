"""Real speech becomes text; the rules of results hold for any speech."""

from __future__ import annotations

import array
import io
import itertools
import sys
import tracemalloc
import wave
from collections.abc import Iterable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from soniox_adapters.server import pocketsphinx_recognizer
from soniox_adapters.server.pocketsphinx_recognizer import (
    PocketsphinxRecognizer,
    load_pocketsphinx,
    pocketsphinx_installed,
)
from soniox_adapters.server.recognizer import AudioDecodeError
from soniox_proto import (
    TOKEN_TEXT_END,
    TOKEN_TEXT_FIN,
    RealtimeEvent,
    SonioxValidationError,
)
from tests.support.server.speech import SAMPLES, config, heard, needs_pocketsphinx, pieces_of

FIRST_SENTENCE = "good morning everyone welcome to the meeting"
SECOND_SENTENCE = "today we will talk about the weather in the city and the price of water"


def final_text(messages: Iterable[RealtimeEvent]) -> str:
    return "".join(token.text for m in messages for token in m.tokens if token.is_final)


def shown(message: RealtimeEvent) -> tuple[str, str]:
    """Return the final and the non-final text of a message."""
    tail = "".join(token.text for token in message.tokens if not token.is_final)
    return final_text([message]), tail


def progress(message: RealtimeEvent) -> tuple[int | None, int | None]:
    return message.final_audio_proc_ms, message.total_audio_proc_ms


def assert_rules_kept(messages: Sequence[RealtimeEvent]) -> None:
    final_ms = total_ms = last_end_ms = 0
    for message in messages:
        assert message.final_audio_proc_ms is not None
        assert message.total_audio_proc_ms is not None
        assert final_ms <= message.final_audio_proc_ms <= message.total_audio_proc_ms
        assert total_ms <= message.total_audio_proc_ms
        settled_ms = final_ms
        final_ms, total_ms = message.final_audio_proc_ms, message.total_audio_proc_ms
        assert not message.finished
        for token in message.tokens:
            if token.text in {TOKEN_TEXT_END, TOKEN_TEXT_FIN}:
                assert token.is_final
                continue
            assert token.start_ms is not None
            assert token.end_ms is not None
            assert token.confidence is not None
            assert max(last_end_ms, settled_ms) <= token.start_ms < token.end_ms <= total_ms + 10
            assert 0.0 <= token.confidence <= 1.0
            if token.is_final:
                last_end_ms = token.end_ms


@needs_pocketsphinx
class TestRealSpeech:
    @pytest.mark.parametrize("size", [1, 333, 3_840, 10_000_000])
    def test_the_meeting_is_understood_word_for_word(self, size: int) -> None:
        file = (SAMPLES / "meeting.wav").read_bytes()
        declared = config("auto", enable_endpoint_detection=True)
        messages = heard(pieces_of(file, size), declared)
        assert final_text(messages) == f"{FIRST_SENTENCE}<end> {SECOND_SENTENCE}<end>"
        assert_rules_kept(messages)
        words = [t for m in messages for t in m.tokens if t.is_final and t.start_ms is not None]
        times = {word.text.strip(): (word.start_ms, word.end_ms) for word in words}
        assert times["good"] == pytest.approx((180, 440), abs=50)
        assert times["today"] == pytest.approx((4_500, 4_950), abs=100)
        assert times["water"] == pytest.approx((8_230, 8_630), abs=50)

    def test_partial_hypotheses_change_and_settle(self, meeting: bytes) -> None:
        messages = heard([meeting], config())
        tails = [tail for _, tail in map(shown, messages) if tail]
        assert tails[0] == "good"
        assert len(set(tails)) > 20
        assert f" {SECOND_SENTENCE}" in tails
        assert final_text(messages) == f"{FIRST_SENTENCE} {SECOND_SENTENCE}"
        times = [message.total_audio_proc_ms or 0 for message in messages]
        assert min(later - earlier for earlier, later in itertools.pairwise(times)) >= 120

    @pytest.mark.parametrize("audio_format", ["pcm_s32le", "pcm_f32le", "pcm_s24be"])
    def test_lossless_formats_give_the_same_words(self, meeting: bytes, audio_format: str) -> None:
        sentence = array.array("h", meeting[: 32 * 4_000])
        if audio_format == "pcm_f32le":
            audio = array.array("f", (sample / 32_768 for sample in sentence)).tobytes()
        elif audio_format == "pcm_s32le":
            audio = array.array("i", (sample << 16 for sample in sentence)).tobytes()
        else:
            audio = b"".join((s << 8).to_bytes(3, "big", signed=True) for s in sentence)
        messages = heard(pieces_of(audio, 4_001), config(audio_format))
        assert final_text(messages) == FIRST_SENTENCE

    @pytest.mark.parametrize(("sample_rate", "channels"), [(8_000, 1), (44_100, 2)])
    def test_other_rates_are_understood_too(
        self, meeting: bytes, sample_rate: int, channels: int
    ) -> None:
        np, soxr = pytest.importorskip("numpy"), pytest.importorskip("soxr")
        samples = np.frombuffer(meeting[: 32 * 4_000], dtype="int16")
        resampled = soxr.resample(samples, 16_000, sample_rate)
        audio = np.repeat(resampled, channels).tobytes()
        file = io.BytesIO()
        with wave.open(file, "wb") as writer:
            writer.setparams((channels, 2, sample_rate, 0, "NONE", ""))
            writer.writeframes(audio)
        messages = heard(pieces_of(file.getvalue(), 3_001), config("wav"))
        words = [token for message in messages for token in message.tokens if token.is_final]
        assert len(words) >= 4
        (morning,) = [word for word in words if word.text == " morning"]
        assert (morning.start_ms, morning.end_ms) == pytest.approx((440, 950), abs=80)

    def test_finalize_amid_speech_settles_and_goes_on(self, meeting: bytes) -> None:
        stream = PocketsphinxRecognizer(config(enable_endpoint_detection=True))
        messages = stream.feed(meeting[: 32 * 1_600])
        answers = stream.finalize(trailing_silence_ms=100)
        assert final_text(answers) == "good morning everyone<fin>"
        assert answers[-1].tokens[-1].text == TOKEN_TEXT_FIN
        assert stream.final_audio_proc_ms == stream.total_audio_proc_ms
        messages += answers + stream.feed(meeting[32 * 1_600 : 32 * 4_000]) + stream.finish()
        assert final_text(messages).endswith(" welcome to the meeting<end>")
        assert_rules_kept(messages)
        stream.close()

    def test_the_end_of_audio_amid_speech_settles_it(self, meeting: bytes) -> None:
        messages = heard([meeting[: 32 * 3_070 + 7]], config(enable_endpoint_detection=True))
        assert final_text(messages) == FIRST_SENTENCE
        assert progress(messages[-1]) == (3_070, 3_070)

    def test_streams_side_by_side_and_one_after_the_other_hear_alike(self, meeting: bytes) -> None:
        first = [meeting[: 32 * 4_000]]
        fresh = heard(first, config())
        streams = [PocketsphinxRecognizer(config()) for _ in range(2)]
        found: list[list[RealtimeEvent]] = [[], []]
        for piece in pieces_of(first[0], 9_600):
            for messages, stream in zip(found, streams, strict=True):
                messages += stream.feed(piece)
        for stream in streams:
            stream.close()
        assert found == [fresh, fresh]
        assert heard(first, config()) == fresh

    def test_nothing_is_logged(self, meeting: bytes, capfd: pytest.CaptureFixture[str]) -> None:
        load_pocketsphinx()
        heard([meeting[:64_000], bytes(32_000)], config())
        assert capfd.readouterr() == ("", "")


class FakeEndpointer:
    """Speech is what is not zero; both decisions need a window of ten frames."""

    frame_bytes = 960

    def __init__(self, window: float, sample_rate: int) -> None:
        assert (window, sample_rate) == (0.3, 16_000)
        self.in_speech = False
        self._recent: list[bool] = []

    def process(self, frame: bytes) -> bytes | None:
        assert len(frame) == self.frame_bytes
        self._recent = [*self._recent[-9:], any(frame)]
        if len(self._recent) == 10 and len(set(self._recent)) == 1:
            self.in_speech = self._recent[0]
        return frame if self.in_speech else None


class FakeVoiceActivity:
    def __init__(self, sample_rate: int) -> None:
        assert sample_rate == 16_000

    def is_speech(self, frame: bytes) -> bool:
        return any(frame)


class FakeDecoder:
    """Hears a word in every 0.4 s of sound, whatever it is, and fillers in between."""

    made: list[FakeDecoder]

    def __init__(self, samprate: int, loglevel: str) -> None:
        assert (samprate, loglevel) == (16_000, "FATAL")
        self.made.append(self)
        self.in_utterance = False
        self.sound = b""
        self.longest_step = 0
        self.word_ms = 400
        self.resets = 0

    def start_utt(self) -> None:
        assert not self.in_utterance
        self.in_utterance, self.sound = True, b""

    def process_raw(self, data: bytes) -> None:
        assert self.in_utterance
        self.sound += data
        self.longest_step = max(self.longest_step, len(data))

    def end_utt(self) -> None:
        assert self.in_utterance
        self.in_utterance = False

    def reinit_feat(self) -> None:
        assert not self.in_utterance
        self.resets += 1

    def seg(self) -> list[SimpleNamespace] | None:
        silence_at = self.sound.find(bytes(960))
        loud = self.sound if silence_at < 0 else self.sound[:silence_at]
        step = self.word_ms // 10
        count = len(loud) // 32 // self.word_ms
        if not count:
            return None
        spellings = ("word", "will(2)", "[NOISE]", "it's(12)", "<sil>", "++BREATH++")
        words = [
            SimpleNamespace(
                word=spellings[index % len(spellings)],
                start_frame=index * step,
                end_frame=(index + 1) * step - 1,
                prob=0.75 if index else 1.0000001,
            )
            for index in range(count)
        ]
        return [SimpleNamespace(word="<s>", start_frame=0, end_frame=-1, prob=1.0), *words]


def sound(ms: int) -> bytes:
    return b"\x01\x02" * (16 * ms)


def silence(ms: int) -> bytes:
    return bytes(32 * ms)


@pytest.fixture
def decoders(monkeypatch: pytest.MonkeyPatch) -> list[FakeDecoder]:
    """The decoders made so far, in a world where speech recognition takes no time."""
    made: list[FakeDecoder] = []
    monkeypatch.setattr(FakeDecoder, "made", made, raising=False)
    package = SimpleNamespace(Decoder=FakeDecoder, Endpointer=FakeEndpointer, Vad=FakeVoiceActivity)
    monkeypatch.setitem(sys.modules, "pocketsphinx", package)
    fresh_pool = type(vars(pocketsphinx_recognizer)["_pool"])()
    monkeypatch.setattr(pocketsphinx_recognizer, "_pool", fresh_pool)
    return made


@pytest.mark.usefixtures("decoders")
class TestResults:
    @pytest.mark.parametrize("rate", [8_000, 16_000, 44_100, 48_000])
    def test_finalize_takes_all_audio_that_is_here(self, rate: int) -> None:
        stream = PocketsphinxRecognizer(config(sample_rate=rate))
        audio = bytes(2 * rate)
        for count in range(1, 4):
            stream.feed(audio[: 2 * (rate * 511 // 1000)])
            answer = stream.finalize()[-1]
            assert answer.total_audio_proc_ms == pytest.approx(511 * count, abs=1)
            assert answer.final_audio_proc_ms == answer.total_audio_proc_ms
        stream.close()

    def test_the_onset_of_speech_is_not_lost_by_a_finalize(self) -> None:
        stream = PocketsphinxRecognizer(config())
        (decoder,) = FakeDecoder.made
        messages = stream.feed(silence(600) + sound(100))
        messages += stream.finalize() + stream.feed(sound(1_190) + silence(1_500))
        assert final_text(messages) == "<fin>word will"
        assert decoder.sound.strip(b"\0") == sound(1_290)
        stream.close()

    @pytest.mark.parametrize(
        ("fields", "complaint"),
        [
            ({"enable_speaker_diarization": True}, "does not support speaker diarization"),
            (
                {"translation": {"type": "two_way", "language_a": "en", "language_b": "de"}},
                "does not support translations",
            ),
            ({"language_hints": ["de"], "language_hints_strict": True}, "Invalid language hint"),
        ],
    )
    def test_what_it_cannot_do_is_refused(self, fields: dict[str, Any], complaint: str) -> None:
        with pytest.raises(SonioxValidationError, match=complaint):
            PocketsphinxRecognizer(config(**fields))

    @pytest.mark.parametrize(
        "fields",
        [
            {"enable_speaker_diarization": False},
            {"language_hints": ["de"]},
            {"language_hints": ["de", "en"], "language_hints_strict": True},
            {"language_hints_strict": True},
        ],
    )
    def test_hints_are_hints(self, fields: dict[str, Any]) -> None:
        PocketsphinxRecognizer(config(**fields)).close()

    def test_an_utterance_from_its_first_sound_to_its_end(self) -> None:
        audio = [silence(600), sound(1_290), silence(1_110)]
        messages = heard(audio, config(enable_endpoint_detection=True))
        assert [(*progress(message), *shown(message)) for message in messages] == [
            (600, 1_020, "", "word"),
            (600, 1_500, "", "word will"),
            (2_400, 2_400, "word will<end>", ""),
        ]
        tokens = messages[-1].tokens
        assert [(t.start_ms, t.end_ms, t.confidence) for t in tokens[:2]] == [
            (600, 1_000, 1.0),
            (1_000, 1_400, 0.75),
        ]
        assert {token.confidence for token in messages[0].tokens} == {0.5}
        assert {token.language for token in tokens} == {None}

    def test_fillers_and_pronunciation_marks_are_not_text(self) -> None:
        messages = heard([sound(400 * 7), silence(1_000)], config())
        assert final_text(messages) == "word will it's word"

    def test_only_the_first_token_of_the_transcript_has_no_space(self) -> None:
        audio = [sound(450), silence(900), sound(450), silence(900)]
        messages = heard(audio, config(enable_endpoint_detection=True))
        assert final_text(messages) == "word<end> word<end>"

    def test_an_unchanged_tail_is_repeated_every_second_only(self) -> None:
        stream = PocketsphinxRecognizer(config())
        (decoder,) = FakeDecoder.made
        decoder.word_ms = 2_500
        messages = stream.feed(sound(4_500))
        # Nothing is understood yet at first; the progress is told all the same.
        assert [(m.total_audio_proc_ms, shown(m)[1]) for m in messages] == [
            (1_020, ""),
            (2_100, ""),
            (2_580, "word"),
            (3_660, "word"),
        ]
        stream.close()

    def test_silence_tells_the_progress_every_second(self) -> None:
        stream = PocketsphinxRecognizer(config())
        messages = stream.feed(silence(3_500))
        assert [progress(message) for message in messages] == [
            (720, 1_020),
            (1_740, 2_040),
            (2_760, 3_060),
        ]
        assert stream.total_audio_proc_ms == 3_480
        assert stream.finish() == []
        assert (stream.final_audio_proc_ms, stream.total_audio_proc_ms) == (3_500, 3_500)

    @pytest.mark.parametrize(
        ("max_endpoint_delay_ms", "end_ms"),
        [(500, 900), (None, 1_110), (2_000, 1_110), (3_000, 1_350)],
    )
    def test_the_pause_follows_the_endpoint_delay(
        self, max_endpoint_delay_ms: int | None, end_ms: int
    ) -> None:
        declared = config(
            enable_endpoint_detection=True, max_endpoint_delay_ms=max_endpoint_delay_ms
        )
        messages = heard([sound(600), silence(1_400)], declared)
        assert [m.total_audio_proc_ms for m in messages if shown(m)[0]] == [end_ms]
        assert end_ms - 600 <= (max_endpoint_delay_ms or 2_000)

    def test_a_pause_shorter_than_that_stays_inside_the_utterance(self) -> None:
        audio = [sound(600), silence(420), sound(600), silence(1_000)]
        messages = heard(audio, config(enable_endpoint_detection=True))
        assert final_text(messages).count(TOKEN_TEXT_END) == 1

    def test_noise_without_words_leaves_no_marker_but_clears_the_tail(self) -> None:
        messages = heard([sound(390), silence(900)], config(enable_endpoint_detection=True))
        assert list(map(shown, messages)) == [("", "")]

    def test_the_language_is_told_if_asked(self) -> None:
        declared = config(enable_language_identification=True)
        messages = heard([sound(900), silence(900)], declared)
        assert {token.language for message in messages for token in message.tokens} == {"en"}

    @settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(data=st.data())
    def test_do_not_depend_on_the_cuts(self, data: st.DataObject) -> None:
        whole = silence(130) + sound(1_000) + silence(900) + sound(700)
        positions = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=20)))
        edges = [0, *positions, len(whole)]
        pieces = [whole[start:end] for start, end in itertools.pairwise(edges)]
        assert heard(pieces, config()) == heard([whole], config())


@pytest.mark.usefixtures("decoders")
class TestFinalize:
    def test_in_silence_answers_with_fin_alone(self) -> None:
        stream = PocketsphinxRecognizer(config())
        stream.feed(silence(300))
        (answer,) = stream.finalize()
        assert shown(answer) == (TOKEN_TEXT_FIN, "")
        assert progress(answer) == (300, 300)

    def test_before_speech_is_sure_settles_what_is_before_it_only(self) -> None:
        stream = PocketsphinxRecognizer(config())
        stream.feed(silence(300) + sound(210))
        (answer,) = stream.finalize()
        assert progress(answer) == (210, 510)
        (word,) = [
            token
            for message in [*stream.feed(sound(500) + silence(900)), *stream.finish()]
            for token in message.tokens
            if token.is_final
        ]
        assert word.start_ms == 300

    def test_closes_the_utterance_so_that_silence_brings_no_other_marker(self) -> None:
        stream = PocketsphinxRecognizer(config(enable_endpoint_detection=True))
        stream.feed(sound(900))
        (answer,) = stream.finalize()
        assert shown(answer) == ("word will<fin>", "")
        messages = stream.feed(silence(2_000)) + stream.finish()
        assert final_text(messages) == ""
        assert_rules_kept([answer, *messages])

    @settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.lists(st.integers(0, 5_000), max_size=6))
    def test_at_any_time_keeps_the_rules(self, times: list[int]) -> None:
        audio = silence(400) + sound(1_700) + silence(900) + sound(2_000)
        stream = PocketsphinxRecognizer(config(enable_endpoint_detection=True))
        messages: list[RealtimeEvent] = []
        now = 0
        for time in sorted(times):
            messages += stream.feed(audio[32 * now : 32 * time])
            messages += stream.finalize()
            now = time
        messages += stream.feed(audio[32 * now :]) + stream.finish()
        stream.close()
        assert_rules_kept(messages)
        assert final_text(messages).count(TOKEN_TEXT_FIN) == len(times)


class TestEndlessSpeech:
    def test_is_cut_before_the_word_that_the_cut_would_go_through(
        self, decoders: list[FakeDecoder]
    ) -> None:
        stream = PocketsphinxRecognizer(config(enable_endpoint_detection=True))
        decoders[0].word_ms = 700
        messages = stream.feed(sound(20_400))
        settled = [message for message in messages if shown(message)[0]]
        assert len(settled) == 1
        # 28 words of 700 ms were heard in 20.01 s; the last, from 18.9 s on, is heard anew.
        assert progress(settled[0]) == (18_900, 20_010)
        messages += stream.feed(silence(900)) + stream.finish()
        stream.close()
        assert_rules_kept(messages)
        finals = [t for m in messages for t in m.tokens if t.is_final]
        starts = [t.start_ms for t in finals if t.start_ms is not None]
        assert len(starts) == len(set(starts))
        assert 18_900 in starts
        assert finals[-1].text == TOKEN_TEXT_END

    @pytest.mark.parametrize("word_ms", [19_000, 25_000])
    def test_is_cut_where_it_is_without_a_word_to_spare(
        self, decoders: list[FakeDecoder], word_ms: int
    ) -> None:
        stream = PocketsphinxRecognizer(config())
        decoders[0].word_ms = word_ms
        messages = stream.feed(sound(20_010))
        assert progress(messages[-1]) == (20_010, 20_010)
        stream.close()

    @pytest.mark.usefixtures("decoders")
    def test_ends_at_the_first_short_pause_once_it_is_long(self) -> None:
        audio = [sound(15_000), silence(330), sound(1_200), silence(900)]
        messages = heard(audio, config(enable_endpoint_detection=True))
        assert final_text(messages).count(TOKEN_TEXT_END) == 2
        assert_rules_kept(messages)

    @pytest.mark.usefixtures("decoders")
    def test_and_endless_silence_take_bounded_memory(self) -> None:
        stream = PocketsphinxRecognizer(config())
        second_of_each = [silence(1_000), sound(1_000)]

        def listen(seconds: int) -> int:
            for audio in second_of_each:
                for _ in range(seconds):
                    stream.feed(audio)
            return tracemalloc.get_traced_memory()[0]

        tracemalloc.start()
        early = listen(25)
        late = listen(120)
        tracemalloc.stop()
        assert late < early + 2_000_000
        stream.close()


class TestDecoders:
    def test_are_fed_in_small_steps(self, decoders: list[FakeDecoder]) -> None:
        heard([sound(1_000)], config())
        assert decoders[0].longest_step == 320

    def test_are_used_again_but_never_by_two_streams(self, decoders: list[FakeDecoder]) -> None:
        first, second = PocketsphinxRecognizer(config()), PocketsphinxRecognizer(config())
        assert len(decoders) == 2
        first.close()
        first.close()
        third = PocketsphinxRecognizer(config())
        assert (len(decoders), decoders[0].resets) == (2, 1)
        fourth = PocketsphinxRecognizer(config())
        assert len(decoders) == 3
        for stream in (second, third, fourth):
            stream.close()

    def test_are_given_back_amid_speech(self, decoders: list[FakeDecoder]) -> None:
        stream = PocketsphinxRecognizer(config())
        stream.feed(sound(1_000))
        stream.close()
        assert not decoders[0].in_utterance
        assert final_text(heard([sound(900), silence(900)], config())) == "word will"
        assert len(decoders) == 1

    def test_idle_ones_are_few(self, decoders: list[FakeDecoder]) -> None:
        streams = [PocketsphinxRecognizer(config()) for _ in range(4)]
        for stream in streams:
            stream.close()
        for _ in range(4):
            PocketsphinxRecognizer(config())
        assert len(decoders) == 6

    def test_can_be_loaded_ahead(self, decoders: list[FakeDecoder]) -> None:
        load_pocketsphinx()
        assert len(decoders) == 1
        PocketsphinxRecognizer(config())
        assert len(decoders) == 1


class TestWhatCannotBeServed:
    def test_no_pocketsphinx(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "pocketsphinx", None)
        assert not pocketsphinx_installed()
        with pytest.raises(SonioxValidationError, match=r"'pocketsphinx'.*soniox-proto\[local\]"):
            PocketsphinxRecognizer(config())

    @pytest.mark.usefixtures("decoders")
    def test_containers(self) -> None:
        with pytest.raises(SonioxValidationError, match="Invalid audio data format: webm"):
            PocketsphinxRecognizer(config("webm"))

    @pytest.mark.usefixtures("decoders")
    def test_audio_that_is_not_as_declared(self) -> None:
        stream = PocketsphinxRecognizer(config("auto"))
        with pytest.raises(AudioDecodeError, match="decode timeout"):
            stream.feed(bytes(12))
        stream.close()

    @pytest.mark.usefixtures("decoders")
    def test_audio_that_ends_in_its_header(self) -> None:
        stream = PocketsphinxRecognizer(config("auto"))
        assert stream.feed(b"RIFF") == []
        with pytest.raises(AudioDecodeError, match="ended after 4 bytes"):
            stream.finish()
