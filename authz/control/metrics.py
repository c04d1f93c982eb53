"""What the control plane counts of calls. Labels are methods of the permission table and codes of the catalogue."""

from __future__ import annotations

import threading
from collections import Counter
from typing import TYPE_CHECKING

from authz.telemetry import names
from authz.telemetry.metrics import Reading, Registry

if TYPE_CHECKING:
    from collections.abc import Iterable


class ControlMetrics(Registry):
    """The control plane's registry; its parts add their own sources."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._calls: Counter[tuple[str, str]] = Counter()
        self.add_source(self._readings)

    def observe(self, method: str, outcome: str) -> None:
        """Count one call."""
        with self._lock:
            self._calls[method.rpartition(".")[2], outcome] += 1

    def _readings(self) -> Iterable[Reading]:
        with self._lock:
            calls = dict(self._calls)
        return [Reading(names.CONTROL_CALLS, count, labels) for labels, count in calls.items()]
