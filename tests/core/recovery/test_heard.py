"""What of a new connection's results is new, case by case."""

from __future__ import annotations

from typing import Any

import pytest

from soniox_proto import RealtimeEvent
from soniox_proto.clock_map import ClockMap
from soniox_proto.recovery.heard import Heard, LinkTranscript, Marker


def token(text: str, begin: int | None, end: int | None, **fields: Any) -> dict[str, Any]:
    times = {} if begin is None else {"start_ms": begin, "end_ms": end}
    return {"text": text, "is_final": True, **times, **fields}


def translation(text: str, **fields: Any) -> dict[str, Any]:
    return token(text, None, None, translation_status="translation", **fields)


def original(text: str, begin: int, end: int) -> dict[str, Any]:
    return token(text, begin, end, translation_status="original")


class Links:
    """Connections one after the other; the later ones replay from `lead_in_ms` before the end."""

    def __init__(self, lead_in_ms: int = 1000) -> None:
        self.heard = Heard()
        self.lead_in_ms = lead_in_ms
        self.begins = 0
        self.distinct = True
        self.number = 0
        self.link = self._link()

    def _link(self) -> LinkTranscript:
        self.number += 1
        return LinkTranscript(
            self.heard,
            ClockMap(float(self.begins)),
            number=self.number,
            replays=self.begins < self.heard.position_ms,
            distinct_speakers=self.distinct,
        )

    def cut(self, begins: int | None = None) -> None:
        """Begin a new connection; its times count from `begins`."""
        self.begins = self.heard.needed_from_ms(self.lead_in_ms) if begins is None else begins
        self.link = self._link()

    def read(self, *tokens: dict[str, Any], **fields: Any) -> list[str]:
        """Read a message whose times are those of the user's audio; return the texts."""
        return [one.text for one in self.event(*tokens, **fields).tokens]

    def event(self, *tokens: dict[str, Any], **fields: Any) -> RealtimeEvent:
        for one in tokens:
            for name in ("start_ms", "end_ms"):
                if name in one:
                    one[name] -= self.begins
        message, self.markers = self.link.read(
            RealtimeEvent.model_validate({"tokens": list(tokens), **fields}), 10**6
        )
        return message

    markers: list[Marker]


def test_what_was_given_before_is_left_out() -> None:
    links = Links()
    assert links.read(token(" one", 0, 300), token(" two", 400, 700)) == [" one", " two"]
    links.cut()
    again = [token(" one", 0, 300), token(" two", 400, 700), token(" three", 800, 1100)]
    assert links.read(*again) == [" three"]
    assert links.read(token(" four", 1200, 1300)) == [" four"]


@pytest.mark.parametrize(
    ("pieces", "new"),
    [
        ([(" talk", 0, 400)], ["k"]),
        ([(" ta", 0, 200), ("lk", 200, 400)], ["k"]),
        ([(" tal", 0, 300), ("k", 300, 400)], ["k"]),
        ([(" talk", 15, 415)], ["k"]),
        ([(" tal", 0, 310)], []),
        ([(" tal", 0, 310), ("king", 310, 800)], ["king"]),
        ([(" talk", 0, 400), (" no", 500, 600)], ["k", " no"]),
    ],
)
def test_of_a_word_that_was_begun_only_the_rest_is_given(
    pieces: list[tuple[str, int, int]], new: list[str]
) -> None:
    links = Links()
    links.read(token(" ta", 0, 200), token("l", 200, 300))
    links.cut()
    event = links.event(*(token(*piece) for piece in pieces))
    assert [one.text for one in event.tokens] == new
    if new == ["k"]:
        assert event.tokens[0].start_ms == 300 - links.begins or event.tokens[0].start_ms == 300


def test_provisional_tokens_are_filtered_alike_and_change_nothing() -> None:
    links = Links()
    links.read(token(" tal", 0, 300))
    links.cut()
    tail = [token(" talk", 0, 400, is_final=False), token(" to", 500, 600, is_final=False)]
    assert links.read(*(dict(one) for one in tail)) == ["k", " to"]
    assert links.read(*(dict(one) for one in tail)) == ["k", " to"]
    assert links.read(token(" talk", 0, 400), token(" too", 500, 600, is_final=False)) == [
        "k",
        " too",
    ]


def test_scripts_without_spaces_have_words_of_one_token() -> None:
    links = Links()
    links.read(token("你", 0, 200), token("好", 200, 400))
    links.cut()
    again = [token("你", 0, 200), token("好", 200, 410), token("吗", 420, 600)]
    assert links.read(*again) == ["吗"]


