"""E10: one host has one spelling, whatever a caller writes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz import destination
from authz.destination import Destination


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("example.com", "example.com"), ("EXAMPLE.com.", "example.com"), ("Example.COM:443", "example.com:443"),
        ("my_service", "my_service"), ("bücher.example", "xn--bcher-kva.example"),
        ("BÜCHER.example:80", "xn--bcher-kva.example:80"), ("XN--BCHER-KVA.example", "xn--bcher-kva.example"),
        ("example。com", "example.com"), ("\uff11\uff12\uff17.0.0.1", "127.0.0.1"), ("127.1", "127.0.0.1"),
        ("0x7f000001", "127.0.0.1"), ("0x7F.1", "127.0.0.1"), ("2130706433", "127.0.0.1"), ("0177.0.0.01", "127.0.0.1"),
        ("127.0.0.1.", "127.0.0.1"), ("0xa9fea9fe", "169.254.169.254"), ("[::ffff:a9fe:a9fe]:80", "169.254.169.254:80"),
        ("[::1]", "[::1]"), ("[0:0:0:0:0:0:0:1]:443", "[::1]:443"), ("[2001:DB8::A]", "[2001:db8::a]"),
        ("010", "0.0.0.8"),        ("1.2.3.4.example", "1.2.3.4.example"),
    ],
)  # fmt: skip
def test_e10_spellings_of_a_destination_are_one(text: str, canonical: str) -> None:
    assert str(destination.parse(text)) == canonical
    assert str(destination.parse(canonical)) == canonical


@pytest.mark.parametrize(
    "text",
    [
        "", ".", "..", "a..b", ".a", "a b", "a/b", "a\\b", "a@b", "a%2eb", "a#b", "a?b", "-a", "a-", "a\n", "a\0",
        "a:", "a:0", "a:65536", "a:080", "a:+80", "a:8 0", "a:٤", "::1", "[::1", "[::1]x", "[]", "[::1%eth0]",
        "[1.2.3.4]", "256.1.1.1", "1.2.3.4.5", "1.2.3.256", "0x1ffffffff", "08", "09.1.1.1", "1..2", "*", "*.example",
        "a" * 64, ".".join(["abcdefgh"] * 29), "\u202eexample.com", "a\u200db",
    ],
)  # fmt: skip
def test_e10_what_can_be_read_in_two_ways_is_no_destination(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - any message, but none that repeats the text
        destination.parse(text)


@given(st.integers(0, 2**32 - 1))
def test_e10_every_way_of_writing_an_address_is_one(value: int) -> None:
    octets = value.to_bytes(4, "big")
    dotted = ".".join(map(str, octets))
    spellings = [str(value), hex(value), f"0{value:o}", ".".join(map(hex, octets)), f"[::ffff:{dotted}]", f"{dotted}."]
    assert {destination.parse(spelling) for spelling in spellings} == {Destination(dotted)}


@given(st.text())
def test_any_text_is_a_stable_destination_or_a_clear_refusal(text: str) -> None:
    try:
        parsed = destination.parse(text)
    except ValueError:
        return
    assert destination.parse(str(parsed)) == parsed
    assert str(parsed).isascii()
