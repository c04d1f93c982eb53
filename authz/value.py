"""Frozen values that cost little to make.

`dataclass(frozen=True)` sets each field by a call past its own lock. A decision makes values of a hundred fields, and a
third of its Python went there. Here a value is a plain object while it is made and is frozen once, whole.

Decides nothing. Must never leave a value that is not frozen. Trusts that values are not subclassed.
"""

from __future__ import annotations

from dataclasses import MISSING, dataclass, fields
from typing import TYPE_CHECKING, Any, Final, TypeVar, dataclass_transform

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
_ABSENT: Final = object()
# What `self.__class__ = ...` does, for an object whose own class lets nothing be set.
_turn: Final[Callable[[object, type], None]] = object.__dict__["__class__"].__set__


@dataclass_transform(frozen_default=True, kw_only_default=True)
def value(made: type[T]) -> type[T]:
    """`dataclass(frozen=True, slots=True, kw_only=True)`, with a constructor that takes a third of the time."""
    frozen: Any = dataclass(frozen=True, slots=True, kw_only=True)(made)
    names = tuple(field.name for field in fields(frozen))
    # Equal slots make equal layouts, so that an object may turn from the one class into the other.
    draft = type(made.__name__, (), {"__slots__": names, "__module__": made.__module__})
    scope: dict[str, Any] = {"turn": _turn, "draft": draft, "frozen": frozen, "absent": _ABSENT}
    parameters, settings = [], []
    for field in fields(frozen):
        name, default = field.name, f"default_{field.name}"
        setting = name
        if field.default_factory is not MISSING:
            scope[default] = field.default_factory
            parameters.append(f"{name}=absent")
            setting = f"{default}() if {name} is absent else {name}"
        elif field.default is not MISSING:
            scope[default] = field.default
            parameters.append(f"{name}={default}")
        else:
            parameters.append(name)
        settings.append(f"    self.{name} = {setting}")
    source = [f"def __init__(self, *, {', '.join(parameters)}):", "    turn(self, draft)", *settings]
    source.append("    self.__class__ = frozen")
    if hasattr(frozen, "__post_init__"):
        source.append("    self.__post_init__()")
    exec("\n".join(source), scope)  # noqa: S102 - as dataclasses does
    frozen.__init__ = scope["__init__"]
    frozen.__init__.__qualname__ = f"{made.__qualname__}.__init__"
    return frozen  # type: ignore[no-any-return]
