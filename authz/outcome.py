"""How a `Decision` is worded: from what is known of a call to effect, status, code and next step.

Decides what each ending looks like to the caller, the record and the SIEM; `pdp.py` decides which ending
it is. Used by `pdp.py` only. Must never turn a refusal into anything that forwards, and never put a
token, an argument or an exception's text into a message.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from authz.clock import random_hex
from authz.errors import InvalidRequestError, UnavailableError
from authz.model import Decision, Effect, Kind, Mode, Phase, Protocol, Status
from authz.reasons import APPROVAL_NEEDED, POLICY_DENIED, POLICY_DENY, SANITIZE_UNAVAILABLE
from authz.telemetry import trace_context

if TYPE_CHECKING:
    from collections.abc import Callable

    from authz.config import Route
    from authz.errors import DenialError
    from authz.model import AgentFacts, Check, LocalAnswer, Principal, Rate, Revision, ToolCall, Verdict
    from authz.policy.activation import ActivePolicy

EXT_PROC: Final = "authz.ext_proc"
"""Envoy's context extension that promises an ext_proc filter behind this check (contracts §3)."""
NOTIFICATION_STATUS: Final = 403
INITIALIZE: Final = "initialize"
STREAM_STATUS: Final = 405
STREAM_METHODS: Final = ("stream/open", "session/delete")
"""How a legacy MCP GET and DELETE stand in policy input (contracts §3)."""


@dataclass(slots=True)
class Course:
    """What is known so far of one decision under way; refusals are made from it at any step.

    `marked_ns` and `latency_us` time the steps; `kills_sequence` is the replica's at step 4, and
    `kills_stale` says that a kill of the last seconds may have been missing there; `revocable` says that there are
    kills at all. `counted` are the rates that the call was counted for.
    """

    check: Check
    started_ns: int
    deadline_ns: int
    marked_ns: int
    revision: Revision
    new_id: Callable[[], str]
    route: Route | None = None
    principal: Principal | None = None
    agent: AgentFacts | None = None
    call: ToolCall | None = None
    policy: ActivePolicy | None = None
    tenant_policy: ActivePolicy | None = None
    verdict: Verdict | None = None
    counted: tuple[Rate, ...] = ()
    input_json: bytes = b""
    result_json: bytes = b""
    tenant_result_json: bytes = b""
    platform_verdict: Verdict | None = None
    tenant_verdict: Verdict | None = None
    kills_sequence: int = 0
    kills_stale: bool = False
    revocable: bool = False
    behind_ext_proc: bool = False
    latency_us: dict[str, int] = field(default_factory=dict)

    @property
    def message_id(self) -> str | int | None:
        """The JSON-RPC id to echo, once it was read; a notification has none."""
        return self.call.message_id if self.call else None

    @property
    def can_rewrite(self) -> bool:
        """Whether ext_proc stands behind this check, as Envoy or the route says."""
        promised = self.check.context.get(EXT_PROC)
        configured = promised is None and self.route is not None and self.route.ext_proc
        return self.behind_ext_proc or promised == "true" or configured

    @property
    def shakes(self) -> bool:
        """Whether the call is of those that pass unless a policy speaks of handshakes (contracts §4)."""
        return self.call is not None and self.call.kind in (Kind.HANDSHAKE, Kind.RESPONSE)

    @property
    def judged_by(self) -> Revision:
        """The revision in force for the caller, with that of the tenant's own policy where there is one."""
        found = self.policy.revision if self.policy else self.revision
        return replace(found, tenant=self.tenant_policy.revision) if self.tenant_policy else found

    @property
    def reads_results(self) -> bool:
        """Whether a policy in force judges results."""
        policy, own = self.policy, self.tenant_policy
        return (policy is not None and policy.reads_results) or (own is not None and own.reads_results)


def judged(course: Course, verdict: Verdict) -> Decision:
    """Step 9: what the policy's verdict comes to here. A flagged refusal runs; an impossible sanitize does not."""
    effect = verdict.effect
    if effect is Effect.ALLOW:
        return _passed(course, verdict, Effect.ALLOW, Status.ALLOWED)
    if verdict.mode is Mode.FLAG:
        return _passed(course, verdict, Effect.ALLOW, Status.FLAGGED_FOR_REVIEW)
    if effect is Effect.SANITIZE and course.can_rewrite:
        return _passed(course, verdict, Effect.SANITIZE, Status.SANITIZED)
    if effect is Effect.SANITIZE:
        return replace(refused(course, UnavailableError(SANITIZE_UNAVAILABLE)), effect=effect)
    return _policy_refused(course, verdict)


def refused(course: Course, error: DenialError) -> Decision:
    """A deny for a reason of ours, from the catalogue."""
    reason = error.reason
    challenge, message_id = "", course.message_id
    if isinstance(error, InvalidRequestError):
        challenge = error.challenge
        message_id = error.message_id if message_id is None else message_id
    return _decision(
        course,
        effect=Effect.DENY,
        enforced=Effect.DENY,
        status=reason.status,
        reason=reason.code,
        message=error.detail or reason.summary,
        next_step=reason.next_step,
        http_status=reason.http_status,
        rpc_code=reason.rpc_code if _speaks_mcp(course) else 0,
        challenge=challenge,
        message_id=message_id,
    )


