"""`python -m bench.rollback`: from a candidate's first canary call to the last one, measured from outside.

Starts `authz control` and sidecars, keeps them under load by many agents, begins a rollout whose candidate flips a
share of the calls as a canary, and does nothing more: the gates must take it back. Then a candidate that fails to judge
calls becomes a canary, and the sidecars must take it out by themselves. Says how long each took by the records of the
sidecars, whether every call got an answer, and whether any decision names a revision that did not make it. Exit codes
as everywhere: 0 measured, 2 usage.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import grpc
import yaml

from authz._gen.authz.control.v1 import rollouts_pb2, sidecars_pb2
from authz._gen.envoy.service.auth.v3.external_auth_pb2 import CheckResponse
from authz.cli.control_client import connect
from authz.identity.development_issuer import AUDIENCE, ISSUER, open_issuer
from authz.policy import archive
from bench.workload import check_request

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from authz.cli.control_client import ControlClient

CHECK: Final = "/envoy.service.auth.v3.Authorization/Check"
TENANT: Final = "acme"
HEADER: Final = "package authz\n\nimport rego.v1\n\n"
ALLOW: Final = HEADER + 'decision := {"effect": "allow", "reason": "baseline", "risk": "read"}\n'
FAILING: Final = HEADER + 'decision := {"effect": "allow", "reason": "failing"} if input.agent.id == "probe"\n'
PATIENCE_S: Final = 60.0


def flipping(percent: int) -> str:
    """Denies so many of a hundred calls."""
    return (
        f'{HEADER}default decision := {{"effect": "allow", "reason": "candidate", "risk": "read"}}\n\n'
        f'decision := {{"effect": "deny", "reason": "candidate"}} if input.args.amount % 100 < {percent}\n'
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """All of it, running."""

    folder: Path
    sidecars: tuple[str, ...]

    @property
    def control(self) -> ControlClient:
        """Calls as its operator."""
        return connect(None, self.folder / "control")

    def place(self, rego: str) -> str:
        """A candidate where every sidecar finds it; its digest."""
        content = archive.write({"policy.rego": rego.encode()})
        digest = sha256(content).hexdigest()
        (self.folder / "candidates" / f"{digest}.tar.gz").write_bytes(content)
        return digest

    def records(self) -> list[dict[str, Any]]:
        """What every sidecar has written."""
        files = sorted(self.folder.glob("*/records/decisions-*.jsonl"))
        return [json.loads(line) for file in files for line in file.read_text().splitlines()]

    def status(self) -> rollouts_pb2.RolloutStatus:
        """Where the rollout stands."""
        request = rollouts_pb2.ReadRolloutRequest(tenant=TENANT)
        return self.control.call("Rollouts/ReadRollout", request, rollouts_pb2.RolloutStatus)


def main(arguments: Sequence[str]) -> int:
    """Measure and say."""
    parser = argparse.ArgumentParser(prog="python -m bench.rollback", description=__doc__)
    parser.add_argument("--sidecars", type=int, default=3)
    parser.add_argument("--rate", type=float, default=500.0, help="calls a second in all")
    parser.add_argument("--agents", type=int, default=300)
    parser.add_argument("--percent", type=int, default=3, help="of the calls that the candidate flips")
    parser.add_argument("--share", type=float, default=0.2, help="of the agents that the canary holds")
    options = parser.parse_args(arguments)
    print(f"load average at the start {os.getloadavg()[0]:.1f}, of {os.cpu_count()} processors")
    with tempfile.TemporaryDirectory(prefix="ab-") as name, running(Path(name), options.sidecars) as stack:
        with loaded(stack, options.rate, options.agents) as failed:
            time.sleep(2)
            for what, rego in (("flips", flipping(options.percent)), ("fails", FAILING)):
                roll_out(stack, rego, options.share)
                print(f"a candidate that {what}: {told(stack, stack.status().rollout.id)}")
        print(f"{len(stack.records())} calls recorded; {len(failed)} without an answer; {mixed(stack)} mixed")
    print(f"load average at the end {os.getloadavg()[0]:.1f}")
    return 0


def roll_out(stack: Stack, rego: str, share: float) -> None:
    """Begin it as a canary, and wait until it is taken back."""
    request = rollouts_pb2.StartRolloutRequest(
        tenant=TENANT,
        candidate=stack.place(rego),
        plan=rollouts_pb2.RolloutPlan(waves=[share], no_shadow=True),
        reason="a measurement",
    )
    stack.control.call("Rollouts/StartRollout", request, rollouts_pb2.Rollout)
    over = time.monotonic() + PATIENCE_S
    while stack.status().rollout.state != rollouts_pb2.ROLLOUT_STATE_ROLLED_BACK:
        if time.monotonic() > over:
            raise RuntimeError(f"it was not taken back within {PATIENCE_S:.0f} s: {stack.status()}")
        time.sleep(0.1)
    time.sleep(3)  # until the last sidecar has heard


def told(stack: Stack, rollout: str) -> str:
    """How long the candidate answered, by the records of each sidecar."""
    answered: dict[str, list[float]] = {}
    for record in stack.records():
        if record.get("rollout") == rollout and record.get("cohort") == "candidate":
            at = datetime.fromisoformat(record["timestamp"][:26] + "+00:00").timestamp()
            answered.setdefault(record["labels"]["id"], []).append(at)
    if not answered:
        return "answered nobody"
    begun = min(map(min, answered.values()))
    ended = max(map(max, answered.values()))
    each = ", ".join(f"{max(times) - min(times):.2f} s" for times in answered.values())
    calls = sum(map(len, answered.values()))
    return f"answered {calls} calls, for {ended - begun:.2f} s in all and {each} at each sidecar; bars 10 s and 2 s"


def mixed(stack: Stack) -> int:
    """Decisions of a revision that is not their cohort's."""
    ours = {"baseline": {"baseline"}, "candidate": {"candidate", "POLICY_UNDEFINED"}, None: {"baseline"}}
    return sum(record["reason"] not in ours[record.get("cohort")] for record in stack.records())


