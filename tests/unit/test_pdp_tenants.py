"""A tenant's own policy beside the platform's: it narrows, in every phase, and does nothing else."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz.errors import DenialError, PolicyError, UnavailableError
from authz.model import Charge, Check, Kind, Principal, Revision, Status
from authz.policy import agent_contract
from authz.policy.tenants import TenantPolicies
from authz.reasons import POLICY_ERROR, POLICY_TIMEOUT, POLICY_UNAVAILABLE
from tests.fakes import CALL, PRINCIPAL, Bench, FakeBudgets, FakeClaim, FakePolicies, FakeQuery

if TYPE_CHECKING:
    from collections.abc import Iterable

    from authz.model import Decision
    from tests.fakes import Json

ALLOW: Json = {"effect": "allow", "reason": "platform", "risk": "read"}
SANITIZE: Json = {"effect": "sanitize", "redactions": [{"path": "/path", "replacement": "[X]"}]}
OWN = Revision(revision="t1", bundle_id="own", change_id="c7")
BEHIND_EXT_PROC = Check(context={"authz.ext_proc": "true"})
EFFECTS = ["allow", "sanitize", "approval_needed", "deny"]


class Layered:
    """A decision point for a platform's policy and one tenant's."""

    def __init__(self, platform: Any = None, tenant: Any = None, **settings: Any) -> None:
        self.bench = Bench()
        self.bench.policies.query = FakeQuery(platform or ALLOW)
        self.tenant = FakePolicies(query=FakeQuery(tenant or ALLOW), revision=OWN, **settings)
        self.bench.tenant_policies = TenantPolicies({"acme": self.tenant})
        self.pdp = self.bench.pdp()

    def ask(self, check: Check = BEHIND_EXT_PROC) -> Decision:
        return self.pdp.decide(check, FakeClaim(), lambda *_: b"").decision


def test_a_tenant_denies_what_the_platform_allows_and_both_are_named() -> None:
    decision = Layered(tenant={"effect": "deny", "reason": "own_rule"}).ask()
    assert (decision.reason, decision.status) == ("own_rule", Status.POLICY_BLOCKED)
    assert decision.revision == Revision(revision="r1", bundle_id="starter", tenant=OWN)
    assert orjson.loads(decision.result_json) == ALLOW
    assert orjson.loads(decision.tenant_result_json)["reason"] == "own_rule"


@pytest.mark.parametrize(
    "tenant", [ALLOW, {"effect": "allow", "mode": "flag"}, {"effect": "deny", "mode": "flag"}, SANITIZE]
)
def test_a_tenant_never_lifts_the_platforms_denial(tenant: Json) -> None:
    layered = Layered({"effect": "deny", "reason": "platform"}, tenant)
    decision = layered.ask()
    assert (decision.reason, decision.forwards) == ("platform", False)
    assert layered.tenant.query.asked == []


def test_a_flag_of_the_tenant_lifts_no_approval_of_the_platform() -> None:
    decision = Layered({"effect": "approval_needed"}, {"effect": "deny", "mode": "flag"}).ask()
    assert decision.status is Status.APPROVAL_PENDING


def test_what_the_tenant_flags_is_marked_and_runs() -> None:
    decision = Layered(tenant={"effect": "deny", "reason": "odd", "mode": "flag"}).ask()
    assert (decision.status, decision.reason) == (Status.FLAGGED_FOR_REVIEW, "odd")


@pytest.mark.parametrize("answer", [None, {"effect": "maybe"}, PolicyError(POLICY_ERROR), PolicyError(POLICY_TIMEOUT)])
def test_a_tenants_policy_that_gives_no_decision_denies_by_a_reason_of_its_own(answer: Any) -> None:
    layered = Layered()
    layered.tenant.query.answer = answer
    assert layered.ask().reason == "POLICY_TENANT_FAILED"


def test_a_platforms_policy_that_gives_no_decision_denies_whatever_the_tenant_says() -> None:
    layered = Layered()
    layered.bench.policies.query.answer = PolicyError(POLICY_ERROR)
    assert layered.ask().reason == "POLICY_ERROR"


def test_an_engine_that_fails_for_the_tenant_denies_too() -> None:
    layered = Layered()
    layered.tenant.query.answer = UnavailableError(POLICY_UNAVAILABLE)
    assert layered.ask().reason == "POLICY_TENANT_FAILED"


def test_a_tenant_whose_policy_is_missing_is_denied_and_no_other() -> None:
    layered = Layered(is_active=False)
    assert layered.ask().reason == "POLICY_TENANT_UNAVAILABLE"
    layered.bench.front.who = replace(PRINCIPAL, tenant="globex")
    decision = layered.ask()
    assert (decision.reason, decision.revision.tenant) == ("platform", None)


def test_a_handshake_needs_the_tenants_policy_too_and_its_rule_about_handshakes_counts() -> None:
    layered = Layered()
    layered.bench.front.what = replace(CALL, kind=Kind.HANDSHAKE)
    assert layered.ask().reason == "handshake"
    layered.tenant.handshake = FakeQuery({"effect": "deny", "reason": "closed"})
    assert layered.ask().reason == "closed"
    layered.tenant.is_active = False
    assert layered.ask().reason == "POLICY_TENANT_UNAVAILABLE"


def test_charges_of_both_are_planned() -> None:
    layered = Layered(
        ALLOW | {"charges": [{"budget": "eur", "amount": 1}]}, ALLOW | {"charges": [{"budget": "eur", "amount": 2}]}
    )
    budgets = layered.bench.budgets = FakeBudgets()
    layered.pdp = layered.bench.pdp()
    layered.ask()
    assert budgets.reserved == [(Charge(budget="eur", amount=1), Charge(budget="eur", amount=2))]


def test_a_capability_that_the_tenants_policy_knows_a_tool_by_is_stopped_by_its_kill() -> None:
    layered = Layered(tenant=ALLOW | {"tags": {"capabilities": ["pays"]}})
    layered.bench.kills.kill_capability("pays")
    assert layered.ask().reason == "REVOKED"


def test_a_tenant_puts_no_header_on_a_call() -> None:
    decision = Layered(tenant=ALLOW | {"headers": {"set": {"x-user": "root"}}}).ask()
    assert decision.reason == "POLICY_TENANT_LIMIT"


def test_what_a_tenant_rewrites_is_judged_by_the_platform_again_and_passes_where_it_says_the_same() -> None:
    layered = Layered(tenant=SANITIZE)
    decision = layered.ask()
    assert decision.status is Status.SANITIZED
    assert [asked["args"]["path"] for asked in layered.bench.policies.query.asked] == ["/docs/a", "[X]"]


@pytest.mark.parametrize(
    "again",
    [
        ALLOW | {"effect": "deny"},
        ALLOW | {"effect": "deny", "mode": "flag"},
        ALLOW | {"effect": "approval_needed"},
        SANITIZE | {"risk": "read"},
        ALLOW | {"risk": "write"},
        ALLOW | {"charges": [{"budget": "eur", "amount": 1}]},
        ALLOW | {"tags": {"capabilities": ["pays"]}},
        ALLOW | {"headers": {"set": {"x-account": "2"}}},
    ],
)
def test_a_tenant_does_not_rewrite_a_call_into_one_that_the_platform_judges_otherwise(again: Json) -> None:
    layered = Layered(tenant=SANITIZE)
    query = layered.bench.policies.query

    def turn() -> None:
        if len(query.asked) == 2:
            query.answer = again

    query.during = turn
    assert layered.ask().reason == "POLICY_TENANT_LIMIT"


def test_a_tenant_does_not_rewrite_a_call_into_one_of_which_the_platform_would_redact_something_else() -> None:
    def redacting(path: str) -> Json:
        return {"effect": "sanitize", "redactions": [{"path": path, "replacement": "[X]"}], "risk": "read"}

    layered = Layered(redacting("/note"), redacting("/path"))
    layered.bench.front.what = replace(CALL, args={"path": "/docs/a", "note": "n", "more": "m"})
    assert layered.ask().status is Status.SANITIZED
    query = layered.bench.policies.query

    def turn() -> None:
        if len(query.asked) == 4:
            query.answer = redacting("/more")

    query.during = turn
    assert layered.ask().reason == "POLICY_TENANT_LIMIT"


def test_a_tenant_takes_no_arguments_away_altogether() -> None:
    whole = {"effect": "sanitize", "redactions": [{"path": "", "replacement": "nothing"}]}
    assert Layered(tenant=whole).ask().reason == "POLICY_TENANT_LIMIT"


def test_a_redaction_that_both_ask_for_costs_no_second_question() -> None:
    layered = Layered(SANITIZE, SANITIZE)
    assert layered.ask().status is Status.SANITIZED
    assert len(layered.bench.policies.query.asked) == 1


@pytest.mark.parametrize("flagged", [{"effect": "deny", "mode": "flag"}, {"effect": "deny"}])
@pytest.mark.parametrize("by", ["platform", "tenant"])
def test_a_list_shows_no_tool_that_either_denies(by: str, flagged: Json) -> None:
    layered = Layered()
    layered.bench.front.what = replace(CALL, kind=Kind.LIST)
    answered = layered.pdp.decide(BEHIND_EXT_PROC, FakeClaim(), lambda *_: b"")
    assert answered.exchange is not None
    assert layered.pdp.visible(answered.exchange, "read_document")
    query = layered.bench.policies.query if by == "platform" else layered.tenant.query
    query.answer = flagged
    assert not layered.pdp.visible(answered.exchange, "read_document")


def test_a_list_shows_no_tool_that_the_platform_denies_and_flags_though_the_tenant_would_sanitize() -> None:
    layered = Layered()
    layered.bench.front.what = replace(CALL, kind=Kind.LIST)
    answered = layered.pdp.decide(BEHIND_EXT_PROC, FakeClaim(), lambda *_: b"")
    layered.bench.policies.query.answer = {"effect": "deny", "mode": "flag"}
    layered.tenant.query.answer = SANITIZE
    assert answered.exchange is not None
    assert not layered.pdp.visible(answered.exchange, "read_document")


def test_a_list_hides_what_the_tenants_policy_cannot_judge() -> None:
    layered = Layered()
    layered.bench.front.what = replace(CALL, kind=Kind.LIST)
    answered = layered.pdp.decide(BEHIND_EXT_PROC, FakeClaim(), lambda *_: b"")
    layered.tenant.query.answer = None
    assert answered.exchange is not None
    with pytest.raises(DenialError, match="POLICY_TENANT_FAILED"):
        layered.pdp.visible(answered.exchange, "read_document")


def test_a_result_is_judged_where_the_tenants_policy_alone_reads_results() -> None:
    layered = Layered(reads_results=True)
    answered = layered.pdp.decide(BEHIND_EXT_PROC, FakeClaim(), lambda *_: b"")
    assert answered.decision.inspect_response
    assert answered.exchange is not None
    layered.tenant.query.answer = {"effect": "deny", "reason": "own_rule"}
    layered.bench.policies.query.answer = {"effect": "deny", "reason": "no rule of the platform's speaks of results"}
    decision = layered.pdp.judge_result(answered.exchange, "secret", lambda _: b"").decision
    assert (decision.reason, decision.revision.tenant) == ("own_rule", OWN)


def test_a_result_is_judged_by_the_platform_where_its_policy_alone_reads_results() -> None:
    layered = Layered()
    layered.bench.policies.reads_results = True
    answered = layered.pdp.decide(BEHIND_EXT_PROC, FakeClaim(), lambda *_: b"")
    assert answered.exchange is not None
    layered.tenant.query.answer = {"effect": "deny"}
    decision = layered.pdp.judge_result(answered.exchange, "open", lambda _: b"").decision
    assert (decision.reason, decision.forwards) == ("platform", True)


def test_a_result_keeps_the_policies_that_judged_its_call() -> None:
    layered = Layered(reads_results=True)
    answered = layered.pdp.decide(BEHIND_EXT_PROC, FakeClaim(), lambda *_: b"")
    layered.tenant.revision, layered.tenant.is_active = Revision(revision="t2"), False
    assert answered.exchange is not None
    decision = layered.pdp.judge_result(answered.exchange, "secret", lambda _: b"").decision
    assert (decision.revision.tenant, decision.reason, decision.forwards) == (OWN, "platform", True)


def test_redactions_of_a_result_add_up() -> None:
    layered = Layered(reads_results=True)
    layered.bench.policies.reads_results = True
    answered = layered.pdp.decide(BEHIND_EXT_PROC, FakeClaim(), lambda *_: b"")
    layered.bench.policies.query.answer = {
        "effect": "sanitize",
        "redactions": [{"path": "/a", "replacement": "[P]"}],
    }
    layered.tenant.query.answer = {"effect": "sanitize", "redactions": [{"path": "/b", "replacement": "[T]"}]}
    assert answered.exchange is not None
    decision = layered.pdp.judge_result(answered.exchange, {"a": 1, "b": 2}, lambda _: b"").decision
    assert decision.verdict is not None
    assert [(each.path, each.stage) for each in decision.verdict.redactions] == [("/a", 0), ("/b", 1)]


def test_without_tenants_policies_nothing_is_asked_and_nothing_more_is_named() -> None:
    bench = Bench()
    decision = bench.pdp().decide(Check(), FakeClaim(), lambda *_: b"").decision
    assert (decision.revision.tenant, decision.tenant_result_json) == (None, b"")


@given(st.permutations(["acme", "globex", "initech"]), st.sampled_from(["acme", "globex", "initech", "nobody"]))
def test_the_order_of_tenants_does_not_matter(order: Iterable[str], tenant: str) -> None:
    found = TenantPolicies({name: FakePolicies(revision=Revision(revision=name)) for name in order}).of(
        Principal(issuer="i", tenant=tenant, agent="a", subject="a")
    )
    assert (found.revision.revision if found else "nobody") == tenant


HAPPENS = {Status.ALLOWED: 0, Status.FLAGGED_FOR_REVIEW: 0, Status.SANITIZED: 1, Status.APPROVAL_PENDING: 2}
"""The call runs, runs sanitized, or waits; else it is denied: 3."""


def results() -> st.SearchStrategy[Any]:
    effects = st.sampled_from([{"effect": effect} for effect in EFFECTS if effect != "sanitize"] + [SANITIZE])
    modes = st.sampled_from([{}, {"mode": "flag"}, {"mode": "block"}])
    risks = st.sampled_from([{}, {"risk": "read"}, {"risk": "destructive"}])
    decided = st.builds(lambda effect, mode, risk: {**effect, **mode, **risk}, effects, modes, risks)
    return st.one_of(decided, st.none(), st.just({"effect": "no"}), st.just(PolicyError(POLICY_ERROR)))


@given(results(), results())
def test_no_call_fares_better_for_the_tenants_policy(platform: Any, tenant: Any) -> None:
    alone, layered = Bench(), Layered()
    alone.policies.query = FakeQuery(platform)
    layered.bench.policies.query.answer, layered.tenant.query.answer = platform, tenant
    before = alone.pdp().decide(BEHIND_EXT_PROC, FakeClaim(), lambda *_: b"").decision
    after = layered.ask()
    assert HAPPENS.get(after.status, 3) >= HAPPENS.get(before.status, 3)
    if after.forwards and tenant is not None and not isinstance(tenant, Exception):
        own = agent_contract.interpret(orjson.dumps(tenant))
        assert own.mode.value == "flag" or HAPPENS[after.status] >= EFFECTS.index(own.effect.value)
