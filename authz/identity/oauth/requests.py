"""What a request to the token, introspection or revocation endpoint says.

Decides whether a body is one form whose every parameter comes once (RFC 6749 section 3.2), and which grant it asks for.
Must never choose between two values: another hop could believe the other one. Trusts nothing; nothing is proved here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self
from urllib.parse import parse_qsl

from authz.identity.oauth.refusals import OAuthError, invalid_request, invalid_scope, invalid_target
from authz.identity.registry import is_identifier

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_BODY_BYTES: Final = 64 * 1024
"""Two tokens of 8 KiB, percent-encoded, and room."""
MAX_PARAMETERS: Final = 32
MAX_SCOPES: Final = 128
FORM: Final = "application/x-www-form-urlencoded"

CLIENT_CREDENTIALS: Final = "client_credentials"
TOKEN_EXCHANGE: Final = "urn:ietf:params:oauth:grant-type:token-exchange"  # noqa: S105 - a URN of RFC 8693
ACCESS_TOKEN_TYPE: Final = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105 - a URN of RFC 8693
GRANT_TYPES: Final = (CLIENT_CREDENTIALS, TOKEN_EXCHANGE)

_LOOSE_ESCAPE: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_SCOPE: Final = re.compile(r"[!#-\[\]-~]+(?: [!#-\[\]-~]+)*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What both grants may ask of the new token. Empty or None: as the server decides.

    `scopes` is None where no scope was named. `expires_in` (seconds) and `session` are extensions of ours.
    """

    scopes: tuple[str, ...] | None = None
    resource: str = ""
    audience: str = ""
    expires_in: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientCredentials:
    """A token for the client itself (RFC 6749 section 4.4)."""

    wanted: Wanted
    session: str = ""

    @classmethod
    def read(cls, form: Mapping[str, str]) -> Self:
        """The grant in `form`.

        Raises:
            OAuthError: see `_wanted`.
        """
        return cls(wanted=_wanted(form), session=_identifier(form, "session"))


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenExchange:
    """A token for an agent that acts for the subject token's (RFC 8693).

    `agent` is an extension of ours: the id of the agent to spawn; empty means that the client itself is the actor.
    """

    wanted: Wanted
    subject_token: str
    agent: str = ""

    @classmethod
    def read(cls, form: Mapping[str, str]) -> Self:
        """The grant in `form`.

        Raises:
            OAuthError: a required parameter is missing, or a kind of token that is not an access token of ours.
        """
        if not form.get("subject_token") or not form.get("subject_token_type"):
            raise invalid_request("subject_token and subject_token_type are required")
        if form["subject_token_type"] != ACCESS_TOKEN_TYPE:
            raise invalid_request("subject_token_type is not an access token")
        if form.get("requested_token_type", ACCESS_TOKEN_TYPE) != ACCESS_TOKEN_TYPE:
            raise invalid_request("requested_token_type is not an access token")
        if "actor_token" in form or "actor_token_type" in form:
            raise invalid_request("actor_token is not taken: the client authenticates, or names the agent it spawns")
        return cls(wanted=_wanted(form), subject_token=form["subject_token"], agent=_identifier(form, "agent_id"))


def parameters(body: bytes, content_type: str) -> dict[str, str]:
    """The parameters of a form; one without a value is as if omitted (RFC 6749 section 3.2).

    Raises:
        OAuthError: `invalid_request`; `invalid_target` for more than one `resource` or `audience`, since a token of
            ours has one audience.
    """
    if content_type.partition(";")[0].strip().lower() != FORM:
        raise invalid_request(f"the content type is not {FORM}")
    if len(body) > MAX_BODY_BYTES:
        raise OAuthError("invalid_request", "the body is over its limit", http_status=413)
    found: dict[str, str] = {}
    for name, value in _pairs(body):
        if not value:
            continue
        if name in found:
            many = invalid_target if name in ("resource", "audience") else invalid_request
            raise many("a parameter comes more than once")
        found[name] = value
    return found


def grant(form: Mapping[str, str]) -> ClientCredentials | TokenExchange:
    """What `form` asks for.

    Raises:
        OAuthError: `unsupported_grant_type`, or that of the grant.
    """
    kind = form.get("grant_type")
    if not kind:
        raise invalid_request("grant_type is required")
    if kind == CLIENT_CREDENTIALS:
        return ClientCredentials.read(form)
    if kind == TOKEN_EXCHANGE:
        return TokenExchange.read(form)
    raise OAuthError("unsupported_grant_type", "the grant is neither client_credentials nor token exchange")


def _pairs(body: bytes) -> list[tuple[str, str]]:
    refused = invalid_request("the body is not a form in UTF-8 with few parameters")
    if not body.isascii() or _LOOSE_ESCAPE.search(body):
        raise refused
    try:
        return parse_qsl(body.decode(), keep_blank_values=True, errors="strict", max_num_fields=MAX_PARAMETERS)
    except ValueError:
        raise refused from None


def _wanted(form: Mapping[str, str]) -> Wanted:
    return Wanted(
        scopes=_scopes(form),
        resource=form.get("resource", ""),
        audience=form.get("audience", ""),
        expires_in=_seconds(form),
    )


def _scopes(form: Mapping[str, str]) -> tuple[str, ...] | None:
    text = form.get("scope")
    if text is None:
        return None
    scopes = tuple(dict.fromkeys(text.split(" ")))
    if not _SCOPE.fullmatch(text) or len(scopes) > MAX_SCOPES:
        raise invalid_scope("scope is not a short list of scope tokens, each behind one space")
    return scopes


def _seconds(form: Mapping[str, str]) -> int | None:
    text = form.get("expires_in")
    if text is None:
        return None
    if not re.fullmatch(r"[1-9][0-9]{0,5}", text):
        raise invalid_request("expires_in is not a number of seconds")
    return int(text)


def _identifier(form: Mapping[str, str], name: str) -> str:
    value = form.get(name, "")
    if value and not is_identifier(value):
        raise invalid_request(f"{name} is not a short printable identifier")
    return value
