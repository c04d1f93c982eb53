"""ext_proc lets nothing through by default: every body is judged, redacted or refused, and every refusal recorded."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from envoy.service.ext_proc.v3.external_processor_pb2 import ProcessingRequest, ProcessingResponse

from authz.config import Limits
from authz.edge.exchanges import Exchanges
from authz.edge.ext_proc import NAMESPACE, ExtProc
from authz.model import Check, Kind, Phase, Protocol, Status
from authz.reasons import SYS_DEADLINE
from tests.fakes import CALL, ROUTE, Bench, FakeClaim, FakeQuery

if TYPE_CHECKING:
    from authz.edge.ext_proc import Outcome, Stream
    from authz.model import Decision
    from authz.pdp import Exchange
    from tests.fakes import Json

SECRET = "4111 1111 1111 1111"
CARD = "[0-9]{4}( [0-9]{4}){3}"
ARGS: dict[str, Any] = {"path": "/docs/a", "note": f"card {SECRET}"}
BODY = orjson.dumps({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": "x", "arguments": ARGS}})
PLAN = [{"path": "/note", "replacement": "[CARD]", "pattern": CARD}]
BEHIND = Check(context={"authz.ext_proc": "true"}, body=BODY)
RESULT = {"jsonrpc": "2.0", "id": 7, "result": {"content": [{"type": "text", "text": SECRET}]}}
JSON = {":status": "200", "content-type": "application/json"}
EVENTS = {":status": "200", "content-type": "text/event-stream"}
MAX_BYTES = 4096
ALLOW: dict[str, Any] = {"effect": "allow"}


@dataclass
class PhaseQuery(FakeQuery):
    """Answers by phase; in phase `list` by the tool's name."""

    phases: dict[str, Json | Exception] = field(default_factory=dict)

    def evaluate(self, input_json: bytes, deadline_s: float) -> bytes | None:
        asked = orjson.loads(input_json)
        key = asked["tool"]["name"] if asked["phase"] == "list" else asked["phase"]
        self.answer = self.phases.get(key, {"effect": "deny", "reason": "no_rule"})
        return super().evaluate(input_json, deadline_s)


class Desk:
    """A decision point over fakes, with one check decided and its exchange kept."""

    def __init__(
        self, *, kind: Kind = Kind.CALL, protocol: Protocol = Protocol.MCP, **phases: Json | Exception
    ) -> None:
        self.bench = Bench()
        self.bench.policies.reads_results = kind is Kind.CALL
        self.bench.policies.query = PhaseQuery(phases={"call": ALLOW, **phases})
        tool = replace(CALL.tool, protocol=protocol)
        digest = hashlib.sha256(BODY).hexdigest()
        self.bench.front.what = replace(CALL, kind=kind, args=ARGS, tool=tool, body_sha256=digest)
        if protocol is Protocol.HTTP:
            self.bench.front.on = ROUTE.model_copy(update={"protocol": protocol})
        self.pdp = self.bench.pdp()
        self.exchanges = Exchanges(self.bench.clock)
        self.ext_proc = ExtProc(self.pdp, self.exchanges, Limits(max_body_bytes=MAX_BYTES))
        answered = self.pdp.decide(BEHIND, FakeClaim(), lambda *_: b"answer")
        assert answered.exchange is not None
        self.exchange: Exchange = answered.exchange
        self.exchanges.put(self.exchange)

    def open(self, leg: str) -> Stream:
        return self.ext_proc.open({"x-leg": leg})

    def message(self, side: str, content: object = None, *, decision_id: str = "", is_observed: bool = False) -> bytes:
        oneof: Any = {side: content or {}}
        request = ProcessingRequest(observability_mode=is_observed, **oneof)
        decided = {"decision_id": decision_id or self.exchange.decision.id}
        request.metadata_context.filter_metadata[NAMESPACE].update(decided)
        raw: bytes = request.SerializeToString()
        return raw

    def headers(self, side: str, headers: dict[str, str], *, end: bool = False) -> bytes:
        entries = [{"key": name, "raw_value": text.encode()} for name, text in headers.items()]
        return self.message(side, {"headers": {"headers": entries}, "end_of_stream": end})

    def respond(self, stream: Stream, headers: dict[str, str], *chunks: bytes) -> list[Outcome]:
        outcomes = [stream.message(self.headers("response_headers", headers))]
        for number, chunk in enumerate(chunks, 1):
            body = {"body": chunk, "end_of_stream": number == len(chunks)}
            outcomes.append(stream.message(self.message("response_body", body)))
        return outcomes

    @property
    def records(self) -> list[Decision]:
        return [decision for _, decision in self.bench.recorder.sealed]


