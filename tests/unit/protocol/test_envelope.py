"""Step 1: whole, plain, of the right kind. Each refusal has its own reason."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from authz.config import Route
from authz.errors import InvalidRequestError
from authz.model import Check, Protocol
from authz.protocol import envelope

if TYPE_CHECKING:
    from collections.abc import Mapping

MCP = Route(path="/mcp", origins=("https://app.test",))
HTTP = Route(path_prefix="/", protocol=Protocol.HTTP)
PROXY = Route(path_prefix="/", protocol=Protocol.PROXY)
BODY = b'{"jsonrpc":"2.0","id":1,"method":"tools/list"}'
JSON = {"content-type": "application/json"}


def post(headers: Mapping[str, str] = JSON, body: bytes | None = BODY, method: str = "POST") -> Check:
    return Check(method=method, path="/mcp", host="tools.test", headers=headers, body=body)


def refusal(check: Check, route: Route = MCP) -> tuple[str, int]:
    with pytest.raises(InvalidRequestError) as caught:
        envelope.admit(check, route)
    return caught.value.reason.code, caught.value.reason.http_status


def test_a_whole_post_is_admitted() -> None:
    assert envelope.admit(post(JSON | {"content-length": str(len(BODY)), "user-agent": "x/1 (y)"}), MCP) is None


@pytest.mark.parametrize("value", ["true", "TRUE", "1", "", "false "])
def test_a5_truncated_body_is_refused(value: str) -> None:
    assert refusal(post(JSON | {"x-envoy-auth-partial-body": value}, BODY + b" " * 100)) == ("MCP_BODY_PARTIAL", 413)


def test_a5_a_body_that_envoy_calls_whole_is_admitted() -> None:
    assert envelope.admit(post(JSON | {"x-envoy-auth-partial-body": "false"}), MCP) is None


@pytest.mark.parametrize("length", ["900", "1", "-1", "+46", "046", "46 ", "0x2e", "46.0", "", "abc", "9" * 40])
def test_a6_a_content_length_that_lies_is_refused(length: str) -> None:
    assert refusal(post(JSON | {"content-length": length})) == ("MCP_BODY_LENGTH", 400)


def test_a6_without_a_content_length_the_bytes_held_are_judged() -> None:
    assert envelope.admit(post(), MCP) is None


@pytest.mark.parametrize(
    "headers",
    [
        {"connection": "Upgrade", "upgrade": "websocket"},
        {"connection": "keep-alive, UPGRADE"},
        {"upgrade": "h2c", "http2-settings": "AAMAAABkAARAAAAAAAIAAAAA"},
        {":protocol": "websocket"},
    ],
)
@pytest.mark.parametrize("route", [MCP, HTTP, PROXY])
def test_a7_an_upgrade_that_hides_the_body_is_refused(headers: dict[str, str], route: Route) -> None:
    assert refusal(post(JSON | headers, None), route) == ("MCP_BODY_UPGRADE", 403)


@pytest.mark.parametrize("body", [None, b""])
@pytest.mark.parametrize("headers", [{}, {"content-length": "0"}, {"content-length": "900"}, JSON])
def test_a8_an_mcp_post_without_a_body_is_refused(headers: dict[str, str], body: bytes | None) -> None:
    assert refusal(post(headers, body)) == ("MCP_BODY_MISSING", 400)


@pytest.mark.parametrize("method", ["PUT", "OPTIONS", "HEAD", "PATCH", "TRACE", "CONNECT", "post", "POST ", ""])
def test_a9_other_verbs_are_refused_on_mcp(method: str) -> None:
    assert refusal(post(method=method)) == ("METHOD_UNKNOWN", 405)


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_a9_legacy_get_and_delete_are_admitted_and_carry_no_body(method: str) -> None:
    assert envelope.admit(post({}, None, method), MCP) is None
    assert refusal(post(JSON, BODY, method)) == ("MCP_BODY_UNEXPECTED", 400)


@pytest.mark.parametrize("method", ["CONNECT", "TRACE", ""])
def test_a9_an_api_takes_no_tunnel_and_no_trace(method: str) -> None:
    assert refusal(post({}, None, method), HTTP) == ("METHOD_UNKNOWN", 405)


def test_a9_an_api_may_list_its_methods() -> None:
    route = Route(path="/x", protocol=Protocol.HTTP, methods=("GET",))
    assert envelope.admit(post({}, None, "GET"), route) is None
    assert refusal(post({}, None, "get"), route) == ("METHOD_UNKNOWN", 405)
    assert refusal(post(), route) == ("METHOD_UNKNOWN", 405)


def test_a9_connect_is_admitted_on_a_proxy_without_a_path() -> None:
    assert envelope.admit(Check(method="CONNECT", host="db.test:443"), PROXY) is None
    assert refusal(Check(method="", host="db.test:443"), PROXY) == ("METHOD_UNKNOWN", 405)


@pytest.mark.parametrize("value", ["a\xc3(", "caf\xe9", "a\x00b", "a\nb", "a\tb", "\x7f", "\N{REPLACEMENT CHARACTER}"])
def test_a12_a_header_outside_visible_ascii_is_refused(value: str) -> None:
    assert refusal(post(JSON | {"x-tenant": value})) == ("HEADER_BYTES", 400)


@pytest.mark.parametrize("name", ["content-length", "mcp-session-id", "idempotency-key", "x-envoy-auth-partial-body"])
def test_a13_a_repeated_header_is_refused(name: str) -> None:
    assert refusal(post(JSON | {name: "46,46"})) == ("HEADER_DUPLICATE", 400)


def test_a13_headers_that_only_the_proxy_may_set_change_nothing() -> None:
    spoofed = {"x-pdp-effect": "allow", "x-envoy-original-path": "/safe", "x-forwarded-client-cert": "By=admin"}
    assert envelope.admit(post(JSON | spoofed), MCP) is None
    assert refusal(post(spoofed)) == ("CONTENT_TYPE", 415)


@pytest.mark.parametrize(("size", "admitted"), [(99, True), (100, True), (101, False)])
def test_a20_the_limit_is_the_last_size_that_is_judged(size: int, *, admitted: bool) -> None:
    route = Route(path="/mcp", max_body_bytes=100)
    check = post(body=b" " * size)
    if admitted:
        assert envelope.admit(check, route) is None
    else:
        assert refusal(check, route) == ("MCP_BODY_TOO_LARGE", 413)


@pytest.mark.parametrize(
    "origin", ["http://evil.test", "null", "", "https://app.test.evil.test", "https://APP.test", "https://app.test/",
               "https://app.test,https://app.test"]
)  # fmt: skip
def test_c22_a_foreign_origin_is_refused(origin: str) -> None:
    assert refusal(post(JSON | {"origin": origin})) == ("ORIGIN", 403)
    assert refusal(post({"origin": origin}, None, "GET")) == ("ORIGIN", 403)


def test_c22_a_rebound_host_does_not_make_its_own_origin_trusted() -> None:
    check = replace(post(JSON | {"origin": "http://evil.test"}), host="evil.test")
    assert refusal(check, Route(path="/mcp")) == ("ORIGIN", 403)


def test_c22_a_listed_origin_and_none_at_all_are_admitted() -> None:
    assert envelope.admit(post(JSON | {"origin": "https://app.test"}), MCP) is None
    assert envelope.admit(post(), MCP) is None


def test_a_preflight_from_a_listed_origin_is_answered_here() -> None:
    headers = {
        "origin": "https://app.test",
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization,mcp-param-region",
    }
    answer = envelope.admit(post(headers, None, "OPTIONS"), MCP)
    assert answer is not None
    assert (answer.http_status, answer.body) == (204, b"")
    assert answer.headers["access-control-allow-origin"] == "https://app.test"
    assert answer.headers["access-control-allow-methods"] == "DELETE, GET, POST"
    assert answer.headers["access-control-allow-headers"] == "authorization,mcp-param-region"
    assert answer.headers["vary"] == "origin"


def test_a_preflight_to_an_api_offers_the_methods_of_its_route() -> None:
    asked = {"origin": "https://app.test", "access-control-request-method": "PATCH"}
    for methods, offered in ((("GET", "PUT"), "GET, PUT"), ((), "PATCH")):
        route = Route(path="/x", protocol=Protocol.HTTP, methods=methods, origins=("https://app.test",))
        answer = envelope.admit(post(asked, None, "OPTIONS"), route)
        assert answer is not None
        assert answer.headers["access-control-allow-methods"] == offered


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({"origin": "http://evil.test", "access-control-request-method": "POST"}, ("ORIGIN", 403)),
        ({"origin": "null", "access-control-request-method": "POST"}, ("ORIGIN", 403)),
        ({"access-control-request-method": "POST"}, ("METHOD_UNKNOWN", 405)),
        ({"origin": "https://app.test"}, ("METHOD_UNKNOWN", 405)),
    ],
)
def test_c22_other_preflights_are_refused(headers: dict[str, str], reason: tuple[str, int]) -> None:
    assert refusal(post(headers, None, "OPTIONS")) == reason


@pytest.mark.parametrize(
    "value",
    [
        "application/json",
        "application/json; charset=utf-8",
        "Application/JSON;charset=UTF-8",
        'application/json; charset="utf-8"',
    ],
)
def test_c23_json_in_utf_8_is_admitted(value: str) -> None:
    assert envelope.admit(post({"content-type": value}), MCP) is None


@pytest.mark.parametrize(
    "value",
    [
        "", "text/plain", "application/json; charset=utf-16", "application/json,application/json", "application/jsonx",
        "application/json; charset=utf-8; charset=utf-16", "application/json; boundary=x", "application/vnd.api+json",
        "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", " application/json",
        "application/json;",
    ],
)  # fmt: skip
def test_c23_any_other_content_type_is_refused_on_mcp(value: str) -> None:
    assert refusal(post({"content-type": value})) == ("CONTENT_TYPE", 415)


def test_c23_an_absent_content_type_is_refused() -> None:
    assert refusal(post({})) == ("CONTENT_TYPE", 415)
    assert refusal(post({}), HTTP) == ("CONTENT_TYPE", 415)


@pytest.mark.parametrize("coding", ["gzip", "br", "zstd", "gzip, gzip", "identity, gzip", "x-unknown", ""])
def test_c23_an_encoded_body_is_refused(coding: str) -> None:
    assert refusal(post(JSON | {"content-encoding": coding})) == ("CONTENT_ENCODING", 415)


def test_an_api_takes_forms_and_json() -> None:
    form = {"content-type": "application/x-www-form-urlencoded"}
    assert envelope.admit(post(form, b"a=1"), HTTP) is None
    assert envelope.is_form(post(form, b"a=1"))
    assert envelope.admit(post(), HTTP) is None
    assert not envelope.is_form(post())
    assert refusal(post({"content-type": "text/plain"}), HTTP) == ("CONTENT_TYPE", 415)


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
@pytest.mark.parametrize("headers", [JSON, {"transfer-encoding": "chunked"}])
def test_a8_an_api_body_that_envoy_did_not_send_along_is_not_judged_as_none(
    headers: dict[str, str], method: str
) -> None:
    assert refusal(post(headers, None, method), HTTP) == ("MCP_BODY_MISSING", 400)
    assert envelope.admit(post(headers | {"content-length": "0"}, None, method), HTTP) is None
    assert envelope.admit(post({}, None, method), HTTP) is None
