"""Signatures of bundles and of statements about them: one compact JWS (RFC 7515) with ES256 (RFC 7518 section 3.4).

Decides whether a token is in the one form that is read here, whether a pinned key made it, and which bytes of a file
OPA signs: a document's own bytes, or for JSON that OPA reads as data its canonical text. Must never take a key or an
algorithm from a token: keys are pinned in configuration, and each verifies ES256 alone (F3). Must never accept a second
spelling of anything.

Sources: OPA's bundle documentation ("Signature Format"); OPA v1.22 v1/bundle/hash.go for the canonical text.
Trusts `cryptography` for the mathematics and `jiter` for strict JSON.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import jiter
import orjson
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDSA,
    SECP256R1,
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
)
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from authz.encoding import decode_base64url, decode_json_object, encode_base64url
from authz.errors import BundleError, ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from authz.model import JsonObject

ALGORITHM: Final = "ES256"
"""The one algorithm: OPA's `keys:` take no EdDSA, and one algorithm cannot be confused with another."""
HASH: Final = "SHA-256"

_OCTETS: Final = 32
_PARTS: Final = 3
_PARAMETERS: Final = frozenset({"alg", "kid", "typ"})
_DATA: Final = "data.json"
_MANIFEST: Final = ".manifest"


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """A pinned public key. `name` is what tokens call it; `fingerprint` is what it is, whatever it is called."""

    name: str
    fingerprint: str
    public: EllipticCurvePublicKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A token taken apart. All of it is the sender's word until `verify` has returned."""

    algorithm: str
    kid: str
    typ: str
    payload: JsonObject
    signed: bytes
    signature: bytes


def read_public_key(name: str, pem: bytes) -> Key:
    """A key to pin, from PEM.

    Raises:
        ConfigError: it is not a public key on P-256; a private key does not belong on a machine that only verifies.
    """
    try:
        public = load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm):
        raise ConfigError(f"key `{name}` is not a public key in PEM") from None
    if not isinstance(public, EllipticCurvePublicKey) or not isinstance(public.curve, SECP256R1):
        raise ConfigError(f"key `{name}` is not on P-256", remedy="bundles are signed with ES256")
    spki = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return Key(name=name, fingerprint=hashlib.sha256(spki).hexdigest(), public=public)


def read_private_key(pem: bytes) -> EllipticCurvePrivateKey:
    """A key to sign with, from PEM without a passphrase.

    Raises:
        ConfigError: it is not a private key on P-256.
    """
    try:
        private = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ConfigError("the signing key is not a private key in PEM without a passphrase") from None
    if not isinstance(private, EllipticCurvePrivateKey) or not isinstance(private.curve, SECP256R1):
        raise ConfigError("the signing key is not on P-256", remedy="bundles are signed with ES256")
    return private


def sign(payload: JsonObject, private: EllipticCurvePrivateKey, *, kid: str, typ: str = "JWT") -> str:
    """The token of `payload`. Deterministic (RFC 6979): signing again changes nothing."""
    header = orjson.dumps({"alg": ALGORITHM, "kid": kid, "typ": typ})
    signed = ".".join(map(encode_base64url, (header, orjson.dumps(payload))))
    r, s = decode_dss_signature(private.sign(signed.encode(), ECDSA(SHA256(), deterministic_signing=True)))
    return f"{signed}.{encode_base64url(r.to_bytes(_OCTETS, 'big') + s.to_bytes(_OCTETS, 'big'))}"


def parse(text: str) -> Token:
    """Take a token apart.

    Raises:
        BundleError: BUNDLE_ALGORITHM for any but ES256, BUNDLE_SIGNATURE for another form.
    """
    parts = text.split(".")
    if len(parts) != _PARTS:
        raise _refused("it is not a compact JWS")
    header = json_object(_decode(parts[0]), "BUNDLE_SIGNATURE")
    algorithm, kid, typ = (header.get(name, "") for name in ("alg", "kid", "typ"))
    if not (isinstance(algorithm, str) and isinstance(kid, str) and isinstance(typ, str)):
        raise _refused("its header holds something that is not a string")
    # `jwk`, `jku`, `x5c` bring a key along; `crit` asks for rules that are not here.
    if not header.keys() <= _PARAMETERS:
        raise _refused("its header has a parameter that is not taken")
    if algorithm != ALGORITHM:
        raise BundleError(f"a signature is not {ALGORITHM}", code="BUNDLE_ALGORITHM")
    return Token(
        algorithm=algorithm,
        kid=kid,
        typ=typ,
        payload=json_object(_decode(parts[1]), "BUNDLE_SIGNATURE"),
        signed=text[: text.rindex(".")].encode("ascii"),
        signature=_decode(parts[2]),
    )