def test_audio_behind_the_end_of_the_text_is_not_filtered() -> None:
    links = Links()
    links.read(token(" one", 0, 300))
    links.cut(begins=5000)
    assert links.read(token(" two", 5000, 5300)) == [" two"]


def test_the_end_of_a_long_text_is_remembered() -> None:
    links = Links()
    for at in range(0, 300_000, 100):
        links.read(token(" ab", at, at + 90))
    links.cut()
    assert links.begins >= 298_000
    again = [token(" ab", at, at + 90) for at in range(299_000, 300_000, 100)]
    assert links.read(*again, token(" cd", 300_000, 300_200)) == [" cd"]


class TestTheSameWordsAgain:
    """What a second recognition may do to the words before a cut."""

    @pytest.mark.parametrize(
        ("given", "again", "new"),
        [
            ([(" well", 0, 300), (".", 300, 340)], [(" well", 10, 320), (".", 320, 360)], []),
            ([(" well", 0, 300), (".", 300, 300)], [(" well", 0, 301), (".", 301, 301)], []),
            ([(" don", 0, 300), ("'", 300, 320)], [(" don't", 0, 400)], ["t"]),
            ([(" 3", 0, 300), (".", 300, 320)], [(" 3.5", 0, 500)], ["5"]),
            ([(" i", 0, 40)], [(" I", 20, 60), (" do", 60, 220)], [" do"]),
            ([(" one", 0, 300)], [("One", 0, 300), ("two", 400, 700)], ["two"]),
            ([(" one two", 0, 600)], [("three", 700, 900)], [" three"]),
            ([(" one ", 0, 300)], [(" two", 350, 600)], ["two"]),
            ([(" sea", 0, 300)], [(" see", 0, 300), (" it", 310, 400)], [" it"]),
            ([(" no", 0, 200)], [(" no", 0, 200), (" no", 250, 450)], [" no"]),
            ([("你", 0, 200), ("好", 200, 400)], [("你好吗", 0, 600)], ["吗"]),
            ([("กข", 0, 200), ("ค", 200, 300)], [("กขค", 5, 310), ("ง", 320, 500)], ["ง"]),
            ([(" one", 0, 300), ("", 300, 300)], [("", 10, 20), (" one", 0, 300)], [""]),
        ],
    )
    def test_only_what_follows_is_new(
        self,
        given: list[tuple[str, int, int]],
        again: list[tuple[str, int, int]],
        new: list[str],
    ) -> None:
        links = Links()
        for piece in given:
            links.read(token(*piece))
        links.cut()
        assert links.read(*(token(*piece) for piece in again)) == new

    def test_tokens_without_times_belong_to_the_one_before(self) -> None:
        links = Links()
        links.read(token("?", None, None), token(" one", 0, 300), token("!", None, None))
        links.cut()
        again = [token(" one", 0, 300), token("!", None, None), token(" two", 400, 600)]
        assert links.read(*again, token("?", None, None)) == [" two", "?"]

    def test_an_original_that_is_never_translated_keeps_no_audio_for_ever(self) -> None:
        links = Links()
        links.read(original(" um", 0, 300))
        links.read(final_audio_proc_ms=29_000)
        assert links.heard.needed_from_ms(1000) == 0
        links.read(final_audio_proc_ms=31_000)
        assert links.heard.needed_from_ms(1000) == 30_000

    def test_silence_keeps_no_audio(self) -> None:
        links = Links()
        links.read(token(" one", 0, 300))
        links.read(final_audio_proc_ms=60_000)
        assert links.heard.needed_from_ms(1000) == 59_000


class TestMarkers:
    def test_an_endpoint_is_given_once(self) -> None:
        links = Links()
        assert links.read(token(" one", 0, 300), token("<end>", 0, 0)) == [" one", "<end>"]
        assert links.markers == [Marker("<end>", 1, 300)]
        links.cut()
        again = [token(" one", 0, 300), token("<end>", 0, 0), token(" two", 900, 950)]
        assert links.read(*again) == [" two"]
        assert links.markers == []

    def test_one_that_was_lost_is_given_on_the_next_connection(self) -> None:
        links = Links()
        links.read(token(" one", 0, 300))
        links.cut()
        assert links.read(token(" one", 0, 300), token("<end>", 0, 0)) == ["<end>"]
        assert links.markers == [Marker("<end>", 0, 300)]

    def test_one_without_words_before_it(self) -> None:
        links = Links()
        assert links.read(token("<end>", 0, 0)) == ["<end>"]
        links.read(token(" one", 0, 300))
        links.cut()
        assert links.read(token("<end>", 0, 0)) == ["<end>"]
        links.cut()
        assert links.read(token("<end>", 0, 0)) == []

    def test_the_answer_to_a_finalize_is_always_given(self) -> None:
        links = Links()
        assert links.read(token("<fin>", 0, 0)) == ["<fin>"]
        assert links.markers == [Marker("<fin>", 0, None)]


