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
from typing import TYPE_CHECKING, Final

from authz.errors import UnavailableError
from authz.reasons import CLOCK_STEP

if TYPE_CHECKING:
    from authz.clock import Clock

STEP_NS: Final = 5_000_000_000
SETTLE_NS: Final = 60_000_000_000
_ANCHOR_EVERY_NS: Final = 1_000_000_000
_SLEW: Final = 2000
"""One part in 2000 is the fastest that adjtime slews a clock; slower than this is a correction, not a step."""


class ClockGuard:
    """`now_ns` for many threads. Cheap: two clock reads and one comparison."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._anchor = (clock.unix_ns(), clock.monotonic_ns())
        self._stepped: tuple[int, int] | None = None
        self.steps = 0
        """Steps seen so far; a metric."""

    def now_ns(self) -> int:
        """Unix time in nanoseconds, never earlier than the monotonic clock allows.

        Raises:
            UnavailableError: `CLOCK_STEP`.
        """
        wall, monotonic = self._clock.unix_ns(), self._clock.monotonic_ns()
        anchored = self._anchor
        elapsed = monotonic - anchored[1]
        floor = _floor(anchored, monotonic)
        if elapsed < _ANCHOR_EVERY_NS and abs(wall - floor) <= STEP_NS and self._stepped is None:
            return max(wall, floor)
        with self._lock:
            return self._judge(wall, monotonic)

    def accept(self) -> None:
        """The operator vouches for the wall clock as it is now."""
        with self._lock:
            self._anchor, self._stepped = (self._clock.unix_ns(), self._clock.monotonic_ns()), None

    def _judge(self, wall: int, monotonic: int) -> int:
        if self._settled(wall, monotonic):
            self._anchor = (wall, monotonic)
        floor = _floor(self._anchor, monotonic)
        if abs(wall - floor) > STEP_NS:
            self._note_step(wall, monotonic)
            raise UnavailableError(CLOCK_STEP)
        now = max(wall, floor)
        self._stepped = None
        # A thread that was held up since it read the clocks must not pull the anchor back.
        if monotonic > self._anchor[1]:
            self._anchor = (now, monotonic)
        return now

    def _settled(self, wall: int, monotonic: int) -> bool:
        """Whether a step forward was seen and both clocks have agreed on it for the settling time."""
        stepped = self._stepped
        if stepped is None or stepped[0] < _floor(self._anchor, stepped[1]):
            return False
        return monotonic - stepped[1] >= SETTLE_NS and abs(wall - _floor(stepped, monotonic)) <= STEP_NS

    def _note_step(self, wall: int, monotonic: int) -> None:
        stepped = self._stepped
        if stepped is None or abs(wall - _floor(stepped, monotonic)) > STEP_NS:
            self._stepped = (wall, monotonic)
            self.steps += 1


def _floor(anchor: tuple[int, int], monotonic: int) -> int:
    """The earliest wall time that an honest clock can show at `monotonic`."""
    elapsed = monotonic - anchor[1]
    return anchor[0] + elapsed - elapsed // _SLEW
