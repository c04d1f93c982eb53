"""Whatever messages arrive, and whatever the disk does: what is known holds, and what is not is not served."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

import pytest

from authz.errors import UnavailableError
from authz.model import Principal, Risk
from authz.reasons import KILL_EPOCH_REGRESS
from authz.revocation import entries
from authz.revocation.follower import Follower
from authz.revocation.journal import folder_of
from tests.fakes import FakeClock
from tests.replication import STRANGER, SignedLedger, both

if TYPE_CHECKING:
    from pathlib import Path

    from authz.revocation.entries import Signed

PRINCIPAL = Principal(issuer="i", tenant="acme", agent="agent-1", subject="a", jti_sha256="ab" * 32)

S = 1_000_000_000


class Bench:
    """A follower of a tenant and the platform, and their ledgers, on one clock."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.folder = folder
        self.options = options
        self.clock = FakeClock()
        self.platform, self.acme = both(clock=self.clock)
        self.effects: list[float] = []
        self.follower = self.started()

    def started(self) -> Follower:
        """A follower that begins on what the folder holds."""
        begun = Follower(self.folder, self.clock, effect=self.effects.append, **self.options)
        begun.recall()
        return begun

    def restart(self) -> None:
        self.follower.close()
        self.follower = self.started()

    def join(self) -> None:
        for ledger in (self.platform, self.acme):
            self.follower.trust(ledger.stream, ledger.keys)
            self.follower.take_snapshot(ledger.stream, *ledger.snapshot())
        self.beat()

    def beat(self) -> None:
        for ledger in (self.platform, self.acme):
            self.follower.take(ledger.stream, ledger.heartbeat())

    def tell(self, signed: Signed, *, direct: bool = False) -> None:
        self.follower.take("acme", signed, direct=direct)

    def killed(self, agent: str = "agent-1") -> bool:
        return self.follower.covering(dataclasses.replace(PRINCIPAL, agent=agent), None) is not None

    def serves(self, risk: Risk) -> str:
        try:
            return "flagged" if self.follower.admit(PRINCIPAL, risk) else "fresh"
        except UnavailableError as error:
            return error.reason.code


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    begun = Bench(tmp_path)
    begun.join()
    return begun


def test_a_kill_bites_when_its_batch_arrives_and_is_lifted_by_another(bench: Bench) -> None:
    kill = bench.acme.kill("agent", "agent-1")
    bench.clock.advance(0.01)
    bench.tell(bench.acme.batch())
    assert bench.killed()
    assert bench.effects == [pytest.approx(0.01)]
    assert bench.follower.moved.is_set()
    bench.acme.lift(kill)
    bench.tell(bench.acme.batch())
    assert not bench.killed()


def test_what_is_served_grows_less_as_knowledge_grows_old(bench: Bench) -> None:
    assert [bench.serves(risk) for risk in Risk] == ["fresh"] * 3
    bench.clock.advance(2.1)
    assert [bench.serves(risk) for risk in Risk] == ["flagged", "KILL_STALE", "KILL_STALE"]
    bench.clock.advance(298)
    assert bench.serves(Risk.READ) == "KILL_STALE"
    bench.beat()
    assert bench.serves(Risk.WRITE) == "fresh"


def test_both_the_tenants_and_the_platforms_stream_must_be_fresh(bench: Bench) -> None:
    for silent in (bench.acme, bench.platform):
        bench.clock.advance(2.1)
        other = bench.platform if silent is bench.acme else bench.acme
        bench.follower.take(other.stream, other.heartbeat())
        assert bench.serves(Risk.WRITE) == "KILL_STALE"
        bench.beat()


