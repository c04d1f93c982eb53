"""A JWK Set (RFC 7517) into keys that may verify tokens.

Decides which published keys are used: asymmetric, public, well formed, strong enough, meant for signatures and
named unambiguously. A bad key is left out and reported; it does not take the good ones with it. A document that is
not a JWK Set at all is refused whole, so that an error page never empties a key set (D13).
Must never accept a symmetric or private key: a published secret is everybody's. Trusts nothing in the document.
"""

from __future__ import annotations

import json
from collections import Counter
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicNumbers
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers

from authz.encoding import decode_base64url, decode_json_object, encode_base64url
from authz.identity.keys import MAX_KID_LENGTH, KeySet, RejectedKey, bind

if TYPE_CHECKING:
    from collections.abc import Callable

    from authz.identity.keys import PublicKey, VerificationKey
    from authz.model import JsonObject, JsonValue

MAX_KEYS: Final = 100
MAX_DOCUMENT_BYTES: Final = 256 * 1024
RSA_BITS: Final = range(2048, 8192 + 1)
"""RFC 7518 section 3.3 sets the floor; the ceiling bounds the cost of one verification."""
RSA_EXPONENTS: Final = range(2**16 + 1, 2**32, 2)
"""FIPS 186-5 section 5.1: odd and above 2^16. The ceiling is for cost; published keys use 65537."""
ROCA_PRIMES: Final = tuple(n for n in range(3, 168, 2) if all(n % d for d in range(3, n, 2)))
"""The small primes by which moduli of CVE-2017-15361 are told; a good one passes all by chance once in 2^27."""
_P256_OCTETS: Final = 32
_REQUIRED: Final = {"OKP": ("crv", "kty", "x"), "EC": ("crv", "kty", "x", "y"), "RSA": ("e", "kty", "n")}
"""RFC 7638 section 3.2, RFC 8037 section 2."""
_PRIVATE_MEMBERS: Final = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})


def parse(document: bytes, *, rsa_algorithm: str = "RS256") -> KeySet:
    """The usable keys of `document`; `rsa_algorithm` is what an RSA key without `alg` verifies.

    Raises:
        ValueError: not a JWK Set, or over 256 KiB or 100 keys.
    """
    if len(document) > MAX_DOCUMENT_BYTES:
        raise ValueError("the key set is over 256 KiB")
    entries = decode_json_object(document).get("keys")
    if not isinstance(entries, list):
        raise ValueError("the document is not a JWK Set")  # noqa: TRY004 - one error type, as documented
    if len(entries) > MAX_KEYS:
        raise ValueError("the key set has over 100 keys")
    # Refused keys count too: whoever may add a key must not be able to shadow another one's name.
    repeated = {kid for kid, times in Counter(map(_kid_text, entries)).items() if kid and times > 1}
    keys, rejected = [], []
    for position, entry in enumerate(entries):
        try:
            keys.append(_key(entry, repeated, rsa_algorithm))
        except (ValueError, UnsupportedAlgorithm) as error:
            rejected.append(RejectedKey(position=position, kid=_kid_text(entry), why=str(error)))
    return KeySet(keys=tuple(keys), rejected=tuple(rejected))


def key(entry: JsonValue, algorithm: str) -> VerificationKey:
    """The one key `entry`, outside any set, for `algorithm`.

    Raises:
        ValueError: the key is not usable, or verifies another algorithm.
    """
    try:
        found = _key(entry, set(), algorithm)
    except UnsupportedAlgorithm as error:
        raise ValueError(str(error)) from None
    if found.algorithm != algorithm:
        raise ValueError("the key is for another algorithm")
    return found


