"""Event streams, however they are cut (B4)."""

from __future__ import annotations

import pytest

from authz.errors import UnavailableError
from authz.protocol.sse import COMMENT, Event, EventReader


def read(*chunks: bytes, limit: int = 1000) -> list[Event | bytes]:
    reader = EventReader(limit)
    return [item for chunk in chunks for item in reader.feed(chunk)]


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"])
def test_b4_each_line_ending_ends_a_line(end: bytes) -> None:
    stream = end.join([b"event: message", b"id: 7", b"data: one", b"data:two", b"data", b"retry: 5", b"", b""])
    expected = Event(data=b"one\ntwo\n", fields=(b"event: message", b"id: 7", b"retry: 5"))
    assert read(stream) == [expected]
    assert read(*(stream[n : n + 1] for n in range(len(stream)))) == [expected]


def test_b4_a_cr_lf_cut_in_half_is_one_line_ending() -> None:
    assert read(b"data: a\r", b"\ndata: b\r", b"\n\r", b"\n") == [Event(data=b"a\nb")]


def test_b4_a_lone_cr_ends_the_event_at_once() -> None:
    reader = EventReader(100)
    assert reader.feed(b"data: a\r\r") == [Event(data=b"a")]
    assert reader.feed(b"\n") == []
    assert reader.feed(b"\n") == []


def test_b4_a_byte_order_mark_is_taken_off_the_start_only() -> None:
    assert read(b"\xef", b"\xbb", b"\xbfdata: a\n\n") == [Event(data=b"a")]
    assert read(b"data: \xef\xbb\xbf\n\n") == [Event(data=b"\xef\xbb\xbf")]
    assert read(b"\xef\xbb\xbf\xef\xbb\xbfdata: a\n\n") == []


def test_b4_keep_alives_are_not_held_back() -> None:
    reader = EventReader(100)
    assert reader.feed(b": ping\n") == [COMMENT]
    assert reader.feed(b"data: half an ev") == []
    assert reader.feed(b"ent\n:\r\n") == [COMMENT]
    assert reader.feed(b"\n") == [Event(data=b"half an event")]


def test_b7_comments_and_unknown_fields_carry_nothing_through() -> None:
    items = read(b": AKIA123\n", b"secret: AKIA123\nid: 1\ndata: x\nAKIA123\n\n")
    assert b"AKIA123" not in b"".join(item if isinstance(item, bytes) else item.render() for item in items)


@pytest.mark.parametrize(
    "field",
    [
        b"event: my card 4111",
        b"event: " + b"x" * 65,
        b"id: a b",
        b"id: \xc3\xa9",
        b"id: " + b"x" * 257,
        b"retry: 4111x",
    ],
)
def test_b7_a_field_that_looks_like_data_is_dropped(field: bytes) -> None:
    assert read(field + b"\ndata: x\n\n") == [Event(data=b"x")]


def test_an_event_without_data_is_kept() -> None:
    assert read(b"id: 1\ndata:\n\n", b"retry: 10\n\n", b"\n\n") == [
        Event(data=b"", fields=(b"id: 1",)),
        Event(fields=(b"retry: 10",)),
    ]


def test_an_unfinished_event_is_dropped_at_the_end() -> None:
    reader = EventReader(100)
    assert reader.feed(b"data: unjudged\n") == []
    reader.end()
    assert reader.feed(b"\n") == []


@pytest.mark.parametrize(
    "stream", [b"data: " + b"x" * 200, b"data: 123456789\n" * 20, b": " + b"x" * 200, b"x\n" * 200]
)
def test_b4_memory_is_bounded_by_the_limit_of_one_event(stream: bytes) -> None:
    with pytest.raises(UnavailableError, match="REDACT_FAILED"):
        read(stream, limit=100)


def test_b4_the_limit_is_for_one_event_and_not_for_the_stream() -> None:
    assert len(read(b"data: 123456789\n\n" * 1000, limit=20)) == 1000
    assert read(*[b": ping\n"] * 1000, limit=20) == [COMMENT] * 1000


def test_what_is_rendered_reads_as_the_same_event() -> None:
    event = Event(data=b'{"a":1}\n\nb', fields=(b"event: message", b"id:7"))
    assert event.render() == b'event: message\nid:7\ndata: {"a":1}\ndata: \ndata: b\n\n'
    assert read(event.render()) == [event]
