"""What the control plane's own authority signs, and what it never does."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from cryptography.x509.verification import (
    PolicyBuilder,
    Store,
    VerificationError,
)

from authz.control import certificates
from authz.control.certificates import (
    ANNOUNCED,
    AUTHORITY_LIFE,
    AUTHORITY_TURN,
    SERVER_LIFE,
    SIDECAR_LIFE,
    alive,
    issue_server,
    issue_sidecar,
    new_authority,
    read_request,
    signing,
    successor,
)
from authz.enrolment.identity import new_key, request
from authz.enrolment.names import SERVER_NAME, alternative_names, sidecar_named

if TYPE_CHECKING:
    from cryptography.x509.verification import (
        ClientVerifier,
        ServerVerifier,
    )

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
AUTHORITY = new_authority(NOW, NOW)
SIDECAR = "7d0c2f9e-0000-4000-8000-000000000001"


def client_verifier(at: datetime = NOW) -> ClientVerifier:
    return PolicyBuilder().store(Store([AUTHORITY.certificate])).time(at).build_client_verifier()


def server_verifier(name: str = SERVER_NAME, at: datetime = NOW) -> ServerVerifier:
    return PolicyBuilder().store(Store([AUTHORITY.certificate])).time(at).build_server_verifier(x509.DNSName(name))


def sidecar_certificate(at: datetime = NOW) -> x509.Certificate:
    return issue_sidecar(AUTHORITY, new_key().public_key(), SIDECAR, at)


def test_a_sidecars_certificate_says_its_id_and_nothing_else() -> None:
    certificate = sidecar_certificate()
    assert alternative_names(certificate) == [f"spiffe://authz/sidecar/{SIDECAR}"]
    assert sidecar_named(alternative_names(certificate)) == SIDECAR
    assert list(certificate.subject) == []
    client_verifier().verify(certificate, [])


def test_what_a_request_asks_for_is_ignored() -> None:
    key = new_key()
    greedy = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, SERVER_NAME)]))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(SERVER_NAME)]), critical=True)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, SHA256())
    )
    certificate = issue_sidecar(AUTHORITY, read_request(greedy.public_bytes(Encoding.DER)), SIDECAR, NOW)
    assert alternative_names(certificate) == [f"spiffe://authz/sidecar/{SIDECAR}"]
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    usages = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usages) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    with pytest.raises(VerificationError):
        server_verifier().verify(certificate, [])


def test_a_sidecars_certificate_lives_a_day_and_no_longer() -> None:
    certificate = sidecar_certificate()
    assert certificate.not_valid_after_utc - NOW == SIDECAR_LIFE == timedelta(hours=24)
    with pytest.raises(VerificationError):
        client_verifier(NOW + SIDECAR_LIFE + timedelta(seconds=1)).verify(certificate, [])


def test_a_certificate_never_outlives_its_authority() -> None:
    late = AUTHORITY.ends - timedelta(hours=1)
    assert sidecar_certificate(late).not_valid_after_utc == AUTHORITY.ends


def test_no_sidecar_can_sign_for_another() -> None:
    key = new_key()
    signer = issue_sidecar(AUTHORITY, key.public_key(), SIDECAR, NOW)
    pretended = certificates.Authority(certificate=signer, key=key, signs_from=NOW)
    forged = issue_sidecar(pretended, new_key().public_key(), "another", NOW)
    with pytest.raises(VerificationError):
        client_verifier().verify(forged, [signer])


def test_the_servers_certificate_has_the_one_name_and_is_no_clients() -> None:
    server = issue_server(AUTHORITY, NOW, hosts=("control.example",))
    assert alternative_names(server.certificate) == [SERVER_NAME, "control.example"]
    assert server.certificate.not_valid_after_utc - NOW == SERVER_LIFE
    server_verifier().verify(server.certificate, [])
    server_verifier("control.example").verify(server.certificate, [])
    with pytest.raises(VerificationError):
        server_verifier("another.example").verify(server.certificate, [])
    with pytest.raises(VerificationError):
        client_verifier().verify(server.certificate, [])
    assert b"BEGIN PRIVATE KEY" in server.key_pem


def signed(key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey) -> bytes:
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else SHA256()
    return builder.sign(key, algorithm).public_bytes(Encoding.DER)


@pytest.mark.parametrize(
    "csr",
    [
        b"",
        b"\x30\x00",
        signed(new_key())[:-1],
        signed(ec.generate_private_key(ec.SECP384R1())),
        signed(ed25519.Ed25519PrivateKey.generate()),
        signed(rsa.generate_private_key(65537, 2048)),
        b"\x30" * (certificates.MAX_CSR_BYTES + 1),
    ],
    ids=["empty", "not one", "cut short", "P-384", "Ed25519", "RSA", "too large"],
)
def test_requests_that_are_none_are_refused(csr: bytes) -> None:
    with pytest.raises(ValueError, match="certificate request"):
        read_request(csr)


def test_a_request_must_be_signed_by_the_key_it_names() -> None:
    csr = bytearray(request(new_key()))
    csr[-1] ^= 1  # the end of the signature
    with pytest.raises(ValueError, match="certificate request"):
        read_request(bytes(csr))


@pytest.mark.parametrize("sidecar", ["", "a/b", "A", "a b", "é", "a" * 65, "a\n", "../a"])
def test_ids_that_could_be_read_as_another_path_are_refused(sidecar: str) -> None:
    with pytest.raises(ValueError, match="sidecar"):
        issue_sidecar(AUTHORITY, new_key().public_key(), sidecar, NOW)


@pytest.mark.parametrize(
    "names",
    [
        [],
        ["spiffe://authz/sidecar/"],
        ["spiffe://authz/sidecar/a/b"],
        ["spiffe://authz/sidecar/A"],
        ["spiffe://other/sidecar/a"],
        ["SPIFFE://authz/sidecar/a"],
        ["spiffe://authz/sidecar/a", "spiffe://authz/sidecar/b"],
        ["spiffe://authz/sidecar/a", SERVER_NAME],
        ["spiffe://authz/sidecar/a\n"],
    ],
)
def test_e10_only_exactly_one_sidecars_name_is_a_sidecar(names: list[str]) -> None:
    assert sidecar_named(names) is None


def test_the_first_authority_signs_at_once_and_the_next_is_announced_before_it_signs() -> None:
    first = successor([], NOW)
    assert first is not None
    assert first.signs_from == NOW
    later = first.ends - AUTHORITY_TURN + timedelta(seconds=1)
    assert successor([first], later - timedelta(days=1)) is None
    second = successor([first], later)
    assert second is not None
    assert second.signs_from == later + ANNOUNCED
    assert successor([first, second], later) is None
    # Announced: a root already, but not yet a signer.
    assert alive([second, first], later) == [first, second]
    assert signing([first, second], later) is first
    assert signing([first, second], second.signs_from) is second
    # Every certificate that the first one signed has ended before it does.
    assert second.signs_from + SIDECAR_LIFE < first.ends


def test_an_ended_authority_is_no_root_and_signs_nothing() -> None:
    after = NOW + AUTHORITY_LIFE
    assert alive([AUTHORITY], after) == []
    with pytest.raises(LookupError):
        signing([AUTHORITY], after)
