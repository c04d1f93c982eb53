"""What the registry and the token endpoint write into the ledger of kills, and ask of it.

Decides which entries a change of an agent and the end of a token become, and which kills keep an agent from a token:
those of itself or of anyone above it, of its session, of the token it was exchanged for, of its tenant, of everything.
So a killed parent's children get none either. Must never be written outside the transaction of the change itself.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Final

from authz.revocation.entries import AgentEntry, KillEntry
from authz.revocation.scopes import Scope, ScopeKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy import Connection

    from authz.database import Database
    from authz.identity.registry import Agent
    from authz.identity.registry_sql import Told
    from authz.identity.tokens_sql import LiveToken
    from authz.revocation.kills_sql import KillBook
    from authz.revocation.ledger_sql import Ledger

LEEWAY_NS: Final = 120 * 1_000_000_000
"""For so long past its expiry a verifier may take a token: its leeway of at most 60 s, and as much between clocks."""
_GLOBAL: Final = Scope(ScopeKind.GLOBAL, "")


class AgentLedger:
    """The ledger, for agents and tokens. Each method works within the caller's transaction, at its end."""

    def __init__(self, database: Database, ledger: Ledger, book: KillBook) -> None:
        self._database = database
        self._ledger = ledger
        self._book = book

    def announce(self, connection: Connection, tenant: str, told: Sequence[Told]) -> None:
        """See `registry_sql.Announce`."""
        entries = [AgentEntry(sequence=0, agent=each.agent, version=each.version, facts=each.facts) for each in told]
        if entries:
            self._ledger.append_all(connection, tenant, entries)

    def kill_tokens(self, connection: Connection, tokens: Iterable[LiveToken], reason_code: str) -> None:
        """A kill of each token, which ends when no verifier takes the token any more."""
        by_tenant: dict[str, list[KillEntry]] = {}
        now_ns = self._database.now_ns(connection)
        for token in tokens:
            entry = KillEntry(
                sequence=0,
                id=f"token-{token.jti_sha256[:40]}",
                version=1,
                scope=Scope(ScopeKind.TOKEN, token.tenant, token.jti_sha256),
                at_ns=now_ns,
                expires_at_ns=token.expires_ns + LEEWAY_NS,
                reason_code=reason_code,
            )
            by_tenant.setdefault(token.tenant, []).append(entry)
        for tenant in sorted(by_tenant):
            self._ledger.append_all(connection, tenant, by_tenant[tenant])

    def kills(
        self, connection: Connection, line: Sequence[Agent], *, session: str = "", tokens: Iterable[str] = ()
    ) -> list[str]:
        """Ids of the kills in force that cover the last of `line`, whose ancestors stand before it."""
        tenant = line[-1].tenant
        scopes = _over(tenant, [each.id for each in line])
        scopes += [Scope(ScopeKind.SESSION, tenant, session)] if session else []
        scopes += [Scope(ScopeKind.TOKEN, tenant, digest) for digest in tokens]
        return [kill.id for kill in self._book.in_force(connection, scopes)]

    def stopped(self, connection: Connection, agents: Iterable[Agent]) -> dict[str, list[str]]:
        """Ids of the kills in force, by the ids of those of a tenant's agents that they cover."""
        over = {each.id: _over(each.tenant, (*each.parents, each.id)) for each in agents}
        kills = self._book.in_force(connection, chain.from_iterable(over.values()))
        found = {agent: [kill.id for kill in kills if kill.scope in scopes] for agent, scopes in over.items()}
        return {agent: ids for agent, ids in found.items() if ids}

    def wake(self) -> None:
        """After a commit: let it be published at once."""
        self._ledger.wake()


def _over(tenant: str, line: Iterable[str]) -> list[Scope]:
    """The scopes that cover the last of a line of agents, but for those of its session and its tokens."""
    own = (Scope(kind, tenant, each) for each in line for kind in (ScopeKind.AGENT, ScopeKind.SUBTREE))
    return [_GLOBAL, Scope(ScopeKind.TENANT, tenant), *own]
