"""What sidecars say of their bundles: which archive answers, and which was refused and why.

Decides which archives count as in use: those that a sidecar named within `IN_USE_NS`, so that one that is restarted
finds what it had. Must never hold more than a sidecar's last word on each name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import BigInteger, Column, Table, Text, select
from sqlalchemy.dialects import postgresql, sqlite

from authz.database import METADATA

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from authz.database import Database

IN_USE_NS: Final = 7 * 86_400 * 10**9

REPORTS: Final = Table(
    "bundle_reports",
    METADATA,
    Column("sidecar", Text, primary_key=True),
    Column("tenant", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("sha256", Text, nullable=False),
    Column("refused", Text, nullable=False),
    Column("code", Text, nullable=False),
    Column("at_ns", BigInteger, nullable=False),
)
_KEY: Final = ("sidecar", "tenant", "name")


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleReport:
    """A sidecar's last word on one name. `refused` and `code` are empty where the newest one answers."""

    tenant: str
    name: str
    sha256: str
    refused: str = ""
    code: str = ""


class BundleReports:
    """The reports of one database's sidecars."""

    def __init__(self, database: Database) -> None:
        self._database = database
        dialect: Any = sqlite if database.is_sqlite else postgresql
        row = dialect.insert(REPORTS)
        changed = {column.name: row.excluded[column.name] for column in REPORTS.c if column.name not in _KEY}
        self._put = row.on_conflict_do_update(index_elements=list(_KEY), set_=changed)

    def put(self, sidecar: str, reports: Iterable[BundleReport]) -> None:
        """Keep what a sidecar says now."""
        with self._database.write() as connection:
            at_ns = self._database.now_ns(connection)
            for each in sorted(reports, key=lambda each: (each.tenant, each.name)):  # one order of locks for all
                said = {"sha256": each.sha256, "refused": each.refused, "code": each.code, "at_ns": at_ns}
                connection.execute(
                    self._put.values(said | {"sidecar": sidecar, "tenant": each.tenant, "name": each.name})
                )

    def of(self, sidecars: Collection[str]) -> dict[str, list[BundleReport]]:
        """The last words of each of these, by its id."""
        found = select(REPORTS).where(REPORTS.c.sidecar.in_(sidecars)).order_by(*(REPORTS.c[name] for name in _KEY))
        said: dict[str, list[BundleReport]] = {}
        with self._database.read() as connection:
            for row in connection.execute(found):
                report = BundleReport(
                    tenant=row.tenant, name=row.name, sha256=row.sha256, refused=row.refused, code=row.code
                )
                said.setdefault(row.sidecar, []).append(report)
        return said

    def in_use(self) -> frozenset[str]:
        """Digests of archives that sidecars have."""
        with self._database.read() as connection:
            since_ns = self._database.now_ns(connection) - IN_USE_NS
            return frozenset(connection.execute(select(REPORTS.c.sha256).where(REPORTS.c.at_ns >= since_ns)).scalars())
