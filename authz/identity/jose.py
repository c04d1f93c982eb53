"""Signing keys, signatures and their verification by joserfc: what the control plane does with JOSE.

Decides which algorithms exist there, and that a key has exactly one. Must never let a token choose: its header is held
to the key's algorithm (RFC 8725 section 3.1), and nothing that it points at is read. The decision path has a verifier
of its own (docs/adr/cryptography-verifies-tokens.md). Trusts joserfc for keys and signatures.
"""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from joserfc import jws as joserfc_jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey, import_key

from authz.encoding import encode_base64url
from authz.errors import InvalidRequestError
from authz.reasons import TOKEN_ALG, TOKEN_SIGNATURE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from authz.identity.jws import Jws

PrivateKey: TypeAlias = OKPKey | ECKey

SIGNING_ALGORITHMS: Final = ("EdDSA", "ES256")
"""What the control plane signs with."""


class _Registry(joserfc_jws.JWSRegistry):
    """joserfc's algorithms without its warning on the name EdDSA, which RFC 9864 replaces and every verifier knows."""

    algorithms: Final = {**joserfc_jws.JWSRegistry.algorithms}  # type: ignore[misc]


_Registry.algorithms["EdDSA"] = copy.copy(_Registry.algorithms["EdDSA"])
_Registry.algorithms["EdDSA"].security_warning = None


def generate(algorithm: str) -> PrivateKey:
    """A new private key for `algorithm`, one of `SIGNING_ALGORITHMS`; its kid is its RFC 7638 thumbprint."""
    key = OKPKey.generate_key("Ed25519") if algorithm == "EdDSA" else ECKey.generate_key("P-256")
    return named(key)


def read_private(text: bytes) -> PrivateKey:
    """The key that `private_text` wrote."""
    members = json.loads(text)
    return named(OKPKey.import_key(members) if members["kty"] == "OKP" else ECKey.import_key(members))


def private_text(key: PrivateKey) -> bytes:
    """`key` with its private part, as a JWK in JSON: to be sealed at once."""
    return json.dumps(key.as_dict(private=True), sort_keys=True).encode("ascii")


def public_jwk(key: PrivateKey) -> dict[str, Any]:
    """The public half as it is published: with `alg`, `kid` and `use`."""
    members = key.as_dict(private=False)
    return {**members, "kid": key.kid, "alg": algorithm_of(key), "use": "sig"}


def algorithm_of(key: PrivateKey) -> str:
    """The one algorithm that `key` signs with."""
    return "EdDSA" if isinstance(key, OKPKey) else "ES256"


def sign(key: PrivateKey, *, typ: str, claims: Mapping[str, Any]) -> str:
    """A compact JWS over `claims`, with `alg`, `kid` and `typ` in its header and nothing else."""
    algorithm = algorithm_of(key)
    header = {"alg": algorithm, "kid": key.kid, "typ": typ}
    payload = json.dumps(claims, separators=(",", ":"), ensure_ascii=False).encode()
    return joserfc_jws.serialize_compact(header, payload, key, registry=_Registry(algorithms=[algorithm]))


def verify(parsed: Jws, public: Mapping[str, Any]) -> None:
    """That the owner of `public`, a checked JWK with `alg`, made the signature of `parsed`.

    Raises:
        InvalidRequestError: TOKEN_ALG or TOKEN_SIGNATURE.
    """
    algorithm = str(public["alg"])
    if parsed.algorithm != algorithm:
        raise InvalidRequestError(TOKEN_ALG)
    text = f"{parsed.signed.decode('ascii')}.{encode_base64url(parsed.signature)}"
    try:
        joserfc_jws.deserialize_compact(text, import_key(dict(public)), registry=_Registry(algorithms=[algorithm]))
    except (JoseError, ValueError):
        raise InvalidRequestError(TOKEN_SIGNATURE) from None


def named(key: PrivateKey) -> PrivateKey:
    """`key` with its RFC 7638 thumbprint for a kid."""
    key.ensure_kid()
    return key
