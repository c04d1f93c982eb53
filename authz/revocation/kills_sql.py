"""Kills as operators know them: asked for, confirmed, in force, lifted; each change with its entry in the ledger.

Decides that a kill and its entry are written in one transaction, that each request with an idempotency key is done
once, and how many kills one operator and one tenant may ask for within a minute (E9). Who may ask at all is the control
plane's to check; what two signers must do is `guard`'s. Must never find a kill by its id alone: whoever asks names the
tenant, so that no id reaches into another's; None, for any, is for those who may see them all.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import orjson
from sqlalchemy import BigInteger, Boolean, Column, Index, Table, Text, and_, func, insert, or_, select, true, update

from authz.database import METADATA
from authz.errors import InvalidRequestError
from authz.reasons import KILL_QUOTA, KILL_REPEATED, KILL_UNKNOWN
from authz.revocation import guard
from authz.revocation.entries import KillEntry, LiftEntry
from authz.revocation.guard import KillRecord
from authz.revocation.scopes import Scope, ScopeKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    from sqlalchemy import ColumnElement, Connection, Row

    from authz.database import Database
    from authz.revocation.guard import Guard, Signer
    from authz.revocation.ledger_sql import Ledger

_KILLS: Final = frozenset({"kill", "lift"})
_SECOND_NS: Final = 1_000_000_000
_MINUTE_NS: Final = 60 * _SECOND_NS

KILLS: Final = Table(
    "kills",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("tenant", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("value", Text, nullable=False),
    Column("is_guarded", Boolean, nullable=False),
    Column("reason", Text, nullable=False),
    Column("incident", Text, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("created_at_ns", BigInteger, nullable=False),
    Column("expires_in_ns", BigInteger, nullable=False),
    Column("confirmed_by", Text, nullable=False),
    Column("in_force_at_ns", BigInteger, nullable=False),
    Column("lapses_at_ns", BigInteger, nullable=False),
    Column("lifted_by", Text, nullable=False),
    Column("lift_reason", Text, nullable=False),
    Column("lift_confirmed_by", Text, nullable=False),
    Column("lifted_at_ns", BigInteger, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Index(None, "tenant", "created_at_ns", "id"),
    Index(None, "tenant", "value"),
    Index(None, "created_by", "created_at_ns"),
)
REQUESTS: Final = Table(
    "kill_requests",
    METADATA,
    Column("operator", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("kill", Text, nullable=False),
    Column("digest", Text, nullable=False),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """Kills that may be asked for within a minute."""

    per_operator: int = 6_000
    per_tenant: int = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeat:
    """How a repeated request is known: the caller's key, and a digest of all that was asked for."""

    key: str
    digest: str


