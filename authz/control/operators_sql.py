"""Operators and their grants in the database.

Decides nothing about permissions. An id is never given twice and a removed operator's row stays, without what it was
known by: the record of actions and the two signers of a guarded kill must stay unambiguous. Of a credential only the
SHA-256 is kept: it is 256 random bits, so no slower hash would add anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Table,
    Text,
    UniqueConstraint,
    delete,
    exists,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError

from authz.control.callers import ALL_TENANTS, Grant, Role
from authz.control.refusals import Code, RefusedError
from authz.database import METADATA
from authz.reasons import OPERATOR_EXISTS, OPERATOR_LAST, OPERATOR_UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import ColumnElement, Connection

    from authz.database import Database

OPERATORS: Final = Table(
    "operators",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("issuer", Text),
    Column("subject", Text),
    Column("certificate_san", Text),
    Column("credential_sha256", Text),
    Column("automatic", Boolean, nullable=False),
    Column("created_at_ns", BigInteger, nullable=False),
    Column("expires_at_ns", BigInteger),
    Column("removed_at_ns", BigInteger),
    UniqueConstraint("issuer", "subject"),
    UniqueConstraint("certificate_san"),
    UniqueConstraint("credential_sha256"),
)
GRANTS: Final = Table(
    "operator_grants",
    METADATA,
    Column("operator", Text, ForeignKey("operators.id"), primary_key=True),
    Column("role", Text, primary_key=True),
    Column("tenant", Text, primary_key=True),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """One operator. Known by exactly one of a token's subject, a certificate's name, and a credential's hash.

    Args:
        expires_at_ns: nanoseconds since the epoch; None for one that does not end by itself.
    """

    id: str
    issuer: str | None = None
    subject: str | None = None
    certificate_san: str | None = None
    credential_sha256: str | None = None
    grants: tuple[Grant, ...] = ()
    automatic: bool = False
    created_at_ns: int = 0
    expires_at_ns: int | None = None


class Operators:
    """The operators of one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def by_credential(self, sha256: str) -> Operator | None:
        """The one with this credential, expired or not."""
        return self._one(OPERATORS.c.credential_sha256 == sha256)

    def by_subject(self, issuer: str, subject: str) -> Operator | None:
        """The one that a token of `issuer` names."""
        return self._one((OPERATORS.c.issuer == issuer) & (OPERATORS.c.subject == subject))

    def by_certificate(self, names: Iterable[str]) -> Operator | None:
        """The one that a certificate with these names stands for; nobody, where they stand for several."""
        with self._database.read() as connection:
            found = self._read(connection, OPERATORS.c.certificate_san.in_(list(names)))
        return found[0] if len(found) == 1 else None

    def list(self) -> tuple[Operator, ...]:
        """All that were not removed, by id."""
        with self._database.read() as connection:
            return self._read(connection, OPERATORS.c.removed_at_ns.is_(None))

    def add(self, operator: Operator) -> Operator:
        """Add one; its time of creation is set here.

        Raises:
            RefusedError: ALREADY_EXISTS, where its id or what it is known by was given before.
        """
        try:
            with self._database.write() as connection:
                return insert_operator(connection, operator, self._database.now_ns(connection))
        except IntegrityError:
            raise RefusedError(Code.ALREADY_EXISTS, OPERATOR_EXISTS) from None

    def remove(self, operator_id: str) -> Operator:
        """Remove one: it is refused from now on.

        Raises:
            RefusedError: NOT_FOUND, or FAILED_PRECONDITION for the last admin of all tenants.
        """
        with self._database.write() as connection:
            # Every admin's row is locked: two that remove one another at once must not both succeed.
            now_ns = self._database.now_ns(connection)
            admins = set(connection.execute(_admins(now_ns).with_for_update()).scalars())
            live = (OPERATORS.c.id == operator_id) & OPERATORS.c.removed_at_ns.is_(None)
            found = self._read(connection, live)
            if not found:
                raise RefusedError(Code.NOT_FOUND, OPERATOR_UNKNOWN)
            if admins == {operator_id}:
                raise RefusedError(Code.FAILED_PRECONDITION, OPERATOR_LAST)
            connection.execute(delete(GRANTS).where(GRANTS.c.operator == operator_id))
            forgotten: dict[str, Any] = dict.fromkeys(("issuer", "subject", "certificate_san", "credential_sha256"))
            connection.execute(update(OPERATORS).where(live).values(**forgotten, removed_at_ns=now_ns))
        return found[0]

    def _one(self, condition: ColumnElement[bool]) -> Operator | None:
        with self._database.read() as connection:
            found = self._read(connection, condition)
        return found[0] if found else None

    @staticmethod
    def _read(connection: Connection, condition: ColumnElement[bool]) -> tuple[Operator, ...]:
        rows = connection.execute(select(OPERATORS).where(condition).order_by(OPERATORS.c.id)).all()
        wanted = GRANTS.c.operator.in_([row.id for row in rows])
        grants: dict[str, list[Grant]] = {row.id: [] for row in rows}
        for held in connection.execute(select(GRANTS).where(wanted).order_by(GRANTS.c.tenant, GRANTS.c.role)):
            grants[held.operator].append(Grant(Role(held.role), held.tenant))
        return tuple(
            Operator(
                id=row.id,
                issuer=row.issuer,
                subject=row.subject,
                certificate_san=row.certificate_san,
                credential_sha256=row.credential_sha256,
                grants=tuple(grants[row.id]),
                automatic=row.automatic,
                created_at_ns=row.created_at_ns,
                expires_at_ns=row.expires_at_ns,
            )
            for row in rows
        )


def insert_operator(connection: Connection, operator: Operator, now_ns: int) -> Operator:
    """Within a transaction.

    Raises:
        IntegrityError: SQLAlchemy's, where it or what it is known by is there already.
    """
    names = ("id", "issuer", "subject", "certificate_san", "credential_sha256", "automatic", "expires_at_ns")
    values = {name: getattr(operator, name) for name in names}
    connection.execute(insert(OPERATORS).values(**values, created_at_ns=now_ns))
    rows = [{"operator": operator.id, "role": each.role.value, "tenant": each.tenant} for each in operator.grants]
    connection.execute(insert(GRANTS), rows)
    return Operator(**values, grants=operator.grants, created_at_ns=now_ns)


def has_admin(connection: Connection, now_ns: int) -> bool:
    """Whether anybody can still make operators."""
    return connection.execute(_admins(now_ns)).first() is not None


def _admins(now_ns: int) -> Any:  # noqa: ANN401 - SQLAlchemy's type names each column
    """Ids of the admins of all tenants whose credentials are good."""
    grant = (GRANTS.c.role == Role.ADMIN.value) & (GRANTS.c.tenant == ALL_TENANTS)
    lives = or_(OPERATORS.c.expires_at_ns.is_(None), OPERATORS.c.expires_at_ns > now_ns)
    return select(OPERATORS.c.id).where(
        lives, OPERATORS.c.removed_at_ns.is_(None), exists().where(grant, GRANTS.c.operator == OPERATORS.c.id)
    )
