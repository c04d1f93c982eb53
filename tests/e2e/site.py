"""A whole site of real programs that a test breaks: Valkey, `authz control` and sidecars, with links that it can break.

Everything that the sidecars `near` and `far` hear goes through links; tests break those of `far`. Agents are killed and
spared; a `Witness` asks a sidecar on and on, and remembers when it asked what.
"""

from __future__ import annotations

import itertools
import json
import resource
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import grpc
import yaml
from google.protobuf.duration_pb2 import Duration

from authz._gen.authz.control.v1 import kills_pb2, sidecars_pb2
from authz.cli.control_client import connect
from authz.identity.development_issuer import AUDIENCE, ISSUER, open_issuer
from tests.e2e.control import environment
from tests.e2e.faulty_link import FaultyLink
from tests.e2e.serving import ROOT, STOP_S, ask, tool_call
from tests.e2e.stack import TESTS, eventually
from tests.e2e.stepped_clock import step

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from authz.identity.development_issuer import DevelopmentIssuer
    from tests.redis_servers import RedisServer

PATIENCE_S = 60.0
FRESH_S = 2.0
"""How long writes go on without news."""
READS_S = 4.0
"""How long `far` and `near` serve reads on stale knowledge: 300 s, as an operator may shorten it."""
SERVED = "served"
BUSY = {"AUDIT_UNAVAILABLE", "SYS_DEADLINE", "no answer: DEADLINE_EXCEEDED"}
"""How a machine that is busy with something else refuses: rightly, and not what a witness is asked about."""
REASON = "sends invoices to strangers"
_NUMBERS = itertools.count(1)


