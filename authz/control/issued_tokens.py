"""Tokens of this server: signed and written down in one transaction, and read back.

Decides whether a token is one that this server issued and still stands by: signed by a published key, not expired, not
revoked. A token with a good signature that was never written down is not taken: its key was stolen. Must never keep a
token itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from authz.encoding import token_digest
from authz.errors import InvalidRequestError
from authz.identity import jose, jws
from authz.identity.oauth.access_token import TYP
from authz.identity.oauth.refusals import OAuthError
from authz.identity.tokens import MAX_TOKEN_BYTES, is_typ
from authz.identity.tokens_sql import LiveToken
from authz.reasons import (
    TOKEN_CLAIMS,
    TOKEN_EXPIRED,
    TOKEN_ISSUER,
    TOKEN_KID,
    TOKEN_MALFORMED,
    TOKEN_SIZE,
    TOKEN_TYP,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection

    from authz.control.client_authentication import Client
    from authz.database import Database
    from authz.identity.oauth.access_token import Grant
    from authz.identity.signing_keys_sql import SigningKeys
    from authz.identity.tokens_sql import LiveTokens
    from authz.model import JsonObject

_NS: Final = 1_000_000_000


class IssuedTokens:
    """The tokens of one issuer.

    Args:
        new_id: makes each token's `jti`.
        most: tokens that one client may have alive.
    """

    def __init__(
        self, database: Database, keys: SigningKeys, tokens: LiveTokens, new_id: Callable[[], str], *, most: int
    ) -> None:
        self._database = database
        self._keys = keys
        self._tokens = tokens
        self._new_id = new_id
        self._most = most

    def issue(self, connection: Connection, grant: Grant, client: Client, *, issuer: str, now_s: int) -> str:
        """A signed token.

        Raises:
            OAuthError: `invalid_request`; the client has too many alive.
            UnavailableError: there is no key to sign with.
        """
        if self._tokens.of_client(connection, client.agent.tenant, client.agent.id) >= self._most:
            raise OAuthError(
                "invalid_request", "too many tokens of this client are alive", reason="TOKENS_ALIVE", http_status=429
            )
        jti = self._new_id()
        claims = grant.claims(issuer=issuer, jti=jti, now_s=now_s)
        self._tokens.add(
            connection,
            LiveToken(
                jti_sha256=token_digest(jti),
                tenant=grant.agent.tenant,
                agent=grant.agent.id,
                client=client.agent.id,
                credential=client.credential.id,
                expires_ns=grant.expires_at * _NS,
                exchanged_sha256=grant.exchanged_sha256,
            ),
        )
        return jose.sign(self._keys.signer(connection), typ=TYP, claims=claims)

    def read(self, connection: Connection, token: str, *, issuer: str) -> JsonObject:
        """The claims of a token of ours that is alive.

        Raises:
            InvalidRequestError: with a `TOKEN_…` reason.
        """
        if len(token) > MAX_TOKEN_BYTES:
            raise InvalidRequestError(TOKEN_SIZE)
        if not token.isascii():
            raise InvalidRequestError(TOKEN_MALFORMED)
        parsed = jws.parse(token)
        if not is_typ(parsed.typ, TYP):
            raise InvalidRequestError(TOKEN_TYP)
        now_ns = self._database.now_ns(connection)
        key = self._keys.ring(connection).find(parsed.kid, now_ns)
        if key is None:
            raise InvalidRequestError(TOKEN_KID)
        jose.verify(parsed, key.public_jwk)
        claims = parsed.claims
        if claims.get("iss") != issuer:
            raise InvalidRequestError(TOKEN_ISSUER)
        jti, expires_at = claims.get("jti"), claims.get("exp")
        if not isinstance(jti, str) or not isinstance(expires_at, int):
            raise InvalidRequestError(TOKEN_CLAIMS)
        if expires_at * _NS <= now_ns or not self._tokens.is_alive(connection, token_digest(jti)):
            raise InvalidRequestError(TOKEN_EXPIRED)
        return claims
