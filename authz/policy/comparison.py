"""What both revisions of a rollout say of the same calls, and the wire that trips over a candidate that fails.

Decides, off the path of a decision, on which calls the two disagree: every sampled call is judged again by the revision
that did not answer it. On the path it only counts, and puts what was sampled into a queue with a bound; when that is
full the call is left out and counted as shed, so that comparing never delays an answer, let alone changes one. Where
calls crowd, comparing gives way: all but a trickle is shed before an answer waits. The trip wire is the one thing that
acts: a candidate that fails to judge calls, as its baseline does not, is taken out of service here at once, without
asking anybody.

Must never keep arguments or results: an example names its decision, whose record is masked.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from authz.errors import DenialError
from authz.model import Effect, Kind, Mode, Phase
from authz.policy.cohort import Cohort
from authz.policy.cohorts import BOTH
from authz.policy.tally import ERROR, Tally
from authz.reasons import POLICY_ERROR, POLICY_TENANT_FAILED, POLICY_TIMEOUT, POLICY_TYPE, POLICY_UNDEFINED

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from authz.clock import Clock
    from authz.model import Decision, Verdict
    from authz.policy.activation import ActivePolicy
    from authz.policy.cohorts import CohortPolicies, Enacted
    from authz.policy.findings import Findings

log: Final = logging.getLogger(__name__)
WINDOW_NS: Final = 60 * 10**9
WAITING: Final = 512
"""Calls that wait to be judged again; more are shed."""
GATHER_S: Final = 0.005
"""What comes meanwhile is compared together: a thread that woke for each call would contend with those who answer."""
GIVE_WAY_S: Final = 0.001
GIVE_WAY_TIMES: Final = 20
"""A comparison waits so often for calls that crowd, then is made all the same: what is known stays a sample of all."""
WIRE_NS: Final = 2 * 10**9
"""The trip wire looks so far back."""
WIRE_ERRORS: Final = 5
WIRE_SHARE: Final = 0.1
FAILURES: Final = frozenset(
    reason.code for reason in (POLICY_ERROR, POLICY_TIMEOUT, POLICY_TYPE, POLICY_UNDEFINED, POLICY_TENANT_FAILED)
)
"""Reasons of a denial that is the policy's failure to judge."""


class Wire:
    """Counts failures of the two cohorts within `WIRE_NS`. Not thread-safe."""

    def __init__(self) -> None:
        self._seen: dict[Cohort, deque[tuple[int, bool]]] = {each: deque(maxlen=4096) for each in Cohort}
        self._run = 0

    def add(self, mine: Cohort, now_ns: int, *, failed: bool) -> bool:
        """Count one answer; whether the candidate must go.

        It must after so many failures in a row however far apart, and where they are a share of what it answered
        lately that is more than twice the baseline's.
        """
        self._seen[mine].append((now_ns, failed))
        if mine is Cohort.CANDIDATE:
            self._run = self._run + 1 if failed else 0
        if mine is not Cohort.CANDIDATE or not failed:
            return False
        failures, share = self._lately(Cohort.CANDIDATE, now_ns)
        _, usual = self._lately(Cohort.BASELINE, now_ns)
        if share <= 2 * usual:
            return False  # whatever is wrong, the baseline suffers from it too
        return self._run >= WIRE_ERRORS or (failures >= WIRE_ERRORS and share >= WIRE_SHARE)

    def _lately(self, mine: Cohort, now_ns: int) -> tuple[int, float]:
        seen = self._seen[mine]
        while seen and now_ns - seen[0][0] > WIRE_NS:
            seen.popleft()
        failures = sum(failed for _, failed in seen)
        return failures, failures / len(seen) if seen else 0.0


@dataclass(slots=True)
class _Stage:
    """What is counted of one stage of one scope."""

    rollout: str
    since_ns: int
    windows: dict[int, Tally]
    wire: Wire


@dataclass(frozen=True, slots=True)
class _Sampled:
    """A call that is to be judged by the revision that did not answer it."""

    decision: Decision
    answered: ActivePolicy
    other: ActivePolicy
    tally: Tally


