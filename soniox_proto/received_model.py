"""Models that hold the fields of a message as they were received.

A normal pydantic instance stores every default, the set of received fields and a dict of extras:
two thirds of a token's memory, and a third of the time it takes to make one. An instance of a
`ReceivedModel` can be made of its validated fields alone (`object.__new__`, then `set_fields`).
Defaults live on the class, and the rest is filled in the first time that pydantic asks for it.
That rarely happens: most tokens are provisional, read once for their text and thrown away.
Not usable with unknown fields, which could shadow attributes of the class.

To users such an instance is an ordinary pydantic model. That costs this module its simplicity: it
relies on the following, none of which pydantic promises.

- An instance is its `__dict__` and the three slots `__pydantic_fields_set__`,
  `__pydantic_extra__` and `__pydantic_private__`. In pydantic's own code and in its compiled core
  alike, the `__dict__` is read as an attribute, and a slot that was never set raises
  `AttributeError`, so `__getattr__` is asked.
- An instance that pydantic makes itself has all three slots; without private attributes
  `__pydantic_private__` is None, and without unknown fields `__pydantic_extra__` is empty.
- pydantic sets the `__dict__` of a new instance through the class's descriptor.
- Nothing but the `__dict__` is read to get a field's value, so a default may stand on the class.

Therefore `behaves_like_pydantic` compares the two kinds of instance. `messages` calls it before the
first message is parsed, and if they differ in anything, it makes plain instances from then on.
"""

from __future__ import annotations

import copy
import pickle
from typing import TYPE_CHECKING, Any, ClassVar, Final

from pydantic import BaseModel, ConfigDict
from typing_extensions import override

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["LINK", "ReceivedModel", "behaves_like_pydantic", "fields_of", "set_fields"]

_FIELDS_SET: Final = "__pydantic_fields_set__"
_EXTRA: Final = "__pydantic_extra__"
_PRIVATE: Final = "__pydantic_private__"

_COMPLETED: Final = "<completed>"
"""Key under which the received fields keep what `_complete` will set. No field has this name, and
it is gone when the instance is complete."""

LINK: Final = "link"
"""Name of the extra field for `ReceivedModel.link`."""

_get = object.__getattribute__
_set = object.__setattr__

fields_of: Callable[[BaseModel], dict[str, Any]] = vars(BaseModel)["__dict__"].__get__
"""Return the fields of an instance as they are stored. Fields that were not received may be
missing; use `dict.get`."""

set_fields: Callable[[BaseModel, dict[str, Any]], None] = vars(BaseModel)["__dict__"].__set__
"""Give a new instance of a received model its validated fields. The instance owns the dict then."""


def _has(instance: object, name: str) -> bool:
    try:
        _get(instance, name)
    except AttributeError:
        return False
    return True


class _Default:
    """The default of a field, for instances that did not receive it.

    On the class itself the attribute does not exist, as in any pydantic model.
    """

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

    Several threads may do this at once, or a signal handler in the middle of another call. There is
    no lock, because a signal handler or a fork could find it taken. Instead the first to leave its
    values in the received fields decides, the others use the same objects, and every step may be
    repeated. `__pydantic_private__` is set last: an instance that has it is complete.
    """
    if _has(instance, _PRIVATE) or ReceivedModel.withdrawn:
        return
    # The order matters. The fields are replaced only after `__pydantic_fields_set__` was set, so if
    # it is still missing in the next line, these are the fields as they were received.
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
    """Return all fields of an instance, the names of those received, and a dict for extras.

    `setdefault` is atomic, so all threads get the values of the first.
    """
    known = type(instance).model_fields
    defaults = [field.get_default(call_default_factory=True) for field in known.values()]
    fields = dict(zip(known, map(received.get, known, defaults), strict=True))
    completion = fields, set(known).intersection(received), dict[str, Any]()
    return received.setdefault(_COMPLETED, completion)  # type: ignore[no-any-return]


class ReceivedModel(BaseModel):
    """A model whose instances can be made of validated fields: `object.__new__`, `set_fields`."""

    # extra: the service may add fields at any time.
    # hide_input_in_errors: the peer may have echoed the API key.
    # defer_build: to build a validator, pydantic loads as much code as for all the rest.
    model_config = ConfigDict(extra="allow", hide_input_in_errors=True, defer_build=True)

    @property
    def link(self) -> int:
        """Which connection of the session this came on, from 1.

        Not sent by the service: with a `ReconnectPolicy` the session notes it as an extra field, on
        everything that comes after the first connection.
        """
        number: int = (self.model_extra or {}).get(LINK, 1)
        return number

    withdrawn: ClassVar[bool] = False
    """Whether the shortcut is off, so that every instance is left as pydantic made it."""

    @classmethod
    def withdraw(cls) -> None:
        """Switch the shortcut off, for good: from now on leave instances as pydantic made them."""
        type.__setattr__(ReceivedModel, "withdrawn", True)

    @classmethod
    @override
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Put the defaults on the class, where Python looks for a field that was not received."""
        for name, field in cls.model_fields.items():
            if not field.is_required() and field.default_factory is None:
                type.__setattr__(cls, name, _Default(name, field.default))

    if not TYPE_CHECKING:

        @property
        def __dict__(self) -> dict[str, Any]:
            """All fields, as in any model; pydantic and `vars` read them here."""
            _complete(self)
            return fields_of(self)

        # The setter is a C function, because the validator calls it for each instance that it
        # makes itself.
        __dict__ = property(__dict__.fget, set_fields)

        def __getattr__(self, name: str) -> Any:
            """Complete the instance if pydantic reads a slot that was never set."""
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
"""The operations by which the two kinds of instance are compared."""


def behaves_like_pydantic(
    received: Callable[[], BaseModel], made_by_pydantic: Callable[[], BaseModel]
) -> bool:
    """Return whether two ways of making an instance give indistinguishable ones.

    Each comparison makes new instances, because only the first operation on an instance meets it
    incomplete.
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
        # Whatever a later pydantic may have changed, plain instances are safe.
        return False


def _vars(model: BaseModel) -> list[tuple[str, Any]]:
    return list(vars(model).items())


def _told(model: BaseModel) -> tuple[object, ...]:
    """Return everything that makes up a copy, in a form that can be compared."""
    return vars(model), model.model_fields_set, model.model_extra or {}
