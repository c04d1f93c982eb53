"""MCP over Streamable HTTP: one POST (or legacy GET or DELETE) -> one `ToolCall`.

Decides what a message asks for, in the revisions 2025-06-18, 2025-11-25 (legacy) and 2026-07-28 (modern), and
that the headers which routers read say the same as the body which the tool reads (2026-07-28, "Server
Validation"). Every method has an entry in a table here; one that has none is refused, never passed on.

Must never take a fact from a header alone, fill in a version, or carry anything over from an earlier call: a
retry with `inputResponses` or `requestState` and each `tasks/*` call is judged as new, in full (C20).

A request without `MCP-Protocol-Version` is refused, but for `initialize`, which comes before a version is
agreed. The specification lets servers read such a request as 2025-03-26; we do not serve that revision.

Trusts the route for the server's name and for the `x-mcp-header` annotations of its tools.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Final

from authz import reasons
from authz.errors import InvalidRequestError
from authz.model import Kind, Protocol, Tool, ToolCall
from authz.protocol import json_rpc, mirrors, routes, strict_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from authz.config import Limits, Route
    from authz.model import Check, JsonObject, JsonValue
    from authz.protocol.json_rpc import Message

MODERN: Final = "2026-07-28"
LEGACY: Final = ("2025-06-18", "2025-11-25")
VERSIONS: Final = (*LEGACY, MODERN)

RESPONSE: Final = "response"
"""`tool.method` of a client's answer to its server's own request (contracts §3)."""
_STREAMS: Final = {"GET": "stream/open", "DELETE": "session/delete"}

# The methods of each era. Those that only servers send (sampling, elicitation, roots) are here too: a client that
# sends one gets a decision of the policy's, which names it, and not a silent pass.
_SHARED: Final = {
    "tools/list": Kind.LIST,
    "tools/call": Kind.CALL,
    "prompts/list": Kind.CALL,
    "prompts/get": Kind.CALL,
    "resources/list": Kind.CALL,
    "resources/templates/list": Kind.CALL,
    "resources/read": Kind.CALL,
    "completion/complete": Kind.CALL,
    "sampling/createMessage": Kind.CALL,
    "elicitation/create": Kind.CALL,
    "roots/list": Kind.CALL,
    "tasks/get": Kind.CALL,
    "tasks/cancel": Kind.CALL,
}
_LEGACY_REQUESTS: Final[Mapping[str, Kind]] = _SHARED | {
    "initialize": Kind.HANDSHAKE,
    "ping": Kind.HANDSHAKE,
    "logging/setLevel": Kind.CALL,
    "resources/subscribe": Kind.CALL,
    "resources/unsubscribe": Kind.CALL,
    "tasks/list": Kind.CALL,
    "tasks/result": Kind.CALL,
}
# 2026-07-28 dropped the handshake, `ping` and the per-session methods; tasks are its extension now.
_MODERN_REQUESTS: Final[Mapping[str, Kind]] = _SHARED | {
    "server/discover": Kind.HANDSHAKE,
    "subscriptions/listen": Kind.CALL,
    "tasks/update": Kind.CALL,
}
_NOTIFICATIONS: Final = frozenset(
    {
        "notifications/initialized",
        "notifications/cancelled",
        "notifications/progress",
        "notifications/roots/list_changed",
        "notifications/tasks/status",
    }
)
"""What a client may send; the other notifications of MCP are its server's."""

# ASCII only, and matched whole: `$` would let a trailing newline in.
_TOOL_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,128}")
_TRACEPARENT: Final = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_META_VERSION: Final = "io.modelcontextprotocol/protocolVersion"
_META_CAPABILITIES: Final = "io.modelcontextprotocol/clientCapabilities"
_PARAMS: Final = {
    name.casefold(): name
    for name in ("name", "arguments", "_meta", "uri", "cursor", "taskId", "inputResponses", "requestState")
}
# Only what is read here. A server's own keys live in `_meta` as well, in whatever case it likes.
_META: Final = {name.casefold(): name for name in (_META_VERSION, _META_CAPABILITIES, "traceparent")}


def parse(check: Check, route: Route, server: str, limits: Limits) -> ToolCall:
    """What the request asks for.

    Args:
        check: an admitted request (`envelope.admit`).
        route: the route it matched.
        server: `tool.server`, which no caller can choose.
        limits: bounds of the JSON.

    Raises:
        InvalidRequestError: with the reason, and with the JSON-RPC id as soon as it could be read.
    """
    # Envelope and route were checked before; the steps below are in the order of what each must know.
    if check.method in _STREAMS:
        return _stream(check, route, server)
    body = check.body or b""
    parsed = strict_json.parse(body, limits, max_bytes=route.max_body_bytes)
    message = json_rpc.read(parsed.value)
    try:
        # The version decides which methods there are, the method what its parameters mean, and only then is it
        # known what the headers have to repeat.
        meta = _meta(message.params)
        version = _version(check, message, meta)
        kind = _kind(message, version, check)
        name, args, pointer = _target(message)
        params = mirrors.agree(check.headers, message, args, route, required=version == MODERN)
    except InvalidRequestError as error:
        error.message_id = message.id
        raise
    return ToolCall(
        tool=_tool(route, server, message.method or RESPONSE, name),
        kind=kind,
        args=args,
        args_pointer=pointer,
        message_id=message.id,
        notification=message.is_notification,
        protocol_version=version,
        mcp_session=_session(check, version),
        idempotency_key=check.headers.get("idempotency-key", ""),
        mirrors=params,
        traceparent=_traceparent(meta),
        body_sha256=hashlib.sha256(body).hexdigest(),
        simple_json=parsed.simple,
        destination=routes.destination_of(check, route),
    )


