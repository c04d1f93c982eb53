"""What sidecars said they have applied, for whoever waits for a kill to be known everywhere.

Decides which sidecars have a kill: those whose last word names its entry or a later one. Must never count one that has
been silent for longer than `HEARD_WITHIN_NS`: what it knows now, nobody knows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import BigInteger, Column, Table, Text, and_, case, select
from sqlalchemy.dialects import postgresql, sqlite

from authz.database import METADATA

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from sqlalchemy import Connection

    from authz.database import Database

HEARD_WITHIN_NS: Final = 30 * 1_000_000_000

REPORTS: Final = Table(
    "stream_reports",
    METADATA,
    Column("stream", Text, primary_key=True),
    Column("sidecar", Text, primary_key=True),
    Column("epoch", BigInteger, nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("applied_ns", BigInteger, nullable=False),
    Column("heard_ns", BigInteger, nullable=False),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """How far a sidecar has followed one stream."""

    stream: str
    epoch: int
    sequence: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A sidecar's last word on one stream: how far, since when, and when it was last heard."""

    sidecar: str
    epoch: int
    sequence: int
    applied_ns: int
    heard_ns: int

    def has(self, epoch: int, sequence: int) -> bool:
        """Whether it has applied this entry: itself, or the snapshot that a later epoch begins with."""
        return self.epoch > epoch or (self.epoch == epoch and self.sequence >= sequence)


class Reports:
    """The reports of one database's sidecars. Each method works within the caller's transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database
        dialect: Any = sqlite if database.is_sqlite else postgresql
        row = dialect.insert(REPORTS)
        is_same = and_(REPORTS.c.epoch == row.excluded.epoch, REPORTS.c.sequence == row.excluded.sequence)
        self._put = row.on_conflict_do_update(
            index_elements=["stream", "sidecar"],
            set_={
                "epoch": row.excluded.epoch,
                "sequence": row.excluded.sequence,
                "applied_ns": case((is_same, REPORTS.c.applied_ns), else_=row.excluded.applied_ns),
                "heard_ns": row.excluded.heard_ns,
            },
        )

    def put(self, connection: Connection, sidecar: str, applied: Iterable[Applied]) -> None:
        """Keep what `sidecar` says now; that it says less than before is kept too."""
        now_ns = self._database.now_ns(connection)
        rows = [
            {
                "stream": each.stream,
                "sidecar": sidecar,
                "epoch": each.epoch,
                "sequence": each.sequence,
                "applied_ns": now_ns,
                "heard_ns": now_ns,
            }
            for each in sorted(applied, key=lambda each: each.stream)  # one order of locks for all
        ]
        if rows:
            connection.execute(self._put, rows)

    def heard(self, connection: Connection) -> set[str]:
        """Sidecars that were heard lately, on whichever stream."""
        since_ns = self._database.now_ns(connection) - HEARD_WITHIN_NS
        return set(connection.execute(select(REPORTS.c.sidecar).where(REPORTS.c.heard_ns >= since_ns)).scalars())

    def of(self, connection: Connection, stream: str) -> dict[str, Report]:
        """The last word of each sidecar on `stream` that was heard lately, by its id."""
        since_ns = self._database.now_ns(connection) - HEARD_WITHIN_NS
        found = select(REPORTS).where(REPORTS.c.stream == stream, REPORTS.c.heard_ns >= since_ns)
        return {
            row.sidecar: Report(
                sidecar=row.sidecar,
                epoch=row.epoch,
                sequence=row.sequence,
                applied_ns=row.applied_ns,
                heard_ns=row.heard_ns,
            )
            for row in connection.execute(found)
        }

    def by_sidecar(self, sidecars: Collection[str]) -> dict[str, tuple[list[Applied], int]]:
        """What each of these sidecars last said of each stream, and when it was last heard, however long ago."""
        found: dict[str, tuple[list[Applied], int]] = {}
        with self._database.read() as connection:
            for row in connection.execute(select(REPORTS).where(REPORTS.c.sidecar.in_(sidecars))):
                applied, heard_ns = found.get(row.sidecar, ([], 0))
                applied.append(Applied(stream=row.stream, epoch=row.epoch, sequence=row.sequence))
                found[row.sidecar] = (applied, max(heard_ns, row.heard_ns))
        return found
