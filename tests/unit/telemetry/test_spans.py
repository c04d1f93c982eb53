from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.trace import SpanKind, StatusCode

from authz import reasons
from authz.model import Protocol, Revision, Status, Tool
from authz.telemetry import names
from authz.telemetry.spans import LONGEST_NAME, observation, span, wanted
from tests.decisions import CALL, CHECK, MASKER, PARENT_ID, SPAN_ID, TRACE_ID, decision, refusal

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

    from authz.model import Check, Decision

RESOURCE = Resource({"service.name": "authz"})


def built(made: Decision, check: Check = CHECK) -> ReadableSpan:
    return span(observation(check, made), RESOURCE, MASKER.text)


def with_tool(tool: Tool, **changes: Any) -> Decision:
    return decision(call=replace(CALL, tool=tool, **changes))


def test_a_tool_call_has_exactly_these_attributes() -> None:
    made = built(decision())
    assert made.name == "tools/call transfer_payment"
    assert made.kind is SpanKind.SERVER
    assert dict(made.attributes or {}) == {
        "opa.decision_id": "1780d507-aea2-45cc-ae50-fa153c8e4a5a",
        "authz.effect": "allow",
        "authz.enforced": "allow",
        "authz.status": "allowed",
        "authz.reason": "granted",
        "authz.rules": ("grants.payments",),
        "authz.risk": "write",
        "authz.mode": "block",
        "authz.phase": "call",
        "authz.tenant": "acme",
        "authz.session": "s-1",
        "gen_ai.agent.id": "agent-1",
        "authz.tool.server": "bank",
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "transfer_payment",
        "mcp.method.name": "tools/call",
        "mcp.protocol.version": "2026-07-28",
        "authz.policy.revision": "r7",
        "authz.policy.bundle_id": "starter",
        "authz.policy.change_id": "c-9",
        "authz.policy.rollout": "ro-1",
        "authz.policy.wave": "canary",
        "authz.policy.cohort": "candidate",
    }


def test_the_tenants_own_policy_is_named_beside_the_platforms() -> None:
    own = Revision(revision="t7", bundle_id="own", change_id="c-2", rollout="ro-2", wave="shadow", cohort="baseline")
    attributes = built(decision(revision=Revision(revision="r7", bundle_id="starter", tenant=own))).attributes or {}
    assert {*attributes} <= {*names.ATTRIBUTES}
    prefix = "authz.policy.tenant."
    told = {name.removeprefix(prefix): text for name, text in attributes.items() if name.startswith(prefix)}
    assert told == {name: text for name, text in asdict(own).items() if text}
    assert attributes["authz.policy.revision"] == "r7"


def test_every_attribute_is_in_the_table() -> None:
    call = replace(CALL, mcp_session="s")
    for made in (decision(call=call), refusal(Status.ERROR, "SYS_INTERNAL"), decision(Status.SANITIZED)):
        assert set(built(made).attributes or {}) <= set(names.ATTRIBUTES)


def test_the_span_joins_envoys_trace_under_its_own_id() -> None:
    made = built(decision())
    context, parent = made.get_span_context(), made.parent
    assert context is not None
    assert parent is not None
    assert (f"{context.trace_id:032x}", f"{context.span_id:016x}") == (TRACE_ID, SPAN_ID)
    assert (f"{parent.trace_id:032x}", f"{parent.span_id:016x}", parent.is_remote) == (TRACE_ID, PARENT_ID, True)


def test_without_a_parent_the_span_is_a_root() -> None:
    assert built(decision(parent_span_id=""), replace(CHECK, headers={})).parent is None


def test_mcps_own_trace_is_linked_and_not_the_parent() -> None:
    made = built(decision(call=replace(CALL, traceparent=f"00-{'a' * 32}-{'b' * 16}-01")))
    assert [f"{link.context.trace_id:032x}" for link in made.links] == ["a" * 32]
    assert made.parent is not None
    assert f"{made.parent.trace_id:032x}" == TRACE_ID


def test_a_malformed_link_is_no_link() -> None:
    assert not built(decision(call=replace(CALL, traceparent="00-zz"))).links


def test_the_span_lasts_as_long_as_the_decision() -> None:
    made = built(decision(latency_us={"total": 75}))
    assert made.start_time == decision().timestamp_ns
    assert made.end_time == decision().timestamp_ns + 75_000


@pytest.mark.parametrize("status", [status for status in Status if status is not Status.ERROR])
def test_a_correct_outcome_is_no_error(status: Status) -> None:
    made = built(decision(status))
    assert made.status.status_code is StatusCode.UNSET
    assert names.ERROR_TYPE not in (made.attributes or {})


@pytest.mark.parametrize("reason", [reasons.SYS_DEADLINE, reasons.POLICY_ERROR])
def test_a_failure_of_ours_is_an_error_with_its_code(reason: reasons.Reason) -> None:
    made = built(refusal(Status.ERROR, reason.code))
    assert (made.status.status_code, made.status.description) == (StatusCode.ERROR, reason.code)
    assert (made.attributes or {})[names.ERROR_TYPE] == reason.code
    assert made.name == names.SPAN


@pytest.mark.parametrize(
    ("tool", "name"),
    [
        (Tool(server="s", name="file:///etc/x", protocol=Protocol.MCP, method="resources/read"), "resources/read"),
        (Tool(server="s", name="", protocol=Protocol.MCP, method="tools/list"), "tools/list"),
        (Tool(server="s", name="GET /v1/{id}", protocol=Protocol.HTTP, method="GET"), "GET /v1/{id}"),
    ],
)
def test_spans_are_named_after_few_things(tool: Tool, name: str) -> None:
    made = built(with_tool(tool))
    assert made.name == name
    assert "file:///etc/x" not in str(made.attributes)


def test_names_that_others_chose_are_cut_and_masked() -> None:
    made = built(with_tool(replace(CALL.tool, name="t" * 5000)))
    assert len(made.name) <= LONGEST_NAME + len("tools/call ")
    masked = built(with_tool(replace(CALL.tool, name="AKIAIOSFODNN7EXAMPLE")))
    assert "AKIA" not in masked.name + str(masked.attributes)


def test_an_mcp_session_is_shown_by_its_digest_only() -> None:
    attributes = built(decision(call=replace(CALL, mcp_session="session-that-lets-you-in"))).attributes or {}
    assert "session-that-lets-you-in" not in str(attributes)
    assert len(str(attributes[names.MCP_SESSION])) == 64


def test_an_observation_keeps_no_body_and_no_arguments() -> None:
    seen = observation(replace(CHECK, body=b"c4n4ry"), decision(call=replace(CALL, args={"a": "c4n4ry"})))
    assert "c4n4ry" not in repr(seen)


@pytest.mark.parametrize(
    ("status", "flags", "exported"),
    [
        (Status.ALLOWED, "01", True),
        (Status.ALLOWED, "00", False),
        (Status.POLICY_BLOCKED, "00", True),
        (Status.ERROR, "00", True),
        (Status.FLAGGED_FOR_REVIEW, "00", True),
    ],
)
def test_an_unsampled_trace_still_shows_what_was_not_plainly_allowed(
    status: Status, flags: str, *, exported: bool
) -> None:
    check = replace(CHECK, headers={"traceparent": f"00-{TRACE_ID}-{PARENT_ID}-{flags}"})
    assert wanted(observation(check, decision(status))) is exported
