"""Real programs for the tests: `authz up`, a decision service with Envoys of any configuration, and tool servers."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from authz.identity.development_issuer import open_issuer
from authz.model import Protocol
from authz.proxy.configuration import Plan, for_envoy, for_service, upstream
from authz.proxy.programs import Program, answers, envoy_command, find_envoy, service_command
from authz.resources import shared
from tests.ports import free_address

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from authz.identity.development_issuer import DevelopmentIssuer

Json = dict[str, Any]
TESTS = Path(__file__).resolve().parent
POLICY = TESTS / "policy.rego"
PATIENCE_S = 20.0
TOKEN_S = 200.0
"""How long a token is used again; it lives 300 s."""
_TOKENS: dict[tuple[str, ...], tuple[float, str]] = {}


def eventually(found: Callable[[], Any], within_s: float = PATIENCE_S) -> Any:
    """The first truthy thing found; fails when time is up."""
    until = time.monotonic() + within_s
    while time.monotonic() < until:
        if value := found():
            return value
        time.sleep(0.02)
    raise AssertionError(f"not within {within_s} s")


@dataclass(frozen=True, slots=True, kw_only=True)
class Up:
    """A running `authz up`."""

    process: subprocess.Popen[str]
    ready: Json
    log: Path

    @property
    def url(self) -> str:
        return str(self.ready["url"])

    def token(self, agent: str = "agent", tenant: str = "acme", *options: str) -> str:
        """A token of its control plane; an agent is registered at its first one."""
        asked = (self.ready["state"], agent, tenant, *options)
        made_at, token = _TOKENS.get(asked, (0.0, ""))
        if time.monotonic() - made_at > TOKEN_S:
            command = [sys.executable, "-m", "authz", "token", "--agent", agent, "--tenant", tenant, *options]
            command += ["--state", self.ready["state"]]
            token = subprocess.check_output(command, text=True, timeout=60).strip()
            _TOKENS[asked] = (time.monotonic(), token)
        return token

    def child(self, name: str) -> int:
        """The pid of one of its children."""
        return next(pid for pid, command in self._children() if name in command)

    def has_child(self, name: str) -> bool:
        return any(name in command for _, command in self._children())

    def children(self) -> list[int]:
        return [pid for pid, _ in self._children()]

    def _children(self) -> list[tuple[int, str]]:
        command = ["/bin/ps", "-ww", "-o", "pid=,args=", "--ppid", str(self.process.pid)]
        listed = subprocess.check_output(command, text=True)
        return [(int(line.split()[0]), line.partition(" ")[2]) for line in map(str.strip, listed.splitlines())]


@contextlib.contextmanager
def up(state: Path, upstream_url: str, *options: str, policy: Path = POLICY) -> Iterator[Up]:
    """`authz up`, ready; told to stop afterwards, which it must do with exit code 0."""
    arguments = ["--policy", str(policy), "--upstream", upstream_url, "--state", str(state)]
    command = [sys.executable, "-m", "authz", "up", *arguments, "--listen", "127.0.0.1:0", "--output", "json", *options]
    log = state.with_name("up.log")
    with log.open("w") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line, log.read_text()
        yield Up(process=process, ready=json.loads(line), log=log)
    finally:
        with process.stdout:
            process.send_signal(signal.SIGTERM)
            code = process.wait(PATIENCE_S)
    assert code == 0, log.read_text()


@dataclass(slots=True, kw_only=True)
class Service:
    """A decision service, and as many Envoys before it as a test starts."""

    plan: Plan
    issuer: DevelopmentIssuer
    program: Program
    started: list[Program] = field(default_factory=list)

    def token(self, agent: str = "agent", tenant: str = "acme") -> str:
        return self.issuer.mint(agent=agent, tenant=tenant)

    def records(self) -> list[Json]:
        files = sorted(self.plan.records.glob("decisions-*.jsonl"))
        return [json.loads(line) for file in files for line in file.read_text().splitlines()]

    def envoy(self, name: str, edit: Callable[[Json], object] = lambda _: None) -> int:
        """An Envoy with the shipped configuration, edited; its port."""
        shipped = yaml.safe_load((shared("envoy") / "sidecar.yaml").read_text())
        document = for_envoy(shipped, self.plan)
        edit(document)
        return self.run(name, document)

    def run(self, name: str, document: Json) -> int:
        """An Envoy with this configuration, and the port of its first listener."""
        admin = self.plan.state / f"{name}.sock"
        document["admin"]["address"] = {"pipe": {"path": str(admin)}}
        file = self.plan.state / f"{name}.yaml"
        file.write_text(yaml.safe_dump(document))
        program = Program(
            name=name,
            command=envoy_command(find_envoy(None), file),
            log_file=self.plan.state / f"{name}.log",
            is_ready=lambda: answers("/ready", admin) is not None,
        )
        program.start()
        self.started.append(program)
        listeners = json.loads(answers("/listeners?format=json", admin) or b"{}")
        port: int = listeners["listener_statuses"][0]["local_address"]["socket_address"]["port_value"]
        return port

    def stat(self, name: str, counter: str) -> int:
        """One of an Envoy's counters."""
        text = (answers(f"/stats?filter=^{counter}$", self.plan.state / f"{name}.sock") or b"").decode()
        return int(text.rpartition(": ")[2] or 0)


