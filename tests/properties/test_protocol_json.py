"""Strict JSON and canonical form hold for any value and any bytes."""

from __future__ import annotations

import json
from typing import Any

import orjson
import rfc8785
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from authz.config import Limits
from authz.errors import InvalidRequestError
from authz.protocol import canonical, mirrors, pointer
from authz.protocol.strict_json import MAX_INTEGER, Parsed, parse

LIMITS = Limits()
slow_machine = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
names = st.text().filter(lambda name: "\0" not in name)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(min_value=-MAX_INTEGER, max_value=MAX_INTEGER)
    | st.floats(allow_nan=False, allow_infinity=False).filter(lambda number: not MAX_INTEGER < abs(number) < 1e21)
    | st.text()
)
values: st.SearchStrategy[Any] = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4), max_leaves=12
)
json_like = st.text(alphabet='{}[]",:0123456789.eE+-truefalsn\\u\x00 \né').map(str.encode) | st.binary(max_size=200)


def outcome(body: bytes) -> Parsed | InvalidRequestError:
    try:
        return parse(body, LIMITS)
    except InvalidRequestError as error:
        return error


@slow_machine
@given(json_like)
def test_any_bytes_are_parsed_as_everyone_parses_them_or_refused(body: bytes) -> None:
    result = outcome(body)
    if isinstance(result, Parsed):
        assert result.value == json.loads(body) == orjson.loads(body)
    else:
        assert result.reason.code.startswith("JSON_")
        assert result.offset is None or 0 <= result.offset <= len(body)


@slow_machine
@given(value=values, escaped=st.booleans())
def test_every_value_in_bounds_is_read_back(value: Any, *, escaped: bool) -> None:
    body = json.dumps(value, ensure_ascii=escaped).encode()
    assert parse(body, LIMITS).value == value


@slow_machine
@given(values)
def test_both_ways_to_canonical_bytes_agree(value: Any) -> None:
    parsed = parse(json.dumps(value).encode(), LIMITS)
    if parsed.simple:
        assert canonical.dumps(parsed.value, simple=True) == rfc8785.dumps(parsed.value)
    assert parse(canonical.dumps(parsed.value, simple=parsed.simple), LIMITS).value == parsed.value


@slow_machine
@given(values, names, st.data())
def test_a_repeated_name_is_refused_wherever_it_is(value: Any, name: str, data: st.DataObject) -> None:
    member = json.dumps(name)
    spelled = data.draw(st.sampled_from([member, json.dumps(name, ensure_ascii=False)]))
    inner = f'{{{member}:1,"{chr(0x10FFFF)}x":2,{spelled}:3}}'
    body = json.dumps([value, "HERE"]).replace('"HERE"', inner).encode()
    result = outcome(body)
    assert isinstance(result, InvalidRequestError)
    assert result.reason.code == "JSON_DUP_KEY"


@slow_machine
@given(st.text() | st.integers(min_value=-MAX_INTEGER, max_value=MAX_INTEGER) | st.booleans())
def test_a_header_value_says_what_the_argument_says(value: str | int) -> None:
    header = mirrors.encode(value)
    assert header.isascii()
    assert header.isprintable()
    assert mirrors._is_equal(mirrors.decode(header), value)


@slow_machine
@given(values)
def test_every_leaf_is_found_by_its_pointer(value: Any) -> None:
    for path, leaf in pointer.leaves(value):
        assert pointer.find(value, path) == leaf
