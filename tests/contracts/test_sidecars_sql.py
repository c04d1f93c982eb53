"""Invitations, sidecars and authorities, over SQLite and a real PostgreSQL."""

from __future__ import annotations

import hashlib
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select, update

from authz.control.authorities_sql import AUTHORITIES, Authorities
from authz.control.certificates import AUTHORITY_LIFE, AUTHORITY_TURN
from authz.control.sidecars_sql import INVITATIONS, Sidecars
from authz.database import Database, migrate
from authz.enrolment.names import fingerprint
from authz.errors import ConfigError
from authz.sealing import KEY_BYTES, KeyEncryptionKey
from tests.fakes import FakeClock

if TYPE_CHECKING:
    from pathlib import Path

    from authz.control.sidecars_sql import Sidecar

HOUR_NS = 3_600_000_000_000
SEALER = KeyEncryptionKey(b"k" * KEY_BYTES)
SECRET = hashlib.sha256(b"secret").hexdigest()


@pytest.fixture
def sidecars(database: Database) -> Sidecars:
    return Sidecars(database)


def invite(sidecars: Sidecars, secret: str = SECRET, *tenants: str, life_ns: int = HOUR_NS) -> None:
    sidecars.invite(secret, name="edge", tenants=tenants, fingerprint="f1", life_ns=life_ns)


def enrol(sidecars: Sidecars, secret: str = SECRET, sidecar: str = "edge-1", signer: str = "f1") -> Sidecar | None:
    return sidecars.enrol(
        secret, fingerprint=signer, new_id=lambda name: f"{name}/{sidecar}", password_sha256="p", life_ns=24 * HOUR_NS
    )


def joined(sidecars: Sidecars, sidecar: str, *tenants: str) -> str:
    invite(sidecars, sidecar, *tenants)
    added = enrol(sidecars, sidecar, sidecar)
    assert added is not None
    return added.id


def test_an_invitation_is_good_once(sidecars: Sidecars) -> None:
    invite(sidecars, SECRET, "globex", "acme", "acme")
    added = enrol(sidecars)
    assert added is not None
    assert (added.id, added.tenants) == ("edge/edge-1", ("acme", "globex"))
    assert added.certificate_expires_at_ns - added.enrolled_at_ns == 24 * HOUR_NS
    assert enrol(sidecars, sidecar="edge-2") is None
    assert [each.id for each in sidecars.present()] == [added.id]


def test_of_many_that_race_for_an_invitation_one_wins(sidecars: Sidecars) -> None:
    invite(sidecars)
    start = threading.Barrier(8)

    def race(number: int) -> bool:
        start.wait()
        return enrol(sidecars, sidecar=f"edge-{number}") is not None

    with ThreadPoolExecutor(8) as racers:
        assert sum(racers.map(race, range(8))) == 1
    assert len(sidecars.present()) == 1


def test_an_invitation_that_is_over_unknown_or_anothers_authoritys_is_none(sidecars: Sidecars) -> None:
    invite(sidecars, "over", life_ns=0)
    invite(sidecars)
    assert enrol(sidecars, "over") is None
    assert enrol(sidecars, "unknown") is None
    assert enrol(sidecars, signer="f2") is None
    # What was refused for its authority is not used up.
    assert enrol(sidecars) is not None


def test_an_id_that_cannot_be_made_leaves_the_invitation_good(sidecars: Sidecars) -> None:
    def broken(name: str) -> str:
        raise RuntimeError(name)

    invite(sidecars)
    with pytest.raises(RuntimeError):
        sidecars.enrol(SECRET, fingerprint="f1", new_id=broken, password_sha256="p", life_ns=1)
    assert enrol(sidecars) is not None


def test_the_database_holds_no_token(sidecars: Sidecars, database: Database) -> None:
    invite(sidecars)
    with database.read() as connection:
        assert connection.execute(select(INVITATIONS.c.secret_sha256)).scalars().all() == [SECRET]


def test_a_removed_sidecar_is_not_found_and_its_id_is_not_given_again(sidecars: Sidecars) -> None:
    identity = joined(sidecars, "a", "acme")
    assert sidecars.find(identity) is not None
    removed = sidecars.remove(identity)
    assert removed is not None
    assert removed.removed_at_ns is not None
    assert sidecars.find(identity) is None
    assert sidecars.remove(identity) is None
    assert sidecars.present() == []
    sidecars.renewed(identity, HOUR_NS)
    assert sidecars.present() == []
    invite(sidecars, "again")
    with pytest.raises(Exception, match=r"UNIQUE|duplicate key"):
        enrol(sidecars, "again", "a")


def test_e10_a_sidecar_follows_its_tenants_and_the_platform_and_no_other(sidecars: Sidecars) -> None:
    one, every = joined(sidecars, "a", "acme"), joined(sidecars, "b")
    followed = {stream: [each.id for each in sidecars.following(stream)] for stream in ("", "acme", "acm", "Acme", "*")}
    assert followed == {"": [one, every], "acme": [one, every], "acm": [every], "Acme": [every], "*": [every]}


def test_the_first_authority_is_made_once_by_instances_that_start_together(database: Database) -> None:
    start = threading.Barrier(4)

    def begin(_: int) -> bytes:
        start.wait()
        return fingerprint(Authorities(database, SEALER).signing().certificate)

    with ThreadPoolExecutor(4) as instances:
        assert len(set(instances.map(begin, range(4)))) == 1


def test_keys_lie_sealed_and_another_key_opens_none(database: Database) -> None:
    signer = Authorities(database, SEALER).signing()
    with database.read() as connection:
        sealed = connection.execute(select(AUTHORITIES.c.sealed_key)).scalar_one()
    secret = signer.key.private_numbers().private_value.to_bytes(32, "big")
    assert secret not in sealed
    with pytest.raises(ConfigError, match="cannot be opened"):
        Authorities(database, KeyEncryptionKey(os.urandom(KEY_BYTES))).signing()


def test_a_key_put_beside_anothers_certificate_is_refused(database: Database, tmp_path: Path) -> None:
    Authorities(database, SEALER).signing()
    other = Database(f"sqlite:///{tmp_path / 'other.db'}")
    migrate(other)
    foreign = Authorities(other, SEALER)
    foreign.signing()
    with other.read() as connection:
        theirs = connection.execute(select(AUTHORITIES.c.sealed_key)).scalar_one()
    other.close()
    with database.write() as connection:
        connection.execute(update(AUTHORITIES).values(sealed_key=theirs))
    with pytest.raises(ConfigError):
        Authorities(database, SEALER).signing()


def test_rotation_overlaps_the_next_is_a_root_before_it_signs(sqlite_url: str) -> None:
    clock = FakeClock()
    database = Database(sqlite_url, clock=clock)
    authorities = Authorities(database, SEALER)
    first = authorities.signing().certificate
    clock.advance((AUTHORITY_LIFE - AUTHORITY_TURN).total_seconds() + 1)
    assert authorities.signing().certificate == first
    assert len(authorities.roots()) == 2
    clock.advance(3 * 24 * 3600)
    second = authorities.signing().certificate
    assert second != first
    assert authorities.roots() == [first, second]
    clock.advance(AUTHORITY_TURN.total_seconds())
    assert first not in authorities.roots()
    assert Authorities(database, SEALER).signing().certificate == second
    database.close()
