"""Who on this machine may ask for decisions (A21): another user, an older API, a process without the right name."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import httpx2 as httpx
import pytest
from cryptography import x509

from tests.e2e.serving import ask, serving, tool_call
from tests.e2e.test_native_tls import ENVOY, Authority

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.e2e

NOBODY = 65534
TRANSPORTS = ("native", "grpcio")
CONNECT = "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])"
V2 = "/envoy.service.auth.v2.Authorization/Check"


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that everyone may enter, so that only the socket's own mode keeps anybody out."""
    folder = Path(tempfile.mkdtemp(prefix="authz-a21-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def connects(path: Path, user: int) -> bool:
    """Whether a process of this user can connect."""
    python = ["/usr/bin/env", "python3"] if Path("/usr/bin/python3").exists() else [sys.executable]
    command = [*python, "-c", CONNECT, str(path)]
    ended = subprocess.run(command, user=user, group=user, extra_groups=[], capture_output=True, text=True, check=False)
    assert ended.returncode == 0 or "PermissionError" in ended.stderr, ended.stderr
    return ended.returncode == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize(("mode", "is_open"), [("0600", False), ("0660", False), ("0666", True)])
def test_a21_another_user_cannot_connect_to_the_socket(
    tmp_path: Path, open_folder: Path, transport: str, mode: str, *, is_open: bool
) -> None:
    path = open_folder / "authz.sock"
    flags = ("--transport", transport, "--listen", f"unix://{path}", "--socket-mode", mode)
    with serving(tmp_path, *flags) as served:
        assert path.stat().st_mode & 0o777 == int(mode, 8)
        assert connects(path, NOBODY) is is_open
        assert served.check(tool_call(served.token())).status.code == 0


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a21_the_v2_api_answers_nothing_and_harms_nobody(tmp_path: Path, transport: str) -> None:
    with serving(tmp_path, "--transport", transport) as served, served.channel() as channel:
        old = channel.unary_unary(V2, request_serializer=bytes, response_deserializer=bytes)
        for request in (b"", tool_call(served.token()).SerializeToString(), os.urandom(200)):
            with pytest.raises(grpc.RpcError) as refused:
                old(request, timeout=5)
            assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED
        assert ask(channel, tool_call(served.token())).status.code == 0


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize(("name", "is_known"), [(ENVOY, True), ("spiffe://example.org/envoy2", False)])
def test_a21_a_process_whose_certificate_has_another_name_is_refused(
    tmp_path: Path, transport: str, name: str, *, is_known: bool
) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.issue("server", x509.DNSName("localhost"))
    mine, my_key = authority.issue("caller", x509.UniformResourceIdentifier(name))
    file = tmp_path / "authz.yaml"
    tls = f"{{certificate: {certificate}, key: {key}, client_ca: {authority.file}, client_sans: ['{ENVOY}']}}"
    file.write_text(f"version: 1\nlisten: {{tls: {tls}}}\n")
    with serving(tmp_path, "--config", str(file), "--transport", transport) as served:
        credentials = grpc.ssl_channel_credentials(authority.file.read_bytes(), my_key.read_bytes(), mine.read_bytes())
        address = served.ready["check"].replace("127.0.0.1", "localhost")
        with grpc.secure_channel(address, credentials) as channel:
            if is_known:
                assert ask(channel, tool_call(served.token())).status.code == 0
                return
            with pytest.raises(grpc.RpcError):
                ask(channel, tool_call(served.token()))
        assert served.records() == []


def test_a21_the_diagnostics_port_tells_and_changes_nothing(tmp_path: Path) -> None:
    with serving(tmp_path) as served:
        base = f"http://{served.ready['diagnostics']}"
        assert httpx.get(f"{base}/healthz").status_code == 200
        for method, path in (("POST", "/metrics"), ("PUT", "/healthz"), ("DELETE", "/readyz"), ("GET", "/config")):
            assert httpx.request(method, f"{base}{path}").status_code in (404, 405, 501)
        assert served.check(tool_call(served.token())).status.code == 0
