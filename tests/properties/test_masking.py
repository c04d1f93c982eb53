"""What masking must hold for any document, not only for those we thought of."""

from __future__ import annotations

import itertools
from typing import Any

import orjson
from hypothesis import example, given
from hypothesis import strategies as st

from authz.audit.detectors import Effort, find, suspicious
from authz.audit.masking import MOST_CANDIDATES, PRUNED_LEVELS, _Walk
from tests.decisions import MASKER

SECRETS = (
    "AKIAIOSFODNN7EXAMPLE",
    "ghp_" + "a1B2" * 9,
    "xoxb-123456789012-abcdefABCDEF",
    "sk_live_" + "4eC39Hq" * 3,
    "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJhZ2VudC0xIn0.c2lnbmF0dXJl",
    "-----BEGIN PRIVATE KEY-----\nMHcCAQEEIB\n-----END PRIVATE KEY-----",
    "4111 1111 1111 1111",
    "378282246310005",
    "DE89 3704 0044 0532 0130 00",
    "123-45-6789",
    "alice@example.com",
    "password=hunter22hunter22",
    '"client_secret" : "hunter22hunter22"',
    "https://app:hunter22hunter22@db.example.com/x",
    "Bearer abcdefghijklmnopqrstuvwxyz",
)
# What must not be left of each: the part that is secret.
CORES = (
    *SECRETS[:5],
    "MHcCAQEEIB",
    *SECRETS[6:11],
    "hunter22hunter22",
    "abcdefghijklmnopqrstuvwxyz",
)

# Texts that JSON has to escape, and neighbours that tempt a pattern to stop or to swallow.
around = st.text(alphabet=st.sampled_from(list('\n\t\x00\x01\x1f"\\/ .,;:(){}[]é\u2028😀')), max_size=6)
words = st.text(max_size=12)
keys = st.one_of(words, st.sampled_from(["password", "apiKey", "X-Auth-Token", "note", "rawBody", *SECRETS]))
leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**53), 2**53),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([4111111111111111, 378282246310005.0]),
    words,
    st.builds("{}{}{}".format, around, st.sampled_from(SECRETS), around),
    st.builds(lambda text: orjson.dumps({"body": text}).decode(), st.sampled_from(SECRETS)),
    st.just('{"id":"\\u0041KIAIOSFODNN7EXAMPLE"}'),
    st.just('{"password"     :\n\n "hunter22hunter22"}'),
    st.just('{"password" \n\t\r\n  : "hunter22hunter22", "password": null}'),
)
documents = st.dictionaries(
    keys,
    st.recursive(
        leaves,
        lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(keys, inner, max_size=4)),
        max_leaves=12,
    ),
    max_size=4,
)


@given(documents)
@example({"a": {"b": ["plain", "DE89 3704 0044 0532 0130 00"]}, "c": "alice@example.com"})
@example({"a": "x", "keep": {"b": "alice@example.com"}})
@example({"alice@example.com": "x"})
@example({"a": 4111111111111111})
@example({"a": " [4111111111111111]"})
@example({"a": "4111 1111 1111 1111", "b": [[], {}, "", None, {"c": "378282246310005"}]})
def test_what_is_found_in_place_is_what_the_walk_finds(document: dict[str, Any]) -> None:
    written, keep = orjson.dumps(document), (("keep",),)
    assert MASKER.mask(written, keep=keep) == MASKER._walked(written, keep)


@given(st.dictionaries(words, st.recursive(st.one_of(st.sampled_from(SECRETS[:10]), words), st.lists), max_size=3))
def test_what_is_found_in_place_among_many_texts_is_what_the_walk_finds(document: dict[str, Any]) -> None:
    written = orjson.dumps(document)
    assert MASKER.mask(written) == MASKER._walked(written, ())


@given(documents)
@example({"a": 4.111111111111111e15})
@example({"a": "\x014111111111111111"})
@example({"a": "\nAKIAIOSFODNN7EXAMPLE"})
def test_nothing_that_the_walk_would_mask_gets_past_the_first_look(document: dict[str, Any]) -> None:
    written = orjson.dumps(document)
    walk = _Walk(MASKER)
    # Below the levels that are passed by whole, so that every text is looked at.
    walk.value(orjson.loads(written), (), secret=False, depth=PRUNED_LEVELS + 1)
    assert suspicious(written) or not walk.pointers


@given(documents)
def test_no_secret_is_left_in_any_text_or_key(document: dict[str, Any]) -> None:
    masked, _ = MASKER.mask(orjson.dumps({"input": document}))
    left = [text for text in _texts(orjson.loads(masked)) if any(core in text for core in CORES)]
    assert left == []


@given(st.sampled_from(SECRETS), around, around)
def test_masking_replaces_the_secret_and_keeps_its_surroundings(secret: str, before: str, after: str) -> None:
    masked = MASKER.text(f"{before} {secret} {after}")
    assert not any(core in masked for core in CORES)
    assert masked.startswith(f"{before} ")
    assert "[MASKED:" in masked


@given(documents)
def test_every_pointer_leads_to_a_mark(document: dict[str, Any]) -> None:
    masked, pointers = MASKER.mask(orjson.dumps(document))
    whole = orjson.loads(masked)
    for pointer in pointers:
        assert _marked(whole, pointer)


@given(documents)
def test_what_is_not_masked_is_not_changed(document: dict[str, Any]) -> None:
    written = orjson.dumps(document)
    masked, pointers = MASKER.mask(written)
    assert (masked is written) == (not pointers)


@given(st.text())
def test_spans_are_in_order_and_apart(text: str) -> None:
    spans = find(text.encode(), Effort(MOST_CANDIDATES))
    assert all(left.end <= right.start for left, right in itertools.pairwise(spans))
    assert all(span.start < span.end for span in spans)


def _texts(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [*value, *(text for member in value.values() for text in _texts(member))]
    if isinstance(value, list):
        return [text for item in value for text in _texts(item)]
    return [value] if isinstance(value, str) else [str(value)]


def _marked(value: Any, pointer: str) -> bool:
    """Whether the value at the pointer, or its key, is or holds a mark."""
    *_, last = pointer.split("/")
    for part in pointer.split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        value = value[int(key)] if isinstance(value, list) else value[key]
    return "[MASKED:" in last or "[MASKED:" in str(value)
