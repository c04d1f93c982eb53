"""The official Python client, unchanged, as an agent with a token."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from contextlib import asynccontextmanager, contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from tests.e2e.stack import PATIENCE_S, eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping

    from tests.e2e.stack import Up

CLIENTS = Path(__file__).resolve().parent
POLICY = CLIENTS / "policy.rego"
TRIES = 5


@contextmanager
def listening(command: list[str], log: Path, environment: Mapping[str, str] | None = None) -> Iterator[int]:
    """A server as a child; the port that it says it listens on."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environment)
    try:
        yield eventually(lambda: _port(log, process))
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


def _port(log: Path, process: subprocess.Popen[bytes]) -> int | None:
    written = log.read_text()
    assert process.poll() is None, written
    said = re.search(r"^port (\d+)$", written, re.MULTILINE)
    return int(said[1]) if said else None


@contextmanager
def mcp_server(log: Path, *options: str) -> Iterator[str]:
    """The URL of a server made with the Python SDK."""
    with listening([sys.executable, str(CLIENTS / "mcp_server.py"), *options], log) as port:
        yield f"http://127.0.0.1:{port}/mcp"


class Patient(httpx2.AsyncHTTPTransport):
    """Sends again what was refused for want of time: on a busy machine a decision may miss its deadline (503)."""

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        response = await super().handle_async_request(request)
        for _ in range(TRIES):
            if response.status_code != HTTPStatus.SERVICE_UNAVAILABLE:
                break
            await response.aclose()
            response = await super().handle_async_request(request)
        return response


@asynccontextmanager
async def connected(
    up: Up, mode: str, agent: str = "agent", hooks: Mapping[str, list[Any]] | None = None, **options: Any
) -> AsyncIterator[Client]:
    """A client of what stands behind `up`."""
    headers = {"authorization": f"Bearer {up.token(agent)}"}
    async with (
        httpx2.AsyncClient(
            headers=headers, timeout=PATIENCE_S, event_hooks=dict(hooks or {}), transport=Patient()
        ) as http,
        Client(streamable_http_client(up.url, http_client=http), mode=mode, **options) as client,
    ):
        yield client


async def until(found: Callable[[], Awaitable[bool]]) -> None:
    """Ask again until it is so; fails when time is up."""
    with anyio.fail_after(PATIENCE_S):
        while not await found():  # noqa: ASYNC110 - what is waited for happens in another program
            await anyio.sleep(0.02)


def text(result: Any) -> str:
    """The text of a tool's result."""
    return " ".join(part.text for part in result.content)


def records(up: Up) -> list[dict[str, Any]]:
    """What was decided so far."""
    files = sorted(Path(up.ready["records"]).glob("decisions-*.jsonl"))
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]