class KillBook:
    """Every kill of one database. Each method works within the caller's transaction."""

    def __init__(self, database: Database, ledger: Ledger, *, guard: Guard, quota: Quota) -> None:
        self._database = database
        self._ledger = ledger
        self._guard = guard
        self._quota = quota

    def earlier(self, connection: Connection, operator: str, repeat: Repeat) -> KillRecord | None:
        """The kill that this operator's request with this key made.

        Raises:
            InvalidRequestError: KILL_REPEATED, the key was used for something else.
        """
        found = select(REQUESTS).where(REQUESTS.c.operator == operator, REQUESTS.c.key == repeat.key)
        row = connection.execute(found).one_or_none()
        if row is None:
            return None
        if row.digest != repeat.digest:
            raise InvalidRequestError(KILL_REPEATED)
        return _record(connection.execute(select(KILLS).where(KILLS.c.id == row.kill)).one())

    def create(
        self, connection: Connection, asked: KillRecord, signer: Signer, repeat: Repeat | None = None
    ) -> KillRecord:
        """`asked` as it begins: in force with its entry in the ledger, or awaiting a second signer.

        Raises:
            InvalidRequestError: KILL_QUOTA, or as `guard.propose`.
            IntegrityError: SQLAlchemy's; another request with the same key came first.
        """
        kill = guard.propose(asked, signer, self._guard)
        self._require_quota(connection, kill)
        if repeat is not None:
            values = {"operator": signer.operator, "key": repeat.key, "kill": kill.id, "digest": repeat.digest}
            connection.execute(insert(REQUESTS).values(values))
        kill = self._entered(connection, kill)
        connection.execute(insert(KILLS).values(_row(kill)))
        return kill

    def signed_alone(self, connection: Connection, scope: Scope) -> Sequence[Scope]:
        """Scopes of agents that one signer's word each has stopped in the tenant within the window, where kills add up.

        Holds the tenant's stream until the transaction ends: two kills at once must not each miss the other.
        """
        if not self._guard.adds_up or scope.kind not in guard.OF_AGENTS:
            return ()
        self._ledger.open(connection, scope.stream)
        now_ns = self._database.now_ns(connection)
        recent = KILLS.c.created_at_ns > now_ns - int(self._guard.window_s * _SECOND_NS)
        found = select(KILLS.c.kind, KILLS.c.value).distinct()
        of_agents = KILLS.c.kind.in_([kind.value for kind in guard.OF_AGENTS])
        rows = connection.execute(
            found.where(KILLS.c.tenant == scope.tenant, recent, of_agents, ~KILLS.c.is_guarded, _stands(now_ns))
        )
        return [Scope(ScopeKind(row.kind), scope.tenant, row.value) for row in rows]

    def confirm(self, connection: Connection, tenant: str | None, kill_id: str, signer: Signer) -> KillRecord:
        """The kill after its second signer's word.

        Raises:
            InvalidRequestError: KILL_UNKNOWN, or as `guard.confirm`.
        """
        kill = self._held(connection, tenant, kill_id)
        return self._changed(connection, kill, guard.confirm(kill, signer, self._database.now_ns(connection)))

    def lift(self, connection: Connection, tenant: str | None, kill_id: str, signer: Signer, reason: str) -> KillRecord:
        """The kill lifted, or its lift awaiting a second signer.

        Raises:
            InvalidRequestError: KILL_UNKNOWN, or as `guard.lift`.
        """
        kill = self._held(connection, tenant, kill_id)
        now_ns = self._database.now_ns(connection)
        return self._changed(connection, kill, guard.lift(kill, signer, reason, self._guard, now_ns))

    def read(self, connection: Connection, tenant: str | None, kill_id: str) -> KillRecord:
        """One kill of `tenant`.

        Raises:
            InvalidRequestError: KILL_UNKNOWN.
        """
        return self._one(connection, tenant, kill_id)

    def page(
        self,
        connection: Connection,
        tenant: str | None,
        *,
        limit: int,
        is_over: bool = False,
        before: tuple[int, str] | None = None,
    ) -> Sequence[KillRecord]:
        """Kills of `tenant`, newest first, from after `before` (created_at_ns, id) on; `is_over` adds what is over."""
        found = select(KILLS).where(_is_of(tenant))
        if not is_over:
            found = found.where(_stands(self._database.now_ns(connection)))
        if before is not None:
            created_at_ns, kill_id = before
            same_instant = and_(KILLS.c.created_at_ns == created_at_ns, KILLS.c.id < kill_id)
            found = found.where(or_(KILLS.c.created_at_ns < created_at_ns, same_instant))
        newest_first = found.order_by(KILLS.c.created_at_ns.desc(), KILLS.c.id.desc()).limit(limit)
        return [_record(row) for row in connection.execute(newest_first)]

    def entered(self, connection: Connection, tenant: str, documents: Sequence[bytes]) -> list[KillRecord]:
        """The kills that these entries of the tenant's stream speak of, each with its entry's sequence, in order."""
        told = [(entry["id"], entry["seq"]) for entry in map(orjson.loads, documents) if entry["op"] in _KILLS]
        found = select(KILLS).where(KILLS.c.tenant == tenant, KILLS.c.id.in_({kill_id for kill_id, _ in told}))
        kills = {row.id: _record(row) for row in connection.execute(found)} if told else {}
        return [replace(kills[kill_id], sequence=sequence) for kill_id, sequence in told if kill_id in kills]

    def in_force(self, connection: Connection, scopes: Iterable[Scope]) -> Sequence[KillRecord]:
        """Kills in force of exactly these scopes: for who issues what a kill would take back."""
        wanted = {*scopes}
        near = and_(
            KILLS.c.tenant.in_({each.tenant for each in wanted}), KILLS.c.value.in_({each.value for each in wanted})
        )
        found = select(KILLS).where(near, KILLS.c.in_force_at_ns > 0, _stands(self._database.now_ns(connection)))
        kills = map(_record, connection.execute(found.order_by(KILLS.c.created_at_ns, KILLS.c.id)))
        return [kill for kill in kills if kill.scope in wanted]

    def _held(self, connection: Connection, tenant: str | None, kill_id: str) -> KillRecord:
        return self._one(connection, tenant, kill_id, is_held=True)

    def _one(self, connection: Connection, tenant: str | None, kill_id: str, *, is_held: bool = False) -> KillRecord:
        found = select(KILLS).where(KILLS.c.id == kill_id, _is_of(tenant))
        row = connection.execute(found.with_for_update() if is_held else found).one_or_none()
        if row is None:
            raise InvalidRequestError(KILL_UNKNOWN)
        return _record(row)

    def _changed(self, connection: Connection, before: KillRecord, after: KillRecord) -> KillRecord:
        if after.version != before.version:
            after = self._entered(connection, after)
        if after != before:
            connection.execute(update(KILLS).where(KILLS.c.id == after.id).values(_row(after)))
        return after

    def _entered(self, connection: Connection, kill: KillRecord) -> KillRecord:
        """`kill` with its entry in the ledger, where there is something to say."""
        if not kill.version:
            return kill
        head = self._ledger.append(connection, kill.scope.stream, _entry(kill))
        return replace(kill, epoch=head.epoch, sequence=head.sequence)

    def _require_quota(self, connection: Connection, kill: KillRecord) -> None:
        since_ns = kill.created_at_ns - _MINUTE_NS
        for column, name, most in (
            (KILLS.c.created_by, kill.created_by, self._quota.per_operator),
            (KILLS.c.tenant, kill.scope.tenant, self._quota.per_tenant),
        ):
            recent = select(func.count()).select_from(KILLS).where(column == name, KILLS.c.created_at_ns > since_ns)
            if connection.execute(recent).scalar_one() >= most:
                raise InvalidRequestError(KILL_QUOTA, f"at most {most}")


