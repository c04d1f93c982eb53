"""A client of the control plane's token endpoint: it proves itself by `private_key_jwt` and asks for a token.

Decides what an assertion says, and to whom: it is made for the issuer that the metadata names, which must be the
address asked, unless that is this machine's own (RFC 8414 section 3.3). So no server can collect assertions that are
good at another one.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

import urllib3

from authz.clock import SystemClock, random_id
from authz.errors import AuthzError, ProgramError
from authz.identity import jose
from authz.identity.oauth import metadata
from authz.identity.oauth.clients import ASSERTION_TYPE, client_id
from authz.loopback import is_loopback

if TYPE_CHECKING:
    from collections.abc import Mapping

    from authz.identity.jose import PrivateKey

LIFE_S: Final = 60
TIMEOUT_S: Final = 10.0
OK: Final = 200
FORM: Final = "application/x-www-form-urlencoded"


class TokenRefusedError(AuthzError):
    """The token endpoint said no; `error` is the RFC's code."""

    def __init__(self, error: str, description: str) -> None:
        super().__init__(f"{error}: {description}")
        self.error = error


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenClient:
    """One agent at one control plane."""

    url: str
    pool: urllib3.PoolManager
    tenant: str
    agent: str
    key: PrivateKey

    def token(self, parameters: Mapping[str, str]) -> str:
        """A token for the agent itself; `parameters` go into the request where they are not empty.

        Raises:
            TokenRefusedError: the endpoint refused.
            ProgramError: nobody answers there, or not as an authorization server.
        """
        form = {
            "grant_type": "client_credentials",
            "client_assertion_type": ASSERTION_TYPE,
            "client_assertion": self._assertion(self._issuer()),
        } | {name: value for name, value in parameters.items() if value}
        answer = self._send("POST", metadata.TOKEN, urlencode(form).encode())
        return str(answer["access_token"])

    def _issuer(self) -> str:
        issuer = str(self._send("GET", metadata.WELL_KNOWN).get("issuer", ""))
        host = urllib3.util.parse_url(self.url).host or ""
        if issuer != self.url and not is_loopback(host):
            raise ProgramError(f"{self.url} calls itself another issuer", remedy="give its own address as --control")
        return issuer

    def _assertion(self, issuer: str) -> str:
        name, now = client_id(self.tenant, self.agent), SystemClock.unix_ns() // 1_000_000_000
        claims = {"iss": name, "sub": name, "aud": issuer, "iat": now, "exp": now + LIFE_S, "jti": random_id()}
        return jose.sign(self.key, typ="client-authentication+jwt", claims=claims)

    def _send(self, method: str, path: str, body: bytes | None = None) -> dict[str, Any]:
        try:
            response = self.pool.request(
                method,
                self.url + path,
                body=body,
                headers={"content-type": FORM} if body else {},
                redirect=False,
                retries=False,
                timeout=TIMEOUT_S,
            )
        except urllib3.exceptions.HTTPError as error:
            raise ProgramError(
                f"no control plane answers at {self.url} ({type(error).__name__})",
                remedy="is `authz control` or `authz up` running there?",
            ) from None
        return _read(self.url, response.status, response.data)


def _read(url: str, status: int, body: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(body)
    except ValueError:
        answer = None
    if isinstance(answer, dict) and status == OK:
        return answer
    if isinstance(answer, dict) and isinstance(answer.get("error"), str):
        raise TokenRefusedError(answer["error"], str(answer.get("error_description", "")))
    raise ProgramError(f"{url} did not answer as an authorization server", remedy="is it a control plane?")
