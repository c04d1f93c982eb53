"""`python -m bench.kill_effect`: from a kill to the first refusal, measured from outside on a running stack.

Starts what `authz up` starts without Envoy, `authz control`, a Valkey and sidecars, keeps the sidecars under load,
kills agents one by one, and asks each sidecar until it refuses. Then it freezes Redis and the control plane, which
leaves sidecars blind, and says how long they went on serving writes. Every agent is new, so that no run measures what
another has seen. Exit codes as everywhere: 0 measured, 2 usage.
"""

from __future__ import annotations

import argparse
import secrets
import signal
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import grpc

from authz._gen.authz.control.v1 import kills_pb2
from authz._gen.envoy.service.auth.v3.external_auth_pb2 import CheckResponse
from bench.fleet import TENANT, busy, running
from bench.load import generator

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bench.fleet import Fleet

CHECK: Final = "/envoy.service.auth.v3.Authorization/Check"
POLICY: Final = 'package authz\n\ndecision := {"effect": "allow", "reason": "granted", "risk": "write"}\n'
BLIND_S: Final = 30.0
"""Longest wait for what must come after two."""


def main(arguments: Sequence[str]) -> int:
    """Measure and say."""
    parser = argparse.ArgumentParser(prog="python -m bench.kill_effect", description=__doc__)
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--sidecars", type=int, default=3)
    parser.add_argument("--rate", type=float, default=500.0, help="calls a second in all while kills are made")
    parser.add_argument("--freezes", type=int, default=5, help="times that everything a sidecar hears is frozen")
    options = parser.parse_args(arguments)
    print(busy())
    with tempfile.TemporaryDirectory(prefix="ab-") as name:
        folder = Path(name)
        (folder / "policy.rego").write_text(POLICY)
        with running(folder, options.sidecars, {"paths": [str(folder / "policy.rego")]}, has_redis=True) as fleet:
            _measure(fleet, options)
    print(busy())
    return 0


def _measure(fleet: Fleet, options: argparse.Namespace) -> None:
    load = generator(fleet.folder, fleet.requests(["somebody"]))
    with load.meanwhile(fleet.addresses, in_flight=16, rate=options.rate) as met:
        waits = [killed(fleet) for _ in range(options.kills)]
    told = {"asked": [wait.asked_s for wait in waits], "acknowledged": [wait.acknowledged_s for wait in waits]}
    for since, seconds in told.items():
        print(f"from {since} to the last sidecar's first refusal: {_shares(seconds)}; bar p99 250 ms, max 1 s")
    print(f"{options.kills} kills at {options.sidecars} sidecars; {met[0].calls} calls answered meanwhile")
    for names in (("redis",), ("redis", "control")):
        blind = [frozen(fleet, names) for _ in range(options.freezes)]
        told_s = ", ".join("on and on" if each is None else f"{each:.2f} s" for each in blind)
        print(f"writes served on after {' and '.join(names)} froze: {told_s}; bar 2 s without any news")


@dataclass(frozen=True, slots=True)
class Wait:
    """Until the last sidecar refused: since the kill was asked for, and since it was acknowledged."""

    asked_s: float
    acknowledged_s: float


def killed(fleet: Fleet) -> Wait:
    """Kill somebody who is served everywhere, and ask every sidecar until it refuses."""
    agent = f"agent-{secrets.token_hex(8)}"
    request = fleet.requests([agent])[0]
    refused = [0.0] * len(fleet.addresses)
    served = threading.Barrier(len(fleet.addresses) + 1)

    def ask(index: int, address: str) -> None:
        with grpc.insecure_channel(address) as channel:
            check = _checking(channel)
            while not check(request):
                time.sleep(0.01)
            served.wait()
            while check(request):
                time.sleep(0.001)
        refused[index] = time.perf_counter()

    threads = [threading.Thread(target=ask, args=each) for each in enumerate(fleet.addresses)]
    for thread in threads:
        thread.start()
    served.wait()
    scope = kills_pb2.Scope(kind=kills_pb2.SCOPE_KIND_AGENT, tenant=TENANT, value=agent)
    asked = time.perf_counter()
    fleet.control.call(
        "Kills/CreateKill", kills_pb2.CreateKillRequest(scope=scope, reason="a measurement"), kills_pb2.KillReceipt
    )
    acknowledged = time.perf_counter()
    for thread in threads:
        thread.join()
    return Wait(max(refused) - asked, max(0.0, max(refused) - acknowledged))


def frozen(fleet: Fleet, names: Sequence[str]) -> float | None:
    """How long the last sidecar served writes after these programs froze; None where it never stopped."""
    request = fleet.requests(["somebody"])[0]
    with ExitStack() as stacked:
        checks = [_checking(stacked.enter_context(grpc.insecure_channel(each))) for each in fleet.addresses]
        while not all(check(request) for check in checks):
            time.sleep(0.05)
        for name in names:
            fleet.programs[name].send_signal(signal.SIGSTOP)
        began = last = time.perf_counter()
        try:
            while any(check(request) for check in checks):
                last = time.perf_counter()
                if last - began > (BLIND_S if "control" in names else 5.0):
                    return None
                time.sleep(0.01)
        finally:
            for name in names:
                fleet.programs[name].send_signal(signal.SIGCONT)
    return last - began


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
