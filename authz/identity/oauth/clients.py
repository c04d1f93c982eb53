"""Who the client is: its identifier, and the proof that it is that client (RFC 7523, RFC 8705).

Decides which client a request claims to be and whether its assertion or its certificate proves it. An assertion is
short-lived, made for this server alone (`aud` is exactly its issuer), signed by a key registered for that agent with
that key's algorithm, and its `jti` is taken once; spending the `jti` is the caller's, after the signature.
Must never accept a second proof beside the first, nor a token of another kind (RFC 8725 section 3.11).
Trusts the registry's credentials, and the listener's word on a client certificate.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, unquote

from authz.encoding import decode_json_object, numeric_date
from authz.errors import InvalidRequestError
from authz.identity import jose, jwks, jws
from authz.identity.oauth.refusals import invalid_client, invalid_request
from authz.identity.registry import is_identifier
from authz.identity.tokens import MAX_TOKEN_BYTES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from authz.identity.credentials import Credential
    from authz.identity.jws import Jws
    from authz.identity.registry import Agent
    from authz.model import JsonObject

ASSERTION_TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
ASSERTION_TYPS: Final = frozenset({"", "jwt", "client-authentication+jwt"})
"""An absent `typ` and `JWT` are what clients send; the last is explicit (RFC 8725 section 3.11)."""
MAX_ASSERTION_S: Final = 3600
"""How far ahead `exp` may be, and so how long a `jti` is remembered; widely used clients ask for an hour."""
LEEWAY_S: Final = 30
_SAFE: Final = " !\"#$&'()*+,-.:;<=>?@[\\]^_`{|}~"


@dataclass(frozen=True, slots=True, kw_only=True)
class Assertion:
    """A client assertion, taken apart and not yet proved."""

    client_id: str
    jws: Jws


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """A client certificate that the listener verified: `x5t#S256`."""

    client_id: str
    sha256: str


def client_id(tenant: str, agent: str) -> str:
    """`TENANT/AGENT`, the one name of an agent as a client: anything but visible ASCII is percent-encoded."""
    return f"{quote(tenant, safe=_SAFE)}/{quote(agent, safe=_SAFE + '/')}"


def parse_client_id(text: str) -> tuple[str, str]:
    """Tenant and agent of a client.

    Raises:
        OAuthError: `invalid_client`; not what `client_id` writes, or written otherwise.
    """
    tenant, _, agent = (unquote(part, errors="replace") for part in text.partition("/"))
    if not is_identifier(tenant) or not is_identifier(agent) or client_id(tenant, agent) != text:
        raise invalid_client()
    return tenant, agent


def claimed(form: Mapping[str, str], certificate_sha256: str) -> Assertion | Certificate:
    """Who the client of this request says it is, and by what.

    Raises:
        OAuthError: `invalid_client` where there is no proof; `invalid_request` where parameters contradict one another.
    """
    if "client_secret" in form:
        # A shared secret in a request has been seen by every hop that logs bodies.
        raise invalid_client("CLIENT_SECRET")
    assertion, kind = form.get("client_assertion"), form.get("client_assertion_type")
    if assertion is None and kind is None:
        if not certificate_sha256 or "client_id" not in form:
            raise invalid_client("CLIENT_PROOF_MISSING")
        return Certificate(client_id=form["client_id"], sha256=certificate_sha256)
    if assertion is None or kind != ASSERTION_TYPE:
        raise invalid_request("client_assertion and client_assertion_type belong together, and the type is jwt-bearer")
    parsed = _parsed(assertion)
    subject = parsed.claims.get("sub")
    # RFC 7521 section 4.2: client_id may be left out, and must name the same client where it is not.
    if not isinstance(subject, str) or form.get("client_id", subject) != subject:
        raise invalid_client("CLIENT_MISMATCH")
    return Assertion(client_id=subject, jws=parsed)


def proved_by_certificate(agent: Agent, certificate: Certificate) -> Credential:
    """The live credential that `certificate` is.

    Raises:
        OAuthError: `invalid_client`.
    """
    for credential in agent.live_credentials:
        if credential.certificate_sha256 == certificate.sha256:
            return credential
    raise invalid_client("CLIENT_CERTIFICATE")


def proved_by_assertion(
    agent: Agent, assertion: Assertion, *, issuer: str, now_s: float
) -> tuple[Credential, str, int]:
    """The live credential that signed `assertion`, the digest of its `jti`, and until when that must be remembered.

    Raises:
        OAuthError: `invalid_client`.
    """
    credential = _signer(agent, assertion.jws)
    claims = assertion.jws.claims
    if claims.get("iss") != assertion.client_id:
        raise invalid_client("CLIENT_ISSUER")
    # Exactly us: one that is good elsewhere too could have been taken there.
    if claims.get("aud") not in (issuer, [issuer]):
        raise invalid_client("CLIENT_AUDIENCE")
    expires, not_before = _instant(claims, "exp"), max(_instant(claims, name, 0) for name in ("nbf", "iat"))
    if not max(now_s, not_before) - LEEWAY_S < expires <= now_s + MAX_ASSERTION_S + LEEWAY_S:
        raise invalid_client("CLIENT_ASSERTION_TIME")
    if now_s < not_before - LEEWAY_S:
        raise invalid_client("CLIENT_ASSERTION_TIME")
    jti = claims.get("jti")
    if not isinstance(jti, str) or not is_identifier(jti):
        raise invalid_client("CLIENT_ASSERTION_JTI")
    return credential, sha256(f"{assertion.client_id}\n{jti}".encode()).hexdigest(), int(expires) + LEEWAY_S + 1


def _parsed(assertion: str) -> Jws:
    if len(assertion) > MAX_TOKEN_BYTES or not assertion.isascii():
        raise invalid_client("CLIENT_ASSERTION_SIZE")
    try:
        parsed = jws.parse(assertion)
    except InvalidRequestError as error:
        raise invalid_client(error.reason.code) from None
    if parsed.typ.lower().removeprefix("application/") not in ASSERTION_TYPS:
        raise invalid_client("TOKEN_TYP")
    return parsed


def _signer(agent: Agent, parsed: Jws) -> Credential:
    """The one live key that verifies; a kid only saves trying those that have another one."""
    for credential in agent.live_credentials:
        public = decode_json_object(credential.public_jwk.encode() or b"{}")
        if not public or parsed.kid not in (None, public.get("kid", parsed.kid), jwks.thumbprint(public)):
            continue
        try:
            jose.verify(parsed, public)
        except InvalidRequestError:
            continue
        return credential
    raise invalid_client("CLIENT_ASSERTION_SIGNATURE")


def _instant(claims: JsonObject, name: str, absent: float | None = None) -> float:
    try:
        return numeric_date(claims.get(name, absent))
    except ValueError:
        raise invalid_client("CLIENT_ASSERTION_TIME") from None
