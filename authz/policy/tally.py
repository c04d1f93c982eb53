"""Counts of one window of a stage, added to call by call and read as `Findings`.

Decides what counts as which disagreement. Must never grow with what callers send: at most `NAMES` names of a kind are
told apart, and so many examples are kept. Not thread-safe.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, deque
from dataclasses import fields
from typing import TYPE_CHECKING, Final

from authz.model import Effect
from authz.policy.cohort import Cohort
from authz.policy.findings import (
    KINDS,
    MAX_EXAMPLES,
    MAX_NAME_CHARACTERS,
    MAX_RULES,
    OTHERS,
    Example,
    Findings,
    together,
)
from authz.policy.gates import EDGES_US, Answers, Pairs, Window

if TYPE_CHECKING:
    from collections.abc import Sequence

    from authz.model import Decision

ERROR: Final = "error"
"""What a revision said that failed to judge a call."""
NAMES: Final = 500
_WOULD: Final = {
    Effect.ALLOW.value: "would_allow",
    Effect.DENY.value: "would_block",
    Effect.SANITIZE.value: "would_sanitize",
    Effect.APPROVAL_NEEDED.value: "would_need_approval",
    ERROR: "would_fail",
}
_REFUSED: Final = frozenset({Effect.DENY.value, ERROR})


class Tally:
    """One window's counts."""

    def __init__(self) -> None:
        self._answers: dict[str, Counter[str]] = {each.value: Counter() for each in Cohort}
        self._latency: dict[str, list[int]] = {each.value: [0] * (len(EDGES_US) + 1) for each in Cohort}
        self._pairs: Counter[str] = Counter()
        self._rankings: dict[str, Counter[str]] = {kind: Counter() for kind in KINDS}
        self._examples: deque[Example] = deque(maxlen=MAX_EXAMPLES)
        self.shed = 0

    def answered(self, cohort: str, decision: Decision, *, failed: bool) -> None:
        """Count an answer of one cohort's revision."""
        counted = self._answers[cohort]
        counted["calls"] += 1
        counted["errors"] += failed
        if decision.verdict is not None:
            counted["denied"] += decision.verdict.effect is Effect.DENY
            counted["approvals"] += decision.verdict.effect is Effect.APPROVAL_NEEDED
        if (took_us := decision.latency_us.get("policy")) is not None:
            self._latency[cohort][bisect_left(EDGES_US, took_us)] += 1

    def compared(self, decision: Decision, baseline: str, candidate: str, rules: Sequence[str]) -> None:
        """Count what the two revisions said of one call."""
        pairs = self._pairs
        pairs["compared"] += 1
        if baseline == candidate:
            return
        pairs["would_mend" if baseline == ERROR else _WOULD[candidate]] += 1
        pairs["denied"] += candidate in _REFUSED and baseline not in _REFUSED
        pairs["undenied"] += baseline in _REFUSED and candidate not in _REFUSED
        pairs["held"] += candidate == Effect.APPROVAL_NEEDED
        pairs["released"] += baseline == Effect.APPROVAL_NEEDED
        agent = _name(decision.principal.agent) if decision.principal else ""
        tool = _name(f"{decision.call.tool.server}/{decision.call.tool.name}") if decision.call else ""
        named = tuple(map(_name, rules[:MAX_RULES]))
        for kind, found in (("rule", named), ("agent", (agent,)), ("tool", (tool,))):
            for name in found:
                self._rank(self._rankings[kind], name)
        self._examples.append(
            Example(
                decision_id=decision.id, agent=agent, tool=tool, baseline=baseline, candidate=candidate, rules=named
            )
        )

    def findings(self) -> Findings:
        """All of it so far."""
        pairs = {field.name: self._pairs[field.name] for field in fields(Pairs)} | {"shed": self.shed}
        window = Window(baseline=self._of(Cohort.BASELINE), candidate=self._of(Cohort.CANDIDATE), pairs=Pairs(**pairs))
        return together([Findings(window=window, rankings=self._rankings, examples=tuple(self._examples))])

    def _of(self, cohort: Cohort) -> Answers:
        counted = {name: self._answers[cohort][name] for name in ("calls", "errors", "denied", "approvals")}
        return Answers(**counted, latency=tuple(self._latency[cohort]))

    @staticmethod
    def _rank(ranking: Counter[str], name: str) -> None:
        ranking[name if name in ranking or len(ranking) < NAMES else OTHERS] += 1


def _name(told: str) -> str:
    return told[:MAX_NAME_CHARACTERS]
