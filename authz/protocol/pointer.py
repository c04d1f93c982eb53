"""RFC 6901 JSON pointers: find a value, name a value, replace a value.

Decides which value a pointer means. Must never create what is not there, and never treat a pointer that
leads nowhere as harmless. Trusts its callers for the syntax of the pointers that operators write.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from authz.model import JsonValue

# No sign, no leading zero (RFC 6901 §4), no other script's digits, and short enough to be an index at all.
_INDEX: Final = re.compile(r"0|[1-9][0-9]{0,8}")
_ESCAPE: Final = re.compile(r"~(?![01])")


class PointerError(ValueError):
    """A text that is not a JSON pointer."""


def tokens(pointer: str) -> list[str]:
    """The reference tokens of `pointer`, unescaped.

    Raises:
        PointerError: no leading slash, or a `~` that escapes nothing (RFC 6901 §3).
    """
    if not pointer:
        return []  # the whole document
    if not pointer.startswith("/") or _ESCAPE.search(pointer):
        raise PointerError("not a JSON pointer")
    # `~1` before `~0`, or `~01` would become a slash.
    return [token.replace("~1", "/").replace("~0", "~") for token in pointer[1:].split("/")]


def join(*names: str | int) -> str:
    """The pointer made of `names`."""
    return "".join("/" + str(name).replace("~", "~0").replace("/", "~1") for name in names)


def step(value: JsonValue, token: str) -> JsonValue:
    """The member or element of `value` that `token` names.

    Raises:
        LookupError: there is none.
    """
    if isinstance(value, dict):
        return value[token]
    if isinstance(value, list) and _INDEX.fullmatch(token):
        return value[int(token)]
    raise LookupError


def find(value: JsonValue, pointer: str) -> JsonValue:
    """The value at `pointer`, or None where there is none.

    Raises:
        PointerError: `pointer` is not one.
    """
    try:
        for token in tokens(pointer):
            value = step(value, token)
    except LookupError:
        return None
    return value


def leaves(value: JsonValue, base: str = "") -> Iterator[tuple[str, JsonValue]]:
    """Every value that is neither object nor array, with its pointer. Depth is bounded by the parser."""
    if isinstance(value, dict):
        for name, member in value.items():
            yield from leaves(member, base + join(name))
    elif isinstance(value, list):
        for index, element in enumerate(value):
            yield from leaves(element, base + join(index))
    else:
        yield base, value
