"""What a decision looks like as an OpenTelemetry span.

Decides the span's name, parent, attributes and status, and which decisions are exported. Must never put an argument, a
header, a token or a policy's message into a span; names that callers choose pass through `mask` and are cut.

A deny is a correct outcome, so its status is UNSET; ERROR means that the engine or this service failed. The parent is
Envoy's span, from the HTTP `traceparent`; MCP's own (`params._meta.traceparent`) is linked, since a caller writes it.

Trusts the `Decision`. Pure: spans are made from values, off the path of a decision.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final, NamedTuple

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from authz import __version__, model
from authz.telemetry import names, trace_context

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from opentelemetry.sdk.resources import Resource

    from authz.model import Check, Decision, Principal, Revision, Tool

LONGEST_NAME: Final = 128
"""Characters of a text that others chose, such as a tool's name or a policy's reason."""
_SCOPE: Final = InstrumentationScope(names.SCOPE, __version__)
_SAMPLED: Final = TraceFlags(TraceFlags.SAMPLED)
_TOOL_CALL: Final = "tools/call"


class Observation(NamedTuple):
    """The part of a decision that a span needs. It holds no body and no arguments, so a full queue stays small."""

    id: str
    effect: str
    enforced: str
    status: model.Status
    reason: str
    mode: str
    phase: str
    rules: tuple[str, ...]
    risk: str
    principal: Principal | None
    tool: Tool | None
    protocol_version: str
    mcp_session: str
    revision: Revision
    started_ns: int
    latency_us: Mapping[str, int]
    trace_id: str
    span_id: str
    parent_span_id: str
    traceparent: str
    linked: str


def observation(check: Check, decision: Decision) -> Observation:
    """What to keep of a decision until its span is made. Runs on the path: under 2 us."""
    verdict, call = decision.verdict, decision.call
    return Observation(
        decision.id,
        decision.effect,
        decision.enforced,
        decision.status,
        decision.reason,
        decision.mode,
        decision.phase,
        verdict.rules if verdict else (),
        verdict.risk if verdict else "",
        decision.principal,
        call.tool if call else None,
        call.protocol_version if call else "",
        call.mcp_session if call else "",
        decision.revision,
        decision.timestamp_ns,
        decision.latency_us,
        decision.trace_id,
        decision.span_id,
        decision.parent_span_id,
        check.headers.get("traceparent", ""),
        call.traceparent if call else "",
    )


def wanted(seen: Observation) -> bool:
    """Sampling: as the caller's trace says; what was not plainly allowed is always exported."""
    return seen.status is not model.Status.ALLOWED or trace_context.parse(seen.traceparent).sampled


def span(seen: Observation, resource: Resource, mask: Callable[[str], str]) -> ReadableSpan:
    """The span of one decision.

    Args:
        seen: what was kept of the decision.
        resource: who exports.
        mask: replaces the secrets in a text that others chose.
    """
    failed = seen.status is model.Status.ERROR
    tool = mask(seen.tool.name)[:LONGEST_NAME] if seen.tool else ""
    return ReadableSpan(
        name=_name(seen, tool),
        context=_context(seen.trace_id, seen.span_id, remote=False),
        parent=_context(seen.trace_id, seen.parent_span_id, remote=True) if seen.parent_span_id else None,
        resource=resource,
        attributes=_attributes(seen, tool, mask),
        links=_links(seen.linked),
        kind=SpanKind.SERVER,
        status=Status(StatusCode.ERROR, seen.reason) if failed else Status(StatusCode.UNSET),
        start_time=seen.started_ns,
        end_time=seen.started_ns + seen.latency_us.get(names.TOTAL, 0) * 1000,
        instrumentation_scope=_SCOPE,
    )


def _context(trace_id: str, span_id: str, *, remote: bool) -> SpanContext:
    return SpanContext(
        int(trace_id, 16), int(span_id, 16), is_remote=remote, trace_flags=TraceFlags(TraceFlags.SAMPLED)
    )


def _links(traceparent: str) -> tuple[Link, ...]:
    if not traceparent:
        return ()
    linked = trace_context.parse(traceparent)
    return (Link(_context(linked.trace_id, linked.span_id, remote=True)),) if linked.span_id else ()


def _names_tool(tool: Tool) -> bool:
    """Whether `tool.name` is a tool; on other MCP methods it is a URI or a prompt, too many to name spans after."""
    return tool.protocol is not model.Protocol.MCP or tool.method == _TOOL_CALL


def _name(seen: Observation, tool: str) -> str:
    if seen.tool is None:
        return names.SPAN
    if seen.tool.protocol is not model.Protocol.MCP:
        return tool or names.SPAN
    method = seen.tool.method[:LONGEST_NAME]
    return f"{method} {tool}" if _names_tool(seen.tool) else method


def _attributes(seen: Observation, tool: str, mask: Callable[[str], str]) -> dict[str, str | tuple[str, ...]]:
    attributes: dict[str, str | tuple[str, ...]] = {
        names.DECISION_ID: seen.id,
        names.EFFECT: str(seen.effect),
        names.ENFORCED: str(seen.enforced),
        names.STATUS: str(seen.status),
        names.REASON: mask(seen.reason)[:LONGEST_NAME],
        names.RULES: tuple(mask(rule)[:LONGEST_NAME] for rule in seen.rules),
        names.RISK: str(seen.risk),
        names.MODE: str(seen.mode),
        names.PHASE: str(seen.phase),
        names.ERROR_TYPE: seen.reason if seen.status is model.Status.ERROR else "",
        names.PROTOCOL_VERSION: seen.protocol_version,
        names.MCP_SESSION: hashlib.sha256(seen.mcp_session.encode()).hexdigest() if seen.mcp_session else "",
        names.REVISION: seen.revision.revision,
        names.BUNDLE: seen.revision.bundle_id,
        names.CHANGE: seen.revision.change_id,
        names.ROLLOUT: seen.revision.rollout,
        names.WAVE: seen.revision.wave,
        names.COHORT: seen.revision.cohort,
    }
    if (own := seen.revision.tenant) is not None:
        attributes |= {
            names.TENANT_REVISION: own.revision,
            names.TENANT_BUNDLE: own.bundle_id,
            names.TENANT_CHANGE: own.change_id,
            names.TENANT_ROLLOUT: own.rollout,
            names.TENANT_WAVE: own.wave,
            names.TENANT_COHORT: own.cohort,
        }
    if seen.principal:
        attributes |= {
            names.TENANT: seen.principal.tenant,
            names.AGENT: seen.principal.agent,
            names.SESSION: seen.principal.session,
        }
    if seen.tool:
        attributes |= _tool_attributes(seen.tool, tool)
    # Absent rather than empty, as everywhere.
    return {name: value for name, value in attributes.items() if value}


def _tool_attributes(tool: Tool, name: str) -> dict[str, str]:
    attributes = {names.SERVER: tool.server}
    if _names_tool(tool):
        attributes |= {names.OPERATION: "execute_tool", names.TOOL: name}
    if tool.protocol is model.Protocol.MCP:
        attributes[names.METHOD] = tool.method[:LONGEST_NAME]
    return attributes