def answered_here(course: Course, local: LocalAnswer) -> Decision:
    """A document or preflight that this service answers itself; nothing goes to the tool."""
    return _decision(
        course,
        effect=Effect.ALLOW,
        enforced=Effect.ALLOW,
        status=Status.ALLOWED,
        reason="answered_here",
        message="",
        local=local,
    )


def _passed(course: Course, verdict: Verdict, enforced: Effect, status: Status) -> Decision:
    inspects = _inspects_response(course)
    return _decision(
        course,
        effect=verdict.effect,
        enforced=enforced,
        status=status,
        reason=verdict.reason or verdict.effect.value,
        message=verdict.message,
        mode=verdict.mode,
        inspect_response=inspects,
        opens_session=course.can_rewrite and course.call is not None and course.call.tool.method == INITIALIZE,
        watch_response=course.revocable and course.can_rewrite and not inspects,
        message_id=course.message_id,
    )


def _policy_refused(course: Course, verdict: Verdict) -> Decision:
    """Deny or approval_needed, in the policy's words where it has any."""
    approval = verdict.effect is Effect.APPROVAL_NEEDED
    code = APPROVAL_NEEDED if approval else POLICY_DENIED
    return _decision(
        course,
        effect=verdict.effect,
        enforced=verdict.effect,
        status=Status.APPROVAL_PENDING if approval else Status.POLICY_BLOCKED,
        reason=verdict.reason or ("approval_needed" if approval else POLICY_DENY.code),
        message=verdict.message or ("this call needs a person's approval" if approval else POLICY_DENY.summary),
        next_step=_approval_step(verdict) if approval else POLICY_DENY.next_step,
        http_status=_refusal_status(course, verdict),
        rpc_code=code if _speaks_mcp(course) else 0,
        message_id=course.message_id,
    )


def _approval_step(verdict: Verdict) -> str:
    groups = ", ".join(verdict.approval.approvers) if verdict.approval else ""
    who = f"someone of `{groups}`" if groups else "a person who may approve it"
    return f"The call was not run. Ask {who} for approval, then repeat it unchanged."


def _refusal_status(course: Course, verdict: Verdict) -> int:
    if verdict.http_status is not None:
        return verdict.http_status
    # A notification has no response that could carry an error (contracts §6).
    if course.route is None or (course.call is not None and course.call.notification):
        return NOTIFICATION_STATUS
    # MCP 2025-11-25, Streamable HTTP: a GET is answered by a stream or by 405; on 200 clients reconnect for ever.
    if course.call is not None and course.call.tool.method in STREAM_METHODS:
        return STREAM_STATUS
    return course.route.refusal_status


def _speaks_mcp(course: Course) -> bool:
    return course.route is not None and course.route.protocol is Protocol.MCP


def _inspects_response(course: Course) -> bool:
    """A list is filtered, and a result judged if the policy reads results; both need ext_proc behind us."""
    call = course.call
    if call is None or not course.can_rewrite:
        return False
    return call.kind is Kind.LIST or (call.kind is Kind.CALL and course.reads_results)


def _decision(
    course: Course,
    *,
    effect: Effect,
    enforced: Effect,
    status: Status,
    reason: str,
    message: str,
    next_step: str = "",
    http_status: int = 200,
    rpc_code: int = 0,
    challenge: str = "",
    mode: Mode = Mode.BLOCK,
    local: LocalAnswer | None = None,
    inspect_response: bool = False,
    opens_session: bool = False,
    watch_response: bool = False,
    message_id: str | int | None = None,
) -> Decision:
    trace = trace_context.parse(course.check.headers.get("traceparent", ""))
    return Decision(
        id=course.new_id(),
        effect=effect,
        enforced=enforced,
        status=status,
        reason=reason,
        message=message,
        next_step=next_step,
        http_status=http_status,
        rpc_code=rpc_code,
        challenge=challenge,
        message_id=message_id,
        phase=course.call.phase if course.call else Phase.CALL,
        mode=mode,
        verdict=course.verdict,
        principal=course.principal,
        call=course.call,
        local=local,
        inspect_response=inspect_response,
        opens_session=opens_session,
        watch_response=watch_response,
        revision=course.judged_by,
        input_json=course.input_json,
        result_json=course.result_json,
        tenant_result_json=course.tenant_result_json,
        platform_verdict=course.platform_verdict,
        tenant_verdict=course.tenant_verdict,
        timestamp_ns=course.check.received_ns,
        trace_id=trace.trace_id,
        span_id=random_hex()[:16],
        parent_span_id=trace.span_id,
        latency_us=course.latency_us,
        kills_stale=course.kills_stale,
    )
