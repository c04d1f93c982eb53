"""Who leads: of several instances on one database, at most one at a time has a task.

Decides by a row with its holder, until when, and a term that grows with every change of holder. The time is the
database's, so instances' clocks may differ; the holder itself counts on its monotonic clock from before it asked, so
it stops believing before anybody else can take over. Where even a pause between two instructions must not let an old
leader write, it calls `confirm` in the writing transaction: that locks the row, and fails once the term is another's.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Final

from sqlalchemy import BigInteger, Column, Table, Text, insert, select, update
from sqlalchemy.exc import IntegrityError

from authz.database.schema import METADATA
from authz.errors import AuthzError, UnavailableError

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from authz.clock import Clock
    from authz.database.engine import Database

log: Final = logging.getLogger(__name__)
_NS: Final = 1_000_000_000

LEASES: Final = Table(
    "leases",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("holder", Text, nullable=False),
    Column("until_ns", BigInteger, nullable=False),
    Column("term", BigInteger, nullable=False),
)


class LeaseLostError(AuthzError):
    """Another instance leads: what this one was about to write must not be written."""


class Lease:
    """One instance's claim to one task. Only one thread may call `take` and `release`; any may ask.

    Args:
        name: of the task.
        holder: of this instance; unique among all.
        life_s: how long the others wait when a holder dies.
    """

    def __init__(self, database: Database, name: str, holder: str, *, clock: Clock, life_s: float = 3.0) -> None:
        self._database = database
        self.name: Final = name
        self.holder: Final = holder
        self.life_s: Final = life_s
        self._monotonic_ns = clock.monotonic_ns
        # One tuple, replaced whole: readers on other threads see the term and its end together.
        self._held: tuple[int, int] = (0, 0)

    @property
    def term(self) -> int:
        """The term this instance leads in; 0 where it does not."""
        term, until_ns = self._held
        return term if self._monotonic_ns() < until_ns else 0

    def take(self) -> bool:
        """Take the lease or keep it, for another life; whether it is held now.

        Raises:
            UnavailableError: the database cannot be used; what was held stays held until its end.
        """
        asked_ns = self._monotonic_ns()
        try:
            with self._database.write() as connection:
                term = self._claim(connection)
        except IntegrityError:  # two instances made the row at once
            term = 0
        self._held = (term, asked_ns + int(self.life_s * _NS)) if term else (0, 0)
        return term > 0

    def confirm(self, connection: Connection) -> None:
        """Within a writing transaction: this instance leads, and keeps leading until it is committed.

        Raises:
            LeaseLostError: it does not.
        """
        term = self._held[0]
        held = select(LEASES.c.term).where(LEASES.c.name == self.name, LEASES.c.holder == self.holder)
        if not term or connection.execute(held.with_for_update()).scalar() != term:
            raise LeaseLostError(f"another instance has the lease `{self.name}`")

    def release(self) -> None:
        """Let another instance take over at once.

        Raises:
            UnavailableError: the database cannot be used; the lease ends by itself.
        """
        self._held = (0, 0)
        mine = (LEASES.c.name == self.name) & (LEASES.c.holder == self.holder)
        with self._database.write() as connection:
            connection.execute(update(LEASES).where(mine).values(until_ns=0))

    def _claim(self, connection: Connection) -> int:
        """The term that is this instance's now; 0 where another holds the lease."""
        row = connection.execute(select(LEASES).where(LEASES.c.name == self.name).with_for_update()).one_or_none()
        now_ns = self._database.now_ns(connection)
        until_ns = now_ns + int(self.life_s * _NS)
        if row is None:
            values = {"name": self.name, "holder": self.holder, "until_ns": until_ns, "term": 1}
            connection.execute(insert(LEASES).values(values))
            return 1
        # One that seems to last for longer was taken before the clock was set back; its holder may be long gone.
        is_live = 0 < row.until_ns - now_ns <= 2 * self.life_s * _NS
        if row.holder != self.holder and is_live:
            return 0
        # An expired lease is a new term even for its old holder: somebody may have led in between.
        is_kept = row.holder == self.holder and is_live
        term = int(row.term) if is_kept else int(row.term) + 1
        connection.execute(
            update(LEASES).where(LEASES.c.name == self.name).values(holder=self.holder, until_ns=until_ns, term=term)
        )
        return term


class Election:
    """Takes a lease and keeps it, on a thread of its own, from `start` to `stop`."""

    def __init__(self, lease: Lease) -> None:
        self.lease: Final = lease
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"lease-{lease.name}", daemon=True)

    @property
    def is_leader(self) -> bool:
        """Whether this instance leads at this moment; asks nobody."""
        return self.lease.term > 0

    def start(self) -> None:
        """Begin to stand for it."""
        self._thread.start()

    def stop(self) -> None:
        """Step down, so that another takes over at once."""
        self._stop.set()
        self._thread.join()
        try:
            self.lease.release()
        except UnavailableError:
            log.warning("the lease `%s` could not be given back; it ends by itself", self.lease.name)

    def _run(self) -> None:
        was_leader = False
        while True:
            try:
                self.lease.take()
            except UnavailableError as error:
                log.warning("the lease `%s` could not be renewed: %s", self.lease.name, error)
            if self.is_leader != was_leader:
                was_leader = self.is_leader
                log.info("this instance %s `%s`", "leads" if was_leader else "no longer leads", self.lease.name)
            if self._stop.wait(self.lease.life_s / 3):
                return
