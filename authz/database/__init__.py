"""The control plane's database: SQLite by default, PostgreSQL by URL, the same statements over both.

Decides how a connection is opened, what a transaction promises, how the schema moves forward and who leads. Holds no
table but its own (`leases`): each room defines its tables beside its statements, in a module named `*_sql.py`, with
SQLAlchemy's Core alone. Must never answer from memory what other instances may have changed.

How a room adds tables:

1. In `authz/ROOM/NAME_sql.py`: `KILLS = Table("kills", METADATA, Column(…))`, with `METADATA` of `authz.database`.
   Instants are `BigInteger` columns of nanoseconds since the epoch, named `…_ns`; identifiers are `Text`: both
   databases compare them byte for byte.
2. A migration in `authz/database/migrations/versions/ROOM_0001_what.py`. Each room has a line of its own, so that
   two rooms never wait for one another: the first has `revision = "ROOM_0001"`, `down_revision = None` and
   `branch_labels = ("ROOM",)`, each later one names the one before it; `depends_on` names another room's revision
   where a foreign key needs it. Migrations spell their columns out and import no table; they only go forward.
   `append_only("kills")` there makes the database refuse every UPDATE, DELETE and TRUNCATE.
3. Statements run in `with database.write() as connection:` (one at a time on SQLite; rows that are read to be
   changed need `.with_for_update()` on PostgreSQL) or `with database.read() as connection:` (one snapshot). The
   transaction is committed, to the disk, when the block ends: acknowledge after it and never within. A database that
   cannot be used raises `UnavailableError`; a constraint raises SQLAlchemy's `IntegrityError`.
4. Tests take the fixture `database` (tests/databases.py): they run once on each. `tests/contracts/test_database.py`
   holds the migrations to the tables of every `*_sql.py`.
"""

from __future__ import annotations

from authz.database.engine import Database
from authz.database.leases import Election, Lease, LeaseLostError
from authz.database.migrate import migrate
from authz.database.schema import METADATA, append_only

__all__ = ["METADATA", "Database", "Election", "Lease", "LeaseLostError", "append_only", "migrate"]
