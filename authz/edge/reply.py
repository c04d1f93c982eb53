"""`Decision` -> `CheckResponse` bytes: the one place that builds an answer.

Decides how each outcome looks on the wire (contracts §6). In Envoy a response without a status means
*allow*, so every answer here carries either status OK with an `ok_response`, or PERMISSION_DENIED or
UNAUTHENTICATED with a `denied_response`; there is no third way out of `render` (A1).
Must never echo a caller's bytes into a header unescaped (A14), nor a token or an argument anywhere.
Trusts the decision; the upstream credential comes from its port and goes nowhere but upstream.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

import orjson
from google.protobuf.struct_pb2 import Struct

from authz.edge import watched, wire
from authz.identity.trusted_peer import headers_to_remove
from authz.model import NO_HEADER_CHANGES, Effect

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from authz.config import Route
    from authz.model import Check, Decision, HeaderChanges, JsonObject, JsonValue, Principal, ToolCall, Verdict
    from authz.reasons import Reason

    Credential = Callable[[Check, Route, Principal | None], tuple[str, str] | None]

PERMISSION_DENIED: Final = 7
UNAUTHENTICATED: Final = 16
_UNAUTHORIZED: Final = 401

# envoy.service.auth.v3: CheckResponse, OkHttpResponse, DeniedHttpResponse, and core.v3 HeaderValueOption
_STATUS, _DENIED, _OK, _METADATA = wire.key(1), wire.key(2), wire.key(3), wire.key(4)
_OK_HEADERS, _OK_REMOVE, _OK_RESPONSE_HEADERS = wire.key(2), wire.key(5), wire.key(6)
_OK_QUERY_SET, _OK_QUERY_REMOVE = wire.key(7), wire.key(8)
_DENIED_STATUS, _DENIED_HEADERS, _DENIED_BODY = wire.key(1), wire.key(2), wire.key(3)
_FIRST, _SECOND = wire.key(1), wire.key(2)
_STATUS_OK: Final = wire.put(_STATUS, b"")
_REFUSED: Final = {code: wire.put(_STATUS, wire.integer(1, code)) for code in (PERMISSION_DENIED, UNAUTHENTICATED)}

DECISION_ID: Final = "x-authz-decision-id"
REASON: Final = "x-authz-reason"


class Replies:
    """Renders decisions for one contract.

    Args:
        credential: the tool's own credential for a call on a route, as (header, value), or None.
        plugin: answer as opa-envoy-plugin does: the policy's body and headers, and no body of ours.
    """

    def __init__(self, credential: Credential, *, plugin: bool = False) -> None:
        self._credential = credential
        self._plugin = plugin

    def render(self, check: Check, decision: Decision, route: Route | None) -> bytes:
        """The whole answer. Complete for every decision: unknown outcomes are denials."""
        if decision.local is not None:
            local = decision.local
            headers = [*local.headers.items(), (DECISION_ID, decision.id)]
            return _denied(PERMISSION_DENIED, local.http_status, headers, local.body, b"")
        metadata = wire.put(_METADATA, self._metadata(decision))
        if decision.forwards:
            return _STATUS_OK + wire.put(_OK, self._forward(check, decision, route)) + metadata
        code = UNAUTHENTICATED if decision.http_status == _UNAUTHORIZED else PERMISSION_DENIED
        headers, body = self._refusal(decision)
        return _denied(code, decision.http_status, headers, body, metadata)

    def _forward(self, check: Check, decision: Decision, route: Route | None) -> bytes:
        changes = decision.verdict.headers if decision.verdict else None
        # A drop-in adds nothing to what the plugin would say; there the id stands in the metadata alone.
        parts = [] if self._plugin else [_header(_OK_RESPONSE_HEADERS, DECISION_ID, decision.id)]
        if route is not None:
            parts += self._upstream(
                check, route, decision.principal, frozenset(changes.upsert) if changes else frozenset()
            )
        if changes is not None and changes is not NO_HEADER_CHANGES:
            parts += _changes(changes)
        return b"".join(parts)

    def _upstream(
        self, check: Check, route: Route, principal: Principal | None, policy_sets: frozenset[str]
    ) -> list[bytes]:
        """Strip what a tool might believe, and put its own credential in (D15)."""
        credential = self._credential(check, route, principal)
        parts = [_header(_OK_HEADERS, *credential)] if credential else []
        # Envoy removes after it sets, so what is set here must not be named for removal.
        keep = policy_sets | {credential[0]} if credential else policy_sets
        if route.upstream_auth == "pass":
            keep |= {"authorization", "dpop"}
        return [*parts, _removals(tuple(check.headers), keep)]

    def _refusal(self, decision: Decision) -> tuple[list[tuple[str, str]], bytes]:
        if self._plugin and decision.verdict is not None:
            policy_headers = decision.verdict.headers.upsert.items()
            pairs = [(name, text) for name, values in policy_headers for text in values]
            return pairs, (decision.verdict.body or "").encode()
        headers = [(DECISION_ID, decision.id)]
        if decision.challenge:
            headers.append(("www-authenticate", decision.challenge))
        headers.append((REASON, visible(decision.reason)))
        if decision.rpc_code:
            return [*headers, ("content-type", "application/json")], orjson.dumps(rpc_error(decision))
        return [*headers, ("content-type", "application/problem+json")], orjson.dumps(problem(decision))

    def _metadata(self, decision: Decision) -> bytes:
        """Dynamic metadata, namespace `envoy.filters.http.ext_authz` (contracts §6)."""
        if self._plugin:
            own = decision.verdict.metadata if decision.verdict else {}
            return _struct({**own, "decision_id": decision.id})
        call = decision.call
        common = _common_metadata(
            (decision.effect, decision.enforced, decision.status, decision.reason, decision.revision.revision),
            decision.principal,
            (call.tool.name, call.tool.server) if call is not None else ("", ""),
        )
        strings = {"decision_id": decision.id, "body_sha256": call.body_sha256 if call is not None else ""}
        if decision.revision.tenant is not None:
            strings["tenant_revision"] = decision.revision.tenant.revision
        true = []
        if decision.enforced is Effect.SANITIZE and call is not None and decision.verdict is not None:
            strings["redaction_plan"] = _plan(call, decision.verdict)
            true.append("sanitize_request")
        if decision.inspect_response:
            true.append("inspect_response")
        if (decision.watch_response or decision.opens_session) and call is not None and decision.principal is not None:
            strings[watched.METADATA] = watched.write(decision.principal, call.tool, call.destination)
            strings["traceparent"] = f"00-{decision.trace_id}-{decision.span_id}-01"
            # Envoy opens a stream for either word; `opens_session` says that its answer is not judged all the same.
            true += ["inspect_response", "opens_session"] if decision.opens_session else ["watch_response"]
        return common + wire.struct(strings, tuple(true))


@functools.lru_cache(maxsize=1024)  # an agent that calls a tool calls it again; bounded, as reasons can be anything
def _common_metadata(
    judgement: tuple[str, str, str, str, str], principal: Principal | None, tool: tuple[str, str]
) -> bytes:
    """The entries that a caller's decisions share. Fields of a Struct may stand in any order and in several parts."""
    strings = dict(zip(("effect", "enforced", "status", "reason", "revision"), judgement, strict=True))
    if principal is not None:
        strings |= {"tenant": principal.tenant, "agent": principal.agent, "session": principal.session}
    return wire.struct(strings | dict(zip(("tool", "server"), tool, strict=True)))


