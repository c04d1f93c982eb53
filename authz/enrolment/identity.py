"""A sidecar's identity: its key, the certificate it was given for it, and who it takes for the control plane.

Decides whether an answer to an enrolment or a renewal is one. At enrolment a single root is known, by its fingerprint
in the token: the certificate must be signed by that root, and by no other that the answer may bring along, or whoever
stands between could answer with an authority of their own. Later answers come over a connection that the known roots
vouch for.
Pure: bytes in, values out.

Must never take a certificate for another key than its own, nor one with another name than a sidecar's.
Trusts the enrolment token.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from authz.enrolment.names import alternative_names, fingerprint, sidecar_named
from authz.errors import ProgramError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

    from authz._gen.authz.control.v1.sidecars_pb2 import EnrolResponse

_TAMPERED: Final = "somebody may stand between: check the address, then have a new token made"


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisAccess:
    """How this sidecar reads its streams: an account that can write nothing."""

    url: str
    """Without user and password; empty where there is no Redis."""
    username: str = ""
    password: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    """Where the control plane's parts are, where that differs from what it says; empty is as it says."""

    replication: str = ""
    redis: str = ""


AS_TOLD: Final = Addresses()


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Everything a sidecar needs to speak to its control plane."""

    sidecar: str
    tenants: tuple[str, ...]
    key: EllipticCurvePrivateKey = field(repr=False)
    certificates: tuple[x509.Certificate, ...]
    """Leaf first."""
    roots: tuple[x509.Certificate, ...]
    replication: str
    """HOST:PORT of the listener for sidecars."""
    redis: RedisAccess

    @property
    def ends(self) -> datetime:
        """When its certificate is refused, UTC."""
        return self.certificates[0].not_valid_after_utc

    @property
    def renew_at(self) -> datetime:
        """The middle of its certificate's life, UTC."""
        begins = self.certificates[0].not_valid_before_utc
        return begins + (self.ends - begins) / 2

    def at(self, addresses: Addresses) -> Identity:
        """The same identity, with the control plane elsewhere."""
        return replace(
            self,
            replication=addresses.replication or self.replication,
            redis=replace(self.redis, url=addresses.redis or self.redis.url),
        )

    @property
    def key_pem(self) -> bytes:
        """PKCS#8, not encrypted: for the transport, and for a file of its owner alone."""
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    @property
    def chain_pem(self) -> bytes:
        """The certificate and what stands between it and a root."""
        return pem(self.certificates)

    @property
    def roots_pem(self) -> bytes:
        """Who may sign the control plane's certificate."""
        return pem(self.roots)


def new_key() -> EllipticCurvePrivateKey:
    """A key for one certificate: each renewal has a new one."""
    return generate_private_key(SECP256R1())


def request(key: EllipticCurvePrivateKey) -> bytes:
    """A certificate request (PKCS#10, DER) without names: the control plane gives them."""
    return (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([]))
        .sign(key, SHA256())
        .public_bytes(Encoding.DER)
    )


def enrolled(answer: EnrolResponse, key: EllipticCurvePrivateKey, pinned: bytes) -> Identity:
    """The identity in the answer to an enrolment; `pinned` is the fingerprint that the token carries.

    Other roots in the answer are left out: the first renewal, which the pinned one vouches for, brings them.

    Raises:
        ProgramError: the answer is not the invited authority's, or not for this key.
    """
    roots = tuple(root for root in _certificates(answer.roots) if fingerprint(root) == pinned)
    if not roots:
        raise ProgramError("the control plane is not the one that the enrolment token names", remedy=_TAMPERED)
    return _identity(answer, key, roots)


def renewed(answer: EnrolResponse, key: EllipticCurvePrivateKey, before: Identity) -> Identity:
    """The identity in the answer to a renewal, asked for over a connection that the roots `before` vouch for.

    Raises:
        ProgramError: another sidecar's, or not for this key.
    """
    identity = _identity(answer, key, _certificates(answer.roots))
    if identity.sidecar != before.sidecar:
        raise ProgramError("the renewed certificate is another sidecar's", remedy=_TAMPERED)
    # Redis' account lives as long as the sidecar: it is handed out once.
    return identity if answer.redis.username else replace(identity, redis=before.redis)


def _identity(answer: EnrolResponse, key: EllipticCurvePrivateKey, roots: tuple[x509.Certificate, ...]) -> Identity:
    certificates = _certificates(answer.certificates)
    if not certificates or sidecar_named(alternative_names(certificates[0])) != answer.sidecar:
        raise ProgramError("the certificate is not this sidecar's", remedy=_TAMPERED)
    if certificates[0].public_key() != key.public_key():
        raise ProgramError("the certificate is for another key", remedy=_TAMPERED)
    if not any(is_issued_by(certificates[0], root) for root in roots):
        raise ProgramError("the certificate is not signed by the control plane's authority", remedy=_TAMPERED)
    return Identity(
        sidecar=answer.sidecar,
        tenants=tuple(answer.tenants),
        key=key,
        certificates=certificates,
        roots=roots,
        replication=answer.replication,
        redis=RedisAccess(url=answer.redis.url, username=answer.redis.username, password=answer.redis.password),
    )


def _certificates(encoded: Sequence[bytes]) -> tuple[x509.Certificate, ...]:
    try:
        return tuple(x509.load_der_x509_certificate(one) for one in encoded)
    except ValueError:
        raise ProgramError("the control plane's answer holds no certificate", remedy=_TAMPERED) from None


def is_issued_by(certificate: x509.Certificate, root: x509.Certificate) -> bool:
    """Whether `root` itself signed `certificate`, with no authority in between."""
    try:
        certificate.verify_directly_issued_by(root)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def pem(certificates: Sequence[x509.Certificate]) -> bytes:
    """Certificates one after another, as OpenSSL and gRPC read them."""
    return b"".join(one.public_bytes(Encoding.PEM) for one in certificates)
