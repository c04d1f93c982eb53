"""However a stream is cut, the same events come out, and no secret with them."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from authz.model import Redaction
from authz.protocol import redaction
from authz.protocol.sse import Event, EventReader

SECRET = "AKIA" + "7Q" * 18
PLAN = [Redaction(path="", pattern=r"AKIA[0-9A-Z]{36}", replacement="[key]")]
slow_machine = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
lines = st.sampled_from(
    [b"data: a", b"data:b", b"data", b": c", b"id: 1", b"event: e", b"x: y", b"", b"", b"\xef\xbb\xbf", b"\xe2\x82"]
)
streams = st.lists(st.tuples(lines, st.sampled_from([b"\n", b"\r", b"\r\n"]))).map(
    lambda parts: b"".join(line + end for line, end in parts)
)


def read(chunks: list[bytes]) -> bytes:
    reader = EventReader(10_000)
    return b"".join(
        item if isinstance(item, bytes) else item.render() for chunk in chunks for item in reader.feed(chunk)
    )


@slow_machine
@given(streams, st.lists(st.integers(min_value=0, max_value=200)))
def test_b4_any_chunking_gives_the_same_events(stream: bytes, cuts: list[int]) -> None:
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    assert read([stream[a:b] for a, b in pairwise(edges)]) == read([stream])


@slow_machine
@given(streams)
def test_b4_reading_what_was_rendered_changes_nothing(stream: bytes) -> None:
    rendered = read([stream])
    assert read([rendered]) == rendered


def redacted(chunks: list[bytes]) -> bytes:
    reader = EventReader(10_000)
    out = []
    for chunk in chunks:
        for item in reader.feed(chunk):
            if isinstance(item, Event) and item.data:
                value = redaction.apply(json.loads(item.data), PLAN).value
                item = Event(data=json.dumps(value).encode(), fields=item.fields)  # noqa: PLW2901
            out.append(item if isinstance(item, bytes) else item.render())
    return b"".join(out)


@pytest.mark.parametrize("size", range(1, 65))
def test_b2_a_secret_cut_at_any_offset_is_redacted_as_if_it_were_whole(size: int) -> None:
    message = json.dumps({"result": {"content": [{"type": "text", "text": f"before {SECRET} after"}], SECRET: 1}})
    stream = f"id: 1\ndata: {message}\n\n: {SECRET}\n\ndata: {message}\n\n".encode()
    whole = redacted([stream])
    assert SECRET.encode() not in whole
    assert whole.count(b"[key]") == 4
    for start in range(size):
        chunks = [stream[:start], *(stream[n : n + size] for n in range(start, len(stream), size))]
        assert redacted(chunks) == whole


texts = st.text(max_size=8) | st.just(SECRET)
shapes = st.recursive(
    texts, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=6
)


@slow_machine
@given(shapes, st.integers(0, 3))
def test_b7_no_secret_survives_in_any_shape(value: object, nesting: int) -> None:
    for _ in range(nesting):
        value = {"text": json.dumps(value)}
    assert SECRET not in json.dumps(redaction.apply(value, PLAN).value)  # type: ignore[arg-type]
