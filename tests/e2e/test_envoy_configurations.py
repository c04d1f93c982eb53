"""Each shipped configuration does what it says on the real Envoy; only addresses differ from the file."""

from __future__ import annotations

import datetime as dt
import ssl
import subprocess
from typing import TYPE_CHECKING, Any

import httpx2 as httpx
import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from authz.model import Protocol
from authz.proxy.programs import find_envoy
from authz.resources import shared
from tests.e2e.stack import ToolServer, raw, respond_json, service
from tests.ports import free_address

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.e2e.stack import Service

pytestmark = pytest.mark.e2e

NAMES = ["sidecar", "ext-authz-only", "forward-proxy"]


def shipped(name: str) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((shared("envoy") / f"{name}.yaml").read_text())
    return document


def cluster(document: dict[str, Any], name: str) -> dict[str, Any]:
    """The address of a cluster's one endpoint."""
    found = next(c for c in document["static_resources"]["clusters"] if c["name"] == name)
    endpoint = found["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]
    address: dict[str, Any] = endpoint["address"]["socket_address"]
    return address


def place(socket_address: dict[str, Any], address: str) -> None:
    host, _, port = address.rpartition(":")
    socket_address.update(address=host, port_value=int(port))


@pytest.mark.parametrize("name", NAMES)
def test_envoy_takes_the_file_as_it_is(name: str) -> None:
    command = [str(find_envoy(None)), "--mode", "validate", "-c", str(shared("envoy") / f"{name}.yaml")]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr


@pytest.fixture
def api() -> Iterator[ToolServer]:
    server = ToolServer()
    server.respond = respond_json({"ok": True})
    yield server
    server.close()


def on_tcp(protocol: str, address: str) -> Any:
    def edit(document: dict[str, Any]) -> None:
        document["listen"]["check"] = address
        document["routes"] = [{"path_prefix": "/", "protocol": protocol}]

    return edit


def authorized(decisions: Service, agent: str = "agent") -> dict[str, str]:
    return {"authorization": f"Bearer {decisions.token(agent)}"}


def test_ext_authz_only_decides_and_fails_closed(tmp_path: Path, api: ToolServer) -> None:
    address = free_address()
    document = shipped("ext-authz-only")
    place(cluster(document, "api"), f"127.0.0.1:{api.server_address[1]}")
    place(cluster(document, "authz"), address)
    document["static_resources"]["listeners"][0]["address"]["socket_address"]["port_value"] = 0
    with service(tmp_path / "s", api.url, Protocol.HTTP, on_tcp("http", address)) as decisions:
        url = f"http://127.0.0.1:{decisions.run('envoy', document)}/v1/accounts"
        assert httpx.post(url, json={"a": 1}, headers=authorized(decisions)).json() == {"ok": True}
        denied = httpx.post(url, json={"a": 1}, headers=authorized(decisions, "stranger"))
        assert (denied.status_code, denied.json()["code"]) == (403, "not_granted")
        unrewritable = httpx.post(url, json={"note": "4111 1111 1111 1111"}, headers=authorized(decisions))
        assert unrewritable.status_code == 403
        assert len(api.received) == 1
        decisions.program.stop()
        assert httpx.post(url, json={"a": 1}, headers=authorized(decisions)).status_code == 503
        assert len(api.received) == 1


@pytest.fixture
def certified(tmp_path: Path, api: ToolServer) -> Path:
    """The API behind TLS as api.example.com; the certificate that vouches for it."""
    pair = tmp_path / "key.pem", tmp_path / "certificate.pem"
    make_certificate(*pair)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair[1], pair[0])
    api.socket = context.wrap_socket(api.socket, server_side=True)
    return pair[1]


@pytest.fixture
def egress(tmp_path: Path) -> Iterator[Service]:
    address = free_address()
    with service(tmp_path / "s", "http://127.0.0.1:9/", Protocol.HTTP, on_tcp("proxy", address)) as running:
        yield running


def forward_proxy(decisions: Service, listener: int) -> dict[str, Any]:
    """The shipped file with one of its two listeners, on a free port."""
    document = shipped("forward-proxy")
    listeners = document["static_resources"]["listeners"]
    listeners[:] = [listeners[listener]]
    listeners[0]["address"]["socket_address"]["port_value"] = 0
    service_file = yaml.safe_load((decisions.plan.state / "authz.yaml").read_text())
    place(cluster(document, "authz"), service_file["listen"]["check"])
    return document


def test_the_forward_proxy_judges_tunnels_by_their_destination(egress: Service, api: ToolServer) -> None:
    port = egress.run("proxy", forward_proxy(egress, 0))
    target = f"127.0.0.1:{api.server_address[1]}"

    def connect(agent: str, inside: bytes) -> bytes:
        lines = [f"CONNECT {target} HTTP/1.1", f"host: {target}"]
        lines += [f"{name}: {value}" for name, value in authorized(egress, agent).items()]
        return raw(port, "\r\n".join(lines).encode() + b"\r\n\r\n" + inside)

    inside = b"GET /through HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    assert b'{"ok": true}' in connect("agent", inside)
    assert connect("stranger", b"").startswith(b"HTTP/1.1 403")
    assert [received.path for received in api.received] == ["/through"]


def test_the_forward_proxy_judges_plain_http_in_full(egress: Service, api: ToolServer) -> None:
    proxy = f"http://127.0.0.1:{egress.run('proxy', forward_proxy(egress, 0))}"
    url = api.url.replace("/mcp", "/v1/items")
    with httpx.Client(proxy=proxy, headers=authorized(egress)) as client:
        assert client.post(url, json={"a": 1}).json() == {"ok": True}
        assert client.post(url, json={"note": "4111 1111 1111 1111"}).status_code == 403
    assert len(api.received) == 1
    assert "authorization" not in api.received[0].headers


def test_no_name_leads_to_instance_credentials(egress: Service) -> None:
    proxy = f"http://127.0.0.1:{egress.run('proxy', forward_proxy(egress, 0))}"
    with httpx.Client(proxy=proxy, headers=authorized(egress)) as client:
        answer = client.get("http://169.254.169.254/latest/meta-data/")
    assert (answer.status_code, answer.text) == (403, "RBAC: access denied")


@pytest.mark.parametrize("is_trusted", [True, False])
def test_tls_is_made_by_envoy_and_checked(
    egress: Service, api: ToolServer, certified: Path, tmp_path: Path, *, is_trusted: bool
) -> None:
    document = forward_proxy(egress, 1)
    api_cluster = next(c for c in document["static_resources"]["clusters"] if c["name"] == "api")
    api_cluster["type"] = "STATIC"
    place(cluster(document, "api"), f"127.0.0.1:{api.server_address[1]}")
    other = tmp_path / "other.pem"
    make_certificate(tmp_path / "other-key.pem", other)
    trusted = {"trusted_ca": {"filename": str(certified if is_trusted else other)}}
    api_cluster["transport_socket"]["typed_config"]["common_tls_context"]["validation_context"] = trusted
    url = f"http://127.0.0.1:{egress.run('api', document)}/v1/items"
    answer = httpx.get(url, headers=authorized(egress))
    assert answer.status_code == (200 if is_trusted else 503)
    assert [received.headers["host"] for received in api.received] == ["api.example.com"] * is_trusted


def make_certificate(key: Path, certificate: Path) -> None:
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "api.example.com")])
    now = dt.datetime.now(dt.UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("api.example.com")]), critical=False)
        .sign(private, hashes.SHA256())
    )
    form = serialization.Encoding.PEM
    plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    key.write_bytes(private.private_bytes(form, *plain))
    certificate.write_bytes(signed.public_bytes(form))
