"""Parsed events are what pydantic makes of the same JSON, whatever is done with them first."""

from __future__ import annotations

import copy
import itertools
import json
import pickle
import sys
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from functools import cache
from types import FrameType
from typing import Any, cast

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic_core import from_json

from soniox_proto import RealtimeEvent, SonioxProtocolError, Token, messages, received_model
from soniox_proto.config import describe_validation_error
from soniox_proto.messages import EventParser, is_error, parse_event
from soniox_proto.received_model import ReceivedModel, fields_of, set_fields

Members = list[tuple[str, str]]
"""The members of a JSON object, in order: names, perhaps repeated, and values as JSON."""

TAKEN_NAMES = [
    # Methods and attributes of models, and of all objects.
    "copy",
    "dict",
    "json",
    "schema",
    "model_config",
    "model_dump",
    "model_extra",
    "model_fields_set",
    "validate_event",
    "_complete",
    "_private",
    "__class__",
    "__copy__",
    "__deepcopy__",
    "__dict__",
    "__getstate__",
    "__iter__",
    "__private_attributes__",
    "__pydantic_extra__",
    "__pydantic_fields_set__",
    "__pydantic_private__",
    "__pydantic_serializer__",
    "__reduce_ex__",
    "__repr_args__",
    "self",
    "",
]


