"""ext_proc lets nothing through by default: every body is judged, redacted or refused, and every refusal recorded."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import orjson
import pytest

from authz.model import Phase, Status
from authz.reasons import SYS_DEADLINE
from tests.desk import (
    ALLOW,
    BODY,
    CARD,
    EVENTS,
    JSON,
    RESULT,
    SECRET,
    Desk,
    headers_then_body,
    only,
    parsed,
    refused,
    sanitizing,
)

if TYPE_CHECKING:
    from authz.edge.ext_proc import Stream
    from tests.fakes import Json

# The request leg


def test_the_body_is_redacted_and_its_headers_follow() -> None:
    desk = sanitizing()
    common = only(headers_then_body(desk)).request_body.response
    assert SECRET.encode() not in common.body_mutation.body
    assert json.loads(common.body_mutation.body)["params"]["arguments"] == {"path": "/docs/a", "note": "card [CARD]"}
    changed = {option.header.key: option.header.raw_value for option in common.header_mutation.set_headers}
    assert changed == {"content-length": str(len(common.body_mutation.body)).encode()}
    assert "content-digest" in common.header_mutation.remove_headers


def test_mirrored_headers_say_what_the_redacted_body_says() -> None:
    desk = sanitizing()
    call = replace(desk.exchange.call, mirrors={"mcp-param-note": "/note"})
    decision = replace(desk.exchange.decision, id="mirrored")
    desk.exchanges.put(replace(desk.exchange, call=call, decision=decision))
    stream = desk.open("request")
    stream.message(desk.message("request_headers", decision_id="mirrored"))
    outcome = stream.message(desk.message("request_body", {"body": BODY}, decision_id="mirrored"))
    options = only(outcome).request_body.response.header_mutation.set_headers
    assert b"card [CARD]" in {option.header.raw_value for option in options}


def test_a_redaction_that_succeeds_adds_no_record() -> None:
    desk = sanitizing()
    assert headers_then_body(desk).judged == ()
    assert [record.status for record in desk.records] == [Status.SANITIZED]


def test_b9_a_body_that_changed_after_it_was_judged_is_refused() -> None:
    desk = sanitizing()
    assert refused(headers_then_body(desk, BODY.replace(b"docs", b"dogs"))) == (403, "BODY_CHANGED")
    assert [record.reason for record in desk.records] == ["sanitize", "BODY_CHANGED"]


@pytest.mark.parametrize(
    "plan",
    [
        [{"path": "/absent", "replacement": "x"}],
        [{"path": "/note", "replacement": "x", "pattern": "("}],
    ],
)
def test_b1_a_redaction_that_fails_ends_the_request(plan: list[Json]) -> None:
    desk = Desk(call={"effect": "sanitize", "redactions": plan})
    outcome = headers_then_body(desk)
    assert refused(outcome) == (502, "REDACT_FAILED")
    assert [answered.decision.status for answered in outcome.judged] == [Status.ERROR]
    assert SECRET.encode() not in b"".join(outcome.answers)


def test_b1_a_bug_ends_the_request() -> None:
    desk = sanitizing()
    unforeseen = replace(desk.exchange.call, body_sha256=None)  # type: ignore[arg-type]  # what no type allows
    desk.exchanges.put(replace(desk.exchange, call=unforeseen))
    assert refused(headers_then_body(desk))[1] == "SYS_INTERNAL"


def test_a_plan_serves_one_body() -> None:
    desk = sanitizing()
    assert not headers_then_body(desk).judged
    assert refused(desk.open("request").message(desk.message("request_headers"))) == (502, "REDACT_FAILED")


@pytest.mark.parametrize("leg", ["request", "duplex"])
def test_an_unknown_decision_is_refused_and_recorded(leg: str) -> None:
    desk = sanitizing()
    side = "request_headers" if leg == "request" else "response_headers"
    assert refused(desk.open(leg).message(desk.message(side, decision_id="another"))) == (502, "REDACT_FAILED")
    assert desk.records[-1].reason == "REDACT_FAILED"


@pytest.mark.parametrize(
    ("leg", "sides"),
    [
        ("request", ["request_body"]),
        ("request", ["response_headers"]),
        ("request", ["request_trailers"]),
        ("request", ["request_headers", "request_headers"]),
        ("request", ["request_headers", "request_trailers"]),
        ("duplex", ["response_body"]),
        ("duplex", ["response_trailers"]),
        ("duplex", ["request_headers"]),
        ("duplex", ["response_headers", "response_headers"]),
    ],
)
def test_b3_a_message_out_of_order_ends_the_request(leg: str, sides: list[str]) -> None:
    desk = sanitizing()
    stream = desk.open(leg)
    *_, last = [stream.message(desk.message(side)) for side in sides]
    assert refused(last)[1] == "REDACT_FAILED"


def test_b3_a_request_without_a_body_has_nothing_to_redact_and_ends() -> None:
    desk = sanitizing()
    outcome = desk.open("request").message(desk.headers("request_headers", {}, end=True))
    assert refused(outcome)[1] == "REDACT_FAILED"


def answer_that_is_over(desk: Desk, how: str) -> Stream:
    """A stream of the tool's answer, at its end."""
    stream = desk.open("duplex")
    if how == "headers":
        stream.message(desk.headers("response_headers", JSON, end=True))
    elif how == "trailers":
        desk.respond(stream, EVENTS)
        stream.message(desk.message("response_trailers"))
    elif how == "refused":
        desk.respond(stream, {**JSON, "content-encoding": "gzip"})
    else:
        desk.respond(stream, EVENTS if how == "events" else JSON, orjson.dumps(RESULT))
    return stream