def verify(token: Token, keys: Iterable[Key]) -> Key:
    """The key that made `token`, of these.

    A token that names a key is held to that one. OPA's `keyid` claim, which `opa build` writes, counts as a name too.

    Raises:
        BundleError: BUNDLE_KEY when none of these keys is named so; BUNDLE_SIGNATURE when it does not verify.
    """
    name = token.kid or token.payload.get("keyid") or ""
    candidates = [key for key in keys if not name or key.name == name]
    if not candidates:
        raise BundleError("no key that is pinned for it has the signature's name", code="BUNDLE_KEY")
    for key in candidates:
        if _verifies(key, token):
            return key
    raise _refused("it does not verify")


def _verifies(key: Key, token: Token) -> bool:
    if len(token.signature) != 2 * _OCTETS:
        return False  # DER, or any other spelling
    r, s = (int.from_bytes(half, "big") for half in (token.signature[:_OCTETS], token.signature[_OCTETS:]))
    try:
        key.public.verify(encode_dss_signature(r, s), token.signed, ECDSA(SHA256()))
    except InvalidSignature:
        return False
    return True


def signed_form(path: str, content: bytes) -> bytes:
    """The bytes of a file that OPA signs. What the engine loads must be these and no others.

    Raises:
        BundleError: BUNDLE_JSON when a document that OPA reads as JSON is not strict JSON.
    """
    return canonical(content) if path.rpartition("/")[2] in (_DATA, _MANIFEST) else content


def digest(content: bytes) -> str:
    """SHA-256 in lower-case hex."""
    return hashlib.sha256(content).hexdigest()


def canonical(document: bytes) -> bytes:
    """JSON without space, keys sorted, numbers as they were written.

    Raises:
        BundleError: BUNDLE_JSON when it is not strict JSON, or has an integer beyond 64 bits.
    """
    return canonical_text(parsed(document))


def parsed(document: bytes) -> Any:  # noqa: ANN401 - any JSON value
    """The value of a strict JSON document; it holds numbers with a fraction as they were written.

    Raises:
        BundleError: BUNDLE_JSON when it is none.
    """
    try:
        return jiter.from_json(
            document, allow_inf_nan=False, cache_mode="none", catch_duplicate_keys=True, float_mode="lossless-float"
        )
    except ValueError as error:
        raise _not_strict() from error


def canonical_text(value: Any) -> bytes:  # noqa: ANN401 - any JSON value
    """What `parsed` gave, or a part of it, in canonical form.

    Raises:
        BundleError: BUNDLE_JSON for an integer beyond 64 bits.
    """
    try:
        written = orjson.dumps(value, default=_literal, option=orjson.OPT_SORT_KEYS)
    except (ValueError, TypeError) as error:
        raise _not_strict() from error
    # Go escapes these two, which end a line in JavaScript; they occur within strings alone.
    return written.replace(b"\xe2\x80\xa8", b"\\u2028").replace(b"\xe2\x80\xa9", b"\\u2029")


def json_object(document: bytes, code: str) -> JsonObject:
    """One strict JSON object.

    Raises:
        BundleError: with `code`, for anything else.
    """
    try:
        return decode_json_object(document)
    except ValueError as error:
        raise BundleError(str(error), code=code) from None


def _not_strict() -> BundleError:
    return BundleError("a document is not strict JSON", code="BUNDLE_JSON")


def _literal(number: object) -> orjson.Fragment:
    if not isinstance(number, jiter.LosslessFloat):
        raise TypeError
    return orjson.Fragment(bytes(number))


def _decode(text: str) -> bytes:
    try:
        return decode_base64url(text)
    except ValueError as error:
        raise _refused(str(error)) from None


def _refused(how: str) -> BundleError:
    return BundleError(f"a signature is refused: {how}", code="BUNDLE_SIGNATURE")
