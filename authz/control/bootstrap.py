"""The first admin: where nobody could make operators, one credential is made.

Decides when: there is no admin of all tenants whose credential is good. So a fresh installation gets one, and so does
one whose admins have all expired, at a start by somebody who could change its database anyway. It is shown once and
expires; its hash alone is kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError

from authz.control.authentication import credential_sha256
from authz.control.callers import ALL_TENANTS, Grant, Role
from authz.control.operators_service import new_credential
from authz.control.operators_sql import OPERATORS, Operator, has_admin, insert_operator

if TYPE_CHECKING:
    from collections.abc import Callable

    from authz.database import Database

PREFIX: Final = "bootstrap-"


def first_credential(database: Database, random: Callable[[int], bytes], life_s: float) -> str | None:
    """A credential of a new admin; None where there is an admin already.

    Of several instances that start at once, one makes it: the id is the next number, and the database takes it once.

    Raises:
        UnavailableError: the database cannot be used.
    """
    credential = new_credential(random)
    try:
        with database.write() as connection:
            now_ns = database.now_ns(connection)
            # Counted first: whoever was quicker since then is either seen as an admin, or has taken the next number.
            made = OPERATORS.c.id.startswith(PREFIX, autoescape=True)
            count = connection.execute(select(func.count()).where(made)).scalar_one()
            if has_admin(connection, now_ns):
                return None
            admin = Operator(
                id=f"{PREFIX}{count + 1}",
                credential_sha256=credential_sha256(credential),
                grants=(Grant(Role.ADMIN, ALL_TENANTS),),
                expires_at_ns=now_ns + int(life_s * 1_000_000_000),
            )
            insert_operator(connection, admin, now_ns)
    except IntegrityError:
        return None
    return credential
