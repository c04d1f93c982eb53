"""Runs the demonstration: the tool server, `authz up` in front of it, the rows, and the table.

Decides nothing. Starts and stops only what it started, by its own pid. Everything is reached through public
doors: the `authz` command, HTTP, and files whose places `authz up` told.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from authz.clock import SystemClock
from authz.demo.rows import ROWS, Caller, carry_out
from authz.errors import UnavailableError
from authz.identity.development_issuer import open_issuer
from authz.reasons import SYS_INTERNAL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from authz.demo.rows import Row, Seen
    from authz.identity.development_issuer import DevelopmentIssuer

START_S: Final = 30.0
STOP_S: Final = 10.0
LOOK_S: Final = 0.05
HOUR_NS: Final = 3_600_000_000_000


class HourAgo(SystemClock):
    """The clock of whoever made the expired token."""

    @staticmethod
    def unix_ns() -> int:
        """An hour ago."""
        return SystemClock.unix_ns() - HOUR_NS


def demonstrate(state: Path, policy: Sequence[Path], say: Callable[[str], None]) -> tuple[list[Seen], dict[str, Any]]:
    """Start everything with this policy, carry out every row, stop everything.

    Returns:
        The rows as seen, and what `authz up` said of itself.

    Raises:
        UnavailableError: a part did not start; its log is named.
    """
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    seen_file = state / "seen.jsonl"
    seen_file.write_text("")
    port = _free_port()
    say("starting the MCP server")
    with _child(["-m", "authz.demo.server", "--port", str(port), "--seen", str(seen_file)], state / "server.log"):
        _await_port(port, state / "server.log")
        say("starting Envoy and the decision service")
        with _stack(state, policy, port) as ready:
            say(f"{len(ROWS)} calls through {ready['url']}")
            rows = asyncio.run(_carry_out(ready, open_issuer(state), seen_file))
    return _with_records(rows, Path(ready["records"])), ready


def _with_records(rows: list[Seen], folder: Path) -> list[Seen]:
    """Each row with the record of its decision: what is promised of a call holds of its record too."""
    lines = [line for path in sorted(folder.glob("*.jsonl")) for line in path.read_text().splitlines()]
    records = {record["decision_id"]: record for record in map(json.loads, lines)}
    return [replace(seen, record=records.get(seen.answer.decision_id, {})) for seen in rows]


async def _carry_out(ready: dict[str, Any], issuer: DevelopmentIssuer, seen_file: Path) -> list[Seen]:
    def received() -> list[dict[str, Any]]:
        return [json.loads(line) for line in seen_file.read_text().splitlines()]

    rows = []
    for row in ROWS:
        caller = Caller(url=ready["url"], token=_token(row, issuer))
        rows.append(await carry_out(row, caller, received))
    return rows


def _token(row: Row, issuer: DevelopmentIssuer) -> str:
    if row.credential == "none":
        return ""
    clock = HourAgo() if row.credential == "expired" else SystemClock()
    return issuer.mint(agent=row.agent, tenant=row.tenant, session="demo", clock=clock)


@contextmanager
def _stack(state: Path, policy: Sequence[Path], port: int) -> Iterator[dict[str, Any]]:
    upstream = f"http://127.0.0.1:{port}/mcp"
    command = ["-m", "authz", "up", *(f"--policy={path}" for path in policy), "--upstream", upstream]
    command += ["--listen", "127.0.0.1:0", "--state", str(state), "--output", "json"]
    with _child(command, state / "up.log", stdout=subprocess.PIPE) as up:
        if up.stdout is None:
            raise UnavailableError(SYS_INTERNAL, "`authz up` has no output")
        line = up.stdout.readline()
        if not line.startswith(b"{"):
            raise UnavailableError(SYS_INTERNAL, f"`authz up` did not start: see {state / 'up.log'}")
        yield json.loads(line)


@contextmanager
def _child(arguments: list[str], log: Path, stdout: int | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """A Python program of ours, ended with the block."""
    with log.open("wb") as errors:
        # The caller's AUTHZ_ settings are for the caller's own service; Envoy's place is the exception.
        environment = {name: text for name, text in os.environ.items() if not name.startswith("AUTHZ_")}
        environment |= {"AUTHZ_ENVOY": os.environ["AUTHZ_ENVOY"]} if "AUTHZ_ENVOY" in os.environ else {}
        child = subprocess.Popen(  # noqa: S603 - this interpreter, arguments of ours
            [sys.executable, *arguments], stdout=errors if stdout is None else stdout, stderr=errors, env=environment
        )
        try:
            yield child
        finally:
            child.terminate()
            try:
                child.wait(STOP_S)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
            if child.stdout is not None:
                child.stdout.close()


def _await_port(port: int, log: Path) -> None:
    until = time.monotonic() + START_S
    while time.monotonic() < until:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(LOOK_S)
    raise UnavailableError(SYS_INTERNAL, f"the MCP server did not start: see {log}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
