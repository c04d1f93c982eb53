"""What looks after signing keys and expired rows, over SQLite and a real PostgreSQL."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from authz.clock import SystemClock
from authz.control.token_issuer import LEASE, Keeper
from authz.database import Lease
from authz.identity.signing_keys import Schedule
from authz.identity.signing_keys_sql import SigningKeys
from authz.identity.tokens_sql import LiveToken, LiveTokens
from authz.sealing import KeyEncryptionKey
from tests.e2e.stack import eventually

if TYPE_CHECKING:
    from authz.database import Database


def keeper(database: Database, holder: str) -> Keeper:
    keys = SigningKeys(database, KeyEncryptionKey(b"k" * 32), Schedule())
    lease = Lease(database, LEASE, holder, clock=SystemClock())
    return Keeper(keys, LiveTokens(database), database, lease, every_s=0.05)


def add_expired(database: Database) -> None:
    dead = LiveToken(
        jti_sha256="dead", tenant="t", agent="a", client="a", credential="c", expires_ns=time.time_ns() - 10**9
    )
    with database.write() as connection:
        LiveTokens(database).add(connection, dead)


def is_pruned(database: Database) -> bool:
    with database.write() as connection:
        taken = LiveTokens(database).revoke(connection, "dead")
    with database.read() as connection:
        rows = connection.exec_driver_sql("SELECT count(*) FROM access_tokens").scalar_one()
    return not taken and rows == 0


def test_there_is_a_key_to_sign_with_as_soon_as_a_keeper_has_started(database: Database) -> None:
    kept = keeper(database, "one")
    kept.start()
    try:
        with database.read() as connection:
            assert SigningKeys(database, KeyEncryptionKey(b"k" * 32), Schedule()).signer(connection).kid
    finally:
        kept.stop()


def test_the_keeper_with_the_lease_forgets_what_has_expired(database: Database) -> None:
    kept = keeper(database, "one")
    kept.start()
    try:
        add_expired(database)
        eventually(lambda: is_pruned(database))
    finally:
        kept.stop()


def test_a_keeper_without_the_lease_leaves_the_work_to_who_has_it(database: Database) -> None:
    other = Lease(database, LEASE, "another", clock=SystemClock())
    assert other.take()
    kept = keeper(database, "one")
    kept.start()
    try:
        add_expired(database)
        time.sleep(0.5)  # ten times its interval: that nothing happens has no other sign
        assert not is_pruned(database)
        other.release()
        eventually(lambda: is_pruned(database))
    finally:
        kept.stop()
