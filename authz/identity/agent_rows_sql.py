"""The tables of the agent registry, and their rows as values and back.

Decides nothing: what a row holds was checked when its value was made.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import BigInteger, Boolean, Column, Index, Table, Text

from authz.database import METADATA
from authz.identity.credentials import Credential
from authz.identity.registry import Agent, Ceiling, Version
from authz.model import Autonomy, Lifecycle

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Row

AGENTS: Final = Table(
    "agents",
    METADATA,
    Column("tenant", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("folded", Text, nullable=False),
    Column("owner", Text, nullable=False),
    Column("purpose", Text, nullable=False),
    Column("autonomy", Text, nullable=False),
    Column("lifecycle", Text, nullable=False),
    Column("memory_writes_paused", Boolean, nullable=False),
    Column("scopes_ceiling", Text, nullable=True),
    Column("tools_ceiling", Text, nullable=True),
    Column("version", BigInteger, nullable=False),
    Column("facts_version", BigInteger, nullable=False),
    Column("created_ns", BigInteger, nullable=False),
    Column("updated_ns", BigInteger, nullable=False),
    Index("uq_agents_tenant_folded", "tenant", "folded", unique=True),
)
PARENTS: Final = Table(
    "agent_parents",
    METADATA,
    Column("tenant", Text, primary_key=True),
    Column("agent", Text, primary_key=True),
    Column("distance", BigInteger, primary_key=True),
    Column("parent", Text, nullable=False),
    Index(None, "tenant", "parent"),
)
CREDENTIALS: Final = Table(
    "agent_credentials",
    METADATA,
    Column("tenant", Text, primary_key=True),
    Column("agent", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("public_jwk", Text, nullable=False),
    Column("certificate_sha256", Text, nullable=False),
    Column("created_ns", BigInteger, nullable=False),
    Column("revoked_ns", BigInteger, nullable=True),
)
VERSIONS: Final = Table(
    "agent_versions",
    METADATA,
    Column("tenant", Text, primary_key=True),
    Column("agent", Text, primary_key=True),
    Column("version", BigInteger, primary_key=True),
    Column("at_ns", BigInteger, nullable=False),
    Column("by", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("changed", Text, nullable=False),
)


_PLAIN: Final = ("tenant", "id", "owner", "purpose", "memory_writes_paused", "version", "created_ns", "updated_ns")
_OF_CREDENTIAL: Final = ("id", "public_jwk", "certificate_sha256", "created_ns", "revoked_ns")


def agent_row(agent: Agent) -> dict[str, Any]:
    """What of `agent` changes, and its name."""
    return {name: getattr(agent, name) for name in _PLAIN} | {
        "autonomy": agent.autonomy.value,
        "lifecycle": agent.lifecycle.value,
        "scopes_ceiling": _written(agent.ceiling.scopes),
        "tools_ceiling": _written(agent.ceiling.tools),
    }


def agent_of(row: Row[Any], parents: Sequence[str], credentials: Sequence[Credential]) -> Agent:
    """The agent of its rows."""
    return Agent(
        **{name: getattr(row, name) for name in _PLAIN},
        autonomy=Autonomy(row.autonomy),
        lifecycle=Lifecycle(row.lifecycle),
        ceiling=Ceiling(scopes=_names(row.scopes_ceiling), tools=_names(row.tools_ceiling)),
        parents=tuple(parents),
        credentials=tuple(credentials),
    )


def parent_rows(agent: Agent) -> list[dict[str, Any]]:
    """Everyone above `agent`; the nearest is at distance 1."""
    return [
        {"tenant": agent.tenant, "agent": agent.id, "distance": distance, "parent": parent}
        for distance, parent in enumerate(reversed(agent.parents), 1)
    ]


def credential_rows(agent: Agent) -> list[dict[str, Any]]:
    """Its credentials, those that were revoked too."""
    owner = {"tenant": agent.tenant, "agent": agent.id}
    return [owner | {name: getattr(each, name) for name in _OF_CREDENTIAL} for each in agent.credentials]


def credential_of(row: Row[Any]) -> Credential:
    """The credential of its row."""
    return Credential(**{name: getattr(row, name) for name in _OF_CREDENTIAL})


def version_row(agent: Agent, version: Version) -> dict[str, Any]:
    """One line of history."""
    return {
        "tenant": agent.tenant,
        "agent": agent.id,
        "version": version.version,
        "at_ns": version.at_ns,
        "by": version.by,
        "reason": version.reason,
        "changed": json.dumps(version.changed),
    }


def version_of(row: Row[Any]) -> Version:
    """The line of history of its row."""
    changed = tuple(json.loads(row.changed))
    return Version(version=row.version, at_ns=row.at_ns, by=row.by, reason=row.reason, changed=changed)


def _written(names: tuple[str, ...] | None) -> str | None:
    return None if names is None else json.dumps(names)


def _names(text: str | None) -> tuple[str, ...] | None:
    return None if text is None else tuple(json.loads(text))
