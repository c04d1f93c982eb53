"""Randomness in batches is as random as one by one, and time is written to the nanosecond."""

from __future__ import annotations

import re
from concurrent import futures

from authz.clock import SystemClock, random_hex, random_id, rfc3339


def test_no_number_is_handed_out_twice_on_any_thread() -> None:
    with futures.ThreadPoolExecutor(8) as threads:
        batches = [threads.submit(lambda: [random_hex() for _ in range(2000)]) for _ in range(8)]
    drawn = [number for batch in batches for number in batch.result()]
    assert len(set(drawn)) == len(drawn) == 16_000
    assert all(re.fullmatch("[0-9a-f]{32}", number) for number in drawn)


def test_an_id_has_the_shape_of_a_uuid() -> None:
    assert re.fullmatch("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", random_id())


def test_time_keeps_its_nanoseconds() -> None:
    assert rfc3339(1_800_000_000_000_000_001) == "2027-01-15T08:00:00.000000001Z"
    assert rfc3339(0) == "1970-01-01T00:00:00.000000000Z"


def test_the_monotonic_clock_does_not_step_back() -> None:
    clock = SystemClock()
    assert clock.monotonic_ns() <= clock.monotonic_ns()
