"""Who may put a kill in force, and end it: one signer, or two that differ (requirement I3).

Decides which kills are *guarded*: those of a tenant, of everything, and those by which more than a share of a tenant's
active agents would be stopped. Where kills add up, agents that one signer's word has stopped within the window are
counted with it: a large kill in small parts is a large kill (E9). A guarded kill is in force only once a second signer
confirmed it within the window, and so is its lift. Each has a reason in words. A program, an operator marked automatic,
signs neither. Decides too which state a kill is in: nothing but its own instants and the time says so, so no job has to
run for one to expire or lapse.

Must never let one operator stand for both signers, or let a request be confirmed after its window. Pure: the time is
the ledger's, given by the caller, and so are the agents that a scope hits. Two credentials of one person are
two operators here: that is for whoever grants roles to prevent.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from authz.errors import InvalidRequestError
from authz.model import Word
from authz.reasons import KILL_AUTOMATIC, KILL_LAPSED, KILL_REASON, KILL_SAME_SIGNER, KILL_STATE
from authz.revocation.scopes import WHOLE, ScopeKind

if TYPE_CHECKING:
    from authz.revocation.scopes import Scope

MAX_REASON_CHARACTERS: Final = 1000
OF_AGENTS: Final = frozenset({ScopeKind.AGENT, ScopeKind.SUBTREE})
"""Kinds that stop agents for good, and so add up; a session or a token is stopped, and its agent goes on."""
_NS: Final = 1_000_000_000


class KillState(Word):
    """Where a kill stands."""

    AWAITING_CONFIRMATION = "awaiting_confirmation"
    IN_FORCE = "in_force"
    AWAITING_LIFT_CONFIRMATION = "awaiting_lift_confirmation"
    LIFTED = "lifted"
    EXPIRED = "expired"
    LAPSED = "lapsed"


OVER: Final = frozenset({KillState.LIFTED, KillState.EXPIRED, KillState.LAPSED})
"""Nothing is stopped by a kill in one of these, and nothing can bring it back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signer:
    """An operator that asks for, confirms or lifts a kill. `is_automatic`: a program without a person."""

    operator: str
    is_automatic: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """Which of a tenant's agents a scope stops, beside what else was stopped, and how many are active.

    Attributes:
        agents: ids of those that it stops.
        alone: ids of active ones that kills of one signer each have stopped within the window, and stop still.
        active: how many the tenant has.
    """

    agents: frozenset[str] = frozenset()
    alone: frozenset[str] = frozenset()
    active: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """What is guarded, and how.

    Attributes:
        share: of a tenant's active agents; a kill by which more are stopped is guarded.
        adds_up: whether what one signer each has stopped within the window is counted with a kill.
        least_agents: active agents below which a share says nothing: of three agents, one is a third.
        window_s: the second signer has this long, and so long what one signer stopped is counted.
        reason_characters: least length of a guarded kill's reason.
    """

    share: float = 0.25
    adds_up: bool = False
    least_agents: int = 5
    window_s: float = 600.0
    reason_characters: int = 10

    def guards(self, scope: Scope, hit: Hit) -> bool:
        """Whether a kill of `scope` needs two signers."""
        if scope.kind in WHOLE:
            return True
        if not hit.agents or hit.active < self.least_agents:
            return False
        stopped = hit.agents | hit.alone if self.adds_up else hit.agents
        return len(stopped) > self.share * hit.active


@dataclass(frozen=True, slots=True, kw_only=True)
class KillRecord:
    """A kill with all that was done to it. Instants are nanoseconds since the epoch; 0 where it has not happened.

    Attributes:
        expires_in_ns: from when it comes in force; 0 is no end.
        in_force_at_ns: when it was asked for, or confirmed where it is guarded.
        lapses_at_ns: end of the window of what awaits a second signer, first the kill and then its lift.
        version: of its last entry in the ledger; 0 where it has none.
        epoch, sequence: where that entry stands.
    """

    id: str
    scope: Scope
    is_guarded: bool
    reason: str
    created_by: str
    created_at_ns: int
    incident: str = ""
    expires_in_ns: int = 0
    confirmed_by: str = ""
    in_force_at_ns: int = 0
    lapses_at_ns: int = 0
    lifted_by: str = ""
    lift_reason: str = ""
    lift_confirmed_by: str = ""
    lifted_at_ns: int = 0
    version: int = 0
    epoch: int = 0
    sequence: int = 0

    @property
    def expires_at_ns(self) -> int:
        """When it ends by itself; 0 where it does not, or is not in force yet."""
        return self.in_force_at_ns + self.expires_in_ns if self.in_force_at_ns and self.expires_in_ns else 0

    def state(self, now_ns: int) -> KillState:
        """Where it stands at `now_ns`."""
        if self.lifted_at_ns:
            return KillState.LIFTED
        if not self.in_force_at_ns:
            return KillState.AWAITING_CONFIRMATION if now_ns < self.lapses_at_ns else KillState.LAPSED
        if self.expires_at_ns and now_ns >= self.expires_at_ns:
            return KillState.EXPIRED
        return KillState.AWAITING_LIFT_CONFIRMATION if now_ns < self.lapses_at_ns else KillState.IN_FORCE


