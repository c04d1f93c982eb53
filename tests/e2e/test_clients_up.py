"""`authz up` over its life: what it says, what it survives, what it leaves behind."""

from __future__ import annotations

import contextlib
import datetime as dt
import ipaddress
import json
import os
import signal
import ssl
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2 as httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.e2e.clients.agents import records
from tests.e2e.stack import PATIENCE_S, POLICY, ToolServer, eventually, is_gone, respond_json, up
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.stack import Up

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def tools() -> Iterator[ToolServer]:
    server = ToolServer()
    server.respond = respond_json({"jsonrpc": "2.0", "id": 1, "result": {"content": []}})
    yield server
    server.close()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, tools: ToolServer) -> Iterator[Up]:
    upstream = tools.url.replace("/mcp", "/tenants/7/mcp")
    with up(tmp_path_factory.mktemp("s") / "u", upstream, "--max-body", "2000") as it:
        yield it


def call(running: Up, tool: str = "read", token: str = "", **arguments: object) -> httpx.Response:
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": tool, "arguments": arguments}}
    headers = {"authorization": f"Bearer {token or running.token()}", "mcp-protocol-version": "2025-11-25"}
    return httpx.post(running.url, json=message, headers=headers, timeout=PATIENCE_S)


def is_allowed(answer: httpx.Response) -> bool:
    return answer.status_code == 200 and "result" in answer.json()


def calls(running: Up) -> list[dict[str, Any]]:
    """Records of what was asked, without those of the answers."""
    return [record for record in records(running) if record["phase"] == "call"]


def test_the_ready_line_is_the_contract_s(running: Up) -> None:
    contract = ["ready", "url", "issuer", "jwks", "diagnostics", "traces", "records", "state"]
    assert list(running.ready) == [*contract, "control", "sidecars"]
    assert running.ready["ready"] is True
    assert int(running.url.split(":")[2].removesuffix("/tenants/7/mcp")) > 0
    assert is_allowed(call(running))
    assert httpx.get(running.ready["jwks"], timeout=PATIENCE_S).json()["keys"]
    for name in ("traces", "records", "state"):
        assert eventually(Path(running.ready[name]).exists), name


def test_the_upstream_s_path_is_the_only_one(running: Up, tools: ToolServer) -> None:
    tools.received.clear()
    assert is_allowed(call(running))
    assert httpx.get(running.url.replace("/tenants/7", "")).status_code == 403
    assert [received.path for received in tools.received] == ["/tenants/7/mcp"]


def test_the_body_limit_is_said(running: Up, tools: ToolServer) -> None:
    assert is_allowed(call(running, path="x" * 1500))
    tools.received.clear()
    refused = call(running, path="x" * 2500)
    assert refused.status_code == 413
    assert refused.json()["error"]["data"]["code"] == "MCP_BODY_TOO_LARGE"
    assert "2000" in refused.text
    assert tools.received == []


def test_a_killed_service_never_lets_a_refused_call_through_and_comes_back(running: Up, tools: ToolServer) -> None:
    tools.received.clear()
    os.kill(running.child("authz serve"), signal.SIGKILL)
    seen: set[tuple[str, int | str]] = set()

    def recovered() -> bool:
        for tool in ("delete", "read"):
            answer = call(running, tool)
            seen.add((tool, "allowed" if is_allowed(answer) else answer.status_code))
        return ("read", "allowed") in seen

    eventually(recovered)
    assert ("delete", "allowed") not in seen
    assert seen <= {("delete", 503), ("delete", 200), ("read", 503), ("read", "allowed")}
    assert all(b"delete" not in received.body for received in tools.received)


def test_a_killed_envoy_comes_back_at_the_same_address(running: Up) -> None:
    os.kill(running.child("bin/envoy"), signal.SIGKILL)

    def answered() -> bool:
        try:
            return is_allowed(call(running))
        except httpx.TransportError:
            return False

    eventually(answered)


