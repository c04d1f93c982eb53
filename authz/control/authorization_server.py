"""The authorization server: what each endpoint does with a request that has been read.

Decides the order. The client's proof comes first, and is spent; then the grant is read; then, in one transaction with
the family's rows held, everyone that the token would speak for is found alive and not killed, and the token is written
down. So no token is issued beside a kill, a pause or a rotation that was acknowledged before. The rules themselves
stand in `authz.identity.oauth`. Must never tell a client of another one's tokens.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from authz.control.authentication import Presented
from authz.control.callers import Permission
from authz.control.refusals import RefusedError
from authz.errors import InvalidRequestError
from authz.identity.oauth import requests
from authz.identity.oauth.access_token import Subject, for_child, for_itself
from authz.identity.oauth.refusals import OAuthError, invalid_client, invalid_request
from authz.identity.oauth.requests import ACCESS_TOKEN_TYPE, TokenExchange

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from sqlalchemy import Connection

    from authz.control.agent_ledger import AgentLedger
    from authz.control.callers import Caller
    from authz.control.client_authentication import Client, ClientAuthentication, Shown
    from authz.control.families import Families
    from authz.control.issued_tokens import IssuedTokens
    from authz.database import Database
    from authz.identity.oauth.access_token import Audiences, Binding, Grant
    from authz.identity.oauth.metadata import Server
    from authz.identity.oauth.requests import ClientCredentials
    from authz.identity.tokens_sql import LiveTokens
    from authz.model import JsonObject

_NS: Final = 1_000_000_000
REVOKED: Final = "TOKEN_REVOKED"
"""Reason code of the kill of a token that its client revoked."""
INACTIVE: Final[JsonObject] = {"active": False}
_SAID: Final = ("scope", "client_id", "exp", "iat", "sub", "aud", "iss", "jti", "cnf", "act")
"""Members of RFC 7662 section 2.2, RFC 8705 section 3.2 and RFC 8693 section 4.1; ours follow them."""
_OURS: Final = ("tenant", "agent_id", "session", "parents")


class AuthorizationServer:
    """The endpoints' work, over the parts that each hold one rule.

    Args:
        server: under which names it is known now.
        operator: who an operator's `authorization` header stands for, for introspection.
    """

    def __init__(
        self,
        database: Database,
        *,
        server: Callable[[], Server],
        audiences: Audiences,
        clients: ClientAuthentication,
        families: Families,
        issued: IssuedTokens,
        tokens: LiveTokens,
        ledger: AgentLedger,
        operator: Callable[[Presented], Caller],
    ) -> None:
        self._database = database
        self._server = server
        self._audiences = audiences
        self._clients = clients
        self._families = families
        self._issued = issued
        self._tokens = tokens
        self._ledger = ledger
        self._operator = operator

    def token(self, form: Mapping[str, str], shown: Shown) -> JsonObject:
        """The token response (RFC 6749 section 5.1, RFC 8693 section 2.2.1).

        Raises:
            OAuthError: in every other case.
            UnavailableError: the database or the signing key cannot be used.
        """
        server = self._server()
        client = self._clients.client(form, shown, server)
        with _named(client):
            grant = requests.grant(form)
            binding = self._clients.binding(shown, server)
            with self._database.write() as connection:
                now_s = self._database.now_ns(connection) // _NS
                granted = self._granted(connection, client, grant, binding, now_s)
                token = self._issued.issue(connection, granted, client, issuer=server.issuer, now_s=now_s)
        if isinstance(grant, TokenExchange):
            self._ledger.wake()  # an agent may have been spawned
        return _response(token, granted, grant, now_s)

    def introspect(self, form: Mapping[str, str], shown: Shown) -> JsonObject:
        """The introspection response (RFC 7662 section 2.2); for a token that the caller may not ask about, inactive.

        Raises:
            OAuthError: who asks is unknown, or names no token.
            UnavailableError: the database cannot be used.
        """
        server = self._server()
        may_see = self._introspector(form, shown, server)
        token = form.get("token")
        if token is None:
            raise invalid_request("token is required")
        with self._database.read() as connection:
            try:
                claims = self._issued.read(connection, token, issuer=server.issuer)
                subject = Subject.of(claims)
                line = self._families.known(connection, subject.tenant, subject.agent)
                self._families.require_free(connection, line, session=subject.session, tokens=[subject.jti_sha256])
            except (InvalidRequestError, OAuthError):
                return INACTIVE
        if not may_see(subject):
            return INACTIVE
        said = {name: claims[name] for name in (*_SAID, *_OURS) if name in claims}
        return {"active": True, "token_type": "DPoP" if "jkt" in _cnf(claims) else "Bearer"} | said

    def revoke(self, form: Mapping[str, str], shown: Shown) -> None:
        """Revoke a token, and what was exchanged for it (RFC 7009); one that is not alive needs no revoking.

        Raises:
            OAuthError: who asks is unknown, names no token, or names another client's.
            UnavailableError: the database cannot be used; the token is not revoked.
        """
        server = self._server()
        client = self._clients.client(form, shown, server)
        with _named(client):
            token = form.get("token")
            if token is None:
                raise invalid_request("token is required")
            with self._database.write() as connection:
                try:
                    subject = Subject.of(self._issued.read(connection, token, issuer=server.issuer))
                except InvalidRequestError:
                    return
                if subject.client_id != client.id:
                    raise OAuthError("unauthorized_client", "the token was issued to another client")
                ended = self._tokens.revoke(connection, subject.jti_sha256)
                self._ledger.kill_tokens(connection, ended, REVOKED)
        self._ledger.wake()

    def metadata(self) -> JsonObject:
        """The metadata document (RFC 8414)."""
        return self._server().metadata()

    def _granted(
        self,
        connection: Connection,
        client: Client,
        grant: ClientCredentials | TokenExchange,
        binding: Binding,
        now_s: int,
    ) -> Grant:
        own = self._families.of_client(connection, client)
        if not isinstance(grant, TokenExchange):
            self._families.require_free(connection, own, session=grant.session)
            return for_itself(own, grant.wanted, self._audiences, session=grant.session, binding=binding, now_s=now_s)
        subject = self._subject(connection, client, grant)
        self._families.require_free(connection, own, session=subject.session, tokens=[subject.jti_sha256])
        line = self._families.of_child(connection, subject, grant.agent or client.agent.id, client)
        self._families.require_free(connection, line, session=subject.session)
        return for_child(
            line,
            grant.wanted,
            self._audiences,
            subject=subject,
            client=client.id,
            binding=binding,
            now_s=now_s,
        )

    def _subject(self, connection: Connection, client: Client, grant: TokenExchange) -> Subject:
        """The token to exchange: alive, of the client's tenant, and the client's own where it spawns another agent."""
        try:
            subject = Subject.of(self._issued.read(connection, grant.subject_token, issuer=self._server().issuer))
        except InvalidRequestError as error:
            raise invalid_request("the subject token is not a live one of this server", error.reason.code) from None
        if subject.tenant != client.agent.tenant:
            raise invalid_request("the subject token is not a live one of this server", "TOKEN_TENANT")
        if grant.agent not in ("", client.agent.id) and subject.client_id != client.id:
            raise invalid_request("the subject token was issued to another client", "CLIENT_MISMATCH")
        return subject

    def _introspector(self, form: Mapping[str, str], shown: Shown, server: Server) -> Callable[[Subject], bool]:
        """What the caller may see: an operator its tenants' tokens, a client its own."""
        if shown.authorization:
            try:
                operator = self._operator(Presented(authorization=shown.authorization))
            except RefusedError as error:
                raise invalid_client(error.reason.code) from None
            return lambda subject: operator.may(Permission.READ, subject.tenant)
        client = self._clients.client(form, shown, server)
        return lambda subject: subject.client_id == client.id


def _response(token: str, granted: Grant, grant: ClientCredentials | TokenExchange, now_s: int) -> JsonObject:
    response: JsonObject = {
        "access_token": token,
        "token_type": granted.binding.token_type,
        "expires_in": granted.expires_at - now_s,
    }
    if granted.scopes:
        response["scope"] = " ".join(granted.scopes)
    if isinstance(grant, TokenExchange):
        response["issued_token_type"] = ACCESS_TOKEN_TYPE
    return response


def _cnf(claims: JsonObject) -> JsonObject:
    confirmation = claims.get("cnf")
    return confirmation if isinstance(confirmation, dict) else {}


@contextmanager
def _named(client: Client) -> Iterator[None]:
    """Say in a refusal whose request it was, for the record."""
    try:
        yield
    except OAuthError as error:
        error.client = client.id
        raise
