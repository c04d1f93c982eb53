"""Keys, clocks and tokens for tests: an issuer whose every byte can be bent."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ec import generate_private_key as generate_ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.padding import MGF1, PSS, PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key as generate_rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from authz.config import Issuer, Limits
from authz.encoding import encode_base64url
from authz.errors import DenialError
from authz.identity import jwks
from authz.identity.clock_guard import ClockGuard
from authz.identity.tokens import TokenVerifier, TrustedIssuer
from tests.fakes import FakeClock

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

    from authz.identity.keys import KeySet
    from authz.reasons import Reason

NOW: Final = 1_800_000_000
NS: Final = 1_000_000_000
ABSENT: Final[Any] = object()
"""As a claim's or parameter's value: leave it out."""
ALGORITHMS: Final = ("EdDSA", "ES256", "RS256", "PS256")


class SteppingClock(FakeClock):
    """A clock whose wall time can also be set by somebody else."""

    def step(self, seconds: float) -> None:
        """Move the wall clock alone."""
        self.wall_ns += int(seconds * NS)


@dataclass(frozen=True, kw_only=True)
class SigningKey:
    """A private key with the algorithm it signs by."""

    algorithm: str
    private: Ed25519PrivateKey | EllipticCurvePrivateKey | RSAPrivateKey

    def sign(self, signed: bytes) -> bytes:
        if isinstance(self.private, Ed25519PrivateKey):
            return self.private.sign(signed)
        if isinstance(self.private, EllipticCurvePrivateKey):
            r, s = decode_dss_signature(self.private.sign(signed, ECDSA(SHA256())))
            return r.to_bytes(32, "big") + s.to_bytes(32, "big")
        padding = PSS(MGF1(SHA256()), 32) if self.algorithm == "PS256" else PKCS1v15()
        return self.private.sign(signed, padding, SHA256())

    def jwk(self, kid: str | None = None, **changes: Any) -> dict[str, Any]:
        members = {**self._members(), "alg": self.algorithm, "use": "sig", "kid": kid or ABSENT} | changes
        return present(members)

    def pem(self) -> bytes:
        return self.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def _members(self) -> dict[str, str]:
        public = self.private.public_key()
        if isinstance(self.private, Ed25519PrivateKey):
            raw = self.private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
            return {"kty": "OKP", "crv": "Ed25519", "x": encode_base64url(raw)}
        numbers: Any = public.public_numbers()  # type: ignore[union-attr]  # Ed25519 has returned above
        if isinstance(self.private, EllipticCurvePrivateKey):
            return {"kty": "EC", "crv": "P-256", "x": number(numbers.x, 32), "y": number(numbers.y, 32)}
        return {"kty": "RSA", "n": number(numbers.n), "e": number(numbers.e)}


def number(value: int, octets: int = 0) -> str:
    return encode_base64url(value.to_bytes(octets or (value.bit_length() + 7) // 8, "big"))


def present(members: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not ABSENT}


def signing_key(algorithm: str, serial: int = 0) -> SigningKey:
    """The same key for the same arguments: RSA keys are slow to make."""
    return _made(algorithm, serial)


@cache
def _made(algorithm: str, serial: int) -> SigningKey:
    if algorithm == "EdDSA":
        return SigningKey(algorithm=algorithm, private=Ed25519PrivateKey.from_private_bytes(bytes([serial + 1]) * 32))
    if algorithm == "ES256":
        return SigningKey(algorithm=algorithm, private=generate_ec(SECP256R1()))
    if serial == 0 and algorithm == "PS256":
        return SigningKey(algorithm=algorithm, private=signing_key("RS256").private)
    return SigningKey(algorithm=algorithm, private=generate_rsa(65537, 2048))


def document(*entries: Any) -> bytes:
    return json.dumps({"keys": list(entries)}).encode()


def key_set(*entries: Any) -> KeySet:
    return jwks.parse(document(*entries))


@dataclass
class FakeKeys:
    """A `KeySource` in memory. `published` is what the next refresh finds."""

    current: KeySet
    published: KeySet | None = None
    refreshes: int = 0
    unavailable: DenialError | None = None

    def key_set(self) -> KeySet:
        if self.unavailable:
            raise self.unavailable
        return self.current

    def refreshed_key_set(self) -> KeySet:
        self.refreshes += 1
        self.current = self.published or self.current
        return self.key_set()

    def age_s(self) -> float:
        return 0.0


@dataclass
class Forge:
    """Makes tokens that are valid but for what a test changes."""

    key: SigningKey
    kid: str = "k1"
    issuer: str = "https://issuer.example"
    audience: str = "authz"

    def token(self, header: Mapping[str, Any] | bytes | None = None, **claims: Any) -> str:
        return self.sealed(header, json.dumps(self.claims(**claims)).encode())

    def sealed(self, header: Mapping[str, Any] | bytes | None, payload: bytes) -> str:
        raw = header if isinstance(header, bytes) else json.dumps(self.header(**(header or {}))).encode()
        signed = f"{encode_base64url(raw)}.{encode_base64url(payload)}"
        return f"{signed}.{encode_base64url(self.key.sign(signed.encode()))}"

    def header(self, **changes: Any) -> dict[str, Any]:
        return present({"alg": self.key.algorithm, "kid": self.kid, "typ": "at+jwt"} | changes)

    def claims(self, **changes: Any) -> dict[str, Any]:
        base = {"iss": self.issuer, "aud": self.audience, "sub": "alice", "tenant": "acme", "jti": "j-1"}
        return present(base | {"iat": NOW - 10, "exp": NOW + 290} | changes)


@dataclass
class Prover:
    """Makes DPoP proofs that hold but for what a test changes (RFC 9449 section 4.2)."""

    key: SigningKey
    method: str = "POST"
    uri: str = "https://tools.example/mcp"

    @property
    def jkt(self) -> str:
        """The RFC 7638 thumbprint, worked out here apart from the code under test."""
        members = {name: value for name, value in self.public().items() if name in ("crv", "e", "kty", "n", "x", "y")}
        canonical = json.dumps(members, sort_keys=True, separators=(",", ":"))
        return encode_base64url(hashlib.sha256(canonical.encode()).digest())

    def public(self) -> dict[str, Any]:
        return self.key.jwk(alg=ABSENT, use=ABSENT)

    def proof(self, token: str, header: Mapping[str, Any] | None = None, **claims: Any) -> str:
        protected = {"typ": "dpop+jwt", "alg": self.key.algorithm, "jwk": self.public()} | dict(header or {})
        ath = encode_base64url(hashlib.sha256(token.encode()).digest())
        payload = {"jti": "p-1", "htm": self.method, "htu": self.uri, "iat": NOW, "ath": ath} | claims
        parts = [encode_base64url(json.dumps(present(part)).encode()) for part in (protected, payload)]
        signed = ".".join(parts)
        return f"{signed}.{encode_base64url(self.key.sign(signed.encode()))}"


@dataclass
class Bench:
    """A verifier with one issuer, its keys and its clock, ready to be bent."""

    forge: Forge = field(default_factory=lambda: Forge(signing_key("EdDSA")))
    clock: SteppingClock = field(default_factory=SteppingClock)
    limits: Limits = field(default_factory=Limits)
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.keys = FakeKeys(key_set(self.forge.key.jwk(self.forge.kid)))
        self.guard = ClockGuard(self.clock)
        self.verifier = TokenVerifier([self.trusted()], clock=self.guard, limits=self.limits)

    def trusted(self) -> TrustedIssuer:
        base = {"issuer": self.forge.issuer, "audience": self.forge.audience, "jwks": "unused"}
        return TrustedIssuer(issuer=Issuer(**(base | dict(self.settings))), keys=self.keys)

    def outcome(self, token: str) -> Reason | None:
        return reason_of(lambda: self.verifier.verify(token))


def reason_of(call: Callable[[], object]) -> Reason | None:
    """Why `call` refuses; None if it does not."""
    try:
        call()
    except DenialError as error:
        return error.reason
    return None
