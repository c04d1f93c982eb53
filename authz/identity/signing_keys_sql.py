"""The signing keys of access tokens in the database, their private halves sealed.

Decides that there is always one to sign with and a next one published: whoever tends adds what `signing_keys` says is
due, and of two instances that tend at once, one wins by the key's number and both use what it made. Must never write a
private key that is not sealed, and keeps none that signs no more.
"""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import BigInteger, Column, Index, LargeBinary, Table, Text, and_, insert, select, update
from sqlalchemy.exc import IntegrityError

from authz.database import METADATA
from authz.errors import ConfigError, UnavailableError
from authz.identity import jose
from authz.identity.signing_keys import KeyRing, KeyState, SigningKey
from authz.reasons import SIGNING_KEY_UNAVAILABLE

if TYPE_CHECKING:
    from sqlalchemy import Connection, Row

    from authz.database import Database
    from authz.identity.jose import PrivateKey
    from authz.identity.signing_keys import Schedule
    from authz.sealing import Sealer

KEYS: Final = Table(
    "signing_keys",
    METADATA,
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("kid", Text, nullable=False),
    Column("algorithm", Text, nullable=False),
    Column("public_jwk", Text, nullable=False),
    Column("sealed_key", LargeBinary, nullable=True),
    Column("created_ns", BigInteger, nullable=False),
    Column("signs_from_ns", BigInteger, nullable=False),
    Column("withdrawn_ns", BigInteger, nullable=True),
    Index("uq_signing_keys_kid", "kid", unique=True),
)


class SigningKeys:
    """The keys of one installation; safe to use from any number of threads and instances."""

    def __init__(self, database: Database, sealer: Sealer, schedule: Schedule) -> None:
        self._database = database
        self._sealer = sealer
        self._schedule = schedule
        # A key's row never gets another key: what was opened once need not be opened again.
        self._opened: dict[str, PrivateKey] = {}

    def ring(self, connection: Connection) -> KeyRing:
        """All keys, as they are now."""
        return KeyRing(map(_key, connection.execute(select(KEYS))))

    def published(self) -> tuple[KeyRing, int]:
        """All keys and the time, for who publishes them.

        Raises:
            UnavailableError: the database cannot be used.
        """
        with self._database.read() as connection:
            return self.ring(connection), self._database.now_ns(connection)

    def signer(self, connection: Connection) -> PrivateKey:
        """The private key to sign with now, within the transaction that writes down what it signs.

        Raises:
            UnavailableError: SIGNING_KEY_UNAVAILABLE; there is none, or it cannot be opened.
        """
        signing = self.ring(connection).signing(self._database.now_ns(connection))
        if signing is None:
            raise UnavailableError(SIGNING_KEY_UNAVAILABLE)
        return self._open(connection, signing)

    def tend(self) -> None:
        """Make the keys that are due, and forget private halves that sign no more. Quick where nothing is to be done.

        Raises:
            UnavailableError: the database cannot be used.
        """
        with self._database.read() as connection:
            rows, now_ns = connection.execute(select(KEYS)).all(), self._database.now_ns(connection)
        ring = KeyRing(map(_key, rows))
        held = {row.kid for row in rows if row.sealed_key is not None}
        over = {key.kid for key in ring.keys if ring.state(key, now_ns) in (KeyState.RETIRED, KeyState.WITHDRAWN)}
        for kid in over & self._opened.keys():
            del self._opened[kid]
        if over & held:
            with self._database.write() as connection:
                connection.execute(update(KEYS).where(KEYS.c.kid.in_(over)).values(sealed_key=None))
        if self._schedule.due(ring, now_ns):
            with suppress(IntegrityError), self._database.write() as connection:  # another instance was first
                self._make_due(connection)

    def rotate(self, connection: Connection, *, emergency: bool) -> KeyRing:
        """Let the next key sign: as soon as verifiers know it, or in an emergency at once.

        An emergency withdraws every key that has signed: what they signed is dead.

        Raises:
            IntegrityError: SQLAlchemy's; another instance was at it in the same moment.
        """
        connection.execute(select(KEYS.c.number).with_for_update())
        self._make_due(connection)
        ring, now_ns = self.ring(connection), self._database.now_ns(connection)
        following = ring.next(now_ns)
        if following is None:
            raise UnavailableError(SIGNING_KEY_UNAVAILABLE)
        signs_from_ns = now_ns if emergency else self._schedule.earliest(ring, following, now_ns)
        sooner = and_(KEYS.c.number == following.number, KEYS.c.signs_from_ns > signs_from_ns)
        connection.execute(update(KEYS).where(sooner).values(signs_from_ns=signs_from_ns))
        if emergency:
            used = and_(KEYS.c.number < following.number, KEYS.c.withdrawn_ns.is_(None))
            connection.execute(update(KEYS).where(used).values(withdrawn_ns=now_ns, sealed_key=None))
        self._make_due(connection)
        return self.ring(connection)

    def _make_due(self, connection: Connection) -> None:
        ring, now_ns = self.ring(connection), self._database.now_ns(connection)
        first = ring.keys[-1].number + 1 if ring.keys else 1
        for number, signs_from_ns in enumerate(self._schedule.due(ring, now_ns), first):
            key = jose.generate(self._schedule.algorithm)
            public = jose.public_jwk(key)
            row = {
                "number": number,
                "kid": public["kid"],
                "algorithm": self._schedule.algorithm,
                "public_jwk": json.dumps(public, sort_keys=True),
                "sealed_key": self._sealer.seal(jose.private_text(key), _purpose(public["kid"])),
                "created_ns": now_ns,
                "signs_from_ns": signs_from_ns,
            }
            connection.execute(insert(KEYS).values(row))

    def _open(self, connection: Connection, signing: SigningKey) -> PrivateKey:
        if (opened := self._opened.get(signing.kid)) is not None:
            return opened
        sealed = connection.execute(select(KEYS.c.sealed_key).where(KEYS.c.kid == signing.kid)).scalar_one()
        try:
            key = jose.read_private(self._sealer.unseal(sealed or b"", _purpose(signing.kid)))
        except ConfigError as error:
            raise UnavailableError(SIGNING_KEY_UNAVAILABLE, str(error)) from None
        self._opened[signing.kid] = key
        return key


def _purpose(kid: str) -> str:
    return f"signing key {kid}"


def _key(row: Row[Any]) -> SigningKey:
    return SigningKey(
        number=row.number,
        kid=row.kid,
        algorithm=row.algorithm,
        public_jwk=json.loads(row.public_jwk),
        created_ns=row.created_ns,
        signs_from_ns=row.signs_from_ns,
        withdrawn_ns=row.withdrawn_ns,
    )