@contextlib.contextmanager
def service(
    state: Path,
    upstream_url: str,
    protocol: Protocol = Protocol.MCP,
    edit: Callable[[Json], object] = lambda _: None,
    command: Callable[[Path], list[str]] = service_command,
) -> Iterator[Service]:
    """A ready decision service, its configuration edited; ended with its Envoys."""
    state.mkdir(mode=0o700, exist_ok=True)
    issuer = open_issuer(state)
    plan = Plan(
        policy=(POLICY,),
        upstream=upstream(upstream_url),
        protocol=protocol,
        host="127.0.0.1",
        port=0,
        server="default",
        max_body_bytes=65_536,
        state=state,
        socket=state / "authz.sock",
        admin=state / "admin.sock",
        diagnostics=free_address(),
        issuer=issuer.issuer,
        audience=issuer.audience,
        jwks=issuer.jwks_path,
        ca_bundle=None,
    )
    plan.records.mkdir(exist_ok=True)
    file = state / "authz.yaml"
    document = for_service(plan)
    edit(document)
    file.write_text(yaml.safe_dump(document))
    program = Program(
        name="service",
        command=command(file),
        log_file=state / "authz.log",
        is_ready=lambda: answers("/readyz", plan.diagnostics) is not None,
    )
    running = Service(plan=plan, issuer=issuer, program=program)
    try:
        program.start()
        yield running
    finally:
        for started in (*running.started, program):
            started.stop()


@dataclass(slots=True)
class Received:
    """One request as a tool server got it."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class ToolServer(http.server.ThreadingHTTPServer):
    """An HTTP server that keeps what it gets and answers what it is told."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Requests)
        self.received: list[Received] = []
        self.respond: Callable[[http.server.BaseHTTPRequestHandler, Received], None] = respond_json({})
        self._thread = threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/mcp"

    def close(self) -> None:
        self.shutdown()
        self.server_close()


def respond_json(body: object, status: int = 200, headers: dict[str, str] | None = None) -> Any:
    return respond_bytes(json.dumps(body).encode(), status, {"content-type": "application/json"} | (headers or {}))


def respond_bytes(body: bytes, status: int, headers: dict[str, str]) -> Any:
    def respond(request: http.server.BaseHTTPRequestHandler, _received: Received) -> None:
        request.send_response(status)
        for name, value in (headers | {"content-length": str(len(body))}).items():
            request.send_header(name, value)
        request.end_headers()
        request.wfile.write(body)

    return respond


def stream_events(events: Iterator[bytes]) -> Any:
    """An event stream, one chunk an event; it stays open until `events` ends."""

    def respond(request: http.server.BaseHTTPRequestHandler, _received: Received) -> None:
        request.send_response(200)
        request.send_header("content-type", "text/event-stream")
        request.send_header("transfer-encoding", "chunked")
        request.end_headers()
        for chunk in events:
            request.wfile.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
            request.wfile.flush()
        request.wfile.write(b"0\r\n\r\n")

    return respond


class _Requests(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: ToolServer  # type: ignore[mutable-override]

    def _take(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = self._chunked() if "transfer-encoding" in headers else self._counted(headers)
        received = Received(self.command, self.path, headers, body)
        self.server.received.append(received)
        with contextlib.suppress(ConnectionError):
            self.server.respond(self, received)

    do_GET = do_HEAD = do_OPTIONS = do_POST = do_PUT = do_PATCH = do_DELETE = _take  # noqa: N815 - http.server's names

    def _counted(self, headers: dict[str, str]) -> bytes:
        return self.rfile.read(int(headers.get("content-length", "0")))

    def _chunked(self) -> bytes:
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def log_message(self, *_: object) -> None:
        pass


def raw(port: int, request: bytes, *, until_closed: bool = True) -> bytes:
    """What comes back for these very bytes, which no HTTP library would send."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as connection:
        connection.sendall(request)
        answer = b""
        while chunk := connection.recv(65_536):
            answer += chunk
            if not until_closed and b"\r\n\r\n" in answer:
                break
    return answer


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False
