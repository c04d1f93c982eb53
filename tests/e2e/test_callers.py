"""Who calls, through the real Envoy: sessions that are their owner's, and tokens bound to a certificate or a key."""

from __future__ import annotations

import datetime as dt
import ssl
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import httpx2 as httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key

from authz.encoding import encode_base64url
from tests.e2e.stack import PATIENCE_S, respond_json

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.stack import Json, Service, ToolServer

pytestmark = pytest.mark.e2e

HEADERS = {"mcp-protocol-version": "2025-11-25", "content-type": "application/json", "accept": "application/json"}
CALL = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": "read", "arguments": {}}}
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}},
}
RESULT = {"jsonrpc": "2.0", "id": 1, "result": {}}


def code(answer: httpx.Response) -> str:
    return str(answer.json()["error"]["data"]["code"]) if answer.status_code >= 400 else ""


def test_c21_a_session_is_its_callers_from_the_answer_to_initialize_on(
    decisions: Service, envoy: int, tool_server: ToolServer
) -> None:
    url = f"http://127.0.0.1:{envoy}/mcp"

    def post(agent: str, message: Json, **headers: str) -> httpx.Response:
        bearer = {"authorization": f"Bearer {decisions.token(agent)}"}
        return httpx.post(url, json=message, headers={**HEADERS, **bearer, **headers}, timeout=PATIENCE_S)

    tool_server.respond = respond_json(RESULT, headers={"mcp-session-id": "opened-by-agent"})
    opened = post("agent", INITIALIZE)
    assert (opened.json(), opened.headers["mcp-session-id"]) == (RESULT, "opened-by-agent")
    ping = {"jsonrpc": "2.0", "id": 2, "method": "ping"}
    session = {"mcp-session-id": "opened-by-agent"}
    stolen = post("thief", ping, **session)
    assert (stolen.status_code, code(stolen)) == (403, "SESSION_OWNER")
    assert post("agent", ping, **session).status_code == 200
    assert post("thief", ping, **{"mcp-session-id": "another"}).status_code == 200


class Identity:
    """A self-signed client certificate: what binds the token is the certificate, not who signed it."""

    def __init__(self, folder: Path, name: str) -> None:
        key = generate_private_key(SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        now = dt.datetime.now(dt.UTC)
        made = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(minutes=5))
            .not_valid_after(now + dt.timedelta(hours=1))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(key, hashes.SHA256())
        )
        encoding = serialization.Encoding.PEM
        self.certificate, self.key = folder / f"{name}.pem", folder / f"{name}.key"
        self.certificate.write_bytes(made.public_bytes(encoding))
        pkcs8, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        self.key.write_bytes(key.private_bytes(encoding, pkcs8, plain))
        self.x5t = encode_base64url(sha256(made.public_bytes(serialization.Encoding.DER)).digest())


def with_mutual_tls(document: Json, server: Identity, clients: tuple[Identity, ...], folder: Path) -> None:
    roots = folder / "clients.pem"
    roots.write_bytes(b"".join(client.certificate.read_bytes() for client in clients))
    chain = {"filename": str(server.certificate)}
    chains = document["static_resources"]["listeners"][0]["filter_chains"]
    chains[0]["transport_socket"] = {
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
            "require_client_certificate": True,
            "common_tls_context": {
                "tls_certificates": [{"certificate_chain": chain, "private_key": {"filename": str(server.key)}}],
                "validation_context": {"trusted_ca": {"filename": str(roots)}},
            },
        },
    }
    filters = chains[0]["filters"][0]["typed_config"]["http_filters"]
    authz = next(each for each in filters if each["name"] == "envoy.filters.http.ext_authz")
    authz["typed_config"]["include_peer_certificate"] = True


def test_d14_a_token_bound_to_a_certificate_is_good_over_its_connection_alone(
    decisions: Service, tool_server: ToolServer, tmp_path: Path
) -> None:
    tool_server.respond = respond_json(RESULT)
    server, owner, thief = (Identity(tmp_path, name) for name in ("server", "owner", "thief"))
    port = decisions.envoy("mutual", lambda file: with_mutual_tls(file, server, (owner, thief), tmp_path))
    bound = decisions.issuer.mint(agent="agent", tenant="acme", confirmation={"x5t#S256": owner.x5t})

    def call(client: Identity, token: str, **headers: str) -> httpx.Response:
        context = ssl.create_default_context(cafile=str(server.certificate))
        context.load_cert_chain(client.certificate, client.key)
        sent: dict[str, Any] = {**HEADERS, "authorization": f"Bearer {token}", **headers}
        with httpx.Client(verify=context, timeout=PATIENCE_S) as made:
            return made.post(f"https://localhost:{port}/mcp", json=CALL, headers=sent)

    assert call(owner, bound).status_code == 200
    stolen = call(thief, bound, **{"x-forwarded-client-cert": f"Hash={'00' * 32}"})
    assert (stolen.status_code, code(stolen)) == (401, "TOKEN_BINDING")
    assert stolen.headers["www-authenticate"].startswith('Bearer error="invalid_token"')
    assert call(thief, decisions.token()).status_code == 200
