"""`authz serve` as a child process, and a gRPC client beside it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc

from authz._gen.envoy.service.auth.v3.external_auth_pb2 import CheckRequest, CheckResponse
from authz.identity.development_issuer import AUDIENCE, ISSUER, open_issuer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from authz.identity.development_issuer import DevelopmentIssuer

ROOT = Path(__file__).resolve().parents[2]
STARTER = ROOT / "bundles" / "starter"
CHECK = "/envoy.service.auth.v3.Authorization/Check"
STOP_S = 15.0
CALL_S = 5.0


@dataclass(frozen=True)
class Served:
    """A running `authz serve` and how to reach it."""

    process: subprocess.Popen[str]
    ready: dict[str, Any]
    state: Path
    issuer: DevelopmentIssuer

    def token(self, agent: str = "research-agent", tenant: str = "acme") -> str:
        return self.issuer.mint(agent=agent, tenant=tenant)

    @contextmanager
    def channel(self) -> Iterator[grpc.Channel]:
        with grpc.insecure_channel(self.ready["check"].replace("unix://", "unix:")) as channel:
            yield channel

    def check(self, request: CheckRequest) -> CheckResponse:
        with self.channel() as channel:
            return ask(channel, request)

    def records(self) -> list[dict[str, Any]]:
        lines = [
            line for path in sorted((self.state / "records").glob("*.jsonl")) for line in path.read_text().splitlines()
        ]
        return [json.loads(line) for line in lines]

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(STOP_S)


def ask(channel: grpc.Channel, request: CheckRequest) -> CheckResponse:
    """One check over the wire."""
    method = channel.unary_unary(
        CHECK, request_serializer=CheckRequest.SerializeToString, response_deserializer=CheckResponse.FromString
    )
    response: CheckResponse = method(request, timeout=CALL_S)
    return response


def tool_call(token: str, name: str = "read_document", **args: Any) -> CheckRequest:
    """A `tools/call` as Envoy would describe it."""
    arguments = args or {"path": "/docs/report.txt"}
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": name, "arguments": arguments}}
    request = CheckRequest()
    http = request.attributes.request.http
    http.method, http.path, http.host, http.scheme = "POST", "/mcp", "tools", "http"
    http.raw_body = json.dumps(message).encode()
    http.headers.update(
        {
            "content-type": "application/json",
            "mcp-protocol-version": "2025-11-25",
            **({"authorization": f"Bearer {token}"} if token else {}),
        }
    )
    return request


def trust(state: Path) -> list[str]:
    """Flags by which the development issuer of `state` is trusted."""
    return ["--jwks", str(open_issuer(state).jwks_path), "--issuer", ISSUER, "--audience", AUDIENCE]


@contextmanager
def serving(
    state: Path, *flags: str, policy: Path | None = STARTER, environment: dict[str, str] | None = None
) -> Iterator[Served]:
    """Run `authz serve` until the block ends."""
    command = [sys.executable, "-m", "authz", "serve", *trust(state), "--output", "json"]
    command += ["--policy", str(policy)] if policy else []
    command += [
        "--listen",
        "127.0.0.1:0",
        "--diagnostics",
        "127.0.0.1:0",
        "--audit-dir",
        str(state / "records"),
        *flags,
    ]
    with (state / "serve.log").open("w") as errors:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, text=True, env={**os.environ, **(environment or {})}
        )
    try:
        line = process.stdout.readline() if process.stdout else ""
        if not line:
            process.wait(STOP_S)
            message = (state / "serve.log").read_text()
            raise AssertionError(f"authz serve did not start: {message}")
        yield Served(process=process, ready=json.loads(line), state=state, issuer=open_issuer(state))
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(STOP_S)
        if process.stdout:
            process.stdout.close()