def test_e8_what_the_ledger_did_not_sign_is_ignored_and_counted(bench: Bench) -> None:
    kill = bench.acme.kill("agent", "agent-1")
    bench.tell(bench.acme.batch())
    forger = SignedLedger(key=STRANGER, clock=bench.clock, entries=list(bench.acme.entries))
    forger.lift(kill)
    forged = [
        forger.batch(),
        dataclasses.replace(forger.batch(), kid=bench.acme.batch().kid),
        forger.heartbeat(),
        SignedLedger("", clock=bench.clock).batch(),  # rightly signed, for another stream
        entries.Signed(body=b"", signature=b"", kid=""),
    ]
    for message in forged:
        bench.tell(message)
    assert bench.killed()
    assert bench.follower.position("acme") == (1, 2)
    assert bench.follower.counted["KILL_FORGED"] == len(forged)
    bench.follower.take_snapshot("acme", *forger.snapshot())
    assert bench.killed()


def test_e8_a_heartbeat_that_is_forged_keeps_nothing_fresh(bench: Bench) -> None:
    forger = SignedLedger(key=STRANGER, clock=bench.clock)
    bench.clock.advance(2.1)
    bench.tell(forger.heartbeat())
    assert bench.serves(Risk.WRITE) == "KILL_STALE"


def test_e6_a_gap_asks_the_control_plane_and_is_not_fresh_until_it_is_closed(bench: Bench) -> None:
    bench.acme.kill("agent", "x")
    bench.acme.kill("agent", "agent-1")
    bench.follower.wanted.clear()
    bench.tell(bench.acme.batch())
    assert bench.follower.needs("acme") == "entries"
    assert bench.follower.wanted.is_set()
    assert not bench.killed()
    bench.clock.advance(2.1)
    bench.beat()
    assert bench.serves(Risk.WRITE) == "KILL_STALE"
    bench.tell(bench.acme.batch(2, 3))
    bench.beat()
    assert bench.killed()
    assert (bench.follower.needs("acme"), bench.serves(Risk.WRITE)) == ("", "fresh")


def test_e7_a_ledger_that_forgets_is_alarmed_and_frees_nobody(bench: Bench) -> None:
    bench.acme.kill("agent", "agent-1")
    bench.tell(bench.acme.batch())
    bench.beat()
    bench.clock.advance(2.1)
    bench.tell(bench.acme.heartbeat(sequence=1))
    assert bench.serves(Risk.WRITE) == "KILL_STALE"
    assert bench.follower.alarms() == {"acme": KILL_EPOCH_REGRESS.code}
    yesterday = SignedLedger(clock=bench.clock)
    bench.follower.take_snapshot("acme", *yesterday.snapshot())
    assert bench.killed()
    bench.beat()
    assert bench.follower.alarms() == {}


def test_a_heartbeat_overtaken_by_a_pull_is_no_alarm(bench: Bench) -> None:
    overtaken = bench.acme.heartbeat()
    bench.clock.advance(0.1)
    bench.acme.kill("agent", "agent-1")
    bench.tell(bench.acme.batch(), direct=True)
    bench.tell(overtaken)
    assert bench.follower.alarms() == {}


def test_e7_a_new_epoch_needs_its_snapshot_and_keeps_what_was_killed_over_a_restart(bench: Bench) -> None:
    kill = bench.acme.kill("agent", "agent-1")
    bench.tell(bench.acme.batch())
    bench.acme = SignedLedger(epoch=2, clock=bench.clock)
    bench.beat()
    assert bench.follower.needs("acme") == "snapshot"
    bench.follower.take_snapshot("acme", *bench.acme.snapshot())
    assert bench.killed()
    bench.acme.kill("agent", "agent-2")
    bench.tell(bench.acme.batch())
    bench.restart()
    assert bench.killed()
    assert bench.killed("agent-2")
    bench.acme.lift(kill)
    bench.tell(bench.acme.batch())
    bench.restart()
    assert not bench.killed()


def test_after_a_restart_every_kill_still_holds(bench: Bench) -> None:
    for agent in ("agent-1", "agent-2"):
        bench.acme.kill("agent", agent)
        bench.tell(bench.acme.batch())
    bench.acme.lift(bench.acme.kill("agent", "agent-3"))
    bench.tell(bench.acme.batch(4))
    bench.restart()
    assert [bench.killed(agent) for agent in ("agent-1", "agent-2", "agent-3")] == [True, True, False]
    assert bench.follower.position("acme") == (1, 5)