def _plan(call: ToolCall, verdict: Verdict) -> str:
    """What will be redacted, for access logs: places and patterns, never a value.

    ext_proc takes the plan from this process's own memory; this copy decides nothing.
    """
    rows = [{"path": r.path, "replacement": r.replacement, "pattern": r.pattern} for r in verdict.redactions]
    return orjson.dumps({"base": call.args_pointer, "redactions": rows, "mirrors": dict(call.mirrors)}).decode()


def fallback(reason: Reason) -> bytes:
    """A complete denial made beforehand, for the transport to send when nobody could decide (design §4)."""
    body = orjson.dumps(
        {"type": "about:blank", "title": reason.summary, "status": reason.http_status, "code": reason.code}
    )
    headers = [(REASON, reason.code), ("content-type", "application/problem+json")]
    return _denied(PERMISSION_DENIED, reason.http_status, headers, body, b"")


def stream_fallback(reason: Reason) -> bytes:
    """A complete `ProcessingResponse` that ends the request, likewise (ImmediateResponse, field 7)."""
    status = wire.put(wire.key(1), wire.integer(1, reason.http_status))
    body = orjson.dumps({"type": "about:blank", "title": reason.summary, "code": reason.code})
    return wire.put(wire.key(7), status + wire.put(wire.key(3), body))


