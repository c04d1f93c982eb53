"""What sidecars found of rollouts: the last word of each on where it stands, and what it counted, by window.

Decides which windows count together: those of one stage, and the recent ones of it. A sidecar counts from the beginning
of a window on, so what it says again replaces what it said before, and a lost report loses nothing. Must never count a
sidecar as following that has been silent for longer than `HEARD_WITHIN_NS`, nor let go of what the present stage of a
rollout rests on: what is older goes after `KEPT_NS`, and the steps keep the figures that they rested on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import BigInteger, Boolean, Column, LargeBinary, Table, Text, delete, select, tuple_
from sqlalchemy.dialects import postgresql, sqlite

from authz.database import METADATA
from authz.policy.findings import decode, together

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import Connection

    from authz.database import Database
    from authz.policy.findings import Findings

HEARD_WITHIN_NS: Final = 10 * 1_000_000_000
KEPT_NS: Final = 30 * 24 * 3600 * 1_000_000_000
RECENT: Final = 2
"""Windows: the one under way and the one before."""

STANDINGS: Final = Table(
    "rollout_standings",
    METADATA,
    Column("scope", Text, primary_key=True),
    Column("sidecar", Text, primary_key=True),
    Column("rollout", Text, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("is_ready", Boolean, nullable=False),
    Column("refused", Text, nullable=False),
    Column("tripped", Text, nullable=False),
    Column("golden", Text, nullable=False),
    Column("heard_ns", BigInteger, nullable=False),
    Column("pinned", Text, nullable=False),
)
FINDINGS: Final = Table(
    "rollout_findings",
    METADATA,
    Column("rollout", Text, primary_key=True),
    Column("since_ns", BigInteger, primary_key=True, autoincrement=False),
    Column("sidecar", Text, primary_key=True),
    Column("run", Text, primary_key=True),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("counted", LargeBinary, nullable=False),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How one sidecar fares with a scope's rollout. The three codes are empty where all is well."""

    sidecar: str
    rollout: str
    version: int
    is_ready: bool
    refused: str = ""
    tripped: str = ""
    golden: str = ""
    heard_ns: int = 0
    pinned: str = ""
    """What a person had it serve whatever rollouts say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """What one run of a sidecar found in one window of the stage that began at `since_ns`."""

    since_ns: int
    run: str
    number: int
    document: bytes


class RolloutReports:
    """The reports of one database's sidecars. Each method works within the caller's transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database
        dialect: Any = sqlite if database.is_sqlite else postgresql
        self._stand, self._count = (_upsert(dialect, table) for table in (STANDINGS, FINDINGS))

    def put(self, connection: Connection, scope: str, standing: Standing, counted: Iterable[Counted]) -> None:
        """Keep what a sidecar says now."""
        values = {column.name: getattr(standing, column.name) for column in STANDINGS.columns if column.name != "scope"}
        values |= {"scope": scope, "heard_ns": self._database.now_ns(connection)}
        connection.execute(self._stand, values)
        rows = [
            {
                "rollout": standing.rollout,
                "since_ns": each.since_ns,
                "sidecar": standing.sidecar,
                "run": each.run,
                "number": each.number,
                "counted": each.document,
            }
            for each in counted
        ]
        if rows:
            connection.execute(self._count, rows)

    def standings(self, connection: Connection, scope: str) -> list[Standing]:
        """The last word of each sidecar that was heard lately."""
        since_ns = self._database.now_ns(connection) - HEARD_WITHIN_NS
        found = select(STANDINGS).where(STANDINGS.c.scope == scope, STANDINGS.c.heard_ns >= since_ns)
        names = [column.name for column in STANDINGS.columns if column.name != "scope"]
        rows = connection.execute(found.order_by(STANDINGS.c.sidecar))
        return [Standing(**{name: getattr(row, name) for name in names}) for row in rows]

    def found(self, connection: Connection, rollout: str, since_ns: int) -> tuple[Findings, Findings]:
        """All that was found in a stage, and what was found in its recent windows."""
        stage = select(FINDINGS).where(FINDINGS.c.rollout == rollout, FINDINGS.c.since_ns == since_ns)
        rows = list(connection.execute(stage.order_by(FINDINGS.c.number)))
        last = max((row.number for row in rows), default=0)
        parts = [(row.number, decode(bytes(row.counted))) for row in rows]
        recent = (part for number, part in parts if number > last - RECENT)
        return together(part for _, part in parts), together(recent)

    def forget(self, connection: Connection, present: Iterable[tuple[str, int]]) -> int:
        """Let go of what was found in stages that began too long ago, and of sidecars that are silent as long.

        Args:
            connection: of the caller's transaction.
            present: rollouts whose present stage keeps its findings, with when that began.

        Returns:
            How many windows went.
        """
        before_ns = self._database.now_ns(connection) - KEPT_NS
        connection.execute(delete(STANDINGS).where(STANDINGS.c.heard_ns < before_ns))
        old = delete(FINDINGS).where(FINDINGS.c.since_ns < before_ns)
        kept = tuple_(FINDINGS.c.rollout, FINDINGS.c.since_ns).in_([*present])
        return connection.execute(old.where(~kept)).rowcount


def _upsert(dialect: Any, table: Table) -> Any:  # noqa: ANN401 - of either dialect
    row = dialect.insert(table)
    keys = [column.name for column in table.primary_key]
    changed = {column.name: row.excluded[column.name] for column in table.columns if column.name not in keys}
    return row.on_conflict_do_update(index_elements=keys, set_=changed)
