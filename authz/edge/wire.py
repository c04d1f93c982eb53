"""Protobuf wire format, written by hand for the few messages on the decision path.

Building a `CheckResponse` through the protobuf library costs 17 us of CPU, most of it in the metadata
`Struct`; writing its bytes costs a tenth of that. Decides nothing. Must stay a subset of the wire format
that the library reads back to the same message: a property test compares the two.
Source: protobuf.dev, "Encoding".
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

LENGTH_DELIMITED: Final = 2
_ONE_BYTE: Final = 0x80
_SMALL: Final = tuple(bytes((length,)) for length in range(_ONE_BYTE))


def varint(number: int) -> bytes:
    """An unsigned varint."""
    if number < _ONE_BYTE:
        return _SMALL[number]
    encoded = bytearray()
    while number >= _ONE_BYTE:
        encoded.append(number & 0x7F | _ONE_BYTE)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def key(field: int) -> bytes:
    """The key of a length-delimited field, for use with `put`."""
    return varint(field << 3 | LENGTH_DELIMITED)


def put(field_key: bytes, payload: bytes) -> bytes:
    """One length-delimited field."""
    return field_key + varint(len(payload)) + payload


def integer(field: int, number: int) -> bytes:
    """One varint field; absent when zero, as proto3 writes it."""
    return varint(field << 3) + varint(number) if number else b""


# Struct.fields is 1, an entry {key = 1, value = 2}; Value.string_value is 3, Value.bool_value 4.
_FIELDS: Final = key(1)
_ENTRY_VALUE: Final = key(2)
_STRING: Final = key(3)
_TRUE: Final = put(_ENTRY_VALUE, integer(4, 1))
_SHORT: Final = 64
"""Up to this many bytes in name and value, every length in an entry is one byte."""


@functools.lru_cache(maxsize=64)
def _entry_key(name: str) -> bytes:
    return put(key(1), name.encode())


def struct(strings: Mapping[str, str], true: tuple[str, ...] = ()) -> bytes:
    """A `google.protobuf.Struct` of non-empty strings and of names that are true."""
    parts = [_string_entry(_entry_key(name), text.encode()) for name, text in strings.items() if text]
    parts += [put(_FIELDS, _entry_key(name) + _TRUE) for name in true]
    return b"".join(parts)


def _string_entry(name: bytes, text: bytes) -> bytes:
    length = len(text)
    if len(name) + length < _SHORT:
        entry = b"%b\x12%b\x1a%b%b" % (name, _SMALL[length + 2], _SMALL[length], text)
        return b"\n%b%b" % (_SMALL[len(entry)], entry)
    return put(_FIELDS, name + put(_ENTRY_VALUE, put(_STRING, text)))
