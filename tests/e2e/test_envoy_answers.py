"""What the tool answers, through the real Envoy: filtered, redacted, streamed, and never raw where something broke."""

from __future__ import annotations

import gzip
import json
import os
import queue
import signal
from typing import TYPE_CHECKING, Any

import httpx2 as httpx
import pytest

from tests.e2e.stack import (
    PATIENCE_S,
    ToolServer,
    eventually,
    respond_bytes,
    respond_json,
    service,
    stream_events,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.e2e.stack import Service

pytestmark = pytest.mark.e2e

CARD = "4111 1111 1111 1111"
HEADERS = {"mcp-protocol-version": "2025-11-25", "content-type": "application/json", "accept": "application/json"}
LIST = {"jsonrpc": "2.0", "id": 7, "method": "tools/list"}
CALL = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": "read", "arguments": {}}}
TOOLS = {"jsonrpc": "2.0", "id": 7, "result": {"tools": [{"name": "read"}, {"name": "delete"}]}}
RESULT = {"jsonrpc": "2.0", "id": 7, "result": {"content": [{"type": "text", "text": f"paid with {CARD}"}]}}
ERROR = {"jsonrpc": "2.0", "id": 7, "error": {"code": -1, "message": f"{CARD} is refused", "data": {"card": CARD}}}


@pytest.fixture
def client(decisions: Service, envoy: int) -> Iterator[httpx.Client]:
    headers = HEADERS | {"authorization": f"Bearer {decisions.token()}"}
    with httpx.Client(base_url=f"http://127.0.0.1:{envoy}", headers=headers, timeout=PATIENCE_S) as made:
        yield made


def event(message: object) -> bytes:
    return b"event: message\ndata: " + json.dumps(message).encode() + b"\n\n"


def last_records(decisions: Service, count: int) -> list[tuple[str, str]]:
    return [(record["phase"], record["status"]) for record in decisions.records()[-count:]]


@pytest.mark.parametrize("as_events", [False, True])
def test_a_list_shows_what_may_be_called(
    client: httpx.Client, tool_server: ToolServer, decisions: Service, *, as_events: bool
) -> None:
    tool_server.respond = stream_events(iter([event(TOOLS)])) if as_events else respond_json(TOOLS)
    text = client.post("/mcp", json=LIST).text
    message = json.loads(text.rpartition("data: ")[2])
    assert [tool["name"] for tool in message["result"]["tools"]] == ["read"]
    assert decisions.records()[-1]["hidden"] == ["delete"]


@pytest.mark.parametrize("answer", [RESULT, ERROR])
@pytest.mark.parametrize("as_events", [False, True])
def test_b7_results_and_errors_are_redacted(
    client: httpx.Client, tool_server: ToolServer, decisions: Service, answer: dict[str, Any], *, as_events: bool
) -> None:
    tool_server.respond = stream_events(iter([event(answer)])) if as_events else respond_json(answer)
    received = client.post("/mcp", json=CALL)
    assert received.status_code == 200
    assert CARD not in received.text
    assert "[CARD]" in received.text
    assert last_records(decisions, 2) == [("call", "allowed"), ("result", "sanitized")]


def test_b6_the_connection_is_good_for_the_next_answer(client: httpx.Client, tool_server: ToolServer) -> None:
    tool_server.respond = respond_json(RESULT)
    texts = [client.post("/mcp", json=CALL).json()["result"]["content"][0]["text"] for _ in range(5)]
    assert texts == ["paid with [CARD]"] * 5


@pytest.mark.parametrize("encoding", ["gzip", "br"])
def test_b5_an_answer_that_is_encoded_all_the_same_is_refused(
    client: httpx.Client, tool_server: ToolServer, encoding: str
) -> None:
    headers = {"content-type": "application/json", "content-encoding": encoding}
    tool_server.respond = respond_bytes(gzip.compress(json.dumps(RESULT).encode()), 200, headers)
    answer = client.post("/mcp", json=CALL)
    assert (answer.status_code, answer.json()["error"]["data"]["code"]) == (502, "REDACT_FAILED")


@pytest.mark.parametrize(
    "body",
    [b"not JSON " + CARD.encode(), b'{"a":1,"a":2}', b'{"jsonrpc":"2.0","id":7,"result":"' + b"x" * 65_536 + b'"}'],
)
def test_an_answer_that_cannot_be_judged_is_refused(
    client: httpx.Client, tool_server: ToolServer, decisions: Service, body: bytes
) -> None:
    tool_server.respond = respond_bytes(body, 200, {"content-type": "application/json"})
    answer = client.post("/mcp", json=CALL)
    assert (answer.status_code, answer.json()["error"]["data"]["code"]) == (502, "REDACT_FAILED")
    assert last_records(decisions, 1) == [("result", "error")]


def test_an_error_page_keeps_its_status_and_loses_its_text(client: httpx.Client, tool_server: ToolServer) -> None:
    tool_server.respond = respond_bytes(CARD.encode(), 404, {"content-type": "text/html"})
    answer = client.post("/mcp", json=CALL)
    assert (answer.status_code, answer.content) == (404, b"")


def test_a_json_rpc_error_with_another_status_passes_judged(client: httpx.Client, tool_server: ToolServer) -> None:
    tool_server.respond = respond_json(ERROR, 400)
    answer = client.post("/mcp", json=CALL)
    assert (answer.status_code, answer.json()["error"]["data"]) == (400, {"card": "[CARD]"})


def test_b4_an_endless_stream_passes_event_by_event(client: httpx.Client, tool_server: ToolServer) -> None:
    # Each event is sent only after the one before was seen: a stream that is buffered anywhere never gets on.
    seen: queue.Queue[None] = queue.Queue()

    def events() -> Iterator[bytes]:
        for number in range(20):
            params = {"progressToken": 1, "progress": number, "message": CARD}
            yield event({"jsonrpc": "2.0", "method": "notifications/progress", "params": params})
            seen.get(timeout=PATIENCE_S)
            yield b": keep-alive\n\n"
            seen.get(timeout=PATIENCE_S)
        yield event(RESULT)

    tool_server.respond = stream_events(events())
    text = ""
    with client.stream("POST", "/mcp", json=CALL) as answer:
        for piece in answer.iter_text():
            text += piece
            seen.put(None)
    assert text.count("notifications/progress") == 20
    assert text.count("[CARD]") == 21
    assert CARD not in text


def test_the_grpcio_transport_carries_out_the_same(tmp_path: Path) -> None:
    server = ToolServer()
    server.respond = respond_json(RESULT)
    with service(tmp_path / "s", server.url, edit=lambda file: file["listen"].update(transport="grpcio")) as decisions:
        url = f"http://127.0.0.1:{decisions.envoy('envoy')}/mcp"
        headers = HEADERS | {"authorization": f"Bearer {decisions.token()}"}
        call = {**CALL, "params": {"name": "read", "arguments": {"note": CARD}}}
        answer = httpx.post(url, json=call, headers=headers)
        assert answer.json()["result"]["content"][0]["text"] == "paid with [CARD]"
        assert json.loads(server.received[0].body)["params"]["arguments"]["note"] == "[CARD]"
        assert last_records(decisions, 2) == [("call", "sanitized"), ("result", "sanitized")]
    server.close()


def _unless_refused(answer: httpx.Response) -> httpx.Response | None:
    """An answer that passed; Envoy may still refuse for the moments in which it connects again."""
    return None if answer.status_code == 503 else answer


def test_b8_a_stream_ends_when_its_judge_is_killed(tmp_path: Path) -> None:
    server = ToolServer()
    killed: queue.Queue[None] = queue.Queue()

    def events() -> Iterator[bytes]:
        yield event(RESULT)
        killed.get(timeout=PATIENCE_S)
        while True:
            yield event(RESULT)

    def kill_then_read_on(pieces: Iterator[str]) -> Iterator[str]:
        yield next(pieces)
        os.kill(decisions.program.pid, signal.SIGKILL)
        killed.put(None)
        yield from pieces

    received: list[str] = []
    with service(tmp_path / "s", server.url) as decisions:
        server.respond = stream_events(events())
        url = f"http://127.0.0.1:{decisions.envoy('envoy')}/mcp"
        headers = HEADERS | {"authorization": f"Bearer {decisions.token()}"}
        with (
            httpx.stream("POST", url, json=CALL, headers=headers, timeout=PATIENCE_S) as answer,
            pytest.raises(httpx.RemoteProtocolError),
        ):
            received.extend(kill_then_read_on(answer.iter_text()))
        arrived = len(server.received)
        assert httpx.post(url, json=CALL, headers=headers).status_code == 503
        assert len(server.received) == arrived
        # Its successor knows nothing of that stream, and serves new calls as soon as it is ready.
        server.respond = respond_json(RESULT)
        decisions.program.stop()
        decisions.program.start()
        answer = eventually(lambda: _unless_refused(httpx.post(url, json=CALL, headers=headers)))
        assert "[CARD]" in answer.text
    server.close()
    assert "[CARD]" in received[0]
    assert CARD not in "".join(received)