@dataclass
class Program:
    """A process that can be killed, frozen, and started again on what it has kept."""

    command: list[str]
    folder: Path
    process: subprocess.Popen[str] | None = None
    ready: dict[str, Any] = field(default_factory=dict)

    def start(self) -> None:
        self.begin()
        self.wait()

    def begin(self) -> None:
        if not self._clock.exists():
            step(self._clock, 0)
        command = [sys.executable, "-m", "tests.e2e.stepped_clock", str(self._clock), *self.command]
        with (self.folder / "log").open("a") as log:
            self.process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment(), cwd=ROOT
            )

    def wait(self) -> None:
        """Until it says that it is ready."""
        assert self.process is not None
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, (self.folder / "log").read_text()[-3000:]
        self.ready = json.loads(line)

    def step_clock(self, seconds: float) -> None:
        """Have its wall clock off by so much."""
        step(self._clock, seconds)

    def pass_time(self, seconds: float) -> None:
        """Have so much time passed on its clocks since it started."""
        step(self._clock, 0, seconds)

    def limit_files(self, size_bytes: int) -> None:
        """Let no file of it grow further: a write then fails as on a full disk."""
        resource.prlimit(self.pid, resource.RLIMIT_FSIZE, (size_bytes, resource.RLIM_INFINITY))

    @property
    def _clock(self) -> Path:
        return self.folder / "clock"

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def freeze(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.communicate(timeout=STOP_S)
            self.process = None


@dataclass
class Sidecar(Program):
    """`authz serve`, and a client beside it."""

    @property
    def id(self) -> str:
        """As the control plane knows it."""
        return str(json.loads((self.folder / "sidecar" / "identity" / "membership.json").read_text())["sidecar"])

    @contextmanager
    def channel(self) -> Iterator[grpc.Channel]:
        with grpc.insecure_channel(self.ready["check"]) as channel:
            yield channel

    def written(self) -> list[dict[str, Any]]:
        """Its records."""
        files = sorted((self.folder / "records").glob("*.jsonl"))
        return [json.loads(line) for file in files for line in file.read_text().splitlines()]

    def answer(self, token: str, risk: str = "write") -> str:
        with self.channel() as channel:
            return answer(channel, token, risk)


def answer(channel: grpc.Channel, token: str, risk: str) -> str:
    """`served`, or the reason of the refusal; what Envoy takes for a refusal when nobody answers."""
    try:
        response = ask(channel, tool_call(token, risk))
    except grpc.RpcError as error:
        return f"no answer: {error.code().name}"
    if response.HasField("ok_response"):
        return SERVED
    told = json.loads(response.denied_response.body)
    return str(told["code"] if "code" in told else told["error"]["data"]["code"])


@dataclass
class Witness:
    """Asks one sidecar on and on, for one token and risk."""

    sidecar: Sidecar
    token: str
    risk: str
    seen: list[tuple[float, str]] = field(default_factory=list)
    """When each question was asked (running clock, seconds), and what was answered."""
    _over: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        with self.sidecar.channel() as channel:
            while not self._over.wait(0.02):
                began = time.monotonic()
                self.seen.append((began, answer(channel, self.token, self.risk)))

    def stop(self) -> None:
        self._over.set()

    def after(self, moment: float) -> set[str]:
        """All that was answered to what was asked after that moment, by a machine that had time to judge it."""
        return {each for began, each in self.seen if began > moment} - BUSY


@contextmanager
def witnessing(*witnesses: Witness) -> Iterator[None]:
    """They ask while the block lasts, each at least once."""
    threads = [threading.Thread(target=witness.run, daemon=True) for witness in witnesses]
    for thread in threads:
        thread.start()
    try:
        eventually(lambda: all(witness.seen for witness in witnesses), PATIENCE_S)
        yield
    finally:
        for witness in witnesses:
            witness.stop()
        for thread in threads:
            thread.join()


@dataclass
class Site:
    """All of it, running."""

    folder: Path
    redis: RedisServer
    issuer: DevelopmentIssuer
    control: Program
    redis_of_control: FaultyLink
    redis_of_near: FaultyLink
    control_of_near: FaultyLink
    redis_of_far: FaultyLink
    control_of_far: FaultyLink
    sidecars: dict[str, Sidecar] = field(default_factory=dict)
    kills: dict[str, str] = field(default_factory=dict)
    """The kill of each agent."""

    @property
    def near(self) -> Sidecar:
        return self.sidecars["near"]

    @property
    def far(self) -> Sidecar:
        return self.sidecars["far"]

    @property
    def links(self) -> tuple[FaultyLink, FaultyLink]:
        """Everything that `far` hears."""
        return self.redis_of_far, self.control_of_far

    def somebody(self) -> tuple[str, str]:
        """A new agent's id and a token of it."""
        agent = f"agent-{next(_NUMBERS)}"
        return agent, self.issuer.mint(agent=agent, tenant="acme", ttl_s=900)

    def call(self, method: str, request: Any, answered: Any) -> Any:
        return connect(None, self.folder / "control").call(method, request, answered)

    def kill(self, agent: str, wait_s: int = 0, expires_s: int = 0) -> kills_pb2.KillReceipt:
        scope = kills_pb2.Scope(kind=kills_pb2.SCOPE_KIND_AGENT, tenant="acme", value=agent)
        request = kills_pb2.CreateKillRequest(scope=scope, reason=REASON, wait=Duration(seconds=wait_s))
        if expires_s:
            request.expires_in.CopyFrom(Duration(seconds=expires_s))
        receipt: kills_pb2.KillReceipt = self.call("Kills/CreateKill", request, kills_pb2.KillReceipt)
        self.kills[agent] = receipt.kill.id
        return receipt

    def lift(self, kill: str) -> None:
        request = kills_pb2.LiftKillRequest(id=kill, tenant="acme", reason=REASON)
        self.call("Kills/LiftKill", request, kills_pb2.KillReceipt)

    def heals(self) -> None:
        """Every sidecar serves writes again, by itself."""
        _, token = self.somebody()
        for sidecar in self.sidecars.values():
            eventually(lambda sidecar=sidecar: sidecar.answer(token) == SERVED, PATIENCE_S)  # type: ignore[misc]

    def mend(self) -> None:
        """Whatever a test has broken and left so."""
        for link in self._all_links:
            link.mend()
        if self.redis.process is None:
            self.redis.start()
        self.redis.thaw()
        for program in self._programs:
            program.step_clock(0)
            if program.process is None:
                program.start()
            program.thaw()
            program.limit_files(resource.RLIM_INFINITY)
        self.heals()

    def close(self) -> None:
        for program in self._programs:
            program.kill()
        for link in self._all_links:
            link.close()

    @property
    def _programs(self) -> tuple[Program, ...]:
        return *self.sidecars.values(), self.control

    @property
    def _all_links(self) -> tuple[FaultyLink, ...]:
        return *self.links, self.redis_of_near, self.control_of_near, self.redis_of_control


@contextmanager
def site(folder: Path, redis: RedisServer) -> Iterator[Site]:
    """A site with the sidecars `near` and `far`, both fresh, in a new folder over a running Redis."""
    state = folder / "control"
    state.mkdir(mode=0o700)
    made: Site

    def to_redis() -> str:
        return str(made.redis.socket)

    def to_control() -> str:
        return str(json.loads((state / "control.json").read_text())["replication"])

    links: dict[str, Any] = {
        name: FaultyLink(to_redis if name.startswith("redis") else to_control)
        for name in ("redis_of_control", "redis_of_near", "control_of_near", "redis_of_far", "control_of_far")
    }
    listeners = [word for name in ("grpc", "http", "replication") for word in (f"--{name}", "127.0.0.1:0")]
    command = ["control", "--state", str(state), "--output", "json", *listeners]
    command += ["--redis", f"redis://{links['redis_of_control'].address}"]
    made = Site(folder, redis, open_issuer(folder / "issuer"), Program(command, state), **links)
    try:
        made.control.start()
        made.sidecars["near"] = _sidecar(made, "near", made.redis_of_near, made.control_of_near)
        made.sidecars["far"] = _sidecar(made, "far", made.redis_of_far, made.control_of_far)
        for sidecar in made.sidecars.values():
            sidecar.begin()
        for sidecar in made.sidecars.values():
            sidecar.wait()
        made.heals()
        yield made
    finally:
        made.close()


def _sidecar(made: Site, name: str, redis: FaultyLink, replication: FaultyLink) -> Sidecar:
    folder = made.folder / name
    (folder / "records").mkdir(parents=True)
    request = sidecars_pb2.InviteSidecarRequest(tenants=["acme"], name=name)
    invited = made.call("Sidecars/InviteSidecar", request, sidecars_pb2.InviteSidecarResponse)
    settings = {
        "version": 1,
        "listen": {"check": "127.0.0.1:0", "diagnostics": "127.0.0.1:0"},
        "issuers": [{"issuer": ISSUER, "audience": AUDIENCE, "jwks": str(made.issuer.jwks_path)}],
        "policy": {"paths": [str(TESTS / "risk.rego")], "state": str(folder / "last-good")},
        "revocation": {"stale_reads_s": READS_S},
        "audit": {"directory": str(folder / "records")},
        "control": {
            "url": made.control.ready["http"],
            "enrol": invited.token,
            "state": str(folder / "sidecar"),
            "redis": f"redis://{redis.address}",
            "replication": replication.address,
        },
    }
    (folder / "authz.yaml").write_text(yaml.safe_dump(settings))
    return Sidecar(["serve", "--config", str(folder / "authz.yaml"), "--output", "json"], folder)