def test_e11_a_ledger_whose_clock_was_ahead_ends_no_kill_early_once_it_is_right(bench: Bench) -> None:
    now_ns = bench.clock.unix_ns()
    bench.acme.kill("agent", "agent-1", expires_at_ns=now_ns + 600 * S)
    bench.tell(bench.acme.batch(), direct=True)
    for off_s, killed in ((3600, False), (0, True)):
        for ledger in (bench.platform, bench.acme):
            bench.follower.take(ledger.stream, ledger.heartbeat(at_ns=now_ns + off_s * S), direct=True)
        assert (bench.killed(), bench.serves(Risk.WRITE)) == (killed, "fresh")
    bench.restart()
    assert (bench.killed(), bench.serves(Risk.READ)) == (True, "flagged")


@pytest.mark.parametrize("off_s", [-3600, 3600])
def test_e11_a_kill_lasts_from_when_it_is_heard_though_the_ledgers_clock_was_just_set(bench: Bench, off_s: int) -> None:
    made_ns = bench.clock.unix_ns() + off_s * S
    bench.acme.kill("agent", "agent-1", expires_at_ns=made_ns + 600 * S, off_ns=off_s * S)
    bench.tell(bench.acme.batch())
    assert bench.killed()
    for now_s in (off_s, 0, 3600):
        for ledger in (bench.platform, bench.acme):
            bench.follower.take(ledger.stream, ledger.heartbeat(at_ns=bench.clock.unix_ns() + now_s * S), direct=True)
        assert bench.killed(), now_s
    bench.follower.take_snapshot("acme", *bench.acme.snapshot())
    assert bench.killed()
    bench.clock.advance(599)
    assert bench.killed()
    bench.clock.advance(2)
    assert not bench.killed()


@pytest.mark.parametrize(("age_s", "served"), [(0, "flagged"), (10, "flagged"), (600, "KILL_STALE")])
def test_e14_a_journal_serves_within_the_stale_rules(bench: Bench, age_s: float, served: str) -> None:
    bench.clock.advance(age_s)
    bench.restart()
    assert (bench.serves(Risk.READ), bench.serves(Risk.WRITE)) == (served, "KILL_STALE")
    bench.beat()
    assert bench.serves(Risk.WRITE) == "fresh"


def test_e14_without_a_journal_nothing_is_served(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    assert bench.follower.oldest_s() == math.inf
    assert {bench.serves(risk) for risk in Risk} == {"KILL_STALE"}


def test_e14_a_journal_that_lost_its_end_has_no_age(bench: Bench) -> None:
    bench.acme.kill("agent", "agent-1")
    bench.tell(bench.acme.batch())
    bench.clock.advance(1.1)
    bench.beat()
    (folder_of(bench.folder, "acme") / "entries-1").unlink()
    bench.restart()
    assert bench.follower.age_s("acme") == math.inf
    assert bench.serves(Risk.READ) == "KILL_STALE"


@pytest.mark.parametrize("name", ["snapshot-1", "entries-1"])
def test_e14_a_journal_that_was_changed_is_not_believed(bench: Bench, name: str) -> None:
    bench.acme.kill("agent", "agent-1")
    bench.tell(bench.acme.batch())
    path = folder_of(bench.folder, "acme") / name
    octets = bytearray(path.read_bytes())
    octets[-2] ^= 1
    path.write_bytes(bytes(octets))
    bench.restart()
    assert bench.serves(Risk.READ) == "KILL_STALE"
    assert bench.follower.needs("acme") == "snapshot"
    bench.follower.take_snapshot("acme", *bench.acme.snapshot())
    bench.beat()
    bench.restart()
    assert bench.killed()
    assert bench.serves(Risk.READ) == "flagged"


def test_e14_a_torn_end_was_never_reported_and_is_tolerated(bench: Bench) -> None:
    path = folder_of(bench.folder, "acme") / "entries-1"
    bench.acme.kill("agent", "agent-1")
    bench.tell(bench.acme.batch())
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:50])
    bench.restart()
    assert bench.killed()
    assert bench.serves(Risk.READ) == "flagged"


