"""Kills that stop much need two people, and so does ending them (requirement I3)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from authz.errors import InvalidRequestError
from authz.revocation.guard import OVER, Guard, Hit, KillRecord, KillState, Signer, confirm, lift, propose
from authz.revocation.scopes import Scope, ScopeKind

if TYPE_CHECKING:
    from collections.abc import Callable

GUARD = Guard()
ADDING = Guard(adds_up=True)
NOW = 1_800_000_000_000_000_000
SECOND = 1_000_000_000
WINDOW = 600 * SECOND
ANNA, BEN, CARA = (Signer(operator=name) for name in ("anna", "ben", "cara"))
PROGRAM = Signer(operator="detector", is_automatic=True)
REASON = "exfiltration seen in incident 7"
AGENT, TENANT, EVERYTHING = (
    Scope(ScopeKind.AGENT, "acme", "billing"),
    Scope(ScopeKind.TENANT, "acme"),
    Scope(ScopeKind.GLOBAL, ""),
)


def names(count: int) -> frozenset[str]:
    return frozenset(map(str, range(count)))


def asked(*, is_guarded: bool = False, **fields: object) -> KillRecord:
    scope = TENANT if is_guarded else AGENT
    kill = KillRecord(
        id="kill-1", scope=scope, is_guarded=is_guarded, reason=REASON, created_by="anna", created_at_ns=NOW
    )
    return replace(kill, **fields)  # type: ignore[arg-type]


def awaiting() -> KillRecord:
    return propose(asked(is_guarded=True), ANNA, GUARD)


def guarded_in_force() -> KillRecord:
    return confirm(awaiting(), BEN, NOW + SECOND)


def refusal(act: Callable[[], KillRecord]) -> str:
    with pytest.raises(InvalidRequestError) as caught:
        act()
    return caught.value.reason.code


@pytest.mark.parametrize("scope", [TENANT, EVERYTHING])
def test_a_tenant_and_everything_are_guarded_however_few_agents_there_are(scope: Scope) -> None:
    assert GUARD.guards(scope, Hit())


@pytest.mark.parametrize(
    ("agents", "active", "signers"),
    [(1, 4, 1), (2, 4, 1), (1, 5, 1), (2, 5, 2), (25, 100, 1), (26, 100, 2), (0, 0, 1)],
)
def test_more_than_a_quarter_of_at_least_five_agents_is_guarded(agents: int, active: int, signers: int) -> None:
    is_guarded = GUARD.guards(Scope(ScopeKind.SUBTREE, "acme", "root"), Hit(agents=names(agents), active=active))
    assert is_guarded is (signers == 2)


@given(agents=st.integers(0, 500), more=st.integers(0, 500), active=st.integers(0, 1000))
def test_hitting_more_agents_never_needs_fewer_signers(agents: int, more: int, active: int) -> None:
    scope = Scope(ScopeKind.SUBTREE, "acme", "root")
    if GUARD.guards(scope, Hit(agents=names(agents), active=active)):
        assert GUARD.guards(scope, Hit(agents=names(agents + more), active=active))
        assert ADDING.guards(scope, Hit(agents=names(agents), alone=names(more), active=active))


@given(active=st.integers(1, 40), parts=st.lists(st.frozensets(st.integers(0, 39), max_size=12), max_size=12))
def test_e9_a_guarded_kill_in_parts_within_a_window_never_avoids_the_second_signer(
    active: int, parts: list[frozenset[int]]
) -> None:
    """Whatever the parts, their order and their overlap: what is stopped alone is what one kill may stop alone."""
    alone: frozenset[str] = frozenset()
    needs_two = False
    for part in parts:
        hit = Hit(agents=frozenset(map(str, part)), alone=alone, active=active)
        if ADDING.guards(AGENT, hit):
            needs_two = True
        else:
            alone |= hit.agents
    assert not ADDING.guards(AGENT, Hit(agents=alone, active=active))
    whole = frozenset(map(str, frozenset[int]().union(*parts)))
    assert needs_two is ADDING.guards(AGENT, Hit(agents=whole, active=active))


@given(agents=st.integers(1, 40), alone=st.integers(0, 40), active=st.integers(5, 160))
def test_a_kill_that_stops_no_more_than_is_stopped_needs_no_more_signers(agents: int, alone: int, active: int) -> None:
    known = names(max(agents, alone))
    assert ADDING.guards(AGENT, Hit(agents=names(agents), alone=known, active=active)) is ADDING.guards(
        AGENT, Hit(agents=known, active=active)
    )


def test_a_plain_kill_is_in_force_at_once_and_lifted_at_once() -> None:
    kill = propose(asked(), ANNA, GUARD)
    assert (kill.state(NOW), kill.version) == (KillState.IN_FORCE, 1)
    lifted = lift(kill, BEN, "false alarm", GUARD, NOW + SECOND)
    assert (lifted.state(NOW + SECOND), lifted.version, lifted.lifted_by) == (KillState.LIFTED, 2, "ben")


def test_a_guarded_kill_waits_for_another_signer() -> None:
    kill = awaiting()
    assert (kill.state(NOW), kill.version) == (KillState.AWAITING_CONFIRMATION, 0)
    confirmed = confirm(kill, BEN, NOW + WINDOW - 1)
    assert (confirmed.state(NOW + WINDOW), confirmed.version) == (KillState.IN_FORCE, 1)
    assert (confirmed.created_by, confirmed.confirmed_by) == ("anna", "ben")


def test_the_same_signer_twice_is_one_signer() -> None:
    assert refusal(lambda: confirm(awaiting(), ANNA, NOW)) == "KILL_SAME_SIGNER"
    lifting = lift(guarded_in_force(), BEN, REASON, GUARD, NOW + SECOND)
    assert refusal(lambda: confirm(lifting, BEN, NOW + SECOND)) == "KILL_SAME_SIGNER"


def test_a_program_signs_neither_side_of_a_guarded_kill() -> None:
    assert refusal(lambda: propose(asked(is_guarded=True), PROGRAM, GUARD)) == "KILL_AUTOMATIC"
    assert refusal(lambda: confirm(awaiting(), PROGRAM, NOW)) == "KILL_AUTOMATIC"
    assert refusal(lambda: lift(guarded_in_force(), PROGRAM, REASON, GUARD, NOW + SECOND)) == "KILL_AUTOMATIC"
    lifting = lift(guarded_in_force(), ANNA, REASON, GUARD, NOW + SECOND)
    assert refusal(lambda: confirm(lifting, PROGRAM, NOW + SECOND)) == "KILL_AUTOMATIC"


def test_a_program_may_make_a_plain_kill() -> None:
    assert propose(asked(), PROGRAM, GUARD).state(NOW) is KillState.IN_FORCE


def test_a_confirmation_after_the_window_is_too_late() -> None:
    kill = awaiting()
    assert kill.state(NOW + WINDOW) is KillState.LAPSED
    assert refusal(lambda: confirm(kill, BEN, NOW + WINDOW)) == "KILL_LAPSED"


def test_the_lift_of_a_guarded_kill_needs_two_and_leaves_it_in_force_until_then() -> None:
    lifting = lift(guarded_in_force(), BEN, REASON, GUARD, NOW + SECOND)
    assert (lifting.state(NOW + SECOND), lifting.version) == (KillState.AWAITING_LIFT_CONFIRMATION, 1)
    lifted = confirm(lifting, CARA, NOW + 2 * SECOND)
    assert (lifted.state(NOW + 2 * SECOND), lifted.version) == (KillState.LIFTED, 2)
    assert (lifted.lifted_by, lifted.lift_confirmed_by) == ("ben", "cara")


def test_a_lift_that_lapses_leaves_the_kill_in_force_and_can_be_asked_for_again() -> None:
    lifting = lift(guarded_in_force(), BEN, REASON, GUARD, NOW + SECOND)
    late = NOW + SECOND + WINDOW
    assert lifting.state(late) is KillState.IN_FORCE
    assert refusal(lambda: confirm(lifting, CARA, late)) == "KILL_LAPSED"
    again = lift(lifting, ANNA, REASON, GUARD, late)
    assert confirm(again, CARA, late).state(late) is KillState.LIFTED


@pytest.mark.parametrize("reason", ["", "   ", "\n", "x" * 1001])
def test_every_kill_and_every_lift_says_why(reason: str) -> None:
    assert refusal(lambda: propose(asked(reason=reason), ANNA, GUARD)) == "KILL_REASON"
    assert refusal(lambda: lift(propose(asked(), ANNA, GUARD), ANNA, reason, GUARD, NOW)) == "KILL_REASON"


@pytest.mark.parametrize("reason", ["because", "         .", "a       "])
def test_a_guarded_kill_says_why_in_at_least_ten_characters(reason: str) -> None:
    assert refusal(lambda: propose(asked(is_guarded=True, reason=reason), ANNA, GUARD)) == "KILL_REASON"
    assert refusal(lambda: lift(guarded_in_force(), BEN, reason, GUARD, NOW + SECOND)) == "KILL_REASON"


def test_a_kill_expires_by_the_ledgers_time_counted_from_when_it_came_in_force() -> None:
    kill = confirm(propose(asked(is_guarded=True, expires_in_ns=SECOND), ANNA, GUARD), BEN, NOW + 60 * SECOND)
    assert kill.expires_at_ns == NOW + 61 * SECOND
    assert kill.state(NOW + 61 * SECOND - 1) is KillState.IN_FORCE
    assert kill.state(NOW + 61 * SECOND) is KillState.EXPIRED
    assert refusal(lambda: lift(kill, ANNA, REASON, GUARD, NOW + 61 * SECOND)) == "KILL_STATE"


def test_who_repeats_the_last_word_is_answered_as_before() -> None:
    kill = guarded_in_force()
    assert confirm(kill, BEN, NOW + 2 * SECOND) == kill
    lifted = confirm(lift(kill, ANNA, REASON, GUARD, NOW), CARA, NOW)
    assert confirm(lifted, CARA, NOW) == lifted
    assert lift(lifted, ANNA, REASON, GUARD, NOW) == lifted


def test_what_awaits_nobody_cannot_be_confirmed() -> None:
    plain = propose(asked(), ANNA, GUARD)
    assert refusal(lambda: confirm(plain, BEN, NOW)) == "KILL_STATE"
    assert refusal(lambda: confirm(guarded_in_force(), CARA, NOW + SECOND)) == "KILL_STATE"


def test_a_kill_that_is_not_in_force_cannot_be_lifted() -> None:
    assert refusal(lambda: lift(awaiting(), BEN, REASON, GUARD, NOW)) == "KILL_STATE"
    lifting = lift(guarded_in_force(), BEN, REASON, GUARD, NOW + SECOND)
    assert refusal(lambda: lift(lifting, CARA, REASON, GUARD, NOW + SECOND)) == "KILL_STATE"


class GuardedKill(RuleBasedStateMachine):
    """Whatever anybody does in any order, a guarded kill begins and ends by the word of two people."""

    signers = st.sampled_from([ANNA, BEN, CARA, PROGRAM])

    def __init__(self) -> None:
        super().__init__()
        self.now = NOW
        self.kill = awaiting()
        self.asked_ns = NOW

    @rule(seconds=st.sampled_from([1, 60, 599, 600, 601]))
    def wait(self, seconds: int) -> None:
        self.now += seconds * SECOND

    @precondition(lambda self: self.kill.state(self.now) not in OVER)
    @rule(signer=signers)
    def confirm(self, signer: Signer) -> None:
        before = self.kill
        try:
            self.kill = confirm(before, signer, self.now)
        except InvalidRequestError:
            return
        if self.kill != before:
            first = before.lifted_by if before.in_force_at_ns else before.created_by
            assert signer.operator != first
            assert not signer.is_automatic
            assert self.now < self.asked_ns + WINDOW

    @rule(signer=signers)
    def lift(self, signer: Signer) -> None:
        before = self.kill
        try:
            self.kill = lift(before, signer, REASON, GUARD, self.now)
        except InvalidRequestError:
            return
        if self.kill != before:
            self.asked_ns = self.now
            assert self.kill.state(self.now) is KillState.AWAITING_LIFT_CONFIRMATION

    @invariant()
    def two_people_signed(self) -> None:
        kill = self.kill
        if kill.in_force_at_ns:
            assert {kill.created_by, kill.confirmed_by} <= {"anna", "ben", "cara"}
            assert kill.created_by != kill.confirmed_by
        if kill.lifted_at_ns:
            assert {kill.lifted_by, kill.lift_confirmed_by} <= {"anna", "ben", "cara"}
            assert kill.lifted_by != kill.lift_confirmed_by


TestGuardedKill = GuardedKill.TestCase
