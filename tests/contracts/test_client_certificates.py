"""Client certificates at the token endpoint, over real TLS (RFC 8705)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import pytest
import urllib3
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from authz._gen.authz.control.v1 import agents_pb2 as pb
from authz.control.callers import Caller, Kind
from authz.control.config import ControlConfig, Listeners, ServerTls, Tokens
from authz.encoding import encode_base64url
from authz.errors import ConfigError
from authz.wiring_control import ControlPlane
from tests.token_desk import claims_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

FREE = "127.0.0.1:0"
ADMIN = Caller(kind=Kind.OPERATOR, id="alice")
FORM = {"grant_type": "client_credentials", "client_id": "acme/planner"}


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, in PEM files."""

    certificate: Path
    key: Path
    made: x509.Certificate
    private: EllipticCurvePrivateKey

    @property
    def sha256(self) -> str:
        return encode_base64url(self.made.fingerprint(SHA256()))


def pair(folder: Path, name: str, by: Pair | None = None) -> Pair:
    """A certificate of `name` for this machine, signed by itself or by another pair."""
    key = generate_private_key(SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(by.made.subject if by else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=by is None, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    signer = by.private if by else key
    builder = builder.add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
    )
    made = builder.sign(signer, SHA256())
    files = folder / f"{name}.pem", folder / f"{name}.key"
    files[0].write_bytes(made.public_bytes(Encoding.PEM))
    files[1].touch(mode=0o600)
    files[1].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return Pair(*files, made, key)


@dataclass(frozen=True)
class Hall:
    """A control plane that speaks TLS and asks for certificates of `agents`."""

    plane: ControlPlane
    server: Pair
    agents: Pair
    folder: Path

    def register(self, sha256: str) -> None:
        agent = pb.Agent(
            tenant="acme", id="planner", owner="ana", credentials=[pb.Credential(certificate_sha256=sha256)]
        )
        self.plane._tokens.agents.create_agent(pb.CreateAgentRequest(agent=agent), ADMIN)

    def ask(self, shown: Pair | None, path: str = "/token") -> Any:
        files: dict[str, Any] = {"cert_file": str(shown.certificate), "key_file": str(shown.key)} if shown else {}
        with urllib3.PoolManager(ca_certs=str(self.server.certificate), retries=False, **files) as pool:
            url = self.plane.addresses["http"] + path
            headers = {"content-type": "application/x-www-form-urlencoded"}
            return pool.request("POST", url, body=urlencode(FORM), headers=headers, timeout=10).json()


@pytest.fixture
def hall(tmp_path: Path) -> Iterator[Hall]:
    server, agents = pair(tmp_path, "server"), pair(tmp_path, "agents")
    listeners = Listeners(
        http=FREE,
        grpc=FREE,
        replication=FREE,
        state=tmp_path / "state",
        tls=ServerTls(certificate=server.certificate, key=server.key),
    )
    plane = ControlPlane(ControlConfig(control=listeners, tokens=Tokens(client_ca=agents.certificate)))
    plane.start()
    yield Hall(plane, server, agents, tmp_path)
    plane.stop()


def test_rfc8705_2_a_certificate_proves_its_agent_and_binds_its_token(hall: Hall) -> None:
    agent = pair(hall.folder, "agent", hall.agents)
    hall.register(agent.sha256)
    token = hall.ask(agent)["access_token"]
    assert claims_of(token)["cnf"] == {"x5t#S256": agent.sha256}


def test_rfc8705_2_no_other_certificate_proves_the_agent(hall: Hall) -> None:
    hall.register(pair(hall.folder, "agent", hall.agents).sha256)
    assert hall.ask(None)["error"] == "invalid_client"
    assert hall.ask(pair(hall.folder, "another", hall.agents))["error"] == "invalid_client"


def test_rfc8705_2_a_certificate_that_nobody_vouches_for_gets_no_connection(hall: Hall) -> None:
    stranger = pair(hall.folder, "stranger")
    hall.register(stranger.sha256)
    with pytest.raises(urllib3.exceptions.HTTPError):
        hall.ask(stranger)


def test_rfc8705_5_the_metadata_says_that_certificates_are_taken(hall: Hall) -> None:
    with urllib3.PoolManager(ca_certs=str(hall.server.certificate)) as pool:
        url = hall.plane.addresses["http"] + "/.well-known/oauth-authorization-server"
        said = pool.request("GET", url).json()
    assert "tls_client_auth" in said["token_endpoint_auth_methods_supported"]
    assert said["issuer"] == hall.plane.addresses["http"]


def test_client_certificates_need_tls(tmp_path: Path) -> None:
    config = ControlConfig(control=Listeners(state=tmp_path), tokens=Tokens(client_ca=tmp_path / "ca.pem"))
    with pytest.raises(ConfigError):
        config.verify()