def test_an_upstream_that_is_down_is_told_from_a_refusal_and_comes_back(tmp_path: Path) -> None:
    port = free_port()
    with up(tmp_path / "u", f"http://127.0.0.1:{port}/mcp") as it:
        answer = call(it)
        assert answer.status_code == 503
        assert answer.headers["x-authz-decision-id"] == calls(it)[-1]["decision_id"]
        assert calls(it)[-1]["effect"] == "allow"
        log = Path(it.ready["state"]) / "logs" / "envoy.log"
        eventually(lambda: "connection_failure" in log.read_text())
        assert call(it, "delete").json()["error"]["data"]["code"] == "not_granted"


def test_two_run_side_by_side_and_each_keeps_its_keys_and_records(tmp_path: Path, tools: ToolServer) -> None:
    with up(tmp_path / "b", tools.url) as other:
        with up(tmp_path / "a", tools.url) as first:
            token = first.token()
            assert first.url != other.url
            assert is_allowed(call(first))
            assert is_allowed(call(other))
            assert call(other, token=token).status_code == 401
            assert len(calls(first)) == 1
        with up(tmp_path / "a", tools.url) as again:
            assert is_allowed(call(again, token=token))
            assert len(calls(again)) == 2
            assert again.ready["jwks"] == first.ready["jwks"]


def test_a_second_one_in_the_same_state_is_refused_and_the_first_is_not_disturbed(
    running: Up, tools: ToolServer
) -> None:
    command = [sys.executable, "-m", "authz", "up", "--policy", str(POLICY), "--upstream", tools.url]
    command += ["--state", running.ready["state"], "--listen", "127.0.0.1:0"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE_S)
    assert ended.returncode == 2
    assert "--state" in ended.stderr
    assert is_allowed(call(running))


def test_a_policy_edited_while_it_runs_takes_effect_and_a_broken_one_does_not(
    tmp_path: Path, tools: ToolServer
) -> None:
    policy = tmp_path / "policy"
    policy.mkdir()
    rules = policy / "policy.rego"
    rules.write_text(TEN_LINES)
    with up(tmp_path / "u", tools.url, policy=policy) as it:
        assert is_allowed(call(it, "transfer", amount=1000))
        assert not is_allowed(call(it, "transfer", amount=1001))
        rules.write_text(TEN_LINES.replace("1000", "10"))
        eventually(lambda: not is_allowed(call(it, "transfer", amount=1000)))
        assert is_allowed(call(it, "transfer", amount=10))
        revision = records(it)[-1]["revision"]
        rules.write_text("package authz\n\ndecision := {\n")
        log = Path(it.ready["state"]) / "logs" / "authz.log"
        eventually(lambda: "policy.rego" in log.read_text())
        assert is_allowed(call(it, "transfer", amount=10))
        assert not is_allowed(call(it, "transfer", amount=11))
        assert records(it)[-1]["revision"] == revision


TEN_LINES = """package authz

default decision := {"effect": "deny", "reason": "not_granted"}

decision := {"effect": "allow", "reason": "granted", "risk": "write"} if {
	input.agent.id == "agent"
	input.tool.name == "transfer"
	input.args.amount > 0
	input.args.amount <= 1000
}
"""


def start(state: Path, upstream: str, *options: str) -> subprocess.Popen[str]:
    """`authz up` in a session of its own, as a terminal starts it."""
    command = [sys.executable, "-m", "authz", "up", "--policy", str(POLICY), "--upstream", upstream]
    command += ["--state", str(state), *options]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True
    )


