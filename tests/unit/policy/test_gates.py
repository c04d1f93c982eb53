"""When the figures of a stage say something, and when they say too little."""

from __future__ import annotations

import random
from bisect import bisect_left
from dataclasses import replace
from typing import Any

import pytest

from authz.policy.gates import EDGES_US, Answers, Fleet, Outcome, Pairs, Tolerances, Window, intolerable, judge, total

HEALTHY = Fleet(expected=3, reported=3)
AGREED = Pairs(compared=2_000)
BINS = len(EDGES_US) + 1


def latency(**calls: int) -> tuple[int, ...]:
    """Evaluations by the number of their bin: `latency(b3=500)`."""
    return tuple(calls.get(f"b{number}", 0) for number in range(BINS))


def window(pairs: Pairs = AGREED, baseline: Any = None, candidate: Any = None) -> Window:
    quick = latency(b3=1_000)
    return Window(
        pairs=pairs,
        baseline=Answers(calls=1_000, latency=baseline or quick),
        candidate=Answers(calls=1_000, latency=candidate or quick),
    )


def outcome(gate: str, judged: Window, fleet: Fleet = HEALTHY, **tolerances: Any) -> Outcome:
    said = judge(judged, fleet, Tolerances(**tolerances), answers=True)
    return next(reading.outcome for reading in said.readings if reading.gate == gate)


def test_a_candidate_that_agrees_passes_every_gate() -> None:
    said = judge(window(), HEALTHY, Tolerances(), answers=True)
    assert said.outcome is Outcome.PASS
    assert {reading.gate for reading in said.readings} == {
        "disagreement",
        "evaluation_errors",
        "deny_rate",
        "approval_rate",
        "latency",
        "golden",
        "health",
    }


def test_nothing_counted_says_nothing() -> None:
    said = judge(Window(), Fleet(), Tolerances(), answers=True)
    assert said.outcome is Outcome.UNDECIDED
    assert {reading.outcome for reading in said.readings} == {Outcome.UNDECIDED}


@pytest.mark.parametrize("flips", [0, 10, 199])
def test_ten_calls_prove_nothing_however_they_end(flips: int) -> None:
    few = window(Pairs(compared=199, would_block=flips, denied=flips))
    for gate in ("disagreement", "evaluation_errors", "deny_rate", "approval_rate"):
        assert outcome(gate, few) is Outcome.UNDECIDED


def test_f11_three_percent_of_flips_are_told_within_four_hundred_calls_on_average() -> None:
    draw = random.Random(3)  # noqa: S311 - no secret
    needed = []
    for _ in range(40):
        flips = seen = 0
        while outcome("disagreement", window(Pairs(compared=seen, would_block=flips))) is not Outcome.BREACH:
            seen += 10
            flips += sum(draw.random() < 0.03 for _ in range(10))
        needed.append(seen)
    assert sum(needed) / len(needed) < 400
    assert max(needed) < 3_000


def test_between_tolerated_and_intolerable_more_calls_are_asked_for() -> None:
    assert outcome("disagreement", window(Pairs(compared=400, would_block=4))) is Outcome.UNDECIDED


@pytest.mark.parametrize("kind", ["would_allow", "would_block", "would_sanitize", "would_need_approval", "would_mend"])
def test_every_kind_of_disagreement_counts(kind: str) -> None:
    assert outcome("disagreement", window(Pairs(compared=1_000, **{kind: 60}))) is Outcome.BREACH


def test_calls_that_the_candidate_fails_to_judge_breach_early() -> None:
    assert outcome("evaluation_errors", window(Pairs(compared=1_000, would_fail=15))) is Outcome.BREACH
    assert outcome("evaluation_errors", window(Pairs(compared=1_000, would_mend=15))) is Outcome.PASS


@pytest.mark.parametrize(
    ("gate", "more", "less"), [("deny_rate", "denied", "undenied"), ("approval_rate", "held", "released")]
)
def test_a_rate_may_move_neither_up_nor_down(gate: str, more: str, less: str) -> None:
    for kind in (more, less):
        assert outcome(gate, window(Pairs(compared=2_000, **{kind: 160}))) is Outcome.BREACH
        assert outcome(gate, window(Pairs(compared=2_000, **{kind: 20}))) is Outcome.PASS
    balanced = Pairs(compared=2_000, **{more: 100, less: 100})
    assert outcome(gate, window(balanced)) is Outcome.PASS
    assert outcome("disagreement", window(replace(balanced, would_block=100, would_allow=100))) is Outcome.BREACH


def test_a_slow_candidate_breaches_and_an_outlier_does_not() -> None:
    base = latency(b10=1_000)
    assert outcome("latency", window(baseline=base, candidate=latency(b20=1_000))) is Outcome.BREACH
    assert outcome("latency", window(baseline=base, candidate=latency(b10=995, b20=5))) is Outcome.PASS
    assert outcome("latency", window(baseline=base, candidate=latency(b10=150, b20=49))) is Outcome.UNDECIDED


def test_below_a_millisecond_no_ratio_counts() -> None:
    assert outcome("latency", window(baseline=latency(b0=1_000), candidate=latency(b10=1_000))) is Outcome.PASS


def test_in_shadow_there_is_no_latency_to_judge() -> None:
    said = judge(window(baseline=latency(b1=1)), HEALTHY, Tolerances(), answers=False)
    assert said.outcome is Outcome.PASS


@pytest.mark.parametrize("fault", ["refused", "tripped", "golden"])
def test_f11_one_sidecar_that_refuses_trips_or_sees_a_new_allow_is_enough(fault: str) -> None:
    fleet = replace(HEALTHY, **{fault: 1})
    assert judge(Window(), fleet, Tolerances(), answers=True).outcome is Outcome.BREACH


def test_a_sidecar_that_has_not_reported_holds_the_promotion_and_takes_nothing_back() -> None:
    for fleet in (replace(HEALTHY, reported=2), Fleet()):
        assert judge(window(), fleet, Tolerances(), answers=True).outcome is Outcome.UNDECIDED


def test_windows_add_up() -> None:
    half = window(Pairs(compared=1_000, would_block=1), candidate=latency(b1=4, b2=5))
    both = total([half, half, Window()])
    assert (both.pairs.compared, both.pairs.flips) == (2_000, 2)
    assert both.candidate.latency == latency(b1=8, b2=10)
    assert total([]) == Window()


def stages(gate: str, rates: dict[str, float], *, number: int, looks: int, ends: set[Outcome]) -> list[Outcome]:
    """How a gate ends stages in which calls differ so often, asked every hundred calls until it says one of `ends`."""
    draw, ended = random.Random(11), []  # noqa: S311 - no secret
    for _ in range(number):
        counts, said = dict.fromkeys(rates, 0), Outcome.UNDECIDED
        for look in range(1, looks + 1):
            for kind, rate in rates.items():
                counts[kind] += sum(draw.random() < rate for _ in range(100))
            said = outcome(gate, window(Pairs(compared=100 * look, **counts)))
            if said in ends:
                break
        ended.append(said)
    return ended


def test_of_stages_that_are_as_good_as_tolerated_none_in_hundreds_is_taken_back() -> None:
    good = Tolerances().flips
    ended = stages("disagreement", {"would_block": good}, number=300, looks=40, ends={Outcome.BREACH})
    assert Outcome.BREACH not in ended  # one in 10,000 would be


def test_of_stages_that_are_intolerable_at_most_about_one_in_a_hundred_goes_on() -> None:
    bad = intolerable(Tolerances().flips)
    ended = stages("disagreement", {"would_block": bad}, number=500, looks=300, ends={Outcome.BREACH, Outcome.PASS})
    assert Outcome.UNDECIDED not in ended
    assert ended.count(Outcome.PASS) <= 10  # where five are to be expected


def test_a_rate_at_its_tolerance_is_taken_back_in_less_than_one_stage_of_eighty_and_one_well_beyond_it_always() -> None:
    tolerated = Tolerances().deny_rate
    ended = stages("deny_rate", {"denied": tolerated}, number=160, looks=60, ends={Outcome.BREACH})
    assert ended.count(Outcome.BREACH) <= 2
    ended = stages("deny_rate", {"denied": 3 * tolerated}, number=60, looks=30, ends={Outcome.BREACH})
    assert {*ended} == {Outcome.BREACH}


def test_equal_latencies_are_never_taken_back_and_ones_three_times_as_long_always_are() -> None:
    draw = random.Random(13)  # noqa: S311 - no secret

    def drawn(slower: float) -> tuple[int, ...]:
        counted = [0] * BINS
        for _ in range(10_000):
            counted[bisect_left(EDGES_US, slower * draw.lognormvariate(7.0, 0.6))] += 1
        return tuple(counted)

    for _ in range(8):
        base = drawn(1.0)
        assert outcome("latency", window(baseline=base, candidate=drawn(1.0))) is not Outcome.BREACH
        assert outcome("latency", window(baseline=base, candidate=drawn(3.0))) is Outcome.BREACH
