from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz.identity.oauth.access_token import MAX_LIFE_S
from authz.identity.signing_keys import LEAD_S, LINGER_S, KeyRing, KeyState, Schedule, SigningKey

NS = 1_000_000_000
DAY = 86_400 * NS
STALE = 3600 * NS
"""How long a verifier uses a key set (limits.jwks_stale_s)."""
SCHEDULE = Schedule(period_s=86_400)


def key(number: int, signs_from: int, created: int = 0, withdrawn: int | None = None) -> SigningKey:
    return SigningKey(
        number=number,
        kid=f"k{number}",
        algorithm="EdDSA",
        public_jwk={},
        created_ns=created,
        signs_from_ns=signs_from,
        withdrawn_ns=withdrawn,
    )


def tended(ring: KeyRing, now_ns: int, schedule: Schedule = SCHEDULE) -> KeyRing:
    """The ring after its keeper has looked at it."""
    keys = list(ring.keys)
    for start in schedule.due(ring, now_ns):
        keys.append(key(len(keys) + 1, start, now_ns))
    return KeyRing(keys)


def kids(keys: tuple[SigningKey, ...]) -> list[str]:
    return [each.kid for each in keys]


def test_the_first_keeper_makes_one_key_to_sign_with_and_the_next() -> None:
    ring = tended(KeyRing(()), 5)
    assert [ring.state(each, 5) for each in ring.keys] == [KeyState.SIGNING, KeyState.NEXT]
    assert tended(ring, 6).keys == ring.keys


def test_the_next_key_signs_when_its_time_has_come_whoever_is_there_to_see_it() -> None:
    ring = KeyRing((key(1, 0), key(2, DAY)))
    assert [ring.signing(now).kid for now in (0, DAY - 1, DAY, 9 * DAY)] == ["k1", "k1", "k2", "k2"]  # type: ignore[union-attr]


def test_a_retiring_key_is_published_until_its_last_token_is_dead() -> None:
    ring = KeyRing((key(1, 0), key(2, DAY)))
    end = DAY + int(LINGER_S * NS)
    assert LINGER_S > MAX_LIFE_S + 60
    assert [kids(ring.published(now)) for now in (DAY, end - 1, end)] == [["k1", "k2"], ["k1", "k2"], ["k2"]]
    assert [ring.state(ring.keys[0], now) for now in (DAY, end)] == [KeyState.RETIRING, KeyState.RETIRED]


def test_a_withdrawn_key_is_gone_at_once() -> None:
    ring = KeyRing((key(1, 0, withdrawn=7), key(2, 7), key(3, DAY)))
    assert kids(ring.published(7)) == ["k2", "k3"]
    assert ring.find("k1", 7) is None
    assert ring.find("k1", 6) is not None
    assert ring.state(ring.keys[0], 7) is KeyState.WITHDRAWN


def test_there_is_no_key_to_sign_with_where_every_one_is_withdrawn() -> None:
    ring = KeyRing((key(1, 0, withdrawn=7),))
    assert ring.signing(8) is None
    assert SCHEDULE.due(ring, 8) == (8, 8 + DAY)


def test_a_key_made_late_is_still_published_before_it_signs() -> None:
    ring = KeyRing((key(1, 0), key(2, DAY)))
    assert SCHEDULE.due(ring, 9 * DAY) == (9 * DAY + int(LEAD_S * NS),)


def test_a_rotation_by_hand_waits_until_verifiers_know_the_key() -> None:
    twins = KeyRing((key(1, 0), key(2, DAY)))
    assert SCHEDULE.earliest(twins, twins.keys[1], 60 * NS) == 60 * NS
    later = KeyRing((key(1, 0), key(2, DAY, created=100 * NS)))
    assert SCHEDULE.earliest(later, later.keys[1], 160 * NS) == 100 * NS + int(LEAD_S * NS)
    assert SCHEDULE.earliest(later, later.keys[1], DAY) == DAY


STEPS = st.integers(1, 3 * DAY) | st.sampled_from([1, STALE, int(LEAD_S * NS), DAY - 1, DAY])


@given(st.lists(STEPS, min_size=1, max_size=40), st.sets(st.integers(0, 39)))
def test_d13_no_token_is_lost_to_a_verifier_whose_keys_are_an_hour_old(steps: list[int], absent: set[int]) -> None:
    """However seldom the keeper looks, and whenever a token is made: it verifies at once, and until it ends."""
    now, ring = 0, tended(KeyRing(()), 0)
    read = [(0, ring.published(0))]
    for position, step in enumerate(steps):
        now += step
        signer = ring.signing(now)
        assert signer is not None
        assert all(signer in keys for at, keys in read if now - at <= STALE)
        if position not in absent:
            ring = tended(ring, now)
        read.append((now, ring.published(now)))
        assert ring.find(signer.kid, now + int((MAX_LIFE_S + 60) * NS)) is not None


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0)])
def test_the_order_of_rows_does_not_matter(order: tuple[int, ...]) -> None:
    keys = (key(1, 0), key(2, DAY), key(3, 2 * DAY))
    assert KeyRing(keys[place] for place in order).keys == keys
    assert replace(keys[0], kid="x") != keys[0]
