"""Whether the figures of a stage let a candidate policy go on, send it back, or say too little.

Decides by statistics, never by a bare percentage, since ten calls prove nothing. Every sampled call is judged by both
revisions, so that most comparisons are paired: whether the agents of a wave behave like the others does not matter.

- `disagreement` and `evaluation_errors`: Wald's sequential probability ratio test ("Sequential Tests of Statistical
  Hypotheses", 1945), which may be looked at after every call. It tells the tolerated share from an intolerable one,
  goes back wrongly once in 10,000 tests (`ALPHA`) and on wrongly once in 100 (`BETA`).
- `deny_rate` and `approval_rate`: the change of the share, with a confidence interval for paired proportions.
- `latency`: the 99th percentiles of what answered in the same stage, with distribution-free intervals of their ranks.
  The intervals are 4.5 standard errors wide each way, so that looking once a second for an hour goes back wrongly in
  about one hour of eighty.
- `golden`, `health`: one input of the baseline's golden set that the candidate does not deny, one sidecar that refused
  the candidate or tripped over it, is enough.

Must never take missing data for good or bad: below the least number of samples, and where a sidecar has not reported,
a gate is undecided; then nothing moves by itself. Pure.
"""

from __future__ import annotations

from dataclasses import fields
from itertools import accumulate
from math import log, sqrt
from typing import TYPE_CHECKING, Final

from authz.model import Word
from authz.value import value

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ALPHA: Final = 1e-4
BETA: Final = 1e-2
DEVIATIONS: Final = 4.5
QUANTILE: Final = 0.99
EDGES_US: Final = tuple(round(16 * 2 ** (half / 2)) for half in range(28))
"""Upper edges of the bins of latency, from 16 us to 185 ms; the last bin has none."""
QUICK_US: Final = 1_000.0
"""A percentile below this is good whatever the baseline's is: it would be noise of the scheduler."""


class Outcome(Word):
    """What one gate says, or all of them together."""

    PASS = "pass"  # noqa: S105 - no password
    BREACH = "breach"
    UNDECIDED = "undecided"
    UNJUDGED = "unjudged"
    """It has nothing to judge in this stage."""


@value
class Tolerances:
    """What a candidate may change. Shares are from 0 to 1, of the calls that both revisions judged."""

    samples: int = 200
    """Least number of calls before a gate says anything."""
    flips: float = 0.005
    """Calls on which the two may disagree."""
    errors: float = 0.001
    """Calls that the candidate may fail to judge, and the baseline does not."""
    deny_rate: float = 0.02
    approval_rate: float = 0.02
    """How far the share of refused calls, and of calls that need approval, may move either way."""
    latency_ratio: float = 1.5
    """The candidate's 99th percentile over the baseline's."""


@value
class Answers:
    """What one revision answered."""

    calls: int = 0
    errors: int = 0
    denied: int = 0
    approvals: int = 0
    latency: tuple[int, ...] = (0,) * (len(EDGES_US) + 1)
    """Evaluations by `EDGES_US`."""


@value
class Pairs:
    """What both revisions judged. `would_…` is the candidate's word where the baseline's is another."""

    compared: int = 0
    shed: int = 0
    """Sampled, and not compared for want of time."""
    would_allow: int = 0
    would_block: int = 0
    would_sanitize: int = 0
    would_need_approval: int = 0
    would_fail: int = 0
    """The candidate failed to judge it."""
    would_mend: int = 0
    """The baseline failed to judge it."""
    denied: int = 0
    undenied: int = 0
    """By the candidate alone; by the baseline alone."""
    held: int = 0
    released: int = 0
    """For approval, by the candidate alone; by the baseline alone."""

    @property
    def flips(self) -> int:
        """On how many the two disagree."""
        told = (self.would_allow, self.would_block, self.would_sanitize, self.would_need_approval)
        return sum(told) + self.would_fail + self.would_mend


@value
class Window:
    """All that was counted in some span of one stage."""

    baseline: Answers = Answers()
    candidate: Answers = Answers()
    pairs: Pairs = Pairs()


@value
class Fleet:
    """How the sidecars that follow the scope fare with the candidate."""

    expected: int = 0
    reported: int = 0
    """Those of them that lately said that both revisions are ready."""
    refused: int = 0
    tripped: int = 0
    golden: int = 0
    """Those on which the candidate does not deny an input of the baseline's golden set."""


@value
class Reading:
    """One gate's word, and the figures that it rests on."""

    gate: str
    outcome: Outcome
    figures: Mapping[str, float]


@value
class Judgement:
    """Every gate's reading, and what follows from them."""

    outcome: Outcome
    readings: tuple[Reading, ...]


def total(windows: Sequence[Window]) -> Window:
    """Windows counted together."""
    return Window(
        baseline=_answers([each.baseline for each in windows]),
        candidate=_answers([each.candidate for each in windows]),
        pairs=Pairs(**{each.name: sum(getattr(w.pairs, each.name) for w in windows) for each in fields(Pairs)}),
    )


