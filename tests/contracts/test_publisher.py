"""From the ledger to a real Valkey: nothing is lost, nothing foreign stays, and a bad Redis holds nothing back."""

from __future__ import annotations

import os
import random
import sqlite3
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
import redis
from sqlalchemy import insert, update

from authz.clock import SystemClock
from authz.database import Database, Election, Lease
from authz.revocation import publication_sql, redis_streams
from authz.revocation.entries import Batch, EpochEntry, Heartbeat, KillEntry, Signed, read
from authz.revocation.ledger_sql import ENTRIES, HEADS
from authz.revocation.publication_sql import PublicationState
from authz.revocation.publisher import Publisher, Sources
from authz.revocation.redis_writer import RedisWriter
from tests.e2e.stack import eventually
from tests.ledgers import kill_entry, ledger_desk

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from authz.revocation.entries import Message
    from tests.ledgers import LedgerDesk
    from tests.redis_servers import RedisServer

ROUNDS = int(os.environ.get("AUTHZ_TEST_KILL_ROUNDS", "6"))
"""Of SIGKILL at random moments; the bar is 100."""


@dataclass
class Stand:
    """A ledger, a Redis, and the instances that publish."""

    desk: LedgerDesk
    server: RedisServer
    publishers: list[Publisher] = field(default_factory=list)

    def publish(self, writer: RedisWriter | None = None) -> Publisher:
        clock = SystemClock()
        lease = Lease(self.desk.database, "kills", f"instance-{len(self.publishers)}", clock=clock, life_s=1.0)
        sources = Sources(database=self.desk.database, ledger=self.desk.ledger, keys=self.desk.keys)
        writer = writer or RedisWriter(self.server.url)
        publisher = Publisher(sources, writer, Election(lease), clock=clock)
        self.publishers.append(publisher)
        publisher.start()
        return publisher

    def stop(self) -> None:
        while self.publishers:
            self.publishers.pop().stop()

    def kill(self, *names: str, stream: str = "acme") -> None:
        self.desk.append(stream, *[kill_entry(name, stream=stream) for name in names])
        self.desk.ledger.wake()

    def messages(self, stream: str = "acme", key: Any = redis_streams.entries_key) -> list[tuple[str, Message]]:
        """What Redis holds, each message believed as a sidecar believes it."""
        with self.server.client as client:
            held = client.xrange(key(stream))
        keys = self.desk.keys.public(stream)
        return [(entry_id.decode(), read(redis_streams.signed(values), stream, keys)) for entry_id, values in held]

    def sequences(self, stream: str = "acme") -> list[int]:
        batches = [message for _, message in self.messages(stream) if isinstance(message, Batch)]
        return [entry.sequence for batch in batches for entry in batch.entries]

    def holds_all(self, stream: str = "acme") -> bool:
        try:
            return self.sequences(stream) == list(range(1, self.desk.head(stream).sequence + 1))
        except redis.RedisError:
            return False

    def is_read_whole(self, stream: str = "acme") -> bool:
        """Whether a sidecar that reads from the first on has all; it leaves out what it has applied."""
        applied = 0
        for _, batch in self.messages(stream):
            assert isinstance(batch, Batch)
            assert batch.first <= applied + 1, "a gap"
            applied = max(applied, batch.last)
        return applied == self.desk.head(stream).sequence

    def state(self) -> PublicationState:
        with self.desk.database.read() as connection:
            return publication_sql.read(connection).state


@pytest.fixture
def stand(sqlite_url: str, redis_server: RedisServer) -> Iterator[Stand]:
    database = Database(sqlite_url)
    stand = Stand(ledger_desk(database), redis_server)
    yield stand
    stand.stop()
    database.close()


def test_entries_are_published_in_signed_batches_whose_ids_say_where_they_stand(stand: Stand) -> None:
    stand.publish()
    stand.kill("a", "b")
    eventually(stand.holds_all)
    stand.kill("c")
    eventually(stand.holds_all)
    assert [(entry_id, message.epoch) for entry_id, message in stand.messages()] == [("1-2", 1), ("1-3", 1)]
    assert eventually(lambda: stand.state() is PublicationState.OK)


def test_many_entries_make_batches_of_at_most_256(stand: Stand) -> None:
    stand.kill(*[f"a{number}" for number in range(600)])
    stand.publish()
    eventually(stand.holds_all)
    assert [message.last - message.first + 1 for _, message in stand.messages() if isinstance(message, Batch)] == [
        256,
        256,
        88,
    ]


