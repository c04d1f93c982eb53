"""What ext_proc makes of a tool's answers: lists filtered, results redacted, events judged one by one."""

from __future__ import annotations

import json

import orjson
import pytest

from authz.model import Kind, Phase, Protocol, Status
from tests.desk import (
    ALLOW,
    CARD,
    EVENTS,
    JSON,
    MAX_BYTES,
    PLAN,
    RESULT,
    SECRET,
    Desk,
    only,
    parsed,
    refused,
    shown,
)

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


def test_a_list_shows_no_tool_that_a_kill_stops_and_records_what_it_hid() -> None:
    writing = {"effect": "allow", "tags": {"capabilities": ["memory_write"]}}
    listed = listing("read", "remember")
    desk = Desk(kind=Kind.LIST, read={"effect": "allow"}, remember=writing)
    assert names_in(shown(*desk.respond(desk.open("duplex"), JSON, listed))) == ["read", "remember"]
    desk = Desk(kind=Kind.LIST, read={"effect": "allow"}, remember=writing)
    desk.bench.kills.kill_capability("memory_write")
    assert names_in(shown(*desk.respond(desk.open("duplex"), JSON, listed))) == ["read"]
    assert (desk.records[-1].phase, desk.records[-1].hidden) == (Phase.LIST, ("remember",))


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
