"""Whatever listens at the URL, `authz init --from` takes names from it and one hint, or says why not."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from authz.authoring.tool_server import MAX_BYTES, MAX_PAGES, ListedTool, Listing, list_tools
from authz.errors import ProgramError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Answer = tuple[int, dict[str, str], bytes]
    Asked = list[tuple[dict[str, str], dict[str, Any]]]

JSON = {"content-type": "application/json"}
READ = {"name": "read", "annotations": {"readOnlyHint": True}}
WRITE = {"name": "write", "annotations": {"readOnlyHint": "yes"}}
BOTH = Listing(tools=(ListedTool(name="read", says_read_only=True), ListedTool(name="write")), skipped=0)


@contextmanager
def serving(answer: Callable[[dict[str, str], dict[str, Any]], Answer]) -> Iterator[tuple[str, Asked]]:
    """An HTTP server that answers each message as `answer` says, and keeps what it was asked."""
    asked: Asked = []

    class Answers(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout: ClassVar[float | None] = 5

        def do_POST(self) -> None:
            message = json.loads(self.rfile.read(int(self.headers["content-length"])))
            headers = {name.lower(): value for name, value in self.headers.items()}
            asked.append((headers, message))
            status, fields, body = answer(headers, message)
            self.send_response(status)
            for name, value in {"content-length": str(len(body)), **fields}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        server.daemon_threads = True  # a client's idle connection is not waited for
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/mcp", asked
        finally:
            server.shutdown()
            thread.join()


def result(message: dict[str, Any], value: object) -> Answer:
    return 200, JSON, json.dumps({"jsonrpc": "2.0", "id": message.get("id"), "result": value}).encode()


def refused(message: dict[str, Any], code: int = -32601, status: int = 200) -> Answer:
    body = {"jsonrpc": "2.0", "id": message.get("id"), "error": {"code": code, "message": "no"}}
    return status, JSON, json.dumps(body).encode()


def modern(headers: dict[str, str], message: dict[str, Any]) -> Answer:
    meta = message["params"]["_meta"]
    assert headers["mcp-protocol-version"] == meta["io.modelcontextprotocol/protocolVersion"] == "2026-07-28"
    assert headers["mcp-method"] == message["method"] == "tools/list"
    return result(message, {"tools": [READ, WRITE]})


def legacy(headers: dict[str, str], message: dict[str, Any]) -> Answer:
    """A server of 2025-06-18 that wants its handshake and its session."""
    if message["method"] == "initialize":
        status, fields, body = result(message, {"protocolVersion": "2025-06-18", "capabilities": {}})
        return status, {**fields, "mcp-session-id": "s-1"}, body
    if headers.get("mcp-session-id") != "s-1" or headers["mcp-protocol-version"] != "2025-06-18":
        return refused(message, status=400)
    return (202, {}, b"") if "id" not in message else result(message, {"tools": [READ, WRITE]})


def listed(answer: Callable[[dict[str, str], dict[str, Any]], Answer]) -> Listing:
    with serving(answer) as (url, _):
        return list_tools(url)


def test_a_modern_server_is_asked_once() -> None:
    with serving(modern) as (url, asked):
        assert list_tools(url) == BOTH
        assert [message["method"] for _, message in asked] == ["tools/list"]


def test_a_legacy_server_gets_its_handshake_and_its_session() -> None:
    with serving(legacy) as (url, asked):
        assert list_tools(url) == BOTH
        methods = [message["method"] for _, message in asked]
    assert methods == ["tools/list", "initialize", "notifications/initialized", "tools/list"]


def test_no_tool_is_ever_run() -> None:
    for answer in (modern, legacy):
        with serving(answer) as (url, asked):
            list_tools(url)
            assert all(message["method"] != "tools/call" for _, message in asked)


def test_an_answer_may_come_as_an_event_stream() -> None:
    def streamed(_: dict[str, str], message: dict[str, Any]) -> Answer:
        body = result(message, {"tools": [READ, WRITE]})[2]
        notice = b'event: message\ndata: {"jsonrpc":"2.0","method":"notifications/message","params":{}}\n\n'
        return (
            200,
            {"content-type": "text/event-stream; charset=utf-8"},
            b": hi\n\n" + notice + b"data: " + body + b"\n\n",
        )

    assert listed(streamed) == BOTH


def test_a_stream_that_stays_open_after_its_answer_is_not_waited_for() -> None:
    def open_ended(_: dict[str, str], message: dict[str, Any]) -> Answer:
        body = result(message, {"tools": [READ, WRITE]})[2]
        event = b"data: " + body + b"\n\n"
        # More is announced than is ever sent.
        return 200, {"content-type": "text/event-stream", "content-length": str(len(event) + 1000)}, event

    assert listed(open_ended) == BOTH


def test_pages_are_followed() -> None:
    def paged(_: dict[str, str], message: dict[str, Any]) -> Answer:
        if message["params"].get("cursor") == "two":
            return result(message, {"tools": [WRITE]})
        return result(message, {"tools": [READ], "nextCursor": "two"})

    assert listed(paged) == BOTH


@pytest.mark.parametrize(
    "name",
    ["", "a b", "a\nb", 'a": allow #', "\u0430", "a" * 129, None, 7, ["read"], {"name": "read"}],
)
def test_what_is_no_name_of_a_tool_is_left_out_and_counted(name: object) -> None:
    entries = [{"name": name}, READ]
    assert listed(lambda _, message: result(message, {"tools": entries})) == Listing(tools=BOTH.tools[:1], skipped=1)


def test_a_repeated_name_is_one_tool() -> None:
    assert listed(lambda _, message: result(message, {"tools": [READ, READ]})) == Listing(
        tools=BOTH.tools[:1], skipped=1
    )


def redirect(_: dict[str, str], __: dict[str, Any]) -> Answer:
    return 307, {"location": "http://127.0.0.1:1/"}, b""


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (redirect, "HTTP status 307"),
        (lambda _, message: refused(message), "answers with an error"),
        (lambda _, message: refused(message, status=404), "HTTP status 404"),
        (lambda _, __: (200, JSON, b""), "JSON_SYNTAX"),
        (lambda _, __: (200, JSON, b"<html>"), "JSON_SYNTAX"),
        (lambda _, __: (200, JSON, b'{"id":1,"id":1}'), "JSON_DUP_KEY"),
        (lambda _, __: (200, JSON, b"[1]"), "does not answer"),
        (lambda _, message: result({"id": message["id"] + 1}, {}), "does not answer"),
        (lambda _, message: result(message, []), "answers with an error"),
        (lambda _, message: result(message, {"tools": {}}), "no protocol version"),
        (lambda _, __: (200, JSON, b" " * (MAX_BYTES + 1)), "over"),
        (lambda _, __: (200, {"content-type": "text/event-stream"}, b"data: {}\n\n"), "does not answer"),
    ],
)
def test_an_answer_that_is_none_is_an_error_and_no_empty_list(
    answer: Callable[[dict[str, str], dict[str, Any]], Answer], complaint: str
) -> None:
    with pytest.raises(ProgramError, match=complaint) as failed:
        listed(answer)
    assert failed.value.remedy


def test_pages_without_end_are_given_up() -> None:
    with serving(lambda _, message: result(message, {"tools": [], "nextCursor": "again"})) as (url, asked):
        with pytest.raises(ProgramError):
            list_tools(url)
        assert len(asked) <= 2 * MAX_PAGES + 2


def test_a_server_that_is_not_there_is_named() -> None:
    with serving(modern) as (url, _):
        pass
    with pytest.raises(ProgramError, match=url):
        list_tools(url)
