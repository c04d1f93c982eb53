"""The agent registry in the database: who there is, what each may do, and who changed it.

Decides that no two agents of a tenant have ids that fold to one, that an id is never given twice, and that each change
leaves one row of history, in one transaction with what decisions are told of it: for the agent and for everyone below
it, whose facts follow from it. Rows are locked from the root of a family down, so that two changes in one family never
tell half of each other. Who may change an agent is the control plane's to check.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Protocol

from sqlalchemy import and_, delete, func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from authz.errors import InvalidRequestError
from authz.identity.agent_rows_sql import (
    AGENTS,
    CREDENTIALS,
    PARENTS,
    VERSIONS,
    agent_of,
    agent_row,
    credential_of,
    credential_rows,
    parent_rows,
    version_of,
    version_row,
)
from authz.identity.registry import DECIDING, Version, changed_fields, facts, folded, require_alive
from authz.model import Lifecycle
from authz.reasons import AGENT_CHANGED, AGENT_EXISTS, AGENT_PARENT, AGENT_UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy import ColumnElement, Connection

    from authz.database import Database
    from authz.identity.credentials import Credential
    from authz.identity.registry import Agent
    from authz.model import AgentFacts

_NAMES: Final = 10_000
"""Ids in one statement; both databases take more."""


@dataclass(frozen=True, slots=True)
class Told:
    """What decisions are told of one agent; the highest version of an agent holds."""

    agent: str
    version: int
    facts: AgentFacts


@dataclass(frozen=True, slots=True, kw_only=True)
class Because:
    """Who makes a change, and why."""

    by: str
    reason: str


class Announce(Protocol):
    """How facts reach every sidecar: the ledger's append, within the caller's transaction and at its end."""

    def __call__(self, connection: Connection, tenant: str, told: Sequence[Told]) -> None:
        """Write them down."""
        ...


class Registry:
    """The tables, as values. Every method works within the caller's transaction."""

    def __init__(self, database: Database, announce: Announce) -> None:
        self._database = database
        self._announce = announce

    def add(self, connection: Connection, agent: Agent, because: Because) -> Agent:
        """Register `agent`, below its parents if it has any.

        Raises:
            InvalidRequestError: `AGENT_EXISTS`; `AGENT_PARENT`, a parent is unknown, not active, or has other parents.
        """
        ancestors = self._ancestors(connection, agent)
        now_ns = self._database.now_ns(connection)
        agent = replace(agent, version=1, created_ns=now_ns, updated_ns=now_ns)
        row = agent_row(agent) | {"folded": folded(agent.id), "facts_version": 1}
        try:
            connection.execute(insert(AGENTS).values(row))
        except IntegrityError:
            raise InvalidRequestError(AGENT_EXISTS) from None
        self._write_parents(connection, agent)
        self._write_credentials(connection, agent)
        self._write_version(connection, agent, because, ())
        self._announce(connection, agent.tenant, [Told(agent.id, 1, facts(agent, ancestors))])
        return agent

    def find(self, connection: Connection, tenant: str, agent: str) -> Agent:
        """One agent, as it is now.

        Raises:
            InvalidRequestError: `AGENT_UNKNOWN`.
        """
        return self.line(connection, tenant, agent)[-1]

    def line(self, connection: Connection, tenant: str, agent: str, *, hold: bool = False) -> tuple[Agent, ...]:
        """An agent behind everyone above it, root first; `hold` keeps others from changing any of them.

        Raises:
            InvalidRequestError: `AGENT_UNKNOWN`.
        """
        above = select(PARENTS.c.parent).where(PARENTS.c.tenant == tenant, PARENTS.c.agent == agent)
        names = [*connection.execute(above.order_by(PARENTS.c.distance.desc())).scalars(), agent]
        if hold:
            for name in names:  # one by one: in another order, two families' members could wait for one another
                connection.execute(select(AGENTS.c.id).where(_is(tenant, name)).with_for_update())
        found = self._read(connection, tenant, AGENTS.c.id.in_(names))
        if agent not in found:
            raise InvalidRequestError(AGENT_UNKNOWN)
        return tuple(found[name] for name in names)

    def change(self, connection: Connection, before: Agent, after: Agent, because: Because) -> Agent:
        """Write what `after` is, and tell decisions where they must know. `before` was read with `hold`.

        Raises:
            InvalidRequestError: `AGENT_CHANGED`, somebody else was quicker.
        """
        changed = changed_fields(before, after)
        if not changed:
            return before
        at_version = and_(_is(before.tenant, before.id), AGENTS.c.version == before.version)
        if not connection.execute(update(AGENTS).where(at_version).values(agent_row(after))).rowcount:
            raise InvalidRequestError(AGENT_CHANGED)
        if "credentials" in changed:
            mine = and_(CREDENTIALS.c.tenant == after.tenant, CREDENTIALS.c.agent == after.id)
            connection.execute(delete(CREDENTIALS).where(mine))
            self._write_credentials(connection, after)
        self._write_version(connection, after, because, changed)
        if DECIDING & {*changed}:
            self._tell(connection, after)
        return after

    def page(
        self, connection: Connection, tenant: str, *, after: str = "", size: int, lifecycle: Lifecycle | None = None
    ) -> list[Agent]:
        """At most `size` agents of `tenant`, by id, from after `after` on."""
        wanted = AGENTS.c.id > after
        if lifecycle is not None:
            wanted &= AGENTS.c.lifecycle == lifecycle.value
        return list(self._read(connection, tenant, wanted, size).values())

    def versions(self, connection: Connection, tenant: str, agent: str) -> list[Version]:
        """An agent's history, oldest first."""
        mine = and_(VERSIONS.c.tenant == tenant, VERSIONS.c.agent == agent)
        rows = connection.execute(select(VERSIONS).where(mine).order_by(VERSIONS.c.version))
        return [version_of(row) for row in rows]

    def below(self, connection: Connection, tenant: str, agent: str, *, directly: bool = False) -> list[str]:
        """Ids of those that an agent spawned, and unless `directly` of those that they did."""
        theirs = and_(PARENTS.c.tenant == tenant, PARENTS.c.parent == agent)
        if directly:
            theirs &= PARENTS.c.distance == 1
        return list(connection.execute(select(PARENTS.c.agent).where(theirs).order_by(PARENTS.c.agent)).scalars())

    def spawned_since(self, connection: Connection, tenant: str, parent: str, since_ns: int) -> int:
        """How many agents `parent` itself has spawned since then."""
        joined = AGENTS.join(PARENTS, and_(AGENTS.c.tenant == PARENTS.c.tenant, AGENTS.c.id == PARENTS.c.agent))
        theirs = and_(PARENTS.c.tenant == tenant, PARENTS.c.parent == parent, PARENTS.c.distance == 1)
        wanted = select(func.count()).select_from(joined)
        return connection.execute(wanted.where(theirs, AGENTS.c.created_ns > since_ns)).scalar_one()

    def alive_below(self, connection: Connection, tenant: str, agent: str) -> int:
        """How many agents below `agent`, at any depth, are not retired."""
        joined = AGENTS.join(PARENTS, and_(AGENTS.c.tenant == PARENTS.c.tenant, AGENTS.c.id == PARENTS.c.agent))
        theirs = and_(PARENTS.c.tenant == tenant, PARENTS.c.parent == agent)
        wanted = select(func.count()).select_from(joined)
        return connection.execute(wanted.where(theirs, AGENTS.c.lifecycle != Lifecycle.RETIRED.value)).scalar_one()

    def active(self, connection: Connection, tenant: str) -> int:
        """How many agents of `tenant` are active."""
        return connection.execute(select(func.count()).select_from(AGENTS).where(_are_active(tenant))).scalar_one()

    def active_among(
        self, connection: Connection, tenant: str, agents: Iterable[str], *, below: Iterable[str]
    ) -> frozenset[str]:
        """Ids of the active agents of `tenant` that `agents` names, or that lie below one that `below` names."""
        theirs = select(PARENTS.c.agent).where(PARENTS.c.tenant == tenant)
        found: set[str] = set()
        for column, names in ((AGENTS.c.id, agents), (PARENTS.c.parent, below)):
            ids = [*names]
            for start in range(0, len(ids), _NAMES):
                are = column.in_(ids[start : start + _NAMES])
                meant = are if column is AGENTS.c.id else AGENTS.c.id.in_(theirs.where(are))
                found.update(connection.execute(select(AGENTS.c.id).where(_are_active(tenant), meant)).scalars())
        return frozenset(found)

    def _ancestors(self, connection: Connection, agent: Agent) -> tuple[Agent, ...]:
        if not agent.parents:
            return ()
        try:
            line = self.line(connection, agent.tenant, agent.parents[-1], hold=True)
        except InvalidRequestError:
            raise InvalidRequestError(AGENT_PARENT) from None
        if tuple(each.id for each in line) != agent.parents:
            raise InvalidRequestError(AGENT_PARENT, "`parents` are not those of the last one, and itself")
        require_alive(line)
        return line

    def _tell(self, connection: Connection, changed: Agent) -> None:
        """The facts of `changed` and of everyone below it that is not retired, each with a version above its last."""
        tenant = changed.tenant
        below = select(PARENTS.c.agent).where(PARENTS.c.tenant == tenant, PARENTS.c.parent == changed.id)
        theirs = and_(AGENTS.c.id.in_(below), AGENTS.c.lifecycle != Lifecycle.RETIRED.value)
        family = self._read(connection, tenant, or_(AGENTS.c.id.in_([*changed.parents, changed.id]), theirs))
        told = []
        for agent in family.values():
            if agent.id in changed.parents:
                continue
            grown = update(AGENTS).where(_is(tenant, agent.id)).values(facts_version=AGENTS.c.facts_version + 1)
            version = connection.execute(grown.returning(AGENTS.c.facts_version)).scalar_one()
            ancestors = self._known(connection, tenant, agent.parents, family)
            told.append(Told(agent.id, version, facts(agent, ancestors)))
        self._announce(connection, tenant, told)

    def _known(
        self, connection: Connection, tenant: str, names: Iterable[str], family: dict[str, Agent]
    ) -> list[Agent]:
        """Agents by name, out of `family` where they are in it: one in between may be retired."""
        missing = [name for name in names if name not in family]
        found = family | (self._read(connection, tenant, AGENTS.c.id.in_(missing)) if missing else {})
        return [found[name] for name in names]

    def _read(
        self, connection: Connection, tenant: str, condition: ColumnElement[bool], limit: int | None = None
    ) -> dict[str, Agent]:
        """Agents of `tenant` by id, in its order, with their parents and credentials."""
        wanted = select(AGENTS).where(AGENTS.c.tenant == tenant, condition).order_by(AGENTS.c.id).limit(limit)
        rows = connection.execute(wanted).all()
        names = [row.id for row in rows]
        parents: dict[str, list[str]] = {name: [] for name in names}
        credentials: dict[str, list[Credential]] = {name: [] for name in names}
        above = select(PARENTS).where(PARENTS.c.tenant == tenant, PARENTS.c.agent.in_(names))
        for row in connection.execute(above.order_by(PARENTS.c.distance.desc())):
            parents[row.agent].append(row.parent)
        held = select(CREDENTIALS).where(CREDENTIALS.c.tenant == tenant, CREDENTIALS.c.agent.in_(names))
        for row in connection.execute(held.order_by(CREDENTIALS.c.created_ns, CREDENTIALS.c.id)):
            credentials[row.agent].append(credential_of(row))
        return {row.id: agent_of(row, parents[row.id], credentials[row.id]) for row in rows}

    def _write_parents(self, connection: Connection, agent: Agent) -> None:
        if rows := parent_rows(agent):
            connection.execute(insert(PARENTS), rows)

    def _write_credentials(self, connection: Connection, agent: Agent) -> None:
        if rows := credential_rows(agent):
            connection.execute(insert(CREDENTIALS), rows)

    def _write_version(self, connection: Connection, agent: Agent, because: Because, changed: tuple[str, ...]) -> None:
        version = Version(
            version=agent.version, at_ns=agent.updated_ns, by=because.by, reason=because.reason, changed=changed
        )
        connection.execute(insert(VERSIONS).values(version_row(agent, version)))


def _are_active(tenant: str) -> ColumnElement[bool]:
    return and_(AGENTS.c.tenant == tenant, AGENTS.c.lifecycle == Lifecycle.ACTIVE.value)


def _is(tenant: str, agent: str) -> ColumnElement[bool]:
    return and_(AGENTS.c.tenant == tenant, AGENTS.c.id == agent)
