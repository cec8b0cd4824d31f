"""`ReceivedModel` stands on what pydantic does: where that differs, plain models are made."""

from __future__ import annotations

import copy
import os
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel

from soniox_proto import RealtimeEvent, Token, messages
from soniox_proto.messages import EventParser, parse_event
from soniox_proto.received_model import ReceivedModel, fields_of, set_fields

RAW = '{"tokens":[{"text":"a","end_ms":5}],"total_audio_proc_ms":9}'
WITH_UNKNOWN_FIELDS = '{"tokens":[{"text":"a","end_ms":5,"mood":1}],"total_audio_proc_ms":9}'


@pytest.fixture(autouse=True)
def _anew(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test compares anew, and leaves nothing behind."""
    monkeypatch.setattr(ReceivedModel, "withdrawn", False)
    messages._fields_alone_make_a_model.cache_clear()
    yield
    messages._fields_alone_make_a_model.cache_clear()


SLOTS = ("__pydantic_extra__", "__pydantic_fields_set__", "__pydantic_private__")


def stored(model: BaseModel) -> dict[str, Any]:
    """Return the fields as a compiled pydantic might take them, past any attribute."""
    return fields_of(model)


# What a later pydantic might do another way: each is right for instances of its own.
OTHER_WAYS: dict[str, Any] = {
    "model_dump": lambda model, **options: {
        name: value
        for name, value in stored(model).items()
        if not options.get("exclude_unset") or name in model.model_fields_set
    },
    "model_dump_json": lambda model, **options: repr(stored(model)),
    "model_copy": lambda model, **options: type(model).model_construct(**stored(model)),
    "__eq__": lambda one, other: type(one) is type(other) and stored(one) == stored(other),
    "__iter__": lambda model: iter(list(stored(model).items())),
    "__repr_args__": lambda model: list(stored(model).items()),
    "__copy__": lambda model: type(model).model_construct(**stored(model)),
    "__deepcopy__": lambda model, memo: type(model).model_construct(
        **copy.deepcopy(stored(model), memo)
    ),
    "__getstate__": lambda model: {
        "__dict__": dict(stored(model)),
        **{name: getattr(model, name) for name in SLOTS},
    },
    "model_fields_set": property(lambda model: set(stored(model))),
}


class TestFence:
    def test_the_installed_pydantic_is_relied_on(self) -> None:
        parser = EventParser()
        assert messages._fields_alone_make_a_model()
        assert list(fields_of(parser.parse(RAW))) == ["tokens", "total_audio_proc_ms"]

    @pytest.mark.parametrize("name", sorted(OTHER_WAYS))
    def test_another_way_makes_plain_instances(
        self, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(BaseModel, name, OTHER_WAYS[name])
        message = EventParser().parse(RAW)
        assert set(RealtimeEvent.model_fields) <= set(fields_of(message))
        assert set(Token.model_fields) <= set(fields_of(message.tokens[0]))
        assert ReceivedModel.withdrawn

    def test_unset_fields_left_out_in_another_way(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """As by a compiled core that reads the slot itself, and asks nobody if it was never set."""
        model_dump = BaseModel.model_dump

        def other_dump(model: BaseModel, *, exclude_unset: bool = False) -> dict[str, Any]:
            if not exclude_unset:
                return model_dump(model)
            return model_dump(model, include=object.__getattribute__(model, SLOTS[1]))

        monkeypatch.setattr(BaseModel, "model_dump", other_dump)
        EventParser().parse(RAW)
        assert ReceivedModel.withdrawn

    def test_messages_compared_in_another_way(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """But not their tokens, which all other comparisons look at, too."""
        equal = BaseModel.__eq__

        def other_equal(one: BaseModel, other: object) -> bool:
            if isinstance(one, RealtimeEvent) and isinstance(other, RealtimeEvent):
                return stored(one) == stored(other)
            return equal(one, other)

        monkeypatch.setattr(BaseModel, "__eq__", other_equal)
        EventParser().parse(RAW)
        assert ReceivedModel.withdrawn

    def test_an_operation_that_fails_is_a_difference(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(model: object, **options: object) -> None:
            if set(Token.model_fields) - set(stored(model)):  # type: ignore[arg-type]
                raise TypeError("a field is missing")

        monkeypatch.setattr(BaseModel, "model_dump", fail)
        EventParser().parse(RAW)
        assert ReceivedModel.withdrawn

    def test_plain_instances_are_left_alone(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Also those of a pydantic that keeps something else than the slots known here."""
        ReceivedModel.withdraw()
        token = object.__new__(Token)
        set_fields(token, {"text": "a"})
        assert vars(token) == {"text": "a"}
        with pytest.raises(AttributeError):
            token.__pydantic_fields_set__  # noqa: B018


class TestVars:
    def test_are_all_fields_whatever_else_was_received(self) -> None:
        known, unknown = parse_event(RAW), parse_event(WITH_UNKNOWN_FIELDS)
        assert not ReceivedModel.withdrawn
        assert list(vars(known)) == list(vars(unknown)) == list(RealtimeEvent.model_fields)
        assert vars(known.tokens[0]) == vars(unknown.tokens[0])

    def test_are_the_instances_own(self) -> None:
        token = parse_event(RAW).tokens[0]
        vars(token)["speaker"] = "1"
        assert token.speaker == "1"
        assert token.model_fields_set == {"text", "end_ms"}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system")
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
@pytest.mark.timeout(30)
def test_a_fork_amid_a_completion_leaves_the_child_able_to_complete(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The other thread, and whatever it held, does not exist in the child."""
    tokens = [parse_event(RAW).tokens[0] for _ in range(2)]
    inside, leave = threading.Event(), threading.Event()
    get_default = type(Token.model_fields["text"]).get_default

    def wait_inside(field: Any, **options: Any) -> Any:
        if threading.current_thread() is other:
            inside.set()
            leave.wait()
        return get_default(field, **options)

    monkeypatch.setattr(type(Token.model_fields["text"]), "get_default", wait_inside)
    other = threading.Thread(target=tokens[0].model_dump)
    other.start()
    inside.wait()
    child = os.fork()
    if child == 0:  # pragma: no cover
        dumps = [token.model_dump(exclude_unset=True) for token in tokens]
        os._exit(0 if dumps == [{"text": "a", "end_ms": 5}] * 2 else 1)
    deadline = threading.Event()
    try:
        for _ in range(100):
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                break
            deadline.wait(0.1)
        else:
            os.kill(child, 9)
            os.waitpid(child, 0)
    finally:
        leave.set()
        other.join()
    assert ended, "the child hangs"
    assert os.waitstatus_to_exitcode(status) == 0