def sanitizing() -> Desk:
    return Desk(call={"effect": "sanitize", "redactions": PLAN})


def parsed(outcome: Outcome) -> list[ProcessingResponse]:
    return [ProcessingResponse.FromString(answer) for answer in outcome.answers]


def only(outcome: Outcome) -> ProcessingResponse:
    (answer,) = parsed(outcome)
    return answer


def refused(outcome: Outcome) -> tuple[int, str]:
    """HTTP status and reason code of an ending."""
    answer = only(outcome)
    assert answer.WhichOneof("response") == "immediate_response"
    assert outcome.end
    body = json.loads(answer.immediate_response.body)
    return answer.immediate_response.status.code, body.get("code") or body["error"]["data"]["code"]


def shown(*outcomes: Outcome) -> bytes:
    """The response body that the caller gets."""
    answers = [answer for outcome in outcomes for answer in parsed(outcome)]
    assert not any(answer.HasField("immediate_response") for answer in answers)
    return b"".join(answer.response_body.response.body_mutation.streamed_response.body for answer in answers)


def headers_then_body(desk: Desk, body: bytes = BODY) -> Outcome:
    stream = desk.open("request")
    stream.message(desk.headers("request_headers", {":method": "POST"}))
    return stream.message(desk.message("request_body", {"body": body, "end_of_stream": True}))


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


# Lists


def listing(*names: str) -> bytes:
    return orjson.dumps({"jsonrpc": "2.0", "id": 7, "result": {"tools": [{"name": name} for name in names]}})


def names_in(body: bytes) -> list[str]:
    return [tool["name"] for tool in json.loads(body)["result"]["tools"]]


def test_a_list_shows_what_the_policy_allows_and_records_what_it_hid() -> None:
    desk = Desk(kind=Kind.LIST, read={"effect": "allow"}, write={"effect": "approval_needed"})
    head, last = desk.respond(desk.open("duplex"), JSON, listing("read", "delete", "write"))
    assert head.answers == ()
    assert names_in(shown(last)) == ["read", "write"]
    assert (desk.records[-1].phase, desk.records[-1].hidden) == (Phase.LIST, ("delete",))


def test_a_tool_that_cannot_be_judged_is_hidden() -> None:
    desk = Desk(kind=Kind.LIST, read={"effect": "allow"}, odd={"effect": "perhaps"})
    assert names_in(shown(*desk.respond(desk.open("duplex"), JSON, listing("read", "odd")))) == ["read"]


def test_a_list_in_an_event_stream_is_filtered_too() -> None:
    desk = Desk(kind=Kind.LIST, read={"effect": "allow"})
    event = b"event: message\ndata: " + listing("read", "delete") + b"\n\n"
    head, *rest = desk.respond(desk.open("duplex"), EVENTS, event[:30], event[30:], b"")
    assert only(head).HasField("response_headers")
    assert names_in(shown(*rest).partition(b"data: ")[2]) == ["read"]


def test_b7_a_list_behind_another_shape_is_refused() -> None:
    desk = Desk(kind=Kind.LIST, delete={"effect": "deny"})
    body = listing("delete").replace(b'"id":7', b'"id":7,"method":"notifications/x"')
    assert refused(desk.respond(desk.open("duplex"), JSON, body)[-1]) == (502, "REDACT_FAILED")


# Results


