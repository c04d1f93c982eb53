"""The one MetaData, and tables that only grow.

Decides nothing about rows. What is append-only is protected by the database itself, so that no statement of ours, nor
one of an operator's in a hurry, rewrites what was acknowledged. Whoever owns the database can still drop a trigger:
that is not defended here.
"""

from __future__ import annotations

from typing import Final

from alembic import op
from sqlalchemy import MetaData

METADATA: Final = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)
"""Every room's tables. The names of constraints are the same in both databases."""

_REFUSE_ON_POSTGRESQL: Final = """
CREATE OR REPLACE FUNCTION authz_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'integrity_constraint_violation';
END $$
"""


def append_only(table: str) -> None:
    """Within a migration: let rows of `table` be inserted and never changed or removed.

    A statement that tries raises `IntegrityError`.
    """
    if op.get_bind().dialect.name == "sqlite":
        for event in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER {table}_no_{event.lower()} BEFORE {event} ON {table} "
                f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
            )
        return
    op.execute(_REFUSE_ON_POSTGRESQL)
    for event, each in (("UPDATE OR DELETE", "ROW"), ("TRUNCATE", "STATEMENT")):
        name = f"{table}_no_{event.split()[0].lower()}"
        op.execute(
            f"CREATE TRIGGER {name} BEFORE {event} ON {table} FOR EACH {each} EXECUTE FUNCTION authz_append_only()"
        )
