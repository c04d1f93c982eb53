from __future__ import annotations

import stat
from dataclasses import replace
from typing import TYPE_CHECKING

import orjson
from google.protobuf.json_format import Parse
from opentelemetry.proto.trace.v1.trace_pb2 import TracesData
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.export import SpanExportResult

from authz.model import Status
from authz.telemetry.spans import observation, span
from authz.telemetry.trace_file import TraceFile, otlp
from tests.decisions import CALL, CHECK, MASKER, PARENT_ID, SPAN_ID, TRACE_ID, decision

if TYPE_CHECKING:
    from pathlib import Path

    from opentelemetry.sdk.trace import ReadableSpan

    from authz.model import Decision

RESOURCE = Resource({"service.name": "authz", "process.pid": 7, "ratio": 0.5, "on": True})


def built(made: Decision) -> ReadableSpan:
    return span(observation(CHECK, made), RESOURCE, MASKER.text)


def test_each_span_is_a_line_of_traces_data(tmp_path: Path) -> None:
    path = tmp_path / "traces.jsonl"
    linked = decision(Status.ERROR, call=replace(CALL, traceparent=f"00-{'a' * 32}-{'b' * 16}-01"))
    assert TraceFile(path).export([built(decision()), built(linked)]) is SpanExportResult.SUCCESS
    first, second = (orjson.loads(line) for line in path.read_bytes().splitlines())
    written = first["resourceSpans"][0]["scopeSpans"][0]["spans"][0]
    assert (written["traceId"], written["spanId"], written["parentSpanId"]) == (TRACE_ID, SPAN_ID, PARENT_ID)
    assert written["status"] == {"code": 0}
    failed = second["resourceSpans"][0]["scopeSpans"][0]["spans"][0]
    assert failed["status"] == {"code": 2, "message": "granted"}
    assert failed["links"] == [{"traceId": "a" * 32, "spanId": "b" * 16}]


def test_a_line_reads_as_otlp() -> None:
    document = otlp(built(decision()))
    # protobuf's own JSON wants ids in base64, OTLP's in hex: leave them to the test above.
    encoded = document["resourceSpans"][0]["scopeSpans"][0]["spans"][0]
    for name in ("traceId", "spanId", "parentSpanId"):
        del encoded[name]
    read = Parse(orjson.dumps(document), TracesData())
    attributes = {pair.key: pair.value for pair in read.resource_spans[0].resource.attributes}
    assert attributes["service.name"].string_value == "authz"
    assert attributes["process.pid"].int_value == 7
    assert attributes["ratio"].double_value == 0.5
    assert attributes["on"].bool_value is True
    parsed = read.resource_spans[0].scope_spans[0].spans[0]
    assert parsed.end_time_unix_nano - parsed.start_time_unix_nano == 75_000
    rules = next(pair.value for pair in parsed.attributes if pair.key == "authz.rules")
    assert [value.string_value for value in rules.array_value.values] == ["grants.payments"]


def test_the_file_is_the_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "traces.jsonl"
    TraceFile(path).export([built(decision())])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_file_never_grows_without_bound(tmp_path: Path) -> None:
    path = tmp_path / "traces.jsonl"
    line = len(orjson.dumps(otlp(built(decision())))) + 1
    file = TraceFile(path, largest_bytes=3 * line)
    for _ in range(20):
        assert file.export([built(decision())]) is SpanExportResult.SUCCESS
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["traces.jsonl", "traces.jsonl.1"]
    assert all(entry.stat().st_size <= 3 * line for entry in tmp_path.iterdir())


def test_a_span_larger_than_the_bound_is_written_alone(tmp_path: Path) -> None:
    file = TraceFile(tmp_path / "traces.jsonl", largest_bytes=10)
    assert file.export([built(decision())]) is SpanExportResult.SUCCESS
    assert file.export([built(decision())]) is SpanExportResult.SUCCESS


def test_a_file_that_cannot_be_written_costs_spans_only(tmp_path: Path) -> None:
    assert TraceFile(tmp_path / "missing" / "traces").export([built(decision())]) is SpanExportResult.FAILURE
