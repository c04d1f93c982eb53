"""The numbered steps: what each ending is, in which order steps run, and that answer and record agree."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from authz.config import Route
from authz.errors import InvalidRequestError, PolicyError, UnavailableError
from authz.model import (
    Charge,
    Check,
    Effect,
    Kind,
    LocalAnswer,
    Mode,
    Phase,
    Protocol,
    Revision,
    Status,
    Verdict,
)
from authz.outcome import Course, judged
from authz.reasons import (
    BUDGET_UNAVAILABLE,
    JSON_SYNTAX,
    KILL_STALE,
    MCP_BODY_TOO_LARGE,
    POLICY_ERROR,
    SYS_INTERNAL,
    TOKEN_EXPIRED,
)
from tests.fakes import CALL, PRINCIPAL, REVISION, ROUTE, Bench, FakeBudgets, FakeClaim, FakeQuery

if TYPE_CHECKING:
    from authz.model import Decision, ToolCall
    from authz.pdp import Answered
    from tests.fakes import Json

SANITIZE: Json = {"effect": "sanitize", "redactions": [{"path": "/path", "replacement": "[X]"}]}
BEHIND_EXT_PROC = Check(context={"authz.ext_proc": "true"})


def render(_check: Check, decision: Decision, _route: Route | None) -> bytes:
    return f"{decision.enforced.value}:{decision.reason}".encode()


def decide(bench: Bench, check: Check | None = None, claim: FakeClaim | None = None) -> Answered:
    return bench.pdp().decide(check or Check(), claim or FakeClaim(), render)


def with_answer(answer: Json | Exception | None) -> Bench:
    bench = Bench()
    bench.policies.query = FakeQuery(answer)
    return bench


def test_an_allow_names_reason_revision_and_principal() -> None:
    decision = decide(Bench()).decision
    assert (decision.effect, decision.enforced, decision.status) == (Effect.ALLOW, Effect.ALLOW, Status.ALLOWED)
    assert (decision.reason, decision.revision.revision, decision.principal) == ("granted", "r1", PRINCIPAL)
    assert decision.forwards


def test_answer_and_record_agree_and_there_is_one_of_each() -> None:
    bench = Bench()
    answered = decide(bench)
    assert answered.answer == b"allow:granted"
    assert [decision.reason for _, decision in bench.recorder.sealed] == ["granted"]
    assert bench.observed == [answered.decision]


def test_strangers_are_refused_before_their_body_is_parsed() -> None:
    bench = Bench()
    bench.front.who = InvalidRequestError(TOKEN_EXPIRED, challenge="Bearer")
    bench.front.what = InvalidRequestError(JSON_SYNTAX)
    decision = decide(bench).decision
    assert (decision.reason, decision.http_status, decision.challenge) == ("TOKEN_EXPIRED", 401, "Bearer")
    assert decision.status is Status.UNAUTHENTICATED
    assert decision.call is None


def test_a_refused_envelope_is_worded_for_the_protocol_of_its_route() -> None:
    bench = Bench()
    bench.front.local = InvalidRequestError(MCP_BODY_TOO_LARGE)
    assert decide(bench).decision.rpc_code == 4000
    bench.front.on = Route(path="/pay", protocol=Protocol.HTTP)
    assert decide(bench).decision.rpc_code == 0


def test_a_malformed_message_echoes_the_id_it_could_read() -> None:
    bench = Bench()
    bench.front.what = InvalidRequestError(JSON_SYNTAX, message_id="abc")
    decision = decide(bench).decision
    assert (decision.message_id, decision.rpc_code, decision.status) == ("abc", -32700, Status.MALFORMED)


def test_a_killed_agent_is_refused_before_policy_is_asked() -> None:
    bench = Bench()
    bench.kills.kill(PRINCIPAL.agent)
    decision = decide(bench).decision
    assert (decision.reason, decision.status) == ("REVOKED", Status.REVOKED)
    assert bench.policies.query.asked == []


def test_e12_a_kill_that_lands_during_evaluation_still_bites() -> None:
    bench = Bench()
    bench.policies.query.during = lambda: bench.kills.kill(PRINCIPAL.agent)
    answered = decide(bench)
    assert answered.answer == b"deny:REVOKED"
    assert [decision.reason for _, decision in bench.recorder.sealed] == ["REVOKED"]


def test_stale_kills_deny() -> None:
    bench = Bench()
    bench.kills.failure = UnavailableError(KILL_STALE)
    assert decide(bench).decision.reason == "KILL_STALE"


def test_a3_who_loses_the_claim_records_the_deadline_and_not_the_allow() -> None:
    bench = Bench()
    answered = decide(bench, claim=FakeClaim(is_open=False))
    assert answered.answer == b"deny:SYS_DEADLINE"
    assert [decision.reason for _, decision in bench.recorder.sealed] == ["SYS_DEADLINE"]
    assert answered.exchange is None


def test_a3_no_policy_is_asked_past_the_deadline() -> None:
    bench = Bench()
    real = bench.front.call

    def slow(check: Check, route: Route | None) -> ToolCall:
        bench.clock.advance(0.2)
        return real(check, route)

    bench.front.call = slow  # type: ignore[method-assign]
    assert decide(bench).decision.reason == "SYS_DEADLINE"
    assert bench.policies.query.asked == []


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (None, "POLICY_UNDEFINED"),
        ({}, "POLICY_TYPE"),
        ({"effect": "ALLOW"}, "POLICY_TYPE"),
        (PolicyError(POLICY_ERROR), "POLICY_ERROR"),
    ],
)
def test_g1_anything_but_a_decision_denies(answer: Json | Exception | None, reason: str) -> None:
    decision = decide(with_answer(answer)).decision
    assert (decision.enforced, decision.reason, decision.status) == (Effect.DENY, reason, Status.ERROR)


def test_no_active_policy_denies() -> None:
    bench = Bench()
    bench.policies.is_active = False
    assert decide(bench).decision.reason == "POLICY_UNAVAILABLE"


def test_a_policy_denial_keeps_the_policys_words() -> None:
    decision = decide(with_answer({"effect": "deny", "reason": "payment_over_limit", "message": "over 1000"})).decision
    assert (decision.reason, decision.message) == ("payment_over_limit", "over 1000")
    assert (decision.http_status, decision.rpc_code, decision.status) == (200, 4030, Status.POLICY_BLOCKED)


def test_an_approval_says_who_may_approve() -> None:
    answer = {"effect": "approval_needed", "approval": {"approvers": ["finance"], "quorum": 1, "ttl_s": 900}}
    decision = decide(with_answer(answer)).decision
    assert (decision.rpc_code, decision.status) == (4031, Status.APPROVAL_PENDING)
    assert "finance" in decision.next_step
    assert not decision.forwards


def test_a_refused_notification_is_answered_403() -> None:
    bench = with_answer({"effect": "deny"})
    bench.front.what = replace(CALL, notification=True, message_id=None)
    assert decide(bench).decision.http_status == 403


@pytest.mark.parametrize("method", ["stream/open", "session/delete"])
def test_a_refused_get_or_delete_is_405_so_that_clients_do_not_reconnect(method: str) -> None:
    bench = with_answer({"effect": "deny"})
    bench.front.what = replace(CALL, tool=replace(CALL.tool, name="", method=method), message_id=None)
    assert decide(bench).decision.http_status == 405


@pytest.mark.parametrize("effect", [{"effect": "deny"}, SANITIZE, {"effect": "approval_needed"}])
def test_flag_mode_lets_a_refusal_run_and_marks_it(effect: Json) -> None:
    decision = decide(with_answer({**effect, "mode": "flag"})).decision
    assert decision.forwards
    assert decision.enforced is Effect.ALLOW
    assert decision.effect.value == effect["effect"]
    assert decision.status is Status.FLAGGED_FOR_REVIEW


def test_sanitize_is_denied_where_nothing_can_rewrite_the_body() -> None:
    decision = decide(with_answer(SANITIZE)).decision
    assert (decision.effect, decision.enforced) == (Effect.SANITIZE, Effect.DENY)
    assert decision.reason == "SANITIZE_UNAVAILABLE"


def test_sanitize_forwards_behind_ext_proc_and_leaves_what_the_later_phase_needs() -> None:
    answered = decide(with_answer(SANITIZE), BEHIND_EXT_PROC)
    assert answered.decision.status is Status.SANITIZED
    assert answered.exchange is not None
    assert answered.exchange.decision is answered.decision


def test_envoys_word_on_ext_proc_overrides_the_routes() -> None:
    bench = with_answer(SANITIZE)
    bench.front.on = ROUTE.model_copy(update={"ext_proc": True})
    assert decide(bench, Check(context={"authz.ext_proc": "false"})).decision.reason == "SANITIZE_UNAVAILABLE"
    assert decide(bench).decision.status is Status.SANITIZED


def test_a_charge_that_nobody_counts_denies() -> None:
    bench = with_answer({"effect": "allow", "charges": [{"budget": "calls", "amount": 1}]})
    assert decide(bench).decision.reason == "BUDGET_UNAVAILABLE"


@pytest.mark.parametrize(("is_open", "taken"), [(True, 1), (False, 0)])
def test_a4_what_a_call_costs_is_taken_once_and_only_by_who_owns_the_answer(*, is_open: bool, taken: int) -> None:
    charge = {"budget": "calls", "amount": 2}
    bench = with_answer({"effect": "allow", "charges": [charge]})
    bench.budgets = budgets = FakeBudgets()
    decide(bench, claim=FakeClaim(is_open=is_open))
    assert budgets.reserved == [(Charge(budget="calls", amount=2),)] * taken


def test_a4_a_refused_call_costs_nothing() -> None:
    bench = with_answer({"effect": "deny", "charges": [{"budget": "calls", "amount": 2}]})
    bench.budgets = budgets = FakeBudgets()
    assert not decide(bench).decision.forwards
    assert budgets.reserved == []


def test_a_presented_override_is_never_ignored() -> None:
    assert decide(Bench(), Check(headers={"x-authz-override": "t"})).decision.reason == "APPROVAL_INVALID"
    assert decide(Bench(), Check(headers={"x-authz-override": "t,t"})).decision.reason == "HEADER_DUPLICATE"


@pytest.mark.parametrize("kind", [Kind.HANDSHAKE, Kind.RESPONSE])
def test_a_handshake_passes_without_policy_but_not_past_a_kill(kind: Kind) -> None:
    bench = Bench()
    bench.front.what = replace(CALL, kind=kind)
    assert decide(bench).decision.reason == "handshake"
    assert bench.policies.query.asked == []
    bench.kills.kill(PRINCIPAL.agent)
    assert decide(bench).decision.reason == "REVOKED"


def test_a_policy_may_speak_about_handshakes() -> None:
    bench = Bench()
    bench.front.what = replace(CALL, kind=Kind.HANDSHAKE)
    bench.policies.handshake = FakeQuery({"effect": "deny", "reason": "closed"})
    assert decide(bench).decision.reason == "closed"
    bench.policies.handshake = FakeQuery(None)
    assert decide(bench).decision.reason == "handshake"


def test_a_document_of_ours_is_answered_without_a_token() -> None:
    bench = Bench()
    bench.front.local = LocalAnswer(http_status=200, body=b"{}")
    bench.front.who = InvalidRequestError(TOKEN_EXPIRED)
    decision = decide(bench).decision
    assert decision.status is Status.ALLOWED
    assert not decision.forwards


def test_failed_is_always_a_recorded_deny() -> None:
    bench = Bench()
    answered = bench.pdp().failed(Check(), SYS_INTERNAL, render)
    assert answered.answer == b"deny:SYS_INTERNAL"
    assert len(bench.recorder.sealed) == 1


def test_latency_is_told_by_step() -> None:
    assert set(decide(Bench()).decision.latency_us) >= {"envelope", "identity", "protocol", "policy", "answer", "total"}


def listing(bench: Bench) -> Answered:
    bench.front.what = replace(CALL, kind=Kind.LIST, tool=replace(CALL.tool, name="", method="tools/list"))
    return decide(bench, BEHIND_EXT_PROC)


def test_a_list_is_filtered_tool_by_tool_without_arguments() -> None:
    bench = Bench()
    exchange = listing(bench).exchange
    assert exchange is not None
    query = bench.policies.query
    assert bench.pdp().visible(exchange, "read_document")
    assert query.asked[-1]["phase"] == "list"
    assert query.asked[-1]["tool"]["name"] == "read_document"
    assert "args" not in query.asked[-1]
    query.answer = {"effect": "deny"}
    assert not bench.pdp().visible(exchange, "delete_records")


def test_a_filtered_list_is_recorded_with_what_was_hidden() -> None:
    bench = Bench()
    exchange = listing(bench).exchange
    assert exchange is not None
    answered = bench.pdp().filtered(exchange, ("delete_records",), b"{}")
    assert answered.decision.hidden == ("delete_records",)
    assert answered.decision.phase is Phase.LIST
    assert len(bench.recorder.sealed) == 2


def test_a_result_is_judged_on_the_revision_that_judged_the_call() -> None:
    bench = Bench()
    bench.policies.reads_results = True
    exchange = decide(bench, BEHIND_EXT_PROC).exchange
    assert exchange is not None
    first = bench.policies.query
    bench.policies.query = FakeQuery({"effect": "deny"})
    first.answer = {"effect": "sanitize", "redactions": [{"path": "/content/0/text", "replacement": "[X]"}]}
    answered = bench.pdp().judge_result(exchange, {"content": [{"type": "text", "text": "secret"}]}, lambda _: b"[X]")
    assert answered.decision.status is Status.SANITIZED
    assert first.asked[-1]["phase"] == "result"
    assert first.asked[-1]["result"] == {"content": [{"type": "text", "text": "secret"}]}


def test_results_are_not_inspected_when_no_rule_reads_them() -> None:
    assert decide(Bench(), BEHIND_EXT_PROC).exchange is None


@pytest.mark.parametrize("effect", ["approval_needed", "deny"])
def test_a_tool_that_a_person_may_approve_is_shown_and_a_denied_one_is_not(effect: str) -> None:
    bench = Bench()
    exchange = listing(bench).exchange
    assert exchange is not None
    bench.policies.query.answer = {"effect": effect}
    assert bench.pdp().visible(exchange, "transfer_payment") is (effect != "deny")
    assert bench.policies.query.asked[-1]["tool"]["method"] == "tools/call"


def test_a_list_needs_the_policy_as_a_call_does() -> None:
    bench = with_answer({"effect": "deny", "reason": "no_lists"})
    assert listing(bench).decision.reason == "no_lists"


def test_an_answer_that_nobody_can_filter_is_not_awaited() -> None:
    bench = Bench()
    bench.front.what = replace(CALL, kind=Kind.LIST)
    assert decide(bench).exchange is None
    bench.policies.reads_results = True
    bench.front.what = CALL
    assert decide(bench).exchange is None


def test_a_judged_result_awaits_no_other() -> None:
    bench = Bench()
    bench.policies.reads_results = True
    exchange = decide(bench, BEHIND_EXT_PROC).exchange
    assert exchange is not None
    answered = bench.pdp().judge_result(exchange, {}, lambda _: b"{}")
    assert (answered.decision.forwards, answered.exchange) == (True, None)


def test_a_decision_carries_what_its_record_needs() -> None:
    decision = decide(Bench(), Check(received_ns=7)).decision
    assert decision.timestamp_ns == 7
    assert decision.result_json == b'{"effect":"allow","reason":"granted"}'
    assert decision.message_id == CALL.message_id


def test_a_decision_names_the_revision_that_was_asked_and_not_the_one_before() -> None:
    bench = Bench()
    asked = Revision(revision="r2")
    judge = bench.front.call

    def swap(check: Check, route: Route | None) -> ToolCall:
        bench.policies.revision = asked
        return judge(check, route)

    bench.front.call = swap  # type: ignore[method-assign]
    assert decide(bench).decision.revision == asked


def test_a_refusal_after_the_call_was_read_echoes_its_id() -> None:
    bench = Bench()
    bench.kills.kill(PRINCIPAL.agent)
    assert decide(bench).decision.message_id == CALL.message_id


def test_a_policy_denial_on_plain_http_is_no_json_rpc_error() -> None:
    bench = with_answer({"effect": "deny"})
    bench.front.on = Route(path="/pay", protocol=Protocol.HTTP)
    decision = decide(bench).decision
    assert (decision.http_status, decision.rpc_code) == (403, 0)


def test_a_flagged_refusal_says_that_it_is_only_watched() -> None:
    decision = decide(with_answer({"effect": "deny", "mode": "flag"})).decision
    assert (decision.mode, decision.enforced) == (Mode.FLAG, Effect.ALLOW)


def test_an_approval_is_enforced_as_one() -> None:
    decision = decide(with_answer({"effect": "approval_needed"})).decision
    assert decision.enforced is Effect.APPROVAL_NEEDED


def test_an_amended_record_names_the_one_that_it_amends() -> None:
    assert Bench().pdp().failed(Check(), SYS_INTERNAL, render, amends="d7").decision.amends == "d7"


def test_a_charge_that_cannot_be_met_denies_before_anything_is_taken() -> None:
    bench = with_answer({"effect": "allow", "charges": [{"budget": "calls", "amount": 1}]})
    bench.budgets = budgets = FakeBudgets(failure=UnavailableError(BUDGET_UNAVAILABLE))
    assert decide(bench).decision.reason == "BUDGET_UNAVAILABLE"
    assert budgets.reserved == []


@pytest.mark.parametrize("status", [418, None])
def test_a_policys_own_status_counts_where_it_gives_one(status: int | None) -> None:
    bench = Bench()
    course = Course(
        check=Check(),
        started_ns=0,
        deadline_ns=0,
        marked_ns=0,
        revision=REVISION,
        new_id=lambda: "d",
        route=bench.front.on,
        call=CALL,
    )
    assert judged(course, Verdict(effect=Effect.DENY, http_status=status)).http_status == (status or 200)
