"""The programs under test: how each is started, and proof that it decides before it is timed.

Decides who stands beside `authz`: opa-envoy-plugin where `OPA_ENVOY_PLUGIN` names its binary, `authz` under contract
`envoy` and under `grpc.server`, and a bare `grpc.aio` service. Must never time a program that answers wrongly: each has
to allow the granted call and, unless it decides nothing, to refuse the other.
"""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import grpc

from authz._gen.envoy.service.auth.v3.external_auth_pb2 import CheckResponse
from authz.held_port import HeldPort
from authz.identity.development_issuer import AUDIENCE, ISSUER

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bench.workload import Workload

PLUGIN_VARIABLE: Final = "OPA_ENVOY_PLUGIN"
CHECK: Final = "/envoy.service.auth.v3.Authorization/Check"
READY_S: Final = 30.0
STOP_S: Final = 10.0
PROCESSORS: Final = str(os.cpu_count() or 1)
"""GOMAXPROCS that every program is started with, so that none is measured with more than another; authz adds one."""

AUTHZ, PLUGIN = "authz", "opa-envoy-plugin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """One program under test. `command` has `{address}` where it listens."""

    name: str
    tells: str
    command: tuple[str, ...]
    decides: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A program that answers at `address` as it should."""

    program: Program
    pid: int
    address: str


def programs(workload: Workload, folder: Path, plugin: str) -> tuple[Program, ...]:
    """Who is measured; without a binary named by `plugin`, the plugin is not among them."""
    beside = (
        Program(
            name=PLUGIN, tells="no token check, no records", command=_plugin_command(plugin, workload.plugin_policy)
        ),
    )
    return (
        Program(
            name=AUTHZ,
            tells="contract agent: token, strict JSON, record on disk",
            command=(
                *_serve(workload.agent_policy, folder / "agent-records"),
                *("--jwks", str(workload.issuer.jwks_path), "--issuer", ISSUER, "--audience", AUDIENCE),
            ),
        ),
        *(beside if plugin else ()),
        Program(
            name="authz-envoy",
            tells="contract envoy: the plugin's policy, record on disk",
            command=(
                *_serve(workload.plugin_policy, folder / "envoy-records"),
                *("--contract", "envoy", "--entrypoint", "envoy/authz/allow"),
            ),
        ),
        Program(
            name="authz-grpcio",
            tells="the first one under grpc.server",
            command=(
                *_serve(workload.agent_policy, folder / "grpcio-records"),
                *("--jwks", str(workload.issuer.jwks_path), "--issuer", ISSUER, "--audience", AUDIENCE),
                *("--transport", "grpcio"),
            ),
        ),
        Program(
            name="bare-grpc.aio",
            tells="decides nothing",
            command=(sys.executable, "-m", "bench.bare_aio", "{address}"),
            decides=False,
        ),
    )


def _serve(policy: Path, records: Path) -> tuple[str, ...]:
    command = (sys.executable, "-m", "authz", "serve", "--listen", "{address}", "--diagnostics", "127.0.0.1:0")
    return (*command, "--policy", str(policy), "--audit-dir", str(records), "--audit-sync", "group")


def _plugin_command(binary: str, policy: Path) -> tuple[str, ...]:
    options = {"addr": "{address}", "path": "envoy/authz/allow"}
    sets = [f"--set=plugins.envoy_ext_authz_grpc.{key}={value}" for key, value in options.items()]
    quiet = ("--log-level", "error", "--skip-version-check", "--addr", "127.0.0.1:0")
    return (binary, "run", "--server", *quiet, *sets, str(policy))


@contextmanager
def running(program: Program, workload: Workload, folder: Path) -> Iterator[Running]:
    """Start `program`, see it decide, and stop it when the block ends.

    Raises:
        RuntimeError: it does not start, or answers wrongly; the message ends with what it printed.
    """
    log = folder / f"{program.name}.log"
    with HeldPort() as port:
        with log.open("w") as output:
            process = subprocess.Popen(
                [part.replace("{address}", port.address) for part in program.command],
                stdout=output,
                stderr=subprocess.STDOUT,
                env=os.environ | {"GOMAXPROCS": PROCESSORS},
            )
        try:
            _prove(program, workload, port.address, log)
            yield Running(program=program, pid=process.pid, address=port.address)
        finally:
            process.terminate()
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _prove(program: Program, workload: Workload, address: str, log: Path) -> None:
    with grpc.insecure_channel(address) as channel:
        check = channel.unary_unary(CHECK, None, CheckResponse.FromString)
        try:
            grpc.channel_ready_future(channel).result(READY_S)
            granted, refused = check(workload.granted), check(workload.refused)
        except (grpc.FutureTimeoutError, grpc.RpcError) as error:
            raise RuntimeError(f"{program.name} does not answer: {_end(log)}") from error
    if granted.status.code != 0 or (program.decides and refused.status.code == 0):
        raise RuntimeError(f"{program.name} does not decide as it should: {_end(log)}")


def _end(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace")[-2000:]
