from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from authz.telemetry import names, pipeline
from authz.telemetry.pipeline import QUEUE_SPANS, SpanPipeline, otlp_exporter
from tests.decisions import CHECK, MASKER, PARENT_ID, SPAN_ID, TRACE_ID, decision

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pytest
    from opentelemetry.sdk.trace import ReadableSpan

FOREVER_S = 3600.0


class Kept(SpanExporter):
    """Keeps what it is given, once it is let through."""

    def __init__(self, result: SpanExportResult = SpanExportResult.SUCCESS) -> None:
        self.spans: list[ReadableSpan] = []
        self.result = result
        self.entered = threading.Event()
        self.gate = threading.Event()
        self.gate.set()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.entered.set()
        self.gate.wait(10)
        self.spans += spans
        return self.result


@contextmanager
def running(*exporters: SpanExporter, interval_s: float = FOREVER_S) -> Iterator[SpanPipeline]:
    spans = SpanPipeline(exporters, resource=Resource({}), mask=MASKER.text, interval_s=interval_s)
    spans.start()
    try:
        yield spans
    finally:
        spans.shutdown(5)


def counts(spans: SpanPipeline) -> dict[str, float]:
    return {"".join((reading.metric.name, *reading.labels)): reading.value for reading in spans.readings()}


@contextmanager
def collector(status: int = 200) -> Iterator[tuple[str, list[ExportTraceServiceRequest]]]:
    """An OTLP/HTTP receiver on loopback."""
    received: list[ExportTraceServiceRequest] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.path == "/v1/traces" and status == 200:
                received.append(ExportTraceServiceRequest.FromString(body))
            self.send_response(status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    server = HTTPServer(("127.0.0.1", 0), Receiver)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/", received
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_decision_reaches_a_collector() -> None:
    with collector() as (endpoint, received), running(otlp_exporter(endpoint)) as spans:
        spans.observe(CHECK, decision())
        assert spans.flush(10)
        assert counts(spans)["authz_spans_exported"] == 1
    (request,) = received
    exported = request.resource_spans[0].scope_spans[0].spans[0]
    assert exported.trace_id.hex() == TRACE_ID
    assert exported.span_id.hex() == SPAN_ID
    assert exported.parent_span_id.hex() == PARENT_ID
    assert exported.name == "tools/call transfer_payment"


def test_a_collector_that_refuses_costs_spans_that_are_counted() -> None:
    with collector(status=400) as (endpoint, _), running(otlp_exporter(endpoint)) as spans:
        spans.observe(CHECK, decision())
        assert spans.flush(10)
        assert counts(spans) == {
            "authz_spans_exported": 0,
            "authz_spans_droppedqueue": 0,
            "authz_spans_droppedexport": 1,
        }


def test_the_collector_is_also_found_by_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    with collector() as (endpoint, received):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
        with running(otlp_exporter()) as spans:
            spans.observe(CHECK, decision())
            assert spans.flush(10)
    assert len(received) == 1


def test_spans_go_out_without_a_flush() -> None:
    kept = Kept()
    with running(kept, interval_s=0.01) as spans:
        spans.observe(CHECK, decision())
        assert kept.entered.wait(10)


def test_every_exporter_gets_every_span() -> None:
    first, second = Kept(), Kept()
    with running(first, second) as spans:
        for _ in range(1200):
            spans.observe(CHECK, decision())
        assert spans.flush(10)
        assert counts(spans)["authz_spans_exported"] == 1200
    assert len(first.spans) == len(second.spans) == 1200


def test_one_failing_exporter_does_not_starve_another() -> None:
    failing, kept = Kept(SpanExportResult.FAILURE), Kept()
    with running(failing, kept) as spans:
        spans.observe(CHECK, decision())
        assert spans.flush(10)
        assert counts(spans)["authz_spans_droppedexport"] == 1
    assert len(kept.spans) == 1


def test_a_stuck_exporter_drops_and_counts_and_never_blocks() -> None:
    stuck = Kept()
    stuck.gate.clear()
    with running(stuck, interval_s=0.01) as spans:
        spans.observe(CHECK, decision())
        assert stuck.entered.wait(10)
        for _ in range(QUEUE_SPANS + 5):
            spans.observe(CHECK, decision())
        assert counts(spans)["authz_spans_droppedqueue"] == 5
        assert not spans.flush(0.01)
        stuck.gate.set()
        assert spans.flush(10)
        assert counts(spans)["authz_spans_exported"] == QUEUE_SPANS + 1


def test_shutdown_is_bounded_and_counts_what_is_left() -> None:
    stuck = Kept()
    stuck.gate.clear()
    spans = SpanPipeline([stuck], resource=Resource({}), mask=MASKER.text, interval_s=0.01)
    spans.start()
    spans.observe(CHECK, decision())
    assert stuck.entered.wait(10)
    for _ in range(3):
        spans.observe(CHECK, decision())
    spans.shutdown(0.01)
    assert counts(spans)["authz_spans_droppedexport"] == 3
    stuck.gate.set()


def test_shutdown_exports_what_is_queued() -> None:
    kept = Kept()
    with running(kept) as spans:
        spans.observe(CHECK, decision())
    assert len(kept.spans) == 1


def test_unsampled_decisions_are_neither_exported_nor_dropped() -> None:
    check = replace(CHECK, headers={"traceparent": f"00-{TRACE_ID}-{PARENT_ID}-00"})
    kept = Kept()
    with running(kept) as spans:
        spans.observe(check, decision())
        assert spans.flush(10)
        assert set(counts(spans).values()) == {0}
    assert not kept.spans


def test_readings_are_in_the_table_and_the_resource_names_the_service() -> None:
    with running(Kept()) as spans:
        assert {reading.metric for reading in spans.readings()} == {names.SPANS_EXPORTED, names.SPANS_DROPPED}
    attributes = pipeline.resource("authz", "sidecar-1").attributes
    assert (attributes["service.name"], attributes["service.instance.id"]) == ("authz", "sidecar-1")
    assert not any(name.startswith("process.command") for name in attributes)
