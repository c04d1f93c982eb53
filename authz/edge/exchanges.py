"""What ext_authz decided and ext_proc has yet to carry out, by decision id, in this process.

Decides how long an exchange may wait for its later phases, and which planned redactions never came. Must never
grow without bound: the oldest exchanges go first, and a phase whose exchange is gone fails closed. Must never let a
plan lapse in silence: one that no ext_proc stream asked for within a second means that the call went on unredacted.

Trusts `pdp.py` for the exchanges. Pure but for its lock; time comes from the clock it is given.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from authz.model import Effect

if TYPE_CHECKING:
    from authz.clock import Clock
    from authz.pdp import Exchange

MAX_EXCHANGES: Final = 10_000
MAX_BYTES: Final = 64 << 20
"""Of request bodies, which exchanges keep for the policy's second look."""
LIFETIME_NS: Final = 3600 * 1_000_000_000
"""A tool may think for long before it answers; Envoy's own stream idle timeout is as long."""
PLAN_NS: Final = 1_000_000_000
"""Envoy opens the sanitize stream at once after the decision; a second later nobody will."""


class Exchanges:
    """A bounded table. Thread-safe."""

    def __init__(self, clock: Clock, *, max_exchanges: int = MAX_EXCHANGES, max_bytes: int = MAX_BYTES) -> None:
        self._clock = clock
        self._max_exchanges = max_exchanges
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, tuple[int, Exchange]] = OrderedDict()
        self._bytes = 0
        self._plans: OrderedDict[str, tuple[int, Exchange]] = OrderedDict()

    def put(self, exchange: Exchange) -> None:
        """Keep it for its later phases, and note the redaction that must follow."""
        now = self._clock.monotonic_ns()
        key = exchange.decision.id
        with self._lock:
            self._forget(key)
            self._kept[key] = now, exchange
            self._bytes += _size(exchange)
            if exchange.decision.enforced is Effect.SANITIZE:
                self._plans[key] = now, exchange
            self._shrink(now)

    def find(self, decision_id: str) -> Exchange | None:
        """The exchange of a decision, or None: never kept, too old, or crowded out."""
        with self._lock:
            self._shrink(self._clock.monotonic_ns())
            found = self._kept.get(decision_id)
        return found[1] if found else None

    def take_plan(self, decision_id: str) -> Exchange | None:
        """The exchange whose redaction is carried out now; once, so that one plan serves one body."""
        with self._lock:
            planned = self._plans.pop(decision_id, None)
        return planned[1] if planned else None

    def take_overdue(self) -> list[Exchange]:
        """The exchanges whose redaction nobody asked for in time: SANITIZE_NOT_APPLIED."""
        before = self._clock.monotonic_ns() - PLAN_NS
        overdue = []
        with self._lock:
            while self._plans and next(iter(self._plans.values()))[0] <= before:
                overdue.append(self._plans.popitem(last=False)[1][1])
        return overdue

    def _shrink(self, now: int) -> None:
        while self._kept and self._is_over(now):
            self._forget(next(iter(self._kept)))

    def _forget(self, key: str) -> None:
        if found := self._kept.pop(key, None):
            self._bytes -= _size(found[1])

    def _is_over(self, now: int) -> bool:
        oldest, _ = next(iter(self._kept.values()))
        return len(self._kept) > self._max_exchanges or self._bytes > self._max_bytes or now - oldest > LIFETIME_NS


def _size(exchange: Exchange) -> int:
    return len(exchange.check.body or b"")