@pytest.mark.parametrize("side", ["response_headers", "response_body", "response_trailers"])
@pytest.mark.parametrize("how", ["headers", "body", "events", "trailers", "refused"])
def test_b3_nothing_follows_an_answer_that_is_over(how: str, side: str) -> None:
    desk = Desk(result=ALLOW)
    late = answer_that_is_over(desk, how).message(desk.message(side, {"body": b"late"} if "body" in side else {}))
    assert refused(late)[1] == "REDACT_FAILED"
    assert late.judged[0].decision is desk.records[-1]


def test_b3_one_plan_serves_one_body() -> None:
    desk = sanitizing()
    stream = desk.open("request")
    body = desk.message("request_body", {"body": BODY, "end_of_stream": True})
    stream.message(desk.headers("request_headers", {":method": "POST"}))
    assert stream.message(body).end
    assert refused(stream.message(body))[1] == "REDACT_FAILED"


@pytest.mark.parametrize("content_type", ["application/jsonx", "text/event-streamx", "application/json, text/html", ""])
def test_b4_a_type_that_only_begins_like_one_that_is_read_is_refused(content_type: str) -> None:
    desk = Desk(result=ALLOW)
    *_, outcome = desk.respond(desk.open("duplex"), {**JSON, "content-type": content_type}, orjson.dumps(RESULT))
    assert refused(outcome)[1] == "REDACT_FAILED"


@pytest.mark.parametrize(
    "result", [ALLOW, {"effect": "sanitize", "redactions": [{"path": "", "pattern": CARD, "replacement": "x"}]}]
)
def test_b6_headers_that_describe_the_body_go_when_it_changes(result: Json) -> None:
    desk = Desk(result=result)
    *_, outcome = desk.respond(desk.open("duplex"), {**JSON, "etag": "e"}, orjson.dumps(RESULT))
    removed = parsed(outcome)[0].response_headers.response.header_mutation.remove_headers
    assert ("etag" in removed) is (result is not ALLOW)


def test_b7_a_body_that_is_refused_at_its_trailers_ends_there() -> None:
    desk = Desk(result={"effect": "deny", "reason": "closed"})
    stream = desk.open("duplex")
    stream.message(desk.headers("response_headers", JSON))
    stream.message(desk.message("response_body", {"body": orjson.dumps(RESULT)}))
    assert refused(stream.message(desk.message("response_trailers")))[1] == "closed"


@pytest.mark.parametrize("raw", [b"\xff\xff", b"\x0a"])
def test_a21_bytes_that_are_no_message_end_the_stream(raw: bytes) -> None:
    assert refused(sanitizing().open("request").message(raw))[1] == "SYS_CALLER"


@pytest.mark.parametrize("metadata", [{}, {"x-leg": "both"}])
def test_a21_a_stream_that_names_no_leg_is_refused(metadata: dict[str, str]) -> None:
    desk = sanitizing()
    assert refused(desk.ext_proc.open(metadata).message(desk.message("request_headers")))[1] == "SYS_CALLER"


def test_a18_observability_mode_is_never_answered_and_leaves_the_plan_open() -> None:
    desk = sanitizing()
    outcome = desk.open("request").message(desk.message("request_headers", is_observed=True))
    assert outcome.answers == ()
    desk.bench.clock.advance(1.0)
    assert desk.exchanges.take_overdue() == [desk.exchange]


def test_a_refusal_from_outside_ends_the_stream_with_its_own_reason() -> None:
    desk = sanitizing()
    stream = desk.open("request")
    assert refused(stream.refuse(SYS_DEADLINE))[1] == "SYS_DEADLINE"
    stream = desk.open("duplex")
    stream.message(desk.headers("response_headers", JSON))
    assert refused(stream.refuse(SYS_DEADLINE))[1] == "SYS_DEADLINE"
    assert [record.phase for record in desk.records] == [Phase.CALL, Phase.CALL, Phase.RESULT]
