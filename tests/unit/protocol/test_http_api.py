"""Plain HTTP requests as tool calls; whatever two frameworks decode in two ways is refused."""

from __future__ import annotations

from typing import Any

import pytest

from authz.config import Limits, Route
from authz.errors import InvalidRequestError
from authz.model import Check, Kind, Protocol
from authz.protocol import http_api

ROUTE = Route(
    path_prefix="/",
    protocol=Protocol.HTTP,
    templates=("/v1/accounts", "/v1/accounts/{id}", "/v1/{kind}/{id}/notes", "/v1/accounts/{id}/"),
)
JSON = {"content-type": "application/json"}
FORM = {"content-type": "application/x-www-form-urlencoded"}


def parse(path: str, body: bytes | None = None, headers: dict[str, str] = JSON, method: str = "GET") -> Any:
    check = Check(method=method, path=path, host="api.test", headers=headers, body=body)
    return http_api.parse(check, ROUTE, "ledger", Limits())


def refusal(path: str, body: bytes | None = None, headers: dict[str, str] = JSON) -> str:
    with pytest.raises(InvalidRequestError) as caught:
        parse(path, body, headers)
    return caught.value.reason.code


@pytest.mark.parametrize(
    ("path", "name", "variables"),
    [
        ("/v1/accounts", "/v1/accounts", {}),
        ("/v1/accounts/7", "/v1/accounts/{id}", {"id": "7"}),
        ("/v1/accounts/a%20b", "/v1/accounts/{id}", {"id": "a b"}),
        ("/v1/acco%75nts/caf%C3%A9", "/v1/accounts/{id}", {"id": "caf\xe9"}),
        ("/v1/cards/7/notes", "/v1/{kind}/{id}/notes", {"kind": "cards", "id": "7"}),
        ("/v1/accounts/7/", "/v1/accounts/{id}/", {"id": "7"}),
        ("/v1/accounts/", "/v1/accounts/", {}),
        ("/%61dmin", "/admin", {}),
        ("/", "/", {}),
    ],
)
def test_the_tool_is_the_method_and_the_first_fitting_template(path: str, name: str, variables: dict[str, str]) -> None:
    call = parse(path, method="DELETE")
    assert call.tool.name == f"DELETE {name}"
    assert (call.tool.server, call.tool.method, call.tool.protocol) == ("ledger", "DELETE", Protocol.HTTP)
    assert call.args == {"path": variables, "query": {}, "body": None}
    assert call.kind is Kind.CALL


def test_body_and_query_are_arguments() -> None:
    call = parse("/v1/accounts?q=a+b&q=%63&r=&s&=x", b'{"amount":5}', method="POST")
    assert call.args["query"] == {"q": ["a b", "c"], "r": "", "s": "", "": "x"}
    assert call.args["body"] == {"amount": 5}
    assert parse("/x", b"to=DE89&to=&note=a%26b", FORM).args["body"] == {"to": ["DE89", ""], "note": "a&b"}


def test_three_equal_values_stay_three() -> None:
    assert parse("/x?a=&a=&a=").args["query"] == {"a": ["", "", ""]}


@pytest.mark.parametrize(
    "path",
    [
        "", "x", "*", "/a/../b", "/a/%2e%2e/b", "/a/.%2E/b", "/./a", "/a//b", "//a", "/a%2fb", "/a%2Fb", "/a%5cb",
        "/a\\b", "/a;v=1/b", "/a%3bv=1", "/a%00", "/a%0d%0a", "/a%7f", "/a%252fb", "/a%25", "/a%", "/a%4", "/a%zz",
        "/%c0%af", "/%ed%a0%80", "/%ff", "/caf\xe9", "/a b", "/a#b", "/..",
    ],
)  # fmt: skip
def test_a16_a_path_with_two_readings_is_refused(path: str) -> None:
    assert refusal(path) == "HTTP_PATH"


@pytest.mark.parametrize("query", ["a=1;b=2", "a=%", "a=%zz", "%c0%af=1", "a=%00", "a=%ff", "a=\xe9", "a=b c", "a=1#b"])
def test_a16_a_query_with_two_readings_is_refused(query: str) -> None:
    assert refusal(f"/x?{query}") == "HTTP_QUERY"


@pytest.mark.parametrize("body", [b"a=\xff", b"a=%ff", b"a=%00", b"a;b", b"a=%4", "a=\xe9".encode()])
def test_a_form_with_two_readings_is_refused(body: bytes) -> None:
    assert refusal("/x", body, FORM) == "HTTP_FORM"


def test_c1_a_json_body_is_held_to_the_same_rules_as_mcp() -> None:
    assert refusal("/x", b'{"a":1,"a":2}') == "JSON_DUP_KEY"
    assert refusal("/x", b"a=1") == "JSON_SYNTAX"


def test_a_tunnel_is_named_by_its_destination() -> None:
    route = Route(path_prefix="/", protocol=Protocol.PROXY)
    call = http_api.parse(Check(method="CONNECT", host="db.test:443"), route, "egress", Limits())
    assert (call.tool.name, call.tool.protocol) == ("CONNECT db.test:443", Protocol.PROXY)
    assert call.args == {"path": {}, "query": {}, "body": None}


@pytest.mark.parametrize(
    ("path", "body", "simple"),
    [("/x?a=%C3%A9", b'{"a":1}', True), ("/x?%C3%A9=1", None, False), ("/x", b'{"a":1.5}', False)],
)
def test_simple_covers_every_part_of_the_arguments(path: str, body: bytes | None, *, simple: bool) -> None:
    assert parse(path, body).simple_json is simple
