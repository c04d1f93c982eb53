"""What operators did and were refused, append-only.

Decides what a row is: a call is written down before it is carried out (`begun`), so that nothing is done that is not
on record, and once more with its outcome; the rows of one call share an id, and the last one counts. One that stays
`begun` was cut short by a crash: what it acted on says whether it happened.

Must never let a caller fill the disk: refusals are written at a bounded rate for each operator, and for all strangers
together, and the next row says how many were left out.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sqlalchemy import BigInteger, Column, Identity, Index, Integer, Table, Text, insert, select

from authz.database import METADATA

if TYPE_CHECKING:
    from authz.clock import Clock
    from authz.database import Database

BEGUN: Final = "begun"
DONE: Final = "done"
REFUSALS_BURST: Final = 1000
REFUSALS_PER_S: Final = 10.0
MAX_PAGE: Final = 500

ACTIONS: Final = Table(
    "actions",
    METADATA,
    Column("number", BigInteger().with_variant(Integer, "sqlite"), Identity(), primary_key=True),
    Column("id", Text, nullable=False),
    Column("at_ns", BigInteger, nullable=False),
    Column("operator", Text, nullable=False),
    Column("method", Text, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Index("ix_actions_id", "id"),
    Index("ix_actions_tenant_number", "tenant", "number"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """One call, at one point of it.

    Args:
        operator: empty for one whose identity was not proved.
        outcome: `begun`, `done`, or the reason code of the refusal.
    """

    id: str
    operator: str
    method: str
    tenant: str
    outcome: str
    subject: str = ""
    reason: str = ""
    at_ns: int = 0
    number: int = 0


class Actions:
    """The record of one database."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._refusals: dict[str, _Bucket] = {}  # by operator: only known ids and the empty one come here

    def add(self, action: Action) -> None:
        """Write one row, to the disk.

        Raises:
            UnavailableError: it could not be written; what it stands for must not happen.
        """
        reason = action.reason
        if action.outcome not in (BEGUN, DONE):
            omitted = self._refusals.setdefault(action.operator, _Bucket(self._clock)).take()
            if omitted is None:
                return
            reason = f"{omitted} refusals before this one were not recorded" if omitted else reason
        names = ("id", "operator", "method", "tenant", "outcome", "subject")
        values = {name: getattr(action, name) for name in names}
        with self._database.write() as connection:
            now_ns = self._database.now_ns(connection)
            connection.execute(insert(ACTIONS).values(**values, at_ns=now_ns, reason=reason))

    def page(self, tenant: str | None, *, before: int | None, size: int) -> tuple[Action, ...]:
        """Calls by their last row, newest first.

        Args:
            tenant: that tenant's alone; None means all.
            before: only rows with a lower number.
            size: how many at most.
        """
        later = ACTIONS.alias()
        query = select(ACTIONS).where(
            ~select(later.c.number).where(later.c.id == ACTIONS.c.id, later.c.number > ACTIONS.c.number).exists()
        )
        if tenant is not None:
            query = query.where(ACTIONS.c.tenant == tenant)
        if before is not None:
            query = query.where(ACTIONS.c.number < before)
        query = query.order_by(ACTIONS.c.number.desc()).limit(min(size, MAX_PAGE))
        with self._database.read() as connection:
            return tuple(Action(**row) for row in connection.execute(query).mappings())


class _Bucket:
    """A burst, then a rate; counts what it refuses."""

    def __init__(self, clock: Clock) -> None:
        self._monotonic_ns = clock.monotonic_ns
        self._lock = threading.Lock()
        self._tokens = float(REFUSALS_BURST)
        self._seen_ns = clock.monotonic_ns()
        self._omitted = 0

    def take(self) -> int | None:
        """How many were left out before this one; None where this one is."""
        with self._lock:
            now_ns = self._monotonic_ns()
            self._tokens = min(REFUSALS_BURST, self._tokens + (now_ns - self._seen_ns) * REFUSALS_PER_S / 1e9)
            self._seen_ns = now_ns
            if self._tokens < 1:
                self._omitted += 1
                return None
            self._tokens -= 1
            omitted, self._omitted = self._omitted, 0
            return omitted
