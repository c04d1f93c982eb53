"""The bundle registry in the database: archives by their digest, the names they are served under, and their history.

Decides what is the newest of a name, in one transaction that also moves the name's counter, so that instances that are
asked at once agree. What may be collected is `registry`'s to say; how archives lie here is `blobs_sql`'s.

Must never keep an archive that its caller has not verified, rewrite history (`bundle_events` only grows), or collect
what is under legal hold, whoever asks. Trusts its caller with who may ask.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import (
    BigInteger,
    Column,
    Identity,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    UniqueConstraint,
    delete,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from authz.database import METADATA
from authz.policy.blobs_sql import Blobs
from authz.policy.registry import Event, HeldError, Kind, MovedError, Revision, collectable
from authz.policy.trust import Seen

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from sqlalchemy import ColumnElement, Connection, Row

    from authz.database import Database
    from authz.policy.registry import Place, Push
    from authz.policy.sources import Beside

_NUMBER: Final = BigInteger().with_variant(Integer, "sqlite")

NAMES: Final = Table(
    "bundle_names",
    METADATA,
    Column("tenant", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("seen", Text, nullable=False),
    Column("newest", Text),
    Column("changed", BigInteger, nullable=False),
)
REVISIONS: Final = Table(
    "bundle_revisions",
    METADATA,
    Column("number", _NUMBER, Identity(), primary_key=True),
    Column("tenant", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("digest", Text, nullable=False),
    Column("revision", Text, nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("change_id", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("signed_by", Text, nullable=False),
    Column("expires_at_ns", BigInteger, nullable=False),
    Column("pushed_at_ns", BigInteger, nullable=False),
    Column("pushed_by", Text, nullable=False),
    Column("held_at_ns", BigInteger),
    Column("retired_at_ns", BigInteger),
    Column("collected_at_ns", BigInteger),
    UniqueConstraint("tenant", "name", "sha256"),
    Index("ix_bundle_revisions_sha256", "sha256"),
)
STATEMENTS: Final = Table(
    "bundle_statements",
    METADATA,
    Column("number", _NUMBER, primary_key=True, autoincrement=False),
    Column("kind", Text, primary_key=True),
    Column("content", LargeBinary, nullable=False),
)
DELTAS: Final = Table(
    "bundle_deltas",
    METADATA,
    Column("number", _NUMBER, primary_key=True, autoincrement=False),
    Column("base", Text, nullable=False),
    Column("content", LargeBinary, nullable=False),
)
EVENTS: Final = Table(
    "bundle_events",
    METADATA,
    Column("number", _NUMBER, Identity(), primary_key=True),
    Column("tenant", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("at_ns", BigInteger, nullable=False),
    Column("by", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Index("ix_bundle_events_tenant_name", "tenant", "name"),
)


class Registry:
    """The registry of one database. Safe on any thread."""

    def __init__(self, database: Database) -> None:
        self._database = database
        dialect: Any = sqlite if database.is_sqlite else postgresql
        self.blobs: Final = Blobs(database)
        self._add_name = dialect.insert(NAMES).on_conflict_do_nothing()

    def seen(self, place: Place) -> Seen:
        """What this name has seen: the counter that the next push is held to. A new name takes its own bundle alone."""
        with self._database.read() as connection:
            return _seen(connection.execute(select(NAMES.c.seen).where(_named(place))).scalar(), place)

    def push(self, push: Push, seen: Seen) -> Revision:
        """Keep a verified archive and make it the newest of its name.

        Args:
            push: what was verified.
            seen: what it was verified by.

        Raises:
            MovedError: the name has seen something else meanwhile.
        """
        self.blobs.keep(push.archive, push.sha256)
        with self._database.write() as connection:
            place = push.place
            connection.execute(
                self._add_name.values(tenant=place.tenant, name=place.name, seen="", newest=None, changed=0)
            )
            row = connection.execute(select(NAMES).where(_named(place)).with_for_update()).one()
            if _seen(row.seen, place) != seen or self.blobs.stay(connection, push.sha256) != len(push.archive):
                raise MovedError(f"`{place.name}` was changed by somebody else at once")
            now_ns = self._database.now_ns(connection)
            number = self._revision(connection, push, now_ns)
            self._replace_statements(connection, number, push.beside)
            if push.delta is not None:
                connection.execute(delete(DELTAS).where(DELTAS.c.number == number))
                connection.execute(insert(DELTAS).values(number=number, **asdict(push.delta)))
            after = json.dumps(asdict(push.verified.seen))
            changed = row.changed + 1
            connection.execute(
                update(NAMES).where(_named(place)).values(seen=after, newest=push.sha256, changed=changed)
            )
            self._note(connection, place, push.sha256, Kind.PUSHED, by=push.by, reason=push.reason)
            return _one(connection, place, push.sha256)

    def newest(self, place: Place) -> Revision | None:
        """What is served under a name; None where nothing is."""
        newest = select(NAMES.c.newest).where(_named(place)).scalar_subquery()
        with self._database.read() as connection:
            return next(_revisions(connection, _of(place) & (REVISIONS.c.sha256 == newest)), None)

    def find(self, place: Place, sha256: str) -> Revision | None:
        """One revision of a name, by its archive."""
        with self._database.read() as connection:
            return next(_revisions(connection, _of(place) & (REVISIONS.c.sha256 == sha256)), None)

    def names(self, tenant: str) -> list[Revision]:
        """The newest of each name of a tenant, by name."""
        with self._database.read() as connection:
            found = _revisions(connection, REVISIONS.c.tenant == tenant)
            return sorted((each for each in found if each.newest), key=lambda each: each.name)

    def history(self, place: Place) -> tuple[list[Revision], list[Event]]:
        """Revisions, the last pushed first, and events, the last first."""
        mine = (EVENTS.c.tenant == place.tenant) & (EVENTS.c.name == place.name)
        with self._database.read() as connection:
            events = connection.execute(select(EVENTS).where(mine).order_by(EVENTS.c.number.desc()))
            return list(_revisions(connection, _of(place))), [_event(row) for row in events]

    def beside(self, revision: Revision) -> dict[str, bytes]:
        """The statements that lie beside it, by kind."""
        found = select(STATEMENTS.c.kind, STATEMENTS.c.content).where(STATEMENTS.c.number == revision.number)
        with self._database.read() as connection:
            return {row.kind: row.content for row in connection.execute(found)}

    def statement(self, tenant: str, sha256: str, kind: Beside) -> bytes | None:
        """One statement about an archive that is published in a tenant."""
        mine = (REVISIONS.c.tenant == tenant) & (REVISIONS.c.sha256 == sha256)
        found = select(STATEMENTS.c.content).join(REVISIONS, REVISIONS.c.number == STATEMENTS.c.number)
        with self._database.read() as connection:
            return connection.execute(found.where(mine, STATEMENTS.c.kind == kind)).scalar()

    def delta(self, revision: Revision, base: str) -> bytes | None:
        """What makes a revision's archive of another one; None where that is not kept."""
        mine = (DELTAS.c.number == revision.number) & (DELTAS.c.base == base)
        with self._database.read() as connection:
            return connection.execute(select(DELTAS.c.content).where(mine)).scalar()

    def changes(self) -> int:
        """A number that grows whenever any name changes: cheap to ask again and again."""
        with self._database.read() as connection:
            return int(connection.execute(select(func.coalesce(func.sum(NAMES.c.changed), 0))).scalar_one())

    def hold(self, place: Place, sha256: str, *, by: str, reason: str) -> Revision | None:
        """Keep its content whatever happens; None where there is no such revision with content."""
        return self._mark(place, sha256, Kind.HELD, by=by, reason=reason)

    def release(self, place: Place, sha256: str, *, by: str, reason: str) -> Revision | None:
        """End its legal hold; None where there is no such revision."""
        return self._mark(place, sha256, Kind.RELEASED, by=by, reason=reason)

    def retire(self, place: Place, sha256: str, *, by: str, reason: str) -> Revision | None:
        """Serve it no more; None where there is no such revision.

        Raises:
            HeldError: it is under legal hold.
        """
        return self._mark(place, sha256, Kind.RETIRED, by=by, reason=reason)

    def collect(self, *, keep: int, in_use: Collection[str]) -> list[str]:
        """Remove the content of revisions that nobody needs (see `collectable`), and what a push left unfinished.

        Their rows and events stay.

        Returns:
            The digests of the archives that went.
        """
        with self._database.write() as connection:
            # Each name's row is locked, so that no push makes newest what goes here.
            connection.execute(select(NAMES.c.name).order_by(NAMES.c.tenant, NAMES.c.name).with_for_update())
            now_ns = self._database.now_ns(connection)
            kept = list(_revisions(connection, REVISIONS.c.collected_at_ns.is_(None)))
            for revision in collectable(kept, keep=keep, in_use=in_use):
                mine = REVISIONS.c.number == revision.number
                connection.execute(update(REVISIONS).where(mine).values(collected_at_ns=now_ns))
                for table in (STATEMENTS, DELTAS):
                    connection.execute(delete(table).where(table.c.number == revision.number))
                self._note(connection, revision.place, revision.sha256, Kind.COLLECTED)
            needed = select(REVISIONS.c.sha256).where(REVISIONS.c.collected_at_ns.is_(None))
            goes = self.blobs.orphans(connection, select(REVISIONS.c.sha256), needed)
        return [sha256 for sha256 in goes if self.blobs.remove(sha256, needed)]

    def _revision(self, connection: Connection, push: Push, now_ns: int) -> int:
        """The number of its row, which is made, or brought back where it was pushed before."""
        place, manifest = push.place, push.verified.manifest
        values = {
            "signed_by": json.dumps(push.verified.signed_by),
            "pushed_at_ns": now_ns,
            "pushed_by": push.by,
            "retired_at_ns": None,
            "collected_at_ns": None,
        }
        known = _of(place) & (REVISIONS.c.sha256 == push.sha256)
        again = update(REVISIONS).where(known).values(values).returning(REVISIONS.c.number)
        if (number := connection.execute(again).scalar()) is not None:
            return int(number)
        row = values | {
            "tenant": place.tenant,
            "name": place.name,
            "sha256": push.sha256,
            "digest": push.verified.digest,
            "revision": manifest.revision,
            "sequence": manifest.sequence,
            "change_id": manifest.change_id,
            "size": len(push.archive),
            "expires_at_ns": manifest.expires_ns,
        }
        return int(connection.execute(insert(REVISIONS).values(row).returning(REVISIONS.c.number)).scalar_one())

    @staticmethod
    def _replace_statements(connection: Connection, number: int, beside: Mapping[Beside, bytes]) -> None:
        connection.execute(delete(STATEMENTS).where(STATEMENTS.c.number == number))
        rows = [{"number": number, "kind": kind, "content": content} for kind, content in sorted(beside.items())]
        if rows:
            connection.execute(insert(STATEMENTS), rows)

    def _mark(self, place: Place, sha256: str, kind: Kind, *, by: str, reason: str) -> Revision | None:
        with self._database.write() as connection:
            name = connection.execute(select(NAMES).where(_named(place)).with_for_update()).one_or_none()
            found = next(_revisions(connection, _of(place) & (REVISIONS.c.sha256 == sha256)), None)
            if name is None or found is None or (kind is Kind.HELD and found.collected_at_ns is not None):
                return None
            if kind is Kind.RETIRED and found.held_at_ns is not None:
                raise HeldError(f"sha256:{sha256[:12]} is under legal hold")
            now_ns = self._database.now_ns(connection)
            marks: dict[Kind, dict[str, int | None]] = {
                Kind.HELD: {"held_at_ns": now_ns},
                Kind.RELEASED: {"held_at_ns": None},
                Kind.RETIRED: {"retired_at_ns": now_ns},
            }
            connection.execute(update(REVISIONS).where(REVISIONS.c.number == found.number).values(marks[kind]))
            if kind is Kind.RETIRED and found.newest:
                connection.execute(update(NAMES).where(_named(place)).values(newest=None, changed=name.changed + 1))
            self._note(connection, place, sha256, kind, by=by, reason=reason)
            return _one(connection, place, sha256)

    def _note(
        self, connection: Connection, place: Place, sha256: str, kind: Kind, *, by: str = "", reason: str = ""
    ) -> None:
        now_ns = self._database.now_ns(connection)
        row = {**asdict(place), "sha256": sha256, "kind": kind, "at_ns": now_ns, "by": by, "reason": reason}
        connection.execute(insert(EVENTS).values(row))


