"""What a sidecar is given that asks the control plane itself: entries that it lacks, and where its stream stands now.

Decides when only a snapshot will do: another epoch, a sequence that the ledger does not have, or so far behind that
everything in force is less. Any instance answers, whoever publishes. Must never answer for a stream that it was not
asked about: whose streams a sidecar may follow is checked before.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from authz.errors import InvalidRequestError
from authz.reasons import KILL_SNAPSHOT
from authz.revocation.batches import batches
from authz.revocation.entries import MAX_ENTRIES, Heartbeat, sign

if TYPE_CHECKING:
    from authz.database import Database
    from authz.revocation.entries import Signed
    from authz.revocation.ledger_sql import Ledger
    from authz.revocation.stream_keys_sql import StreamKeys

TOO_FAR: Final = 100_000
"""Entries behind the head from which on a snapshot is quicker."""
_LINES: Final = 16 * MAX_ENTRIES
_ROOM_BYTES: Final = 2 << 20
"""Of one answer: gRPC's own limit is 4 MiB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refilled:
    """The entries after a place, whether there are more, and a heartbeat of this moment.

    The heartbeat's count is 0: it answers a question, so it needs none against being replayed.
    """

    batches: tuple[Signed, ...]
    more: bool
    heartbeat: Signed


class Refill:
    """Answers from the ledger. Safe to use from any number of threads."""

    def __init__(self, database: Database, ledger: Ledger, keys: StreamKeys) -> None:
        self._database = database
        self._ledger = ledger
        self._keys = keys

    def entries(self, stream: str, epoch: int, after: int) -> Refilled:
        """What follows `after` in `epoch`.

        Raises:
            InvalidRequestError: KILL_SNAPSHOT, they are not to be had one by one.
            UnavailableError: the database cannot be used.
        """
        key = self._keys.signer(stream)
        with self._database.read() as connection:
            beat_ns = self._database.now_ns(connection)  # before the head: what is committed later is news after it
            head = self._ledger.head(connection, stream)
            if epoch != head.epoch or not max(0, head.sequence - TOO_FAR) <= after <= head.sequence:
                raise InvalidRequestError(KILL_SNAPSHOT)
            lines = self._ledger.lines(connection, stream, after, _LINES)
            at_ns = self._database.now_ns(connection)
        taken: list[Signed] = []
        for batch in batches(stream, lines, at_ns):
            signed = sign(batch, key)
            if taken and sum(len(each.body) for each in (*taken, signed)) > _ROOM_BYTES:
                break
            taken.append(signed)
            after = batch.last
        heartbeat = Heartbeat(stream=stream, epoch=head.epoch, sequence=head.sequence, at_ns=beat_ns, count=0)
        return Refilled(batches=tuple(taken), more=after < head.sequence, heartbeat=sign(heartbeat, key))
