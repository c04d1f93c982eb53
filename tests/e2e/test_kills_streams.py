"""A kill reaches answers that are under way (E12): through the real Envoy, with kills that a file holds."""

from __future__ import annotations

import json
import queue
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx2 as httpx
import pytest

from authz._gen.authz.control.v1 import kills_pb2
from authz.cli.control_client import connect
from tests.e2e.clients.agents import mcp_server
from tests.e2e.stack import PATIENCE_S, ToolServer, eventually, respond_json, service, stream_events, up

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.stack import Service

pytestmark = pytest.mark.e2e

HEADERS = {"mcp-protocol-version": "2025-11-25", "content-type": "application/json", "accept": "application/json"}
CALL = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": "read", "arguments": {}}}
RESULT = {"jsonrpc": "2.0", "id": 7, "result": {"content": []}}
# Reads no results, so that answers are watched and not judged.
UNREAD = """package authz
decision := {"effect": "allow", "reason": "granted", "risk": "read"}
"""
CUT_S = 1.0


class Stream:
    """A client that reads one event stream on a thread of its own, and says when it ended."""

    def __init__(self, url: str, token: str) -> None:
        self.events: queue.Queue[str] = queue.Queue()
        self.ended_at = 0.0
        self.failure = ""
        self._arguments = url, {**HEADERS, "authorization": f"Bearer {token}"}
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        url, headers = self._arguments
        try:
            with httpx.stream("POST", url, json=CALL, headers=headers, timeout=PATIENCE_S) as answer:
                for line in answer.iter_lines():
                    if line.startswith("data:"):
                        self.events.put(line)
        except httpx.HTTPError as error:
            self.failure = type(error).__name__
        self.ended_at = time.monotonic()

    def join(self) -> None:
        self._thread.join(PATIENCE_S)
        assert self.ended_at


def heartbeats(stop: threading.Event) -> Iterator[bytes]:
    """An answer without end; it notes nothing of its reader."""
    number = 0
    while not stop.wait(0.05):
        number += 1
        params = {"progressToken": 1, "progress": number}
        message = {"jsonrpc": "2.0", "method": "notifications/progress", "params": params}
        yield b"event: message\ndata: " + json.dumps(message).encode() + b"\n\n"


def silence(stop: threading.Event) -> Iterator[bytes]:
    """One event, and then nothing: no message comes by which a kill could be noticed."""
    yield next(heartbeats(threading.Event()))
    stop.wait(PATIENCE_S)


@pytest.fixture(params=["native", "grpcio"])
def transport(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["judged", "watched"])
def killable(
    tmp_path: Path, transport: str, request: pytest.FixtureRequest
) -> Iterator[tuple[Service, ToolServer, Path]]:
    server, kills = ToolServer(), tmp_path / "kills"
    kills.touch()

    def edit(document: dict[str, Any]) -> None:
        document["listen"]["transport"] = transport
        if request.param == "watched":
            policy = tmp_path / "unread.rego"
            policy.write_text(UNREAD)
            document["policy"]["paths"] = [str(policy)]

    def command(file: Path) -> list[str]:
        return [sys.executable, "-m", "tests.e2e.killable_service", str(file), str(kills)]

    with service(tmp_path / "s", server.url, edit=edit, command=command) as running:
        yield running, server, kills
    server.close()


@pytest.mark.parametrize("events", [heartbeats, silence])
def test_e12_a_kill_cuts_open_streams_of_its_scope_and_no_others(
    killable: tuple[Service, ToolServer, Path], events: Any
) -> None:
    decisions, server, kills = killable
    stop = threading.Event()

    def respond(request: Any, received: Any) -> None:
        stream_events(events(stop))(request, received)

    server.respond = respond
    url = f"http://127.0.0.1:{decisions.envoy('envoy')}/mcp"
    killed, spared = Stream(url, decisions.token("agent")), Stream(url, decisions.token("agent", tenant="other"))
    try:
        for stream in (killed, spared):
            assert "progress" in stream.events.get(timeout=PATIENCE_S)
        began = time.monotonic()
        kills.write_text("acme/agent\n")
        killed.join()
        assert killed.ended_at - began < CUT_S
        assert killed.failure
        assert not spared.ended_at
    finally:
        stop.set()
    cut = eventually(lambda: [record for record in decisions.records() if record["reason"] == "REVOKED"])
    last = cut[-1]
    assert (last["phase"], last["status"], last["tenant"], last["agent"]) == ("result", "revoked", "acme", "agent")
    assert last["tool"]["name"] == "read"


