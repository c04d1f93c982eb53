"""Follows the ledger: whatever brings its messages hands them in here, and decisions ask here.

Decides what happens to each message: verified, put in its place, written to the journal, applied, reported; in that
order, so that nothing is reported that a restart could lose. What was forged is ignored and counted, what leaves a gap
is asked for, what would take back what was said is refused and said loudly. A journal that cannot be written makes the
stream grow old, but its kills hold from the moment they are known.

Must never do I/O for a decision, and never apply what is not signed. One lock makes one writer of all threads that
bring messages; readers take none. Trusts the keys that the control plane gave over mutual TLS.
"""

from __future__ import annotations

import gc
import logging
import math
import threading
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from authz.errors import EntryError
from authz.model import PLATFORM
from authz.reasons import KILL_EPOCH_REGRESS, KILL_FORGED, KILL_JOURNAL, KILL_UNREADABLE
from authz.revocation import entries, freshness, journal
from authz.revocation.entries import Batch, Heartbeat, KillEntry, Snapshot
from authz.revocation.freshness import Freshness, LedgerTime
from authz.revocation.journal import Journal, folder_of
from authz.revocation.replica import Place, Replica

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    from authz.clock import Clock
    from authz.model import AgentFacts, Principal, Risk, ToolCall
    from authz.revocation.entries import Signed
    from authz.revocation.journal import Chapter
    from authz.revocation.kills import Kill

log: Final = logging.getLogger(__name__)

SILENT_S: Final = 1.0
_BEAT_NS: Final = 1_000_000_000


@dataclass(slots=True)
class _Stream:
    """What is kept of one stream beside its kills."""

    name: str
    keys: Mapping[str, Ed25519PublicKey]
    journal: Journal
    freshness: Freshness
    pending: list[Callable[[], None]] = field(default_factory=list)
    """What the journal has not taken yet, in order."""
    needs: str = ""
    """What only the control plane can give: `entries`, `snapshot`, or `compact`, a snapshot for the journal alone."""
    later: list[tuple[int, Signed]] | None = None
    """Batches since a snapshot was asked for, at `later_from`: it may come without them."""
    later_from: int = 0
    said_at_ns: int = 0
    """The ledger's time of what was applied last: a later heartbeat that knows less has forgotten it."""
    beat_ns: int = 0
    heard_ns: int | None = None
    """When news last came by the fast path, on our running clock."""
    alarm: str = ""