class Comparison:
    """Counts and compares. `observe` is safe on any thread; `start`, then `stop`; both once.

    Args:
        policies: what is enacted.
        clock: tells windows apart.
        evaluation_s: what the other revision may take for a call.
        share: of the calls that are compared.
        tripped: called once a candidate was taken out of service.
        is_crowded: whether calls wait for each other just now.
    """

    def __init__(
        self,
        policies: CohortPolicies,
        clock: Clock,
        *,
        evaluation_s: float,
        share: float,
        tripped: Callable[[], None],
        is_crowded: Callable[[], bool] = lambda: False,
    ) -> None:
        self._policies = policies
        self._clock = clock
        self._evaluation_s = evaluation_s
        self._share = share
        self._tripped = tripped
        self._is_crowded = is_crowded
        self._lock = threading.Lock()
        self._stages: dict[str, _Stage] = {}
        self._credit = 0.0
        self._waiting: queue.SimpleQueue[_Sampled | None] = queue.SimpleQueue()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="rollout-comparison", daemon=True)
        self.agreed = self.disagreed = self.shed = 0

    def start(self) -> None:
        """Begin to compare."""
        self._thread.start()

    def stop(self) -> None:
        """End; what waits is left out."""
        self._over.set()
        self._waiting.put(None)
        self._thread.join()

    def observe(self, decision: Decision) -> None:
        """Count a decision that a rollout had a part in. Never waits."""
        mine = decision.revision.cohort
        if not mine or decision.phase is not Phase.CALL or decision.call is None or decision.call.kind is not Kind.CALL:
            return
        enacted = self._policies.of(decision.principal)
        if enacted is None or enacted.directive.rollout != decision.revision.rollout or not decision.input_json:
            return  # it moved on since
        failed = decision.verdict is None and decision.reason in FAILURES
        with self._lock:
            stage = self._stage(enacted)
            number = self._clock.unix_ns() // WINDOW_NS
            tally = stage.windows.setdefault(number, Tally())
            tally.answered(mine, decision, failed=failed)
            trips = stage.wire.add(Cohort(mine), self._clock.monotonic_ns(), failed=failed)
            self._credit += self._share
            if is_sampled := self._credit >= 1:
                self._credit -= 1
        if trips and self._policies.trip(enacted.directive.scope, enacted.directive.rollout, decision.reason):
            log.error(
                "the candidate of rollout %s fails to judge calls; the baseline answers", decision.revision.rollout
            )
            self._tripped()
        if is_sampled and enacted.directive.compares and (decision.verdict is not None or failed):
            self._sample(decision, tally)

    def findings(self, scope: str) -> list[tuple[int, int, Findings]]:
        """What was counted of a scope's present stage: when the stage began, the window's number, what was found.

        Windows that are over and were given out once are forgotten.
        """
        with self._lock:
            stage = self._stages.get(scope)
            if stage is None:
                return []
            found = [(stage.since_ns, number, tally.findings()) for number, tally in sorted(stage.windows.items())]
            for number in sorted(stage.windows)[:-2]:
                del stage.windows[number]
        return found

    def _stage(self, enacted: Enacted) -> _Stage:
        told = enacted.directive
        stage = self._stages.get(told.scope)
        if stage is None or (stage.rollout, stage.since_ns) != (told.rollout, told.since_ns):
            stage = self._stages[told.scope] = _Stage(told.rollout, told.since_ns, {}, Wire())
        return stage

    def _sample(self, decision: Decision, tally: Tally) -> None:
        if self._waiting.qsize() >= WAITING:
            with self._lock:
                self.shed += 1
                tally.shed += 1
            return
        both = self._policies.both(decision.principal)
        if both is None:
            return
        baseline, candidate = both
        answered, other = (
            (candidate, baseline) if decision.revision.cohort == Cohort.CANDIDATE else (baseline, candidate)
        )
        self._waiting.put(_Sampled(decision, answered, other, tally))

    def _run(self) -> None:
        while (sampled := self._waiting.get()) is not None and not self._over.is_set():
            if self._waiting.empty():
                self._over.wait(GATHER_S)
            self._give_way()
            self._compare(sampled)

    def _give_way(self) -> None:
        for _ in range(GIVE_WAY_TIMES):
            if not self._is_crowded() or self._over.wait(GIVE_WAY_S):
                return

    def _compare(self, sampled: _Sampled) -> None:
        decision = sampled.decision
        if decision.revision.beside:
            self._compare_both(sampled)
            return
        try:
            raw = sampled.other.decision.evaluate(decision.input_json, self._evaluation_s)
            other, verdict = _said(sampled.other, raw)
        except DenialError as error:
            if error.reason.code not in FAILURES:
                return  # the engine's fault, not a policy's: nothing was compared
            other, verdict = ERROR, None
        answered, _ = _said(sampled.answered, decision.result_json or None) if decision.verdict else (ERROR, None)
        of_candidate = decision.revision.cohort == Cohort.CANDIDATE
        baseline, candidate = (other, answered) if of_candidate else (answered, other)
        rules = decision.verdict.rules if of_candidate and decision.verdict else verdict.rules if verdict else ()
        self._count(sampled, baseline, candidate, rules)

    def _compare_both(self, sampled: _Sampled) -> None:
        """Both have judged it already; where one of them failed to, nothing is compared."""
        if sampled.decision.verdict is None:
            return
        told = BOTH.split(sampled.decision.result_json)
        baseline, _ = _said(sampled.other, told.first)
        candidate, verdict = _said(sampled.answered, told.second)
        self._count(sampled, baseline, candidate, verdict.rules if verdict else ())

    def _count(self, sampled: _Sampled, baseline: str, candidate: str, rules: Sequence[str]) -> None:
        with self._lock:
            sampled.tally.compared(sampled.decision, baseline, candidate, rules)
            if baseline == candidate:
                self.agreed += 1
            else:
                self.disagreed += 1


def _said(policy: ActivePolicy, result: bytes | None) -> tuple[str, Verdict | None]:
    """What a revision's result comes to: an effect, where a refusal that is only flagged lets the call run."""
    try:
        verdict = policy.interpret(result)
    except DenialError:
        return ERROR, None
    return (Effect.ALLOW if verdict.mode is Mode.FLAG else verdict.effect).value, verdict