def thumbprint(entry: JsonObject) -> str:
    """The RFC 7638 thumbprint, in base64url of SHA-256, of a key that is usable."""
    required = {member: entry[member] for member in _REQUIRED[str(entry["kty"])]}
    canonical = json.dumps(required, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return encode_base64url(sha256(canonical.encode()).digest())


def _kid_text(entry: JsonValue) -> str:
    kid = entry.get("kid") if isinstance(entry, dict) else None
    return kid[:MAX_KID_LENGTH] if isinstance(kid, str) else ""


def _key(entry: JsonValue, repeated: set[str], rsa_algorithm: str) -> VerificationKey:
    if not isinstance(entry, dict):
        raise ValueError("the key is not an object")  # noqa: TRY004 - one error type, as documented
    if not _PRIVATE_MEMBERS.isdisjoint(entry):
        raise ValueError("a private or symmetric key is published; it must be withdrawn")
    kid = _kid(entry, repeated)
    if entry.get("use", "sig") != "sig" or "verify" not in _operations(entry):
        raise ValueError("the key is not for signatures")
    read, algorithms = _KINDS.get(str(entry.get("kty")), (None, ()))
    if read is None:
        raise ValueError("the key type is not OKP, EC or RSA")
    algorithm = entry.get("alg", rsa_algorithm if entry["kty"] == "RSA" else algorithms[0])
    if not isinstance(algorithm, str) or algorithm not in algorithms:
        raise ValueError("the key's algorithm is not one this service verifies")
    return bind(read(entry), algorithm, kid)


def _kid(entry: JsonObject, repeated: set[str]) -> str | None:
    kid = entry.get("kid")
    if kid is None:
        return None
    if not isinstance(kid, str) or not 0 < len(kid) <= MAX_KID_LENGTH or not kid.isprintable():
        raise ValueError("the kid is not a short printable string")
    if kid in repeated:
        raise ValueError("the kid is published more than once")
    return kid


def _operations(entry: JsonObject) -> list[JsonValue]:
    operations = entry.get("key_ops", ["verify"])
    return operations if isinstance(operations, list) else []


def _octets(entry: JsonObject, member: str) -> bytes:
    text = entry.get(member)
    if not isinstance(text, str):
        raise ValueError(f"`{member}` is missing")  # noqa: TRY004 - one error type, as documented
    return decode_base64url(text)


def _ed25519(entry: JsonObject) -> PublicKey:
    if entry.get("crv") != "Ed25519":
        raise ValueError("the curve is not Ed25519")
    return Ed25519PublicKey.from_public_bytes(_octets(entry, "x"))


def _p256(entry: JsonObject) -> PublicKey:
    if entry.get("crv") != "P-256":
        raise ValueError("the curve is not P-256")
    x, y = _octets(entry, "x"), _octets(entry, "y")
    if len(x) != _P256_OCTETS or len(y) != _P256_OCTETS:
        raise ValueError("a coordinate is not 32 octets long")
    return EllipticCurvePublicNumbers(int.from_bytes(x, "big"), int.from_bytes(y, "big"), SECP256R1()).public_key()


def _rsa(entry: JsonObject) -> PublicKey:
    modulus, exponent = (int.from_bytes(_octets(entry, member), "big") for member in ("n", "e"))
    if modulus.bit_length() not in RSA_BITS or modulus % 2 == 0:
        raise ValueError("the RSA modulus is even, or not 2048 to 8192 bits long")
    if exponent not in RSA_EXPONENTS:
        raise ValueError("the RSA exponent is even or out of range")
    if all(modulus % prime in powers for prime, powers in _ROCA.items()):
        raise ValueError("the RSA modulus was made by a generator whose keys can be factored (CVE-2017-15361)")
    return RSAPublicNumbers(exponent, modulus).public_key()


_ROCA: Final = {prime: {pow(65537, times, prime) for times in range(prime)} for prime in ROCA_PRIMES}
"""That generator's moduli are powers of 65537 modulo every small prime."""


_KINDS: Final[dict[str, tuple[Callable[[JsonObject], PublicKey], tuple[str, ...]]]] = {
    "OKP": (_ed25519, ("EdDSA",)),
    "EC": (_p256, ("ES256",)),
    "RSA": (_rsa, ("RS256", "PS256")),
}