def _stream(check: Check, route: Route, server: str) -> ToolCall:
    """A legacy client's GET (listen) or DELETE (end the session); modern MCP has neither."""
    version = _known(check.headers.get("mcp-protocol-version"))
    if version == MODERN:
        raise InvalidRequestError(reasons.METHOD_UNKNOWN)
    return ToolCall(
        tool=_tool(route, server, _STREAMS[check.method], ""),
        protocol_version=version,
        mcp_session=_session(check, version),
        simple_json=True,
        destination=routes.destination_of(check, route),
    )


def _tool(route: Route, server: str, method: str, name: str) -> Tool:
    return Tool(
        server=server,
        name=name,
        protocol=Protocol.MCP,
        method=method,
        capabilities=route.capabilities,
        connector=route.connector,
    )


def _meta(params: JsonObject) -> JsonObject:
    json_rpc.refuse_folded(params, _PARAMS)
    meta = params.get("_meta", {})
    if not isinstance(meta, dict):
        raise InvalidRequestError(reasons.MCP_PARAMS, "_meta is not an object")
    json_rpc.refuse_folded(meta, _META)
    return meta


def _known(version: str | None) -> str:
    # Two headers arrive joined by a comma, and so are no known version either.
    if version not in VERSIONS:
        raise InvalidRequestError(reasons.MCP_VERSION)
    return version


def _version(check: Check, message: Message, meta: JsonObject) -> str:
    """The revision that header and body agree on, or "" for an `initialize` that comes before it."""
    # A value of another type than text equals no header, so it needs no check of its own.
    header, claimed = check.headers.get("mcp-protocol-version"), meta.get(_META_VERSION)
    if header is None and claimed is None and message.method == "initialize":
        return ""
    # A modern client that leaves the header out would be read as legacy by a router that looks no further.
    if header is None and claimed is not None:
        raise InvalidRequestError(reasons.HEADER_MISMATCH, "mcp-protocol-version is missing")
    version = _known(header)
    if claimed is not None and claimed != version:
        raise InvalidRequestError(reasons.HEADER_MISMATCH, "mcp-protocol-version differs from _meta")
    if version == MODERN and message.method and not message.is_notification:
        _require_meta(meta)
    return version


def _require_meta(meta: JsonObject) -> None:
    """Every modern request declares its version and capabilities (2026-07-28, "Per-request protocol fields")."""
    if _META_VERSION not in meta or not isinstance(meta.get(_META_CAPABILITIES), dict):
        raise InvalidRequestError(reasons.MCP_PARAMS, "_meta lacks protocolVersion or clientCapabilities")


def _kind(message: Message, version: str, check: Check) -> Kind:
    if message.is_response:
        if version == MODERN or "mcp-session-id" not in check.headers:
            raise InvalidRequestError(reasons.MCP_RESPONSE)
        return Kind.RESPONSE
    # Looked up, never parsed: no case folding, no trimming, no prefixes (C12).
    requests = _MODERN_REQUESTS if version == MODERN else _LEGACY_REQUESTS
    is_notification = message.method in _NOTIFICATIONS
    if not is_notification and message.method not in requests:
        raise InvalidRequestError(reasons.MCP_METHOD_UNKNOWN)
    # Without an id a server runs the call and sends no answer, so nobody would see that it ran (C11).
    if is_notification is not message.is_notification:
        raise InvalidRequestError(reasons.MCP_ENVELOPE, "the id is missing, or there where none belongs")
    return Kind.HANDSHAKE if is_notification else requests[message.method]


def _target(message: Message) -> tuple[str, JsonObject, str]:
    """Name, arguments, and the arguments' RFC 6901 pointer in the body."""
    params = message.params
    # A policy sees the arguments of tools whole, and the parameters of everything else without `_meta`, which
    # is the protocol's (contracts §4).
    if message.method == "tools/call":
        return _tool_name(params), _arguments(params), "/params/arguments"
    name = params.get("name", params.get("uri", ""))
    if not isinstance(name, str):
        raise InvalidRequestError(reasons.MCP_PARAMS, "name or uri is not a string")
    return name, {key: value for key, value in params.items() if key != "_meta"}, "/params"


def _tool_name(params: JsonObject) -> str:
    # The specification's SHOULD is a MUST here: no homoglyph, bidi mark or path fits this set (C15).
    if "name" not in params:
        raise InvalidRequestError(reasons.MCP_PARAMS, "params.name is missing")
    name = params["name"]
    if not isinstance(name, str) or not _TOOL_NAME.fullmatch(name):
        raise InvalidRequestError(reasons.TOOL_UNKNOWN)
    return name


def _arguments(params: JsonObject) -> JsonObject:
    # Absent means none. Null, a list or JSON in a string would be read by some servers and not by others (C16).
    arguments: JsonValue = params.get("arguments", {})
    if not isinstance(arguments, dict):
        raise InvalidRequestError(reasons.MCP_PARAMS, "params.arguments is not an object")
    return arguments


def _session(check: Check, version: str) -> str:
    """Modern MCP has no sessions and says to ignore the header."""
    return "" if version == MODERN else check.headers.get("mcp-session-id", "")


def _traceparent(meta: JsonObject) -> str:
    # Correlation only: a malformed one is left out, it is no reason to refuse.
    value = meta.get("traceparent")
    return value if isinstance(value, str) and _TRACEPARENT.fullmatch(value) else ""