@pytest.fixture(scope="module", params=["msgspec", "pydantic"], autouse=True)
def _validator(request: pytest.FixtureRequest) -> Iterator[None]:
    """Everything holds with msgspec, and where it is not installed."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "pydantic":
            patch.setitem(sys.modules, "msgspec", None)
        messages._known_fields_validator.cache_clear()
        validate, _ = messages._known_fields_validator()
        assert type(cast("Any", validate).__self__).__module__.startswith(request.param)
        yield
    messages._known_fields_validator.cache_clear()


SPACE = st.sampled_from(["", "", "", " ", "\n\t"])


def written(value: Any, escaped: bool) -> str:
    return json.dumps(value, ensure_ascii=escaped)


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(1 << 70), 1 << 70),
    st.floats(allow_nan=False),
    st.text(max_size=5).filter(lambda text: text.isprintable()),
    st.sampled_from(["a:b", '"quoted": "', "<end>", "é\n", "\U0001f600"]),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(["text", "x", "tokens", "a:b"]), inner, max_size=2)
    ),
    max_leaves=4,
)
VALUES_WRITTEN = st.builds(written, VALUES, st.booleans())

UNKNOWN_NAMES = st.one_of(
    st.sampled_from(["emotion", "channel", "a:b", "é"]), st.sampled_from(TAKEN_NAMES)
)

INTEGERS = st.one_of(st.none(), st.integers(-5, 1 << 40), st.just(7.0), st.just("12"))
STRINGS = st.one_of(st.none(), st.text(max_size=5).filter(str.isprintable), st.just("a:b"))
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "start_ms": INTEGERS,
    "end_ms": INTEGERS,
    "confidence": st.one_of(st.none(), st.floats(0, 1), st.integers(0, 1)),
    "is_final": st.one_of(st.none(), st.booleans(), st.just("yes")),
    "speaker": STRINGS,
    "language": STRINGS,
    "source_language": STRINGS,
    "translation_status": STRINGS,
    "final_audio_proc_ms": INTEGERS,
    "total_audio_proc_ms": INTEGERS,
    "finished": st.booleans(),
    "error_code": INTEGERS,
    "error_type": STRINGS,
    "error_message": STRINGS,
    "request_id": STRINGS,
    "more_info": STRINGS,
}


def member(name: str, values: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[str, str]]:
    return st.tuples(st.just(name), st.builds(written, values, st.booleans()))


def known(model: type[BaseModel]) -> st.SearchStrategy[tuple[str, str]]:
    return st.sampled_from([name for name in model.model_fields if name in FIELDS]).flatmap(
        lambda name: member(name, FIELDS[name])
    )


UNKNOWN = st.tuples(UNKNOWN_NAMES, VALUES_WRITTEN)


@st.composite
def json_objects(draw: st.DrawFn, members: Members) -> str:
    inside = ",".join(
        f"{draw(SPACE)}{json.dumps(name, ensure_ascii=draw(st.booleans()))}"
        f"{draw(SPACE)}:{draw(SPACE)}{value}{draw(SPACE)}"
        for name, value in members
    )
    return f"{{{inside}}}"


@st.composite
def tokens(draw: st.DrawFn) -> str:
    members = draw(st.lists(known(Token) | known(Token) | UNKNOWN, max_size=5))
    place = draw(st.integers(0, len(members)))
    members.insert(place, draw(member("text", st.text(max_size=5).filter(str.isprintable))))
    return draw(json_objects(members))


@st.composite
def events(draw: st.DrawFn) -> str:
    """Messages as JSON: known and unknown fields, absent ones, repeated ones, in any order."""
    members = draw(st.lists(known(RealtimeEvent) | UNKNOWN, max_size=4))
    for _ in range(draw(st.sampled_from([1, 1, 1, 1, 0, 2]))):
        items = ",".join(draw(st.lists(tokens(), max_size=3)))
        members.insert(draw(st.integers(0, len(members))), ("tokens", f"[{items}]"))
    return draw(SPACE) + draw(json_objects(members)) + draw(SPACE)


class Holder(BaseModel):
    """Has what was received as a field."""

    held: RealtimeEvent | Token


class Revalidating(BaseModel):
    """Has what was received as a field, and validates it again."""

    model_config = ConfigDict(revalidate_instances="always")

    held: RealtimeEvent | Token


def state(model: BaseModel) -> object:
    """Return all there is to know of a model."""
    return (
        type(model),
        repr(model),
        sorted(model.model_fields_set),
        repr(model.model_extra),
        repr(model.model_dump(warnings=False)),
        [name for name in vars(model) if name in type(model).model_fields],
        getattr(model, "__pydantic_private__", "absent"),
    )


def seen(value: object) -> object:
    """Return a value in a form that can be compared, whatever is in it."""
    if isinstance(value, BaseModel):
        return state(value)
    if isinstance(value, set):
        return sorted(value)
    return repr(value)


def outcome(operation: Callable[[Any], object], model: Any) -> object:
    try:
        return seen(operation(model))
    except Exception as error:
        return type(error), str(error).replace(hex(id(model)), "here")


def setting(name: str) -> Callable[[Any], object]:
    def operation(model: Any) -> object:
        setattr(model, name, "new")
        return getattr(model, name)

    return operation


def deleting(name: str) -> Callable[[Any], object]:
    def operation(model: Any) -> object:
        delattr(model, name)
        return model

    return operation


def getting(name: str) -> Callable[[Any], object]:
    def operation(model: Any) -> object:
        value = getattr(model, name)
        # Bound methods tell whose they are, in words of their own.
        return type(value) if callable(value) else value

    return operation


def dumped_by_adapter(model: BaseModel) -> bytes:
    list_type: Any = list[type(model)]  # type: ignore[misc]
    return TypeAdapter[list[BaseModel]](list_type).dump_json([model, model])


NAMES = ["text", "tokens", "start_ms", "speaker", "finished", "more_info", "emotion", "absent"]

OPERATIONS: dict[str, Callable[[Any], object]] = {
    "repr": repr,
    "str": str,
    "equal to itself": lambda model: model == model,
    "equal to something else": lambda model: (model == 5, model == Holder.model_construct()),
    "hash": hash,
    "model_dump": lambda model: model.model_dump(),
    "exclude_unset": lambda model: model.model_dump(exclude_unset=True),
    "exclude_defaults": lambda model: model.model_dump(exclude_defaults=True),
    "exclude_none": lambda model: model.model_dump(exclude_none=True),
    "exclude": lambda model: model.model_dump(exclude={"text", "finished", "emotion"}),
    "include": lambda model: model.model_dump(include={"text", "start_ms", "tokens", "emotion"}),
    "mode": lambda model: model.model_dump(mode="json"),
    "model_dump_json": lambda model: model.model_dump_json(),
    "model_dump_json exclude_unset": lambda model: model.model_dump_json(exclude_unset=True),
    "model_dump_json indent": lambda model: model.model_dump_json(indent=1, exclude_none=True),
    "dict": dict,
    "iteration": list,
    "model_fields_set": lambda model: model.model_fields_set,
    "model_extra": lambda model: model.model_extra,
    "private": lambda model: model.__pydantic_private__,
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "model_copy": lambda model: model.model_copy(),
    "model_copy deep": lambda model: model.model_copy(deep=True),
    "model_copy update": lambda model: model.model_copy(update={"speaker": 1, "emotion": 2}),
    "model_copy deep update": lambda model: model.model_copy(update={"more_info": 1}, deep=True),
    "pickle": lambda model: pickle.loads(pickle.dumps(model)),
    "pickle protocol 2": lambda model: pickle.loads(pickle.dumps(model, 2)),
    "model_validate": lambda model: type(model).model_validate(model),
    "revalidation": lambda model: Revalidating(held=model).held,
    "field": lambda model: Holder(held=model),
    "field as JSON": lambda model: Holder(held=model).model_dump_json(exclude_unset=True),
    "adapter": dumped_by_adapter,
    "rich": lambda model: list(model.__rich_repr__()),
    "vars": lambda model: list(vars(model).items()),
    "__dict__": lambda model: sorted(model.__dict__),
    **{f"get {name}": getting(name) for name in [*NAMES, *TAKEN_NAMES] if name != "__dict__"},
    **{f"set {name}": setting(name) for name in [*NAMES, "copy", "_private"]},
    **{f"delete {name}": deleting(name) for name in [*NAMES, "copy", "_private"]},
}


def fresh_and_expected(raw: str | bytes) -> Iterator[tuple[BaseModel, BaseModel]]:
    """Yield a parsed event and each of its tokens, all fresh, with what pydantic makes of them."""
    yield parse_event(raw), RealtimeEvent.model_validate_json(raw)
    for index in range(len(RealtimeEvent.model_validate_json(raw).tokens)):
        expected = RealtimeEvent.model_validate_json(raw).tokens[index]
        yield parse_event(raw).tokens[index], expected


@pytest.mark.filterwarnings("ignore:Accessing the 'model_fields'")
@given(events(), st.sampled_from(sorted(OPERATIONS)), st.booleans())
@example('{"tokens":[{"text":"a","emotion":"joy"}],"emotion":1}', "delete start_ms", False)
@example('{"tokens":[{"text":"a"}],"finished":true}', "delete finished", False)
@example('{"tokens":[{"text":"a"}],"copy":1}', "get copy", False)
@example('{"tokens":[{"text":"a","model_dump":1}]}', "model_dump", False)
@example('{"tokens":[{"text":"a","_complete":1}]}', "repr", False)
def test_any_first_operation_is_as_with_pydantic(raw: str, name: str, binary: bool) -> None:
    operation = OPERATIONS[name]
    for received, expected in fresh_and_expected(raw.encode() if binary else raw):
        assert outcome(operation, received) == outcome(operation, expected)
        assert outcome(state, received) == outcome(state, expected), "and it leaves the same"


@pytest.mark.filterwarnings("ignore:Accessing the 'model_fields'")
@pytest.mark.parametrize(
    "raw",
    [
        '{"tokens":[]}',
        '{"finished":true}',
        '{"tokens":[{"text":"a"},{"is_final":true,"text":"b","start_ms":null}],"finished":true}',
        '{"q":{"d":[1]},"tokens":[{"emotion":{"x":"y:z"},"text":"a","end_ms":5}],"emotion":null}',
        '{"tokens":[{"text":"a","copy":1,"emotion":2}],"model_dump":[],"_private":1}',
    ],
)
def test_every_first_operation_is_as_with_pydantic(raw: str) -> None:
    for name, operation in OPERATIONS.items():
        for received, expected in fresh_and_expected(raw):
            assert outcome(operation, received) == outcome(operation, expected), name
            assert outcome(state, received) == outcome(state, expected), name


@given(events(), st.lists(st.sampled_from(sorted(OPERATIONS)), max_size=5))
def test_operations_one_after_the_other(raw: str, names: list[str]) -> None:
    for received, expected in fresh_and_expected(raw):
        for name in names:
            assert outcome(OPERATIONS[name], received) == outcome(OPERATIONS[name], expected)


@given(events(), events())
def test_equality_in_either_order(one: str, other: str) -> None:
    for raw in (one, other):
        expected = RealtimeEvent.model_validate_json(one) == RealtimeEvent.model_validate_json(raw)
        assert (parse_event(one) == parse_event(raw)) is expected
        assert (parse_event(one) == RealtimeEvent.model_validate_json(raw)) is expected
        assert (RealtimeEvent.model_validate_json(one) == parse_event(raw)) is expected


@given(events())
def test_tokens_of_an_event_are_its_own(raw: str) -> None:
    event = parse_event(raw)
    held = list(event.tokens)
    event.model_dump()
    assert all(token is again for token, again in zip(held, event.tokens, strict=True))
    assert event.tokens is event.tokens


def test_defaults_that_are_made_are_each_instances_own() -> None:
    first, second = (parse_event('{"error_code":400}') for _ in range(2))
    first.tokens.append(Token(text="a"))
    assert second.tokens == []


# Not all of them JSON, not all of them numbers.
NUMBERS = [
    *("-0", "-0.0", "1.0", "1.5", "1e3", "1E+3", "1e400", "-1e400", "1e-400", "5e-324", "0e5"),
    *("01", "1.", "+1", ".5", "1_000", "NaN", "Infinity", "-Infinity", "true", '"7"', '"x"'),
    *("9223372036854775808", "18446744073709551616", "1e19", "1" * 50, "1" * 5000),
    *("0.30000000000000004", "9007199254740993.0", "1.7976931348623159e308"),
]


class TestRefusals:
    SPOILED = st.one_of(
        st.sampled_from(NUMBERS).map(
            lambda number: lambda raw: raw.replace("{", f'{{"final_audio_proc_ms":{number},', 1)
        ),
        st.sampled_from(NUMBERS).map(
            lambda number: lambda raw: raw.replace('{"text"', f'{{"confidence":{number},"text"')
        ),
        st.tuples(st.integers(0, 80), st.characters()).map(
            lambda change: lambda raw: raw[: change[0]] + change[1] + raw[change[0] + 1 :]
        ),
        st.sampled_from(
            [
                lambda raw: raw[:-1],
                lambda raw: raw[1:],
                lambda raw: raw + raw,
                lambda raw: raw.replace('"text"', '"txet"'),
                lambda raw: raw.replace('"tokens"', '"finished"'),
                lambda raw: raw.replace("[", "[[", 1),
                lambda raw: raw.replace("{", '{"tokens":null,', 1),
                lambda raw: raw.replace("{", '{"final_audio_proc_ms":1.5,', 1),
                lambda raw: raw.replace(":", ":\x00", 1),
                lambda raw: raw.replace('"', '"\ud800', 1),
                lambda raw: raw.replace('{"text":', '{"text":5,"x":', 1),
            ]
        ),
    )

    @given(events(), SPOILED, st.booleans())
    def test_what_one_refuses_the_other_does_in_the_same_words(
        self, raw: str, spoil: Callable[[str], str], seen_before: bool
    ) -> None:
        spoiled = spoil(raw)
        parser = EventParser()
        if seen_before:
            parser.parse('{"tokens":[{"text":"a"}],"unknown":1}')
        expected: RealtimeEvent | ValidationError
        try:
            expected = RealtimeEvent.model_validate_json(spoiled)
        except ValidationError as error:
            expected = error
        if isinstance(expected, RealtimeEvent):
            assert state(parser.parse(spoiled)) == state(expected)
            return
        if is_read_leniently(spoiled):
            parser.parse(spoiled)
            return
        with pytest.raises(SonioxProtocolError) as caught:
            parser.parse(spoiled)
        assert str(caught.value).endswith(describe_validation_error(expected))
        assert str(caught.value.__cause__) == str(expected)


def is_read_leniently(raw: str) -> bool:
    """Return whether fields of unexpected kinds are no fault in this message."""
    try:
        fields = from_json(raw)
    except TypeError:
        return False
    except ValueError:
        # Only Python's own parser reads it, which is asked for the sake of errors alone.
        try:
            fields = json.loads(raw, parse_int=str)
        except (ValueError, RecursionError):
            return False
        return isinstance(fields, dict) and is_error(fields)
    if not isinstance(fields, dict) or is_error(fields):
        return isinstance(fields, dict)
    if fields.get("tokens", ()) is not None:
        return False
    try:
        RealtimeEvent.model_validate({**fields, "tokens": []})
    except ValidationError:
        return False
    return True


def test_an_error_with_a_number_that_is_too_long_is_read_leniently() -> None:
    raw = '{"final_audio_proc_ms":%s,"tokens":[],"error_code":7.0}' % ("1" * 5000)
    assert is_read_leniently(raw)
    assert EventParser().parse(raw).error_code == 7


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize(
    "message",
    [
        '{"tokens":[{"text":"a","confidence":%s}]}',
        '{"tokens":[{"text":"a","start_ms":%s}]}',
        '{"tokens":[],"final_audio_proc_ms":%s}',
    ],
    ids=["confidence", "start_ms", "final_audio_proc_ms"],
)
def test_numbers_are_read_alike_where_all_fields_are_known(message: str, number: str) -> None:
    raw = message % number
    try:
        expected = RealtimeEvent.model_validate_json(raw)
    except ValidationError:
        with pytest.raises(SonioxProtocolError):
            parse_event(raw)
    else:
        assert state(parse_event(raw)) == state(expected)


@pytest.mark.parametrize("raw", [None, 5, memoryview(b'{"tokens":[]}')])
def test_what_is_no_text_is_no_message(raw: Any) -> None:
    with pytest.raises(SonioxProtocolError):
        parse_event(raw)


class TestParser:
    KNOWN = '{"tokens":[{"text":"a","start_ms":1}],"finished":false}'
    UNKNOWN = '{"tokens":[{"text":"a","emotion":"joy"}],"queue":{"depth":2}}'
    COLONS = '{"tokens":[{"text":"a:b","speaker":"::"}]}'

    @given(st.lists(events(), max_size=2), st.sampled_from([KNOWN, UNKNOWN, COLONS]))
    def test_gives_the_same_whatever_it_parsed_before(self, before: list[str], raw: str) -> None:
        parser = EventParser()
        for earlier in before:
            assert state(parser.parse(earlier)) == state(parse_event(earlier))
        assert state(parser.parse(raw)) == state(RealtimeEvent.model_validate_json(raw))

    def test_remembers_that_there_are_unknown_fields(self) -> None:
        parser = EventParser()
        for raw in (self.KNOWN, self.COLONS, '{"queue":1}', self.COLONS.encode()):
            parser.parse(raw)
            assert not parser._thorough
        for raw in (self.UNKNOWN, self.KNOWN, self.COLONS, self.UNKNOWN.encode()):
            assert state(parser.parse(raw)) == state(RealtimeEvent.model_validate_json(raw))
            assert parser._thorough

    @pytest.mark.parametrize("raw", ['{"tokens":[{"text":"a","x":1}]}', '{"tokens":[],"x":1}'])
    def test_finds_them_at_either_level(self, raw: str) -> None:
        parser = EventParser()
        parser.parse(raw)
        assert parser._thorough


class TestThreads:
    RAW = '{"tokens":[{"text":"a","end_ms":5}],"finished":true}'

    @pytest.fixture
    def quick_switches(self) -> Iterator[None]:
        interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        yield
        sys.setswitchinterval(interval)

    @pytest.mark.usefixtures("quick_switches")
    def test_two_that_complete_the_same_token_lose_nothing(self) -> None:
        tokens = [parse_event(self.RAW).tokens[0] for _ in range(3000)]
        complete = RealtimeEvent.model_validate_json(self.RAW).tokens[0]
        start = threading.Barrier(2)
        dumps: list[dict[str, Any]] = []

        def dump() -> None:
            start.wait()
            dumps.extend(token.model_dump() for token in tokens)

        threads = [threading.Thread(target=dump) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [token for token in tokens if state(token) != state(complete)] == []
        assert [lacking for lacking in dumps if lacking != complete.model_dump()] == []

    @pytest.mark.parametrize("same_thread", [False, True], ids=["thread", "signal handler"])
    @pytest.mark.parametrize("name", ["model_dump", "exclude_unset", "model_fields_set", "repr"])
    @pytest.mark.timeout(20)
    def test_others_may_come_at_any_moment(self, name: str, same_thread: bool) -> None:
        complete = RealtimeEvent.model_validate_json(self.RAW).tokens[0]
        operation = OPERATIONS[name]
        expected = outcome(operation, complete)
        for line in itertools.count():
            token = parse_event(self.RAW).tokens[0]
            results = interrupted(operation, token, line, same_thread=same_thread)
            count = len(results)
            if same_thread:
                # A handler cannot wait; what it sees may be more than was received.
                results = results[-1:]
            assert results == [expected] * len(results), line
            assert state(token) == state(complete), line
            if count == 1:
                assert line > 5, "there were lines to come at"
                return


def interrupted(
    operation: Callable[[Any], object], model: BaseModel, line: int, *, same_thread: bool
) -> list[object]:
    """Return what a thread gets, and what does who comes at the line of that number."""
    results: list[object] = []
    others: list[threading.Thread] = []
    left = line

    def get() -> None:
        results.append(outcome(operation, model))

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal left
        if frame.f_code.co_filename != received_model.__file__:
            return None
        if event == "line":
            left -= 1
            if left == -1 and same_thread:
                get()
            elif left == -1:
                others.append(threading.Thread(target=get, daemon=True))
                others[0].start()
                # It may have to wait for this one.
                others[0].join(0.02)
        return trace

    def get_traced() -> None:
        sys.settrace(trace)
        get()
        sys.settrace(None)

    first = threading.Thread(target=get_traced, daemon=True)
    first.start()
    first.join()
    for thread in others:
        thread.join()
    return results


@cache
def word_type() -> type[Token]:
    """Return a kind of token with a field redefined and fields of its own."""

    class Word(Token):
        speaker: str | None = "nobody"
        words: int = 1
        notes: list[str] = Field(default_factory=list)

        @property
        def shouted(self) -> str:
            return self.text.upper()

    return Word


class Message(RealtimeEvent):
    """An event with a field of its own."""

    queue: int = 7


class TestSubclasses:
    def test_are_validated_as_usual(self) -> None:
        word: Any = word_type().model_validate_json('{"text":"a","emotion":"joy"}')
        assert (word.speaker, word.words, word.notes, word.shouted) == ("nobody", 1, [], "A")
        assert word.model_extra == {"emotion": "joy"}
        assert word.model_fields_set == {"text", "emotion"}
        message = Message.model_validate_json('{"tokens":[{"text":"a"}]}')
        assert message.queue == 7
        assert type(message.tokens[0]) is Token
        assert Token(text="a").speaker is None, "the class above is as it was"

    @pytest.mark.parametrize("fields", [{}, {"words": 2}, {"notes": ["b"], "speaker": None}])
    def test_can_be_made_of_fields(self, fields: dict[str, object]) -> None:
        for name, operation in OPERATIONS.items():
            received = object.__new__(word_type())
            set_fields(received, {"text": "a", **fields})
            expected = word_type().model_validate({"text": "a", **fields})
            assert outcome(operation, received) == outcome(operation, expected), name
            assert outcome(state, received) == outcome(state, expected), name

    def test_have_their_own_defaults_without_being_completed(self) -> None:
        received: Any = object.__new__(word_type())
        set_fields(received, {"text": "a"})
        assert (received.speaker, received.words, received.end_ms) == ("nobody", 1, None)
        assert list(fields_of(received)) == ["text"]

    def test_defaults_that_are_made_appear_with_the_rest(self) -> None:
        class Made(ReceivedModel):
            name: str = "none"
            parts: list[int] = Field(default_factory=list)

        made = object.__new__(Made)
        set_fields(made, {"name": "some"})
        assert made == Made.model_validate({"name": "some"})
        assert made.parts == []

    @pytest.mark.timeout(20)
    def test_a_default_may_be_a_received_model_itself(self) -> None:
        class Pair(ReceivedModel):
            text: str
            other: Token = parse_event('{"tokens":[{"text":"other"}]}').tokens[0]

        pair = object.__new__(Pair)
        set_fields(pair, {"text": "a"})
        assert pair == Pair(text="a")
        assert pair.other == Token(text="other")


def test_a_kept_event_takes_half_the_memory() -> None:
    items = [
        {"text": f" word{index}", "start_ms": index * 1000, "end_ms": index * 1000 + 900}
        | {"confidence": 0.5 + index / 100, "is_final": True}
        for index in range(20)
    ]
    raw = json.dumps({"tokens": items, "final_audio_proc_ms": 5000, "total_audio_proc_ms": 9000})

    def size_of(parse: Callable[[str], RealtimeEvent]) -> int:
        parse(raw)
        tracemalloc.start()
        kept = [parse(raw) for _ in range(20)]
        size, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert len(kept) == 20
        return size

    assert size_of(EventParser().parse) <= size_of(RealtimeEvent.model_validate_json) / 2
