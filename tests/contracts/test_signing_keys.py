"""Signing keys over SQLite and a real PostgreSQL; their times under a clock that a test moves."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from joserfc.jwk import import_key
from sqlalchemy import select, update

from authz.config import Issuer
from authz.database import Database
from authz.errors import UnavailableError
from authz.identity import jose, jwks
from authz.identity.clock_guard import ClockGuard
from authz.identity.signing_keys import LEAD_S, LINGER_S, KeyState, Schedule
from authz.identity.signing_keys_sql import KEYS, SigningKeys
from authz.identity.tokens import TokenVerifier, TrustedIssuer
from authz.reasons import SIGNING_KEY_UNAVAILABLE, TOKEN_KID
from authz.sealing import KeyEncryptionKey
from tests.fakes import FakeClock
from tests.identity_fakes import FakeKeys, document, reason_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from authz.identity.keys import KeySet
    from authz.identity.signing_keys import KeyRing

DAY_S = 86_400.0
SEALER = KeyEncryptionKey(b"k" * 32)


def keys_of(database: Database, algorithm: str = "EdDSA", sealer: KeyEncryptionKey = SEALER) -> SigningKeys:
    made = SigningKeys(database, sealer, Schedule(algorithm=algorithm, period_s=DAY_S))
    made.tend()
    return made


def states(keys: SigningKeys) -> list[KeyState]:
    ring, now_ns = keys.published()
    return [ring.state(key, now_ns) for key in ring.keys]


def rotate(database: Database, keys: SigningKeys, *, emergency: bool = False) -> KeyRing:
    with database.write() as connection:
        return keys.rotate(connection, emergency=emergency)


def sealed(database: Database) -> list[bytes | None]:
    with database.read() as connection:
        return list(connection.execute(select(KEYS.c.sealed_key).order_by(KEYS.c.number)).scalars())


@pytest.mark.parametrize("algorithm", jose.SIGNING_ALGORITHMS)
def test_what_a_stored_key_signs_verifies_by_its_published_half(database: Database, algorithm: str) -> None:
    keys = keys_of(database, algorithm)
    with database.read() as connection:
        key = keys.signer(connection)
    ring, now_ns = keys.published()
    signing = ring.signing(now_ns)
    assert signing is not None
    assert (signing.kid, signing.algorithm) == (key.kid, algorithm)
    assert not {"d", "k"} & signing.public_jwk.keys()
    assert jwks.parse(document(*(each.public_jwk for each in ring.published(now_ns)))).rejected == ()
    assert import_key(dict(signing.public_jwk)).thumbprint() == signing.kid


def test_instances_that_start_at_once_share_their_keys(database: Database) -> None:
    with ThreadPoolExecutor(6) as pool:
        made = list(pool.map(lambda _: keys_of(database), range(6)))
    assert len({tuple(key.kid for key in keys.published()[0].keys) for keys in made}) == 1
    assert states(made[0]) == [KeyState.SIGNING, KeyState.NEXT]


def test_private_keys_are_sealed_and_bound_to_their_row(database: Database) -> None:
    keys = keys_of(database)
    with database.read() as connection:
        private = str(keys.signer(connection).as_dict(private=True)["d"]).encode()
    first, second = sealed(database)
    assert first is not None
    assert private not in first
    with database.write() as connection:
        connection.execute(update(KEYS).where(KEYS.c.number == 1).values(sealed_key=second))
    assert unavailable(database, keys_of(database))


def test_another_key_encryption_key_opens_nothing(database: Database) -> None:
    keys_of(database)
    assert unavailable(database, keys_of(database, sealer=KeyEncryptionKey(b"x" * 32)))
    kept = KeyEncryptionKey(b"x" * 32, former=(b"k" * 32,))
    with database.read() as connection:
        assert keys_of(database, sealer=kept).signer(connection).kid


def unavailable(database: Database, keys: SigningKeys) -> bool:
    with database.read() as connection, pytest.raises(UnavailableError) as caught:
        keys.signer(connection)
    return caught.value.reason is SIGNING_KEY_UNAVAILABLE


def test_a_rotation_by_hand_lets_the_next_key_sign_and_keeps_the_old_one_published(database: Database) -> None:
    keys = keys_of(database)
    old, new = keys.published()[0].keys
    rotate(database, keys)
    assert states(keys) == [KeyState.RETIRING, KeyState.SIGNING, KeyState.NEXT]
    with database.read() as connection:
        assert keys.signer(connection).kid == new.kid
    ring, now_ns = keys.published()
    assert ring.find(old.kid, now_ns) is not None


def test_a_second_rotation_by_hand_waits_until_verifiers_know_the_key(database: Database) -> None:
    keys = keys_of(database)
    rotate(database, keys)
    ring = rotate(database, keys)
    assert states(keys) == [KeyState.RETIRING, KeyState.SIGNING, KeyState.NEXT]
    following = ring.keys[2]
    assert following.signs_from_ns == following.created_ns + int(LEAD_S * 1e9)


def test_an_emergency_withdraws_every_key_that_has_signed(database: Database) -> None:
    keys = keys_of(database)
    rotate(database, keys)
    with database.read() as connection:
        keys.signer(connection)
    ring = rotate(database, keys, emergency=True)
    assert states(keys) == [KeyState.WITHDRAWN, KeyState.WITHDRAWN, KeyState.SIGNING, KeyState.NEXT]
    assert sealed(database)[:2] == [None, None]
    with database.read() as connection:
        assert keys.signer(connection).kid == ring.keys[2].kid
    rotate(database, keys, emergency=True)
    assert states(keys)[-2:] == [KeyState.SIGNING, KeyState.NEXT]


def test_rotations_at_once_leave_one_key_that_signs(database: Database) -> None:
    keys = keys_of(database)

    def emergency(_: int) -> object:
        try:
            return rotate(database, keys, emergency=True)
        except Exception as error:  # noqa: BLE001 - another instance may be quicker, and says so
            return error

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(emergency, range(8)))
    assert states(keys)[-2:] == [KeyState.SIGNING, KeyState.NEXT]
    assert set(states(keys)[:-2]) == {KeyState.WITHDRAWN}


# --- under a clock that a test moves


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def timed(clock: FakeClock, sqlite_url: str) -> Iterator[Database]:
    opened = Database(sqlite_url, clock=clock)
    yield opened
    opened.close()


def test_a_key_that_has_retired_leaves_no_private_half(timed: Database, clock: FakeClock) -> None:
    keys = keys_of(timed)
    clock.advance(DAY_S + LINGER_S)
    keys.tend()
    assert states(keys) == [KeyState.RETIRED, KeyState.SIGNING, KeyState.NEXT]
    assert [each is None for each in sealed(timed)] == [True, False, False]


def test_d13_scheduled_rotation_loses_no_valid_request(timed: Database, clock: FakeClock) -> None:
    """A year of tokens, every hour one, at a verifier that reads the keys anew every 55 minutes or when it must."""
    keys = keys_of(timed)
    source = FakeKeys(read(keys))
    trusted = TrustedIssuer(issuer=Issuer(issuer="https://c", audience="authz", jwks="unused"), keys=source)
    verifier = TokenVerifier([trusted], clock=ClockGuard(clock))
    refused, rotations = [], set()
    for minute in range(0, 400 * 60, 5):
        clock.advance(300)
        if minute % 55 == 0:
            source.current = read(keys)
        if minute % 180 == 0:  # a keeper that looks seldom
            keys.tend()
        token, kid = minted(timed, keys, clock)
        rotations.add(kid)
        refused += [reason for reason in [reason_of(lambda token=token: verifier.verify(token))] if reason]  # type: ignore[misc]
    assert len(rotations) > 15
    assert refused == []
    assert source.refreshes == 0


def test_an_emergency_rotation_refuses_old_tokens_as_soon_as_the_keys_are_read(
    timed: Database, clock: FakeClock
) -> None:
    keys = keys_of(timed)
    source = FakeKeys(read(keys))
    trusted = TrustedIssuer(issuer=Issuer(issuer="https://c", audience="authz", jwks="unused"), keys=source)
    verifier = TokenVerifier([trusted], clock=ClockGuard(clock))
    old, _ = minted(timed, keys, clock)
    verifier.verify(old)
    rotate(timed, keys, emergency=True)
    fresh, _ = minted(timed, keys, clock)
    verifier.verify(fresh)  # its key was published before
    source.current = source.published = read(keys)
    assert reason_of(lambda: verifier.verify(old)) is TOKEN_KID
    verifier.verify(fresh)


def read(keys: SigningKeys) -> KeySet:
    ring, now_ns = keys.published()
    return jwks.parse(document(*(key.public_jwk for key in ring.published(now_ns))))


def minted(database: Database, keys: SigningKeys, clock: FakeClock) -> tuple[str, Any]:
    now = clock.unix_ns() // 1_000_000_000
    claims = {
        "iss": "https://c",
        "aud": "authz",
        "sub": "a",
        "tenant": "t",
        "jti": str(now),
        "iat": now,
        "exp": now + 900,
    }
    with database.read() as connection:
        key = keys.signer(connection)
    return jose.sign(key, typ="at+jwt", claims=claims), key.kid