def test_a_disk_that_is_full_lets_kills_hold_and_the_stream_grow_old(bench: Bench) -> None:
    folder = folder_of(bench.folder, "acme")
    aside = folder.with_name("aside")
    bench.follower.close()
    folder.rename(aside)
    folder.write_bytes(b"")  # what cannot be written, by whatever user
    bench.acme.kill("agent", "agent-1")
    bench.tell(bench.acme.batch())
    assert bench.killed()
    assert "acme" not in bench.follower.durable()
    bench.clock.advance(2.1)
    bench.beat()
    assert (bench.serves(Risk.WRITE), bench.follower.alarms()) == ("KILL_STALE", {"acme": "KILL_JOURNAL"})
    folder.unlink()
    aside.rename(folder)
    bench.beat()
    assert (bench.serves(Risk.WRITE), bench.follower.alarms()) == ("fresh", {})
    assert "acme" in bench.follower.durable()
    bench.restart()
    assert bench.killed()


def test_a_journal_that_stays_unwritable_is_replaced_by_a_snapshot(tmp_path: Path) -> None:
    bench = Bench(tmp_path, max_pending=3)
    bench.join()
    bench.follower.close()
    folder = folder_of(bench.folder, "acme")
    folder.rename(folder.with_name("aside"))
    folder.write_bytes(b"")
    for number in range(5):
        bench.acme.kill("agent", f"agent-{number}")
        bench.tell(bench.acme.batch())
    assert bench.follower.needs("acme") == "snapshot"
    folder.unlink()
    bench.beat()
    assert "acme" not in bench.follower.durable()
    bench.follower.take_snapshot("acme", *bench.acme.snapshot())
    assert "acme" in bench.follower.durable()
    bench.restart()
    assert bench.killed("agent-4")


def test_a_journal_that_grows_is_replaced_by_a_snapshot(tmp_path: Path) -> None:
    bench = Bench(tmp_path, compact_bytes=300)
    bench.join()
    for number in range(3):
        bench.acme.kill("agent", f"agent-{number}")
        bench.tell(bench.acme.batch())
    bench.beat()
    assert bench.follower.needs("acme") == "compact"
    assert bench.serves(Risk.WRITE) == "fresh"
    bench.follower.take_snapshot("acme", *bench.acme.snapshot())
    bench.beat()
    assert bench.follower.needs("acme") == ""


def test_a_snapshot_overtaken_on_its_way_still_begins_the_journal_anew(tmp_path: Path) -> None:
    bench = Bench(tmp_path, compact_bytes=900)
    bench.join()
    for number in range(5):
        bench.acme.kill("agent", f"agent-{number}")
        bench.tell(bench.acme.batch())
    bench.beat()
    overtaken = bench.acme.snapshot()
    bench.acme.kill("agent", "later")
    bench.tell(bench.acme.batch())
    bench.follower.take_snapshot("acme", *overtaken)
    bench.beat()
    assert (bench.follower.needs("acme"), bench.follower.alarms()) == ("", {})
    bench.restart()
    assert [bench.killed(agent) for agent in ("agent-0", "agent-4", "later")] == [True] * 3
    assert bench.serves(Risk.READ) == "flagged"


def test_a_snapshot_from_before_it_was_asked_for_is_left_aside_without_an_alarm(bench: Bench) -> None:
    old = bench.acme.snapshot()
    bench.acme.kill("agent", "agent-1")
    bench.tell(bench.acme.batch())
    bench.follower.ask("acme", "snapshot")
    bench.follower.take_snapshot("acme", *old)
    assert (bench.follower.needs("acme"), bench.follower.alarms()) == ("snapshot", {})
    bench.restart()
    assert bench.killed()


