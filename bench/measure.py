"""Two measurements of one running program: as fast as it can, and at a stated rate.

Decides nothing about good or bad. CPU time is the program's own, user and system, of all its threads, read from its
process clock before and after; what the load generator spends is not in it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.load import Answered, Load
    from bench.programs import Running

IN_FLIGHT: Final = 16
RATE: Final = 1000.0
"""Calls a second."""
RATE_IN_FLIGHT: Final = 64
"""Callers that keep the rate: so many that a slow answer does not slow the next call down."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What one program did in one round, or the median of several rounds."""

    cpu_us: float
    """CPU per decision at full load, microseconds."""
    per_second: float
    """Decisions per second at full load."""
    cpu_at_rate_us: float
    """CPU per decision at the stated rate: fewer calls share a wake-up, a batch and a sync."""
    p50_ms: float
    p99_ms: float
    p999_ms: float
    """Latency at the stated rate."""
    errors: int


def measured(load: Load, target: Running, seconds: float) -> Figures:
    """One round, each of its two measurements for `seconds`."""
    full, full_cpu_us = _met(load, target, seconds, IN_FLIGHT, 0)
    timed, timed_cpu_us = _met(load, target, seconds, RATE_IN_FLIGHT, RATE)
    return Figures(
        cpu_us=full_cpu_us / full.calls,
        per_second=full.per_second,
        cpu_at_rate_us=timed_cpu_us / timed.calls,
        p50_ms=timed.p50_ms,
        p99_ms=timed.p99_ms,
        p999_ms=timed.p999_ms,
        errors=full.errors + timed.errors,
    )


def warm_up(load: Load, target: Running, seconds: float) -> None:
    """Load without measuring: caches fill, heaps grow, code specialises."""
    _met(load, target, seconds, IN_FLIGHT, 0)


def _met(load: Load, target: Running, seconds: float, in_flight: int, rate: float) -> tuple[Answered, float]:
    before = cpu_us(target.pid)
    met = load.run([target.address], seconds=seconds, in_flight=in_flight, rate=rate)
    return met, cpu_us(target.pid) - before


def cpu_us(pid: int) -> float:
    """CPU time of a process so far, its ended threads included (Linux; clock_getcpuclockid(3))."""
    return time.clock_gettime_ns(~pid << 3 | 2) / 1000


def medians(rounds: Sequence[Figures]) -> Figures:
    """Each figure's median; errors are added up."""
    fields = [name for name in Figures.__slots__ if name != "errors"]
    middle = {name: median(getattr(figures, name) for figures in rounds) for name in fields}
    return Figures(**middle, errors=sum(figures.errors for figures in rounds))
