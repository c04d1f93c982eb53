"""Agents and their tokens, put together over one database: what the control plane serves of identity.

Decides nothing by itself. `keep` is the task of one instance at a time, by lease: signing keys that are due are made,
and what has expired is forgotten. Every instance sees at its start that there is a key to sign with.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Final

import orjson

from authz.clock import random_hex, random_id
from authz.control.agent_ledger import AgentLedger
from authz.control.agents_service import AgentsService
from authz.control.authorization_server import AuthorizationServer
from authz.control.client_authentication import ClientAuthentication
from authz.control.families import Families, SpawnLimits
from authz.control.issued_tokens import IssuedTokens
from authz.control.keys_service import KeysService
from authz.control.oauth_app import OAuthApp
from authz.database import Election, Lease
from authz.errors import UnavailableError
from authz.identity.oauth.access_token import Audiences
from authz.identity.oauth.metadata import Server
from authz.identity.registry_sql import Registry
from authz.identity.signing_keys import Schedule
from authz.identity.signing_keys_sql import SigningKeys
from authz.identity.tokens_sql import LiveTokens

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.routing import Route

    from authz.clock import Clock
    from authz.control.actions_sql import Actions
    from authz.control.authentication import Authentication
    from authz.control.config import Tokens
    from authz.database import Database
    from authz.revocation.kills_sql import KillBook
    from authz.revocation.ledger_sql import Ledger
    from authz.sealing import Sealer

log: Final = logging.getLogger(__name__)
LEASE: Final = "signing-keys"
TEND_S: Final = 10.0
"""How often keys and expired rows are looked after."""


class TokenIssuer:
    """The registry, the signing keys, and the token endpoint.

    Args:
        address: URL of the HTTP listener, which is the issuer where none is configured.
    """

    def __init__(
        self,
        database: Database,
        settings: Tokens,
        *,
        ledger: Ledger,
        book: KillBook,
        sealer: Sealer,
        address: Callable[[], str],
    ) -> None:
        self._database = database
        self._settings = settings
        self._address = address
        self._ledger = AgentLedger(database, ledger, book)
        self.registry: Final = Registry(database, self._ledger.announce)
        self._live = LiveTokens(database)
        self._keys = SigningKeys(database, sealer, Schedule(algorithm=settings.algorithm, period_s=settings.rotation_s))
        self.agents: Final = AgentsService(database, self.registry, self._live, self._ledger, random_hex)
        self.keys: Final = KeysService(database, self._keys)

    @property
    def issuer(self) -> str:
        """`iss` of the tokens."""
        return self._settings.issuer or self._address()

    def key_set(self) -> str:
        """The JWK Set in JSON, for sidecars.

        Raises:
            UnavailableError: the database cannot be used.
        """
        ring, now_ns = self._keys.published()
        return orjson.dumps({"keys": [dict(key.public_jwk) for key in ring.published(now_ns)]}).decode()

    def routes(
        self, authentication: Authentication, actions: Actions, observe: Callable[[str, str], None]
    ) -> list[Route]:
        """OAuth's endpoints."""
        settings, live = self._settings, self._live
        limits = SpawnLimits(
            depth=settings.spawn_depth, per_minute=settings.spawn_per_minute, alive=settings.spawn_alive
        )
        server = AuthorizationServer(
            self._database,
            server=self._server,
            audiences=Audiences(default=settings.audience, by_resource=settings.resources),
            clients=ClientAuthentication(self._database, self.registry, live),
            families=Families(self._database, self.registry, self._ledger, limits),
            issued=IssuedTokens(self._database, self._keys, live, random_id, most=settings.live),
            tokens=live,
            ledger=self._ledger,
            operator=authentication.caller,
        )
        return OAuthApp(server, self._keys, actions, new_id=random_id, observe=observe).routes()

    def keeper(self, clock: Clock, instance: str) -> Keeper:
        """The task beside the calls."""
        return Keeper(self._keys, self._live, self._database, Lease(self._database, LEASE, instance, clock=clock))

    def _server(self) -> Server:
        return Server(issuer=self.issuer, takes_certificates=self._settings.client_ca is not None)


class Keeper:
    """Looks after keys and expired rows, on a thread of its own, while this instance has the lease."""

    def __init__(
        self, keys: SigningKeys, live: LiveTokens, database: Database, lease: Lease, *, every_s: float = TEND_S
    ) -> None:
        self._keys = keys
        self._live = live
        self._database = database
        self._election = Election(lease)
        self._every_s = every_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="signing-keys", daemon=True)

    def start(self) -> None:
        """Have a key to sign with, then begin.

        Raises:
            UnavailableError: the database cannot be used.
        """
        self._keys.tend()
        self._election.start()
        self._thread.start()

    def stop(self) -> None:
        """End; returns once it has."""
        self._stop.set()
        self._thread.join()
        self._election.stop()

    def _run(self) -> None:
        while not self._stop.wait(self._every_s):
            if not self._election.is_leader:
                continue
            try:
                self._keys.tend()
                with self._database.write() as connection:
                    self._live.prune(connection)
            except UnavailableError as error:
                log.warning("signing keys could not be looked after: %s", error)
