"""What an agent proves itself with: a public key (RFC 7523) or a client certificate (RFC 8705).

Decides which keys and certificates are taken, and how they are kept: the key's own members and nothing that came with
them. Must never take a private or symmetric key, not even to drop it: it has been shown to us, so it is nobody's
secret. Trusts nothing in what it is given.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from authz.encoding import decode_base64url, decode_json_object
from authz.errors import InvalidRequestError
from authz.identity import jwks
from authz.reasons import CREDENTIAL_INVALID

if TYPE_CHECKING:
    from typing import Self

MAX_JWK_BYTES: Final = 8 * 1024
_SHA256_OCTETS: Final = 32
_KEPT: Final = ("kty", "crv", "x", "y", "n", "e", "alg", "kid")


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """One credential, of one of the two forms. Make it with `of_key` or `of_certificate`.

    `public_jwk` is a JWK in JSON with `alg` in it; `certificate_sha256` is `x5t#S256`. Times are Unix nanoseconds.
    """

    id: str
    public_jwk: str = ""
    certificate_sha256: str = ""
    created_ns: int = 0
    revoked_ns: int | None = None

    @property
    def proof(self) -> str:
        """What tells two credentials apart: the key's RFC 7638 thumbprint, or the certificate's digest."""
        if self.public_jwk:
            return f"jkt:{jwks.thumbprint(decode_json_object(self.public_jwk.encode()))}"
        return f"x5t:{self.certificate_sha256}"

    def revoked(self, now_ns: int) -> Self:
        """The same, dead since now, or since before."""
        return self if self.revoked_ns is not None else replace(self, revoked_ns=now_ns)


def of_key(public_jwk: str, *, identifier: str, now_ns: int) -> Credential:
    """The credential whose private half signs client assertions; `public_jwk` is a JWK (RFC 7517) in JSON.

    Raises:
        InvalidRequestError: `CREDENTIAL_INVALID`; not one public, strong key for EdDSA, ES256, RS256 or PS256.
    """
    octets = public_jwk.encode("utf-8", "surrogatepass")
    if len(octets) > MAX_JWK_BYTES:
        raise InvalidRequestError(CREDENTIAL_INVALID, "the public key is over 8 KiB")
    try:
        members = decode_json_object(octets)
        keys = jwks.parse(b'{"keys":[%s]}' % octets)
    except ValueError as error:
        raise InvalidRequestError(CREDENTIAL_INVALID, f"the public key is not a JWK: {error}") from None
    if keys.rejected:
        raise InvalidRequestError(CREDENTIAL_INVALID, f"the public key is refused: {keys.rejected[0].why}")
    kept = {name: members[name] for name in _KEPT if name in members} | {"alg": keys.keys[0].algorithm}
    text = json.dumps(kept, separators=(",", ":"), sort_keys=True)
    return Credential(id=identifier, public_jwk=text, created_ns=now_ns)


def of_certificate(sha256: str, *, identifier: str, now_ns: int) -> Credential:
    """The credential of the client certificate whose DER has this SHA-256, in base64url (RFC 8705 section 3.1).

    Raises:
        InvalidRequestError: `CREDENTIAL_INVALID`; not such a digest.
    """
    try:
        digest = decode_base64url(sha256)
    except ValueError:
        digest = b""
    if len(digest) != _SHA256_OCTETS:
        raise InvalidRequestError(CREDENTIAL_INVALID, "the certificate is not named by its SHA-256 in base64url")
    return Credential(id=identifier, certificate_sha256=sha256, created_ns=now_ns)
