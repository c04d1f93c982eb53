"""A sidecar that hears nothing serves nothing for long: dead and frozen control planes, and every kind of bad link."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from authz.errors import AuthzError
from tests.e2e.faulty_link import Fault
from tests.e2e.site import FRESH_S, PATIENCE_S, READS_S, SERVED, Witness, witnessing
from tests.e2e.stack import eventually

if TYPE_CHECKING:
    from tests.e2e.site import Site

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]


@pytest.mark.parametrize("fault", [Fault.CUT, Fault.BLACKHOLE, Fault.HALF_OPEN])
def test_e2_cut_off_from_everything_a_sidecar_serves_no_killed_scope_beyond_the_bounds(
    whole: Site, fault: Fault
) -> None:
    (victim, token), (_, other) = whole.somebody(), whole.somebody()
    writes, reads = Witness(whole.far, token, "write"), Witness(whole.far, token, "read")
    spared = Witness(whole.far, other, "write")
    with witnessing(writes, reads, spared):
        for link in whole.links:
            link.break_by(fault)
        killed_at = time.monotonic()
        receipt = whole.kill(victim, wait_s=1)
        assert ([each.sidecar for each in receipt.confirmed], list(receipt.unreached)) == (
            [whole.near.id],
            [whole.far.id],
        )
        assert whole.near.answer(token, "read") == "REVOKED"
        eventually(lambda: reads.seen[-1][1] == "KILL_STALE", PATIENCE_S)
        eventually(lambda: reads.seen[-1][0] > killed_at + READS_S + 1)
        for link in whole.links:
            link.mend()
        eventually(lambda: reads.seen[-1][1] == "REVOKED" and spared.seen[-1][1] == SERVED, PATIENCE_S)
    assert writes.after(killed_at + FRESH_S) == {"KILL_STALE", "REVOKED"}
    assert reads.after(killed_at + READS_S) == {"KILL_STALE", "REVOKED"}
    assert spared.after(0) == {SERVED, "KILL_STALE"}


@pytest.mark.parametrize("lost", ["redis", "control"])
def test_e2_a_sidecar_that_is_cut_off_from_one_of_the_two_hears_of_kills_by_the_other(whole: Site, lost: str) -> None:
    (victim, token), (_, other) = whole.somebody(), whole.somebody()
    writes, spared = Witness(whole.far, token, "write"), Witness(whole.far, other, "write")
    with witnessing(writes, spared):
        (whole.redis_of_far if lost == "redis" else whole.control_of_far).break_by(Fault.BLACKHOLE)
        began = time.monotonic()
        eventually(lambda: spared.seen[-1][0] > began + 2 * FRESH_S and spared.seen[-1][1] == SERVED, PATIENCE_S)
        killed_at = time.monotonic()
        receipt = whole.kill(victim, wait_s=30 if lost == "redis" else 2)
        eventually(lambda: writes.seen[-1][1] == "REVOKED", PATIENCE_S)
    # Without the control plane it knows, and cannot say so.
    assert list(receipt.unreached) == ([] if lost == "redis" else [whole.far.id])
    assert writes.after(killed_at + FRESH_S) <= {"KILL_STALE", "REVOKED"}


def test_e2_a_link_that_is_slow_delays_a_kill_and_lets_nothing_through_beyond_the_bound(whole: Site) -> None:
    victim, token = whole.somebody()
    witness = Witness(whole.far, token, "write")
    with witnessing(witness):
        for link in whole.links:
            link.delay(0.4)
        time.sleep(1.0)  # some messages are on their way by now
        killed_at = time.monotonic()
        whole.kill(victim)
        eventually(lambda: witness.seen[-1][1] == "REVOKED", PATIENCE_S)
        for link in whole.links:
            link.break_by(Fault.BLACKHOLE)
    assert witness.after(killed_at + FRESH_S) <= {"KILL_STALE", "REVOKED"}


@pytest.mark.parametrize("how", ["frozen", "killed"])
def test_without_a_control_plane_known_kills_bite_writes_end_and_reads_are_flagged(whole: Site, how: str) -> None:
    (victim, token), (_, other) = whole.somebody(), whole.somebody()
    whole.kill(victim, wait_s=30)
    stopped, reads = Witness(whole.far, token, "read"), Witness(whole.far, other, "read")
    with witnessing(stopped, reads):
        if how == "frozen":
            whole.control.freeze()
        else:
            whole.control.kill()
            with pytest.raises(AuthzError):
                whole.kill("agent-x")
        eventually(lambda: whole.near.answer(other) == whole.far.answer(other) == "KILL_STALE", PATIENCE_S)
        assert reads.seen[-1][1] in (SERVED, "KILL_STALE")
        eventually(lambda: reads.seen[-1][1] == "KILL_STALE", PATIENCE_S)
        if how == "frozen":
            whole.control.thaw()
        else:
            whole.control.start()
        eventually(lambda: reads.seen[-1][1] == SERVED, PATIENCE_S)
        whole.heals()
    assert stopped.after(0) == {"REVOKED"}
    assert reads.after(0) == {SERVED, "KILL_STALE"}
    assert "stale" in {record.get("kills") for record in whole.far.written() if record["enforced"] == "allow"}


@pytest.mark.parametrize("how", ["frozen", "killed", "cut off"])
def test_without_redis_a_kill_is_said_to_be_slow_and_bites_within_the_bound(whole: Site, how: str) -> None:
    (victim, token), (_, other) = whole.somebody(), whole.somebody()
    witnesses = [Witness(each, token, "write") for each in whole.sidecars.values()]
    with witnessing(*witnesses):
        if how == "frozen":
            whole.redis.freeze()
        elif how == "killed":
            whole.redis.kill()
        else:
            whole.redis_of_control.break_by(Fault.BLACKHOLE)
        killed_at = time.monotonic()
        assert len(whole.kill(victim, wait_s=30).confirmed) == 2
        eventually(lambda: all(witness.seen[-1][1] == "REVOKED" for witness in witnesses), PATIENCE_S)
        eventually(lambda: whole.far.answer(other) == SERVED, PATIENCE_S)
        assert eventually(lambda: whole.kill(whole.somebody()[0]).redis == "failed", PATIENCE_S)
        if how == "frozen":
            whole.redis.thaw()
        elif how == "killed":
            whole.redis.start()
        else:
            whole.redis_of_control.mend()
        assert eventually(lambda: whole.kill(whole.somebody()[0]).redis == "ok", PATIENCE_S)
    for witness in witnesses:
        assert witness.after(killed_at + FRESH_S) <= {"KILL_STALE", "REVOKED"}
    whole.heals()


def test_e14_a_sidecar_that_starts_again_without_a_network_serves_no_killed_scope(whole: Site) -> None:
    (victim, token), (_, other) = whole.somebody(), whole.somebody()
    whole.kill(victim, wait_s=30)
    for link in whole.links:
        link.break_by(Fault.CUT)
    whole.far.kill()
    whole.far.start()
    assert {whole.far.answer(token, risk) for risk in ("read", "write")} == {"REVOKED"}
    assert whole.far.answer(other) == "KILL_STALE"
    assert whole.far.answer(other, "read") in (SERVED, "KILL_STALE")
    eventually(lambda: whole.far.answer(other, "read") == "KILL_STALE", PATIENCE_S)
    for link in whole.links:
        link.mend()
    eventually(lambda: whole.far.answer(other) == SERVED, PATIENCE_S)
    assert whole.far.answer(token) == "REVOKED"
