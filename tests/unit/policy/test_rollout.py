"""What moves a rollout, and what must not."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from authz.errors import InvalidRequestError
from authz.policy import rollout
from authz.policy.gates import Judgement, Outcome, Reading, Tolerances
from authz.policy.rollout import GATES, Action, Actor, Past
from authz.policy.rollout_plan import Plan, Rollout, State

if TYPE_CHECKING:
    from collections.abc import Callable

ANNA, BEN = Actor(name="anna"), Actor(name="ben")
CI = Actor(name="ci", is_automatic=True)
NOW = 1_800_000_000_000_000_000
HOUR = 3_600_000_000_000
LATER = NOW + HOUR
BREACH = Judgement(
    outcome=Outcome.BREACH, readings=(Reading(gate="disagreement", outcome=Outcome.BREACH, figures={"found": 9}),)
)
PASS = Judgement(outcome=Outcome.PASS, readings=(Reading(gate="health", outcome=Outcome.PASS, figures={}),))
UNDECIDED = Judgement(outcome=Outcome.UNDECIDED, readings=())


def drafted(**plan: Any) -> Rollout:
    asked = Rollout(
        id="rollout-1",
        scope="acme",
        baseline="a" * 64,
        candidate="b" * 64,
        salt="salt",
        plan=Plan(**plan),
        created_by="anna",
        created_ns=NOW,
    )
    return rollout.draft(asked, ANNA, (), reason="a new limit").after


def in_stage(state: State, wave: int = 0, **plan: Any) -> Rollout:
    return replace(drafted(**plan), state=state, wave=wave, since_ns=NOW)


def test_it_goes_from_draft_through_shadow_and_every_wave_to_enforced() -> None:
    moving, stages = drafted(waves=(0.1, 0.5)), []
    while (moved := rollout.advance(moving, PASS, LATER + moving.version * HOUR)) is not None:
        moving = moved.after
        stages.append((moving.stage, moving.share, moved.by))
    assert stages == [
        ("shadow", 0.0, GATES),
        ("canary-1", 0.1, GATES),
        ("canary-2", 0.5, GATES),
        ("enforced", 1.0, GATES),
    ]
    assert moving.serving == moving.candidate


@pytest.mark.parametrize("judgement", [None, UNDECIDED])
@pytest.mark.parametrize("state", [State.SHADOW, State.CANARY])
def test_missing_figures_neither_promote_nor_roll_back(judgement: Judgement | None, state: State) -> None:
    assert rollout.advance(in_stage(state, 1), judgement, LATER) is None


def test_f11_a_breach_takes_back_what_it_judged_with_its_evidence() -> None:
    for state in (State.SHADOW, State.CANARY, State.ENFORCED):
        moved = rollout.advance(in_stage(state, 1), BREACH, NOW + 1)
        assert moved is not None
        assert (moved.after.state, moved.action, moved.by) == (State.ROLLED_BACK, Action.ROLL_BACK, GATES)
        assert moved.evidence == BREACH.readings
        assert moved.after.serving == moved.after.baseline


def test_a_young_stage_is_not_promoted() -> None:
    assert rollout.advance(in_stage(State.SHADOW, stage_s=10), PASS, NOW + 9_999_999_999) is None
    assert rollout.advance(in_stage(State.SHADOW, stage_s=10), PASS, NOW + 10_000_000_000) is not None


def test_a_plan_without_gates_that_promote_still_rolls_back() -> None:
    moving = in_stage(State.CANARY, 1, is_automatic=False)
    assert rollout.advance(moving, PASS, LATER) is None
    assert rollout.advance(moving, BREACH, LATER) is not None


def test_what_a_person_paused_the_machine_does_not_promote_and_still_takes_back() -> None:
    paused = rollout.pause(in_stage(State.CANARY, 1), ANNA, NOW, reason="lunch")
    assert paused is not None
    assert rollout.advance(paused.after, PASS, LATER) is None
    assert rollout.advance(paused.after, BREACH, LATER) is not None
    with pytest.raises(InvalidRequestError, match="ROLLOUT_HELD"):
        rollout.resume(paused.after, CI, LATER)
    resumed = rollout.resume(paused.after, BEN, LATER)
    assert resumed is not None
    assert rollout.advance(resumed.after, PASS, LATER) is not None


def test_a_draft_that_a_person_paused_does_not_start() -> None:
    paused = rollout.pause(drafted(), ANNA, NOW, reason="not yet")
    assert paused is not None
    assert rollout.advance(paused.after, None, LATER) is None


def test_a_stopped_wave_returns_to_the_one_before_and_is_held_there() -> None:
    second = rollout.stop_wave(in_stage(State.CANARY, 2), ANNA, NOW, reason="odd tickets").after
    assert (second.stage, second.is_paused) == ("canary-1", True)
    first = rollout.stop_wave(replace(second, is_paused=False), ANNA, NOW, reason="odd tickets").after
    assert (first.stage, first.is_paused) == ("shadow", True)
    assert rollout.advance(first, PASS, LATER) is None


def test_a_person_who_overrules_the_gates_is_not_undone() -> None:
    moved = rollout.promote(in_stage(State.CANARY, 2), ANNA, NOW, overrules=True).after
    assert rollout.advance(moved, BREACH, LATER) is None
    with pytest.raises(InvalidRequestError, match="ROLLOUT_HELD"):
        rollout.roll_back(moved, GATES, LATER, reason="breached")
    assert rollout.roll_back(moved, BEN, LATER, reason="it hurts") is not None


def test_promoting_by_hand_alone_does_not_overrule_the_gates() -> None:
    moved = rollout.promote(in_stage(State.SHADOW), ANNA, NOW).after
    assert rollout.advance(moved, BREACH, NOW + 1) is not None


@pytest.mark.parametrize("by", [GATES, CI])
def test_no_program_overrules_pins_or_resumes(by: Actor) -> None:
    moving = in_stage(State.SHADOW)
    refusals: list[Callable[[], object]] = [
        lambda: rollout.promote(moving, by, LATER, overrules=True),
        lambda: rollout.pin(moving, by, reason="because"),
        lambda: rollout.resume(moving, by, LATER),
        lambda: rollout.draft(moving, by, (), reason="because", overrules=True),
    ]
    for refused in refusals:
        with pytest.raises(InvalidRequestError, match="ROLLOUT_HELD"):
            refused()


def test_four_eyes_enforce_by_another_person_alone() -> None:
    last = in_stage(State.CANARY, 2, four_eyes=True)
    for by in (ANNA, CI):
        with pytest.raises(InvalidRequestError, match="ROLLOUT_SECOND_PERSON"):
            rollout.promote(last, by, LATER)
    assert rollout.advance(last, PASS, LATER) is None
    assert rollout.promote(last, BEN, LATER).after.state is State.ENFORCED
    assert rollout.promote(in_stage(State.CANARY, 1, four_eyes=True), ANNA, LATER).after.wave == 2


def test_nothing_goes_forward_before_its_time_or_in_a_freeze() -> None:
    for plan in ({"not_before_ns": LATER}, {"freezes": ((NOW, LATER),)}):
        waiting = drafted(**plan)
        assert rollout.advance(waiting, None, LATER - 1) is None
        with pytest.raises(InvalidRequestError, match="ROLLOUT_FROZEN"):
            rollout.start(waiting, ANNA, LATER - 1)
        assert rollout.advance(waiting, None, LATER) is not None
    frozen = in_stage(State.CANARY, 1, freezes=((NOW, LATER),))
    with pytest.raises(InvalidRequestError, match="ROLLOUT_FROZEN"):
        rollout.promote(frozen, ANNA, NOW)
    assert rollout.advance(frozen, PASS, LATER - 1) is None


def test_no_freeze_holds_up_going_back() -> None:
    frozen = in_stage(State.CANARY, 1, freezes=((NOW, LATER),))
    assert rollout.advance(frozen, BREACH, NOW) is not None
    assert rollout.roll_back(frozen, ANNA, NOW, reason="now") is not None
    assert rollout.abort(frozen, ANNA, NOW, reason="now") is not None


def test_f12_a_candidate_that_its_gates_took_back_does_not_return_by_itself() -> None:
    past = Past(candidate="b" * 64, state=State.ROLLED_BACK, is_automatic=True, ended_ns=NOW - 5 * HOUR)
    with pytest.raises(InvalidRequestError, match="ROLLOUT_QUARANTINED"):
        rollout.draft(drafted(), ANNA, [past], reason="again")
    assert rollout.draft(drafted(), ANNA, [past], reason="again", overrules=True).after.state is State.DRAFT
    by_a_person = replace(past, is_automatic=False)
    assert rollout.draft(drafted(), ANNA, [by_a_person], reason="again").after.state is State.DRAFT


def test_flapping_is_limited() -> None:
    past = [
        Past(candidate=name * 64, state=State.ROLLED_BACK, is_automatic=True, ended_ns=NOW - HOUR + 1) for name in "cde"
    ]
    with pytest.raises(InvalidRequestError, match="ROLLOUT_FLAPPING"):
        rollout.draft(drafted(), ANNA, past, reason="one more")
    assert rollout.draft(drafted(), ANNA, past[1:], reason="one more").after.state is State.DRAFT


def test_what_is_done_already_is_no_second_step() -> None:
    ended = rollout.roll_back(in_stage(State.ENFORCED), ANNA, NOW, reason="hurts")
    assert ended is not None
    assert rollout.roll_back(ended.after, BEN, NOW, reason="hurts") is None
    paused = rollout.pause(in_stage(State.SHADOW), ANNA, NOW, reason="wait")
    assert paused is not None
    assert rollout.pause(paused.after, BEN, NOW, reason="wait") is None
    aborted = rollout.abort(in_stage(State.SHADOW), ANNA, NOW, reason="no")
    assert aborted is not None
    assert rollout.abort(aborted.after, BEN, NOW, reason="no") is None


@pytest.mark.parametrize("state", [State.ENFORCED, State.ROLLED_BACK, State.ABORTED])
def test_nothing_that_ended_goes_on(state: State) -> None:
    ended = in_stage(state)
    refusals: list[Callable[[], object]] = [
        lambda: rollout.start(ended, ANNA, LATER),
        lambda: rollout.promote(ended, ANNA, LATER),
        lambda: rollout.pause(ended, ANNA, LATER, reason="x"),
        lambda: rollout.stop_wave(ended, ANNA, LATER, reason="x"),
    ]
    for refused in refusals:
        with pytest.raises(InvalidRequestError, match="ROLLOUT_STATE"):
            refused()
    assert rollout.advance(ended, PASS, LATER) is None


def test_a_pin_answers_everybody_and_the_machine_keeps_off() -> None:
    pinned = rollout.pin(drafted(), ANNA, reason="the one of last week").after
    assert (pinned.stage, pinned.share, pinned.serving) == ("rolled_back", 0.0, pinned.baseline)
    assert rollout.advance(pinned, BREACH, LATER) is None


@pytest.mark.parametrize(
    "plan",
    [
        {"waves": (0.5, 0.5)},
        {"waves": (0.5, 0.2)},
        {"waves": (0.0,)},
        {"waves": (1.1,)},
        {"waves": (float("nan"),)},
        {"waves": (), "has_shadow": False},
        {"waves": tuple(n / 100 for n in range(1, 18))},
        {"freezes": ((5, 5),)},
        {"stage_s": -1.0},
        {"not_before_ns": -1},
        {"tolerances": Tolerances(flips=1.0)},
        {"tolerances": Tolerances(samples=0)},
        {"tolerances": Tolerances(latency_ratio=0.5)},
        {"tolerances": Tolerances(errors=float("nan"))},
    ],
)
def test_a_plan_that_makes_no_sense_cannot_be_made(plan: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequestError, match="ROLLOUT_PLAN"):
        Plan(**plan)


def test_a_candidate_that_is_the_baseline_is_no_rollout() -> None:
    with pytest.raises(InvalidRequestError, match="ROLLOUT_PLAN"):
        rollout.draft(replace(drafted(), candidate="a" * 64), ANNA, (), reason="same")


@pytest.mark.parametrize("reason", ["", "  ", "x" * 1001])
def test_what_stops_or_begins_has_a_reason_in_words(reason: str) -> None:
    refusals: list[Callable[[], object]] = [
        lambda: rollout.draft(drafted(), ANNA, (), reason=reason),
        lambda: rollout.roll_back(in_stage(State.CANARY, 1), ANNA, NOW, reason=reason),
        lambda: rollout.abort(in_stage(State.CANARY, 1), ANNA, NOW, reason=reason),
    ]
    for refused in refusals:
        with pytest.raises(InvalidRequestError, match="ROLLOUT_REASON"):
            refused()


def stricter(by: Actor = ANNA, **plan: Any) -> Rollout:
    evidence = (Reading(gate="replay", outcome=Outcome.PASS, figures={"calls": 9}),)
    begun = rollout.activate(drafted(**plan), by, reason="an exfiltration", evidence=evidence)
    assert (begun.action, begun.evidence) == (Action.ACTIVATE, evidence)
    return begun.after


@pytest.mark.parametrize("by", [ANNA, CI])
def test_a_stricter_one_reaches_everybody_at_once_and_leaves_the_baseline_serving(by: Actor) -> None:
    begun = stricter(by, four_eyes=True, waves=(0.1,))
    assert (begun.stage, begun.share, begun.serving) == ("stricter", 1.0, begun.baseline)


@pytest.mark.parametrize("judgement", [BREACH, PASS, UNDECIDED, None])
def test_the_machine_neither_ends_nor_promotes_a_stricter_one(judgement: Judgement | None) -> None:
    assert rollout.advance(stricter(), judgement, LATER) is None
    with pytest.raises(InvalidRequestError):
        rollout.roll_back(stricter(), GATES, LATER, reason="breached")


def test_a_person_ends_a_stricter_one_or_promotes_it_by_the_rules_of_enforcing() -> None:
    back = rollout.roll_back(stricter(), BEN, LATER, reason="contained")
    assert back is not None
    assert (back.after.state, back.after.serving) == (State.ROLLED_BACK, "a" * 64)
    assert rollout.promote(stricter(waves=(0.1, 0.2)), ANNA, LATER).after.state is State.ENFORCED
    with pytest.raises(InvalidRequestError) as refused:
        rollout.promote(stricter(four_eyes=True), ANNA, LATER)
    assert refused.value.reason.code == "ROLLOUT_SECOND_PERSON"


@pytest.mark.parametrize("what", ["start", "pause", "resume", "stop_wave", "abort"])
def test_a_stricter_one_has_no_stages_to_be_held_in_or_dropped_from(what: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        getattr(rollout, what)(stricter(), ANNA, LATER, reason="why")
    assert refused.value.reason.code == "ROLLOUT_STATE"


def test_what_answers_already_is_not_activated_and_nothing_is_without_a_reason() -> None:
    same = replace(drafted(), candidate="a" * 64)
    for asked, reason, code in ((same, "why", "ROLLOUT_PLAN"), (drafted(), " ", "ROLLOUT_REASON")):
        with pytest.raises(InvalidRequestError) as refused:
            rollout.activate(asked, ANNA, reason=reason, evidence=())
        assert refused.value.reason.code == code
