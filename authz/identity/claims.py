"""The claims of a signed token into a `Principal` (contracts §1; RFC 7519, RFC 8725, RFC 9068).

Decides whether every claim is present, of its type, within its bounds and meant for us. Must never fall back: a
claim that is there but wrong refuses the token, even where its absence would have been fine.
Trusts the signature, checked before; the issuer is believed only on the tenants it may name.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from authz.encoding import is_sha256, numeric_date, token_digest
from authz.errors import InvalidRequestError
from authz.model import Confirmation, Principal
from authz.reasons import (
    TOKEN_AUD,
    TOKEN_BINDING,
    TOKEN_CLAIMS,
    TOKEN_EXPIRED,
    TOKEN_LIFETIME,
    TOKEN_NOT_YET,
    TOKEN_TENANT,
)

if TYPE_CHECKING:
    from authz.config import Issuer, Limits
    from authz.model import JsonObject, JsonValue

MAX_IDENTIFIER_BYTES: Final = 256
MAX_PARENTS: Final = 32
MAX_ACTORS: Final = 16
MAX_SCOPES: Final = 128
_SCOPE: Final = re.compile(r"[!#-\[\]-~]+(?: [!#-\[\]-~]+)*")
"""RFC 6749 section 3.3: one space between tokens; tabs, NBSP, quotes and backslashes are not in it (D11)."""


def principal(claims: JsonObject, *, issuer: Issuer, now_s: float, limits: Limits) -> Principal:
    """Who `claims` speak for, judged at `now_s` (Unix seconds).

    Raises:
        InvalidRequestError: with the `TOKEN_…` reason of the first claim that fails.
    """
    _require_audience(claims, issuer.audience)
    expires_at = _require_times(claims, now_s, limits)
    tenant = _identifier(claims, "tenant")
    if issuer.tenants is not None and tenant not in issuer.tenants:
        raise InvalidRequestError(TOKEN_TENANT)
    subject = _identifier(claims, "sub")
    actors = _actors(claims)
    agent = _identifier(claims, "agent_id", actors[-1] if actors else subject)
    return Principal(
        issuer=issuer.issuer,
        tenant=tenant,
        agent=agent,
        subject=subject,
        session=_identifier(claims, "session", ""),
        scopes=_scopes(claims),
        parents=_delegators(_parents(claims), subject, actors, agent),
        client=_identifier(claims, "client_id", ""),
        jti_sha256=token_digest(_identifier(claims, "jti")),
        expires_at=expires_at,
        confirmation=_confirmation(claims) if "cnf" in claims else None,
    )


def _wrong(claim: str) -> InvalidRequestError:
    """The refusal that names the claim and never its value."""
    return InvalidRequestError(TOKEN_CLAIMS, f"`{claim}` is missing, malformed or out of bounds")


def _require_audience(claims: JsonObject, audience: str) -> None:
    """Exactly ours: a token that is also good elsewhere could have been taken there (D9, D15)."""
    if claims.get("aud") not in (audience, [audience]):
        raise InvalidRequestError(TOKEN_AUD)


def _require_times(claims: JsonObject, now_s: float, limits: Limits) -> float:
    expires_at, issued_at = _instant(claims, "exp"), _instant(claims, "iat")
    not_before = _instant(claims, "nbf") if "nbf" in claims else issued_at
    if now_s >= expires_at + limits.leeway_s:
        raise InvalidRequestError(TOKEN_EXPIRED)
    if now_s < max(issued_at, not_before) - limits.leeway_s:
        raise InvalidRequestError(TOKEN_NOT_YET)
    if not 0 < expires_at - issued_at <= limits.token_lifetime_s:
        raise InvalidRequestError(TOKEN_LIFETIME)
    return expires_at


def _instant(claims: JsonObject, claim: str) -> float:
    try:
        return numeric_date(claims.get(claim))
    except ValueError:
        raise _wrong(claim) from None


def _checked_identifier(value: JsonValue, claim: str) -> str:
    # Printable rules out control, bidirectional and invisible characters, which make two names look like one.
    if not isinstance(value, str) or not value or not value.isprintable() or len(value.encode()) > MAX_IDENTIFIER_BYTES:
        raise _wrong(claim)
    return value


def _identifier(claims: JsonObject, claim: str, absent: str | None = None) -> str:
    if claim not in claims and absent is not None:
        return absent
    return _checked_identifier(claims.get(claim), claim)


def _confirmation(claims: JsonObject) -> Confirmation:
    """What must be shown with the token; what cannot be checked here must not pass as a bearer token (D14)."""
    confirmation = claims["cnf"]
    if not isinstance(confirmation, dict) or not confirmation or not confirmation.keys() <= {"x5t#S256", "jkt"}:
        raise InvalidRequestError(TOKEN_BINDING, "the token is bound in a way that cannot be checked")
    for digest in confirmation.values():
        if not isinstance(digest, str) or not is_sha256(digest):
            raise InvalidRequestError(TOKEN_BINDING, "the token is bound to what is no digest")
    return Confirmation(certificate=str(confirmation.get("x5t#S256", "")), key=str(confirmation.get("jkt", "")))


def _scopes(claims: JsonObject) -> tuple[str, ...]:
    if "scope" not in claims:
        return ()
    text = claims["scope"]
    if not isinstance(text, str) or not _SCOPE.fullmatch(text):
        raise _wrong("scope")
    scopes = tuple(dict.fromkeys(text.split(" ")))
    if len(scopes) > MAX_SCOPES:
        raise _wrong("scope")
    return scopes


def _parents(claims: JsonObject) -> tuple[str, ...]:
    parents = claims.get("parents", [])
    if not isinstance(parents, list) or len(parents) > MAX_PARENTS:
        raise _wrong("parents")
    return tuple(_checked_identifier(parent, "parents") for parent in parents)


def _delegators(parents: tuple[str, ...], subject: str, actors: tuple[str, ...], agent: str) -> tuple[str, ...]:
    """Whoever delegated to `agent`, each once: the issuer's list in its order, then whom the actors act for, then they.

    A subject without actors delegates nothing: its token is its own, or that of a person whose agent `agent_id` names.
    """
    chain = (subject, *actors) if actors else ()
    return tuple(dict.fromkeys((*parents, *(name for name in chain if name != agent))))


def _actors(claims: JsonObject) -> tuple[str, ...]:
    """`act.sub`, `act.act.sub`, … (RFC 8693 section 4.1), outermost first; each must be well formed."""
    actors: list[str] = []
    holder = claims
    while "act" in holder:
        nested = holder["act"]
        if not isinstance(nested, dict) or len(actors) == MAX_ACTORS:
            raise _wrong("act")
        actors.append(_identifier(nested, "sub"))
        holder = nested
    return tuple(actors)
