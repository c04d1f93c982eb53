"""From the ledger to Redis: signed batches, heartbeats, and whatever Redis has lost.

Decides what is published and when: entries at once, at most 256 in a batch, in the order of the ledger; a heartbeat for
every stream each 0.4 s. One instance publishes, the one that holds the lease; any other takes over. Before each
heartbeat it looks at what Redis holds, and puts back what is missing: after FLUSHALL, a restored dump, a failover that
lost writes (E3, E7). What somebody else put there is removed and reported (E8). Where Redis holds what the ledger does
not, and it is signed by us, the database was restored from a backup: a new epoch begins.

Must never hold a kill back: the ledger has acknowledged it, and sidecars that do not hear of it here ask the control
plane. Trusts the ledger; trusts nothing that Redis says but that it took a message.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from authz.errors import EntryError, UnavailableError
from authz.revocation import publication_sql, redis_streams
from authz.revocation.batches import batches
from authz.revocation.entries import Batch, EpochEntry, Heartbeat, read, sign
from authz.revocation.publication_sql import PublicationState
from authz.revocation.redis_writer import MisplacedError, PublicationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from authz.clock import Clock
    from authz.database import Database, Election
    from authz.revocation.entries import Signed
    from authz.revocation.ledger_sql import Head, Ledger
    from authz.revocation.redis_writer import RedisWriter, Tail
    from authz.revocation.stream_keys_sql import StreamKeys

log: Final = logging.getLogger(__name__)
POLL_S: Final = 0.02
"""How soon another instance's commits are noticed; those of this one wake it."""
REPUBLISHED: Final = 10_000
"""Entries put back into an empty Redis; a sidecar that is further behind pulls them."""
COMPACT_S: Final = 60.0
_RETRY_S: Final = 0.25
_STAND_BY_S: Final = 0.1
_LINES: Final = 8_192
"""Entries published before looking at the heads again."""
_TERM: Final = 1 << 32
"""Heartbeats of one term of office: counts grow from leader to leader."""
_NS: Final = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """What is published, and with which keys."""

    database: Database
    ledger: Ledger
    keys: StreamKeys


