"""Models that hold the fields of a message as they were received.

A normal pydantic instance stores every default, the set of received fields and a dict of extras:
two thirds of a token's memory, and a third of the time it takes to make one. An instance of a
`ReceivedModel` can be made of its validated fields alone (`object.__new__`, then `set_fields`).
Defaults live on the class, and the rest is filled in the first time that pydantic asks for it.
This is not usable with unknown fields, which could shadow attributes of the class.

What this relies on, none of which pydantic promises:

- An instance is its `__dict__` and the three slots `__pydantic_fields_set__`,
  `__pydantic_extra__` and `__pydantic_private__`. In pydantic's own code and in its compiled core
  alike, the `__dict__` is read as an attribute, and a slot that was never set raises
  `AttributeError`, so `__getattr__` is asked.
- An instance that pydantic makes itself has all three slots; without private attributes
  `__pydantic_private__` is None, and without unknown fields `__pydantic_extra__` is empty.
- pydantic sets the `__dict__` of a new instance through the class's descriptor.
- Nothing but the `__dict__` is read to get a field's value, so a default may stand on the class.

`behaves_like_pydantic` compares the two kinds of instance. `messages` asks it before the first
message is parsed and makes plain instances from then on if they differ in anything.
"""

from __future__ import annotations

import copy
import pickle
from typing import TYPE_CHECKING, Any, ClassVar, Final

from pydantic import BaseModel, ConfigDict
from typing_extensions import override

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["ReceivedModel", "behaves_like_pydantic", "fields_of", "set_fields"]

_FIELDS_SET: Final = "__pydantic_fields_set__"
_EXTRA: Final = "__pydantic_extra__"
_PRIVATE: Final = "__pydantic_private__"

_COMPLETED: Final = "<completed>"
"""Where the received fields keep what the instance is completed with; no field has this name."""

_get = object.__getattribute__
_set = object.__setattr__

fields_of: Callable[[BaseModel], dict[str, Any]] = vars(BaseModel)["__dict__"].__get__
"""Return the fields of an instance as they are stored: absent ones may be missing."""

set_fields: Callable[[BaseModel, dict[str, Any]], None] = vars(BaseModel)["__dict__"].__set__
"""Give a new instance of a received model its fields, validated, which become its own."""


def _has(instance: object, name: str) -> bool:
    try:
        _get(instance, name)
    except AttributeError:
        return False
    return True


class _Default:
    """Default of a field that an instance did not receive; the class itself has no attribute."""

    __slots__ = ("_name", "_value")

    def __init__(self, name: str, value: object) -> None:
        self._name = name
        self._value = value

    def __get__(self, instance: object, owner: type) -> object:
        if instance is None:
            raise AttributeError(f"type object {owner.__name__!r} has no attribute {self._name!r}")
        return self._value


def _complete(instance: BaseModel) -> None:
    """Add what pydantic expects of an instance.

    There is no lock, which a signal handler or a fork could find taken. Several threads, or a
    handler in the midst of another call, may do this at once: the first to leave its values in the
    received fields decides, the others use the same objects, and every step may be repeated.
    `__pydantic_private__` comes last: an instance that has it is complete.
    """
    if _has(instance, _PRIVATE) or ReceivedModel.withdrawn:
        return
    # The order counts: if nobody has set the set of received fields by the time of the next line,
    # these are the fields as they were received, for they are replaced only after that.
    received = fields_of(instance)
    if not _has(instance, _FIELDS_SET):
        _, fields_set, extra = _completion(instance, received)
        _set(instance, _EXTRA, extra)
        _set(instance, _FIELDS_SET, fields_set)
    if _COMPLETED in received:
        set_fields(instance, received[_COMPLETED][0])
    _set(instance, _PRIVATE, None)


def _completion(
    instance: BaseModel, received: dict[str, Any]
) -> tuple[dict[str, Any], set[str], dict[str, Any]]:
    """Return all fields of an instance, the names of those received, and a dict for extras."""
    known = type(instance).model_fields
    defaults = [field.get_default(call_default_factory=True) for field in known.values()]
    fields = dict(zip(known, map(received.get, known, defaults), strict=True))
    completion = fields, set(known).intersection(received), dict[str, Any]()
    return received.setdefault(_COMPLETED, completion)  # type: ignore[no-any-return]


class ReceivedModel(BaseModel):
    """A model whose instances can be made of validated fields: `object.__new__`, `set_fields`."""

    # Errors do not quote the input: a peer may have repeated the API key in it.
    # Built on first need: pydantic loads as much for it as for all the rest.
    model_config = ConfigDict(extra="allow", hide_input_in_errors=True, defer_build=True)

    withdrawn: ClassVar[bool] = False
    """Whether every instance is left as pydantic made it."""

    @classmethod
    def withdraw(cls) -> None:
        """Leave every instance as pydantic made it, from now on."""
        type.__setattr__(ReceivedModel, "withdrawn", True)

    @classmethod
    @override
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Put the defaults where fields that were not received are looked for."""
        for name, field in cls.model_fields.items():
            if not field.is_required() and field.default_factory is None:
                type.__setattr__(cls, name, _Default(name, field.default))

    if not TYPE_CHECKING:

        @property
        def __dict__(self) -> dict[str, Any]:
            """All fields, as of any model; pydantic and `vars` ask for them here."""
            _complete(self)
            return fields_of(self)

        # In C: the validator sets it for each instance that it makes.
        __dict__ = property(__dict__.fget, set_fields)

        def __getattr__(self, name: str) -> Any:
            """Called for what is not there."""
            if name in (_FIELDS_SET, _EXTRA, _PRIVATE):
                _complete(self)
                return _get(self, name)
            return super().__getattr__(name)

        def __delattr__(self, name: str) -> None:
            _complete(self)
            super().__delattr__(name)


_COMPARED: Final[dict[str, Callable[[Any], object]]] = {
    "model_dump": lambda model: model.model_dump(),
    "model_dump_json": lambda model: model.model_dump_json(),
    "exclude_unset": lambda model: model.model_dump(exclude_unset=True),
    "model_fields_set": lambda model: model.model_fields_set,
    "model_extra": lambda model: model.model_extra,
    "iteration": lambda model: list(iter(model)),
    "copy": lambda model: _told(copy.copy(model)),
    "deepcopy": lambda model: _told(copy.deepcopy(model)),
    "model_copy": lambda model: _told(model.model_copy()),
    "pickle": lambda model: _told(pickle.loads(pickle.dumps(model))),
    "repr": repr,
    "vars": lambda model: _vars(model),
}
"""What the two kinds of instance are compared by."""


def behaves_like_pydantic(
    received: Callable[[], BaseModel], made_by_pydantic: Callable[[], BaseModel]
) -> bool:
    """Return whether two ways to make the same instance give what nobody can tell apart.

    Each is called anew for each comparison: the first operation on an instance is the one that
    matters.
    """
    try:
        return (
            received() == made_by_pydantic()
            and made_by_pydantic() == received()
            and received() == received()
            and all(
                operation(received()) == operation(made_by_pydantic())
                for operation in _COMPARED.values()
            )
        )
    except Exception:
        # Whatever it is that a later pydantic does not do any more, plain instances are safe.
        return False


def _vars(model: BaseModel) -> list[tuple[str, Any]]:
    return list(vars(model).items())


def _told(model: BaseModel) -> tuple[object, ...]:
    """Return all that a copy consists of."""
    return vars(model), model.model_fields_set, model.model_extra or {}
