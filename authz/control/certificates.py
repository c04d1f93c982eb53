"""The control plane's own certificate authority: who gets which certificate, for how long, and when roots change.

Decides what a certificate says. A sidecar's says its id alone, whatever its request asks for; the server's says the one
name that sidecars look for (`authz.enrolment.names`). Neither can stand in for the other (RFC 5280 extended key usage)
and neither can sign. A new authority is announced before it signs and trusted until it ends, so that no sidecar meets a
certificate it does not know. Pure: time and the sealed storage of keys are the caller's.

Must never copy a subject, a name or an extension out of a request: whoever holds an enrolment token could otherwise
become any sidecar, or the control plane.
Trusts `cryptography` for the mathematics, and the caller to have checked the enrolment token.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final, TypeAlias

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePublicKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from authz.enrolment.names import SERVER_NAME, sidecar_uri

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from cryptography.hazmat.primitives.asymmetric.ec import (
        EllipticCurvePrivateKey,
    )
    from cryptography.x509.oid import ObjectIdentifier

SIDECAR_LIFE: Final = timedelta(hours=24)
"""Renewed at half of it. Removal does not wait for its end: each call is looked up."""
SERVER_LIFE: Final = timedelta(hours=24)
AUTHORITY_LIFE: Final = timedelta(days=90)
AUTHORITY_TURN: Final = timedelta(days=45)
"""An authority is replaced when so much of its life is left."""
ANNOUNCED: Final = timedelta(hours=48)
"""So long a new authority is handed out before it signs: every certificate is renewed within it."""
BACKDATED: Final = timedelta(minutes=5)
"""By how much a sidecar's clock may be behind ours."""
MAX_CSR_BYTES: Final = 4096

_HASH: Final = SHA256()
_Names: TypeAlias = "list[x509.GeneralName]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """A certificate that signs others, with its key."""

    certificate: x509.Certificate
    key: EllipticCurvePrivateKey
    signs_from: datetime
    """UTC. Until then it is handed out as a root and signs nothing."""

    @property
    def ends(self) -> datetime:
        """When it is no root any more, UTC."""
        return self.certificate.not_valid_after_utc


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerIdentity:
    """What the listener for sidecars shows."""

    certificate: x509.Certificate
    key_pem: bytes
    """PKCS#8, not encrypted: it lives in memory alone and as long as its certificate."""


def new_authority(now: datetime, signs_from: datetime) -> Authority:
    """An authority with a key of its own."""
    key = generate_private_key(SECP256R1())
    # A name of its own, so that of two authorities a verifier finds the right one.
    named = f"authz control plane {x509.SubjectKeyIdentifier.from_public_key(key.public_key()).digest.hex()[:12]}"
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, named)])
    certificate = (
        _certificate(name, name, key.public_key(), now, signs_from + AUTHORITY_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .sign(key, _HASH)
    )
    return Authority(certificate=certificate, key=key, signs_from=signs_from)


def alive(authorities: Sequence[Authority], now: datetime) -> list[Authority]:
    """Those whose certificates are trusted now, the latest to sign last."""
    return sorted((one for one in authorities if now < one.ends), key=lambda one: one.signs_from)


def signing(authorities: Sequence[Authority], now: datetime) -> Authority:
    """The authority that signs now: of those that may, the newest.

    Raises:
        LookupError: none may; `successor` makes one.
    """
    may = [one for one in alive(authorities, now) if one.signs_from <= now]
    if not may:
        raise LookupError("no certificate authority may sign now")
    return may[-1]


def successor(authorities: Sequence[Authority], now: datetime) -> Authority | None:
    """The authority to add now: the first one, the next one where the last is in its final half; else None."""
    living = alive(authorities, now)
    if not living:
        return new_authority(now, now)
    return new_authority(now, now + ANNOUNCED) if living[-1].ends - now < AUTHORITY_TURN else None


def read_request(csr: bytes) -> EllipticCurvePublicKey:
    """The key of a certificate request (PKCS#10, DER). Nothing else of it is read.

    Raises:
        ValueError: too large, not a request, not P-256, or not signed by the key it names.
    """
    if len(csr) > MAX_CSR_BYTES:
        raise ValueError("the certificate request is too large")
    try:
        request = x509.load_der_x509_csr(csr)
        key = request.public_key()
        signed = request.is_signature_valid
    except (ValueError, TypeError, InvalidSignature, x509.InvalidVersion) as error:
        raise ValueError("not a certificate request") from error
    if not isinstance(key, EllipticCurvePublicKey) or not isinstance(key.curve, SECP256R1):
        raise ValueError("the certificate request's key is not P-256")  # noqa: TRY004 - one error type, as documented
    if not signed:
        raise ValueError("the certificate request is not signed by its key")
    return key


def issue_sidecar(authority: Authority, key: EllipticCurvePublicKey, sidecar: str, now: datetime) -> x509.Certificate:
    """A client certificate that says `spiffe://authz/sidecar/ID` and nothing else.

    Raises:
        ValueError: an id that could be read as another path.
    """
    names: _Names = [x509.UniformResourceIdentifier(sidecar_uri(sidecar))]
    return _issue(authority, key, names, ExtendedKeyUsageOID.CLIENT_AUTH, now, now + SIDECAR_LIFE)


def issue_server(authority: Authority, now: datetime, hosts: Sequence[str] = ()) -> ServerIdentity:
    """A server certificate with a key of its own; `hosts` are further DNS names for people's clients."""
    key = generate_private_key(SECP256R1())
    names: _Names = [x509.DNSName(host) for host in (SERVER_NAME, *hosts)]
    certificate = _issue(authority, key.public_key(), names, ExtendedKeyUsageOID.SERVER_AUTH, now, now + SERVER_LIFE)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return ServerIdentity(certificate=certificate, key_pem=pem)


def _issue(
    authority: Authority,
    key: EllipticCurvePublicKey,
    names: _Names,
    purpose: ObjectIdentifier,
    now: datetime,
    ends: datetime,
) -> x509.Certificate:
    signer = authority.key.public_key()
    return (
        _certificate(x509.Name([]), authority.certificate.subject, key, now, min(ends, authority.ends))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        # Critical, because the subject is empty (RFC 5280 section 4.2.1.6).
        .add_extension(x509.SubjectAlternativeName(names), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer), critical=False)
        .sign(authority.key, _HASH)
    )


def _certificate(
    subject: x509.Name, issuer: x509.Name, key: EllipticCurvePublicKey, now: datetime, ends: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(ends)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )
