"""What may be shown once: proofs that were seen, for as long as they could be shown again.

Decides nothing but whether something is new. Must never forget what could still be replayed: where there is no more
room, everything is refused until the oldest expire, so a flood of proofs ends in denials and not in a replay. The bound
is in entries, of some hundred bytes each. Thread-safe; trusts its caller for the time. One process's memory: another
sidecar, or this one after a restart, has seen nothing (docs/callers.md).
"""

from __future__ import annotations

import threading
from typing import Final

MAX_ENTRIES: Final = 250_000
_SPAN_S: Final = 16
"""Entries are forgotten by spans of time, whole; some of them so much later than they could be."""


class Replay:
    """A bounded memory of digests, each with the time (Unix seconds) until which it counts."""

    def __init__(self, max_entries: int = MAX_ENTRIES) -> None:
        self._max_entries = max_entries
        self._lock = threading.Lock()
        self._spans: dict[int, set[bytes]] = {}
        self._held = 0

    def is_new(self, digest: bytes, until_s: float, now_s: float) -> bool:
        """Remember `digest`. False where it was seen before, or where there is no room to remember it."""
        with self._lock:
            self._forget(now_s)
            seen = self._spans.setdefault(int(until_s) // _SPAN_S, set())
            if digest in seen or self._held >= self._max_entries:
                return False
            seen.add(digest)
            self._held += 1
            return True

    def _forget(self, now_s: float) -> None:
        current = int(now_s) // _SPAN_S
        for span in [span for span in self._spans if span < current]:
            self._held -= len(self._spans.pop(span))