def test_e12_a_kill_of_the_control_plane_cuts_an_open_stream_behind_envoy(tmp_path: Path) -> None:
    server, stop, policy = ToolServer(), threading.Event(), tmp_path / "unread.rego"
    policy.write_text(UNREAD)

    def respond(request: Any, received: Any) -> None:
        stream_events(heartbeats(stop))(request, received)

    server.respond = respond
    try:
        with up(tmp_path / "state", server.url, policy=policy) as running:
            killed, spared = Stream(running.url, running.token("victim")), Stream(running.url, running.token("other"))
            for stream in (killed, spared):
                assert "progress" in stream.events.get(timeout=PATIENCE_S)
            scope = kills_pb2.Scope(kind=kills_pb2.SCOPE_KIND_AGENT, tenant="acme", value="victim")
            request = kills_pb2.CreateKillRequest(scope=scope, reason="sends invoices to strangers")
            plane = connect(None, Path(running.ready["state"]))
            plane.call("Kills/CreateKill", request, kills_pb2.KillReceipt)
            acknowledged = time.monotonic()
            killed.join()
            assert killed.ended_at - acknowledged < CUT_S
            assert killed.failure
            assert not spared.ended_at
            stop.set()
    finally:
        stop.set()
        server.close()


def test_e12_an_answer_to_a_call_that_was_killed_meanwhile_is_not_shown(
    killable: tuple[Service, ToolServer, Path],
) -> None:
    decisions, server, kills = killable
    reached, go_on = threading.Event(), threading.Event()

    def respond(request: Any, received: Any) -> None:
        reached.set()
        go_on.wait(PATIENCE_S)
        events = iter([b"data: " + json.dumps(RESULT).encode() + b"\n\n"])
        stream_events(events)(request, received)

    server.respond = respond
    stream = Stream(f"http://127.0.0.1:{decisions.envoy('envoy')}/mcp", decisions.token())
    assert reached.wait(PATIENCE_S)
    kills.write_text("acme/agent\n")
    go_on.set()
    stream.join()
    assert not any("result" in event for event in stream.events.queue)
    assert decisions.records()[-1]["reason"] == "REVOKED"


def test_an_answer_that_is_no_stream_is_not_watched(killable: tuple[Service, ToolServer, Path]) -> None:
    decisions, server, _ = killable
    server.respond = respond_json(RESULT)
    port = decisions.envoy("envoy")
    headers = {**HEADERS, "authorization": f"Bearer {decisions.token()}"}
    answer = httpx.post(f"http://127.0.0.1:{port}/mcp", json=CALL, headers=headers)
    assert answer.json() == RESULT


def test_e12_a_kill_cuts_the_listening_stream_of_a_real_mcp_server(tmp_path: Path) -> None:
    kills, policy = tmp_path / "kills", tmp_path / "unread.rego"
    kills.touch()
    policy.write_text(UNREAD)

    def edit(document: dict[str, Any]) -> None:
        document["policy"]["paths"] = [str(policy)]

    def command(file: Path) -> list[str]:
        return [sys.executable, "-m", "tests.e2e.killable_service", str(file), str(kills)]

    with (
        mcp_server(tmp_path / "server.log") as server,
        service(tmp_path / "s", server, edit=edit, command=command) as decisions,
    ):
        url = f"http://127.0.0.1:{decisions.envoy('envoy')}{urlsplit(server).path}"
        accept = "application/json, text/event-stream"
        headers = {**HEADERS, "accept": accept, "authorization": f"Bearer {decisions.token()}"}
        client = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
        initialize = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": client}
        opened = httpx.post(url, json=initialize, headers=headers, timeout=PATIENCE_S)
        session = {**headers, "mcp-session-id": opened.headers["mcp-session-id"]}
        del session["content-type"]
        with httpx.stream("GET", url, headers=session, timeout=PATIENCE_S) as stream:
            assert stream.headers["content-type"].startswith("text/event-stream")
            began = time.monotonic()
            kills.write_text("acme/agent\n")
            with pytest.raises(httpx.HTTPError):
                for _ in stream.iter_raw():
                    pass
            assert time.monotonic() - began < CUT_S
        cut = eventually(lambda: [record for record in decisions.records() if record["reason"] == "REVOKED"])
        assert cut[-1]["tool"]["method"] == "stream/open"
