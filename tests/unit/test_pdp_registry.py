"""What the registry says of an agent, in the decision: lifecycle, ceiling, autonomy, memory writes (requirement I4)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from authz.errors import InvalidRequestError
from authz.model import AgentFacts, Autonomy, Check, Effect, Kind, Lifecycle, Mode, Risk, Status
from authz.reasons import JWKS_UNAVAILABLE
from authz.revocation.kills import MEMORY_WRITES
from tests.fakes import CALL, PRINCIPAL, TOOL, Bench, FakeClaim, FakeQuery

if TYPE_CHECKING:
    from authz.model import Decision, JsonObject, Principal, ToolCall
    from authz.pdp import Answered

FACTS = AgentFacts(lifecycle=Lifecycle.ACTIVE, autonomy=Autonomy.AUTONOMOUS, owner="ann@acme.example")
WRITE = {"effect": "allow", "reason": "granted", "risk": "write"}
BEHIND_EXT_PROC = Check(context={"authz.ext_proc": "true"})


def registered(answer: Any = WRITE, **facts: Any) -> Bench:
    bench = Bench()
    bench.policies.query = FakeQuery(answer)
    bench.kills.registry[PRINCIPAL.agent] = replace(FACTS, **facts)
    return bench


def decide(bench: Bench, check: Check | None = None) -> Answered:
    return bench.pdp().decide(check or Check(), FakeClaim(), lambda *_: b"answer")


def outcome(bench: Bench) -> tuple[str, Status]:
    decision = decide(bench).decision
    return decision.reason, decision.status


def test_an_agent_that_the_registry_does_not_know_is_the_policys_alone() -> None:
    bench = registered()
    bench.kills.registry.clear()
    assert decide(bench).decision.forwards
    assert not {"lifecycle", "autonomy", "owner"} & bench.policies.query.asked[0]["agent"].keys()


def test_policies_read_what_the_registry_says() -> None:
    bench = registered()
    decide(bench)
    said = {"lifecycle": "active", "autonomy": "autonomous", "owner": "ann@acme.example"}
    assert bench.policies.query.asked[0]["agent"].items() >= said.items()


@pytest.mark.parametrize("kind", list(Kind))
@pytest.mark.parametrize(
    ("lifecycle", "code"), [(Lifecycle.PAUSED, "AGENT_PAUSED"), (Lifecycle.RETIRED, "AGENT_RETIRED")]
)
def test_pausing_bites_at_the_next_message_of_any_kind(kind: Kind, lifecycle: Lifecycle, code: str) -> None:
    bench = registered(lifecycle=lifecycle)
    bench.front.what = replace(CALL, kind=kind)
    assert outcome(bench) == (code, Status.REVOKED)
    assert bench.policies.query.asked == []


def test_e12_pausing_while_the_call_is_judged_still_bites() -> None:
    bench = registered()

    def pause() -> None:
        bench.kills.sequence += 1
        bench.kills.registry[PRINCIPAL.agent] = replace(FACTS, lifecycle=Lifecycle.PAUSED)

    bench.policies.query.during = pause
    assert outcome(bench) == ("AGENT_PAUSED", Status.REVOKED)


def test_a_kill_is_told_before_a_pause() -> None:
    bench = registered(lifecycle=Lifecycle.PAUSED)
    bench.kills.kill(PRINCIPAL.agent)
    assert outcome(bench)[0] == "REVOKED"


def test_a_tool_over_the_ceiling_is_refused_before_policy_and_not_listed() -> None:
    bench = registered(tools_ceiling=("default/search",))
    assert outcome(bench) == ("TOOL_CEILING", Status.POLICY_BLOCKED)
    assert bench.policies.query.asked == []
    bench.front.what = replace(CALL, kind=Kind.LIST, tool=replace(TOOL, name="", method="tools/list"))
    exchange = decide(bench, BEHIND_EXT_PROC).exchange
    assert exchange is not None
    assert bench.pdp().visible(exchange, "search")
    with pytest.raises(InvalidRequestError, match="TOOL_CEILING"):
        bench.pdp().visible(exchange, "read_document")


def test_an_observer_only_reads() -> None:
    assert outcome(registered(autonomy=Autonomy.OBSERVE)) == ("AUTONOMY_EXCEEDED", Status.POLICY_BLOCKED)
    assert decide(registered({**WRITE, "risk": "read"}, autonomy=Autonomy.OBSERVE)).decision.forwards


@pytest.mark.parametrize("says", [None, {"effect": "allow"}])
def test_an_observer_may_shake_hands(says: JsonObject | None) -> None:
    bench = registered(autonomy=Autonomy.OBSERVE)
    bench.policies.handshake = FakeQuery(says)
    bench.front.what = replace(CALL, kind=Kind.HANDSHAKE)
    decision = decide(bench).decision
    assert decision.forwards
    assert decision.verdict is not None
    assert decision.verdict.risk is Risk.READ


@pytest.mark.parametrize("mode", ["block", "flag"])
@pytest.mark.parametrize("risk", ["write", "destructive"])
def test_what_changes_something_needs_a_person_where_the_registry_says_so(mode: str, risk: str) -> None:
    decision: Decision = decide(
        registered({**WRITE, "risk": risk, "mode": mode}, autonomy=Autonomy.ACT_WITH_APPROVAL)
    ).decision
    assert (decision.effect, decision.enforced) == (Effect.APPROVAL_NEEDED, Effect.APPROVAL_NEEDED)
    assert (decision.reason, decision.status, decision.rpc_code) == ("AUTONOMY_APPROVAL", Status.APPROVAL_PENDING, 4031)
    assert decision.mode is Mode.BLOCK


class Approved:
    """Overrides that find one with every call."""

    def presented(self, check: Check, principal: Principal, call: ToolCall) -> JsonObject:  # noqa: ARG002
        return {"id": "a-1"}


def test_who_shows_an_approval_may_act_and_an_observer_still_may_not() -> None:
    approving = registered(autonomy=Autonomy.ACT_WITH_APPROVAL)
    approving.overrides = Approved()
    assert decide(approving).decision.reason == "granted"
    observing = registered(autonomy=Autonomy.OBSERVE)
    observing.overrides = Approved()
    assert outcome(observing)[0] == "AUTONOMY_EXCEEDED"


def test_what_is_refused_costs_nothing() -> None:
    charged = {**WRITE, "charges": [{"budget": "calls", "amount": 1}]}
    assert outcome(registered(charged, autonomy=Autonomy.OBSERVE))[0] == "AUTONOMY_EXCEEDED"


def test_paused_memory_writes_stop_tools_that_the_route_says_write_memory() -> None:
    bench = registered(memory_writes_paused=True)
    assert decide(bench).decision.forwards
    bench.front.what = replace(CALL, tool=replace(TOOL, capabilities=("memory_write",)))
    assert outcome(bench) == ("MEMORY_WRITES_PAUSED", Status.REVOKED)


def named(*capabilities: str, effect: str = "allow") -> JsonObject:
    return {"effect": effect, "reason": "granted", "risk": "write", "tags": {"capabilities": [*capabilities]}}


def test_paused_memory_writes_stop_tools_that_the_policy_says_write_memory() -> None:
    assert outcome(registered(named("memory_write"), memory_writes_paused=True))[0] == "MEMORY_WRITES_PAUSED"
    assert decide(registered(named("memory_write"))).decision.forwards
    assert decide(registered(named("mail"), memory_writes_paused=True)).decision.forwards


def test_a_kill_of_memory_writes_says_so_and_a_kill_of_another_capability_is_a_kill() -> None:
    bench = registered(named("memory_write"))
    bench.kills.kill_capability("memory_write", MEMORY_WRITES)
    assert outcome(bench) == ("MEMORY_WRITES_PAUSED", Status.REVOKED)
    bench = registered(named("mail"))
    bench.kills.kill_capability("mail")
    assert outcome(bench) == ("REVOKED", Status.REVOKED)


@pytest.mark.parametrize("stop", ["kill", "pause"])
def test_a_tool_with_a_stopped_capability_is_not_listed(stop: str) -> None:
    bench = registered(named("memory_write"), memory_writes_paused=stop == "pause")
    if stop == "kill":
        bench.kills.kill_capability("memory_write", MEMORY_WRITES)
    listing = replace(CALL, kind=Kind.LIST, tool=replace(TOOL, name="", method="tools/list"))
    bench.front.what = listing
    bench.policies.query.answer = {"effect": "allow"}
    exchange = decide(bench, BEHIND_EXT_PROC).exchange
    assert exchange is not None
    assert bench.pdp().visible(exchange, "search")
    bench.policies.query.answer = named("memory_write")
    with pytest.raises(InvalidRequestError, match="MEMORY_WRITES_PAUSED"):
        bench.pdp().visible(exchange, "remember")


def test_a_kill_reaches_a_capability_that_the_policy_names_for_a_flagged_or_unregistered_call() -> None:
    bench = registered({**named("mail", effect="deny"), "mode": "flag"})
    bench.kills.registry.clear()
    bench.kills.kill_capability("mail")
    assert outcome(bench)[0] == "REVOKED"


def test_e12_a_kill_of_a_capability_that_only_the_policy_names_is_seen_at_the_end_as_well() -> None:
    bench = registered(named("mail"))
    assert bench.pdp().decide(Check(), KillingClaim(bench), lambda *_: b"").decision.reason == "REVOKED"


class KillingClaim(FakeClaim):
    """Lands a kill at the last moment before the answer is made."""

    def __init__(self, bench: Bench) -> None:
        super().__init__()
        self._bench = bench

    def commit(self) -> bool:
        self._bench.kills.kill_capability("mail")
        return True


def test_a_policys_refusal_keeps_its_words_whatever_it_names() -> None:
    bench = registered(named("mail", effect="deny"), autonomy=Autonomy.OBSERVE)
    bench.kills.kill_capability("mail")
    assert outcome(bench)[0] == "granted"


@pytest.mark.parametrize("wrong", ["memory_write", {"memory_write": True}, [1], None])
def test_capabilities_of_another_shape_are_no_decision(wrong: Any) -> None:
    answer = {**WRITE, "tags": {"capabilities": wrong}}
    assert outcome(registered(answer, memory_writes_paused=True))[0] == "POLICY_TYPE"


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ({"effect": "allow", "risk": "destructive"}, "JWKS_UNAVAILABLE"),
        ({"effect": "allow"}, "JWKS_UNAVAILABLE"),
        ({"effect": "approval_needed"}, "JWKS_UNAVAILABLE"),
        ({"effect": "deny", "mode": "flag"}, "JWKS_UNAVAILABLE"),
        ({"effect": "deny", "reason": "no"}, "no"),
        ({"effect": "allow", "risk": "write", "reason": "granted"}, "granted"),
        ({"effect": "allow", "risk": "read", "reason": "granted"}, "granted"),
    ],
)
def test_keys_too_old_for_destructive_calls_stop_those_alone(answer: JsonObject, code: str) -> None:
    bench = registered(answer)
    bench.front.doubt = InvalidRequestError(JWKS_UNAVAILABLE, challenge="Bearer")
    decision = decide(bench).decision
    assert decision.reason == code
    assert (decision.http_status == 401) is (code == "JWKS_UNAVAILABLE")
