"""Any request ends in a call or in one refusal of the catalogue, and in nothing else."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from authz.config import Limits, Route
from authz.errors import InvalidRequestError
from authz.model import Check, LocalAnswer, Protocol
from authz.protocol import envelope, http_api, mcp, routes
from authz.reasons import CATALOGUE

if TYPE_CHECKING:
    from authz.model import ToolCall

LIMITS = Limits()
slow_machine = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
ROUTES = (
    Route(path="/mcp", origins=("https://app.test",)),
    Route(path_prefix="/api/", protocol=Protocol.HTTP, templates=("/api/{a}",)),
    Route(path_prefix="/", host="proxy", protocol=Protocol.PROXY),
)
META = {"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}}
HEADERS = {
    "content-type": ["application/json", "application/x-www-form-urlencoded", "text/plain"],
    "content-length": ["0", "5", "x"],
    "origin": ["https://app.test", "null"],
    "mcp-protocol-version": ["2025-06-18", "2026-07-28", "1"],
    "mcp-method": ["tools/call", "tools/list", "x"],
    "mcp-name": ["t", "=?base64?dA==?=", "=?base64?!?="],
    "mcp-param-a": ["1", "x"],
    "mcp-session-id": ["s", "s,s"],
    "x-envoy-auth-partial-body": ["true", "false"],
    "connection": ["upgrade", "close"],
}
headers = st.fixed_dictionaries(
    {}, optional={name: st.sampled_from(some) | st.text(max_size=3) for name, some in HEADERS.items()}
)
scalars = st.none() | st.booleans() | st.integers() | st.text(max_size=5)
junk: st.SearchStrategy[Any] = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
)
params = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["t", "T", ""]) | junk,
        "arguments": st.fixed_dictionaries({}, optional={"a": junk}) | junk,
        "uri": junk,
        "_meta": st.just(META) | junk,
        "Name": junk,
    },
)
messages = st.fixed_dictionaries(
    {},
    optional={
        "jsonrpc": st.just("2.0") | junk,
        "id": st.integers() | junk,
        "method": st.sampled_from(["tools/call", "tools/list", "initialize", "notifications/initialized"]) | junk,
        "params": params | junk,
        "result": junk,
    },
)
bodies = st.none() | st.binary(max_size=40) | (messages | junk).map(lambda value: json.dumps(value).encode())
checks = st.builds(
    Check,
    method=st.sampled_from(["POST", "GET", "DELETE", "OPTIONS", "CONNECT", ""]),
    path=st.sampled_from(["/mcp", "/api/a?b=c", "/api/%2e", "/mcp/", ""]) | st.text(max_size=12).map("/api/".__add__),
    host=st.sampled_from(["tools", "proxy"]),
    headers=headers,
    body=bodies,
)


def judge(check: Check) -> ToolCall | LocalAnswer | InvalidRequestError:
    try:
        route = routes.match(check, ROUTES)
        if answer := envelope.admit(check, route):
            return answer
        parse = mcp.parse if route.protocol is Protocol.MCP else http_api.parse
        return parse(check, route, "server", LIMITS)
    except InvalidRequestError as error:
        return error


@slow_machine
@given(checks)
def test_any_request_is_a_call_or_a_refusal(check: Check) -> None:
    outcome = judge(check)
    if isinstance(outcome, InvalidRequestError):
        assert CATALOGUE[outcome.reason.code] is outcome.reason
        assert outcome.message_id is None or isinstance(outcome.message_id, str | int)
    else:
        assert isinstance(outcome, LocalAnswer) or outcome.tool.server == "server"


@slow_machine
@given(
    st.dictionaries(
        st.text().filter(lambda name: "\0" not in name), scalars.filter(lambda value: type(value) is not int)
    )
)
def test_what_is_judged_is_what_the_tool_reads(arguments: dict[str, Any]) -> None:
    body = json.dumps(
        {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "t", "arguments": arguments}}
    )
    check = Check(method="POST", path="/mcp", headers={"mcp-protocol-version": "2025-11-25"}, body=body.encode())
    assert mcp.parse(check, ROUTES[0], "server", LIMITS).args == arguments