def test_each_tenant_has_its_own_stream_and_the_platform_too(stand: Stand) -> None:
    stand.publish()
    tenants = ("acme", "globex", "acme:entries", "ac{me}/é")
    stand.desk.append("", EpochEntry(sequence=0, at_ns=1))
    for tenant in tenants:
        stand.kill("a", stream=tenant)
    assert eventually(lambda: all(map(stand.holds_all, ("", *tenants))))


def test_what_other_instances_commit_is_noticed_without_a_word(stand: Stand) -> None:
    stand.publish()
    other = ledger_desk(stand.desk.database)
    other.append("acme", kill_entry("a"))
    assert eventually(stand.holds_all)


def test_heartbeats_count_up_and_say_where_the_ledger_stands(stand: Stand) -> None:
    def beats() -> list[Heartbeat]:
        held = stand.messages(key=redis_streams.heartbeat_key)
        return [message for _, message in held if isinstance(message, Heartbeat)]

    stand.desk.keys.signer("acme")
    first = stand.publish()
    eventually(lambda: len(beats()) >= 2)
    assert {beat.sequence for beat in beats()} == {0}
    stand.kill("a")
    eventually(lambda: beats()[-1].sequence == 1)
    stand.publish()
    first.stop()
    stand.publishers.remove(first)
    led = beats()[-1].count
    eventually(lambda: beats()[-1].count > led)
    counts = [beat.count for beat in beats()]
    assert counts == sorted(set(counts))


def test_a_heartbeat_never_says_more_than_redis_holds(stand: Stand) -> None:
    stand.kill(*[f"a{number}" for number in range(20_000)])
    stand.publish()
    ((_, beat), *_) = eventually(lambda: stand.messages(key=redis_streams.heartbeat_key))
    assert isinstance(beat, Heartbeat)
    assert beat.sequence <= stand.sequences()[-1]


class Busy(RedisWriter):
    """Takes a while to look at what there is, during which somebody is killed at this instance."""

    def __init__(self, stand: Stand) -> None:
        super().__init__(stand.server.url)
        self.stand = stand
        self.committed: list[tuple[int, int]] = []

    def put(self, stream: str, messages: Iterable[tuple[int, int, Signed]]) -> None:
        super().put(stream, messages)
        if len(self.committed) < 20:
            self.stand.desk.append("acme", kill_entry(f"b{len(self.committed)}"))
            self.committed.append((self.stand.desk.head("acme").sequence, time.time_ns()))


def test_e2_a_heartbeat_is_no_younger_than_a_kill_that_it_does_not_know(stand: Stand) -> None:
    writer = Busy(stand)
    stand.kill("a")
    stand.publish(writer)
    seen: dict[int, Heartbeat] = {}

    def all_published() -> bool:
        held = stand.messages(key=redis_streams.heartbeat_key)
        seen.update({beat.count: beat for _, beat in held if isinstance(beat, Heartbeat)})
        return len(writer.committed) == 20 and stand.holds_all()

    eventually(all_published)
    for beat in seen.values():
        assert all(
            committed_ns >= beat.at_ns for sequence, committed_ns in writer.committed if sequence > beat.sequence
        )


def test_a_stream_whose_ledger_is_damaged_holds_no_other_back(stand: Stand, caplog: pytest.LogCaptureFixture) -> None:
    stand.kill("a", stream="acme")
    with stand.desk.database.write() as connection:
        row = {"stream": "acme", "sequence": 3, "epoch": 1, "at_ns": 1, "document": b"{}"}  # the second is missing
        connection.execute(insert(ENTRIES).values(row))
        connection.execute(update(HEADS).where(HEADS.c.stream == "acme").values(sequence=3))
    stand.publish()
    stand.kill("b", stream="globex")
    assert eventually(lambda: stand.holds_all("globex"))
    assert eventually(lambda: stand.messages("globex", redis_streams.heartbeat_key))
    assert stand.messages("acme", redis_streams.heartbeat_key) == []
    assert caplog.text.count("ledger of acme cannot be published") == 1


