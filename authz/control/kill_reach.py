"""Whom a kill would stop, by the registry: what the guard asks before one person may sign it alone.

Decides whom a scope counts for: an agent for itself, a subtree for everyone below too, and only those who are active. A
session, a token or an override is one agent's, and adds to no other kill; a tool, a capability, a connector or a
destination stops calls and no agent. Tenants and everything are guarded without being counted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from authz.revocation.guard import OF_AGENTS, Hit
from authz.revocation.scopes import ScopeKind

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import Connection

    from authz.identity.registry_sql import Registry
    from authz.revocation.scopes import Scope

_ONE: Final = frozenset({ScopeKind.AGENT, ScopeKind.SESSION, ScopeKind.TOKEN, ScopeKind.OVERRIDE})


class KillReach:
    """Counts agents within the caller's transaction."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def hit(self, connection: Connection, scope: Scope, alone: Iterable[Scope]) -> Hit:
        """Which of the tenant's agents `scope` stops, and which active ones `alone`, kills of agents there, stop."""
        if scope.kind not in _ONE | OF_AGENTS:
            return Hit()
        # Whom the registry does not know counts for one: a kill by name is never nothing.
        agents = frozenset({scope.value}) if scope.kind in _ONE else self._stopped(connection, scope.tenant, [scope])
        others = self._stopped(connection, scope.tenant, alone) if scope.kind in OF_AGENTS else frozenset()
        return Hit(agents=agents, alone=others, active=self._registry.active(connection, scope.tenant))

    def _stopped(self, connection: Connection, tenant: str, scopes: Iterable[Scope]) -> frozenset[str]:
        scopes = [*scopes]
        roots = {scope.value for scope in scopes if scope.kind is ScopeKind.SUBTREE}
        return self._registry.active_among(connection, tenant, {scope.value for scope in scopes}, below=roots)
