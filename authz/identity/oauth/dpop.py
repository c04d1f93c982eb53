"""Proof of possession at the token endpoint (RFC 9449): the key that a token will be bound to.

Decides whether a DPoP header is one fresh proof for this very request, and which key made it. Its `jti` is taken once;
spending it is the caller's. Must never take a private or symmetric key in the header: it would be everybody's.
Trusts nothing in the proof: whoever holds its key may make it, and is then the only one who can use the token.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from authz.encoding import decode_base64url, decode_json_object
from authz.errors import InvalidRequestError
from authz.identity import jose, jwks
from authz.identity.jws import Jws
from authz.identity.oauth.refusals import OAuthError
from authz.identity.registry import is_identifier

if TYPE_CHECKING:
    from authz.model import JsonObject

TYP: Final = "dpop+jwt"
MAX_PROOF_BYTES: Final = 8 * 1024
WINDOW_S: Final = 60
"""How far `iat` may lie from now, either way; so long a `jti` is remembered."""
ALGORITHMS: Final = ("EdDSA", "ES256", "RS256", "PS256")
_PARTS: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """A proof that holds: the thumbprint of its key, the digest of its `jti`, and until when (Unix seconds)."""

    jkt: str
    jti_sha256: str
    remember_until: int


def prove(text: str, *, method: str, url: str, now_s: float) -> Proof:
    """The proof in a DPoP header, for a request of `method` to `url`.

    Raises:
        OAuthError: `invalid_dpop_proof`.
    """
    parsed, public = _parsed(text)
    try:
        jose.verify(parsed, public)
    except InvalidRequestError:
        raise _refused("its signature does not verify") from None
    claims = parsed.claims
    if claims.get("htm") != method or claims.get("htu") != url:
        raise _refused("htm and htu are not those of this request")
    issued_at, jti = claims.get("iat"), claims.get("jti")
    if isinstance(issued_at, bool) or not isinstance(issued_at, int | float) or not abs(now_s - issued_at) <= WINDOW_S:
        raise _refused("iat is not now")
    if not isinstance(jti, str) or not is_identifier(jti):
        raise _refused("jti is missing or malformed")
    jkt = jose.thumbprint(public)
    digest = sha256(f"{jkt}\n{jti}".encode()).hexdigest()
    return Proof(jkt=jkt, jti_sha256=digest, remember_until=int(issued_at) + WINDOW_S + 1)


def _parsed(text: str) -> tuple[Jws, JsonObject]:
    parts = text.split(".")
    if len(parts) != _PARTS or len(text) > MAX_PROOF_BYTES or not text.isascii():
        raise _refused("it is not one compact JWS")
    try:
        header, claims = (decode_json_object(decode_base64url(part)) for part in parts[:2])
        signature = decode_base64url(parts[2])
        public = _public(header)
    except ValueError as error:
        raise _refused(str(error)) from None
    if header.keys() != {"typ", "alg", "jwk"} or header["typ"] != TYP or header["alg"] != public["alg"]:
        raise _refused("its header is not typ, alg and jwk alone, with the key's algorithm")
    signed = text.rpartition(".")[0].encode("ascii")
    algorithm = str(header["alg"])
    return Jws(algorithm=algorithm, kid=None, typ=TYP, claims=claims, signed=signed, signature=signature), public


def _public(header: JsonObject) -> JsonObject:
    """The key of the header with its algorithm, held to the rules of a published key."""
    public = header.get("jwk")
    if not isinstance(public, dict):
        raise ValueError("jwk is missing")  # noqa: TRY004 - one error type, as callers expect
    algorithm = header.get("alg")
    rsa_algorithm = algorithm if algorithm in ("RS256", "PS256") else "RS256"
    keys = jwks.parse(json.dumps({"keys": [public]}).encode(), rsa_algorithm=str(rsa_algorithm))
    if keys.rejected:
        raise ValueError(keys.rejected[0].why)
    return {**public, "alg": keys.keys[0].algorithm}


def _refused(why: str) -> OAuthError:
    return OAuthError("invalid_dpop_proof", f"the DPoP proof is refused: {why}")
