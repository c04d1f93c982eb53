"""What an MCP message asks for, in three revisions; and everything it must not get past us."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import pytest

from authz.config import Limits, Route
from authz.errors import InvalidRequestError
from authz.model import Check, Kind, Protocol
from authz.protocol import mcp

if TYPE_CHECKING:
    from authz.model import ToolCall

ROUTE = Route(path="/mcp", capabilities=("payments",), connector="bank")
LIMITS = Limits()
LEGACY = {"mcp-protocol-version": "2025-06-18"}
META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
}
CALL = {"name": "transfer", "arguments": {"amount": 5, "to": "DE89"}}


def message(method: str = "tools/call", params: Any = None, **members: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 7, "method": method, "params": CALL if params is None else params} | members


def post(body: Any, headers: dict[str, str] | None = None) -> Check:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Check(method="POST", path="/mcp", headers=LEGACY if headers is None else headers, body=raw)


def parse(body: Any, headers: dict[str, str] | None = None, route: Route = ROUTE) -> ToolCall:
    return mcp.parse(post(body, headers), route, "bank-tools", LIMITS)


def refusal(body: Any, headers: dict[str, str] | None = None) -> InvalidRequestError:
    with pytest.raises(InvalidRequestError) as caught:
        parse(body, headers)
    return caught.value


def modern(method: str = "tools/call", name: str | None = "transfer", **headers: str) -> dict[str, str]:
    named = {} if name is None else {"mcp-name": name}
    extra = {key.replace("_", "-"): value for key, value in headers.items()}
    return {"mcp-protocol-version": "2026-07-28", "mcp-method": method} | named | extra


def modern_message(method: str = "tools/call", params: dict[str, Any] = CALL, **members: Any) -> dict[str, Any]:
    return message(method, params | {"_meta": META}, **members)


@pytest.mark.parametrize("version", ["2025-06-18", "2025-11-25"])
def test_a_legacy_tool_call_is_read_whole(version: str) -> None:
    body = message()
    call = parse(body, {"mcp-protocol-version": version, "mcp-session-id": "s-1", "idempotency-key": "k"})
    assert (call.kind, call.message_id, call.notification) == (Kind.CALL, 7, False)
    assert (call.tool.server, call.tool.name, call.tool.method) == ("bank-tools", "transfer", "tools/call")
    assert (call.tool.protocol, call.tool.capabilities, call.tool.connector) == (Protocol.MCP, ("payments",), "bank")
    assert (call.args, call.args_pointer) == ({"amount": 5, "to": "DE89"}, "/params/arguments")
    assert (call.protocol_version, call.mcp_session, call.idempotency_key) == (version, "s-1", "k")
    assert call.body_sha256 == hashlib.sha256(json.dumps(body).encode()).hexdigest()
    assert call.simple_json


def test_a_modern_tool_call_has_no_session() -> None:
    call = parse(modern_message(), modern(mcp_session_id="s-1"))
    assert (call.protocol_version, call.mcp_session) == ("2026-07-28", "")
    assert call.args == CALL["arguments"]


@pytest.mark.parametrize(
    ("method", "kind"),
    [
        ("ping", Kind.HANDSHAKE),
        ("initialize", Kind.HANDSHAKE),
        ("tools/list", Kind.LIST),
        ("prompts/list", Kind.CALL),
        ("resources/subscribe", Kind.CALL),
        ("sampling/createMessage", Kind.CALL),
        ("elicitation/create", Kind.CALL),
        ("roots/list", Kind.CALL),
        ("tasks/result", Kind.CALL),
        ("logging/setLevel", Kind.CALL),
    ],
)
def test_each_legacy_method_has_its_kind(method: str, kind: Kind) -> None:
    assert parse(message(method, {})).kind is kind


@pytest.mark.parametrize(
    ("method", "kind"),
    [
        ("server/discover", Kind.HANDSHAKE),
        ("tools/list", Kind.LIST),
        ("subscriptions/listen", Kind.CALL),
        ("tasks/update", Kind.CALL),
        ("completion/complete", Kind.CALL),
    ],
)
def test_each_modern_method_has_its_kind(method: str, kind: Kind) -> None:
    assert parse(modern_message(method, {}), modern(method, None)).kind is kind


@pytest.mark.parametrize("method", ["initialize", "ping", "resources/subscribe", "logging/setLevel", "tasks/list"])
def test_methods_that_modern_mcp_dropped_are_unknown_there(method: str) -> None:
    assert refusal(modern_message(method, {}), modern(method, None)).reason.code == "MCP_METHOD_UNKNOWN"


@pytest.mark.parametrize("method", ["server/discover", "subscriptions/listen", "tasks/update"])
def test_methods_that_legacy_mcp_had_not_yet_are_unknown_there(method: str) -> None:
    assert refusal(message(method, {})).reason.code == "MCP_METHOD_UNKNOWN"


def test_other_methods_show_their_params_to_the_policy_without_meta() -> None:
    call = parse(message("resources/read", {"uri": "file:///a", "x": [1], "_meta": {"progressToken": 1}}))
    assert (call.tool.name, call.args, call.args_pointer) == ("file:///a", {"uri": "file:///a", "x": [1]}, "/params")
    call = parse(message("prompts/get", {"name": "p", "arguments": {"a": "b"}}))
    assert (call.tool.name, call.args) == ("p", {"name": "p", "arguments": {"a": "b"}})
    assert parse(message("prompts/list", {"cursor": "c"})).tool.name == ""


@pytest.mark.parametrize(
    "method", ["initialized", "cancelled", "progress", "roots/list_changed", "tasks/status"]
)  # fmt: skip
def test_a_notification_is_a_handshake_without_an_id(method: str) -> None:
    body = message(f"notifications/{method}", {})
    assert refusal(body).reason.code == "MCP_ENVELOPE"
    del body["id"]
    call = parse(body)
    assert (call.kind, call.notification, call.message_id) == (Kind.HANDSHAKE, True, None)


def test_c11_a_call_without_an_id_is_refused() -> None:
    for method in ("tools/call", "tools/list", "initialize"):
        body = message(method)
        del body["id"]
        assert refusal(body).reason.code == "MCP_ENVELOPE"


def test_c11_a_response_passes_inside_a_legacy_session_only() -> None:
    response = {"jsonrpc": "2.0", "id": 3, "result": {"action": "accept"}}
    call = parse(response, LEGACY | {"mcp-session-id": "s"})
    assert (call.kind, call.tool.method, call.message_id) == (Kind.RESPONSE, "response", 3)
    assert refusal(response).reason.code == "MCP_RESPONSE"
    headers = {"mcp-protocol-version": "2026-07-28", "mcp-session-id": "s"}
    error = refusal(response, headers)
    assert (error.reason.code, error.message_id) == ("MCP_RESPONSE", 3)


@pytest.mark.parametrize("headers", [LEGACY, {"mcp-protocol-version": "2025-11-25"}, modern()])
@pytest.mark.parametrize("batch", [[], [message()], [message("tools/list", {}), message()]])
def test_c10_a_batch_is_refused_on_every_revision(batch: list[Any], headers: dict[str, str]) -> None:
    assert refusal(batch, headers).reason.code == "MCP_BATCH"


@pytest.mark.parametrize(
    "method",
    ["tools/call ", " tools/call", "Tools/Call", "tools/call\u200b", "tools//call", "tools/call\x00", "tool\u017f/call",
     "rpc.discover", "tools", "notifications/evil", "notifications/"],
)  # fmt: skip
def test_c12_a_method_spelled_otherwise_is_refused(method: str) -> None:
    error = refusal(message(method, {}))
    assert (error.reason.code, error.reason.http_status, error.message_id) == ("MCP_METHOD_UNKNOWN", 403, 7)


def test_c12_an_escaped_slash_is_the_same_method() -> None:
    raw = b'{"jsonrpc":"2.0","id":1,"method":"tools\\/call","params":{"name":"transfer"}}'
    assert parse(raw).tool.method == "tools/call"


@pytest.mark.parametrize(
    "headers",
    [
        modern("tools/list"),
        modern("Tools/call"),
        modern("tools/call,tools/call"),
        {key: value for key, value in modern().items() if key != "mcp-method"},
        modern(name=None),
        modern(name="delete"),
        modern(name="Transfer"),
        modern(name="transfer,transfer"),
        modern(name="=?base64?ZGVsZXRl?="),
        modern(name="=?BASE64?dHJhbnNmZXI=?="),
        modern(name="=?base64?dHJhbnNmZXI?="),
        modern(name="=?base64?dHJh bnNmZXI=?="),
        modern(name="=?base64?dHJhbnNmZXJ=?="),
        modern(name="=?base64?/w==?="),
        modern(name="=?base64?dHJhbnNmZXI=?= "),
    ],
)
def test_c13_a_header_that_differs_from_the_body_is_refused(headers: dict[str, str]) -> None:
    error = refusal(modern_message(), headers)
    assert (error.reason.code, error.reason.rpc_code, error.reason.http_status) == ("HEADER_MISMATCH", -32020, 400)
    assert error.message_id == 7


def test_c13_a_sentinel_is_decoded_before_it_is_compared() -> None:
    assert parse(modern_message(), modern(name="=?base64?dHJhbnNmZXI=?=")).tool.name == "transfer"
    body = modern_message("resources/read", {"uri": "file:///\u4e16"})
    assert parse(body, modern("resources/read", "=?base64?ZmlsZTovLy/kuJY=?=")).tool.name == "file:///\u4e16"


def test_c13_a_name_is_compared_with_what_the_method_names() -> None:
    task = modern_message("tasks/get", {"taskId": "t-1"})
    assert parse(task, modern("tasks/get", "t-1")).args == {"taskId": "t-1"}
    assert refusal(task, modern("tasks/get", "t-2")).reason.code == "HEADER_MISMATCH"
    assert refusal(modern_message("tools/list", {}), modern("tools/list", "transfer")).reason.code == "HEADER_MISMATCH"


def test_c13_a_uri_in_a_header_is_rewritten_with_its_argument() -> None:
    body = modern_message("resources/read", {"uri": "file:///a"})
    assert parse(body, modern("resources/read", "file:///a")).mirrors == {"mcp-name": "/uri"}


@pytest.mark.parametrize(
    ("params", "headers", "mirrors"),
    [
        ({"region": "us-west1"}, {"mcp-param-region": "us-west1"}, {"mcp-param-region": "/region"}),
        ({"tenantId": "t"}, {"mcp-param-tenant-id": "t"}, {"mcp-param-tenant-id": "/tenantId"}),
        ({"n": 42}, {"mcp-param-n": "42.0"}, {"mcp-param-n": "/n"}),
        ({"n": 42.0}, {"mcp-param-n": "42"}, {"mcp-param-n": "/n"}),
        ({"b": True}, {"mcp-param-b": "true"}, {"mcp-param-b": "/b"}),
        ({"s": "\u4e16"}, {"mcp-param-s": "=?base64?5LiW?="}, {"mcp-param-s": "/s"}),
        ({"deep": {"a/b": "v"}}, {"mcp-param-other": "v"}, {"mcp-param-other": "/deep/a~1b"}),
        ({"a": 1}, {"mcp-param-unheard-of": "v"}, {}),
        ({"a": 1}, {}, {}),
    ],
)
def test_a_parameter_header_that_agrees_is_tied_to_its_argument(
    params: dict[str, Any], headers: dict[str, str], mirrors: dict[str, str]
) -> None:
    body = modern_message(params={"name": "transfer", "arguments": params})
    assert parse(body, modern() | headers).mirrors == mirrors


@pytest.mark.parametrize(
    ("params", "headers"),
    [
        ({"region": "us-west1"}, {"mcp-param-region": "us-east1"}),
        ({"region": "us-west1"}, {"mcp-param-region": "US-WEST1"}),
        ({"region": "us-west1"}, {"mcp-param-region": "us-west1,us-west1"}),
        ({"region": "us-west1"}, {"mcp-param-region": "=?base64?!?="}),
        ({"region": None}, {"mcp-param-region": "us-west1"}),
        ({"region": ["us-west1"]}, {"mcp-param-region": "us-west1"}),
        ({"tenant_id": "a"}, {"mcp-param-tenantid": "b"}),
        ({"n": 42}, {"mcp-param-n": "43"}),
        ({"n": 42}, {"mcp-param-n": "4.2e1"}),
        ({"n": 9007199254740991}, {"mcp-param-n": "9007199254740991.1"}),
        ({"b": True}, {"mcp-param-b": "True"}),
        ({"b": True}, {"mcp-param-b": "1"}),
    ],
)
def test_c13_a_parameter_header_that_differs_is_refused(params: dict[str, Any], headers: dict[str, str]) -> None:
    body = modern_message(params={"name": "transfer", "arguments": params})
    assert refusal(body, modern() | headers).reason.code == "HEADER_MISMATCH"
    assert refusal(message(params={"name": "transfer", "arguments": params}), LEGACY | headers).reason.code == (
        "HEADER_MISMATCH"
    )


def test_c13_an_annotated_parameter_must_have_its_header_on_the_modern_revision() -> None:
    route = Route(path="/mcp", param_headers={"transfer": {"Region": "/where/region"}})
    params = {"name": "transfer", "arguments": {"where": {"region": "eu"}}}
    present = modern() | {"mcp-param-region": "eu"}
    assert parse(modern_message(params=params), present, route).mirrors == {"mcp-param-region": "/where/region"}
    for headers in (modern(), modern() | {"mcp-param-region": "us"}):
        with pytest.raises(InvalidRequestError, match="HEADER_MISMATCH"):
            parse(modern_message(params=params), headers, route)
    without = {"name": "transfer", "arguments": {"where": {"region": None}}}
    assert parse(modern_message(params=without), modern(), route).mirrors == {}
    with pytest.raises(InvalidRequestError, match="HEADER_MISMATCH"):
        parse(modern_message(params=without), present, route)
    assert parse(message(params=params), LEGACY, route).mirrors == {}


@pytest.mark.parametrize("version", [None, "", "2025-03-26", "1900-01-01", "2025-06-18,2025-06-18", "2025-06-18 "])
def test_c14_a_missing_unknown_or_repeated_version_is_refused(version: str | None) -> None:
    error = refusal(message(), {} if version is None else {"mcp-protocol-version": version})
    assert (error.reason.code, error.reason.rpc_code, error.reason.http_status) == ("MCP_VERSION", -32022, 400)
    assert error.message_id == 7


@pytest.mark.parametrize("headers", [LEGACY, {"mcp-protocol-version": "2025-11-25"}, {}])
def test_c14_a_version_header_that_differs_from_meta_is_refused(headers: dict[str, str]) -> None:
    assert refusal(modern_message(), headers).reason.code == "HEADER_MISMATCH"


def test_c14_only_initialize_comes_before_a_version() -> None:
    call = parse(message("initialize", {"protocolVersion": "2025-11-25"}), {})
    assert (call.kind, call.protocol_version) == (Kind.HANDSHAKE, "")
    for method in ("ping", "tools/list", "server/discover"):
        assert refusal(message(method, {}), {}).reason.code == "MCP_VERSION"


@pytest.mark.parametrize(
    "meta",
    [
        {},
        {"io.modelcontextprotocol/protocolVersion": "2026-07-28"},
        {"io.modelcontextprotocol/clientCapabilities": {}},
        {**META, "io.modelcontextprotocol/clientCapabilities": []},
    ],
)
def test_c14_a_modern_request_without_its_required_meta_is_refused(meta: dict[str, Any]) -> None:
    error = refusal(message(params=CALL | {"_meta": meta}), modern())
    assert (error.reason.code, error.reason.rpc_code) == ("MCP_PARAMS", -32602)


def test_c14_headers_of_a_later_revision_must_agree_on_an_old_one_too() -> None:
    assert parse(message(), LEGACY | {"mcp-method": "tools/call", "mcp-name": "transfer"}).tool.name == "transfer"
    for header in ({"mcp-method": "tools/list"}, {"mcp-name": "other"}):
        assert refusal(message(), LEGACY | header).reason.code == "HEADER_MISMATCH"


@pytest.mark.parametrize(
    "name",
    ["cafe\u0301", "caf\xe9", "tr\u0430nsfer", "transfer\u200f", "a" * 129, "a" * 10_000, "../transfer", "", " ", "a b",
     "a/b", "transfer\x00", "x\r\nset-cookie: a=b", ["transfer"], {"a": 1}, 7, None, True],
)  # fmt: skip
def test_c15_a_name_outside_the_allowed_set_is_no_tool(name: Any) -> None:
    error = refusal(message(params={"name": name, "arguments": {}}))
    assert (error.reason.code, error.reason.http_status, error.message_id) == ("TOOL_UNKNOWN", 403, 7)
    assert str(name) not in str(error) or name in ("", " ")


@pytest.mark.parametrize(
    "name", ["a", "getUser", "DATA_EXPORT_v2", "admin.tools.list", "backend__tool", "x-1", "a" * 128]
)
def test_c15_a_name_inside_the_allowed_set_is_taken_byte_for_byte(name: str) -> None:
    assert parse(message(params={"name": name})).tool.name == name


@pytest.mark.parametrize("arguments", [None, [], ["a"], '{"amount":5}', 1, True])
def test_c16_arguments_of_another_shape_are_refused(arguments: Any) -> None:
    error = refusal(message(params={"name": "transfer", "arguments": arguments}))
    assert (error.reason.code, error.message_id) == ("MCP_PARAMS", 7)


@pytest.mark.parametrize("name", ["x\r\nset-cookie: a=b", "x\ny", "x\x1b[31m"])
def test_a14_a_name_that_would_break_out_of_a_header_is_no_tool(name: str) -> None:
    error = refusal(message(params={"name": name}))
    assert error.reason.code == "TOOL_UNKNOWN"
    assert str(error).isprintable()


def test_c16_absent_arguments_are_none_at_all() -> None:
    assert parse(message(params={"name": "transfer"})).args == {}


@pytest.mark.parametrize(
    "params", [{}, {"arguments": {}}, {"name": "transfer", "_meta": []}, {"name": "transfer", "_meta": None}]
)
def test_c16_other_shapes_of_params_are_refused(params: dict[str, Any]) -> None:
    assert refusal(message(params=params)).reason.code == "MCP_PARAMS"


@pytest.mark.parametrize("uri", [1, None, ["file:///a"], {}])
def test_c16_a_uri_that_is_no_text_is_refused(uri: Any) -> None:
    assert refusal(message("resources/read", {"uri": uri})).reason.code == "MCP_PARAMS"


def test_c16_what_the_protocol_does_not_know_is_never_read() -> None:
    extra = {"tool": "other", "approval": "granted", "_meta": {"com.example/approved": True, "traceparent": "x"}}
    plain, crowded = parse(message()), parse(message(params=CALL | extra))
    assert (crowded.tool, crowded.args, crowded.traceparent) == (plain.tool, plain.args, "")


@pytest.mark.parametrize("name", ["Name", "ARGUMENTS", "argument\u017f", "_META", "URI", "inputresponses"])
def test_c2_a_parameter_that_is_known_only_after_folding_is_refused(name: str) -> None:
    assert refusal(message(params=CALL | {name: {}})).reason.code == "JSON_KEY_FOLD"


def test_c2_a_protocol_field_of_meta_is_not_folded_either() -> None:
    meta = META | {"IO.modelcontextprotocol/protocolversion": "2025-06-18"}
    assert refusal(message(params=CALL | {"_meta": meta}), modern()).reason.code == "JSON_KEY_FOLD"


def test_c2_arguments_are_the_tools_own_names() -> None:
    assert parse(message(params={"name": "t", "arguments": {"Name": 1, "METHOD": 2}})).args == {"Name": 1, "METHOD": 2}


def test_c20_a_retry_is_judged_as_a_new_call_in_full() -> None:
    retry = CALL | {"inputResponses": {"k": {"action": "accept"}}, "requestState": "from-another-tool"}
    changed = retry | {"arguments": {"amount": 5_000_000}}
    assert parse(modern_message(params=retry), modern()).args == CALL["arguments"]
    call = parse(modern_message(params=changed), modern())
    assert (call.kind, call.tool.name, call.args) == (Kind.CALL, "transfer", {"amount": 5_000_000})


def test_c20_a_task_call_shows_its_task_to_the_policy() -> None:
    params = {"taskId": "another-agents", "inputResponses": {}}
    call = parse(modern_message("tasks/update", params), modern("tasks/update", "another-agents"))
    assert (call.kind, call.tool.method, call.args) == (Kind.CALL, "tasks/update", params)


def test_the_trace_of_the_agent_is_taken_from_meta() -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    assert parse(message(params=CALL | {"_meta": {"traceparent": trace}})).traceparent == trace
    assert parse(message(params=CALL | {"_meta": {"traceparent": trace + "\n"}})).traceparent == ""


@pytest.mark.parametrize(("method", "named"), [("GET", "stream/open"), ("DELETE", "session/delete")])
def test_legacy_streams_are_calls_of_their_own(method: str, named: str) -> None:
    check = Check(method=method, path="/mcp", headers=LEGACY | {"mcp-session-id": "s"})
    call = mcp.parse(check, ROUTE, "bank-tools", LIMITS)
    assert (call.kind, call.tool.method, call.tool.name, call.mcp_session) == (Kind.CALL, named, "", "s")


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({"mcp-protocol-version": "2026-07-28"}, "METHOD_UNKNOWN"),
        ({"mcp-protocol-version": "1"}, "MCP_VERSION"),
        ({}, "MCP_VERSION"),
    ],
)
def test_modern_mcp_has_no_streams(headers: dict[str, str], reason: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        mcp.parse(Check(method="GET", path="/mcp", headers=headers), ROUTE, "s", LIMITS)
    assert caught.value.reason.code == reason


def test_bad_json_is_refused_before_anything_is_read_from_it() -> None:
    error = refusal(b'{"jsonrpc":"2.0","id":7,"method":"tools/call","method":"tools/list"}')
    assert (error.reason.code, error.message_id) == ("JSON_DUP_KEY", None)
