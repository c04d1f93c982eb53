"""Disks that are full and clocks that are wrong: nothing is served because of them, and no kill is lost."""

from __future__ import annotations

import resource
import time
from typing import TYPE_CHECKING

import pytest

from tests.e2e.faulty_link import Fault
from tests.e2e.site import FRESH_S, PATIENCE_S, SERVED, Witness, witnessing
from tests.e2e.stack import eventually

if TYPE_CHECKING:
    from tests.e2e.site import Site

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]
HOUR_S = 3600.0
TEN_MINUTES_S = 600


def test_on_a_full_disk_nothing_is_allowed_kills_hold_and_none_is_confirmed_that_a_restart_would_lose(
    whole: Site,
) -> None:
    (victim, token), (later, its_token), (_, other) = whole.somebody(), whole.somebody(), whole.somebody()
    whole.kill(victim, wait_s=30)
    whole.far.limit_files(0)
    eventually(lambda: whole.far.answer(other, "read") == "AUDIT_UNAVAILABLE", PATIENCE_S)
    receipt = whole.kill(later, wait_s=2)
    assert ([each.sidecar for each in receipt.confirmed], list(receipt.unreached)) == ([whole.near.id], [whole.far.id])
    assert {whole.far.answer(each) for each in (token, its_token, other)} <= {
        "REVOKED",
        "AUDIT_UNAVAILABLE",
        "KILL_STALE",
    }
    whole.far.limit_files(resource.RLIM_INFINITY)
    eventually(lambda: whole.far.answer(other) == SERVED, PATIENCE_S)
    assert [whole.far.answer(each) for each in (token, its_token)] == ["REVOKED"] * 2
    for link in whole.links:
        link.break_by(Fault.CUT)
    whole.far.kill()
    whole.far.start()
    assert [whole.far.answer(each) for each in (token, its_token)] == ["REVOKED"] * 2


@pytest.mark.parametrize("off_s", [HOUR_S, -HOUR_S])
def test_d8_a_sidecar_whose_clock_is_stepped_serves_nothing_until_it_is_right_again(whole: Site, off_s: float) -> None:
    (victim, token), (_, other) = whole.somebody(), whole.somebody()
    whole.kill(victim, wait_s=30)
    stopped, spared = Witness(whole.far, token, "read"), Witness(whole.far, other, "read")
    with witnessing(stopped, spared):
        whole.far.step_clock(off_s)
        stepped_at = time.monotonic()
        eventually(lambda: spared.seen[-1][0] > stepped_at + 1)
        right_at = time.monotonic()
        whole.far.step_clock(0)
        eventually(lambda: spared.seen[-1][1] == SERVED, PATIENCE_S)
    assert {told for asked, told in spared.seen if stepped_at < asked < right_at} == {"CLOCK_STEP"}
    assert stopped.after(0) <= {"REVOKED", "CLOCK_STEP"}


@pytest.mark.parametrize("off_s", [HOUR_S, -HOUR_S])
def test_e11_kills_hold_and_new_ones_bite_when_the_control_planes_clock_is_stepped_and_set_right(
    whole: Site, off_s: float
) -> None:
    (victim, token), (_, other) = whole.somebody(), whole.somebody()
    whole.kill(victim, wait_s=30)
    stopped = [Witness(each, token, "write") for each in whole.sidecars.values()]
    with witnessing(*stopped):
        for seconds in (off_s, 0.0):
            whole.control.step_clock(seconds)
            short, its_token = whole.somebody()
            whole.kill(short, expires_s=TEN_MINUTES_S)
            killed_at = time.monotonic()
            witness = Witness(whole.far, its_token, "write")
            with witnessing(witness):
                eventually(lambda moment=killed_at, seen=witness.seen: seen[-1][0] > moment + FRESH_S + 1)  # type: ignore[misc]
            assert witness.after(killed_at + FRESH_S) <= {"REVOKED", "KILL_STALE"}
        whole.heals()
        assert eventually(lambda: len(whole.kill(whole.somebody()[0], wait_s=5).confirmed) == 2, PATIENCE_S)
    for each in stopped:
        assert each.after(0) <= {"REVOKED", "KILL_STALE"}
    assert whole.far.answer(other) == SERVED
