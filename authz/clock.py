"""Time and randomness as ports, so that every rule about them can be tested at its edges.

Decides nothing and must never be bypassed: no module below `cli/` calls `time` or `secrets` itself.
Trusts the operating system's clocks.
"""

from __future__ import annotations

import secrets
import time
from typing import Protocol


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


def random_id() -> str:
    """128 random bits as a lower-case UUID-shaped string: decision ids, as OPA writes them."""
    text = secrets.token_hex(16)
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
