"""How much a kill would stop, by the registry: what the guard asks before one person may sign it alone.

Decides whom a scope counts for: an agent for itself, a subtree for everyone below too, and only those who are active. A
session, a token or an override is one agent's; a tool, a capability, a connector or a destination stops calls and no
agent. Tenants and everything are guarded without being counted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from authz.revocation.guard import Hit
from authz.revocation.scopes import ScopeKind

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from authz.identity.registry_sql import Registry
    from authz.revocation.scopes import Scope

_ONE: Final = frozenset({ScopeKind.AGENT, ScopeKind.SESSION, ScopeKind.TOKEN, ScopeKind.OVERRIDE})


class KillReach:
    """Counts agents within the caller's transaction."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def hit(self, connection: Connection, scope: Scope) -> Hit:
        """How many of the tenant's active agents `scope` stops."""
        if scope.kind in _ONE:
            return Hit(agents=1, active=self._registry.active(connection, scope.tenant))
        if scope.kind is not ScopeKind.SUBTREE:
            return Hit()
        everyone = [scope.value, *self._registry.below(connection, scope.tenant, scope.value)]
        return Hit(
            agents=self._registry.active(connection, scope.tenant, everyone),
            active=self._registry.active(connection, scope.tenant),
        )