@contextmanager
def loaded(stack: Stack, rate: float, agents: int) -> Iterator[list[str]]:
    """Agents call every sidecar in turn; gives what got no answer at all."""
    issuer = open_issuer(stack.folder / "issuer")
    requests = [
        bytes(
            check_request(
                issuer.mint(agent=f"agent-{number % agents}", tenant=TENANT, ttl_s=900), {"amount": number}
            ).SerializeToString()
        )
        for number in range(max(agents, 100) * 7)
    ]
    over, failed = threading.Event(), list[str]()

    def call(index: int, address: str) -> None:
        with grpc.insecure_channel(address) as channel:
            check = channel.unary_unary(CHECK, request_serializer=bytes, response_deserializer=CheckResponse.FromString)
            due, pause_s, number = time.perf_counter(), len(stack.sidecars) / rate, index
            while not over.is_set():
                try:
                    check(requests[number % len(requests)], timeout=5.0)
                except grpc.RpcError as error:
                    failed.append(str(error.code()))
                number += len(stack.sidecars)
                due += pause_s
                over.wait(max(0.0, due - time.perf_counter()))

    threads = [threading.Thread(target=call, args=each) for each in enumerate(stack.sidecars)]
    for thread in threads:
        thread.start()
    try:
        yield failed
    finally:
        over.set()
        for thread in threads:
            thread.join()


@contextmanager
def running(folder: Path, sidecars: int) -> Iterator[Stack]:
    """The stack, with its state in `folder`."""
    issuer, state = open_issuer(folder / "issuer"), folder / "control"
    (folder / "candidates").mkdir()
    (folder / "base.tar.gz").write_bytes(archive.write({"policy.rego": ALLOW.encode()}))
    with ExitStack() as programs:
        free = [word for name in ("grpc", "http", "replication") for word in (f"--{name}", "127.0.0.1:0")]
        control = programs.enter_context(_authz(folder, "control", "--state", str(state), *free))
        addresses = []
        for number in range(sidecars):
            own = folder / str(number)
            (own / "records").mkdir(parents=True)
            invitation = connect(None, state).call(
                "Sidecars/InviteSidecar",
                sidecars_pb2.InviteSidecarRequest(tenants=[TENANT]),
                sidecars_pb2.InviteSidecarResponse,
            )
            settings = {
                "version": 1,
                "listen": {"check": "127.0.0.1:0", "diagnostics": ""},
                "issuers": [{"issuer": ISSUER, "audience": AUDIENCE, "jwks": str(issuer.jwks_path)}],
                "policy": {"paths": [str(folder / "base.tar.gz")], "candidates": str(folder / "candidates")},
                "audit": {"directory": str(own / "records")},
                "control": {"url": control["http"], "enrol": invitation.token, "state": str(own / "sidecar")},
            }
            file = own / "authz.yaml"
            file.write_text(yaml.safe_dump(settings))
            addresses.append(programs.enter_context(_authz(own, "serve", "--config", str(file)))["check"])
        yield Stack(folder=folder, sidecars=tuple(addresses))


@contextmanager
def _authz(folder: Path, *arguments: str) -> Iterator[dict[str, Any]]:
    """A program of ours, and what it says once it is ready."""
    command = [sys.executable, "-m", "authz", *arguments, "--output", "json"]
    with (folder / "log").open("a") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        line = process.stdout.readline() if process.stdout else ""
        if not line:
            raise RuntimeError((folder / "log").read_text())
        yield json.loads(line)
    finally:
        process.kill()
        process.communicate()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