class Follower:
    """The kills of the streams that this service follows; the port `Kills` of a decision.

    Args:
        folder: of the journals.
        clock: ours.
        every_tenant: all of the ledger's streams are followed; a tenant of which it has not spoken is known to be so
            for as long as the list of streams is fresh.
        reads_s: how long reads are served on stale knowledge.
        effect: told how long each kill took from the ledger to here, in seconds.
        max_pending: batches that wait for a journal that cannot be written; beyond, a snapshot must replace it.
        compact_bytes: of batches in a journal, before a new snapshot is asked for.
    """

    source = "control"

    def __init__(
        self,
        folder: Path,
        clock: Clock,
        *,
        every_tenant: bool = False,
        reads_s: float = freshness.READS_S,
        effect: Callable[[float], None] = lambda _: None,
        max_pending: int = 1_000,
        compact_bytes: int = 64 << 20,
    ) -> None:
        self._folder = folder
        self._clock = clock
        self._reads_s = reads_s
        self._effect = effect
        self._max_pending = max_pending
        self._compact_bytes = compact_bytes
        self._time = LedgerTime(clock)
        self._replica = Replica(self._time.now_ns, clock.monotonic_ns, every_tenant=every_tenant)
        self._listed = Freshness(clock, self._time)
        self.every_tenant: Final = every_tenant
        self._streams: dict[str, _Stream] = {}
        self._lock = threading.RLock()
        self.counted: Counter[str] = Counter()
        """Messages refused and writes failed, by code."""
        self.moved = threading.Event()
        """Set when something was applied: there is something to report."""
        self.wanted = threading.Event()
        """Set when only the control plane can help: a gap, an unknown key, a stream without a start."""

    # What a decision asks: memory alone.

    @property
    def sequence(self) -> int:
        """As `Kills.sequence`."""
        return self._replica.sequence

    def covering(self, principal: Principal, call: ToolCall | None) -> Kill | None:
        """As `Kills.covering`."""
        return self._replica.covering(principal, call)

    def facts(self, principal: Principal) -> AgentFacts | None:
        """As `Kills.facts`."""
        return self._replica.facts(principal)

    def admit(self, principal: Principal, risk: Risk) -> bool:
        """As `Kills.admit`."""
        return freshness.admit(max(self.age_s(principal.tenant), self.age_s(PLATFORM)), risk, reads_s=self._reads_s)

    def age_s(self, stream: str) -> float:
        """Seconds since everything of the stream was known here; infinite where nothing is."""
        followed = self._streams.get(stream)
        if followed is not None:
            return followed.freshness.age_s()
        return self._listed.age_s() if self.every_tenant and stream != PLATFORM else math.inf

    # What an operator asks.

    @property
    def streams(self) -> tuple[str, ...]:
        """The streams that are followed."""
        return tuple(self._streams)

    def position(self, stream: str) -> tuple[int, int]:
        """Epoch and sequence of what was applied."""
        return self._replica.position(stream)

    def durable(self) -> dict[str, tuple[int, int]]:
        """Epoch and sequence of the streams of which all that was applied is on the disk, by name."""
        with self._lock:  # what was just applied is not on the disk yet
            return {
                name: position
                for name, stream in self._streams.items()
                if not stream.pending and any(position := self._replica.position(name))
            }

    def oldest_s(self) -> float:
        """The age of the stream that is oldest."""
        return max((stream.freshness.age_s() for stream in self._streams.values()), default=math.inf)

    def alarms(self) -> dict[str, str]:
        """Streams about which an operator must be told, with the code of why."""
        return {name: stream.alarm for name, stream in self._streams.items() if stream.alarm}

    def kills(self) -> int:
        """How many kills stand."""
        return self._replica.kills()

    # What brings messages asks and says.

    def is_silent(self, stream: str) -> bool:
        """Whether Redis has brought no news of this stream for `SILENT_S`, so that the control plane must."""
        heard_ns = self._streams[stream].heard_ns
        return heard_ns is None or self._clock.monotonic_ns() - heard_ns > SILENT_S * 1e9

    def needs(self, stream: str) -> str:
        """What only the control plane can give of this stream: `entries`, `snapshot` or nothing."""
        return self._streams[stream].needs

    def trust(self, stream: str, keys: Mapping[str, Ed25519PublicKey]) -> None:
        """Take these keys for the stream's, and no others; begin with it from its journal if it is new."""
        with self._lock:
            known = self._streams.get(stream)
            if known is None:
                self._begin(stream, keys)
            elif known.keys.keys() == keys.keys():
                return
            else:
                known.keys = keys
            trusted = {name: each.keys for name, each in self._streams.items()}
            try:
                journal.keep_keys(self._folder, trusted)
            except OSError as error:
                self.counted[KILL_JOURNAL.code] += 1
                log.warning("the keys of streams cannot be kept for a restart: %s", error.strerror)

    def listed(self) -> None:
        """The control plane has just named every stream there is, and each was given to `trust`."""
        with self._lock:
            self._listed.level()

    def recall(self) -> None:
        """Begin with every stream that was followed before this start, from its journal."""
        with self._lock:
            for stream, keys in journal.kept_keys(self._folder).items():
                self._begin(stream, keys)

    def take(self, stream: str, signed: Signed, *, direct: bool = False) -> None:
        """Take one message of a stream, from wherever it comes.

        Args:
            stream: where it was read.
            signed: what was read there.
            direct: the control plane gave it, in answer to us and just now.
        """
        with self._lock:
            followed = self._streams.get(stream)
            if followed is None:
                return
            message = self._read(followed, signed)
            if isinstance(message, Batch):
                self._take_batch(followed, signed, message, heard=not direct)
            elif isinstance(message, Heartbeat):
                self._take_heartbeat(followed, signed, message, direct=direct)

    def take_snapshot(self, stream: str, description: Signed, content: bytes) -> None:
        """Take a whole stream at once, as the control plane gave it."""
        with self._lock:
            followed = self._streams.get(stream)
            if followed is None:
                return
            snapshot = self._read(followed, description)
            if not isinstance(snapshot, Snapshot) or not self._restore(followed, snapshot, content):
                return
            followed.said_at_ns = max(followed.said_at_ns, snapshot.at_ns)
            kept, later = followed.journal, followed.later or []
            followed.pending = [
                partial(kept.replace, snapshot.epoch, description, content),
                *(partial(kept.append, epoch, batch) for epoch, batch in later if epoch == snapshot.epoch),
            ]
            followed.needs, followed.later = "", None
            self._flush(followed)
            self.moved.set()

    def ask(self, stream: str, what: str) -> None:
        """Have the control plane asked for `entries` or a `snapshot` of this stream."""
        followed = self._streams[stream]
        if followed.needs != "snapshot":
            followed.needs = what
        if what != "entries" and followed.later is None:
            self._keep_later(followed)
        self.wanted.set()

    def close(self) -> None:
        """Let go of the journals."""
        with self._lock:
            for stream in self._streams.values():
                stream.journal.close()

    # How a message is taken. The lock is held.

    def _begin(self, stream: str, keys: Mapping[str, Ed25519PublicKey]) -> None:
        self._replica.follow(stream)
        kept = Journal(folder_of(self._folder, stream))
        begun = _Stream(stream, keys, kept, Freshness(self._clock, self._time), needs="entries")
        self._recall(begun)
        if self.every_tenant and stream != PLATFORM and not any(self._replica.position(stream)):
            begun.freshness.level_as(self._listed)  # when it was last known that nothing was said of it
        self._streams[stream] = begun

    def _read(self, stream: _Stream, signed: Signed) -> entries.Message | None:
        try:
            return entries.read(signed, stream.name, stream.keys)
        except EntryError as error:
            self._refuse(stream, error)
            if signed.kid not in stream.keys:
                self.wanted.set()  # perhaps a new key
            return None

    def _refuse(self, stream: _Stream, error: EntryError) -> None:
        code = error.reason.code
        self.counted[code] += 1
        if self.counted[code].bit_count() == 1:  # the 1st, 2nd, 4th …: whoever writes to Redis must not fill our log
            log.warning("%s on the kills of %s (%d so far)", error, _named(stream.name), self.counted[code])
        if error.reason is KILL_UNREADABLE:
            stream.alarm = code

    def _take_batch(self, stream: _Stream, signed: Signed, batch: Batch, *, heard: bool) -> None:
        place = self._replica.place(batch)
        if place is Place.NEXT:
            self._replica.apply(batch, heard=heard)
            stream.said_at_ns = max(stream.said_at_ns, batch.at_ns)
            self._append(stream, batch.epoch, signed)
            if stream.later is not None:
                stream.later.append((batch.epoch, signed))
                if len(stream.later) > self._max_pending:
                    self._keep_later(stream)
            self.moved.set()
            self._observe(batch)
        elif place is Place.GAP:
            self.ask(stream.name, "entries" if batch.epoch == self._replica.position(stream.name)[0] else "snapshot")
        elif place is Place.REGRESS:
            self._alarm_regress(stream)

    def _take_heartbeat(self, stream: _Stream, signed: Signed, heartbeat: Heartbeat, *, direct: bool) -> None:
        if not stream.freshness.is_news(heartbeat, direct=direct):
            return
        if not direct:
            stream.heard_ns = self._clock.monotonic_ns()
        place = self._replica.compare(heartbeat)
        if place is Place.GAP:
            self.ask(
                stream.name, "entries" if heartbeat.epoch == self._replica.position(stream.name)[0] else "snapshot"
            )
        elif place is Place.REGRESS or (place is Place.OLD and heartbeat.at_ns > stream.said_at_ns):
            self._alarm_regress(stream)
        elif place is Place.NEXT and stream.needs != "snapshot":
            self._level(stream, signed, heartbeat)

    def _level(self, stream: _Stream, signed: Signed, heartbeat: Heartbeat) -> None:
        stream.needs = ""
        if stream.pending and not self._flush(stream):
            return  # what was applied could be lost by a restart: the stream grows old until the disk takes it
        stream.alarm = ""
        stream.freshness.level()
        # The ledger's clock may have been set back: what is kept must not seem to come from the future.
        if abs(heartbeat.at_ns - stream.beat_ns) >= _BEAT_NS and self._write(
            stream, lambda: stream.journal.beat(signed)
        ):
            stream.beat_ns = heartbeat.at_ns
        if stream.journal.size_bytes > self._compact_bytes:
            self.ask(stream.name, "compact")

    def _alarm_regress(self, stream: _Stream) -> None:
        self.counted[KILL_EPOCH_REGRESS.code] += 1
        if stream.alarm != KILL_EPOCH_REGRESS.code:
            log.error("%s: %s; what is known of %s stays", KILL_EPOCH_REGRESS.code, KILL_EPOCH_REGRESS.summary,
                      _named(stream.name))  # fmt: skip
        stream.alarm = KILL_EPOCH_REGRESS.code

    def _observe(self, batch: Batch) -> None:
        now_ns = self._clock.unix_ns()
        for entry in batch.entries:
            if isinstance(entry, KillEntry):
                self._effect(max(now_ns - entry.at_ns, 0) / 1e9)

    # The journal. The lock is held.

    def _append(self, stream: _Stream, epoch: int, signed: Signed) -> None:
        stream.pending.append(partial(stream.journal.append, epoch, signed))
        self._flush(stream)
        if len(stream.pending) > self._max_pending:
            stream.pending = stream.pending[:1]  # one is enough to say that the journal is not whole
            self.ask(stream.name, "snapshot")

    def _keep_later(self, stream: _Stream) -> None:
        """Keep the batches from here on, for the journal that a snapshot begins: one that is older will not do."""
        stream.later, stream.later_from = [], self._replica.position(stream.name)[1]

    def _flush(self, stream: _Stream) -> bool:
        while stream.pending:
            if not self._write(stream, stream.pending[0]):
                return False
            del stream.pending[0]
        return True

    def _write(self, stream: _Stream, write: Callable[[], None]) -> bool:
        try:
            write()
        except OSError as error:
            self.counted[KILL_JOURNAL.code] += 1
            if stream.alarm != KILL_JOURNAL.code:
                log.warning("the journal of %s cannot be written: %s", _named(stream.name), error.strerror)
            stream.alarm = KILL_JOURNAL.code
            return False
        return True

    def _restore(self, stream: _Stream, snapshot: Snapshot, content: bytes) -> bool:
        """Whether the snapshot holds what is known, but for what came since it was asked for."""
        whole = len(content) == snapshot.size_bytes and sha256(content).hexdigest() == snapshot.sha256
        if not whole:
            self._refuse(stream, EntryError(KILL_FORGED, "a snapshot's content is not what was signed"))
            return False
        try:
            place = self._replica.restore(snapshot, content)
        except EntryError as error:
            self._refuse(stream, error)
            return False
        if place is Place.REGRESS:
            self._alarm_regress(stream)
        gc.freeze()  # no collection is to walk a million kills while a decision waits
        overtaken = place is Place.OLD and stream.later is not None and snapshot.sequence >= stream.later_from
        return place is Place.NEXT or overtaken

    def _recall(self, stream: _Stream) -> None:
        """Begin from the journal, as far as each message of it verifies and follows the one before."""
        try:
            chapters = [self._recall_chapter(stream, chapter) for chapter in stream.journal.chapters()]
        except (OSError, ValueError) as error:
            log.warning("the journal of %s cannot be read: %s", _named(stream.name), error)
            chapters = [False]
        whole = all(chapters)
        if not whole:
            stream.needs = "snapshot"  # it must replace what lies there before anything is appended to it
            self._keep_later(stream)
        beat = stream.journal.heartbeat()
        heartbeat = self._read(stream, beat) if whole and beat is not None else None
        # One that knows more than the journal says that the disk has lost entries.
        if isinstance(heartbeat, Heartbeat) and self._replica.compare(heartbeat) in (Place.NEXT, Place.OLD):
            self._time.begin(heartbeat.at_ns)
            stream.freshness.begin(heartbeat.at_ns)

    def _recall_chapter(self, stream: _Stream, chapter: Chapter) -> bool:
        if chapter.snapshot is None:
            return not chapter.batches
        snapshot = self._read(stream, chapter.snapshot)
        if not isinstance(snapshot, Snapshot) or not self._restore(stream, snapshot, chapter.content):
            return False
        stream.said_at_ns = snapshot.at_ns
        for signed in chapter.batches:
            batch = self._read(stream, signed)
            if not isinstance(batch, Batch) or self._replica.apply(batch) in (Place.GAP, Place.REGRESS):
                return False
            stream.said_at_ns = max(stream.said_at_ns, batch.at_ns)
        return True


def _named(stream: str) -> str:
    return f"tenant {stream}" if stream else "the platform"
