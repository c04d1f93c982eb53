"""A client of one token endpoint that exchanges tokens (RFC 8693): the caller's for the tool's (requirement D9).

Decides what is asked of the endpoint and which of its answers is a credential: a bearer token of a known life, and
nothing else. Must never follow a redirect, send a token in plaintext to another machine, or repeat anything of a token
or an answer in an error. Blocks for as long as the endpoint takes, so never on the decision path.

Trusts the endpoint to know what a caller may do at the tool.
"""

from __future__ import annotations

import re
from base64 import b64encode
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Final
from urllib.parse import quote_plus, urlencode

import urllib3

from authz.encoding import decode_json_object
from authz.errors import ConfigError, UnavailableError
from authz.loopback import is_loopback
from authz.reasons import UPSTREAM_CREDENTIAL

if TYPE_CHECKING:
    from authz.config import TokenExchange
    from authz.model import JsonObject

GRANT: Final = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TOKEN: Final = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105 - a name, no secret
MAX_ANSWER_BYTES: Final = 64 * 1024
MAX_LIFE_S: Final = 24 * 3600
_TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/-]{1,16384}=*")
"""RFC 6750 section 2.1. Whatever else stood in it would be part of a header."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """An upstream token, and how long it lives (seconds)."""

    token: str
    life_s: float


class TokenEndpoint:
    """One configured endpoint. Thread-safe.

    Args:
        settings: what to ask for, and as whom.
        secret: the client's; empty for a public client.

    Raises:
        ConfigError: another scheme than https (http on loopback), or credentials in the URL.
    """

    def __init__(self, settings: TokenExchange, secret: str) -> None:
        parsed = urllib3.util.parse_url(settings.token_endpoint)
        if parsed.auth is not None or not parsed.host:
            raise ConfigError("token_endpoint must name a host and hold no credentials")
        if parsed.scheme != "https" and not (parsed.scheme == "http" and is_loopback(parsed.host or "")):
            raise ConfigError(f"token_endpoint on `{parsed.host}` must be https", remedy="use https")
        self._settings = settings
        self._secret = secret
        self._pool = urllib3.PoolManager(num_pools=1, maxsize=4)

    def exchange(self, subject_token: str) -> Issued:
        """What the endpoint gives for `subject_token`.

        Raises:
            UnavailableError: UPSTREAM_CREDENTIAL; unreachable, too slow, refused, or an answer that is no credential.
        """
        try:
            response = self._pool.request(
                "POST",
                self._settings.token_endpoint,
                body=urlencode(self._form(subject_token)),
                headers=self._headers(),
                redirect=False,
                retries=False,
                timeout=urllib3.Timeout(total=self._settings.timeout_s),
                preload_content=False,
            )
            try:
                status, body = response.status, response.read(MAX_ANSWER_BYTES + 1, decode_content=False)
            finally:
                response.close()
        except urllib3.exceptions.HTTPError as error:
            raise _failed(type(error).__name__) from None
        if status != HTTPStatus.OK:
            raise _failed(f"HTTP status {status}")
        return _issued(body)

    def _form(self, subject_token: str) -> dict[str, str]:
        settings = self._settings
        form = {
            "grant_type": GRANT,
            "subject_token": subject_token,
            "subject_token_type": ACCESS_TOKEN,
            "requested_token_type": ACCESS_TOKEN,
            "audience": settings.audience,
            "resource": settings.resource,
            "scope": " ".join(settings.scopes),
            "client_id": "" if self._secret else settings.client_id,
        }
        return {name: text for name, text in form.items() if text}

    def _headers(self) -> dict[str, str]:
        headers = {
            "content-type": "application/x-www-form-urlencoded",
            "accept": "application/json",
            "accept-encoding": "identity",
        }
        if self._secret:
            # RFC 6749 section 2.3.1: both parts are form-encoded before they are joined.
            pair = f"{quote_plus(self._settings.client_id)}:{quote_plus(self._secret)}"
            headers["authorization"] = f"Basic {b64encode(pair.encode()).decode()}"
        return headers


def _issued(body: bytes) -> Issued:
    try:
        answer = decode_json_object(body) if len(body) <= MAX_ANSWER_BYTES else {}
    except ValueError:
        answer = {}
    token, kind = answer.get("access_token"), answer.get("token_type")
    if not isinstance(token, str) or not _TOKEN.fullmatch(token):
        raise _failed("the answer has no access token")
    # `N_A` and `DPoP` are tokens that could not be shown to the tool in the way they must be.
    if not isinstance(kind, str) or kind.lower() != "bearer":
        raise _failed("the token is no bearer token")
    return Issued(token=token, life_s=_life_s(answer))


def _life_s(answer: JsonObject) -> float:
    life = answer.get("expires_in")
    if isinstance(life, bool) or not isinstance(life, int | float) or not life > 0:
        raise _failed("the answer does not say when the token expires")
    return min(float(life), MAX_LIFE_S)


def _failed(why: str) -> UnavailableError:
    return UnavailableError(UPSTREAM_CREDENTIAL, f"the token exchange failed: {why}")
