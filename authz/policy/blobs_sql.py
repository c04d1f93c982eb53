"""Archives in the database, by the digest of their bytes: each kept once, and there for every instance.

Decides that they lie in pieces: one transaction writes or removes no more than holds up another writer (a kill, for
one) for a few milliseconds. Must never give bytes up while a revision needs them: `stay` and `remove` lock the same
rows, so that a push and the collector cannot cross. Trusts its callers to have verified what they keep.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import BigInteger, Column, Integer, LargeBinary, Table, Text, delete, func, select
from sqlalchemy.dialects import postgresql, sqlite

from authz.database import METADATA
from authz.policy.registry import PIECE_BYTES

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Connection, Select

    from authz.database import Database

UNFINISHED_NS: Final = 3_600 * 10**9
"""Pieces that no revision has after so long come from a push that was cut short."""

PIECES: Final = Table(
    "bundle_pieces",
    METADATA,
    Column("sha256", Text, primary_key=True),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("content", LargeBinary, nullable=False),
    Column("kept_at_ns", BigInteger, nullable=False),
)


class Blobs:
    """The archives of one database. Safe on any thread."""

    def __init__(self, database: Database) -> None:
        self._database = database
        dialect: Any = sqlite if database.is_sqlite else postgresql
        self._add = dialect.insert(PIECES).on_conflict_do_nothing()

    def keep(self, archive: bytes, sha256: str) -> None:
        """Write an archive, each piece in a transaction of its own; what is there is not written again."""
        with self._database.read() as connection:
            there = set(connection.execute(select(PIECES.c.position).where(_of(sha256))).scalars())
        for position in range(-(-len(archive) // PIECE_BYTES)):
            if position in there:
                continue
            content = archive[position * PIECE_BYTES : (position + 1) * PIECE_BYTES]
            with self._database.write() as connection:
                kept_at_ns = self._database.now_ns(connection)
                row = {"sha256": sha256, "position": position, "content": content, "kept_at_ns": kept_at_ns}
                connection.execute(self._add.values(row))

    def read(self, sha256: str) -> bytes:
        """A whole archive; empty where it is not kept."""
        content = select(PIECES.c.content).where(_of(sha256)).order_by(PIECES.c.position)
        with self._database.read() as connection:
            return b"".join(connection.execute(content).scalars())

    def piece(self, sha256: str, position: int) -> bytes:
        """One piece, from 0; empty after the last, and where nothing is kept."""
        content = select(PIECES.c.content).where(_of(sha256), PIECES.c.position == position)
        with self._database.read() as connection:
            return bytes(connection.execute(content).scalar() or b"")

    @staticmethod
    def stay(connection: Connection, sha256: str) -> int:
        """How many bytes of it are there, and stay until the transaction ends."""
        lengths = select(func.length(PIECES.c.content)).where(_of(sha256))
        return sum(connection.execute(lengths.with_for_update()).scalars())

    def orphans(self, connection: Connection, known: Select[tuple[str]], needed: Select[tuple[str]]) -> list[str]:
        """Archives that no revision needs: of the `known`, all that are not `needed`; of others, what is unfinished."""
        is_over = PIECES.c.kept_at_ns < self._database.now_ns(connection) - UNFINISHED_NS
        unneeded = (PIECES.c.sha256.in_(known) | is_over) & PIECES.c.sha256.not_in(needed)
        return sorted(connection.execute(select(PIECES.c.sha256).where(unneeded).distinct()).scalars())

    def remove(self, sha256: str, needed: Select[tuple[str]]) -> bool:
        """Remove an archive unless it is needed by now; whether it went."""
        with self._database.write() as connection:
            # In two statements: a push that has just locked the pieces is over, and its revision seen, by the second.
            connection.execute(select(PIECES.c.position).where(_of(sha256)).with_for_update())
            gone = connection.execute(delete(PIECES).where(_of(sha256), PIECES.c.sha256.not_in(needed)))
        return bool(gone.rowcount)


def _of(sha256: str) -> ColumnElement[bool]:
    return PIECES.c.sha256 == sha256
