"""Whatever becomes of what Redis holds, nobody who was killed is served, and new kills bite."""

from __future__ import annotations

import shutil
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from authz.revocation import redis_streams
from tests.e2e.faulty_link import Fault
from tests.e2e.site import FRESH_S, PATIENCE_S, SERVED, Witness, witnessing
from tests.e2e.stack import eventually
from tests.folders import folder
from tests.ports import free_address
from tests.redis_servers import RedisServer
from tests.replication import STRANGER, SignedLedger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.e2e.site import Site

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

ENTRIES, BEATS = redis_streams.entries_key("acme"), redis_streams.heartbeat_key("acme")


def flushed(site: Site, _victim: str) -> None:
    site.redis.client.flushall()


def trimmed_past_its_reader(site: Site, _victim: str) -> None:
    site.redis_of_far.break_by(Fault.CUT)
    site.kill(site.somebody()[0])
    site.redis.client.xtrim(ENTRIES, maxlen=0, approximate=False)
    site.redis_of_far.mend()


def evicted(site: Site, _victim: str) -> None:
    site.redis.client.config_set("maxmemory-policy", "allkeys-lru")
    site.redis.client.delete(ENTRIES, BEATS)
    assert eventually(lambda: site.kill(site.somebody()[0]).redis == "refused", PATIENCE_S)
    site.redis.client.config_set("maxmemory-policy", "noeviction")


def replayed_and_disordered(site: Site, _victim: str) -> None:
    client = site.redis.client
    held = client.xrange(ENTRIES)
    epoch, last = (int(part) for part in held[-1][0].split(b"-"))
    for number, (_, values) in enumerate(reversed([*held, *client.xrange(BEATS)]), 1):
        client.xadd(ENTRIES, values, id=redis_streams.entry_id(epoch, last + number))
    for _, values in reversed(client.xrange(BEATS)):
        client.xadd(BEATS, values)


def forged(site: Site, victim: str) -> None:
    """A stranger lifts the kill and kills everybody, with the right numbers and the wrong key."""
    client = site.redis.client
    epoch, last = (int(part) for part in client.xrevrange(ENTRIES, count=1)[0][0].split(b"-"))
    ledger = SignedLedger("acme", epoch=epoch, key=STRANGER)
    ledger.entries *= last
    ledger.entries = [replace(each, sequence=number) for number, each in enumerate(ledger.entries, 1)]
    ledger.lift(site.kills[victim])
    ledger.kill("tenant")
    identifier = redis_streams.entry_id(epoch, ledger.sequence)
    client.xadd(ENTRIES, redis_streams.fields(ledger.batch(last + 1)), id=identifier)
    client.xadd(BEATS, redis_streams.fields(ledger.heartbeat()))


@pytest.mark.parametrize("harm", [flushed, trimmed_past_its_reader, evicted, replayed_and_disordered, forged])
def test_e4_e6_e7_e8_e11_what_is_done_to_the_streams_frees_nobody_and_stops_no_kill(
    whole: Site, harm: Callable[[Site, str], None]
) -> None:
    nobody_is_freed_and_new_kills_bite(whole, harm)


@pytest.fixture
def copy(whole: Site) -> Iterator[RedisServer]:
    """Another server, not started; the site has its own again afterwards."""
    own = whole.redis
    with folder("redis") as place:
        other = RedisServer(place)
        yield other
        other.kill()
    whole.redis = own


def test_e7_an_old_dump_that_is_restored_frees_nobody(whole: Site, copy: RedisServer) -> None:
    whole.redis.kill()
    shutil.copytree(whole.redis.folder, copy.folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("s"))
    whole.redis.start()

    def restored(site: Site, _victim: str) -> None:
        site.redis.kill()
        copy.start()
        site.redis = copy

    nobody_is_freed_and_new_kills_bite(whole, restored)


def test_e3_a_failover_that_loses_acknowledged_writes_frees_nobody(whole: Site, copy: RedisServer) -> None:
    """A replica that is promoted without having heard of the last kills."""
    host, _, port = free_address().rpartition(":")
    whole.redis.client.config_set("port", port)
    copy.settings |= {"replicaof": f"{host} {port}"}
    copy.start()
    eventually(lambda: copy.client.info("replication")["master_link_status"] == "up", PATIENCE_S)
    copy.freeze()

    def failed_over(site: Site, _victim: str) -> None:
        site.redis.kill()
        copy.thaw()
        copy.client.replicaof("NO", "ONE")
        site.redis = copy

    nobody_is_freed_and_new_kills_bite(whole, failed_over)


def nobody_is_freed_and_new_kills_bite(whole: Site, harm: Callable[[Site, str], None]) -> None:
    (victim, token), (later, its_token), (_, other) = whole.somebody(), whole.somebody(), whole.somebody()
    whole.kill(victim, wait_s=30)
    eventually(lambda: {each.answer(token) for each in whole.sidecars.values()} == {"REVOKED"}, PATIENCE_S)
    stopped = [Witness(each, token, "read") for each in whole.sidecars.values()]
    new = [Witness(each, its_token, "write") for each in whole.sidecars.values()]
    spared = Witness(whole.far, other, "write")
    with witnessing(*stopped, *new, spared):
        harm(whole, victim)
        killed_at = time.monotonic()
        whole.kill(later)
        eventually(lambda: all(each.seen[-1][1] == "REVOKED" for each in new), PATIENCE_S)
        eventually(lambda: spared.seen[-1][1] == SERVED, PATIENCE_S)
        assert eventually(lambda: whole.kill(whole.somebody()[0]).redis == "ok", PATIENCE_S)
    assert [each.after(0) for each in stopped] == [{"REVOKED"}] * 2
    assert all(each.after(killed_at + FRESH_S) <= {"REVOKED", "KILL_STALE"} for each in new)
    assert spared.after(0) <= {SERVED, "KILL_STALE"}
    whole.lift(whole.kills[victim])
    eventually(lambda: {each.answer(token) for each in whole.sidecars.values()} == {SERVED}, PATIENCE_S)
