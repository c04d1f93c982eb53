"""What was seen is known for as long as it counts, within a bound."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from hypothesis import given
from hypothesis import strategies as st

from authz.identity.replay import Replay

SHOWN = st.lists(st.tuples(st.integers(0, 100), st.integers(0, 30)), max_size=60)


@given(SHOWN)
def test_nothing_is_new_twice_while_it_counts(shown: list[tuple[int, int]]) -> None:
    """Each digest has one end, as a proof's signed `iat` makes it."""
    replay, now, seen = Replay(), 0, set()
    for until, elapsed in shown:
        now += elapsed
        if until >= now:
            assert replay.is_new(bytes([until]), until, now) is (until not in seen)
            seen.add(until)


def test_a_full_memory_takes_nothing_until_the_oldest_expire() -> None:
    replay = Replay(max_entries=2)
    assert replay.is_new(b"a", 100, 0)
    assert replay.is_new(b"b", 200, 0)
    assert not replay.is_new(b"c", 200, 0)
    assert replay.is_new(b"c", 200, 120)
    assert not replay.is_new(b"b", 200, 120)
    assert not replay.is_new(b"d", 300, 120)


def test_of_many_at_once_one_is_new() -> None:
    replay = Replay()
    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(lambda _: replay.is_new(b"a", 60, 0), range(200))) == 1
