"""The hand-written wire format reads back, through the protobuf library, as what was meant."""

from __future__ import annotations

from google.protobuf.struct_pb2 import Struct
from hypothesis import given
from hypothesis import strategies as st

from authz.edge import wire

names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)


@given(st.dictionaries(names, st.text(st.characters(codec="utf-8"), max_size=300)), st.sets(names, max_size=4))
def test_a_struct_reads_back(strings: dict[str, str], true: set[str]) -> None:
    true -= strings.keys()
    message = Struct.FromString(wire.struct(strings, tuple(true)))
    expected = {name: text for name, text in strings.items() if text} | dict.fromkeys(true, True)
    assert dict(message.items()) == expected


@given(st.integers(0, 2**40))
def test_a_varint_reads_back(number: int) -> None:
    shift = value = 0
    for byte in wire.varint(number):
        value |= (byte & 0x7F) << shift
        shift += 7
    assert value == number
