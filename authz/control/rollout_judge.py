"""What the figures of a rollout say now, from the reports of every sidecar that it concerns.

Decides which sidecars are waited for: those that follow the scope and were heard lately, but for those that a person
pinned to something else, which take no part. Judges the stage as a whole
and its recent windows: a breach of either is one, so that a long calm does not hide what has gone wrong since.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from authz.policy import gates
from authz.policy.findings import NOTHING
from authz.policy.gates import Fleet, Judgement, Outcome
from authz.policy.rollout_plan import JUDGED, REVERSIBLE, State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from sqlalchemy import Connection

    from authz.policy.findings import Findings
    from authz.policy.rollout_plan import Rollout
    from authz.policy.rollout_reports_sql import RolloutReports, Standing

    Alive = Callable[[Connection, str], Iterable[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """All that is known of a rollout's present stage; no judgement where none is due."""

    judgement: Judgement | None
    found: Findings
    standings: tuple[Standing, ...]


class RolloutJudge:
    """Judges the rollouts of one database.

    Args:
        alive: ids of the sidecars that follow a scope and were heard lately, on whichever subject.
    """

    def __init__(self, reports: RolloutReports, alive: Alive) -> None:
        self._reports = reports
        self._alive = alive

    def judge(self, connection: Connection, rollout: Rollout) -> Judged:
        """The scope's standings, and in a stage that is judged what its figures say."""
        standings = tuple(self._reports.standings(connection, rollout.scope))
        if rollout.state not in REVERSIBLE:
            return Judged(judgement=None, found=NOTHING, standings=standings)
        own = [each for each in standings if each.rollout == rollout.id and not each.pinned]
        heard = {*self._alive(connection, rollout.scope), *(each.sidecar for each in standings)}
        expected = heard - {each.sidecar for each in standings if each.pinned}
        fleet = Fleet(
            expected=len(expected),
            reported=sum(each.is_ready and each.version >= rollout.version for each in own),
            refused=sum(bool(each.refused) for each in own),
            tripped=sum(bool(each.tripped) for each in own),
            golden=sum(bool(each.golden) for each in own),
        )
        if rollout.state is State.ENFORCED:
            return Judged(judgement=_of_health(fleet), found=NOTHING, standings=standings)
        stage, recent = self._reports.found(connection, rollout.id, rollout.since_ns)
        if rollout.state not in JUDGED:
            return Judged(judgement=_of_health(fleet), found=stage, standings=standings)
        tolerances, answers = rollout.plan.tolerances, rollout.state is State.CANARY
        said = [gates.judge(each.window, fleet, tolerances, answers=answers) for each in (stage, recent)]
        broken = next((each for each in said if each.outcome is Outcome.BREACH), said[0])
        return Judged(judgement=broken, found=stage, standings=standings)


def _of_health(fleet: Fleet) -> Judgement:
    """Nothing is judged by what the two say: once enforced, or while the stricter counts, which is meant to refuse."""
    readings = gates.judge(gates.Window(), fleet, gates.Tolerances(), answers=False).readings
    told = tuple(each for each in readings if each.gate in ("golden", "health"))
    is_breach = any(each.outcome is Outcome.BREACH for each in told)
    return Judgement(outcome=Outcome.BREACH if is_breach else Outcome.UNDECIDED, readings=told)
