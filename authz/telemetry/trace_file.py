"""Spans in a file: OTLP/JSON lines, for a machine without a collector.

Decides how a span reads as OTLP/JSON and when the file is begun anew. Must never grow without bound and never be
readable by other users. Trusts the folder it is given.

Source: OTLP 1.x JSON mapping (ids in hex, enums as numbers, 64-bit integers as strings); one `TracesData` a line, as
OpenTelemetry's file exporter specification says.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any, Final

import orjson
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import SpanKind, StatusCode

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.trace import SpanContext

MEBIBYTE: Final = 1024 * 1024
SPAN_FLAGS_HAS_IS_REMOTE: Final = 0x100
SPAN_FLAGS_IS_REMOTE: Final = 0x200
_KINDS: Final = {
    SpanKind.INTERNAL: 1, SpanKind.SERVER: 2, SpanKind.CLIENT: 3, SpanKind.PRODUCER: 4, SpanKind.CONSUMER: 5,
}  # fmt: skip
_STATUS_CODES: Final = {StatusCode.UNSET: 0, StatusCode.OK: 1, StatusCode.ERROR: 2}


class TraceFile(SpanExporter):
    """Appends one line for each span; keeps one older file beside it, named with `.1` at its end.

    Args:
        path: the file; its folder exists.
        largest_bytes: size past which a new file is begun, so that at most twice as much is kept.
    """

    def __init__(self, path: Path, *, largest_bytes: int = 64 * MEBIBYTE) -> None:
        self._path = path
        self._largest_bytes = largest_bytes
        self._lock = threading.Lock()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Append the spans; FAILURE when the disk takes none."""
        lines = b"".join(orjson.dumps(otlp(span)) + b"\n" for span in spans)
        try:
            with self._lock:
                self._append(lines)
        except OSError:
            # A full disk costs spans, never decisions; the pipeline counts them as dropped.
            return SpanExportResult.FAILURE
        return SpanExportResult.SUCCESS

    def _append(self, lines: bytes) -> None:
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with open(descriptor, "ab", buffering=0) as file:  # noqa: PTH123 - opened above, for its mode
            if file.tell() + len(lines) <= self._largest_bytes or file.tell() == 0:
                file.write(lines)
                return
        self._path.replace(self._path.with_name(self._path.name + ".1"))
        self._append(lines)


def otlp(span: ReadableSpan) -> dict[str, Any]:
    """One span as OTLP/JSON `TracesData`."""
    scope = span.instrumentation_scope
    scope_spans = {
        "scope": {"name": scope.name, "version": scope.version or ""} if scope else {},
        "spans": [_span(span)],
    }
    resource = {"attributes": _attributes(span.resource.attributes)}
    return {"resourceSpans": [{"resource": resource, "scopeSpans": [scope_spans]}]}


def _span(span: ReadableSpan) -> dict[str, Any]:
    remote = SPAN_FLAGS_IS_REMOTE if span.parent and span.parent.is_remote else 0
    encoded: dict[str, Any] = {
        **_ids(span.get_span_context()),
        "flags": SPAN_FLAGS_HAS_IS_REMOTE | remote,
        "name": span.name,
        "kind": _KINDS[span.kind],
        "startTimeUnixNano": str(span.start_time),
        "endTimeUnixNano": str(span.end_time),
        "attributes": _attributes(span.attributes or {}),
        "status": {"code": _STATUS_CODES[span.status.status_code]},
    }
    if span.parent:
        encoded["parentSpanId"] = f"{span.parent.span_id:016x}"
    if span.links:
        encoded["links"] = [_ids(link.context) for link in span.links]
    if span.status.description:
        encoded["status"]["message"] = span.status.description
    return encoded


def _ids(context: SpanContext | None) -> dict[str, str]:
    return {"traceId": f"{context.trace_id:032x}", "spanId": f"{context.span_id:016x}"} if context else {}


def _attributes(attributes: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"key": key, "value": _value(value)} for key, value in attributes.items()]


def _value(value: object) -> dict[str, Any]:
    match value:
        case str():
            return {"stringValue": value}
        case bool():
            return {"boolValue": value}
        case int():
            return {"intValue": str(value)}
        case float():
            return {"doubleValue": value}
        case list() | tuple():
            return {"arrayValue": {"values": [_value(item) for item in value]}}
        case _:
            return {"stringValue": str(value)}
