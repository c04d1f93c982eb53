"""The way of spans off the path: a bounded queue, and one thread that builds and exports them.

Decides what is given up when spans come faster than they can be exported: the newest, counted. Must never block or fail
a decision, and never keep more than `QUEUE_SPANS` of them; a collector that is down costs spans and nothing else.

Trusts exporters to end in their own timeout. Spans are no evidence: records are (`authz/audit/`).
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from typing import TYPE_CHECKING, Final

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.export import SpanExportResult

from authz import __version__
from authz.telemetry import names
from authz.telemetry.metrics import Reading
from authz.telemetry.spans import Observation, observation, span, wanted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from opentelemetry.sdk.trace.export import SpanExporter

    from authz.model import Check, Decision

QUEUE_SPANS: Final = 8192
BATCH_SPANS: Final = 512
INTERVAL_S: Final = 0.5
"""Longest time that a span waits before it is exported."""
EXPORT_S: Final = 5.0
"""Longest try to reach a collector with one batch, retries included."""

_log = logging.getLogger(__name__)


def otlp_exporter(endpoint: str = "") -> OTLPSpanExporter:
    """Exports to `endpoint`, an OTLP/HTTP base URL; without one, to what the `OTEL_EXPORTER_OTLP_*` variables name."""
    url = f"{endpoint.removesuffix('/')}/v1/traces" if endpoint else None
    return OTLPSpanExporter(endpoint=url, timeout=EXPORT_S)


def resource(service_name: str, instance: str) -> Resource:
    """Who exports; `OTEL_RESOURCE_ATTRIBUTES` adds to it."""
    attributes = {"service.name": service_name, "service.version": __version__, "service.instance.id": instance}
    return Resource.create(attributes)


class SpanPipeline:
    """Exports a span for each observed decision. Start it once; `shutdown` ends it.

    Args:
        exporters: where spans go; each gets every span.
        resource: who exports.
        mask: replaces the secrets in a text that others chose, such as a tool's name.
        interval_s: longest time that a span waits.
    """

    def __init__(
        self,
        exporters: Sequence[SpanExporter],
        *,
        resource: Resource,
        mask: Callable[[str], str],
        interval_s: float = INTERVAL_S,
    ) -> None:
        self._exporters = tuple(exporters)
        self._resource = resource
        self._mask = mask
        self._interval_s = interval_s
        self._queue: deque[Observation | threading.Event] = deque()
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._exported = 0
        self._dropped = {"queue": 0, "export": 0}
        self._thread = threading.Thread(target=self._run, name="authz-spans", daemon=True)

    def start(self) -> None:
        """Begin to export."""
        self._thread.start()

    def observe(self, check: Check, decision: Decision) -> None:
        """Queue a decision's span. Safe on many threads; never blocks."""
        # The bound may be passed by as many spans as there are threads here at once, which is no matter.
        if len(self._queue) >= QUEUE_SPANS:
            self._drop("queue", 1)
            return
        self._queue.append(observation(check, decision))

    def flush(self, timeout_s: float) -> bool:
        """Export what is queued now. False when that took longer than `timeout_s`."""
        done = threading.Event()
        self._queue.append(done)
        self._wake.set()
        return done.wait(timeout_s)

    def shutdown(self, timeout_s: float) -> None:
        """Export what is queued, for at most about `timeout_s`; count the rest as dropped."""
        self.flush(timeout_s)
        self._stopping.set()
        self._wake.set()
        for exporter in self._exporters:
            exporter.shutdown()  # also ends a wait for the next try
        self._thread.join(timeout_s)
        self._drop("export", sum(isinstance(item, Observation) for item in tuple(self._queue)))

    def readings(self) -> list[Reading]:
        """Spans exported and dropped: a source of `Metrics`."""
        with self._lock:
            dropped = [Reading(names.SPANS_DROPPED, count, (cause,)) for cause, count in self._dropped.items()]
            return [Reading(names.SPANS_EXPORTED, self._exported), *dropped]

    def _drop(self, cause: str, count: int) -> None:
        with self._lock:
            if not self._dropped[cause] and count:
                _log.warning("spans are dropped", extra={"cause": cause})
            self._dropped[cause] += count

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._wake.wait(self._interval_s)
            self._wake.clear()
            while not self._stopping.is_set() and (batch := self._take()):
                self._export([item for item in batch if isinstance(item, Observation) and wanted(item)])
                for item in batch:
                    if isinstance(item, threading.Event):
                        item.set()

    def _take(self) -> list[Observation | threading.Event]:
        # Only this thread removes, so what was counted is there.
        return [self._queue.popleft() for _ in range(min(len(self._queue), BATCH_SPANS))]

    def _export(self, observed: list[Observation]) -> None:
        if not observed:
            return
        spans = [span(seen, self._resource, self._mask) for seen in observed]
        results = [exporter.export(spans) for exporter in self._exporters]
        if all(result is SpanExportResult.SUCCESS for result in results):
            with self._lock:
                self._exported += len(spans)
        else:
            self._drop("export", len(spans))
