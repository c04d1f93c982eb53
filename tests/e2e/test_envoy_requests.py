"""Attacks on the way to the tool, through the real Envoy: nothing reaches it that was not judged as it is."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

import httpx2 as httpx
import pytest

from tests.e2e.stack import eventually, raw, respond_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.stack import Received, Service, ToolServer

pytestmark = pytest.mark.e2e

CARD = "4111 1111 1111 1111"
VERSION = {"mcp-protocol-version": "2025-11-25", "content-type": "application/json", "accept": "application/json"}


def call(tool: str = "read", **arguments: object) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": tool, "arguments": arguments}}


class Caller:
    """An agent with a token, and what reaches the tool server while it calls."""

    def __init__(self, decisions: Service, tool_server: ToolServer, port: int) -> None:
        self.decisions = decisions
        self.tool_server = tool_server
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10)
        self.port = port
        self.authorization = {"authorization": f"Bearer {decisions.token()}"}
        tool_server.received.clear()
        tool_server.respond = respond_json({"jsonrpc": "2.0", "id": 7, "result": {"content": []}})

    def post(self, body: object, **headers: str) -> httpx.Response:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.client.post("/mcp", content=content, headers=VERSION | self.authorization | named)

    def raw(self, start: str, *headers: str, body: bytes = b"") -> bytes:
        """A request of these very lines."""
        lines = [f"{start} HTTP/1.1", "host: 127.0.0.1", "connection: close", *headers]
        lines += [f"{name}: {value}" for name, value in (VERSION | self.authorization).items()]
        return raw(self.port, "\r\n".join(lines).encode() + b"\r\n\r\n" + body)

    def record(self, answer: httpx.Response) -> dict[str, Any]:
        """The record of the decision that this answer names."""
        decision_id = answer.headers["x-authz-decision-id"]
        return next(record for record in self.decisions.records() if record["decision_id"] == decision_id)

    @property
    def arrived(self) -> list[Received]:
        return self.tool_server.received


@contextlib.contextmanager
def through(decisions: Service, tool_server: ToolServer, port: int) -> Iterator[Caller]:
    made = Caller(decisions, tool_server, port)
    with made.client:
        yield made


@pytest.fixture
def caller(decisions: Service, tool_server: ToolServer, envoy: int) -> Iterator[Caller]:
    with through(decisions, tool_server, envoy) as made:
        yield made


def test_an_allowed_call_arrives_as_it_was_sent(caller: Caller) -> None:
    answer = caller.post(call(path="/a"))
    assert answer.status_code == 200
    assert answer.json()["result"] == {"content": []}
    (received,) = caller.arrived
    assert (received.path, json.loads(received.body)) == ("/mcp", call(path="/a"))


def test_a_denied_call_never_arrives_and_keeps_its_id(caller: Caller) -> None:
    answer = caller.post(call("delete"))
    assert (answer.status_code, answer.json()["id"]) == (200, 7)
    assert answer.json()["error"]["data"]["code"] == "not_granted"
    assert caller.arrived == []


def test_the_caller_s_token_does_not_reach_the_tool(caller: Caller) -> None:
    caller.post(call())
    assert "authorization" not in caller.arrived[0].headers


def test_b5_the_tool_is_never_asked_for_an_encoding(caller: Caller) -> None:
    caller.post(call(), accept_encoding="gzip, br")
    assert "accept-encoding" not in caller.arrived[0].headers


def test_a13_what_a_tool_might_believe_is_removed(caller: Caller) -> None:
    spoofed = {"x_authz_agent": "root", "x_forwarded_client_cert": "By=spiffe://x/root"}
    caller.post(call(), **spoofed)
    assert not {"x-authz-agent", "x-forwarded-client-cert"} & caller.arrived[0].headers.keys()


def test_decision_record_and_trace_belong_together(caller: Caller) -> None:
    answer = caller.post(call(), traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
    record = caller.record(answer)
    assert record["trace_id"] == "0af7651916cd43dd8448eb211c80319c"
    assert caller.arrived[0].headers["traceparent"].split("-")[1] == record["trace_id"]


def test_a_trace_is_begun_where_the_agent_has_none(caller: Caller) -> None:
    answer = caller.post(call())
    record = caller.record(answer)
    assert record["trace_id"] == caller.arrived[0].headers["traceparent"].split("-")[1]


@pytest.mark.parametrize("protocol", ["websocket", "h2c"])
def test_a7_an_upgrade_gets_nowhere(caller: Caller, protocol: str) -> None:
    body = json.dumps(call("delete")).encode()
    upgrade = ("connection: upgrade, http2-settings", f"upgrade: {protocol}", "http2-settings: AAMAAABkAAQAAP__")
    answer = caller.raw("POST /mcp", *upgrade, f"content-length: {len(body)}", body=body)
    assert b" 101 " not in answer.partition(b"\r\n")[0]
    assert caller.arrived == []


@pytest.mark.parametrize("start", ["POST /mcp", "PUT /mcp", "post /mcp", "CONNECT 127.0.0.1:3000"])
def test_a8_a9_what_has_no_body_or_another_verb_is_refused(caller: Caller, start: str) -> None:
    answer = caller.raw(start, "content-length: 0")
    assert int(answer.split()[1]) in range(400, 500)
    assert caller.arrived == []


@pytest.mark.parametrize(
    "path",
    [
        "//mcp",
        "/mcp/",
        "/mcp/..;/",
        "/x/../mcp",
        "/mcp%2f",
        "/mcp%00",
        "/%6dcp",
        "/mcp;a=b",
        "/MCP",
        "/mcp\\",
        "/./mcp",
    ],
)
def test_a16_only_the_exact_path_passes(caller: Caller, path: str) -> None:
    body = json.dumps(call()).encode()
    answer = caller.raw(f"POST {path}", f"content-length: {len(body)}", body=body)
    assert int(answer.split()[1]) in (400, 403)
    assert caller.arrived == []


def test_a17_the_host_header_chooses_neither_server_nor_route(caller: Caller) -> None:
    answer = caller.post(call(), host="evil.example")
    assert caller.arrived[0].headers["host"] == f"127.0.0.1:{caller.tool_server.server_address[1]}"
    assert caller.record(answer)["tool"]["server"] == "default"


def test_a5_a_partial_body_header_is_not_believed_from_outside(caller: Caller) -> None:
    answer = caller.post(call(), x_envoy_auth_partial_body="true")
    # Envoy says itself whether the body is whole; what a client claims changes nothing.
    assert answer.status_code in (200, 413)
    assert len(caller.arrived) == (answer.status_code == 200)


def test_a14_a_tool_name_cannot_write_headers(caller: Caller) -> None:
    answer = caller.post(call("delete\r\nset-cookie: a=b"))
    assert "set-cookie" not in answer.headers
    assert caller.decisions.stat("envoy", "http.agents.ext_authz.authz.invalid") == 0


def test_a20_over_our_limit_the_answer_says_so_and_over_envoy_s_it_is_envoy_s(caller: Caller) -> None:
    ours = caller.post(call(text="x" * 65_536))
    assert (ours.status_code, ours.json()["error"]["data"]["code"]) == (413, "MCP_BODY_TOO_LARGE")
    assert caller.post(call(text="x" * 1_048_576)).status_code == 413
    assert caller.arrived == []


def test_a_header_with_an_underscore_is_refused(caller: Caller) -> None:
    body = json.dumps(call()).encode()
    answer = caller.raw("POST /mcp", "mcp_session_id: x", f"content-length: {len(body)}", body=body)
    assert b" 400 " in answer.partition(b"\r\n")[0]
    assert caller.arrived == []


# Sanitize


@pytest.mark.parametrize("replacement", ["", "[CARD]", "[a replacement that is longer than what it replaces]"])
def test_b6_a_redacted_body_has_its_own_length(caller: Caller, replacement: str) -> None:
    for note in (f"card {CARD}", "none"):
        answer = caller.post(call(note=note, replacement=replacement))
        assert answer.status_code == 200, answer.text
    redacted, plain = caller.arrived
    assert json.loads(redacted.body)["params"]["arguments"]["note"] == f"card {replacement}"
    assert int(redacted.headers["content-length"]) == len(redacted.body)
    assert "transfer-encoding" not in redacted.headers
    assert json.loads(plain.body)["params"]["arguments"]["note"] == "none"


def test_a_mirrored_header_is_redacted_with_its_argument(caller: Caller) -> None:
    answer = caller.post(call(note=f"card {CARD}"), mcp_param_note=f"card {CARD}")
    assert answer.status_code == 200, answer.text
    assert caller.arrived[0].headers["mcp-param-note"] == "card [CARD]"


def test_plain_calls_open_no_stream(caller: Caller) -> None:
    streams = "http.agents.ext_proc.sanitize_request.streams_started"
    before = caller.decisions.stat("envoy", streams)
    caller.post(call())
    assert caller.decisions.stat("envoy", streams) == before
    caller.post(call(note=CARD))
    assert caller.decisions.stat("envoy", streams) == before + 1


def filters(document: dict[str, Any]) -> list[dict[str, Any]]:
    listener = document["static_resources"]["listeners"][0]
    found: list[dict[str, Any]] = listener["filter_chains"][0]["filters"][0]["typed_config"]["http_filters"]
    return found


LUA = """
function envoy_on_request(request)
  local body = request:body()
  local text = body:getBytes(0, body:length()):gsub("note", "nose")
  body:setBytes(text)
