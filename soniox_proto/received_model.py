"""Models that stand on the fields of a message as they were received."""

from __future__ import annotations

from collections import deque
from threading import RLock
from typing import TYPE_CHECKING, Any, Final

from pydantic import BaseModel, ConfigDict
from typing_extensions import Self, override

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

__all__ = ["ReceivedModel", "set_fields"]

# What pydantic keeps of an instance beside its fields.
_FIELDS_SET: Final = "__pydantic_fields_set__"
_EXTRA: Final = "__pydantic_extra__"
_PRIVATE: Final = "__pydantic_private__"

_get = object.__getattribute__
_set = object.__setattr__

_completing = RLock()
"""Held while an instance is completed: several threads may have the same one in hand, and a signal
handler may come in between."""

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


class ReceivedModel(BaseModel):
    """A model whose instances can be made of validated fields: `object.__new__`, then `set_fields`.

    pydantic gives each instance every default, the set of the fields that were given and a
    dictionary of unknown ones: two thirds of the memory of a token, and a third of the time. Here
    absent fields are found in the class, and the rest is made up for when pydantic asks for it.
    Unknown fields are not for this: their names might hide those of the class.
    """

    # Built on first need: pydantic loads as much for it as for all the rest.
    model_config = ConfigDict(extra="allow", defer_build=True)

    @classmethod
    @override
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Put the defaults where fields that were not received are looked for."""
        for name, field in cls.model_fields.items():
            if not field.is_required() and field.default_factory is None:
                type.__setattr__(cls, name, _Default(name, field.default))

    def _complete(self) -> None:
        """Add what pydantic expects of an instance."""
        if _has(self, _FIELDS_SET):
            return
        with _completing:
            fields, known = vars(self), type(self).model_fields
            received = set(known).intersection(fields)
            # Asked only now: if somebody was faster, what was seen may be the defaults already.
            if _has(self, _FIELDS_SET):
                return
            # In place, for pydantic's serializer may hold the dictionary already; in the order of
            # the model; and in one call, so that no other thread finds a field missing.
            defaults = [field.get_default(call_default_factory=True) for field in known.values()]
            deque(map(fields.__setitem__, known, map(fields.pop, known, defaults)), maxlen=0)
            # Last: whoever finds one of these missing comes here.
            _set(self, _EXTRA, {})
            _set(self, _PRIVATE, None)
            _set(self, _FIELDS_SET, received)

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Called for what is not there."""
            if name in (_FIELDS_SET, _EXTRA, _PRIVATE):
                self._complete()
                return _get(self, name)
            return super().__getattr__(name)

    @override
    def __iter__(self) -> Generator[tuple[str, Any], None, None]:
        self._complete()
        return super().__iter__()

    @override
    def __repr_args__(self) -> Any:
        self._complete()
        return super().__repr_args__()

    @override
    def __copy__(self) -> Self:
        self._complete()
        return super().__copy__()

    @override
    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        self._complete()
        return super().__deepcopy__(memo)

    @override
    def __getstate__(self) -> dict[Any, Any]:
        self._complete()
        return super().__getstate__()

    if not TYPE_CHECKING:

        def __delattr__(self, name: str) -> None:
            self._complete()
            super().__delattr__(name)