def rpc_error(decision: Decision) -> JsonObject:
    """A JSON-RPC error with the echoed id (contracts §6); a notification's has none."""
    notification = decision.call is not None and decision.call.notification
    envelope: JsonObject = {"jsonrpc": "2.0"} if notification else {"jsonrpc": "2.0", "id": decision.message_id}
    return {
        **envelope,
        "error": {"code": decision.rpc_code, "message": decision.message, "data": _details(decision)},
    }


def _details(decision: Decision) -> JsonObject:
    return {"code": decision.reason, "decision_id": decision.id, "next_step": decision.next_step}


def problem(decision: Decision) -> JsonObject:
    """RFC 9457 problem details."""
    return {
        "type": "about:blank",
        "title": decision.message,
        "status": decision.http_status,
        **_details(decision),
    }


def visible(text: str) -> str:
    """`text` as visible ASCII, percent-encoded where it is not: a policy's reason may hold anything (A14)."""
    return quote(text, safe="!#$&'()*+,-./:;<=>?@[]^_`{|}~ ")[:256]


def _denied(code: int, http_status: int, headers: Iterable[tuple[str, str]], body: bytes, metadata: bytes) -> bytes:
    parts = [wire.put(_DENIED_STATUS, wire.integer(1, http_status))]
    parts += [_header(_DENIED_HEADERS, name, text) for name, text in headers]
    if body:
        parts.append(wire.put(_DENIED_BODY, body))
    return _REFUSED[code] + wire.put(_DENIED, b"".join(parts)) + metadata


def _header(field: bytes, name: str, text: str) -> bytes:
    header = _header_name(name) + wire.put(_SECOND, text.encode())
    return wire.put(field, wire.put(_FIRST, header))


@functools.lru_cache(maxsize=256)
def _header_name(name: str) -> bytes:
    return wire.put(_FIRST, name.encode())


@functools.lru_cache(maxsize=256)  # clients send the same names each time; bounded, as they may send any
def _removals(names: tuple[str, ...], keep: frozenset[str]) -> bytes:
    return b"".join(wire.put(_OK_REMOVE, name.encode()) for name in headers_to_remove(names, keep=keep))


def _changes(changes: HeaderChanges) -> list[bytes]:
    parts = [_header(_OK_HEADERS, name, text) for name, values in changes.upsert.items() for text in values]
    parts += [wire.put(_OK_REMOVE, name.encode()) for name in changes.remove]
    parts += [_header(_OK_RESPONSE_HEADERS, name, text) for name, values in changes.response.items() for text in values]
    parts += [
        wire.put(_OK_QUERY_SET, wire.put(_FIRST, name.encode()) + wire.put(_SECOND, text.encode()))
        for name, text in changes.query_set
    ]
    return parts + [wire.put(_OK_QUERY_REMOVE, name.encode()) for name in changes.query_remove]


def _struct(document: Mapping[str, JsonValue]) -> bytes:
    message = Struct()
    message.update(document)
    return message.SerializeToString()