def judge(window: Window, fleet: Fleet, tolerances: Tolerances, *, answers: bool) -> Judgement:
    """What the figures say.

    Args:
        window: of one stage.
        fleet: its sidecars.
        tolerances: of the rollout's plan.
        answers: the candidate answers calls in this stage, so that there is a latency of its own.
    """
    pairs = window.pairs
    readings = (
        _shares("disagreement", pairs.flips, pairs.compared, tolerances.flips, tolerances.samples),
        _shares("evaluation_errors", pairs.would_fail, pairs.compared, tolerances.errors, tolerances.samples),
        _change("deny_rate", pairs.denied, pairs.undenied, pairs.compared, tolerances.deny_rate, tolerances.samples),
        _change(
            "approval_rate", pairs.held, pairs.released, pairs.compared, tolerances.approval_rate, tolerances.samples
        ),
        _latency(window, tolerances) if answers else Reading(gate="latency", outcome=Outcome.UNJUDGED, figures={}),
        _golden(fleet),
        _health(fleet),
    )
    said = {reading.outcome for reading in readings}
    outcome = next((each for each in (Outcome.BREACH, Outcome.UNDECIDED) if each in said), Outcome.PASS)
    return Judgement(outcome=outcome, readings=readings)


def _answers(parts: Sequence[Answers]) -> Answers:
    counted = {name: sum(getattr(part, name) for part in parts) for name in ("calls", "errors", "denied", "approvals")}
    bins = [sum(column) for column in zip(*(part.latency for part in parts), strict=True)]
    return Answers(**counted, latency=tuple(bins) or Answers().latency)


def intolerable(tolerated: float) -> float:
    """The share that is told from a tolerated one: between the two, more calls are needed, or a person."""
    return min(0.999, 2 * tolerated + 0.01)


def _shares(gate: str, found: int, among: int, tolerated: float, samples: int) -> Reading:
    """Wald's test of `found` among `among`."""
    good, bad = max(tolerated, 1e-6), intolerable(tolerated)
    ratio = found * log(bad / good) + (among - found) * log((1 - bad) / (1 - good))
    outcome = Outcome.UNDECIDED
    if among >= samples and ratio >= log((1 - BETA) / ALPHA):
        outcome = Outcome.BREACH
    elif among >= samples and ratio <= log(BETA / (1 - ALPHA)):
        outcome = Outcome.PASS
    figures = {"found": found, "samples": among, "tolerated": tolerated, "log_likelihood_ratio": round(ratio, 3)}
    return Reading(gate=gate, outcome=outcome, figures=figures)


def _change(gate: str, more: int, less: int, among: int, tolerated: float, samples: int) -> Reading:
    """The interval of a paired difference: its width comes from the calls on which the two differ."""
    change = (more - less) / among if among else 0.0
    # One more each way, so that calls which all agree still leave room for one that does not (Agresti and Min, 2005).
    spread = sqrt(more + less + 2 - (more - less) ** 2 / among) / among if among else 1.0
    low, high = change - DEVIATIONS * spread, change + DEVIATIONS * spread
    outcome = Outcome.UNDECIDED
    if among >= samples and (low > tolerated or high < -tolerated):
        outcome = Outcome.BREACH
    elif among >= samples and abs(change) <= tolerated:
        outcome = Outcome.PASS
    figures = {"change": round(change, 6), "low": round(low, 6), "high": round(high, 6), "samples": among}
    return Reading(gate=gate, outcome=outcome, figures=figures | {"tolerated": tolerated})


def _latency(window: Window, tolerances: Tolerances) -> Reading:
    counts = [sum(part.latency) for part in (window.baseline, window.candidate)]
    base, found = (_percentile(part.latency) for part in (window.baseline, window.candidate))
    outcome = Outcome.UNDECIDED
    if min(counts) >= tolerances.samples:
        if found.low > max(QUICK_US, base.high * tolerances.latency_ratio):
            outcome = Outcome.BREACH
        elif found.middle <= max(QUICK_US, base.middle * tolerances.latency_ratio):
            outcome = Outcome.PASS
    figures = {"baseline_us": base.middle, "candidate_us": found.middle, "samples": min(counts)}
    return Reading(gate="latency", outcome=outcome, figures=figures | {"ratio": tolerances.latency_ratio})


@value
class _Interval:
    low: float
    middle: float
    high: float


def _percentile(bins: Sequence[int]) -> _Interval:
    """The 99th percentile and the interval of its rank, as edges of bins, in microseconds."""
    among = sum(bins)
    rank, width = among * QUANTILE, DEVIATIONS * sqrt(among * QUANTILE * (1 - QUANTILE))
    low, middle, high = (_edge(bins, each) for each in (rank - width, rank, rank + width))
    return _Interval(low=_lower(low), middle=_upper(middle), high=_upper(high))


def _edge(bins: Sequence[int], rank: float) -> int:
    """The bin that the observation of this rank lies in."""
    wanted = min(max(rank, 1.0), float(sum(bins)))
    return next((number for number, below in enumerate(accumulate(bins)) if below >= wanted), 0)


def _lower(number: int) -> float:
    return float(EDGES_US[number - 1]) if number else 0.0


def _upper(number: int) -> float:
    return float(EDGES_US[number]) if number < len(EDGES_US) else float("inf")


def _golden(fleet: Fleet) -> Reading:
    outcome = Outcome.BREACH if fleet.golden else Outcome.PASS if fleet.reported else Outcome.UNDECIDED
    return Reading(gate="golden", outcome=outcome, figures={"sidecars": fleet.golden})


def _health(fleet: Fleet) -> Reading:
    outcome = Outcome.UNDECIDED
    if fleet.refused or fleet.tripped:
        outcome = Outcome.BREACH
    elif fleet.reported >= max(1, fleet.expected):
        outcome = Outcome.PASS
    figures = {each.name: float(getattr(fleet, each.name)) for each in fields(Fleet) if each.name != "golden"}
    return Reading(gate="health", outcome=outcome, figures=figures)
