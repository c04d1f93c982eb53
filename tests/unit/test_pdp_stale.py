"""Knowledge that has grown old, of kills or the policy: what is served on it, and what is not (failure matrix §3)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from authz.model import Check, Effect, Kind, Status
from tests.fakes import CALL, Bench, FakeClaim, FakeQuery
from tests.unit.test_pdp import render

if TYPE_CHECKING:
    from authz.pdp import Answered


def decided(age_s: float, answer: Any = None, kind: Kind = Kind.CALL) -> Answered:
    bench = Bench()
    bench.kills.age_s = age_s
    bench.policies.query = FakeQuery(answer or {"effect": "allow", "risk": "read"})
    bench.front.what = replace(CALL, kind=kind)
    return bench.pdp().decide(Check(), FakeClaim(), render)


@pytest.mark.parametrize("risk", ["read", "write", "destructive", None])
def test_on_fresh_knowledge_everything_is_served_and_nothing_flagged(risk: str | None) -> None:
    answer = {"effect": "allow"} | ({"risk": risk} if risk else {})
    decision = decided(2.0, answer).decision
    assert (decision.forwards, decision.kills_stale) == (True, False)


@pytest.mark.parametrize("age_s", [2.1, 30.0, 300.0])
def test_on_stale_knowledge_reads_are_served_and_flagged(age_s: float) -> None:
    decision = decided(age_s).decision
    assert (decision.forwards, decision.status, decision.kills_stale) == (True, Status.ALLOWED, True)


@pytest.mark.parametrize("effect", ["allow", "sanitize", "approval_needed"])
@pytest.mark.parametrize("risk", ["write", "destructive", None])
def test_on_stale_knowledge_what_changes_things_is_denied(risk: str | None, effect: str) -> None:
    answer: Any = {"effect": effect} | ({"risk": risk} if risk else {})
    answer |= {"redactions": [{"path": "/path", "replacement": "x"}]} if effect == "sanitize" else {}
    answer |= {"approval": {"approvers": ["a"], "quorum": 1, "ttl_s": 60}} if effect == "approval_needed" else {}
    decision = decided(2.1, answer).decision
    assert (decision.effect, decision.reason, decision.status) == (Effect.DENY, "KILL_STALE", Status.ERROR)


def test_on_stale_knowledge_flag_mode_lets_nothing_through() -> None:
    assert decided(2.1, {"effect": "deny", "mode": "flag", "risk": "write"}).decision.reason == "KILL_STALE"


def test_after_five_minutes_reads_are_denied_too() -> None:
    assert decided(300.1).decision.reason == "KILL_STALE"


@pytest.mark.parametrize(("age_s", "forwards"), [(2.1, True), (300.1, False)])
def test_a_handshake_counts_as_a_read(age_s: float, forwards: bool) -> None:  # noqa: FBT001
    decision = decided(age_s, kind=Kind.HANDSHAKE).decision
    assert (decision.forwards, decision.kills_stale) == (forwards, forwards)


def test_a_policys_own_refusal_is_told_as_it_is() -> None:
    assert decided(300.1, {"effect": "deny", "reason": "no"}).decision.reason == "no"


def test_a_kill_that_is_known_bites_however_old_the_rest_is() -> None:
    bench = Bench()
    bench.kills.age_s = 10.0
    bench.kills.kill("agent-1")
    assert bench.pdp().decide(Check(), FakeClaim(), render).decision.reason == "REVOKED"


@pytest.mark.parametrize(("risk", "forwards"), [("read", True), ("write", True), ("destructive", False), (None, False)])
def test_on_a_policy_that_may_be_old_what_destroys_is_denied(risk: str | None, forwards: bool) -> None:  # noqa: FBT001
    bench = Bench(is_policy_current=lambda _: False)
    bench.policies.query = FakeQuery({"effect": "allow"} | ({"risk": risk} if risk else {}))
    decision = bench.pdp().decide(Check(), FakeClaim(), render).decision
    assert decision.forwards is forwards
    assert (decision.reason == "POLICY_STALE") is not forwards