def redacting() -> Desk:
    return Desk(result={"effect": "sanitize", "redactions": [{"path": "", "replacement": "[X]", "pattern": CARD}]})


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_b2_a_result_is_redacted_however_it_is_cut(size: int) -> None:
    desk = redacting()
    body = orjson.dumps(RESULT)
    chunks = [body[start : start + size] for start in range(0, len(body), size)]
    text = shown(*desk.respond(desk.open("duplex"), JSON, *chunks))
    assert json.loads(text)["result"]["content"] == [{"type": "text", "text": "[X]"}]
    assert [record.status for record in desk.records] == [Status.ALLOWED, Status.SANITIZED]


def test_an_allowed_result_passes_byte_for_byte() -> None:
    body = orjson.dumps(RESULT) + b"  "
    desk = Desk(result={"effect": "allow"})
    assert shown(*desk.respond(desk.open("duplex"), JSON, body)) == body


def test_b7_errors_are_judged_like_results() -> None:
    desk = redacting()
    error = {"jsonrpc": "2.0", "id": 7, "error": {"code": -1, "message": "no", "data": {"card": SECRET}}}
    assert SECRET.encode() not in shown(*desk.respond(desk.open("duplex"), JSON, orjson.dumps(error)))


def test_a_denied_result_becomes_an_error_that_names_the_policy_s_reason() -> None:
    desk = Desk(result={"effect": "deny", "reason": "leaks"})
    outcome = desk.respond(desk.open("duplex"), JSON, orjson.dumps(RESULT))[-1]
    assert refused(outcome) == (200, "leaks")
    body = json.loads(only(outcome).immediate_response.body)
    assert (body["id"], body["error"]["code"]) == (7, 4030)


def test_a_result_whose_policy_fails_is_refused() -> None:
    desk = Desk(result={"effect": "perhaps"})
    outcome = desk.respond(desk.open("duplex"), JSON, orjson.dumps(RESULT))[-1]
    assert refused(outcome)[1] == "POLICY_TYPE"


@pytest.mark.parametrize("body", [b"[]", b"{", b'{"jsonrpc":"2.0","id":7,"result":1,"result":2}', b'{"secret":1}'])
def test_an_answer_that_cannot_be_read_is_refused(body: bytes) -> None:
    desk = redacting()
    assert refused(desk.respond(desk.open("duplex"), JSON, body)[-1]) == (502, "REDACT_FAILED")
    assert desk.records[-1].reason == "REDACT_FAILED"


@pytest.mark.parametrize("encoding", ["gzip", "br", "zstd", "gzip, gzip"])
def test_b5_an_encoded_answer_is_refused(encoding: str) -> None:
    desk = redacting()
    outcome = desk.respond(desk.open("duplex"), JSON | {"content-encoding": encoding})[-1]
    assert refused(outcome) == (502, "REDACT_FAILED")


def test_an_answer_over_the_limit_is_refused_before_its_end() -> None:
    desk = redacting()
    assert refused(desk.respond(desk.open("duplex"), JSON, b" " * MAX_BYTES, b" ", b"")[2])[1] == "REDACT_FAILED"


@pytest.mark.parametrize("content_type", ["text/plain", "application/octet-stream", "", "application/jsonish"])
def test_an_answer_of_another_type_is_refused(content_type: str) -> None:
    desk = redacting()
    headers = {":status": "200", "content-type": content_type}
    assert refused(desk.respond(desk.open("duplex"), headers, b"secret")[-1]) == (502, "REDACT_FAILED")


@pytest.mark.parametrize("content_type", ["text/plain", "application/json"])
def test_an_error_page_keeps_its_status_and_loses_its_text(content_type: str) -> None:
    desk = redacting()
    outcome = desk.respond(desk.open("duplex"), {":status": "503", "content-type": content_type}, b"secret")[-1]
    assert shown(outcome) == b""
    assert "content-type" in parsed(outcome)[0].response_headers.response.header_mutation.remove_headers
    assert desk.records[-1].reason == "REDACT_FAILED"


def test_an_answer_without_a_body_passes_unjudged() -> None:
    desk = redacting()
    outcome = desk.open("duplex").message(desk.headers("response_headers", {":status": "202"}, end=True))
    assert only(outcome).HasField("response_headers")
    assert shown(*desk.respond(desk.open("duplex"), {":status": "202"}, b"")) == b""
    assert len(desk.records) == 1


