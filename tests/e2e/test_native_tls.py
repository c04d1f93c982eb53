"""Who may call over TCP, and what they may ask about the server (A21)."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from google.protobuf import descriptor_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from authz._gen.envoy.service.auth.v3 import external_auth_pb2
from authz.native import Library, NativeError, Program, Reply, ServerOptions, TLSOptions
from tests.e2e.native_program import FALLBACK, Streams
from tests.e2e.native_service import CHECK

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from google.protobuf.descriptor import FileDescriptor

    from authz.native import Claim, Server

pytestmark = pytest.mark.e2e

ENVOY = "spiffe://example.org/envoy"


class Authority:
    """A certificate authority of the test's own."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.file = self._write("ca", self._sign("ca", self._key, x509.BasicConstraints(ca=True, path_length=0)))

    def issue(self, name: str, san: x509.GeneralName) -> tuple[Path, Path]:
        """Files of a certificate and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        secret = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        (self._directory / f"{name}.key").write_bytes(secret)
        signed = self._sign(name, key, x509.SubjectAlternativeName([san]))
        return self._write(name, signed), self._directory / f"{name}.key"

    def _sign(self, name: str, key: ec.EllipticCurvePrivateKey, extension: x509.ExtensionType) -> x509.Certificate:
        now = dt.datetime.now(dt.UTC)
        builder = x509.CertificateBuilder(
            issuer_name=_named("ca"),
            subject_name=_named(name),
            public_key=key.public_key(),
            serial_number=x509.random_serial_number(),
            not_valid_before=now - dt.timedelta(minutes=1),
            not_valid_after=now + dt.timedelta(hours=1),
        )
        return builder.add_extension(extension, critical=False).sign(self._key, hashes.SHA256())

    def _write(self, name: str, certificate: x509.Certificate) -> Path:
        path = self._directory / f"{name}.pem"
        path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        return path


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])


def allow(_: bytes, claim: Claim) -> Reply:
    claim.commit()
    return Reply(answer=b"allow", allow=True)


def refuse(*_: object) -> Reply:
    return Reply(answer=b"refused", allow=False)


def serve(**options: object) -> Server:
    configured = ServerOptions(fallback=FALLBACK, stream_fallback=FALLBACK, listen="127.0.0.1:0", **options)  # type: ignore[arg-type]
    return Library.load().serve(configured, Program(check=allow, refuse=refuse, streams=Streams()))


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def server(authority: Authority) -> Iterator[Server]:
    certificate, key = authority.issue("server", x509.DNSName("localhost"))
    running = serve(tls=TLSOptions(certificate=certificate, key=key, client_ca=authority.file, allowed_sans=(ENVOY,)))
    yield running
    running.drain(1.0)


def check(server: Server, authority: Authority, files: tuple[Path, Path] | None) -> bytes:
    shown = (None, None) if files is None else (files[1].read_bytes(), files[0].read_bytes())
    credentials = grpc.ssl_channel_credentials(authority.file.read_bytes(), *shown)
    address = server.address.replace("127.0.0.1", "localhost")
    with grpc.secure_channel(address, credentials) as channel:
        answer: bytes = channel.unary_unary(CHECK, bytes, bytes)(b"a", timeout=5)
        return answer


def test_a_caller_on_the_list_is_answered(server: Server, authority: Authority) -> None:
    files = authority.issue("envoy", x509.UniformResourceIdentifier(ENVOY))
    assert check(server, authority, files) == b"allow"


def test_a21_a_caller_that_is_not_on_the_list_is_refused(server: Server, authority: Authority) -> None:
    files = authority.issue("other", x509.UniformResourceIdentifier(ENVOY + "/other"))
    with pytest.raises(grpc.RpcError):
        check(server, authority, files)
    assert server.stats()["peers_refused"] >= 1


def test_a21_a_caller_without_a_certificate_of_the_authority_is_refused(
    server: Server, authority: Authority, tmp_path: Path
) -> None:
    (tmp_path / "foreign").mkdir()
    foreign = Authority(tmp_path / "foreign").issue("envoy", x509.UniformResourceIdentifier(ENVOY))
    for files in (None, foreign):
        with pytest.raises(grpc.RpcError):
            check(server, authority, files)
    with grpc.insecure_channel(server.address) as channel, pytest.raises(grpc.RpcError):
        channel.unary_unary(CHECK, bytes, bytes)(b"a", timeout=2)


def test_a_rotated_certificate_is_used_without_a_restart(server: Server, authority: Authority) -> None:
    files = authority.issue("envoy", x509.UniformResourceIdentifier(ENVOY))
    authority.issue("server", x509.DNSName("elsewhere"))
    with pytest.raises(grpc.RpcError):
        check(server, authority, files)
    authority.issue("server", x509.DNSName("localhost"))
    assert check(server, authority, files) == b"allow"


def test_trust_material_that_is_missing_or_proves_nothing_refuses_to_start(authority: Authority) -> None:
    certificate, key = authority.issue("server", x509.DNSName("localhost"))
    with pytest.raises(NativeError, match="no such file"):
        serve(tls=TLSOptions(certificate=certificate, key=key.with_name("absent")))
    with pytest.raises(NativeError, match="allowed_sans needs client_ca"):
        serve(tls=TLSOptions(certificate=certificate, key=key, allowed_sans=(ENVOY,)))


def test_reflection_shows_the_services_when_it_is_asked_for() -> None:
    files = descriptor_pb2.FileDescriptorSet()

    def add(file: FileDescriptor, seen: set[str]) -> None:
        if file.name not in seen:
            seen.add(file.name)
            for dependency in file.dependencies:
                add(dependency, seen)
            file.CopyToProto(files.file.add())

    add(external_auth_pb2.DESCRIPTOR, set())
    server = serve(descriptors=files.SerializeToString())
    with grpc.insecure_channel(server.address) as channel:
        reflected = ProtoReflectionDescriptorDatabase(channel)
        assert "envoy.service.auth.v3.Authorization" in reflected.get_services()
        found = reflected.FindFileContainingSymbol("envoy.service.auth.v3.CheckRequest")
        assert found.name == "envoy/service/auth/v3/external_auth.proto"
    server.drain(1.0)
