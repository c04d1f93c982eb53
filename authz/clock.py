"""Time and randomness as ports, so that every rule about them can be tested at its edges.

Decides nothing and must never be bypassed: no module below `cli/` calls `time` or `secrets` itself.
Trusts the operating system's clocks.
"""

from __future__ import annotations

import functools
import os
import time
from collections import deque
from datetime import UTC, datetime
from typing import Final, Protocol


class Clock(Protocol):
    """Wall time for claims and records, monotonic time for durations."""

    def unix_ns(self) -> int:
        """Nanoseconds since the epoch, UTC."""
        ...

    def monotonic_ns(self) -> int:
        """Nanoseconds on a clock that never steps back."""
        ...


class SystemClock:
    """The machine's own clocks."""

    unix_ns = staticmethod(time.time_ns)
    monotonic_ns = staticmethod(time.perf_counter_ns)


def random_hex() -> str:
    """128 random bits, each drawn once, as 32 hexadecimal digits.

    Drawn in batches: each call of the operating system hands the interpreter's lock to another thread, which
    costs a decision more than all its arithmetic.
    """
    try:
        return _ENTROPY.pop()
    except IndexError:
        drawn = os.urandom(16 * _BATCH).hex()
        _ENTROPY.extend(drawn[start : start + 32] for start in range(32, len(drawn), 32))
        return drawn[:32]


_BATCH: Final = 256
_ENTROPY: Final[deque[str]] = deque()  # its ends are atomic: no number is handed out twice


def random_id() -> str:
    """128 random bits as a lower-case UUID-shaped string: decision ids, as OPA writes them."""
    text = random_hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def rfc3339(unix_ns: int) -> str:
    """UTC with nanoseconds (RFC 3339 §5.6), which `datetime` alone would round away."""
    seconds, nanoseconds = divmod(unix_ns, 1_000_000_000)
    return f"{_second(seconds)}.{nanoseconds:09d}Z"


@functools.lru_cache(maxsize=4)  # thousands of decisions share a second
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()[:19]
