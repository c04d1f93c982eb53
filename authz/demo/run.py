"""Runs the demonstration: the tool server, `authz up` in front of it, the rows, and the table.

Decides nothing. Starts and stops only what it started, by its own pid. Everything is reached through public
doors: the `authz` command, HTTP, and files whose places `authz up` told.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from authz.clock import SystemClock, random_id
from authz.database import Database
from authz.demo.rows import CHILD, KILL, PARENT, ROWS, Caller, carry_out
from authz.errors import UnavailableError
from authz.held_port import HeldPort
from authz.identity import jose
from authz.identity.development_issuer import AUDIENCE
from authz.identity.signing_keys import Schedule
from authz.identity.signing_keys_sql import SigningKeys
from authz.reasons import SYS_INTERNAL
from authz.sealing import read_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from authz.demo.rows import Row, Seen

START_S: Final = 60.0
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
    shutil.rmtree(state, ignore_errors=True)  # kills of an earlier demonstration would hold in this one
    state.mkdir(mode=0o700, parents=True)
    seen_file = state / "seen.jsonl"
    seen_file.write_text("")
    say("starting the MCP server")
    with HeldPort() as port, _server(port, state / "server.log", seen_file):
        say("starting Envoy and the decision service")
        with _stack(state, policy, port.number) as ready:
            say("registering agents, and getting their tokens by private_key_jwt")
            tokens = _Tokens(state, ready["issuer"])
            say(f"{len(ROWS)} calls through {ready['url']}")
            rows = asyncio.run(_carry_out(ready, tokens, Operator(state), seen_file))
    return _with_records(rows, Path(ready["records"])), ready


def _with_records(rows: list[Seen], folder: Path) -> list[Seen]:
    """Each row with the record of its decision: what is promised of a call holds of its record too."""
    lines = [line for path in sorted(folder.glob("*.jsonl")) for line in path.read_text().splitlines()]
    records = {record["decision_id"]: record for record in map(json.loads, lines)}
    return [replace(seen, record=records.get(seen.answer.decision_id, {})) for seen in rows]


async def _carry_out(ready: dict[str, Any], tokens: _Tokens, operator: Operator, seen_file: Path) -> list[Seen]:
    def received() -> list[dict[str, Any]]:
        return [json.loads(line) for line in seen_file.read_text().splitlines()]

    rows = []
    for row in ROWS:
        told = operator.act(row.first) if row.first else ""
        seen = await carry_out(row, Caller(url=ready["url"], token=tokens.of(row)), received)
        rows.append(replace(seen, answer=replace(seen.answer, shown=f"{seen.answer.shown}{told}")))
    return rows


class Operator:
    """Who kills and lifts, by the `authz` command."""

    def __init__(self, state: Path) -> None:
        self._state = state
        self._kill = ""

    def act(self, arguments: Sequence[str]) -> str:
        """Do it; says how long it took to be known everywhere.

        Raises:
            UnavailableError: the command failed.
        """
        given = [self._kill if word == KILL else word for word in arguments]
        receipt = json.loads(_authz([*given, "--output", "json"], self._state))
        self._kill = receipt["id"]
        return f" (known to every sidecar after {max(each['ms'] for each in receipt['sidecars']):.0f} ms)"


class _Tokens:
    """Tokens of the agents, each registered at its first."""

    def __init__(self, state: Path, issuer: str) -> None:
        agents = sorted({(row.agent, row.tenant) for row in ROWS if row.credential == "valid"})
        asked = [
            ["token", "--agent", agent, "--tenant", tenant, "--session", "demo", "--ttl", "900"]
            + (["--parent", PARENT] if (agent, tenant) == (CHILD, "acme") else [])
            for agent, tenant in agents
        ]
        with ThreadPoolExecutor(2) as together:
            tokens = together.map(lambda arguments: _authz(arguments, state).strip(), asked)
            self._valid = dict(zip(agents, tokens, strict=True))
        self._state = state
        self._issuer = issuer

    def of(self, row: Row) -> str:
        """What the row's caller shows."""
        if row.credential == "none":
            return ""
        return self._expired(row) if row.credential == "expired" else self._valid[row.agent, row.tenant]

    def _expired(self, row: Row) -> str:
        """What the issuer would have signed an hour ago: its own key, out of the database."""
        database = Database(f"sqlite:///{self._state / 'control.db'}")
        keys = SigningKeys(database, read_key(file=None, state=self._state)[0], Schedule())
        with database.read() as connection:
            key = keys.signer(connection)
        database.close()
        issued_at = HourAgo.unix_ns() // 1_000_000_000
        claims = {"iss": self._issuer, "aud": AUDIENCE, "sub": row.agent, "tenant": row.tenant, "jti": random_id()}
        return jose.sign(key, typ="at+jwt", claims=claims | {"iat": issued_at, "exp": issued_at + 300})


def _authz(arguments: Sequence[str], state: Path) -> str:
    """What an `authz` command prints.

    Raises:
        UnavailableError: it failed.
    """
    command = [sys.executable, "-m", "authz", *arguments, "--state", str(state)]
    done = subprocess.run(  # noqa: S603 - this interpreter, arguments of ours
        command, capture_output=True, text=True, timeout=START_S, env=_environment(), check=False
    )
    if done.returncode:
        raise UnavailableError(SYS_INTERNAL, f"`authz {arguments[0]}` failed: {done.stderr.strip()}")
    return done.stdout


@contextmanager
def _server(port: HeldPort, log: Path, seen: Path) -> Iterator[None]:
    arguments = ["-m", "authz.demo.server", "--port", str(port.number), "--seen", str(seen)]
    with _child(arguments, log):
        _await_port(port.number, log)
        yield


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
        child = subprocess.Popen(  # noqa: S603 - this interpreter, arguments of ours
            [sys.executable, *arguments], stdout=errors if stdout is None else stdout, stderr=errors, env=_environment()
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


def _environment() -> dict[str, str]:
    """The caller's AUTHZ_ settings are for the caller's own service; Envoy's place is the exception."""
    environment = {name: text for name, text in os.environ.items() if not name.startswith("AUTHZ_")}
    return environment | ({"AUTHZ_ENVOY": os.environ["AUTHZ_ENVOY"]} if "AUTHZ_ENVOY" in os.environ else {})


def _await_port(port: int, log: Path) -> None:
    until = time.monotonic() + START_S
    while time.monotonic() < until:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(LOOK_S)
    raise UnavailableError(SYS_INTERNAL, f"the MCP server did not start: see {log}")
