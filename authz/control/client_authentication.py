"""The client of a request to the token endpoint, proved against the registry.

Decides which agent a request is from: by a client assertion or by the certificate of its connection, exactly one. A
proof is spent before anything else is looked at, so it is good once even where what follows is refused. Must never tell
a stranger whether an agent exists. Trusts the listener's word on certificates.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from authz.errors import InvalidRequestError
from authz.identity.oauth import clients, dpop
from authz.identity.oauth.access_token import Binding
from authz.identity.oauth.clients import Certificate
from authz.identity.oauth.refusals import OAuthError, invalid_client

if TYPE_CHECKING:
    from collections.abc import Mapping

    from authz.database import Database
    from authz.identity.credentials import Credential
    from authz.identity.oauth.metadata import Server
    from authz.identity.registry import Agent
    from authz.identity.registry_sql import Registry
    from authz.identity.tokens_sql import LiveTokens

_NS: Final = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What a request shows beside its parameters.

    `certificate_sha256` is that of the connection's client certificate, in base64url; `authorization` and `dpop` are
    the headers of these names, each as often as it came.
    """

    certificate_sha256: str = ""
    authorization: tuple[str, ...] = ()
    dpop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """A proved client, and the credential that proved it."""

    id: str
    agent: Agent
    credential: Credential

    @property
    def name(self) -> str:
        """As history and records say it."""
        return f"agent:{self.id}"


class ClientAuthentication:
    """Knows clients."""

    def __init__(self, database: Database, registry: Registry, tokens: LiveTokens) -> None:
        self._database = database
        self._registry = registry
        self._tokens = tokens

    def client(self, form: Mapping[str, str], shown: Shown, server: Server) -> Client:
        """Who asks.

        Raises:
            OAuthError: `invalid_client`; `invalid_request` where parameters contradict one another.
            UnavailableError: the database cannot be used.
        """
        if shown.authorization:
            # Basic is the only method with this header, and it is a shared secret.
            raise invalid_client("CLIENT_SECRET")
        claim = clients.claimed(form, shown.certificate_sha256)
        tenant, name = clients.parse_client_id(claim.client_id)
        with self._database.read() as connection:
            now_s = self._database.now_ns(connection) / _NS
            try:
                agent = self._registry.find(connection, tenant, name)
            except InvalidRequestError:
                raise invalid_client("CLIENT_UNKNOWN") from None
        if isinstance(claim, Certificate):
            credential = clients.proved_by_certificate(agent, claim)
        else:
            credential, proof, until_s = clients.proved_by_assertion(agent, claim, issuer=server.issuer, now_s=now_s)
            if not self._spend(proof, until_s):
                raise invalid_client("CLIENT_ASSERTION_REPLAYED")
        return Client(id=claim.client_id, agent=agent, credential=credential)

    def binding(self, shown: Shown, server: Server) -> Binding:
        """What a token for this request is bound to: the key of its DPoP proof, else its certificate.

        Raises:
            OAuthError: `invalid_dpop_proof`.
            UnavailableError: the database cannot be used.
        """
        if not shown.dpop:
            return Binding(x5t_s256=shown.certificate_sha256)
        if len(shown.dpop) > 1:
            raise OAuthError("invalid_dpop_proof", "there is more than one DPoP proof")
        with self._database.read() as connection:
            now_s = self._database.now_ns(connection) / _NS
        proof = dpop.prove(shown.dpop[0], method="POST", url=server.token_endpoint, now_s=now_s)
        if not self._spend(proof.jti_sha256, proof.remember_until):
            raise OAuthError("invalid_dpop_proof", "the DPoP proof was used before")
        return Binding(jkt=proof.jkt)

    def _spend(self, proof: str, until_s: int) -> bool:
        with self._database.write() as connection:
            return self._tokens.spend(connection, proof, until_s)