def propose(kill: KillRecord, signer: Signer, guard: Guard) -> KillRecord:
    """`kill` as it begins: in force, or awaiting its second signer where it is guarded.

    Raises:
        InvalidRequestError: KILL_REASON or KILL_AUTOMATIC.
    """
    _check(kill.reason, signer, guard if kill.is_guarded else None)
    if not kill.is_guarded:
        return replace(kill, in_force_at_ns=kill.created_at_ns, version=1)
    return replace(kill, lapses_at_ns=kill.created_at_ns + int(guard.window_s * _NS))


def lift(kill: KillRecord, signer: Signer, reason: str, guard: Guard, now_ns: int) -> KillRecord:
    """`kill` lifted, or its lift awaiting a second signer. What is lifted already is answered as it is.

    Raises:
        InvalidRequestError: KILL_STATE where it is not in force, KILL_REASON or KILL_AUTOMATIC.
    """
    state = kill.state(now_ns)
    if state is KillState.LIFTED:
        return kill
    if state is not KillState.IN_FORCE:
        raise InvalidRequestError(KILL_STATE, f"it is {state}")
    _check(reason, signer, guard if kill.is_guarded else None)
    kill = replace(kill, lifted_by=signer.operator, lift_reason=reason)
    if kill.is_guarded:
        return replace(kill, lapses_at_ns=now_ns + int(guard.window_s * _NS))
    return replace(kill, lifted_at_ns=now_ns, version=kill.version + 1)


def confirm(kill: KillRecord, signer: Signer, now_ns: int) -> KillRecord:
    """`kill` in force, or lifted: whichever awaited its second signer. Who repeats the last word is answered as before.

    Raises:
        InvalidRequestError: KILL_AUTOMATIC, KILL_SAME_SIGNER, KILL_LAPSED, or KILL_STATE where nothing is awaited.
    """
    state = kill.state(now_ns)
    if signer.is_automatic:
        raise InvalidRequestError(KILL_AUTOMATIC)
    if state is KillState.AWAITING_CONFIRMATION:
        _differ(signer, kill.created_by)
        return replace(kill, confirmed_by=signer.operator, in_force_at_ns=now_ns, lapses_at_ns=0, version=1)
    if state is KillState.AWAITING_LIFT_CONFIRMATION:
        _differ(signer, kill.lifted_by)
        version = kill.version + 1
        return replace(kill, lift_confirmed_by=signer.operator, lifted_at_ns=now_ns, lapses_at_ns=0, version=version)
    last_word = kill.lift_confirmed_by if state is KillState.LIFTED else kill.confirmed_by
    if state in (KillState.LIFTED, KillState.IN_FORCE) and not kill.lapses_at_ns and last_word == signer.operator:
        return kill
    # A lift that lapsed leaves the kill in force, with the end of its window behind it.
    if state is KillState.LAPSED or (state is KillState.IN_FORCE and kill.lapses_at_ns):
        raise InvalidRequestError(KILL_LAPSED)
    raise InvalidRequestError(KILL_STATE, f"it is {state}")


def _check(reason: str, signer: Signer, guard: Guard | None) -> None:
    if guard is not None and signer.is_automatic:
        raise InvalidRequestError(KILL_AUTOMATIC)
    least = guard.reason_characters if guard is not None else 1
    if not least <= len(reason.strip()) <= MAX_REASON_CHARACTERS:
        raise InvalidRequestError(KILL_REASON, f"{least} to {MAX_REASON_CHARACTERS} characters")


def _differ(signer: Signer, first: str) -> None:
    if signer.operator == first:
        raise InvalidRequestError(KILL_SAME_SIGNER)
