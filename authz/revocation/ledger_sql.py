"""The ledger: what was stopped and what was freed, in order, for good. The truth behind every stream of kills.

Decides the number of each entry: dense from 1 in each stream, taken under a lock on the stream's head within the
writer's own transaction, so that a number exists if and only if its entry does, whoever else writes. Entries are only
ever added; the database refuses to change or remove one. Beside them stands what is in force now, one row a subject: a
snapshot is those rows and never a replay.

Must never be written outside a transaction that also changes what the entry speaks of: a paused agent whose pause is
not in the ledger would go on calling. An entry is acknowledged when that transaction has been committed, not before.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import BigInteger, Column, LargeBinary, Table, Text, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from authz.database import METADATA
from authz.revocation import standing
from authz.revocation.entries import AgentEntry, EpochEntry, KillEntry, LiftEntry, encode_entry
from authz.revocation.scopes import ScopeKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from sqlalchemy import Connection, Insert

    from authz.database import Database
    from authz.revocation.entries import Entry

TOMBSTONE_NS: Final = 3600 * 1_000_000_000
"""How long what was lifted stays known, and an expired kill of a token: longer than any lives, or an entry travels."""
EXPIRED_NS: Final = 7 * 24 * TOMBSTONE_NS
"""How long any other kill that has expired stays known: a clock that was ahead for a while must not end it (E11)."""
BELIEVED_AFTER_NS: Final = 600 * 1_000_000_000
"""Life of an epoch before a sidecar's word can end it: one that lies may cost the others a snapshot now and then."""
BELIEVED_EPOCHS: Final = 1_000
"""By how many a sidecar's may be later than ours: one that lies must not use them up."""
_CHUNK: Final = 10_000

