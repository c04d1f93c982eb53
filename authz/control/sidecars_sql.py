"""Sidecars in the database: invitations, and who has joined.

Decides that an invitation is good once, whoever races for it: the row is taken by one conditional UPDATE, and the
sidecar is added in the same transaction. A removed sidecar's row stays, so that its id is never given to another.
Must never hold a token, a password or a private key: hashes alone. Asks the database for the time, so that instances
agree on what has expired.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import BigInteger, Column, Table, Text, and_, insert, select, update

from authz.database import METADATA
from authz.model import PLATFORM

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy import ColumnElement, Connection, Row

    from authz.database import Database


INVITATIONS: Final = Table(
    "invitations",
    METADATA,
    Column("secret_sha256", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("tenants", Text, nullable=False),
    Column("fingerprint", Text, nullable=False),
    Column("expires_at_ns", BigInteger, nullable=False),
    Column("used_at_ns", BigInteger),
)
SIDECARS: Final = Table(
    "sidecars",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("tenants", Text, nullable=False),
    Column("enrolled_at_ns", BigInteger, nullable=False),
    Column("certificate_expires_at_ns", BigInteger, nullable=False),
    Column("redis_password_sha256", Text, nullable=False),
    Column("removed_at_ns", BigInteger),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sidecar:
    """One that has joined."""

    id: str
    tenants: tuple[str, ...]
    """None at all stands for every tenant."""
    enrolled_at_ns: int
    certificate_expires_at_ns: int
    redis_password_sha256: str
    removed_at_ns: int | None

    def follows(self, stream: str) -> bool:
        """Whether it may read this stream: its tenants' and the platform's."""
        return stream == PLATFORM or not self.tenants or stream in self.tenants


class Sidecars:
    """The tables, as values."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def invite(self, secret_sha256: str, *, name: str, tenants: Sequence[str], fingerprint: str, life_ns: int) -> int:
        """Keep an invitation; when it ends, in nanoseconds since the epoch."""
        with self._database.write() as connection:
            expires_at_ns = self._database.now_ns(connection) + life_ns
            row = {
                "secret_sha256": secret_sha256,
                "name": name,
                "tenants": _written(tenants),
                "fingerprint": fingerprint,
                "expires_at_ns": expires_at_ns,
            }
            connection.execute(insert(INVITATIONS).values(row))
        return expires_at_ns

    def enrol(
        self,
        secret_sha256: str,
        *,
        fingerprint: str,
        new_id: Callable[[str], str],
        password_sha256: str,
        life_ns: int,
    ) -> Sidecar | None:
        """Take the invitation and add the sidecar, both or neither.

        Args:
            secret_sha256: of the token's secret.
            fingerprint: of the authority that signs now.
            new_id: makes an id of the invitation's name.
            password_sha256: of its account at Redis.
            life_ns: of its first certificate.

        Returns:
            None where there is no such invitation, it is used or over, or another authority signs by now.
        """
        with self._database.write() as connection:
            now_ns = self._database.now_ns(connection)
            taken = _take(connection, secret_sha256, fingerprint, now_ns)
            if taken is None:
                return None
            row = {
                "id": new_id(taken.name),
                "tenants": taken.tenants,
                "enrolled_at_ns": now_ns,
                "certificate_expires_at_ns": now_ns + life_ns,
                "redis_password_sha256": password_sha256,
            }
            return _sidecar(connection.execute(insert(SIDECARS).values(row).returning(*SIDECARS.c)).one())

    def find(self, sidecar: str) -> Sidecar | None:
        """A sidecar that may be answered: one that has joined and was not removed."""
        with self._database.read() as connection:
            row = connection.execute(select(SIDECARS).where(_present(sidecar))).one_or_none()
        return _sidecar(row) if row else None

    def renewed(self, sidecar: str, life_ns: int) -> None:
        """Note that its certificate ends later."""
        with self._database.write() as connection:
            ends_ns = self._database.now_ns(connection) + life_ns
            connection.execute(update(SIDECARS).where(_present(sidecar)).values(certificate_expires_at_ns=ends_ns))

    def remove(self, sidecar: str) -> Sidecar | None:
        """End its membership; None where there is no such sidecar, or it is removed already."""
        with self._database.write() as connection:
            now_ns = self._database.now_ns(connection)
            removed = connection.execute(
                update(SIDECARS).where(_present(sidecar)).values(removed_at_ns=now_ns).returning(*SIDECARS.c)
            ).one_or_none()
        return _sidecar(removed) if removed else None

    def present(self) -> list[Sidecar]:
        """All that have joined and were not removed; the oldest first."""
        present = select(SIDECARS).where(SIDECARS.c.removed_at_ns.is_(None)).order_by(SIDECARS.c.enrolled_at_ns)
        with self._database.read() as connection:
            return [_sidecar(row) for row in connection.execute(present)]

    def following(self, stream: str) -> list[Sidecar]:
        """Those of `present` that may read this stream."""
        return [sidecar for sidecar in self.present() if sidecar.follows(stream)]


def _take(connection: Connection, secret_sha256: str, fingerprint: str, now_ns: int) -> Row[tuple[str, str]] | None:
    # One statement decides: of two that race, the second finds `used_at_ns` set.
    good = and_(
        INVITATIONS.c.secret_sha256 == secret_sha256,
        INVITATIONS.c.fingerprint == fingerprint,
        INVITATIONS.c.used_at_ns.is_(None),
        INVITATIONS.c.expires_at_ns > now_ns,
    )
    what = (INVITATIONS.c.name, INVITATIONS.c.tenants)
    return connection.execute(update(INVITATIONS).where(good).values(used_at_ns=now_ns).returning(*what)).one_or_none()


def _present(sidecar: str) -> ColumnElement[bool]:
    return and_(SIDECARS.c.id == sidecar, SIDECARS.c.removed_at_ns.is_(None))


def _written(tenants: Sequence[str]) -> str:
    return json.dumps(sorted(set(tenants)))


def _sidecar(row: Row[Any]) -> Sidecar:
    return Sidecar(
        id=row.id,
        tenants=tuple(json.loads(row.tenants)),
        enrolled_at_ns=row.enrolled_at_ns,
        certificate_expires_at_ns=row.certificate_expires_at_ns,
        redis_password_sha256=row.redis_password_sha256,
        removed_at_ns=row.removed_at_ns,
    )
