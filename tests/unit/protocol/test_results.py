"""Lists made for one caller, and the part of an answer that is judged."""

from __future__ import annotations

from typing import Any

import pytest

from authz.config import Limits
from authz.errors import UnavailableError
from authz.protocol import results


def listing(*tools: Any, **result: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "result": {"tools": [*tools], **result}}


READ, WIPE = {"name": "read", "description": "d"}, {"name": "wipe"}


def is_read(tool: Any) -> bool:
    return bool(tool["name"] == "read")


def test_hidden_tools_leave_the_list_and_are_named() -> None:
    message = listing(READ, WIPE, READ, nextCursor="c", ttlMs=5)
    filtered = results.filter_tools(message, is_read, modern=False)
    assert filtered.message == listing(READ, READ, nextCursor="c", ttlMs=5)
    assert filtered.hidden == ("wipe",)
    assert message == listing(READ, WIPE, READ, nextCursor="c", ttlMs=5)


@pytest.mark.parametrize("scope", [{}, {"cacheScope": "public"}, {"cacheScope": "private"}])
def test_a_modern_list_is_cached_for_its_caller_only(scope: dict[str, str]) -> None:
    filtered = results.filter_tools(listing(READ, **scope), is_read, modern=True)
    assert filtered.message == listing(READ, cacheScope="private")


def test_an_error_has_no_list_to_filter() -> None:
    message: dict[str, Any] = {"jsonrpc": "2.0", "id": 1, "error": {"code": 1, "message": "m"}}
    assert results.filter_tools(message, is_read, modern=True).message == message


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"result": None},
        {"result": []},
        {"result": {}},
        {"result": {"tools": {}}},
        listing("read"),
        listing({"title": "read"}),
        listing({"name": ["read"]}),
        listing(READ, None),
    ],
)
def test_a_list_that_cannot_be_read_is_not_shown(message: dict[str, Any]) -> None:
    with pytest.raises(UnavailableError, match="REDACT_FAILED"):
        results.filter_tools(message, lambda _: True, modern=True)


@pytest.mark.parametrize(
    ("message", "part"),
    [
        ({"id": 1, "result": {}}, "/result"),
        ({"id": 1, "error": {"data": 1}}, "/error"),
        ({"method": "notifications/message", "params": {"data": 1}}, "/params"),
        ({"id": 2, "method": "sampling/createMessage", "params": {}}, "/params"),
        ({"method": "notifications/tools/list_changed"}, None),
    ],
)
def test_b7_every_kind_of_message_has_its_judged_part(message: dict[str, Any], part: str | None) -> None:
    assert results.judged_part(message) == part


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"params": {}},
        {"method": 1},
        {"result": {}, "error": {}},
        {"method": "m", "result": {}},
        {"result": {}, "params": {}},
    ],
)
def test_a_message_of_no_kind_or_two_is_not_shown(message: dict[str, Any]) -> None:
    with pytest.raises(UnavailableError, match="REDACT_FAILED"):
        results.judged_part(message)


@pytest.mark.parametrize("body", [b"[]", b'{"a":1,"a":2}', b"{", b"\x1f\x8b\x08", b'{"n":18446744073709551616}'])
def test_b5_an_answer_that_cannot_be_read_strictly_is_not_shown(body: bytes) -> None:
    with pytest.raises(UnavailableError, match="REDACT_FAILED"):
        results.read(body, Limits(), 1000)
    with pytest.raises(UnavailableError, match="JSON_SIZE"):
        results.read(b'{"a":"' + b"x" * 1000 + b'"}', Limits(), 1000)


def test_a_readable_answer_is_read() -> None:
    assert results.read(b'{"id":1,"result":{"n":1.5}}', Limits(), 1000) == {"id": 1, "result": {"n": 1.5}}