def _is_of(tenant: str | None) -> ColumnElement[bool]:
    return true() if tenant is None else KILLS.c.tenant == tenant


def _stands(now_ns: int) -> ColumnElement[bool]:
    """Kills that are in force or await a signer: `KillRecord.state`, for the database."""
    in_force = and_(
        KILLS.c.in_force_at_ns > 0,
        or_(KILLS.c.expires_in_ns == 0, KILLS.c.in_force_at_ns + KILLS.c.expires_in_ns > now_ns),
    )
    awaiting = and_(KILLS.c.in_force_at_ns == 0, KILLS.c.lapses_at_ns > now_ns)
    return and_(KILLS.c.lifted_at_ns == 0, or_(in_force, awaiting))


def _entry(kill: KillRecord) -> KillEntry | LiftEntry:
    if kill.lifted_at_ns:
        return LiftEntry(sequence=0, id=kill.id, version=kill.version, at_ns=kill.lifted_at_ns)
    return KillEntry(
        sequence=0,
        id=kill.id,
        version=kill.version,
        scope=kill.scope,
        at_ns=kill.in_force_at_ns,
        expires_at_ns=kill.expires_at_ns,
    )


_PLAIN: Final = tuple(column.name for column in KILLS.columns if column.name not in {"tenant", "kind", "value"})


def _row(kill: KillRecord) -> dict[str, Any]:
    scope = {"tenant": kill.scope.tenant, "kind": kill.scope.kind.value, "value": kill.scope.value}
    return scope | {name: getattr(kill, name) for name in _PLAIN}


def _record(row: Row[Any]) -> KillRecord:
    scope = Scope(ScopeKind(row.kind), row.tenant, row.value)
    return KillRecord(scope=scope, **{name: getattr(row, name) for name in _PLAIN})
