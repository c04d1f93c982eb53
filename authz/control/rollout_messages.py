"""Rollouts as the API writes them, and plans as it reads them. What is refused, `rollout_plan` refuses."""

from __future__ import annotations

from dataclasses import asdict, fields
from math import isfinite
from typing import TYPE_CHECKING, Any, Final

from google.protobuf.timestamp_pb2 import Timestamp

from authz._gen.authz.control.v1 import rollouts_pb2 as pb
from authz.errors import InvalidRequestError
from authz.policy.gates import Outcome, Reading, Tolerances
from authz.policy.rollout_plan import Plan, State
from authz.reasons import ROLLOUT_LOOSER, ROLLOUT_UNSHOWN

if TYPE_CHECKING:
    from collections.abc import Iterable

    from authz.control.rollout_judge import Judged
    from authz.policy.rollout import Transition
    from authz.policy.rollout_plan import Rollout
    from authz.policy.rollout_reports_sql import Standing

STATES: Final = {
    State.DRAFT: pb.ROLLOUT_STATE_DRAFT,
    State.SHADOW: pb.ROLLOUT_STATE_SHADOW,
    State.CANARY: pb.ROLLOUT_STATE_CANARY,
    State.STRICTER: pb.ROLLOUT_STATE_STRICTER,
    State.ENFORCED: pb.ROLLOUT_STATE_ENFORCED,
    State.ROLLED_BACK: pb.ROLLOUT_STATE_ROLLED_BACK,
    State.ABORTED: pb.ROLLOUT_STATE_ABORTED,
}


def plan_of(message: pb.RolloutPlan, *, four_eyes: bool) -> Plan:
    """The plan that a request asks for; `four_eyes` where its caller may not enforce.

    Raises:
        InvalidRequestError: ROLLOUT_PLAN.
    """
    asked: dict[str, Any] = {"has_shadow": not message.no_shadow, "is_automatic": not message.by_hand}
    if message.waves or message.no_canary:
        asked["waves"] = tuple(message.waves)
    if message.HasField("stage"):
        asked["stage_s"] = message.stage.ToNanoseconds() / 1e9
    if message.HasField("not_before"):
        asked["not_before_ns"] = message.not_before.ToNanoseconds()
    told = message.tolerances
    given = {field.name: getattr(told, field.name) for field in fields(Tolerances) if told.HasField(field.name)}
    return Plan(
        **asked,
        four_eyes=message.four_eyes or four_eyes,
        freezes=tuple((getattr(each, "from").ToNanoseconds(), each.until.ToNanoseconds()) for each in message.freezes),
        tolerances=Tolerances(**given),
    )


def shown(replayed: pb.Replayed) -> tuple[Reading, ...]:
    """What a replay says for a stricter revision, as evidence.

    Raises:
        InvalidRequestError: ROLLOUT_LOOSER, a call would be let through; ROLLOUT_UNSHOWN, no call was compared.
    """
    told = {field.name: getattr(replayed, field.name) for field in replayed.DESCRIPTOR.fields}
    if replayed.looser:
        raise InvalidRequestError(ROLLOUT_LOOSER, f"{replayed.looser} of {replayed.calls} recorded calls")
    if replayed.calls < 1 or min(told.values()) < 0:
        raise InvalidRequestError(ROLLOUT_UNSHOWN, "no recorded call was compared")
    figures = {name: float(count) for name, count in told.items()}
    return (Reading(gate="replay", outcome=Outcome.PASS, figures=figures),)


def message(rollout: Rollout) -> pb.Rollout:
    """The rollout as it stands."""
    return pb.Rollout(
        id=rollout.id,
        tenant=rollout.scope,
        baseline=rollout.baseline,
        candidate=rollout.candidate,
        state=STATES[rollout.state],
        stage=rollout.stage,
        share=rollout.share,
        paused=rollout.is_paused,
        overruled=rollout.is_overruled,
        version=rollout.version,
        created_by=rollout.created_by,
        created_at=_instant(rollout.created_ns),
        stage_since=_instant(rollout.since_ns),
        plan=_plan(rollout.plan),
        serving=rollout.serving,
    )


def status(rollout: Rollout, judged: Judged) -> pb.RolloutStatus:
    """The rollout with what its figures say."""
    found = judged.found
    return pb.RolloutStatus(
        rollout=message(rollout),
        outcome=judged.judgement.outcome if judged.judgement else "",
        gates=_readings(judged.judgement.readings if judged.judgement else ()),
        rankings=[pb.Ranking(by=kind, calls=calls) for kind, calls in found.rankings.items() if calls],
        examples=[
            pb.Disagreement(
                decision_id=each.decision_id,
                agent=each.agent,
                tool=each.tool,
                baseline=each.baseline,
                candidate=each.candidate,
                rules=each.rules,
            )
            for each in found.examples
        ],
        sidecars=map(_standing, judged.standings),
        compared=found.window.pairs.compared,
        shed=found.window.pairs.shed,
    )


def transition(step: Transition) -> pb.RolloutTransition:
    """A step with its evidence."""
    return pb.RolloutTransition(
        at=_instant(step.at_ns),
        action=step.action,
        by=step.by.name,
        automatic=step.by.is_automatic,
        reason=step.reason,
        rollout=message(step.after),
        evidence=_readings(step.evidence),
    )


def _plan(plan: Plan) -> pb.RolloutPlan:
    made = pb.RolloutPlan(
        waves=plan.waves,
        no_canary=not plan.waves,
        no_shadow=not plan.has_shadow,
        by_hand=not plan.is_automatic,
        four_eyes=plan.four_eyes,
        tolerances=pb.Tolerances(**asdict(plan.tolerances)),
        freezes=[pb.Freeze(**{"from": _instant(start), "until": _instant(end)}) for start, end in plan.freezes],
    )
    made.stage.FromNanoseconds(int(plan.stage_s * 1e9))
    if plan.not_before_ns:
        made.not_before.CopyFrom(_instant(plan.not_before_ns))
    return made


def _readings(readings: Iterable[Reading]) -> list[pb.GateReading]:
    return [
        pb.GateReading(
            gate=each.gate,
            outcome=each.outcome,
            # An unbounded percentile is none that JSON could hold; an absent figure says so.
            figures={name: figure for name, figure in each.figures.items() if isfinite(figure)},
        )
        for each in readings
    ]


def _standing(standing: Standing) -> pb.SidecarStanding:
    return pb.SidecarStanding(
        sidecar=standing.sidecar,
        version=standing.version,
        ready=standing.is_ready,
        refused=standing.refused,
        tripped=standing.tripped,
        golden=standing.golden,
        heard_at=_instant(standing.heard_ns),
        pinned=standing.pinned,
    )


def _instant(unix_ns: int) -> Timestamp:
    made = Timestamp()
    made.FromNanoseconds(unix_ns)
    return made