end
"""


def swap_body(document: dict[str, Any]) -> None:
    """A filter between the decision and its redaction that changes the body."""
    config = {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua",
        "default_source_code": {"inline_string": LUA},
    }
    filters(document).insert(2, {"name": "envoy.filters.http.lua", "typed_config": config})


def test_b9_a_body_changed_between_the_filters_is_refused(decisions: Service, tool_server: ToolServer) -> None:
    with through(decisions, tool_server, decisions.envoy("swapped", swap_body)) as caller:
        answer = caller.post(call(note=CARD))
    assert (answer.status_code, answer.json()["error"]["data"]["code"]) == (403, "BODY_CHANGED")
    assert caller.arrived == []


def test_a_sanitize_filter_that_was_taken_out_is_noticed(decisions: Service, tool_server: ToolServer) -> None:
    port = decisions.envoy("unfiltered", lambda document: filters(document).pop(2))
    with through(decisions, tool_server, port) as caller:
        answer = caller.post(call(note=CARD))
    assert answer.status_code == 200
    noticed = eventually(lambda: [r for r in decisions.records() if r["reason"] == "SANITIZE_NOT_APPLIED"], 5)
    assert len(noticed) == 1


def test_a18_observability_mode_cannot_hide_that_nothing_was_redacted(
    decisions: Service, tool_server: ToolServer
) -> None:
    def observe(document: dict[str, Any]) -> None:
        filters(document)[2]["typed_config"]["extension_config"]["typed_config"]["observability_mode"] = True

    before = len([r for r in decisions.records() if r["reason"] == "SANITIZE_NOT_APPLIED"])
    with through(decisions, tool_server, decisions.envoy("observed", observe)) as caller:
        caller.post(call(note=CARD))
    eventually(lambda: len([r for r in decisions.records() if r["reason"] == "SANITIZE_NOT_APPLIED"]) > before, 5)
