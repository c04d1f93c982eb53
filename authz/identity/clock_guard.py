"""The time that tokens are judged by: wall time that cannot be turned back.

Decides what "now" is, and when there is no such thing. The monotonic clock vouches for the wall clock: a token that
has expired stays expired after the wall clock steps back, and a step of more than 5 s either way refuses every
token (`CLOCK_STEP`, failure matrix "Clock") until one of these holds:

- the wall clock agrees with the monotonic one again;
- a step *forward* has stood for a minute, both clocks agreeing since (a machine that slept), which makes no token
  live longer;
- the operator says so: `accept`, which a restart amounts to.

Must never move backwards by itself. Trusts the monotonic clock's rate, and the wall clock at the time it is made.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final, NamedTuple

from authz.errors import UnavailableError
from authz.reasons import CLOCK_STEP

if TYPE_CHECKING:
    from authz.clock import Clock

STEP_NS: Final = 5_000_000_000
SETTLE_NS: Final = 60_000_000_000
_ANCHOR_EVERY_NS: Final = 1_000_000_000
_SLEW: Final = 2000
"""One part in 2000 is the fastest that adjtime slews a clock; slower than this is a correction, not a step."""


class _Anchor(NamedTuple):
    """A moment at which both clocks were read and believed."""

    wall: int
    monotonic: int

    def floor(self, monotonic: int) -> int:
        """The earliest wall time that an honest clock can show at `monotonic`."""
        elapsed = monotonic - self.monotonic
        return self.wall + elapsed - elapsed // _SLEW

    def agrees(self, wall: int, monotonic: int) -> bool:
        """Whether no step lies between this moment and that one."""
        elapsed = monotonic - self.monotonic
        return abs(wall - self.wall - elapsed) <= STEP_NS + elapsed // _SLEW


class ClockGuard:
    """`now_ns` for many threads; under a microsecond."""

    def __init__(self, clock: Clock) -> None:
        self._wall_ns, self._monotonic_ns = clock.unix_ns, clock.monotonic_ns
        self._lock = threading.Lock()
        self._anchor = _Anchor(self._wall_ns(), self._monotonic_ns())
        self._stepped: _Anchor | None = None
        # Offset between the clocks and how long it may be used unexamined; replaced whole, so read without a lock.
        self._fast = (0, 0)
        self.steps = 0
        """Steps seen so far; a metric."""

    def now_ns(self) -> int:
        """Unix time in nanoseconds, never earlier than the monotonic clock allows.

        Raises:
            UnavailableError: `CLOCK_STEP`.
        """
        offset, until = self._fast
        wall, monotonic = self._wall_ns(), self._monotonic_ns()
        floor = monotonic + offset
        if monotonic < until and -STEP_NS <= wall - floor <= STEP_NS:
            return wall if wall > floor else floor  # noqa: FURB136 - `max` costs as much as the rest of this path
        with self._lock:
            return self._judge(wall, monotonic)

    def accept(self) -> None:
        """The operator vouches for the wall clock as it is now."""
        with self._lock:
            self._anchor, self._stepped = _Anchor(self._wall_ns(), self._monotonic_ns()), None

    def _judge(self, wall: int, monotonic: int) -> int:
        if self._has_settled(wall, monotonic):
            self._anchor = _Anchor(wall, monotonic)
        if not self._anchor.agrees(wall, monotonic):
            self._note_step(_Anchor(wall, monotonic))
            raise UnavailableError(CLOCK_STEP)
        now = max(wall, self._anchor.floor(monotonic))
        self._stepped = None
        # A thread that was held up since it read the clocks must not pull the anchor back.
        if monotonic > self._anchor.monotonic + _ANCHOR_EVERY_NS:
            self._anchor = _Anchor(now, monotonic)
        self._fast = (self._anchor.wall - self._anchor.monotonic, self._anchor.monotonic + _ANCHOR_EVERY_NS)
        return now

    def _has_settled(self, wall: int, monotonic: int) -> bool:
        """Whether a step forward was seen and both clocks have agreed on it for the settling time."""
        stepped = self._stepped
        if stepped is None or stepped.wall < self._anchor.floor(stepped.monotonic):
            return False
        return monotonic - stepped.monotonic >= SETTLE_NS and stepped.agrees(wall, monotonic)

    def _note_step(self, seen: _Anchor) -> None:
        if self._stepped is None or not self._stepped.agrees(*seen):
            self._stepped = seen
            self.steps += 1