def test_a_snapshot_that_the_disk_did_not_take_is_not_reported_and_is_kept_once_there_is_room(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    folder = folder_of(bench.folder, "acme")
    folder.write_bytes(b"")  # what cannot be written, by whatever user
    bench.acme.kill("agent", "agent-1")
    bench.join()
    assert bench.killed()
    assert "acme" not in bench.follower.durable()
    assert bench.serves(Risk.READ) == "KILL_STALE"
    bench.acme.kill("agent", "agent-2")
    bench.tell(bench.acme.batch())
    folder.unlink()
    bench.beat()
    assert ("acme" in bench.follower.durable(), bench.serves(Risk.WRITE)) == (True, "fresh")
    bench.restart()
    assert [bench.killed(agent) for agent in ("agent-1", "agent-2")] == [True, True]
    assert bench.serves(Risk.READ) == "flagged"


def test_what_the_control_plane_answers_does_not_make_redis_less_silent(bench: Bench) -> None:
    assert not bench.follower.is_silent("acme")
    bench.clock.advance(1.1)
    bench.tell(bench.acme.heartbeat(), direct=True)
    assert bench.follower.is_silent("acme")
    bench.beat()
    assert not bench.follower.is_silent("acme")


def test_a_new_key_is_asked_for_and_the_old_one_is_no_longer_taken(bench: Bench) -> None:
    bench.acme = dataclasses.replace(bench.acme, key=STRANGER)
    bench.acme.kill("agent", "agent-1")
    bench.follower.wanted.clear()
    bench.tell(bench.acme.batch())
    assert bench.follower.wanted.is_set()
    old = SignedLedger(clock=bench.clock, entries=list(bench.acme.entries))
    bench.follower.trust("acme", bench.acme.keys)
    bench.tell(old.batch())
    assert not bench.killed()
    bench.tell(bench.acme.batch())
    assert bench.killed()


def test_what_is_signed_and_unreadable_is_an_alarm(bench: Bench) -> None:
    body = entries.encode(entries.Heartbeat(stream="acme", epoch=1, sequence=1, at_ns=1, count=1))
    body = body.replace(b'"v":1', b'"v":2')
    kid = bench.acme.heartbeat().kid
    bench.tell(entries.Signed(body=body, signature=bench.acme.key.sign(entries.DOMAIN + body), kid=kid))
    assert bench.follower.alarms() == {"acme": "KILL_UNREADABLE"}


def test_a_tenant_of_which_the_ledger_has_not_spoken_is_served_while_the_list_of_streams_is_fresh(
    tmp_path: Path,
) -> None:
    bench = Bench(tmp_path, every_tenant=True)
    bench.join()
    new = dataclasses.replace(PRINCIPAL, tenant="new")
    with pytest.raises(UnavailableError, match="KILL_STALE"):
        bench.follower.admit(new, Risk.READ)
    bench.follower.listed()
    assert bench.follower.covering(new, None) is None
    assert bench.follower.admit(new, Risk.WRITE) is False
    bench.platform.kill("global")
    bench.follower.take("", bench.platform.batch())
    assert bench.follower.covering(new, None) is not None
    bench.clock.advance(2.1)
    bench.beat()
    with pytest.raises(UnavailableError, match="KILL_STALE"):
        bench.follower.admit(new, Risk.WRITE)
    ledger = SignedLedger("new", clock=bench.clock)
    ledger.kill("tenant")
    bench.follower.trust("new", ledger.keys)
    with pytest.raises(UnavailableError, match="KILL_STALE"):  # spoken of, and not known yet: as old as the last list
        bench.follower.admit(new, Risk.WRITE)
    assert bench.follower.admit(new, Risk.READ) is True
    bench.clock.advance(298)
    with pytest.raises(UnavailableError, match="KILL_STALE"):
        bench.follower.admit(new, Risk.READ)


def test_a_stream_that_was_not_listed_before_has_no_age(tmp_path: Path) -> None:
    bench = Bench(tmp_path, every_tenant=True)
    bench.follower.trust("acme", bench.acme.keys)
    assert bench.follower.age_s("acme") == math.inf


def test_a_stream_that_is_not_followed_is_not_read(bench: Bench) -> None:
    other = SignedLedger("other", clock=bench.clock)
    bench.follower.take("other", other.batch())
    bench.follower.take_snapshot("other", *other.snapshot())
    assert bench.follower.streams == ("", "acme")
    assert bench.follower.age_s("other") == math.inf