def _named(place: Place) -> ColumnElement[bool]:
    return (NAMES.c.tenant == place.tenant) & (NAMES.c.name == place.name)


def _of(place: Place) -> ColumnElement[bool]:
    return (REVISIONS.c.tenant == place.tenant) & (REVISIONS.c.name == place.name)


def _one(connection: Connection, place: Place, sha256: str) -> Revision:
    return next(_revisions(connection, _of(place) & (REVISIONS.c.sha256 == sha256)))


def _revisions(connection: Connection, condition: ColumnElement[bool]) -> Iterator[Revision]:
    """The last pushed first."""
    joined = REVISIONS.join(NAMES, (NAMES.c.tenant == REVISIONS.c.tenant) & (NAMES.c.name == REVISIONS.c.name))
    found = select(REVISIONS, (NAMES.c.newest == REVISIONS.c.sha256).label("newest")).select_from(joined)
    order = (REVISIONS.c.pushed_at_ns.desc(), REVISIONS.c.number.desc())
    for row in connection.execute(found.where(condition).order_by(*order)).mappings():
        yield Revision(
            **(dict(row) | {"signed_by": tuple(json.loads(row["signed_by"])), "newest": bool(row["newest"])})
        )


def _event(row: Row[Any]) -> Event:
    return Event(kind=Kind(row.kind), sha256=row.sha256, at_ns=row.at_ns, by=row.by, reason=row.reason)


def _seen(written: str | None, place: Place) -> Seen:
    if not written:
        return Seen(bundle_id=place.name)
    told = json.loads(written)
    return Seen(**(told | {"activated": tuple(told["activated"])}))
