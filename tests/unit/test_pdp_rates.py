"""What policies are told of how often something happened: counted once for each call, and only where one asks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from authz.model import Check, Kind, Rate
from authz.policy.tenants import TenantPolicies
from tests.fakes import CALL, PRINCIPAL, TOOL, Bench, FakeClaim, FakePolicies, FakeQuery

BEHIND_EXT_PROC = Check(context={"authz.ext_proc": "true"})
ASKED = (Rate("approval_needed", 60), Rate("calls", 60), Rate("denied", 60))
ALLOW: dict[str, Any] = {"effect": "allow", "reason": "granted", "risk": "read"}
DENY: dict[str, Any] = {"effect": "deny", "reason": "no"}


def bench(answer: Any = ALLOW, asked: tuple[Rate, ...] = ASKED) -> Bench:
    made = Bench()
    made.policies = FakePolicies(query=FakeQuery(answer), rates=asked)
    return made


def told(made: Bench, *, is_open: bool = True) -> Any:
    """What the policy read at one more call."""
    made.pdp().decide(BEHIND_EXT_PROC, FakeClaim(is_open), lambda *_: b"answer")
    return made.policies.query.asked[-1]["facts"]["session"]


def counts(made: Bench, *, is_open: bool = True) -> tuple[int, ...]:
    rates = told(made, is_open=is_open)["rates"]
    return tuple(rates[rate.name][str(rate.seconds)] for rate in ASKED)


def test_where_no_policy_asks_nothing_is_said_or_counted() -> None:
    made = bench(asked=())
    assert told(made) == {}
    made.policies.rates = ASKED
    assert counts(made) == (0, 1, 0)


def test_a_call_is_among_those_it_is_told_of_and_its_own_outcome_is_not() -> None:
    made = bench(DENY)
    assert [counts(made) for _ in range(3)] == [(0, 1, 0), (0, 2, 1), (0, 3, 2)]
    made.policies.query.answer = {"effect": "approval_needed", "approval": {"approvers": ["ops"]}}
    assert [counts(made) for _ in range(2)] == [(0, 4, 3), (1, 5, 3)]
    made.clock.advance(64)
    assert counts(made) == (0, 1, 0)


def test_a_denial_that_is_only_flagged_is_none() -> None:
    made = bench(DENY | {"mode": "flag"})
    assert [counts(made) for _ in range(2)] == [(0, 1, 0), (0, 2, 0)]


def test_a_call_whose_answer_came_too_late_was_refused() -> None:
    made = bench()
    assert counts(made, is_open=False) == (0, 1, 0)
    assert counts(made) == (0, 2, 1)


@pytest.mark.parametrize("kind", [Kind.LIST, Kind.HANDSHAKE, Kind.RESPONSE])
def test_what_is_no_call_reads_the_counts_and_adds_nothing(kind: Kind) -> None:
    made = bench(DENY)
    made.policies.handshake = made.policies.query
    counts(made)
    made.front.what = replace(CALL, kind=kind)
    assert [counts(made) for _ in range(2)] == [(0, 1, 1), (0, 1, 1)]


def test_later_phases_read_the_counts_and_add_nothing() -> None:
    made = bench()
    made.policies.reads_results = True
    made.front.what = replace(CALL, kind=Kind.LIST)
    pdp = made.pdp()
    listed = pdp.decide(BEHIND_EXT_PROC, FakeClaim(), lambda *_: b"").exchange
    made.front.what = CALL
    called = pdp.decide(BEHIND_EXT_PROC, FakeClaim(), lambda *_: b"").exchange
    assert listed is not None
    assert called is not None
    pdp.visible(listed, TOOL.name)
    pdp.judge_result(called, {"content": []}, lambda _: b"")
    read = [asked["facts"]["session"]["rates"]["calls"]["60"] for asked in made.policies.query.asked]
    assert read == [0, 1, 1, 1]


def test_what_a_tenants_own_policy_asks_is_counted_too() -> None:
    made = bench(asked=(Rate("calls", 60),))
    own = FakePolicies(query=FakeQuery(ALLOW), rates=(Rate("denied", 3600),))
    made.tenant_policies = TenantPolicies({PRINCIPAL.tenant: own})
    assert told(made) == {"rates": {"calls": {"60": 1}, "denied": {"3600": 0}}}
    assert own.query.asked[-1]["facts"]["session"] == {"rates": {"calls": {"60": 1}, "denied": {"3600": 0}}}
