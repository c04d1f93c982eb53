"""A DPoP proof: one request, signed by the key that a token is bound to (RFC 9449 section 4).

Decides whether a header is one well-formed proof, signed by the key it carries. Must never take a symmetric or private
key, nor an algorithm that is not on the allow-list. Pure; trusts nothing in the proof: whom the key belongs to, which
request it is for and whether it was seen before is judged by `possession`.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from authz.encoding import is_sha256, numeric_date
from authz.identity import jwks, jws

if TYPE_CHECKING:
    from authz.identity.keys import VerificationKey
    from authz.model import JsonObject

TYP: Final = "dpop+jwt"
MAX_BYTES: Final = 8 * 1024
MAX_JTI: Final = 256
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What a proof says, not yet believed. `issued_at` is in Unix seconds; `jkt` is its key's thumbprint.

    `token_sha256` is empty where no token is shown with the proof: at a token endpoint.
    """

    jkt: str
    jti: str
    method: str
    uri: str
    issued_at: float
    token_sha256: str
    key: VerificationKey
    signed: bytes
    signature: bytes

    def is_signed(self) -> bool:
        """Whether the owner of the key made it. Costs a signature's verification: ask last."""
        return self.key.verifies(self.signature, self.signed)


def parse(text: str) -> Proof:
    """Take one proof apart.

    Raises:
        InvalidRequestError: it is no compact JWS with the header of a proof.
        ValueError: a claim, or the key.
    """
    if len(text) > MAX_BYTES:
        raise ValueError("the proof is over 8 KiB")
    if not text.isascii():
        raise ValueError("the proof is not ASCII")
    parsed = jws.parse(text, jws.PROOF_PARAMETERS)
    if parsed.typ != TYP:
        raise ValueError("the proof is not of type dpop+jwt")
    key, jkt = _key(json.dumps(parsed.jwk, sort_keys=True), parsed.algorithm)
    claims = parsed.claims
    token_sha256 = _text(claims, "ath") if "ath" in claims else ""
    if token_sha256 and not is_sha256(token_sha256):
        raise ValueError("`ath` is not a SHA-256")
    return Proof(
        jkt=jkt,
        jti=_text(claims, "jti"),
        method=_text(claims, "htm"),
        uri=target(_text(claims, "htu")),
        issued_at=numeric_date(claims.get("iat")),
        token_sha256=token_sha256,
        key=key,
        signed=parsed.signed,
        signature=parsed.signature,
    )


def target(uri: str) -> str:
    """`uri` without query and fragment, in the one spelling that is compared (RFC 9449 section 4.3 step 9, RFC 3986).

    Scheme and host are lower-cased and a default port is left out. Paths are compared byte for byte, as everywhere.

    Raises:
        ValueError: it is not an absolute http or https URI.
    """
    parts = urlsplit(uri)
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname or "@" in parts.netloc or not uri.isprintable():
        raise ValueError("`htu` is not an http or https URI")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    port = "" if parts.port in (None, _DEFAULT_PORTS[parts.scheme]) else f":{parts.port}"
    return f"{parts.scheme}://{host}{port}{parts.path or '/'}"


@functools.lru_cache(maxsize=1024)  # an agent uses one key for all of its proofs, and building one costs tens of us
def _key(jwk: str, algorithm: str) -> tuple[VerificationKey, str]:
    entry: JsonObject = json.loads(jwk)
    key = jwks.key(entry, algorithm)
    return key, jwks.thumbprint(entry)


def _text(claims: JsonObject, claim: str) -> str:
    value = claims.get(claim)
    if not isinstance(value, str) or not value:
        raise ValueError(f"`{claim}` is missing or not a string")
    if claim == "jti" and len(value) > MAX_JTI:
        raise ValueError("`jti` is over 256 characters")
    return value