HEADS: Final = Table(
    "ledger_heads",
    METADATA,
    Column("stream", Text, primary_key=True),
    Column("epoch", BigInteger, nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("begun_ns", BigInteger, nullable=False),
)
ENTRIES: Final = Table(
    "ledger_entries",
    METADATA,
    Column("stream", Text, primary_key=True),
    Column("sequence", BigInteger, primary_key=True),
    Column("epoch", BigInteger, nullable=False),
    Column("at_ns", BigInteger, nullable=False),
    Column("document", LargeBinary, nullable=False),
)
STANDING: Final = Table(
    "ledger_standing",
    METADATA,
    Column("stream", Text, primary_key=True),
    Column("subject", Text, primary_key=True),
    Column("keep_until_ns", BigInteger, nullable=True),
    Column("document", LargeBinary, nullable=False),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """Where a stream stands. `sequence` 0: it has no entry yet."""

    stream: str
    epoch: int
    sequence: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One entry as it was written: the JSON object that `entries.encode_entry` makes."""

    sequence: int
    epoch: int
    at_ns: int
    document: bytes


class Ledger:
    """The streams of one database. Safe to use from any number of threads."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._dialect: Any = sqlite if database.is_sqlite else postgresql
        self._add: Final = database.by_place(insert(ENTRIES))
        self._keep: Final = database.by_place(_kept(self._dialect.insert(STANDING)))
        self.committed: Final = threading.Event()
        """Set by `wake`; who waits for entries clears it."""

    def append(self, connection: Connection, stream: str, entry: Entry) -> Head:
        """Add one entry to `stream` in the caller's transaction; its sequence is given here. See `append_all`."""
        return self.append_all(connection, stream, [entry])

    def append_all(self, connection: Connection, stream: str, entries: Sequence[Entry]) -> Head:
        """Add entries to `stream`, in order, in the caller's transaction; their sequences are given here.

        The stream stays locked until that transaction ends, so this comes last in it. Call `wake` after its commit.

        Returns:
            The head after the last of them.
        """
        head = self._advance(connection, stream, len(entries))
        now_ns = self._database.now_ns(connection)
        first = head.sequence - len(entries) + 1
        documents = [encode_entry(entry, sequence) for sequence, entry in enumerate(entries, first)]
        rows = [(stream, sequence, head.epoch, now_ns, document) for sequence, document in enumerate(documents, first)]
        connection.exec_driver_sql(self._add, rows)
        self._stand(connection, stream, zip(entries, documents, strict=True))
        return head

    def new_epoch(self, connection: Connection, stream: str, *, above: int = 0) -> Head:
        """Begin anew, in an epoch higher than `above` too: the database is older than what it has published.

        So it is after a restored backup. Sidecars that hold entries which this ledger has lost then take a snapshot,
        and do not mistake the next entries for ones that they have.
        """
        self.open(connection, stream)
        epoch, now_ns = max(self.head(connection, stream).epoch, above) + 1, self._database.now_ns(connection)
        connection.execute(update(HEADS).where(HEADS.c.stream == stream).values(epoch=epoch, begun_ns=now_ns))
        return self.append(connection, stream, EpochEntry(sequence=0, at_ns=now_ns))

    def has_lost(self, connection: Connection, stream: str, epoch: int, sequence: int) -> bool:
        """Whether a sidecar that has applied this entry shows that the ledger, which lacks it, was restored."""
        row = connection.execute(_HEADS.where(HEADS.c.stream == stream)).one_or_none()
        known, begun_ns = ((int(row.epoch), int(row.sequence)), int(row.begun_ns)) if row else ((1, 0), 0)
        is_settled = self._database.now_ns(connection) - begun_ns > BELIEVED_AFTER_NS
        return is_settled and (epoch, sequence) > known and epoch - known[0] <= BELIEVED_EPOCHS

    def open(self, connection: Connection, stream: str) -> None:
        """Begin `stream` if need be, and hold it until the transaction ends."""
        made = (
            self._dialect.insert(HEADS).values(stream=stream, epoch=1, sequence=0, begun_ns=0).on_conflict_do_nothing()
        )
        connection.execute(made)
        connection.execute(_HEADS.where(HEADS.c.stream == stream).with_for_update())

    def wake(self) -> None:
        """Say that something was committed, so that it is published at once."""
        self.committed.set()

    def heads(self, connection: Connection) -> list[Head]:
        """Where every stream stands."""
        return [Head(stream=row.stream, epoch=row.epoch, sequence=row.sequence) for row in connection.execute(_HEADS)]

    def head(self, connection: Connection, stream: str) -> Head:
        """Where one stream stands; epoch 1 and sequence 0 where nothing was ever said."""
        row = connection.execute(_HEADS.where(HEADS.c.stream == stream)).one_or_none()
        return (
            Head(stream=stream, epoch=row.epoch, sequence=row.sequence)
            if row
            else Head(stream=stream, epoch=1, sequence=0)
        )

    def lines(self, connection: Connection, stream: str, after: int, limit: int) -> list[Line]:
        """At most `limit` entries that follow `after`, in order."""
        found = select(ENTRIES).where(ENTRIES.c.stream == stream, ENTRIES.c.sequence > after)
        rows = connection.execute(found.order_by(ENTRIES.c.sequence).limit(limit))
        return [
            Line(sequence=row.sequence, epoch=row.epoch, at_ns=row.at_ns, document=bytes(row.document)) for row in rows
        ]

    def standing(self, connection: Connection, stream: str) -> Iterator[list[bytes]]:
        """What a snapshot holds, in chunks: kills in force, what is known of agents, and tombstones still needed."""
        now_ns = self._database.now_ns(connection)
        needed = STANDING.c.keep_until_ns.is_(None) | (STANDING.c.keep_until_ns > now_ns)
        found = select(STANDING.c.document).where(STANDING.c.stream == stream, needed)
        rows = connection.execute(found, execution_options={"yield_per": _CHUNK})
        for part in rows.scalars().partitions():
            yield list(part)

    def compact(self, connection: Connection) -> int:
        """Forget tombstones that no sidecar needs any more; the entries themselves stay. Returns how many."""
        over = STANDING.c.keep_until_ns <= self._database.now_ns(connection)
        return connection.execute(STANDING.delete().where(over)).rowcount

    def _advance(self, connection: Connection, stream: str, count: int) -> Head:
        moved = (
            update(HEADS)
            .where(HEADS.c.stream == stream)
            .values(sequence=HEADS.c.sequence + count)
            .returning(HEADS.c.epoch, HEADS.c.sequence)
        )
        row = connection.execute(moved).one_or_none()
        if row is None:
            self.open(connection, stream)
            row = connection.execute(moved).one()
        return Head(stream=stream, epoch=row.epoch, sequence=row.sequence)

    def _stand(self, connection: Connection, stream: str, written: Iterable[tuple[Entry, bytes]]) -> None:
        """The last entry of each subject is what stands of it."""
        rows = {
            subject: (stream, subject, _keep_until(entry), standing.row(entry) or document)
            for entry, document in written
            if (subject := _subject(entry))
        }
        if rows:
            connection.exec_driver_sql(self._keep, [*rows.values()])


_HEADS: Final = select(HEADS)


def _kept(row: Any) -> Insert:  # noqa: ANN401 - an INSERT of either dialect
    """The row of a subject, in the place of the one that there may be."""
    replaced = {"keep_until_ns": row.excluded.keep_until_ns, "document": row.excluded.document}
    made: Insert = row.on_conflict_do_update(index_elements=["stream", "subject"], set_=replaced)
    return made


def _subject(entry: Entry) -> str:
    """Whom a later entry of the same subject replaces; empty for one that stands for nothing."""
    match entry:
        case KillEntry() | LiftEntry():
            return f"kill:{entry.id}"
        case AgentEntry():
            return f"agent:{entry.agent}"
        case EpochEntry():
            return ""


def _keep_until(entry: Entry) -> int | None:
    match entry:
        case KillEntry(expires_at_ns=expires_at_ns) if expires_at_ns:
            return expires_at_ns + (TOMBSTONE_NS if entry.scope.kind is ScopeKind.TOKEN else EXPIRED_NS)
        case LiftEntry(at_ns=at_ns):
            return at_ns + TOMBSTONE_NS
    return None