def test_e5_redis_keeps_so_many_entries_however_large_their_batches_are(redis_server: RedisServer) -> None:
    writer = RedisWriter(redis_server.url)
    body = Signed(body=b"x" * 5000, signature=b"s", kid="k")  # Redis drops whole nodes, and this is one
    lasts = range(256, 2 * redis_streams.MAX_ENTRIES, 256)
    writer.put("acme", [(1, last, body) for last in lasts])
    with redis_server.client as client:
        key = redis_streams.entries_key("acme")
        held = 256 * client.xlen(key)
        assert redis_streams.MAX_ENTRIES <= held <= redis_streams.MAX_ENTRIES + 2 * 256
        writer.put("acme", [(2, lasts[-1] + 1, body)])
        assert client.xlen(key) == 1, "of an earlier epoch only a snapshot helps"
    writer.close()


# What Redis loses


def test_e7_what_flushall_removed_is_put_back(stand: Stand) -> None:
    stand.publish()
    stand.kill("a", "b")
    eventually(stand.holds_all)
    with stand.server.client as client:
        client.flushall()
    stand.kill("c")
    assert eventually(stand.holds_all)


def test_e7_what_an_old_dump_does_not_hold_is_put_back(stand: Stand) -> None:
    stand.server.stop()
    stand.server.settings |= {"appendonly": "no"}
    stand.server.start()
    stand.publish()
    stand.kill("a")
    eventually(stand.holds_all)
    with stand.server.client as client:
        client.save()
    stand.kill("b", "c")
    eventually(stand.holds_all)
    stand.server.kill()
    stand.server.start()
    assert eventually(stand.holds_all)


@pytest.mark.parametrize("how", ["delete", "trim", "remove the last"])
def test_e6_a_stream_that_was_cut_is_made_whole(stand: Stand, how: str) -> None:
    stand.publish()
    stand.kill("a")
    eventually(stand.holds_all)
    stand.kill("b")
    eventually(stand.holds_all)
    key = redis_streams.entries_key("acme")
    with stand.server.client as client:
        if how == "delete":
            client.delete(key)
        elif how == "trim":
            client.xtrim(key, maxlen=0, approximate=False)
        else:
            client.xdel(key, "1-2")
    assert eventually(stand.holds_all)


def test_e3_no_acknowledged_kill_is_lost_when_redis_is_killed_at_any_moment(stand: Stand) -> None:
    stand.publish()
    choice = random.Random(5)  # noqa: S311 - moments, not secrets
    for turn in range(ROUNDS):
        for place in range(choice.randrange(1, 20)):
            stand.kill(f"{turn}-{place}")
        stand.server.kill()
        stand.kill(f"{turn}-while-it-is-down")
        stand.server.start()
    assert eventually(stand.holds_all)


def test_e3_no_acknowledged_kill_is_lost_when_the_publishing_instance_dies(stand: Stand) -> None:
    publisher = stand.publish()
    stand.kill("a")
    eventually(stand.holds_all)
    publisher._stop.set()  # as a crash does, it gives no lease back
    publisher._thread.join()
    publisher._election._stop.set()
    stand.kill("b")
    stand.publish()
    assert eventually(stand.holds_all)


def test_two_instances_that_both_believe_to_lead_leave_no_gap(stand: Stand) -> None:
    stand.publish()
    clock = SystemClock()
    lease = Lease(stand.desk.database, "another", "second", clock=clock)
    sources = Sources(database=stand.desk.database, ledger=stand.desk.ledger, keys=stand.desk.keys)
    second = Publisher(sources, RedisWriter(stand.server.url), Election(lease), clock=clock)
    second.start()
    stand.publishers.append(second)
    for number in range(40):
        stand.kill(f"a{number}")
    # One that has not heard of the other's last batch may put it again, with what comes next.
    assert eventually(stand.is_read_whole)


# What others write there


def test_e8_what_somebody_else_wrote_is_removed_and_said(stand: Stand, caplog: pytest.LogCaptureFixture) -> None:
    stand.publish()
    stand.kill("a")
    eventually(stand.holds_all)
    forged = {b"b": b'{"v":1}', b"s": b"x" * 64, b"k": b"kid"}
    key = redis_streams.entries_key("acme")
    with stand.server.client as client:
        client.xadd(key, forged, id="18446744073709551615-18446744073709551615")
        eventually(lambda: [entry_id for entry_id, _ in client.xrange(key)] == [b"1-1"])
    stand.kill("b")
    assert eventually(stand.holds_all)
    assert "KILL_FORGED" in caplog.text


