"""The attributes of an object, wherever it keeps them."""

from __future__ import annotations

__all__ = ["attributes"]


def attributes(value: object) -> dict[str, object]:
    """Return the attributes of an object itself, from its `__dict__` and its slots."""
    found: dict[str, object] = dict(getattr(value, "__dict__", {}))
    for kind in type(value).__mro__:
        slots = getattr(kind, "__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if name not in {"__dict__", "__weakref__"} and hasattr(value, name):
                found[name] = getattr(value, name)
    return found