class Publisher:
    """Publishes while this instance leads, on a thread of its own, from `start` to `stop`."""

    def __init__(self, sources: Sources, writer: RedisWriter, election: Election, *, clock: Clock) -> None:
        self._database = sources.database
        self._ledger = sources.ledger
        self._keys = sources.keys
        self._writer = writer
        self._election = election
        self._clock = clock
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kills-publisher", daemon=True)
        # Where each stream stands in Redis, as far as this instance knows: (epoch, sequence).
        self._published: dict[str, tuple[int, int]] = {}
        self._damaged: set[str] = set()
        self._said: tuple[PublicationState, str] | None = None
        self._next_beat_ns = 0
        self._next_compaction_ns = 0
        self._beats = 0

    def start(self) -> None:
        """Stand for the lease, and publish whenever this instance has it."""
        self._election.start()
        self._thread.start()

    def stop(self) -> None:
        """Let another instance take over."""
        self._stop.set()
        self._ledger.wake()
        self._thread.join()
        self._election.stop()
        self._writer.close()

    def _run(self) -> None:
        while not self._stop.is_set():
            if not self._election.is_leader:
                self._published.clear()
                self._said = None
                self._stop.wait(_STAND_BY_S)
                continue
            try:
                self._turn()
            except PublicationError as error:
                self._published.clear()
                self._say(error.state, error.detail)
                self._stop.wait(_RETRY_S)
            except UnavailableError:  # the database; it has said so in the log
                self._stop.wait(_RETRY_S)
            except Exception:  # a thread that ended would leave every kill to the slow path, without a word
                log.exception("the publisher of kills failed; it goes on")
                self._published.clear()
                self._stop.wait(_RETRY_S)

    def _turn(self) -> None:
        """Publish what is new; where a heartbeat is due, or nothing is known of a stream, look and put back first."""
        now_ns = self._clock.monotonic_ns()
        is_due = now_ns >= self._next_beat_ns
        at_ns, heads = self._heads()
        if is_due:
            self._writer.require_no_eviction()
        self._look([head for head in heads if is_due or head.stream not in self._published])
        if is_due:
            at_ns, heads = self._heads()
        for head in heads:
            self._publish(head)
        if is_due:
            self._beat(at_ns, heads)
            self._next_beat_ns = now_ns + int(redis_streams.HEARTBEAT_S * _NS)
            self._compact(now_ns)
        self._say(PublicationState.OK)
        idle_s = (self._next_beat_ns - self._clock.monotonic_ns()) / _NS
        if self._ledger.committed.wait(max(0.0, min(POLL_S, idle_s))):
            self._ledger.committed.clear()

    def _heads(self) -> tuple[int, list[Head]]:
        """A time, and where every stream stands that was not committed to since: a heartbeat may say so."""
        with self._database.read() as connection:
            return self._database.now_ns(connection), self._ledger.heads(connection)

    def _look(self, heads: Sequence[Head]) -> None:
        """Learn where Redis stands, and make it fit to go on from."""
        tails = self._writer.tails([head.stream for head in heads]) if heads else []
        for head, tail in zip(heads, tails, strict=True):
            self._published[head.stream] = self._place(head, tail)

    def _place(self, head: Head, tail: Tail | None) -> tuple[int, int]:
        """Where to publish `head`'s stream from."""
        anew = (0, max(0, head.sequence - REPUBLISHED))
        if tail is None:
            return anew
        if tail.last > (head.epoch, head.sequence) and not self._is_ours(head, tail):
            log.error("KILL_FORGED: somebody else wrote to a stream of kills in Redis; it is written again")
        elif tail.top == tail.last and self._covers(head, tail):
            return tail.last
        self._writer.reset(head.stream)
        return anew

    def _covers(self, head: Head, tail: Tail) -> bool:
        """Whether Redis goes back as far as it should: entries that came after a FLUSHALL hide what it removed."""
        oldest = self._batch(head.stream, tail.first)
        if oldest is None:
            return False
        begins_epoch = oldest.epoch < head.epoch or isinstance(oldest.entries[0], EpochEntry)
        return begins_epoch or oldest.first <= max(1, head.sequence - REPUBLISHED + 1)

    def _is_ours(self, head: Head, tail: Tail) -> bool:
        """Whether the ledger itself signed what Redis has and `head` has not; if so, it begins a new epoch."""
        newest = self._batch(head.stream, tail.signed)
        if newest is None or not (newest.epoch, newest.last) == tail.top == tail.last:
            return False
        with self._database.write() as connection:
            self._election.lease.confirm(connection)
            # Read again: another instance may have published what was committed since.
            now = self._ledger.head(connection, head.stream)
            if tail.last > (now.epoch, now.sequence):
                log.critical("KILL_EPOCH_REGRESS: the ledger has lost entries that were published; a new epoch begins")
                self._ledger.new_epoch(connection, head.stream, above=newest.epoch)
        return True

    def _batch(self, stream: str, signed: Signed | None) -> Batch | None:
        """What Redis showed, if the ledger signed it."""
        try:
            message = read(signed, stream, self._keys.public(stream)) if signed else None
        except EntryError:
            return None
        return message if isinstance(message, Batch) else None

    def _publish(self, head: Head) -> None:
        epoch, sequence = self._published.get(head.stream, (0, 0))
        is_new = head.sequence and (head.epoch, head.sequence) > (epoch, sequence)
        if head.stream not in self._published or not is_new:
            return  # not looked at yet, or nothing to say
        with self._database.read() as connection:
            # Of another epoch the numbers do not say what is missing: all that is recent is gone through.
            after = sequence if epoch in (0, head.epoch) else max(0, head.sequence - REPUBLISHED)
            lines = self._ledger.lines(connection, head.stream, after, _LINES)
            at_ns = self._database.now_ns(connection)
        missing = [line for line in lines if (line.epoch, line.sequence) > (epoch, sequence)]
        key = self._keys.signer(head.stream)
        try:
            made = [(each.epoch, each.last, sign(each, key)) for each in batches(head.stream, missing, at_ns)]
        except EntryError as error:  # the ledger is damaged there; the other streams go on
            self._say_damaged(head.stream, error)
            return
        if not made:
            return
        try:
            self._writer.put(head.stream, made)
        except MisplacedError:
            del self._published[head.stream]  # somebody else was there: looked at again in the next turn
            return
        self._published[head.stream] = made[-1][:2]

    def _beat(self, at_ns: int, heads: Sequence[Head]) -> None:
        self._beats += 1
        count = self._election.lease.term * _TERM + self._beats
        heartbeats = []
        for head in heads:
            epoch, sequence = self._published.get(head.stream, (0, 0))
            if head.sequence and (epoch, sequence) < (head.epoch, head.sequence):
                continue  # Redis does not have it all yet, and must not look as if it had
            beat = Heartbeat(stream=head.stream, epoch=head.epoch, sequence=head.sequence, at_ns=at_ns, count=count)
            heartbeats.append((head.stream, sign(beat, self._keys.signer(head.stream))))
        if heartbeats:
            self._writer.beat(heartbeats)

    def _say_damaged(self, stream: str, error: EntryError) -> None:
        if stream not in self._damaged:
            log.critical("the ledger of %s cannot be published: %s", stream or "the platform", error)
        self._damaged.add(stream)

    def _compact(self, now_ns: int) -> None:
        if now_ns >= self._next_compaction_ns:
            self._next_compaction_ns = now_ns + int(COMPACT_S * _NS)
            with self._database.write() as connection:
                self._ledger.compact(connection)

    def _say(self, state: PublicationState, detail: str = "") -> None:
        """Keep the state where it changed, for every instance to tell."""
        if self._said == (state, detail):
            return
        if state is PublicationState.OK:
            log.info("redis takes kills")
        else:
            log.error("redis %s: %s; kills reach sidecars by their direct pull", state, detail)
        try:
            publication_sql.write(self._database, state, detail)
        except UnavailableError:
            return  # said again at the next turn
        self._said = (state, detail)
