"""A bearer token into a `Principal`, or a refusal that says which rule it broke.

Decides that a token was issued by a configured issuer, for us, for now, to the principal it names. The steps:

0. the clock is trustworthy (`clock_guard`);
1. the size, before anything is decoded;
2. the cache: a token verified before counts until its `exp`, while its issuer's keys are unchanged;
3. three canonical parts, a strict header, a strict payload (`jws`);
4. the issuer, exactly, and its token type (RFC 8725 section 3.11, RFC 9068 section 4);
5. the key by `kid`, and that the header's algorithm is the key's own;
6. the signature;
7. the claims (`claims`).

Must never fetch what a token points at, nor repeat any part of a token in an error or a log.
Trusts the issuers it is given; there is no default one. The caller still owes revocation and scopes.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from authz.config import Limits
from authz.errors import ConfigError, InvalidRequestError
from authz.identity import claims, jws
from authz.identity.token_cache import TokenCache, VerifiedToken
from authz.reasons import (
    TOKEN_ALG,
    TOKEN_CLAIMS,
    TOKEN_ISSUER,
    TOKEN_KID,
    TOKEN_MALFORMED,
    TOKEN_SIGNATURE,
    TOKEN_SIZE,
    TOKEN_TYP,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from authz.config import Issuer
    from authz.identity.clock_guard import ClockGuard
    from authz.identity.keys import KeySet, KeySource
    from authz.model import Principal

MAX_TOKEN_BYTES: Final = 8 * 1024
_NS: Final = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustedIssuer:
    """An issuer as configured, and where its keys come from."""

    issuer: Issuer
    keys: KeySource


class TokenVerifier:
    """Verifies tokens of several issuers; safe to call from any number of threads.

    Raises:
        ConfigError: no issuer, or one configured twice.
    """

    def __init__(self, trusted: Iterable[TrustedIssuer], *, clock: ClockGuard, limits: Limits | None = None) -> None:
        issuers = tuple(trusted)
        self._trusted = {each.issuer.issuer: each for each in issuers}
        if not issuers or len(self._trusted) != len(issuers):
            raise ConfigError("token issuers must be configured, each exactly once")
        self._now_ns = clock.now_ns
        self._limits = limits or Limits()
        self._cache = TokenCache(self._limits.token_cache)

    def verify(self, token: str) -> Principal:
        """The principal that `token` proves.

        Raises:
            InvalidRequestError: with a `TOKEN_…` reason; the caller adds the challenge.
            UnavailableError: `JWKS_UNAVAILABLE` or `CLOCK_STEP`; also answered 401.
        """
        now_ns = self._now_ns()
        if len(token) > MAX_TOKEN_BYTES:
            raise InvalidRequestError(TOKEN_SIZE)
        try:
            digest = sha256(token.encode("ascii")).digest()
        except UnicodeEncodeError:
            raise InvalidRequestError(TOKEN_MALFORMED, "not ASCII") from None
        known = self._cache.find(digest)
        if known is not None and now_ns < known.expires_ns and known.keys.key_set() is known.key_set:
            return known.principal
        verified = self._verify_afresh(token, now_ns)
        self._cache.store(digest, verified)
        return verified.principal

    def keys_age_s(self, issuer: str) -> float:
        """Seconds since that issuer's keys were last read; destructive calls ask for less than 600 (failure matrix)."""
        return self._trusted[issuer].keys.age_s()

    def _verify_afresh(self, token: str, now_ns: int) -> VerifiedToken:
        parsed = jws.parse(token)
        trusted = self._issuer_of(parsed)
        if not is_typ(parsed.typ, trusted.issuer.typ):
            raise InvalidRequestError(TOKEN_TYP)
        key_set = require_signature(parsed, trusted.keys)
        principal = claims.principal(parsed.claims, issuer=trusted.issuer, now_s=now_ns / _NS, limits=self._limits)
        expires_ns = int(principal.expires_at * _NS)
        return VerifiedToken(principal=principal, expires_ns=expires_ns, keys=trusted.keys, key_set=key_set)

    def _issuer_of(self, parsed: jws.Jws) -> TrustedIssuer:
        """The issuer by exact name (D9). Read before the signature only to know whose keys to try."""
        named = parsed.claims.get("iss")
        if not isinstance(named, str):
            raise InvalidRequestError(TOKEN_CLAIMS, "`iss` is missing or not a string")
        trusted = self._trusted.get(named)
        if trusted is None:
            raise InvalidRequestError(TOKEN_ISSUER)
        return trusted


def is_typ(typ: str, wanted: str) -> bool:
    """Media types compare without case, and `application/` may be left out (RFC 7515 section 4.1.9)."""
    return typ.isascii() and typ.lower().removeprefix("application/") == wanted.lower().removeprefix("application/")


def require_signature(parsed: jws.Jws, keys: KeySource) -> KeySet:
    """Steps 5 and 6: the key set in force, by a key of which `parsed` is signed.

    Raises:
        InvalidRequestError: `TOKEN_KID`, `TOKEN_ALG` or `TOKEN_SIGNATURE`.
        UnavailableError: `JWKS_UNAVAILABLE`.
    """
    key_set = keys.key_set()
    key = key_set.find(parsed.kid)
    if key is None and parsed.kid is not None:
        key_set = keys.refreshed_key_set()
        key = key_set.find(parsed.kid)
    if key is None:
        raise InvalidRequestError(TOKEN_KID)
    if key.algorithm != parsed.algorithm:
        raise InvalidRequestError(TOKEN_ALG)
    if not key.verifies(parsed.signature, parsed.signed):
        raise InvalidRequestError(TOKEN_SIGNATURE)
    return key_set
