"""Tokens of operators: those of the identity provider that people log in with (OpenID Connect Core §2, RFC 7519).

Decides that a token was issued by an issuer configured for operators, for us, for now, and whom it names. What that
person may do stands in our database, never in the token. The signature is judged by the same code, keys and
algorithms as agents' tokens; a token of an agent is none of an operator, since its issuer is not one of these.
Must never take a token that is bound to a key (`cnf`) as a bearer's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from authz.encoding import numeric_date
from authz.errors import ConfigError, InvalidRequestError
from authz.identity import jws
from authz.identity.tokens import MAX_TOKEN_BYTES, is_typ, require_signature
from authz.reasons import (
    TOKEN_AUD,
    TOKEN_BINDING,
    TOKEN_CLAIMS,
    TOKEN_EXPIRED,
    TOKEN_ISSUER,
    TOKEN_LIFETIME,
    TOKEN_NOT_YET,
    TOKEN_SIZE,
    TOKEN_TYP,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from authz.identity.clock_guard import ClockGuard
    from authz.identity.tokens import TrustedIssuer
    from authz.model import JsonObject

LEEWAY_S: Final = 30
LIFETIME_S: Final = 12 * 3600
_MAX_TEXT: Final = 256
_NS: Final = 1_000_000_000


class OperatorTokens:
    """Verifies tokens of the operators' issuers; safe to call from any number of threads.

    Raises:
        ConfigError: an issuer is configured twice.
    """

    def __init__(self, trusted: Iterable[TrustedIssuer], *, clock: ClockGuard) -> None:
        issuers = tuple(trusted)
        self._trusted = {each.issuer.issuer: each for each in issuers}
        if len(self._trusted) != len(issuers):
            raise ConfigError("an issuer of operators is configured twice")
        self._now_ns = clock.now_ns

    def verify(self, token: str) -> tuple[str, str]:
        """The issuer and the subject that `token` proves.

        Raises:
            InvalidRequestError: with a `TOKEN_…` reason.
            UnavailableError: `JWKS_UNAVAILABLE` or `CLOCK_STEP`.
        """
        now_s = self._now_ns() / _NS
        if len(token) > MAX_TOKEN_BYTES:
            raise InvalidRequestError(TOKEN_SIZE)
        parsed = jws.parse(token)
        claims = parsed.claims
        issuer = _text(claims, "iss")
        trusted = self._trusted.get(issuer)
        if trusted is None:
            raise InvalidRequestError(TOKEN_ISSUER)
        if not is_typ(parsed.typ, trusted.issuer.typ):
            raise InvalidRequestError(TOKEN_TYP)
        require_signature(parsed, trusted.keys)
        if claims.get("aud") not in (trusted.issuer.audience, [trusted.issuer.audience]):
            raise InvalidRequestError(TOKEN_AUD)
        if "cnf" in claims:
            raise InvalidRequestError(TOKEN_BINDING)
        _require_times(claims, now_s)
        return issuer, _text(claims, "sub")


def _text(claims: JsonObject, name: str) -> str:
    value = claims.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= _MAX_TEXT:
        raise InvalidRequestError(TOKEN_CLAIMS, f"`{name}` is missing or malformed")
    return value


def _instant(claims: JsonObject, name: str) -> float:
    try:
        return numeric_date(claims.get(name))
    except ValueError:
        raise InvalidRequestError(TOKEN_CLAIMS, f"`{name}` is missing or malformed") from None


def _require_times(claims: JsonObject, now_s: float) -> None:
    expires_at, issued_at = _instant(claims, "exp"), _instant(claims, "iat")
    not_before = _instant(claims, "nbf") if "nbf" in claims else issued_at
    if now_s >= expires_at + LEEWAY_S:
        raise InvalidRequestError(TOKEN_EXPIRED)
    if now_s < max(not_before, issued_at) - LEEWAY_S:
        raise InvalidRequestError(TOKEN_NOT_YET)
    if expires_at - issued_at > LIFETIME_S:
        raise InvalidRequestError(TOKEN_LIFETIME)
