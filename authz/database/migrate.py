"""Bring the schema up to this release.

Decides that every room's line of migrations is run to its end, all in one transaction: a start that fails half way
leaves the schema as it was. Instances that start at once stand in line, and the later ones find nothing to do. Must
never go backwards: a database that a newer release has migrated is refused.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import text

from authz.errors import ConfigError

if TYPE_CHECKING:
    from authz.database.engine import Database

SCRIPTS: Final = Path(__file__).parent / "migrations"
_LOCK: Final = 0x617574687A  # "authz": one number for all instances of PostgreSQL's advisory lock


def migrate(database: Database) -> None:
    """Run what has not been run.

    Raises:
        ConfigError: the database is a newer release's, or one that acknowledges what it may lose.
        UnavailableError: it cannot be used.
    """
    database.require_durable()
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    with database.write() as connection:
        if not database.is_sqlite:
            connection.execute(text("SET LOCAL lock_timeout = 0"))  # another instance may be long at it
            connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": _LOCK})
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, "heads")
        except CommandError as error:
            raise ConfigError(
                f"the database's schema is not one of this release: {error}",
                remedy="run the release that migrated it, or a newer one",
            ) from None
