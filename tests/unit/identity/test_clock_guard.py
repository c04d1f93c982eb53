from __future__ import annotations

import pytest

from authz.clock import SystemClock
from authz.identity.clock_guard import ClockGuard
from authz.reasons import CLOCK_STEP
from tests.identity_fakes import NS, SteppingClock, reason_of


@pytest.fixture
def clock() -> SteppingClock:
    return SteppingClock()


@pytest.fixture
def guard(clock: SteppingClock) -> ClockGuard:
    return ClockGuard(clock)


def test_a_healthy_clock_is_passed_through(clock: SteppingClock, guard: ClockGuard) -> None:
    for seconds in (0, 0.001, 0.5, 1, 30, 86_400):
        clock.advance(seconds)
        assert guard.now_ns() == clock.unix_ns()
    assert guard.steps == 0


def test_the_machines_own_clock_is_healthy() -> None:
    guard = ClockGuard(SystemClock())
    readings = [guard.now_ns() for _ in range(1000)]
    assert readings == sorted(readings)


@pytest.mark.parametrize("seconds", [-3600, -5.1, 5.1, 600])
def test_d8_a_step_over_five_seconds_refuses_and_is_counted_once(
    clock: SteppingClock, guard: ClockGuard, seconds: float
) -> None:
    guard.now_ns()
    clock.step(seconds)
    for _ in range(3):
        assert reason_of(guard.now_ns) is CLOCK_STEP
        clock.advance(1)
    assert guard.steps == 1


@pytest.mark.parametrize("seconds", [-5, -1, 1, 5])
def test_a_correction_within_five_seconds_is_taken(clock: SteppingClock, guard: ClockGuard, seconds: float) -> None:
    clock.step(seconds)
    assert reason_of(guard.now_ns) is None


def test_d8_time_goes_on_and_never_back_while_the_wall_clock_is_turned_back(
    clock: SteppingClock, guard: ClockGuard
) -> None:
    before = guard.now_ns()
    clock.step(-4)
    assert guard.now_ns() >= before
    clock.advance(10)
    assert guard.now_ns() >= before + 9.99 * NS


def test_d8_many_small_steps_back_do_not_add_up_to_a_large_one(clock: SteppingClock, guard: ClockGuard) -> None:
    start = guard.now_ns()
    refusals = 0
    for _ in range(10):
        clock.advance(2)
        clock.step(-2)
        refusals += reason_of(guard.now_ns) is CLOCK_STEP
    assert refusals == 8
    assert clock.unix_ns() == start


def test_d8_slewing_is_not_a_step(clock: SteppingClock, guard: ClockGuard) -> None:
    for _ in range(20_000):
        clock.advance(10)
        clock.step(-0.0049)
        guard.now_ns()
    assert guard.steps == 0


def test_d8_after_a_step_that_is_undone_tokens_are_judged_again(clock: SteppingClock, guard: ClockGuard) -> None:
    clock.step(-3600)
    assert reason_of(guard.now_ns) is CLOCK_STEP
    clock.step(3600)
    assert guard.now_ns() == clock.unix_ns()


def test_d8_a_step_back_never_settles_by_itself(clock: SteppingClock, guard: ClockGuard) -> None:
    clock.step(-3600)
    for _ in range(50):
        assert reason_of(guard.now_ns) is CLOCK_STEP
        clock.advance(60)


def test_d8_a_step_forward_settles_after_a_minute_of_agreement(clock: SteppingClock, guard: ClockGuard) -> None:
    clock.step(600)
    assert reason_of(guard.now_ns) is CLOCK_STEP
    clock.advance(59)
    assert reason_of(guard.now_ns) is CLOCK_STEP
    clock.advance(1)
    assert guard.now_ns() == clock.unix_ns()


def test_d8_a_second_step_starts_the_minute_anew(clock: SteppingClock, guard: ClockGuard) -> None:
    clock.step(600)
    assert reason_of(guard.now_ns) is CLOCK_STEP
    clock.advance(59)
    clock.step(600)
    assert reason_of(guard.now_ns) is CLOCK_STEP
    clock.advance(59)
    assert reason_of(guard.now_ns) is CLOCK_STEP
    assert guard.steps == 2
    clock.advance(1)
    assert reason_of(guard.now_ns) is None


def test_d8_a_settled_step_forward_cannot_be_taken_back(clock: SteppingClock, guard: ClockGuard) -> None:
    clock.step(600)
    reason_of(guard.now_ns)
    clock.advance(60)
    settled = guard.now_ns()
    clock.step(-600)
    assert reason_of(guard.now_ns) is CLOCK_STEP
    clock.step(600)
    assert guard.now_ns() >= settled


def test_d8_the_operator_can_vouch_for_the_clock(clock: SteppingClock, guard: ClockGuard) -> None:
    clock.step(-3600)
    assert reason_of(guard.now_ns) is CLOCK_STEP
    guard.accept()
    assert guard.now_ns() == clock.unix_ns()
