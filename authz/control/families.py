"""Whom a token would speak for: an agent behind everyone above it, alive and not killed, or spawned on the spot.

Decides whether an agent may have a token now, and whether a parent may spawn one more: how deep, how many within a
minute, and how many alive below one root (requirement I7). Each method works within the transaction that issues, with
the family's rows held. Must never let a family's member act while one above it may not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from authz.errors import InvalidRequestError
from authz.identity.oauth.refusals import OAuthError, invalid_request
from authz.identity.registry import spawned
from authz.identity.registry_sql import Because
from authz.model import Lifecycle

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import Connection

    from authz.control.agent_ledger import AgentLedger
    from authz.control.client_authentication import Client
    from authz.database import Database
    from authz.identity.oauth.access_token import Subject
    from authz.identity.registry import Agent
    from authz.identity.registry_sql import Registry

_MINUTE_NS: Final = 60 * 1_000_000_000
TOO_MANY: Final = 429


@dataclass(frozen=True, slots=True, kw_only=True)
class SpawnLimits:
    """How far agents may multiply.

    `depth` counts an agent's ancestors; `per_minute` is one parent's; `alive` counts those below one root that are not
    retired.
    """

    depth: int = 5
    per_minute: int = 60
    alive: int = 1000


class Families:
    """Agents with everyone above them."""

    def __init__(self, database: Database, registry: Registry, ledger: AgentLedger, limits: SpawnLimits) -> None:
        self._database = database
        self._registry = registry
        self._ledger = ledger
        self._limits = limits

    def known(self, connection: Connection, tenant: str, agent: str) -> tuple[Agent, ...]:
        """The line of an agent, root first, as it is now.

        Raises:
            InvalidRequestError: `AGENT_UNKNOWN`.
        """
        return self._registry.line(connection, tenant, agent)

    def of_client(self, connection: Connection, client: Client) -> tuple[Agent, ...]:
        """The client's own line, root first.

        Raises:
            OAuthError: `unauthorized_client`; it, or one above it, is paused, retired or killed, or its credential was
                revoked since it was shown.
        """
        line = self._registry.line(connection, client.agent.tenant, client.agent.id, hold=True)
        if client.credential not in line[-1].live_credentials:
            raise _stopped("CREDENTIAL_REVOKED")
        return line

    def of_child(self, connection: Connection, subject: Subject, name: str, client: Client) -> tuple[Agent, ...]:
        """The line of the agent `name` below the subject's, which is spawned if there is none of this name.

        Raises:
            OAuthError: `invalid_request`; the subject's agent, or one above it, is not active, or may spawn no more.
        """
        try:
            parents = self._registry.line(connection, subject.tenant, subject.agent, hold=True)
        except InvalidRequestError:
            raise invalid_request("the subject token's agent is not registered", "AGENT_UNKNOWN") from None
        try:
            # Not held: whoever would change it waits for its parents, and another family's rows are not ours to hold.
            line = self._registry.line(connection, subject.tenant, name)
        except InvalidRequestError:
            return self._spawned(connection, parents, name, client)
        if line[:-1] != parents:
            raise invalid_request("the agent does not descend from the subject token's", "PARENT_MISMATCH")
        return line

    def require_free(
        self, connection: Connection, line: tuple[Agent, ...], *, session: str = "", tokens: Iterable[str] = ()
    ) -> None:
        """That nothing stops the last of `line`.

        Raises:
            OAuthError: `unauthorized_client`.
        """
        if any(agent.lifecycle is not Lifecycle.ACTIVE for agent in line):
            raise _stopped("AGENT_PAUSED")
        if self._ledger.kills(connection, line, session=session, tokens=tokens):
            raise _stopped("REVOKED")

    def _spawned(
        self, connection: Connection, parents: tuple[Agent, ...], name: str, client: Client
    ) -> tuple[Agent, ...]:
        self._require_room(connection, parents)
        try:
            child = spawned(parents[-1], parents[:-1], name, now_ns=self._database.now_ns(connection))
            because = Because(by=client.name, reason="spawned by token exchange")
            return (*parents, self._registry.add(connection, child, because))
        except InvalidRequestError as error:
            raise invalid_request(f"the agent cannot be spawned: {error.reason.summary}", error.reason.code) from None

    def _require_room(self, connection: Connection, parents: tuple[Agent, ...]) -> None:
        parent, limits = parents[-1], self._limits
        if len(parents) > limits.depth:
            raise invalid_request(f"an agent has at most {limits.depth} agents above it", "SPAWN_DEPTH")
        since_ns = self._database.now_ns(connection) - _MINUTE_NS
        if self._registry.spawned_since(connection, parent.tenant, parent.id, since_ns) >= limits.per_minute:
            raise _too_many(f"an agent spawns at most {limits.per_minute} within a minute", "SPAWN_RATE")
        if self._registry.alive_below(connection, parent.tenant, parents[0].id) >= limits.alive:
            raise _too_many(f"at most {limits.alive} agents live below one: retire some", "SPAWN_ALIVE")


def _stopped(reason: str) -> OAuthError:
    said = "the agent, or one that it descends from or acts for, is paused, retired or killed"
    return OAuthError("unauthorized_client", said, reason=reason)


def _too_many(description: str, reason: str) -> OAuthError:
    return OAuthError("invalid_request", description, reason=reason, http_status=TOO_MANY)
