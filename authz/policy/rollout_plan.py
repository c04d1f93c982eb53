"""What a rollout is to do, and where it stands; `rollout` decides how it moves.

Decides which plans make sense: rising shares, a freeze that ends after it begins. A value that is not sensible cannot
be made. Pure.
"""

from __future__ import annotations

from typing import Final

from authz import reasons
from authz.errors import InvalidRequestError
from authz.model import Word
from authz.policy.gates import Tolerances
from authz.value import value

MAX_WAVES: Final = 16
MAX_FREEZES: Final = 64
SHARE: Final = 1.0


class State(Word):
    """Where a rollout stands."""

    DRAFT = "draft"
    SHADOW = "shadow"
    CANARY = "canary"
    STRICTER = "stricter"
    """Beside the baseline, for everybody: the stricter answer of the two counts."""
    ENFORCED = "enforced"
    ROLLED_BACK = "rolled_back"
    ABORTED = "aborted"


ACTIVE: Final = frozenset({State.DRAFT, State.SHADOW, State.CANARY, State.STRICTER})
"""A scope has at most one rollout in one of these."""
JUDGED: Final = frozenset({State.SHADOW, State.CANARY})
"""The gates have something to say here."""
REVERSIBLE: Final = frozenset({State.SHADOW, State.CANARY, State.STRICTER, State.ENFORCED})
STAGED: Final = ACTIVE - {State.STRICTER}
"""It goes from stage to stage."""


@value
class Plan:
    """How a rollout is to go. Instants are nanoseconds since the epoch.

    Raises:
        InvalidRequestError: ROLLOUT_PLAN.
    """

    waves: tuple[float, ...] = (0.05, 0.25)
    """Shares of the agents that the candidate answers, each larger than the one before."""
    has_shadow: bool = True
    """Without, it begins with the first wave."""
    is_automatic: bool = True
    """The gates promote; else they only roll back."""
    four_eyes: bool = False
    """Enforced only by a person, and not by the one who began it."""
    stage_s: float = 300.0
    """The gates promote no stage that is younger."""
    not_before_ns: int = 0
    freezes: tuple[tuple[int, int], ...] = ()
    """From and until: nothing goes forward meanwhile."""
    tolerances: Tolerances = Tolerances()

    def __post_init__(self) -> None:
        rises = all(a < b for a, b in zip((0.0, *self.waves), self.waves, strict=False))
        shares = rises and len(self.waves) <= MAX_WAVES and all(wave <= SHARE for wave in self.waves)
        freezes = len(self.freezes) <= MAX_FREEZES and all(start < end for start, end in self.freezes)
        if not shares or not (self.waves or self.has_shadow):
            raise InvalidRequestError(reasons.ROLLOUT_PLAN, "waves are rising shares over 0 and up to 1")
        if not freezes or self.stage_s < 0 or self.not_before_ns < 0:
            raise InvalidRequestError(reasons.ROLLOUT_PLAN, "a freeze ends after it begins, and times are not negative")
        if not _are_shares(self.tolerances):
            raise InvalidRequestError(reasons.ROLLOUT_PLAN, "tolerances are shares, and a ratio of at least 1")

    def is_frozen(self, now_ns: int) -> bool:
        """Whether nothing may go forward at `now_ns`."""
        return any(start <= now_ns < end for start, end in self.freezes)


@value
class Rollout:
    """One rollout as it stands. Digests are SHA-256 in hex; an empty baseline is what each sidecar is configured with.

    `wave` counts from 1 within the canary waves and is 0 elsewhere. `version` grows with every transition of the scope,
    also from one rollout to the next, and `since_ns` is when the present stage began.
    """

    id: str
    scope: str
    baseline: str
    candidate: str
    salt: str
    plan: Plan
    created_by: str
    created_ns: int
    state: State = State.DRAFT
    wave: int = 0
    is_paused: bool = False
    is_overruled: bool = False
    version: int = 1
    since_ns: int = 0

    @property
    def share(self) -> float:
        """Of the agents that the candidate answers, be it beside the baseline."""
        if self.state in (State.ENFORCED, State.STRICTER):
            return SHARE
        return self.plan.waves[self.wave - 1] if self.state is State.CANARY else 0.0

    @property
    def stage(self) -> str:
        """As decisions, records and people name it."""
        return f"canary-{self.wave}" if self.state is State.CANARY else self.state.value

    @property
    def serving(self) -> str:
        """The digest that is to answer once nothing is under way."""
        return self.candidate if self.state is State.ENFORCED else self.baseline


def _are_shares(tolerances: Tolerances) -> bool:
    shares = (tolerances.flips, tolerances.errors, tolerances.deny_rate, tolerances.approval_rate)
    return all(0 <= each < 1 for each in shares) and tolerances.samples >= 1 and tolerances.latency_ratio >= 1