def test_b7_trailers_are_dropped() -> None:
    desk = redacting()
    stream = desk.open("duplex")
    stream.message(desk.headers("response_headers", JSON))
    stream.message(desk.message("response_body", {"body": orjson.dumps(RESULT)}))
    trailers = {"trailers": {"headers": [{"key": "x-secret", "raw_value": SECRET.encode()}]}}
    head, body, end = parsed(stream.message(desk.message("response_trailers", trailers)))
    assert head.HasField("response_headers")
    assert b"[X]" in body.response_body.response.body_mutation.streamed_response.body
    assert list(end.response_trailers.header_mutation.remove_headers) == ["x-secret"]


# Event streams


def event(message: object) -> bytes:
    return b"data: " + orjson.dumps(message) + b"\n\n"


def test_b4_every_event_is_judged_and_comments_pass_at_once() -> None:
    desk = redacting()
    stream = desk.open("duplex")
    desk.respond(stream, EVENTS)
    progress = {"jsonrpc": "2.0", "method": "notifications/progress", "params": {"note": SECRET}}
    chunks = (event(progress), b": ping\n\n", event(RESULT))
    texts = [shown(stream.message(desk.message("response_body", {"body": chunk}))) for chunk in chunks]
    assert texts[1] == b":\n"
    assert [SECRET.encode() in text for text in texts] == [False, False, False]
    assert json.loads(texts[2].removeprefix(b"data: "))["result"]["content"][0]["text"] == "[X]"
    assert [record.phase for record in desk.records] == [Phase.CALL, Phase.RESULT, Phase.RESULT]


def test_b7_the_plan_for_an_event_holds_for_its_other_fields_too() -> None:
    digits = SECRET.replace(" ", "")
    plan = [{"path": "/content", "pattern": "[0-9]{16}", "replacement": "[CARD]"}]
    desk = Desk(result={"effect": "sanitize", "redactions": plan})
    result = json.dumps({"jsonrpc": "2.0", "id": 7, "result": {"content": [{"type": "text", "text": digits}]}}).encode()
    event = b"event: message\nid: " + digits.encode() + b"\nretry: 5\ndata: " + result + b"\n\n"
    text = shown(*desk.respond(desk.open("duplex"), EVENTS, event))
    assert text.startswith(b"event: message\nretry: 5\ndata: ")
    assert digits.encode() not in text


def test_b7_a_plan_that_replaces_a_value_leaves_the_other_fields() -> None:
    desk = Desk(result={"effect": "sanitize", "redactions": [{"path": "/content", "replacement": "[GONE]"}]})
    event = b"id: 7\ndata: " + orjson.dumps(RESULT) + b"\n\n"
    text = shown(*desk.respond(desk.open("duplex"), EVENTS, event))
    assert text.startswith(b"id: 7\ndata: ")
    assert json.loads(text.partition(b"data: ")[2]) == {"jsonrpc": "2.0", "id": 7, "result": {"content": "[GONE]"}}


def test_b7_what_stands_in_both_forms_of_a_result_is_taken_out_of_both() -> None:
    desk = Desk(result={"effect": "sanitize", "redactions": [{**PLAN[0], "path": "/structuredContent/card"}]})
    structured = {"card": SECRET}
    result = {"content": [{"type": "text", "text": json.dumps(structured)}], "structuredContent": structured}
    message = {"jsonrpc": "2.0", "id": 7, "result": result}
    text = shown(*desk.respond(desk.open("duplex"), JSON, orjson.dumps(message)))
    assert SECRET.encode() not in text
    assert text.count(b"[CARD]") == 2


@pytest.mark.parametrize("method", ["notifications/progress", "sampling/createMessage"])
def test_what_a_server_says_beside_a_list_is_no_list(method: str) -> None:
    desk = Desk(kind=Kind.LIST, list=ALLOW)
    message = orjson.dumps({"jsonrpc": "2.0", "method": method, "params": {"tools": [{"name": "x"}]}})
    text = shown(*desk.respond(desk.open("duplex"), EVENTS, b"data: " + message + b"\n\n"))
    assert text == b"data: " + message + b"\n\n"
    assert [decision.phase for decision in desk.records] == [Phase.CALL]


