"""The canonical bytes of a JSON value, and their digest (RFC 8785).

Decides what two parties must hash to name the same arguments: key order and spelling of numbers do not count,
everything else does. Must never be given a value that `strict_json` did not make: only there are integers
held to 53 bits and lone surrogates refused, without which canonical form is not defined.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

import orjson
import rfc8785

if TYPE_CHECKING:
    from authz.model import JsonValue

PREFIX: Final = "sha256:"


def dumps(value: JsonValue, *, simple: bool = False) -> bytes:
    """RFC 8785 bytes of `value`.

    Args:
        value: from `strict_json.parse`.
        simple: its `Parsed.simple`. Sorted keys are then enough: RFC 8785 sorts by UTF-16 and writes floats
            as ECMAScript does, and orjson differs from it in these two things only.
    """
    # A digest is made for every record, and orjson is some fifty times faster than canonicalising in Python.
    if simple:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    return rfc8785.dumps(value)


def digest(value: JsonValue, *, simple: bool = False) -> str:
    """`sha256:` and the hexadecimal SHA-256 of the canonical bytes."""
    return PREFIX + hashlib.sha256(dumps(value, simple=simple)).hexdigest()