def children(pid: int) -> list[int]:
    listed = subprocess.run(["/bin/ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False)
    return [int(line) for line in listed.stdout.split() if not is_gone(int(line))]


def test_ctrl_c_in_a_terminal_ends_everything_cleanly(tmp_path: Path, tools: ToolServer) -> None:
    process = start(tmp_path / "u", tools.url, "--listen", f"localhost:{free_port()}")
    with contextlib.closing(process.stdout) as stdout:  # type: ignore[type-var]
        assert stdout is not None
        assert stdout.readline().startswith("ready: http://127.0.0.1:")
        left = children(process.pid)
        assert len(left) == 4, "Valkey, the control plane, the sidecar and its Envoy"
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(PATIENCE_S) == 0
        assert stdout.read() == ""
    assert all(is_gone(child) for child in left)
    assert not list(tmp_path.rglob("*.sock"))


def test_killed_it_leaves_no_program_behind_and_its_state_and_port_can_be_used_again(
    tmp_path: Path, tools: ToolServer
) -> None:
    port = free_port()
    listen = ("--listen", f"127.0.0.1:{port}", "--output", "json")
    process = start(tmp_path / "u", tools.url, *listen)
    with contextlib.closing(process.stdout) as stdout:  # type: ignore[type-var]
        assert stdout is not None
        assert json.loads(stdout.readline())["ready"]
        left = children(process.pid)
        process.kill()
        process.wait(PATIENCE_S)
    eventually(lambda: all(is_gone(child) for child in left))
    with up(tmp_path / "u", tools.url, *listen) as again:
        assert is_allowed(call(again))


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("--upstream=http://127.0.0.1:9/mcp?key=1", "--upstream"),
        ("--upstream=ftp://127.0.0.1/mcp", "--upstream"),
        ("--listen=0.0.0.0:0", "--insecure-plaintext"),
        ("--listen=tools.example:80", "--listen"),
        ("--listen=127.0.0.1", "--listen"),
    ],
)
def test_what_would_be_lost_or_shown_is_refused_with_its_remedy(tmp_path: Path, option: str, said: str) -> None:
    given = ["--policy", str(POLICY), "--upstream", "http://127.0.0.1:9/mcp", "--state", str(tmp_path / "u"), option]
    command = [sys.executable, "-m", "authz", "up", *given]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE_S)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert said in ended.stderr
    assert not (tmp_path / "u").exists()


class Authority:
    """A certificate authority of a test's own."""

    def __init__(self, folder: Path) -> None:
        self.bundle = folder / "ca.pem"
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, folder.name)])
        certificate = self._certify(self._key, x509.BasicConstraints(ca=True, path_length=None))
        self.bundle.write_bytes(certificate)

    def _certify(self, key: ec.EllipticCurvePrivateKey, extension: x509.ExtensionType) -> bytes:
        now = dt.datetime.now(dt.UTC)
        builder = x509.CertificateBuilder(
            issuer_name=self._name,
            subject_name=self._name if key is self._key else x509.Name([]),
            public_key=key.public_key(),
            serial_number=x509.random_serial_number(),
            not_valid_before=now - dt.timedelta(hours=1),
            not_valid_after=now + dt.timedelta(hours=1),
        ).add_extension(extension, critical=True)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def serve(self, server: ToolServer) -> None:
        """Put the server behind TLS, as 127.0.0.1."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        chain = self.bundle.with_name("server.pem")
        form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        chain.write_bytes(key.private_bytes(*form) + self._certify(key, names))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(chain)
        server.socket = context.wrap_socket(server.socket, server_side=True)


@pytest.mark.parametrize("is_trusted", [True, False])
def test_an_https_upstream_is_reached_only_if_its_certificate_is_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_trusted: bool
) -> None:
    ours, other = tmp_path / "ours", tmp_path / "other"
    for folder in (ours, other):
        folder.mkdir()
    server = ToolServer()
    server.respond = respond_json({"jsonrpc": "2.0", "id": 1, "result": {"content": []}})
    authority = Authority(ours)
    authority.serve(server)
    monkeypatch.setenv("SSL_CERT_FILE", str((authority if is_trusted else Authority(other)).bundle))
    try:
        with up(tmp_path / "u", server.url.replace("http:", "https:")) as it:
            answer = call(it)
            assert answer.status_code == (200 if is_trusted else 503)
            assert len(server.received) == (1 if is_trusted else 0)
    finally:
        server.close()
