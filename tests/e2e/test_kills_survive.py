"""Kills outlive the programs that carry them: SIGKILL of the control plane and of Valkey at random moments."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
import redis

from authz._gen.authz.control.v1 import kills_pb2 as pb
from authz.cli.control_client import connect
from authz.errors import AuthzError
from authz.revocation import redis_streams
from authz.revocation.entries import Batch, decode
from tests.e2e.stack import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.redis_servers import RedisServer

pytestmark = pytest.mark.e2e

ROUNDS = int(os.environ.get("AUTHZ_TEST_KILL_ROUNDS", "4"))
"""Of SIGKILL; the bar is 100."""
FREE = "127.0.0.1:0"
REASON = "sends invoices to strangers"


@dataclass
class ControlProgram:
    """`authz control` as a process of its own, which can be killed and started again on what it has kept."""

    state: Path
    redis: str
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        (self.state / "control.json").unlink(missing_ok=True)
        listeners = [word for name in ("http", "grpc", "replication") for word in (f"--{name}", FREE)]
        with (self.state.parent / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "authz", "control", "--state", self.state, "--redis", self.redis, *listeners],
                stdout=log,
                stderr=log,
            )
        eventually(self._answers, 60)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(30)
            self.process = None

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.state.parent / "log").read_text()[-3000:]
        return (self.state / "control.json").exists()


@dataclass
class Responder:
    """Somebody who kills one session after another, and remembers what was acknowledged."""

    state: Path
    acknowledged: list[tuple[str, int]] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        number = 0
        while not self.stop.is_set():
            number += 1
            scope = pb.Scope(kind=pb.SCOPE_KIND_SESSION, tenant="acme", value=f"s-{number}")
            request = pb.CreateKillRequest(scope=scope, reason=REASON)
            try:
                kill = connect(None, self.state).call("Kills/CreateKill", request, pb.KillReceipt).kill
            except AuthzError:
                self.stop.wait(0.05)  # nobody is there: asked for again
            else:
                self.acknowledged.append((kill.id, kill.sequence))


@pytest.fixture
def control(tmp_path: Path, redis_server: RedisServer) -> Iterator[ControlProgram]:
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    program = ControlProgram(state, redis_server.url)
    try:
        program.start()
        yield program
    finally:
        program.kill()


def listed(state: Path) -> set[str]:
    client, found = connect(None, state), set()
    request = pb.ListKillsRequest(tenant="acme", page_size=500)
    while True:
        page = client.call("Kills/ListKills", request, pb.ListKillsResponse)
        found |= {kill.id for kill in page.kills}
        request.page_token = page.next_page_token
        if not page.next_page_token:
            return found


def published(server: RedisServer) -> list[int]:
    with server.client as client:
        try:
            held = client.xrange(redis_streams.entries_key("acme"))
        except redis.RedisError:
            return []
    batches = [decode(redis_streams.signed(values).body, "acme") for _, values in held]
    return [entry.sequence for batch in batches if isinstance(batch, Batch) for entry in batch.entries]


@pytest.mark.timeout(60 + 30 * ROUNDS)
def test_e3_no_acknowledged_kill_is_lost_whatever_is_killed_when(
    control: ControlProgram, redis_server: RedisServer
) -> None:
    choice = random.Random(7)  # noqa: S311 - moments, not secrets
    responder = Responder(control.state)
    asking = threading.Thread(target=responder.run)
    asking.start()
    try:
        for _ in range(ROUNDS):
            before = len(responder.acknowledged)
            eventually(lambda before=before: len(responder.acknowledged) > before, 60)  # type: ignore[misc]
            responder.stop.wait(choice.uniform(0, 0.5))
            victims = choice.choice([("control",), ("redis",), ("control", "redis")])
            for victim in victims:
                control.kill() if victim == "control" else redis_server.kill()
            for victim in victims:
                control.start() if victim == "control" else redis_server.start()
    finally:
        responder.stop.set()
        asking.join(90)
    acknowledged = {kill_id for kill_id, _ in responder.acknowledged}
    assert len(acknowledged) == len(responder.acknowledged) >= ROUNDS
    assert acknowledged <= listed(control.state)
    last = max(sequence for _, sequence in responder.acknowledged)
    assert eventually(lambda: published(redis_server)[:last] == list(range(1, last + 1)), 60)