class TestTranslations:
    def test_an_original_is_kept_until_its_translation_has_come(self) -> None:
        links = Links(lead_in_ms=0)
        links.read(original(" eins", 0, 300))
        assert links.heard.needed_from_ms(0) == 0
        links.read(original(" zwei", 300, 600), translation(" one"))
        assert links.heard.needed_from_ms(0) == 300
        links.read(translation(" two"))
        assert links.heard.awaiting_translation == []
        assert links.heard.needed_from_ms(0) == 300

    def test_in_the_same_message(self) -> None:
        links = Links()
        links.read(original(" eins", 0, 300), translation(" one"), translation(" more"))
        assert links.heard.awaiting_translation == []

    def test_one_that_was_lost_is_given_without_its_original(self) -> None:
        links = Links()
        links.read(original(" eins", 0, 300))
        links.cut()
        assert links.read(original(" eins", 0, 300)) == []
        assert links.read(translation(" one")) == [" one"]
        assert links.read(original(" zwei", 300, 600)) == [" zwei"]
        assert links.read(translation(" two")) == [" two"]

    def test_one_that_was_given_is_left_out(self) -> None:
        links = Links()
        links.read(original(" eins", 0, 300))
        links.read(translation(" one"))
        links.cut()
        assert links.read(original(" eins", 0, 300)) == []
        assert links.read(translation(" one"), translation(" too")) == []
        assert links.read(original(" zwei", 400, 600)) == [" zwei"]
        assert links.read(translation(" two")) == [" two"]

    def test_two_in_one_message_belong_to_different_originals(self) -> None:
        links = Links()
        links.read(original(" eins", 0, 300), translation(" one"))
        links.cut()
        assert links.read(original(" eins", 0, 300)) == []
        new = [original(" zwei", 400, 600), translation(" two")]
        assert links.read(translation(" one"), *new) == [" zwei", " two"]
        assert links.heard.awaiting_translation == []

    def test_what_was_not_heard_again_yet_still_awaits_its_own(self) -> None:
        links = Links()
        links.read(original(" eins", 0, 300), original(" zwei", 400, 600))
        links.cut()
        links.read(original(" eins", 0, 300))
        assert links.read(translation(" one")) == [" one"]
        assert links.heard.awaiting_translation == [400]
        links.cut()
        assert links.read(original(" eins", 0, 300)) == []
        assert links.read(translation(" one"), original(" zwei", 400, 600)) == []
        assert links.read(translation(" two")) == [" two"]

    def test_provisional_ones_are_left_out_alike(self) -> None:
        links = Links()
        links.read(original(" eins", 0, 300), translation(" one"))
        links.cut()
        tail = [original(" eins", 0, 300), translation(" one")]
        assert links.read(*(one | {"is_final": False} for one in tail)) == []

    def test_timeless_originals_are_left_alone(self) -> None:
        links = Links()
        links.read(token(" one", 0, 300))
        links.cut()
        assert links.read(token("?", None, None)) == ["?"]


class TestSpeakers:
    def test_later_connections_go_on_counting(self) -> None:
        links = Links()
        links.read(token(" one", 0, 300, speaker="1"), token(" two", 400, 700, speaker="2"))
        links.cut(begins=2000)
        event = links.event(
            token(" three", 2000, 2100, speaker="1"), token(" four", 2200, 2300, speaker="x")
        )
        assert [one.speaker for one in event.tokens] == ["3", "x-2"]

    def test_unless_the_policy_says_raw(self) -> None:
        links = Links()
        links.distinct = False
        links.read(token(" one", 0, 300, speaker="2"))
        links.cut(begins=2000)
        assert links.event(token(" two", 2000, 2100, speaker="1")).tokens[0].speaker == "1"


def test_positions_never_go_back() -> None:
    links = Links()
    links.event(token(" one", 0, 300), final_audio_proc_ms=800, total_audio_proc_ms=900)
    links.cut(begins=100)
    event = links.event(final_audio_proc_ms=50, total_audio_proc_ms=100)
    assert (event.final_audio_proc_ms, event.total_audio_proc_ms) == (800, 900)
    event = links.event(final_audio_proc_ms=900, total_audio_proc_ms=950)
    assert (event.final_audio_proc_ms, event.total_audio_proc_ms) == (1000, 1050)
