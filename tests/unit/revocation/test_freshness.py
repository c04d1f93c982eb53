"""Knowledge of kills is as old as it is, whatever clocks and messengers say."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz.errors import UnavailableError
from authz.model import Risk
from authz.revocation import freshness
from authz.revocation.entries import Heartbeat
from authz.revocation.freshness import Freshness, LedgerTime
from tests.fakes import FakeClock

S = 1_000_000_000


class Bench:
    def __init__(self) -> None:
        self.clock = FakeClock()
        self.time = LedgerTime(self.clock)
        self.freshness = Freshness(self.clock, self.time)
        self.count = 0

    def beat(self, late_s: float = 0, *, direct: bool = False, count: int | None = None) -> bool:
        """One heartbeat that was made `late_s` ago; level with it, if it is news."""
        self.count = self.count + 1 if count is None else count
        at_ns = self.clock.wall_ns - int(late_s * S)
        heartbeat = Heartbeat(stream="acme", epoch=1, sequence=1, at_ns=at_ns, count=self.count)
        news = self.freshness.is_news(heartbeat, direct=direct)
        if news:
            self.freshness.level()
        return news


@pytest.mark.parametrize(
    ("age_s", "risk", "flagged"),
    [
        (0.0, Risk.DESTRUCTIVE, False), (2.0, Risk.DESTRUCTIVE, False), (2.0, Risk.READ, False),
        (2.001, Risk.READ, True), (30.0, Risk.READ, True), (300.0, Risk.READ, True),
    ],
)  # fmt: skip
def test_what_is_served_by_age_and_risk(age_s: float, risk: Risk, flagged: bool) -> None:  # noqa: FBT001
    assert freshness.admit(age_s, risk) is flagged


@pytest.mark.parametrize(
    ("age_s", "risk"),
    [
        (2.001, Risk.WRITE),
        (2.001, Risk.DESTRUCTIVE),
        (300.001, Risk.READ),
        (math.inf, Risk.READ),
        (math.nan, Risk.READ),
    ],
)
def test_what_is_denied_by_age_and_risk(age_s: float, risk: Risk) -> None:
    with pytest.raises(UnavailableError, match="KILL_STALE"):
        freshness.admit(age_s, risk)


def test_an_operator_may_shorten_how_long_reads_go_on() -> None:
    with pytest.raises(UnavailableError):
        freshness.admit(11.0, Risk.READ, reads_s=10.0)


def test_age_counts_from_the_last_time_that_all_was_known() -> None:
    bench = Bench()
    assert bench.freshness.age_s() == math.inf
    assert bench.beat()
    assert bench.freshness.age_s() == 0
    bench.clock.advance(7)
    assert bench.freshness.age_s() == 7


def test_age_counts_from_when_the_heartbeat_was_made_and_not_from_when_it_came() -> None:
    bench = Bench()
    bench.beat()
    bench.clock.advance(0.4)
    assert bench.beat(late_s=1.5)
    assert bench.freshness.age_s() == pytest.approx(1.5)


def test_a_ledger_whose_clock_was_set_back_is_fresh_at_its_first_answer() -> None:
    bench = Bench()
    bench.beat()
    assert not bench.beat(late_s=3600)
    assert bench.beat(late_s=3600, direct=True)
    assert bench.freshness.age_s() == 0
    assert bench.beat(late_s=3600)


def test_a_wall_clock_that_is_set_back_makes_nothing_younger() -> None:
    bench = Bench()
    bench.beat()
    bench.clock.advance(5)
    bench.clock.wall_ns -= 3600 * S
    assert bench.freshness.age_s() == 5


def test_a_machine_that_slept_knows_that_it_is_old() -> None:
    bench = Bench()
    bench.beat()
    bench.clock.wall_ns += 3600 * S  # the running clock stood still
    assert bench.freshness.age_s() == 3600


def test_e7_a_heartbeat_that_is_replayed_is_no_news() -> None:
    bench = Bench()
    at_ns = bench.clock.wall_ns
    old = Heartbeat(stream="acme", epoch=1, sequence=1, at_ns=at_ns, count=5)
    assert bench.freshness.is_news(old, direct=False)
    bench.clock.advance(1)
    assert not bench.freshness.is_news(old, direct=False)


def test_a_heartbeat_that_was_held_back_is_no_news() -> None:
    bench = Bench()
    bench.beat()
    bench.clock.advance(10)
    assert not bench.beat(late_s=2.1)
    assert bench.beat(late_s=1.9)


def test_delays_that_grow_a_little_each_time_are_seen() -> None:
    bench = Bench()
    bench.beat(direct=True)
    late_s = 0.0
    for _ in range(100):
        bench.clock.advance(0.4)
        late_s += 0.1
        bench.beat(late_s=late_s)
    assert bench.freshness.age_s() > freshness.FRESH_S


def test_clocks_that_drift_apart_slowly_do_not_make_heartbeats_late() -> None:
    bench = Bench()
    bench.beat(direct=True)
    for hour in range(1, 49):
        bench.clock.advance(3600)
        assert bench.beat(late_s=hour * 3600 * 200e-6)  # 200 ppm


def test_at_a_cold_start_an_old_recording_is_no_news() -> None:
    assert not Bench().beat(late_s=3600)
    assert not Bench().beat(late_s=-3600)
    assert not Bench().beat(late_s=2.1)
    assert Bench().beat(late_s=-20)  # our wall clock may be behind


def test_e7_a_recording_that_is_played_after_a_start_makes_nothing_younger_than_our_wall_clock_says() -> None:
    bench = Bench()
    for _ in range(5):
        assert bench.beat(late_s=1.9)
        assert bench.freshness.age_s() == pytest.approx(1.9, abs=0.01)
        bench.clock.advance(0.4)


def test_a_wall_clock_that_is_wrong_counts_until_the_control_plane_has_answered() -> None:
    bench = Bench()
    assert not bench.beat(late_s=5)
    assert bench.beat(late_s=5, direct=True)
    bench.clock.advance(0.4)
    assert bench.beat(late_s=5)
    assert bench.freshness.age_s() == 0


def test_the_control_planes_own_answer_settles_where_its_clock_is() -> None:
    bench = Bench()
    bench.beat()
    bench.clock.advance(0.4)
    assert not bench.beat(late_s=600)  # the ledger's clock was set back
    assert bench.beat(late_s=600, direct=True)
    bench.clock.advance(0.4)
    assert bench.beat(late_s=600)


def test_e14_a_journal_is_never_fresh_and_as_old_as_its_last_heartbeat() -> None:
    bench = Bench()
    bench.freshness.begin(bench.clock.wall_ns - 600 * S)
    assert bench.freshness.age_s() == 600
    bench.freshness.begin(bench.clock.wall_ns)
    assert bench.freshness.age_s() > freshness.FRESH_S
    assert freshness.admit(bench.freshness.age_s(), Risk.READ) is True


def test_e14_a_journal_from_the_future_has_no_age() -> None:
    bench = Bench()
    bench.freshness.begin(bench.clock.wall_ns + S)
    assert bench.freshness.age_s() == math.inf


def test_e11_the_ledgers_time_goes_on_by_our_running_clock_and_back_by_its_own_answer_alone() -> None:
    bench = Bench()
    assert bench.time.now_ns() == 0  # nothing expires by a time that nobody has told
    bench.beat()
    told = bench.clock.wall_ns
    bench.clock.advance(5)
    bench.clock.wall_ns += 3600 * S
    assert bench.time.now_ns() == told + 5 * S
    bench.time.take(told - 600 * S, direct=False)
    bench.time.take(told + 4 * S, direct=True)  # on its way for a second
    assert bench.time.now_ns() == told + 5 * S
    bench.time.take(told - 600 * S, direct=True)
    assert bench.time.now_ns() == told - 600 * S


def test_e11_after_a_restart_time_goes_on_from_the_journal() -> None:
    bench = Bench()
    bench.time.begin(1_000 * S)
    bench.clock.advance(3)
    assert bench.time.now_ns() == 1_003 * S


STEPS = st.lists(st.tuples(st.floats(0, 30), st.floats(-3600, 3600), st.floats(0, 3600), st.booleans()), max_size=20)


@given(STEPS)
def test_without_news_of_this_moment_nothing_is_younger_than_it_is(
    steps: list[tuple[float, float, float, bool]],
) -> None:
    """True time passes, the wall clock jumps, heartbeats come late: what is said to be fresh is fresh."""
    bench = Bench()
    true_ns = bench.clock.wall_ns
    bench.time.take(true_ns, direct=True)
    made_ns = -math.inf
    for passed_s, jump_s, late_s, beats in steps:
        true_ns += int(passed_s * S)
        bench.clock.advance(passed_s)
        bench.clock.wall_ns += int(jump_s * S)
        if beats:
            at_ns = true_ns - int(late_s * S)
            bench.count += 1
            heartbeat = Heartbeat(stream="acme", epoch=1, sequence=1, at_ns=max(at_ns, 0), count=bench.count)
            if bench.freshness.is_news(heartbeat, direct=False):
                bench.freshness.level()
                made_ns = at_ns
        if bench.freshness.age_s() <= freshness.FRESH_S:
            drift_s = 30 * len(steps) / 1000
            assert true_ns - made_ns <= (freshness.FRESH_S + drift_s + 0.001) * S
