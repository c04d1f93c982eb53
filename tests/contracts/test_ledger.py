"""What the ledger of kills promises, over SQLite and a real PostgreSQL."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from sqlalchemy import delete, update
from sqlalchemy.exc import IntegrityError

from authz.database import Database, migrate
from authz.errors import ConfigError, InvalidRequestError
from authz.model import AgentFacts, Autonomy, Lifecycle
from authz.revocation import publication_sql
from authz.revocation.entries import AgentEntry, EpochEntry, KillEntry, LiftEntry, Snapshot, read
from authz.revocation.guard import Guard, KillState
from authz.revocation.kills_sql import KILLS, Quota, Repeat
from authz.revocation.ledger_sql import ENTRIES, EXPIRED_NS, TOMBSTONE_NS
from authz.revocation.publication_sql import PublicationState
from authz.revocation.reports_sql import REPORTS, Applied, Reports
from authz.revocation.scopes import Scope, ScopeKind
from authz.revocation.snapshots import REUSED_WITHIN, Snapshots
from authz.revocation.stream_keys_sql import STREAM_KEYS, StreamKeys
from authz.sealing import KeyEncryptionKey
from tests.fakes import FakeClock
from tests.ledgers import AGENT, BEN, CARA, TENANT, kill_entry, ledger_desk, lift_entry, read_content

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from authz.revocation.guard import KillRecord
    from tests.ledgers import LedgerDesk


@pytest.fixture
def desk(database: Database) -> LedgerDesk:
    return ledger_desk(database)


def state(desk: LedgerDesk, kill: KillRecord) -> KillState:
    with desk.database.read() as connection:
        return desk.read(kill).state(desk.database.now_ns(connection))


def refusal(act: Callable[[], object]) -> str:
    with pytest.raises(InvalidRequestError) as caught:
        act()
    return caught.value.reason.code


# Entries


def test_entries_are_numbered_from_one_in_each_stream(desk: LedgerDesk) -> None:
    assert desk.append("acme", kill_entry("a"), kill_entry("b")).sequence == 2
    assert desk.append("globex", kill_entry("c", stream="globex")).sequence == 1
    assert desk.append("acme", lift_entry("a")).sequence == 3
    assert [entry.sequence for entry in desk.entries("acme")] == [1, 2, 3]
    assert [type(entry) for entry in desk.entries("acme", after=1)] == [KillEntry, LiftEntry]


def test_a_transaction_that_fails_takes_its_number_back(desk: LedgerDesk) -> None:
    def broken() -> None:
        with desk.database.write() as connection:
            desk.ledger.append(connection, "acme", kill_entry("lost"))
            raise RuntimeError

    desk.append("acme", kill_entry("a"))
    with pytest.raises(RuntimeError):
        broken()
    assert desk.append("acme", kill_entry("b")).sequence == 2
    assert [entry.id for entry in desk.entries("acme") if isinstance(entry, KillEntry)] == ["kill-a", "kill-b"]


def test_eight_writers_at_once_leave_no_hole_and_no_double(desk: LedgerDesk) -> None:
    def write(writer: int) -> None:
        for turn in range(12):
            desk.append("acme", *[kill_entry(f"{writer}-{turn}-{place}") for place in range(turn % 3 + 1)])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(8)))
    entries = desk.entries("acme")
    assert [entry.sequence for entry in entries] == list(range(1, 8 * 24 + 1))
    assert len({entry.id for entry in entries if isinstance(entry, KillEntry)}) == 8 * 24
    assert desk.head("acme").sequence == 8 * 24


def test_an_entry_is_never_changed_or_removed(desk: LedgerDesk) -> None:
    desk.append("acme", kill_entry())
    for statement in (update(ENTRIES).values(document=b"{}"), delete(ENTRIES)):
        with pytest.raises(IntegrityError), desk.database.write() as connection:
            connection.execute(statement)


def test_an_epoch_goes_on_numbering_where_the_last_one_stopped(desk: LedgerDesk) -> None:
    desk.append("acme", kill_entry("a"))
    with desk.database.write() as connection:
        desk.ledger.new_epoch(connection, "acme", above=7)
    assert (desk.head("acme").epoch, desk.head("acme").sequence) == (8, 2)
    assert isinstance(desk.entries("acme", after=1)[0], EpochEntry)


def test_only_what_stands_is_in_a_snapshot(desk: LedgerDesk) -> None:
    facts = AgentFacts(lifecycle=Lifecycle.PAUSED, autonomy=Autonomy.OBSERVE, owner="ops")
    agent = AgentEntry(sequence=0, agent="billing", version=3, facts=facts)
    with desk.database.read() as connection:
        now_ns = desk.database.now_ns(connection)
    gone, expired = now_ns - TOMBSTONE_NS - 1, now_ns - EXPIRED_NS - 1
    token = KillEntry(
        sequence=0,
        id="token",
        version=1,
        scope=Scope(ScopeKind.TOKEN, "acme", "0" * 64),
        at_ns=1,
        expires_at_ns=gone,
    )
    desk.append("acme", kill_entry("stands"), kill_entry("lifted"), kill_entry("long-lifted"), agent)
    desk.append("acme", lift_entry("lifted", at_ns=now_ns), lift_entry("long-lifted", at_ns=gone))
    desk.append("acme", kill_entry("expired", expires_at_ns=expired), kill_entry("ends", expires_at_ns=gone), token)
    standing = desk.standing("acme")
    assert set(standing) == {"kill-stands", "kill-lifted", "kill-ends", "agent"}
    assert isinstance(standing["kill-lifted"], LiftEntry)
    assert desk.standing("globex") == {}
    with desk.database.write() as connection:
        assert desk.ledger.compact(connection) == 3
    assert len(desk.entries("acme")) == 9


def test_e11_a_snapshot_made_while_the_clock_was_ahead_is_made_anew(tmp_path: Path) -> None:
    clock = FakeClock()
    database = Database(f"sqlite:///{tmp_path / 'control.db'}", clock=clock)
    migrate(database)
    desk = ledger_desk(database)
    snapshots = Snapshots(database, desk.ledger, desk.keys)
    desk.append("acme", kill_entry("a", expires_at_ns=clock.wall_ns + TOMBSTONE_NS))
    ahead_ns = EXPIRED_NS + 2 * TOMBSTONE_NS
    clock.wall_ns += ahead_ns
    assert taken(desk, snapshots)[0].entries == 0
    clock.wall_ns -= ahead_ns
    assert taken(desk, snapshots)[0].entries == 1
    database.close()


# Keys of streams


def test_a_stream_has_one_key_of_its_own_whoever_asks_first(desk: LedgerDesk) -> None:
    others = [ledger_desk(desk.database).keys for _ in range(6)]
    with ThreadPoolExecutor(6) as pool:
        signers = list(pool.map(lambda keys: keys.signer("acme"), others))
    (kid,) = {signer.public_key().public_bytes_raw() for signer in signers}
    assert list(desk.keys.trusted("acme").values()) == [kid]
    assert desk.keys.trusted("globex").keys().isdisjoint(desk.keys.trusted("acme"))


def test_a_private_key_does_not_lie_readable_and_opens_for_its_own_stream_alone(desk: LedgerDesk) -> None:
    private = desk.keys.signer("acme").private_bytes_raw()
    desk.keys.signer("globex")
    with desk.database.read() as connection:
        rows = connection.execute(STREAM_KEYS.select()).all()
    assert all(private not in bytes(row.sealed_key) for row in rows)
    (stolen,) = [row.sealed_key for row in rows if row.stream == "acme"]
    with desk.database.write() as connection:
        connection.execute(update(STREAM_KEYS).where(STREAM_KEYS.c.stream == "globex").values(sealed_key=stolen))
    with pytest.raises(ConfigError):
        ledger_desk(desk.database).keys.signer("globex")


def test_another_key_encryption_key_opens_no_stream(desk: LedgerDesk) -> None:
    desk.keys.signer("acme")
    stranger = StreamKeys(desk.database, desk.ledger, KeyEncryptionKey(b"x" * 32))
    with pytest.raises(ConfigError):
        stranger.signer("acme")


# Snapshots


def taken(
    desk: LedgerDesk, snapshots: Snapshots, epoch: int = 0, sequence: int = 0, stream: str = "acme"
) -> tuple[Snapshot, bytes]:
    described, chunks = snapshots.read(stream, epoch, sequence)
    keys = {kid: Ed25519PublicKey.from_public_bytes(public) for kid, public in desk.keys.trusted(stream).items()}
    message = read(described, stream, keys)
    assert isinstance(message, Snapshot)
    return message, b"".join(chunks)


def test_a_snapshot_is_what_its_signed_description_says(desk: LedgerDesk) -> None:
    desk.append("acme", *[kill_entry(f"a{number}") for number in range(30)])
    described, content = taken(desk, Snapshots(desk.database, desk.ledger, desk.keys))
    assert (described.sequence, described.entries, described.size_bytes) == (30, 30, len(content))
    assert described.sha256 == sha256(content).hexdigest()
    assert read_content(content, "acme") == {f"kill-a{number}": f"a{number}" for number in range(30)}


def test_an_empty_stream_has_a_snapshot_too(desk: LedgerDesk) -> None:
    described, content = taken(desk, Snapshots(desk.database, desk.ledger, desk.keys))
    assert (described.sequence, described.entries, content) == (0, 0, b"")


def test_a_snapshot_serves_until_its_reader_would_be_far_behind(desk: LedgerDesk) -> None:
    snapshots = Snapshots(desk.database, desk.ledger, desk.keys)
    desk.append("acme", kill_entry("a"))
    taken(desk, snapshots)
    desk.append("acme", kill_entry("b"))
    assert taken(desk, snapshots)[0].sequence == 1
    desk.append("acme", *[kill_entry(f"c{number}") for number in range(REUSED_WITHIN)])
    assert taken(desk, snapshots)[0].sequence == 2 + REUSED_WITHIN
    with desk.database.write() as connection:
        desk.ledger.new_epoch(connection, "acme")
    assert taken(desk, snapshots)[0].epoch == 2


def test_whoever_knows_more_than_the_last_snapshot_is_given_no_older_one(desk: LedgerDesk) -> None:
    snapshots = Snapshots(desk.database, desk.ledger, desk.keys)
    for name in ("a", "b", "c"):
        desk.append("acme", kill_entry(name))
        taken(desk, snapshots)
    told = [taken(desk, snapshots, *place)[0].sequence for place in ((1, 1), (1, 3), (1, 3), (2, 9), (1, 9))]
    assert told == [1, 3, 3, 3, 3]


# Kills


def test_a_kill_and_its_entry_are_written_together(desk: LedgerDesk) -> None:
    kill = desk.kill()
    (entry,) = desk.entries("acme")
    assert isinstance(entry, KillEntry)
    assert (entry.id, entry.version, entry.scope, entry.sequence) == (kill.id, 1, AGENT, kill.sequence)
    lifted = desk.lift(kill, BEN)
    assert (lifted.sequence, lifted.epoch, state(desk, kill)) == (2, 1, KillState.LIFTED)
    assert isinstance(desk.entries("acme", after=1)[0], LiftEntry)
    assert desk.read(kill) == lifted


def test_a_kill_of_everything_stands_in_the_platforms_stream(desk: LedgerDesk) -> None:
    desk.confirm(desk.kill(Scope(ScopeKind.GLOBAL, ""), is_guarded=True), BEN, tenant="")
    assert (desk.head("").sequence, desk.head("acme").sequence) == (1, 0)


def test_what_awaits_a_second_signer_is_in_no_stream(desk: LedgerDesk) -> None:
    kill = desk.kill(TENANT, is_guarded=True)
    assert (state(desk, kill), desk.entries("acme")) == (KillState.AWAITING_CONFIRMATION, [])
    desk.confirm(kill, BEN)
    assert len(desk.entries("acme")) == 1
    desk.lift(kill, BEN)
    assert len(desk.entries("acme")) == 1
    desk.confirm(kill, CARA)
    assert (len(desk.entries("acme")), state(desk, kill)) == (2, KillState.LIFTED)


def test_of_many_second_signers_at_once_one_puts_it_in_force(desk: LedgerDesk) -> None:
    kill = desk.kill(TENANT, is_guarded=True)

    def sign(number: int) -> str:
        try:
            return desk.confirm(kill, BEN if number % 2 else CARA).confirmed_by
        except InvalidRequestError as error:
            return error.reason.code

    with ThreadPoolExecutor(6) as pool:
        answers = set(pool.map(sign, range(6)))
    assert len(desk.entries("acme")) == 1
    assert answers - {"KILL_STATE"} == {desk.read(kill).confirmed_by}


def test_no_id_reaches_into_another_tenant(desk: LedgerDesk) -> None:
    kill = desk.kill(TENANT, is_guarded=True)
    for tenant in ("globex", "", "ACME", "acme ", "*"):
        assert refusal(partial(desk.read, kill, tenant)) == "KILL_UNKNOWN"
        assert refusal(partial(desk.confirm, kill, BEN, tenant)) == "KILL_UNKNOWN"
        assert refusal(partial(desk.lift, kill, BEN, tenant)) == "KILL_UNKNOWN"
    with desk.database.read() as connection:
        assert desk.book.page(connection, "globex", limit=10) == []


def test_a_repeated_request_makes_one_kill(desk: LedgerDesk) -> None:
    kill = desk.kill(repeat=Repeat(key="k1", digest="d1"))
    with desk.database.read() as connection:
        assert desk.book.earlier(connection, "anna", Repeat(key="k1", digest="d1")) == kill
        assert desk.book.earlier(connection, "ben", Repeat(key="k1", digest="d1")) is None
        assert desk.book.earlier(connection, "anna", Repeat(key="k2", digest="d1")) is None
        assert refusal(lambda: desk.book.earlier(connection, "anna", Repeat(key="k1", digest="d2"))) == "KILL_REPEATED"
    with pytest.raises(IntegrityError):
        desk.kill(repeat=Repeat(key="k1", digest="d1"))
    assert len(desk.entries("acme")) == 1


def test_e9_an_operator_and_a_tenant_have_a_quota(database: Database) -> None:
    desk = ledger_desk(database, quota=Quota(per_operator=2, per_tenant=3))
    other = Scope(ScopeKind.AGENT, "globex", "billing")
    desk.kill()
    desk.kill(other)
    assert refusal(desk.kill) == "KILL_QUOTA"
    desk.kill(signer=BEN)
    desk.kill(signer=CARA)
    assert refusal(lambda: desk.kill(signer=CARA)) == "KILL_QUOTA"
    desk.kill(other, CARA)
    assert len(desk.entries("acme")) == 3
    with database.write() as connection:
        connection.execute(update(KILLS).values(created_at_ns=KILLS.c.created_at_ns - 60_000_000_000))
    assert desk.kill().version == 1


def test_kills_are_listed_newest_first_page_by_page_and_without_what_is_over(database: Database) -> None:
    desk = ledger_desk(database, guard=Guard(window_s=0))
    stands = [desk.kill() for _ in range(5)]
    desk.lift(desk.kill())
    over = [desk.kill(expires_in_ns=1), desk.kill(TENANT, is_guarded=True)]
    with database.read() as connection:
        first = desk.book.page(connection, "acme", limit=3)
        last = first[-1]
        rest = desk.book.page(connection, "acme", limit=3, before=(last.created_at_ns, last.id))
        everything = desk.book.page(connection, "acme", limit=100, is_over=True)
    assert [kill.id for kill in (*first, *rest)] == [kill.id for kill in reversed(stands)]
    assert len(everything) == 8
    assert [state(desk, kill) for kill in over] == [KillState.EXPIRED, KillState.LAPSED]


# What sidecars report


def test_the_last_word_of_a_sidecar_counts_and_its_time_is_when_it_got_there(desk: LedgerDesk) -> None:
    reports = Reports(desk.database)

    def put(sequence: int, epoch: int = 1) -> None:
        with desk.database.write() as connection:
            reports.put(connection, "s1", [Applied(stream="acme", epoch=epoch, sequence=sequence)])

    put(4)
    with desk.database.read() as connection:
        first = reports.of(connection, "acme")["s1"]
    put(4)
    with desk.database.read() as connection:
        again = reports.of(connection, "acme")["s1"]
    assert again.applied_ns == first.applied_ns
    assert again.heard_ns > first.heard_ns
    assert (again.has(1, 4), again.has(1, 5), again.has(2, 1)) == (True, False, False)
    put(2, epoch=2)
    with desk.database.read() as connection:
        later = reports.of(connection, "acme")["s1"]
        assert reports.of(connection, "globex") == {}
    assert (later.has(1, 4), later.has(2, 3)) == (True, False)
    assert later.applied_ns > first.applied_ns


def test_a_sidecar_that_fell_silent_is_not_counted(desk: LedgerDesk) -> None:
    reports = Reports(desk.database)
    with desk.database.write() as connection:
        reports.put(connection, "s1", [Applied(stream="acme", epoch=1, sequence=4)])
        connection.execute(update(REPORTS).values(heard_ns=REPORTS.c.heard_ns - 31_000_000_000))
    with desk.database.read() as connection:
        assert reports.of(connection, "acme") == {}


def test_what_became_of_redis_is_known_to_every_instance(desk: LedgerDesk) -> None:
    with desk.database.read() as connection:
        assert publication_sql.read(connection).state is PublicationState.NONE
    publication_sql.write(desk.database, PublicationState.FAILED, "out of memory")
    publication_sql.write(desk.database, PublicationState.OK)
    with desk.database.read() as connection:
        assert publication_sql.read(connection).state is PublicationState.OK
