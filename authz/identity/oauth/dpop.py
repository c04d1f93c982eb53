"""Proof of possession at the token endpoint (RFC 9449 section 5): the key that a token will be bound to.

Decides whether a DPoP header is one fresh proof for this very request, and which key made it. Its `jti` is taken once;
spending it is the caller's. Trusts nothing in the proof: whoever holds its key may make it, and is then the only one
who can use the token.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from authz.errors import InvalidRequestError
from authz.identity import dpop
from authz.identity.oauth.refusals import OAuthError

WINDOW_S: Final = 60
"""How far `iat` may lie from now, either way; so long a `jti` is remembered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Possession:
    """A proof that holds: the thumbprint of its key, the digest of its `jti`, and until when (Unix seconds)."""

    jkt: str
    jti_sha256: str
    remember_until: int


def prove(text: str, *, method: str, url: str, now_s: float) -> Possession:
    """What the DPoP header of a request of `method` to `url` proves.

    Raises:
        OAuthError: `invalid_dpop_proof`.
    """
    try:
        proof = dpop.parse(text)
    except (InvalidRequestError, ValueError):
        raise _refused("it is not one proof with a public key") from None
    if proof.method != method or proof.uri != dpop.target(url):
        raise _refused("htm and htu are not those of this request")
    if not abs(now_s - proof.issued_at) <= WINDOW_S:
        raise _refused("iat is not now")
    if not proof.is_signed():
        raise _refused("its signature does not verify")
    digest = sha256(f"{proof.jkt}\n{proof.jti}".encode()).hexdigest()
    return Possession(jkt=proof.jkt, jti_sha256=digest, remember_until=int(proof.issued_at) + WINDOW_S + 1)


def _refused(why: str) -> OAuthError:
    return OAuthError("invalid_dpop_proof", f"the DPoP proof is refused: {why}")