def test_e8_an_old_batch_under_a_new_id_is_foreign_too(stand: Stand) -> None:
    stand.publish()
    stand.kill("a")
    eventually(stand.holds_all)
    with stand.server.client as client:
        ((_, values),) = client.xrange(redis_streams.entries_key("acme"))
        client.xadd(redis_streams.entries_key("acme"), values, id="1-7")
    stand.kill("b")
    assert eventually(stand.holds_all)
    assert stand.desk.head("acme").epoch == 1


@pytest.mark.parametrize("key", [redis_streams.entries_key, redis_streams.heartbeat_key])
def test_e8_a_key_of_another_type_is_taken_back(stand: Stand, key: Any) -> None:
    stand.publish()
    stand.kill("a")
    eventually(stand.holds_all)
    with stand.server.client as client:
        client.set(key("acme"), "mine")
        eventually(lambda: client.type(key("acme")) == b"stream")
    stand.kill("b")
    assert eventually(stand.holds_all)


def test_e8_a_heartbeat_stream_whose_ids_are_used_up_begins_anew(stand: Stand) -> None:
    stand.desk.keys.signer("acme")
    stand.publish()
    key = redis_streams.heartbeat_key("acme")
    with stand.server.client as client:
        eventually(lambda: client.exists(key))
        client.xadd(key, {b"b": b""}, id="18446744073709551615-18446744073709551615")
        eventually(lambda: [entry_id for entry_id, _ in client.xrange(key) if entry_id < b"18446744073709551615"])


def test_e7_a_ledger_that_was_restored_from_a_backup_begins_a_new_epoch(
    stand: Stand, sqlite_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stand.publish()
    stand.kill("a")
    eventually(stand.holds_all)
    stand.stop()
    file = sqlite_url.removeprefix("sqlite:///")
    with sqlite3.connect(file) as source, sqlite3.connect(tmp_path / "backup.db") as copy:
        source.backup(copy)
    backup = Database(f"sqlite:///{tmp_path / 'backup.db'}")
    stand.publish()
    stand.kill("lost")
    eventually(stand.holds_all)
    stand.stop()
    restored = Stand(ledger_desk(backup), stand.server)
    restored.publish()
    try:
        eventually(lambda: restored.desk.head("acme").epoch == 2)
        restored.kill("b")
        last = eventually(
            lambda: [m for _, m in restored.messages() if isinstance(m, Batch) and m.epoch == 2 and m.last == 3]
        )
        assert isinstance(last[0].entries[-1], KillEntry)
    finally:
        restored.stop()
        backup.close()
    assert "KILL_EPOCH_REGRESS" in caplog.text


# A Redis that cannot be used


def test_e4_a_redis_that_evicts_is_refused_and_named(stand: Stand) -> None:
    with stand.server.client as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
    stand.publish()
    assert eventually(lambda: stand.state() is PublicationState.REFUSED)
    with stand.desk.database.read() as connection:
        assert "noeviction" in publication_sql.read(connection).detail
    with stand.server.client as client:
        assert client.keys() == []
        client.config_set("maxmemory-policy", "noeviction")
    stand.kill("a")
    assert eventually(stand.holds_all)
    assert eventually(lambda: stand.state() is PublicationState.OK)


def test_e5_a_full_redis_is_said_and_the_kill_stands_in_the_ledger(stand: Stand) -> None:
    stand.publish()
    stand.kill("a")
    eventually(stand.holds_all)
    with stand.server.client as client:
        client.config_set("maxmemory", "1")
    stand.kill("b")
    assert eventually(lambda: stand.state() is PublicationState.FAILED)
    assert stand.desk.head("acme").sequence == 2
    with stand.server.client as client:
        client.config_set("maxmemory", "0")
    assert eventually(stand.holds_all)


def test_a_frozen_redis_holds_no_commit_back(stand: Stand) -> None:
    stand.publish()
    stand.kill("a")
    eventually(stand.holds_all)
    stand.server.freeze()
    try:
        stand.kill("b")
        assert eventually(lambda: stand.state() is PublicationState.FAILED)
        stand.kill("c")
        assert stand.desk.head("acme").sequence == 3
    finally:
        stand.server.thaw()
    assert eventually(stand.holds_all)
