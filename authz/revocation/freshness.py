"""How old what is known of the kills may be, and what may still be served on it (failure matrix §3).

Decides whether a heartbeat shows that nothing is missing *now*: it must be newer than the last one, and not have been
held back on its way; and which calls are served when none came. Must never take a restart or a clock that was set back
for news. Pure: time is given.

Two clocks are kept apart. The ledger's time, which heartbeats bring and our running clock carries on, tells a heartbeat
that was held back, and when a kill expires. Age is counted on our own clocks, on whichever of them says more: the
running one stands still while a machine sleeps, and the wall clock can be set back.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from authz.errors import UnavailableError
from authz.model import Risk
from authz.reasons import KILL_STALE

if TYPE_CHECKING:
    from authz.clock import Clock
    from authz.revocation.entries import Heartbeat

FRESH_S: Final = 2.0
"""Heartbeats come every 0.4 s; without one for so long, kills may be missing."""
READS_S: Final = 300.0
"""How long reads are served on stale knowledge, flagged."""
_HELD_BACK_NS: Final = 2_000_000_000
_SKEW_NS: Final = 30_000_000_000
"""By how much our wall clock may be behind the ledger's before the two have met."""
_DRIFT: Final = 1_000
"""Clocks drift apart by less than one in so many; without this a heartbeat would come to look late by itself."""
_NS: Final = 1_000_000_000


def admit(age_s: float, risk: Risk, *, reads_s: float = READS_S) -> bool:
    """Whether a call of this risk is served on knowledge of this age.

    Returns:
        True where the decision must be flagged: kills of the last seconds may be missing.

    Raises:
        UnavailableError: KILL_STALE.
    """
    if age_s <= FRESH_S:
        return False
    if risk is Risk.READ and age_s <= reads_s:
        return True
    raise UnavailableError(KILL_STALE)


class LedgerTime:
    """The ledger's clock as heartbeats show it. One thread writes."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._latest: tuple[int, int] | None = None
        self._has_met = False
        """Whether the control plane itself has answered since this start; until then our wall clock is believed."""
        self._furthest: tuple[int, int] = (0, clock.monotonic_ns())

    def begin(self, at_ns: int) -> None:
        """Go on from what was known before a restart; how long that took is not known, so no kill expires by it."""
        self._furthest = (max(at_ns, self.now_ns()), self._clock.monotonic_ns())

    def now_ns(self) -> int:
        """The least that it can be. Only the control plane's own answer sets it back: kills may then stand longer."""
        at_ns, running_ns = self._furthest
        return at_ns + self._clock.monotonic_ns() - running_ns if at_ns else 0

    def is_held_back(self, at_ns: int) -> bool:
        """Whether a message that was signed then can only have been delayed on its way."""
        if self._latest is None and at_ns - self._clock.unix_ns() > _SKEW_NS:
            return True
        return self.late_ns(at_ns) > _HELD_BACK_NS

    def late_ns(self, at_ns: int) -> int:
        """How long ago a message that was signed then was made, by those that came faster."""
        return max(0, self._expected_ns() - at_ns)

    def take(self, at_ns: int, *, direct: bool) -> None:
        """Learn from a message that was just made: what the control plane itself answers settles where its clock is."""
        running_ns = self._clock.monotonic_ns()
        # No answer takes so long: the ledger's clock was set back. By the time before, a new kill could have expired.
        set_back = direct and at_ns < self.now_ns() - _HELD_BACK_NS
        if set_back or at_ns > self.now_ns():
            self._furthest = (at_ns, running_ns)
        latest_ns = at_ns
        if not direct or (self._has_met and not self.is_held_back(at_ns)):
            # Else each heartbeat could be delayed a little more than the one before, without end.
            drift_ns = (running_ns - self._latest[1]) // _DRIFT if self._latest else 0
            latest_ns = max(at_ns, self._expected_ns() - drift_ns)
        self._latest = (latest_ns, running_ns)
        self._has_met = self._has_met or direct

    def _expected_ns(self) -> int:
        if self._latest is None:
            return self._clock.unix_ns()
        at_ns, running_ns = self._latest
        return at_ns + self._clock.monotonic_ns() - running_ns


@dataclass(frozen=True, slots=True)
class _Level:
    """When everything that the ledger had said was known here; `live` since this start."""

    unix_ns: int
    running_ns: int
    live: bool


class Freshness:
    """The age of one stream. One thread writes; any number read."""

    def __init__(self, clock: Clock, ledger: LedgerTime) -> None:
        self._clock = clock
        self._ledger = ledger
        self._level: _Level | None = None
        self._last: tuple[int, int, int] = (0, 0, 0)
        self._late_ns = 0

    def begin(self, at_ns: int) -> None:
        """Start from a journal that was level at this time of the ledger: never fresh, and as old as it is."""
        since_ns = self._clock.unix_ns() - at_ns
        if since_ns >= 0:  # from the future: a clock was set back, and nobody knows how old it is
            self._level = _Level(at_ns, self._clock.monotonic_ns() - since_ns, live=False)

    def is_news(self, heartbeat: Heartbeat, *, direct: bool) -> bool:
        """Whether it was made after every other one, and just now. Notes that it was seen.

        Args:
            heartbeat: signed for this stream.
            direct: the control plane gave it in answer to us, so it cannot be an old one.
        """
        epoch, count, at_ns = self._last
        newer = heartbeat.epoch > epoch or heartbeat.count > count or heartbeat.at_ns > at_ns
        if direct or (newer and not self._ledger.is_held_back(heartbeat.at_ns)):
            self._last = (heartbeat.epoch, heartbeat.count, heartbeat.at_ns)
            late_ns = self._ledger.late_ns(heartbeat.at_ns)
            self._late_ns = late_ns if late_ns <= _HELD_BACK_NS else 0  # its clock was set back
            self._ledger.take(heartbeat.at_ns, direct=direct)
            return True
        return False

    def level(self) -> None:
        """All that the ledger had said when it made its latest heartbeat is known here, and on our disk."""
        late_ns = self._late_ns
        self._level = _Level(self._clock.unix_ns() - late_ns, self._clock.monotonic_ns() - late_ns, live=True)

    def level_as(self, other: Freshness) -> None:
        """What `other` last showed, it showed of this stream too."""
        self._level = other._level

    def age_s(self) -> float:
        """Seconds since `level`; infinite before it ever was."""
        level = self._level
        if level is None:
            return math.inf
        waited_ns = max(self._clock.monotonic_ns() - level.running_ns, self._clock.unix_ns() - level.unix_ns)
        age_s = waited_ns / _NS
        return age_s if level.live else max(age_s, math.nextafter(FRESH_S, math.inf))
