"""Two warm revisions: who is answered by which, what is compared, and what trips."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from authz.errors import BundleError, PolicyError
from authz.model import Charge, Check, Kind, Principal, Rate
from authz.native import Library
from authz.pdp import Exchange
from authz.policy import agent_contract, archive
from authz.policy.activation import Activation
from authz.policy.cohort import Cohort
from authz.policy.cohorts import CohortPolicies, Enacted
from authz.policy.comparison import GIVE_WAY_TIMES, WIRE_ERRORS, Comparison, Wire
from authz.policy.directive import Directive, Mode
from authz.policy.engine import PolicySource
from authz.policy.opa_native import NativeEngine
from tests.e2e.stack import eventually
from tests.fakes import CALL, PRINCIPAL, ROUTE, Bench, FakeClaim, FakeFront

if TYPE_CHECKING:
    from collections.abc import Iterator

    from authz.model import Decision
    from authz.policy.gates import Pairs

HEADER = b"package authz\n\nimport rego.v1\n\n"
ALLOW = HEADER + b'decision := {"effect": "allow", "reason": "base", "risk": "read"}\n'
DENY = HEADER + b'decision := {"effect": "deny", "reason": "candidate", "rules": ["limit"]}\n'
FLAGGED = HEADER + b'decision := {"effect": "deny", "reason": "candidate", "mode": "flag"}\n'
BROKEN = HEADER + b'decision := {"effect": "allow"} if input.agent.id == "probe"\n'
SLOW = HEADER + (
    b'decision := {"effect": "allow"} if input.agent.id == "probe"\n'
    b'decision := {"effect": "deny"} if {\n  input.agent.id != "probe"\n'
    b"  count([1 | some x in numbers.range(1, 3000); some y in numbers.range(1, 3000); x * y == 0]) == 0\n}\n"
)
GOLDEN = orjson.dumps([{"agent": {"id": "mallory"}}])
DIRECTIVE = Directive(
    rollout="rollout-1",
    scope="acme",
    version=3,
    mode=Mode.CANARY,
    baseline="",
    candidate="b" * 64,
    share=0.5,
    salt="salt",
    wave="canary-1",
    since_ns=7,
    guarded=True,
)


def source(rego: bytes, golden: bytes | None = None) -> PolicySource:
    files = {"policy.rego": rego} | ({"golden/deny.json": golden} if golden else {})
    return PolicySource(archive=archive.write(files, level=archive.STORED))


def principal(agent: str, tenant: str = "acme") -> Principal:
    return Principal(issuer="https://issuer", tenant=tenant, agent=agent, subject=agent)


class Stand:
    """A decision point whose policies take part in a rollout."""

    def __init__(self, base: bytes = ALLOW, golden: bytes | None = None) -> None:
        self.activation = Activation(NativeEngine(Library.load()), "authz/decision", agent_contract.interpret)
        self.activation.activate(source(base, golden))
        self.policies = CohortPolicies(self.activation)
        self.front = FakeFront()
        self.bench = Bench(front=self.front, policies=self.policies)  # type: ignore[arg-type]  # the same port
        self.pdp = self.bench.pdp()
        self.trips, self.crowd, self.gave_way = threading.Event(), threading.Event(), 0
        self.comparison = Comparison(
            self.policies,
            self.bench.clock,
            evaluation_s=0.05,
            share=1.0,
            tripped=self.trips.set,
            is_crowded=self.is_crowded,
        )

    def is_crowded(self) -> bool:
        self.gave_way += self.crowd.is_set()
        return self.crowd.is_set()

    def enact(self, rego: bytes | None, **changes: Any) -> None:
        candidate = self.activation.open(source(rego), must_deny=self.activation.golden) if rego else None
        self.policies.enact(Enacted(directive=replace(DIRECTIVE, **changes), baseline=None, candidate=candidate))

    def ask(self, agent: str = "agent-1", tenant: str = "acme") -> Decision:
        self.front.who = principal(agent, tenant)
        self.pdp.decide(Check(), FakeClaim(), lambda *_: b"")
        decision = self.bench.observed[-1]
        self.comparison.observe(decision)
        return decision

    def agent(self, cohort: Cohort) -> str:
        """Somebody of that cohort."""
        (enacted,) = self.policies.enacted.values()
        names = (f"agent-{number}" for number in range(1_000))
        return next(name for name in names if enacted.cohort(principal(name)) is cohort)

    def pairs(self) -> Pairs:
        return self.comparison.findings("acme")[-1][2].window.pairs


@pytest.fixture
def stand() -> Iterator[Stand]:
    made = Stand()
    made.comparison.start()
    yield made
    made.comparison.stop()


def test_without_a_rollout_the_configured_policy_answers_and_names_none(stand: Stand) -> None:
    decision = stand.ask()
    assert (decision.reason, decision.revision.rollout, decision.revision.cohort) == ("base", "", "")


def test_each_agent_meets_one_revision_and_each_decision_names_it(stand: Stand) -> None:
    stand.enact(DENY)
    for agent in (f"agent-{number}" for number in range(40)):
        reasons = {stand.ask(agent).reason for _ in range(2)}
        revision = stand.bench.observed[-1].revision
        assert len(reasons) == 1
        assert reasons == {"candidate" if revision.cohort == "candidate" else "base"}
        assert (revision.rollout, revision.wave) == ("rollout-1", "canary-1")
        assert revision.revision.startswith("sha256:")
    cohorts = {decision.revision.cohort for decision in stand.bench.observed}
    assert cohorts == {"baseline", "candidate"}


@pytest.mark.parametrize(("mode", "reason"), [(Mode.SHADOW, "base"), (Mode.ENFORCED, "candidate")])
def test_a_shadow_answers_nobody_and_an_enforced_candidate_everybody(stand: Stand, mode: Mode, reason: str) -> None:
    stand.enact(DENY, mode=mode, share=0.0)
    assert {stand.ask(f"agent-{number}").reason for number in range(20)} == {reason}


STRICTER = HEADER + (
    b'default decision := {"effect": "allow", "reason": "candidate", "risk": "read"}\n'
    b'decision := {"effect": "deny", "reason": "contained", "rules": ["contain"]} if input.agent.id == "agent-1"\n'
)


@pytest.mark.parametrize(
    ("base", "candidate", "enforced", "reason"),
    [
        (ALLOW, STRICTER, "deny", "contained"),
        (DENY, STRICTER, "deny", "candidate"),
        (DENY, ALLOW, "deny", "candidate"),
        (ALLOW, BROKEN, "deny", "POLICY_UNDEFINED"),
        (BROKEN, ALLOW, "deny", "POLICY_UNDEFINED"),
        (ALLOW, SLOW, "deny", "POLICY_TIMEOUT"),
        (DENY, FLAGGED, "deny", "candidate"),
        (ALLOW, FLAGGED, "allow", "candidate"),
        (ALLOW, ALLOW, "allow", "base"),
    ],
)
def test_while_stricter_the_stricter_answer_of_the_two_counts(
    base: bytes, candidate: bytes, enforced: str, reason: str
) -> None:
    stand = Stand(base)
    stand.enact(candidate, mode=Mode.STRICTER, guarded=False, wave="stricter")
    decision = stand.ask()
    assert (decision.enforced, decision.reason) == (enforced, reason)


def test_a_stricter_candidate_that_fails_is_never_taken_out_by_itself(stand: Stand) -> None:
    """Whoever can make it fail could end a containment so."""
    stand.enact(BROKEN, mode=Mode.STRICTER)
    assert {stand.ask().reason for _ in range(WIRE_ERRORS * 3)} == {"POLICY_UNDEFINED"}
    assert not stand.trips.is_set()


def test_while_stricter_a_decision_names_both_and_keeps_what_each_said(stand: Stand) -> None:
    stand.enact(STRICTER, mode=Mode.STRICTER, wave="stricter", guarded=False)
    decision = stand.ask()
    revision = decision.revision
    assert (revision.rollout, revision.wave, revision.cohort) == ("rollout-1", "stricter", "candidate")
    assert revision.beside == stand.activation.revision.revision != revision.revision
    said = orjson.loads(decision.result_json)
    assert {name: each["effect"] for name, each in said.items()} == {"baseline": "allow", "candidate": "deny"}
    eventually(lambda: stand.pairs().compared == 1)
    assert (stand.pairs().would_block, stand.pairs().undenied) == (1, 0)
    assert stand.comparison.findings("acme")[-1][2].rankings["rule"] == {"contain": 1}


def test_where_the_stricter_one_cannot_be_opened_the_baseline_goes_on(stand: Stand) -> None:
    stand.enact(None, mode=Mode.STRICTER)
    assert stand.ask().reason == "base"


def test_what_two_revisions_of_one_policy_charge_is_charged_once() -> None:
    charges = b'decision := {"effect": "allow", "charges": [{"budget": "eur", "amount": %d}]}\n'
    stand = Stand(HEADER + charges % 5)
    stand.enact(HEADER + charges % 7, mode=Mode.STRICTER)
    verdict = stand.ask().verdict
    assert verdict is not None
    assert verdict.charges == (Charge(budget="eur", amount=7),)


def test_handshakes_are_judged_by_whichever_speaks_of_them(stand: Stand) -> None:
    refuses = b'\nhandshake := {"effect": "deny", "reason": "not now"} if input.agent.id != "probe"\n'
    stand.front.what = replace(CALL, kind=Kind.HANDSHAKE)
    stand.enact(ALLOW, mode=Mode.STRICTER)
    assert stand.ask().reason == "handshake"
    stand.enact(ALLOW + refuses, mode=Mode.STRICTER, version=4)
    assert stand.ask().reason == "not now"


def test_a_result_is_judged_by_whichever_reads_results() -> None:
    """The other one speaks of calls alone, and would refuse every result."""
    calls = HEADER + b'decision := {"effect": "allow", "reason": "base"} if input.phase == "call"\n'
    results = HEADER + (
        b'default decision := {"effect": "allow", "reason": "candidate"}\n'
        b'decision := {"effect": "deny", "reason": "leaks"} if contains(input.result.text, "secret")\n'
    )
    stand = Stand(calls)
    stand.enact(results, mode=Mode.STRICTER)
    pair = stand.policies.active(principal("agent-1"))
    exchange = Exchange(
        check=Check(), decision=stand.ask(), policy=pair, principal=principal("agent-1"), call=CALL, route=ROUTE
    )
    for text, reason in (("fine", "candidate"), ("a secret", "leaks")):
        assert stand.pdp.judge_result(exchange, {"text": text}, lambda _: b"").decision.reason == reason


def test_a_directive_reaches_its_tenant_alone_and_the_platforms_the_others(stand: Stand) -> None:
    stand.enact(DENY, mode=Mode.ENFORCED)
    assert (stand.ask(tenant="acme").reason, stand.ask(tenant="rival").reason) == ("candidate", "base")
    stand.enact(DENY, mode=Mode.ENFORCED, scope="")
    stand.enact(None, mode=Mode.BASELINE, candidate="", version=4)
    assert stand.ask(tenant="rival").reason == "candidate"
    assert stand.ask(tenant="acme").reason == "candidate", "a rollout that ended says nothing any more"


def test_f10_a_shadow_that_denies_all_changes_no_answer_and_is_counted(stand: Stand) -> None:
    stand.enact(DENY, mode=Mode.SHADOW)
    decisions = [stand.ask() for _ in range(20)]
    assert {(each.effect, each.enforced, each.reason) for each in decisions} == {("allow", "allow", "base")}
    eventually(lambda: stand.pairs().compared == 20)
    assert (stand.pairs().would_block, stand.pairs().denied, stand.pairs().flips) == (20, 20, 20)
    found = stand.comparison.findings("acme")[0][2]
    assert found.rankings["rule"] == {"limit": 20}
    assert found.rankings["tool"] == {"default/read_document": 20}
    assert {(each.baseline, each.candidate) for each in found.examples} == {("allow", "deny")}
    assert len(found.examples) == 5


@pytest.mark.parametrize("candidate", [BROKEN, SLOW])
def test_f10_a_shadow_that_fails_or_loops_changes_no_answer(stand: Stand, candidate: bytes) -> None:
    stand.enact(candidate, mode=Mode.SHADOW)
    assert {stand.ask().reason for _ in range(4)} == {"base"}
    eventually(lambda: stand.pairs().would_fail == 4)
    assert not stand.trips.is_set()


def test_a_refusal_that_is_only_flagged_lets_the_call_run_so_it_agrees_with_an_allow(stand: Stand) -> None:
    stand.enact(FLAGGED, mode=Mode.SHADOW)
    stand.ask()
    eventually(lambda: stand.pairs().compared == 1)
    assert stand.pairs().flips == 0


def test_calls_of_the_canary_are_judged_by_the_baseline_too(stand: Stand) -> None:
    stand.enact(DENY)
    assert stand.ask(stand.agent(Cohort.CANDIDATE)).effect == "deny"
    eventually(lambda: stand.pairs().compared == 1)
    assert (stand.pairs().would_block, stand.pairs().undenied) == (1, 0)


def test_what_there_is_no_time_for_is_shed_and_counted() -> None:
    idle = Stand()  # nobody compares
    idle.enact(DENY, mode=Mode.SHADOW)
    for _ in range(520):
        idle.ask()
    assert idle.pairs().shed == idle.comparison.shed == 8
    idle.comparison.start()
    idle.comparison.stop()


def test_f10_a_comparison_gives_way_where_calls_crowd_and_is_made_in_the_end(stand: Stand) -> None:
    stand.enact(DENY, mode=Mode.SHADOW)
    stand.ask()
    assert eventually(lambda: stand.pairs().compared == 1)
    assert stand.gave_way == 0
    stand.crowd.set()
    for _ in range(3):
        stand.ask()
    assert eventually(lambda: stand.pairs().compared == 4)
    assert stand.gave_way == 3 * GIVE_WAY_TIMES
    assert stand.pairs().shed == 0


def test_handshakes_and_refused_tokens_are_not_compared(stand: Stand) -> None:
    stand.enact(DENY, mode=Mode.SHADOW)
    stand.front.what = replace(CALL, kind=Kind.HANDSHAKE)
    stand.ask()
    assert stand.comparison.findings("acme") == []


def test_a_candidate_that_fails_to_judge_is_taken_out_here_at_once(stand: Stand) -> None:
    stand.enact(BROKEN)
    agent = stand.agent(Cohort.CANDIDATE)
    reasons = [stand.ask(agent).reason for _ in range(WIRE_ERRORS + 3)]
    assert reasons == ["POLICY_UNDEFINED"] * WIRE_ERRORS + ["base"] * 3
    assert stand.policies.enacted["acme"].tripped == "POLICY_UNDEFINED"
    assert stand.trips.is_set()


def test_an_enforced_candidate_trips_too(stand: Stand) -> None:
    stand.enact(BROKEN, mode=Mode.ENFORCED)
    assert [stand.ask().reason for _ in range(WIRE_ERRORS + 1)][-1] == "base"


def test_what_a_person_overruled_does_not_trip(stand: Stand) -> None:
    stand.enact(BROKEN, mode=Mode.ENFORCED, guarded=False)
    assert {stand.ask().reason for _ in range(WIRE_ERRORS * 3)} == {"POLICY_UNDEFINED"}


def test_a_baseline_that_fails_as_often_trips_nothing() -> None:
    both = Stand(BROKEN)
    both.enact(BROKEN + b"# another\n")
    for number in range(60):
        both.ask(f"agent-{number}")
    assert not both.trips.is_set()


def test_f11_a_candidate_that_allows_what_the_baseline_must_deny_is_not_even_opened() -> None:
    strict = Stand(
        HEADER
        + b'default decision := {"effect": "allow", "reason": "base"}\n\n'
        + b'decision := {"effect": "deny"} if input.agent.id == "mallory"\n',
        GOLDEN,
    )
    with pytest.raises(BundleError, match="golden") as refused:
        strict.enact(ALLOW)
    assert refused.value.code == "BUNDLE_GOLDEN"
    assert strict.ask().reason == "base"


def test_f17_many_callers_meet_whole_revisions_while_directives_change(stand: Stand) -> None:
    stand.enact(DENY)
    candidate = stand.policies.enacted["acme"].candidate
    over = threading.Event()
    mixed: list[object] = []

    def ask() -> None:
        while not over.is_set():
            active = stand.policies.active(PRINCIPAL)
            said = active.interpret(active.decision.evaluate(b"{}", 1.0)).reason
            if said != ("candidate" if active.revision.cohort == "candidate" else "base"):
                mixed.append(active.revision)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for version in range(200):
        mode = (Mode.ENFORCED, Mode.CANARY, Mode.SHADOW, Mode.BASELINE)[version % 4]
        told = replace(DIRECTIVE, mode=mode, version=version + 1)
        stand.policies.enact(Enacted(directive=told, baseline=None, candidate=candidate))
    over.set()
    for thread in threads:
        thread.join()
    assert mixed == []


def test_the_wire_wants_failures_of_the_candidate_and_enough_of_them() -> None:
    second = 1_000_000_000
    steady = Wire()
    assert not any(steady.add(Cohort.CANDIDATE, 0, failed=True) for _ in range(WIRE_ERRORS - 1))
    assert steady.add(Cohort.CANDIDATE, 0, failed=True)
    rare = Wire()
    for number in range(400):
        assert not rare.add(Cohort.CANDIDATE, number * second // 100, failed=number % 20 == 0)
    sporadic = Wire()
    told = [sporadic.add(Cohort.CANDIDATE, number * second // 100, failed=number % 4 == 0) for number in range(40)]
    assert any(told)
    slow = Wire()
    told = [slow.add(Cohort.CANDIDATE, number * 60 * second, failed=True) for number in range(WIRE_ERRORS)]
    assert told == [False] * (WIRE_ERRORS - 1) + [True]


def test_a_name_of_a_revision_keeps_it_alive(stand: Stand) -> None:
    stand.enact(DENY, mode=Mode.ENFORCED)
    named = stand.policies.active(PRINCIPAL)
    stand.enact(None, mode=Mode.BASELINE, candidate="", version=9)
    assert named.interpret(named.decision.evaluate(b"{}", 1.0)).reason == "candidate"
    with pytest.raises(PolicyError):
        named.interpret(None)


def test_what_a_candidate_asks_is_counted_before_it_answers() -> None:
    rated = HEADER + b'decision := {"effect": "allow"} if input.facts.session.rates.calls["%s"] > 0\n'
    stand = Stand(rated % b"60")
    assert [*stand.policies.rates] == [Rate("calls", 60)]
    opened = stand.activation.open(source(rated % b"5"))
    stand.policies.enact(Enacted(directive=DIRECTIVE, baseline=None, candidate=opened))
    assert [*stand.policies.rates] == [Rate("calls", 5), Rate("calls", 60)]
