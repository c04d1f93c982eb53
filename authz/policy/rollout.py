"""How a candidate policy takes the place of another: draft, shadow, canary waves, enforced; and every way back.

```
draft ──start──> shadow ──promote──> canary 1 ──promote──> … canary n ──promote──> enforced
                    │  <──stop_wave──    │                                             │
                    └───── roll_back, abort ─────> rolled_back, aborted <── roll_back ─┘

activate ──> stricter ──promote──> enforced
                └──────roll_back─> rolled_back
```

Decides which steps there are, who may take them and when. Each gives a `Transition` that holds the rollout before and
after, who took it, why, and the readings it rests on. Persons promote, pause, resume, stop a wave, abort and roll back;
the machine starts what is due, promotes what passed its gates and rolls back what breached them.

What a person decided, the machine never undoes: it promotes nothing that a person paused or whose wave was stopped,
brings back nothing that ended, and where a person overruled the gates they only warn. Promoting by hand does not
overrule them: they begin anew in each stage. Going back is never held up, by no schedule, freeze or second person.

A candidate that only ever denies more may be activated at once, by whoever contains an incident: it is asked beside the
baseline, and the stricter answer counts. Nothing but a person ends that, since ending it lets more happen.
Pure: time, ids and salts are the caller's.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from authz import reasons
from authz.errors import InvalidRequestError
from authz.model import Word
from authz.policy.gates import Outcome
from authz.policy.rollout_plan import JUDGED, REVERSIBLE, STAGED, State
from authz.value import value

if TYPE_CHECKING:
    from collections.abc import Iterable

    from authz.policy.gates import Judgement, Reading
    from authz.policy.rollout_plan import Rollout

MAX_REASON_CHARACTERS: Final = 1000
ROLLBACKS: Final = 3
FLAPPING_NS: Final = 3_600_000_000_000
"""A scope on which the machine went back so often within so long takes no further candidate but by an overruling."""


class Action(Word):
    """What moved it."""

    DRAFT = "draft"
    START = "start"
    PROMOTE = "promote"
    PAUSE = "pause"
    RESUME = "resume"
    STOP_WAVE = "stop_wave"
    ABORT = "abort"
    ROLL_BACK = "roll_back"
    PIN = "pin"
    ACTIVATE = "activate"


@value
class Actor:
    """Who takes a step. `is_automatic`: a program without a person, such as the gates themselves."""

    name: str
    is_automatic: bool = False


GATES: Final = Actor(name="gates", is_automatic=True)
"""The machine."""


@value
class Transition:
    """One step that was taken."""

    action: Action
    before: Rollout | None
    after: Rollout
    by: Actor
    at_ns: int
    reason: str = ""
    evidence: tuple[Reading, ...] = ()


@value
class Past:
    """A rollout that ended, as the next one must know it."""

    candidate: str
    state: State
    is_automatic: bool
    """The machine ended it."""
    ended_ns: int


def draft(asked: Rollout, by: Actor, history: Iterable[Past], *, reason: str, overrules: bool = False) -> Transition:
    """A rollout that begins. `history` is its scope's, without what is active, which the store refuses.

    Raises:
        InvalidRequestError: ROLLOUT_REASON, ROLLOUT_PLAN, ROLLOUT_QUARANTINED for a candidate that the machine took
            back here before, or ROLLOUT_FLAPPING; the latter two are for a person to overrule.
    """
    _require_reason(reason)
    if asked.candidate == asked.baseline:
        raise InvalidRequestError(reasons.ROLLOUT_PLAN, "the candidate is the baseline")
    taken_back = [past for past in history if past.is_automatic and past.state is State.ROLLED_BACK]
    if overrules and by.is_automatic:
        raise InvalidRequestError(reasons.ROLLOUT_HELD, "a program overrules nothing")
    if not overrules and any(past.candidate == asked.candidate for past in taken_back):
        raise InvalidRequestError(reasons.ROLLOUT_QUARANTINED)
    if not overrules and sum(asked.created_ns - past.ended_ns < FLAPPING_NS for past in taken_back) >= ROLLBACKS:
        raise InvalidRequestError(reasons.ROLLOUT_FLAPPING)
    begun = replace(asked, state=State.DRAFT, wave=0, since_ns=asked.created_ns)
    return Transition(action=Action.DRAFT, before=None, after=begun, by=by, at_ns=asked.created_ns, reason=reason)


def start(rollout: Rollout, by: Actor, now_ns: int, *, reason: str = "") -> Transition:
    """From draft to its first stage.

    Raises:
        InvalidRequestError: ROLLOUT_STATE, or ROLLOUT_FROZEN before its time and in a freeze.
    """
    _require(rollout, {State.DRAFT})
    _require_moving(rollout, now_ns)
    first = (State.SHADOW, 0) if rollout.plan.has_shadow else (State.CANARY, 1)
    return _moved(rollout, Action.START, by, now_ns, reason, to=first)


def promote(
    rollout: Rollout,
    by: Actor,
    now_ns: int,
    *,
    reason: str = "",
    evidence: tuple[Reading, ...] = (),
    overrules: bool = False,
) -> Transition:
    """To the next stage. A person who `overrules` has the gates of this rollout only warn from now on.

    Raises:
        InvalidRequestError: ROLLOUT_STATE, also while it is paused; ROLLOUT_FROZEN; ROLLOUT_SECOND_PERSON where it is
            to be enforced by another person; ROLLOUT_HELD where a program overrules.
    """
    _require(rollout, JUDGED | {State.STRICTER})
    _require_moving(rollout, now_ns)
    if rollout.is_paused:
        raise InvalidRequestError(reasons.ROLLOUT_STATE, "it is paused: resume it first")
    if overrules and by.is_automatic:
        raise InvalidRequestError(reasons.ROLLOUT_HELD, "a program overrules nothing")
    enforces = rollout.state is State.STRICTER or rollout.wave >= len(rollout.plan.waves)
    if enforces and needs_second_person(rollout, by):
        raise InvalidRequestError(reasons.ROLLOUT_SECOND_PERSON)
    to = (State.ENFORCED, 0) if enforces else (State.CANARY, rollout.wave + 1)
    moved = _moved(rollout, Action.PROMOTE, by, now_ns, reason, to=to, evidence=evidence)
    if not overrules:
        return moved
    return replace(moved, after=replace(moved.after, is_overruled=True))


def needs_second_person(rollout: Rollout, by: Actor) -> bool:
    """Whether `by` may not be who enforces it."""
    return rollout.plan.four_eyes and (by.is_automatic or by.name == rollout.created_by)


def pause(rollout: Rollout, by: Actor, now_ns: int, *, reason: str) -> Transition | None:
    """Hold it where it is; None where it is held already. The gates still take it back.

    Raises:
        InvalidRequestError: ROLLOUT_STATE or ROLLOUT_REASON.
    """
    _require(rollout, STAGED)
    _require_reason(reason)
    return None if rollout.is_paused else _flagged(rollout, Action.PAUSE, by, now_ns, reason, is_paused=True)


def resume(rollout: Rollout, by: Actor, now_ns: int, *, reason: str = "") -> Transition | None:
    """Let it go on; None where it is not held. What was counted while it was held counts.

    Raises:
        InvalidRequestError: ROLLOUT_STATE; ROLLOUT_HELD for a program.
    """
    _require(rollout, STAGED)
    if by.is_automatic:
        raise InvalidRequestError(reasons.ROLLOUT_HELD)
    return _flagged(rollout, Action.RESUME, by, now_ns, reason, is_paused=False) if rollout.is_paused else None


def stop_wave(rollout: Rollout, by: Actor, now_ns: int, *, reason: str) -> Transition:
    """Take back the present wave alone: its agents return to the baseline, and the rollout is held there.

    Raises:
        InvalidRequestError: ROLLOUT_STATE or ROLLOUT_REASON.
    """
    _require(rollout, {State.CANARY})
    _require_reason(reason)
    to = (State.CANARY, rollout.wave - 1) if rollout.wave > 1 else (State.SHADOW, 0)
    moved = _moved(rollout, Action.STOP_WAVE, by, now_ns, reason, to=to)
    return replace(moved, after=replace(moved.after, is_paused=True))


def abort(rollout: Rollout, by: Actor, now_ns: int, *, reason: str) -> Transition | None:
    """End it before it is enforced; None where it was aborted already.

    Raises:
        InvalidRequestError: ROLLOUT_STATE or ROLLOUT_REASON.
    """
    if rollout.state is State.ABORTED:
        return None
    _require(rollout, STAGED)
    _require_reason(reason)
    return _moved(rollout, Action.ABORT, by, now_ns, reason, to=(State.ABORTED, 0))


def roll_back(
    rollout: Rollout, by: Actor, now_ns: int, *, reason: str, evidence: tuple[Reading, ...] = ()
) -> Transition | None:
    """The baseline answers everybody again; None where it does already.

    Raises:
        InvalidRequestError: ROLLOUT_STATE, ROLLOUT_REASON; ROLLOUT_HELD for the machine where a person overruled it.
    """
    if rollout.state is State.ROLLED_BACK:
        return None
    _require(rollout, REVERSIBLE)
    _require_reason(reason)
    if by == GATES and rollout.is_overruled:
        raise InvalidRequestError(reasons.ROLLOUT_HELD)
    return _moved(rollout, Action.ROLL_BACK, by, now_ns, reason, to=(State.ROLLED_BACK, 0), evidence=evidence)


def pin(asked: Rollout, by: Actor, *, reason: str) -> Transition:
    """A person has `asked.baseline` answer everybody at once: one that was here before, in the place of the candidate.

    Raises:
        InvalidRequestError: ROLLOUT_REASON; ROLLOUT_HELD for a program.
    """
    _require_reason(reason)
    if by.is_automatic:
        raise InvalidRequestError(reasons.ROLLOUT_HELD, "a program pins nothing")
    pinned = replace(asked, state=State.ROLLED_BACK, wave=0, is_overruled=True, since_ns=asked.created_ns)
    return Transition(action=Action.PIN, before=None, after=pinned, by=by, at_ns=asked.created_ns, reason=reason)


def activate(asked: Rollout, by: Actor, *, reason: str, evidence: tuple[Reading, ...]) -> Transition:
    """Have `asked.candidate` answer everybody beside the baseline at once, the stricter of the two.

    Neither gates nor the trip wire take it back: whoever can make it fail must not be able to end it. A candidate that
    its gates took back before is no exception here, for it can only deny more.

    Raises:
        InvalidRequestError: ROLLOUT_REASON; ROLLOUT_PLAN, it is the baseline.
    """
    _require_reason(reason)
    if asked.candidate == asked.baseline:
        raise InvalidRequestError(reasons.ROLLOUT_PLAN, "the candidate is the baseline")
    begun = replace(asked, state=State.STRICTER, wave=0, is_overruled=True, since_ns=asked.created_ns)
    return Transition(
        action=Action.ACTIVATE,
        before=None,
        after=begun,
        by=by,
        at_ns=asked.created_ns,
        reason=reason,
        evidence=evidence,
    )


def advance(rollout: Rollout, judgement: Judgement | None, now_ns: int) -> Transition | None:
    """What the machine does now, mostly nothing. `judgement` is of this stage, None where nothing was counted."""
    if judgement is not None and judgement.outcome is Outcome.BREACH and rollout.state in REVERSIBLE:
        why = "breached: " + ", ".join(each.gate for each in judgement.readings if each.outcome is Outcome.BREACH)
        return (
            None if rollout.is_overruled else roll_back(rollout, GATES, now_ns, reason=why, evidence=judgement.readings)
        )
    if rollout.is_paused or rollout.plan.is_frozen(now_ns) or now_ns < rollout.plan.not_before_ns:
        return None
    if rollout.state is State.DRAFT:
        return start(rollout, GATES, now_ns, reason="its time has come")
    if judgement is None or not _is_ripe(rollout, judgement, now_ns):
        return None
    return promote(rollout, GATES, now_ns, reason="every gate passed", evidence=judgement.readings)


def _is_ripe(rollout: Rollout, judgement: Judgement, now_ns: int) -> bool:
    """Whether the machine may promote it now."""
    plan = rollout.plan
    passed = rollout.state in JUDGED and judgement.outcome is Outcome.PASS
    is_old = now_ns - rollout.since_ns >= plan.stage_s * 1e9
    awaits = rollout.wave >= len(plan.waves) and needs_second_person(rollout, GATES)
    return passed and is_old and plan.is_automatic and not awaits


def _moved(
    rollout: Rollout,
    action: Action,
    by: Actor,
    now_ns: int,
    reason: str,
    *,
    to: tuple[State, int],
    evidence: tuple[Reading, ...] = (),
) -> Transition:
    state, wave = to
    after = replace(rollout, state=state, wave=wave, since_ns=now_ns, version=rollout.version + 1)
    return Transition(action=action, before=rollout, after=after, by=by, at_ns=now_ns, reason=reason, evidence=evidence)


def _flagged(rollout: Rollout, action: Action, by: Actor, now_ns: int, reason: str, *, is_paused: bool) -> Transition:
    after = replace(rollout, is_paused=is_paused, version=rollout.version + 1)
    return Transition(action=action, before=rollout, after=after, by=by, at_ns=now_ns, reason=reason)


def _require(rollout: Rollout, states: Iterable[State]) -> None:
    if rollout.state not in states:
        raise InvalidRequestError(reasons.ROLLOUT_STATE, f"it is {rollout.state}")


def _require_moving(rollout: Rollout, now_ns: int) -> None:
    if now_ns < rollout.plan.not_before_ns:
        raise InvalidRequestError(reasons.ROLLOUT_FROZEN, "its time has not come")
    if rollout.plan.is_frozen(now_ns):
        raise InvalidRequestError(reasons.ROLLOUT_FROZEN)


def _require_reason(reason: str) -> None:
    if not 1 <= len(reason.strip()) <= MAX_REASON_CHARACTERS:
        raise InvalidRequestError(reasons.ROLLOUT_REASON, f"1 to {MAX_REASON_CHARACTERS} characters")