def test_b7_nothing_of_a_refused_event_is_shown() -> None:
    desk = Desk(result={"effect": "deny", "reason": "secret"})
    event = b"event: message\nid: 7\ndata: " + orjson.dumps(RESULT) + b"\n\n"
    text = shown(*desk.respond(desk.open("duplex"), EVENTS, event))
    assert text.startswith(b"data: ")
    assert json.loads(text.removeprefix(b"data: "))["error"]["data"]["code"] == "secret"


def test_b4_an_unfinished_event_is_held_and_at_the_end_dropped() -> None:
    desk = redacting()
    stream = desk.open("duplex")
    desk.respond(stream, EVENTS)
    assert stream.message(desk.message("response_body", {"body": event(RESULT)[:-1]})).answers == ()
    last = stream.message(desk.message("response_body", {"end_of_stream": True}))
    assert shown(last) == b""
    assert only(last).response_body.response.body_mutation.streamed_response.end_of_stream


def test_two_events_in_one_chunk_are_two_judgements() -> None:
    desk = redacting()
    stream = desk.open("duplex")
    desk.respond(stream, EVENTS)
    outcome = stream.message(desk.message("response_body", {"body": event(RESULT) * 2}))
    assert len(outcome.judged) == 2
    assert shown(outcome).count(b"[X]") == 2


def test_a_denied_event_is_replaced_and_a_denied_notification_left_out() -> None:
    desk = Desk(result={"effect": "deny", "reason": "leaks"})
    stream = desk.open("duplex")
    desk.respond(stream, EVENTS)
    telling = {"jsonrpc": "2.0", "method": "notifications/message", "params": {"data": SECRET}}
    outcome = stream.message(desk.message("response_body", {"body": event(telling) + event(RESULT)}))
    (data,) = [json.loads(part.removeprefix(b"data: ")) for part in shown(outcome).split(b"\n\n") if part]
    assert (data["id"], data["error"]["data"]["code"]) == (7, "leaks")


def test_an_event_that_cannot_be_read_is_replaced_by_an_error() -> None:
    desk = redacting()
    stream = desk.open("duplex")
    desk.respond(stream, EVENTS)
    text = shown(stream.message(desk.message("response_body", {"body": b"data: " + SECRET.encode() + b"\n\n"})))
    assert json.loads(text.removeprefix(b"data: "))["error"]["data"]["code"] == "REDACT_FAILED"
    assert SECRET.encode() not in text


def test_b4_an_event_over_the_limit_ends_the_stream() -> None:
    desk = redacting()
    stream = desk.open("duplex")
    desk.respond(stream, EVENTS)
    outcome = stream.message(desk.message("response_body", {"body": b"data: " + b"x" * MAX_BYTES}))
    assert refused(outcome)[1] == "REDACT_FAILED"


def test_a_priming_event_without_data_passes() -> None:
    desk = redacting()
    stream = desk.open("duplex")
    desk.respond(stream, EVENTS)
    assert shown(stream.message(desk.message("response_body", {"body": b"id: 1\ndata:\n\n"}))) == b"id: 1\ndata: \n\n"


# Plain HTTP


def test_a_plain_http_answer_is_judged_whole() -> None:
    desk = Desk(
        protocol=Protocol.HTTP,
        result={"effect": "sanitize", "redactions": [{"path": "/card", "replacement": "[CARD]"}]},
    )
    body = orjson.dumps({"card": SECRET, "name": "Ada"})
    assert json.loads(shown(*desk.respond(desk.open("duplex"), JSON, body))) == {"card": "[CARD]", "name": "Ada"}


def test_a_denied_plain_http_answer_is_a_problem_document() -> None:
    desk = Desk(protocol=Protocol.HTTP, result={"effect": "deny", "reason": "leaks"})
    assert refused(desk.respond(desk.open("duplex"), JSON, b'{"card":1}')[-1]) == (403, "leaks")
