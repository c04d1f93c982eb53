"""Rollouts moved by anybody in any order, and agents dealt to cohorts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from authz.errors import InvalidRequestError
from authz.policy import rollout
from authz.policy.cohort import Cohort, cohort, place
from authz.policy.gates import Judgement, Outcome
from authz.policy.rollout import GATES, Actor
from authz.policy.rollout_plan import REVERSIBLE, STAGED, Plan, Rollout, State

if TYPE_CHECKING:
    from authz.policy.rollout import Transition

PERSONS = st.sampled_from([Actor(name="anna"), Actor(name="ben")])
JUDGEMENTS = st.none() | st.builds(
    Judgement, outcome=st.sampled_from([Outcome.PASS, Outcome.BREACH, Outcome.UNDECIDED]), readings=st.just(())
)
PLANS = st.builds(
    Plan,
    waves=st.sampled_from([(), (0.2,), (0.1, 0.5, 1.0)]),
    four_eyes=st.booleans(),
    is_automatic=st.booleans(),
    stage_s=st.sampled_from([0.0, 60.0]),
    freezes=st.sampled_from([(), ((200 * 10**9, 400 * 10**9),)]),
)
TEXT = st.text(max_size=12)


class RolloutMachine(RuleBasedStateMachine):
    """Persons and the machine take whatever steps they can; the rules hold whatever the order."""

    @initialize(plan=PLANS, is_stricter=st.booleans())
    def begin(self, plan: Plan, is_stricter: bool) -> None:  # noqa: FBT001 - as drawn
        self.now_ns = 1
        asked = Rollout(
            id="r",
            scope="acme",
            baseline="a",
            candidate="b",
            salt="s",
            plan=plan,
            created_by="anna",
            created_ns=self.now_ns,
        )
        anna = Actor(name="anna")
        begun = rollout.activate(asked, anna, reason="why", evidence=()) if is_stricter else None
        self.steps = [begun or rollout.draft(asked, anna, (), reason="why")]

    @property
    def now(self) -> Rollout:
        return self.steps[-1].after

    def take(self, moved: Transition | None) -> None:
        if moved is not None:
            self.steps.append(moved)

    @rule(seconds=st.integers(0, 300))
    def time_passes(self, seconds: int) -> None:
        self.now_ns += seconds * 10**9

    @rule(judgement=JUDGEMENTS)
    def the_machine_looks(self, judgement: Judgement | None) -> None:
        before, moved = self.now, rollout.advance(self.now, judgement, self.now_ns)
        if moved is None:
            return
        went_back = moved.after.state is State.ROLLED_BACK
        assert moved.by == GATES
        assert before.state in STAGED | {State.ENFORCED}
        if went_back:
            assert judgement is not None
            assert judgement.outcome is Outcome.BREACH
            assert not before.is_overruled
        else:
            assert not before.is_paused
            assert not before.plan.is_frozen(self.now_ns)
            assert before.state is State.DRAFT or (judgement is not None and judgement.outcome is Outcome.PASS)
            assert not (moved.after.state is State.ENFORCED and before.plan.four_eyes)
        self.take(moved)

    @rule(by=PERSONS, what=st.sampled_from(["start", "promote", "pause", "resume", "stop_wave", "abort", "roll_back"]))
    def a_person_acts(self, by: Actor, what: str) -> None:
        try:
            self.take(getattr(rollout, what)(self.now, by, self.now_ns, reason="why"))
        except InvalidRequestError:
            return

    @rule(by=PERSONS)
    def a_person_overrules(self, by: Actor) -> None:
        try:
            self.take(rollout.promote(self.now, by, self.now_ns, overrules=True))
        except InvalidRequestError:
            return

    @precondition(lambda self: self.now.state in REVERSIBLE)
    @rule(by=PERSONS)
    def going_back_is_always_possible(self, by: Actor) -> None:
        moved = rollout.roll_back(self.now, by, self.now_ns, reason="why")
        assert moved is not None
        assert moved.after.serving == "a"

    @invariant()
    def each_step_is_one_version_and_an_end_is_final(self) -> None:
        for earlier, later in zip(self.steps, self.steps[1:], strict=False):
            assert later.before == earlier.after
            assert later.after.version == earlier.after.version + 1
            assert earlier.after.state not in {State.ROLLED_BACK, State.ABORTED}
            assert later.after.plan == earlier.after.plan

    @invariant()
    def a_share_is_answered_only_in_its_stage(self) -> None:
        assert 0 <= self.now.share <= 1
        if self.now.state not in {State.CANARY, State.STRICTER, State.ENFORCED}:
            assert self.now.share == 0


TestRollout = RolloutMachine.TestCase


@given(salt=TEXT, tenant=TEXT, agent=TEXT, small=st.floats(0, 1), large=st.floats(0, 1))
def test_whoever_is_in_a_wave_is_in_every_larger_one(
    salt: str, tenant: str, agent: str, small: float, large: float
) -> None:
    small, large = sorted((small, large))
    if cohort(salt, small, tenant, agent) is Cohort.CANDIDATE:
        assert cohort(salt, large, tenant, agent) is Cohort.CANDIDATE
    assert cohort(salt, 0.0, tenant, agent) is Cohort.BASELINE
    assert cohort(salt, 1.0, tenant, agent) is Cohort.CANDIDATE


@pytest.mark.parametrize("share", [0.01, 0.2, 0.5])
def test_a_share_is_a_share_of_the_agents_whatever_the_salt(share: float) -> None:
    for salt in ("one", "another"):
        inside = sum(place(salt, "acme", f"agent-{number}") < share for number in range(20_000))
        assert abs(inside / 20_000 - share) < 0.015


def test_each_salt_deals_the_places_anew_and_no_two_names_run_together() -> None:
    names = [("ab", "c"), ("a", "bc"), ("", "abc"), ("abc", "")]
    assert len({place("salt", *name) for name in names}) == len(names)
    first = {n for n in range(1_000) if place("one", "acme", str(n)) < 0.2}
    second = {n for n in range(1_000) if place("two", "acme", str(n)) < 0.2}
    assert len(first & second) < 100


def test_a_place_is_the_same_on_every_machine_and_for_ever() -> None:
    assert place("salt", "acme", "billing") == 0.5767504310959001
