"""A published key and the one algorithm it verifies.

Decides whether a signature verifies, with the algorithm that belongs to the *key*: what a token's header says
is compared with it and never chooses it (RFC 8725 section 3.1). Must never hold a secret, so no symmetric
algorithm exists here and a public key cannot be mistaken for an HMAC secret (D2).
Trusts `cryptography` for the mathematics.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.padding import MGF1, PSS, PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

if TYPE_CHECKING:
    from collections.abc import Callable

PublicKey: TypeAlias = Ed25519PublicKey | EllipticCurvePublicKey | RSAPublicKey

ALGORITHMS: Final = frozenset({"EdDSA", "ES256", "RS256", "PS256"})
"""The whole allow-list (RFC 7518, RFC 8037). `none` and the HMAC family are not on it and cannot be added."""
MAX_KID_LENGTH: Final = 256

_P256_OCTETS: Final = 32
_HASH: Final = SHA256()
_ECDSA: Final = ECDSA(_HASH)
# RFC 7518 section 3.5: the salt is as long as the hash. An open length would accept other encodings.
_RSA_PADDING: Final = {"RS256": PKCS1v15(), "PS256": PSS(MGF1(_HASH), _HASH.digest_size)}


@dataclass(frozen=True, slots=True, kw_only=True)
class VerificationKey:
    """A public key bound to one algorithm. Make it with `bind`."""

    kid: str | None
    algorithm: str
    check: Callable[[bytes, bytes], None]
    """Called with signature and signed bytes; raises `InvalidSignature`."""

    def verifies(self, signature: bytes, signed: bytes) -> bool:
        """Whether `signature` over `signed` was made by the owner of this key."""
        try:
            self.check(signature, signed)
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectedKey:
    """A published key that is not used, and why. Safe to log: names the key, never its members."""

    position: int
    kid: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySet:
    """One issuer's keys at one moment. Identity matters: another object means that the keys changed."""

    keys: tuple[VerificationKey, ...]
    rejected: tuple[RejectedKey, ...] = ()

    def find(self, kid: str | None) -> VerificationKey | None:
        """The key named `kid`; a token that names none is taken only where there is one key (D5)."""
        if kid is None:
            return self.keys[0] if len(self.keys) == 1 else None
        return next((key for key in self.keys if key.kid == kid), None)


class KeySource(Protocol):
    """Where one issuer's keys come from. Called on the hot path by many threads at once."""

    def key_set(self) -> KeySet:
        """The keys in force, without I/O; the same object until they change.

        Raises:
            UnavailableError: `JWKS_UNAVAILABLE`, none were read within the stale bound.
        """
        ...

    def refreshed_key_set(self) -> KeySet:
        """The same, after asking for newer keys where the rate limit allows it. Waits a bounded moment at most.

        Raises:
            UnavailableError: as `key_set`.
        """
        ...

    def age_s(self) -> float:
        """Seconds since the keys were last read; infinite before the first time."""
        ...


def bind(public: PublicKey, algorithm: str, kid: str | None = None) -> VerificationKey:
    """The key `public` for `algorithm` alone; the caller has checked that they belong together."""
    return VerificationKey(kid=kid, algorithm=algorithm, check=_check(public, algorithm))


def _check(public: PublicKey, algorithm: str) -> Callable[[bytes, bytes], None]:
    if isinstance(public, Ed25519PublicKey):
        return public.verify
    if isinstance(public, EllipticCurvePublicKey):
        return partial(_check_es256, public)
    padding = _RSA_PADDING[algorithm]
    return lambda signature, signed: public.verify(signature, signed, padding, _HASH)


def _check_es256(public: EllipticCurvePublicKey, signature: bytes, signed: bytes) -> None:
    # RFC 7518 section 3.4: R and S, 32 octets each. DER or any other length is another spelling.
    if len(signature) != 2 * _P256_OCTETS:
        raise InvalidSignature
    r, s = (int.from_bytes(half, "big") for half in (signature[:_P256_OCTETS], signature[_P256_OCTETS:]))
    public.verify(encode_dss_signature(r, s), signed, _ECDSA)
