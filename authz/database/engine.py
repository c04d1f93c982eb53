"""One database and its transactions.

Decides how durable and how isolated they are. A write that returned is on the disk: SQLite runs in WAL mode with
`synchronous=FULL`, and a PostgreSQL that was told not to sync is refused. Writers stand in line on SQLite (`BEGIN
IMMEDIATE`, so that none fails half way for a lock) and take row locks on PostgreSQL; a read sees one snapshot on both.
Must never hide a failure: a full disk, a lost connection or a wait for a lock that took too long is an
`UnavailableError`, and then nothing was acknowledged.

Trusts the database with what is written. Shows no statement's parameters in any error: they hold secrets' hashes.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import create_engine, event, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DataError, DBAPIError, IntegrityError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from authz.clock import SystemClock
from authz.errors import ConfigError, UnavailableError
from authz.loopback import is_loopback
from authz.reasons import DATABASE_UNAVAILABLE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import URL, Connection, Dialect, Engine, Insert

    from authz.clock import Clock

log: Final = logging.getLogger(__name__)
BUSY_S: Final = 5.0
CONNECT_S: Final = 5
_BUSY_PAUSE_S: Final = 0.01
STATEMENT_S: Final = 30.0
"""Longest statement on PostgreSQL."""
CONNECTIONS: Final = 16
"""Open connections of one instance."""
_WRITES: Final = {"authz_writes": True}
_PRAGMAS: Final = (
    "synchronous = FULL",
    "foreign_keys = ON",
    "recursive_triggers = ON",  # or INSERT OR REPLACE would pass by the triggers of append-only tables
)
_TLS_MODES: Final = ("require", "verify-ca", "verify-full")


class Database:
    """A database by its URL: `sqlite:///FILE` or `postgresql://…`. Safe to use from any number of threads.

    Args:
        url: where it is; a file of SQLite is made if need be, readable by its owner alone.
        clock: says what time it is on SQLite. PostgreSQL has a clock of its own, the same for every instance.
        busy_s: longest wait for another writer, for a row's lock, or for a connection.

    Raises:
        ConfigError: another kind of URL, one in memory, or plaintext to another machine.
    """

    def __init__(self, url: str, *, clock: Clock | None = None, busy_s: float = BUSY_S) -> None:
        self._clock = clock or SystemClock()
        try:
            parsed = make_url(url)
        except ArgumentError:
            raise ConfigError("the database is not given as a URL", remedy="such as sqlite:///control.db") from None
        self.is_sqlite = parsed.get_backend_name() == "sqlite"
        self.url: Final = parsed.render_as_string(hide_password=True)
        self._engine = _sqlite(parsed, busy_s) if self.is_sqlite else _postgresql(parsed, busy_s)
        dialect: Any = sqlite.dialect if self.is_sqlite else postgresql.dialect
        self._by_place: Final[Dialect] = dialect(paramstyle="qmark" if self.is_sqlite else "format")

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that is on the disk when the block ends, and undone if it raises.

        Raises:
            UnavailableError: it could not be begun, carried out or committed; nothing may be acknowledged.
            IntegrityError: SQLAlchemy's; a constraint or an append-only table refused.
        """
        with _failures_named(), self._engine.connect().execution_options(**_WRITES) as connection, connection.begin():
            yield connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """One snapshot, in which nothing can be written.

        Raises:
            UnavailableError: it could not be read.
        """
        options = {} if self.is_sqlite else {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
        with _failures_named(), self._engine.connect().execution_options(**options) as connection, connection.begin():
            yield connection

    def by_place(self, statement: Insert) -> str:
        """An INSERT of whole rows in the driver's own words, for `exec_driver_sql` with a list of tuples.

        Very many rows cost a third so: `execute` binds each value by its name.
        """
        return str(statement.compile(dialect=self._by_place))

    def now_ns(self, connection: Connection) -> int:
        """The time that every instance on this database agrees on, in nanoseconds since the epoch."""
        if self.is_sqlite:
            return self._clock.unix_ns()
        microseconds = connection.execute(text("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint"))
        return int(microseconds.scalar_one()) * 1000

    def check(self) -> None:
        """Ask it something; for readiness.

        Raises:
            UnavailableError: no answer.
        """
        with self.read() as connection:
            connection.execute(text("SELECT 1"))

    def require_durable(self) -> None:
        """Refuse a PostgreSQL that acknowledges what a power cut would lose.

        Raises:
            ConfigError: `fsync` or `synchronous_commit` is off.
            UnavailableError: it cannot be asked.
        """
        if self.is_sqlite:
            return
        with self.read() as connection:
            for setting in ("fsync", "synchronous_commit"):
                if connection.execute(text(f"SHOW {setting}")).scalar_one() == "off":
                    raise ConfigError(
                        f"the database runs with {setting} = off: it would lose kills that were acknowledged",
                        remedy=f"set {setting} = on for this role or database",
                    )

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()


def _sqlite(url: URL, busy_s: float) -> Engine:
    if not url.database or url.database == ":memory:":
        raise ConfigError("a database in memory would forget kills", remedy="give a file: sqlite:///control.db")
    try:
        os.close(os.open(Path(url.database), os.O_RDWR | os.O_CREAT, 0o600))
    except OSError as error:
        raise ConfigError(f"the database {url.database}: {error.strerror}") from error
    engine = create_engine(
        url.set(drivername="sqlite+pysqlite"),
        hide_parameters=True,
        pool_size=CONNECTIONS,
        max_overflow=0,
        pool_timeout=busy_s,
        connect_args={"timeout": busy_s},
    )

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _record: object) -> None:  # noqa: ANN401 - the driver's own
        connection.isolation_level = None  # the driver would begin and commit at will
        _use_wal(connection, busy_s)
        for pragma in _PRAGMAS:
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get("authz_writes")
        connection.exec_driver_sql(f"PRAGMA query_only = {'OFF' if writes else 'ON'}")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _use_wal(connection: sqlite3.Connection, busy_s: float) -> None:
    """Write ahead. SQLite waits for no lock in this one step, so instances that start at once wait here."""
    until = time.monotonic() + busy_s
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() >= until:
                raise
            time.sleep(_BUSY_PAUSE_S)
        else:
            return


def _postgresql(url: URL, busy_s: float) -> Engine:
    if url.get_backend_name() != "postgresql":
        raise ConfigError("the database is neither SQLite nor PostgreSQL", remedy="give sqlite:/// or postgresql://")
    if not _is_private(url):
        raise ConfigError(
            "plaintext to a database on another machine would show it to that network",
            remedy="add ?sslmode=verify-full to the URL",
        )
    settings = {
        "statement_timeout": STATEMENT_S,
        "lock_timeout": busy_s,
        "idle_in_transaction_session_timeout": STATEMENT_S,
    }
    options = " ".join(f"-c {name}={int(seconds * 1000)}" for name, seconds in settings.items())
    return create_engine(
        url.set(drivername="postgresql+psycopg"),
        hide_parameters=True,
        isolation_level="READ COMMITTED",
        pool_size=CONNECTIONS,
        max_overflow=0,
        pool_timeout=busy_s,
        pool_pre_ping=True,
        connect_args={"connect_timeout": CONNECT_S, "options": options, "application_name": "authz control"},
    )


def _is_private(url: URL) -> bool:
    """Whether nobody else can read along: TLS, this machine, or a socket."""
    mode = url.query.get("sslmode")
    host = url.host or url.query.get("host") or ""
    hosts = (host,) if isinstance(host, str) else host
    return mode in _TLS_MODES or all(not each or each.startswith("/") or is_loopback(each) for each in hosts)


@contextmanager
def _failures_named() -> Iterator[None]:
    """The database's failures as ours. What a constraint refuses is its caller's to judge; a bug stays a bug."""
    try:
        yield
    except (IntegrityError, ProgrammingError, DataError):
        raise
    except PoolTimeoutError:
        raise UnavailableError(DATABASE_UNAVAILABLE, "every connection is in use") from None
    except DBAPIError as error:
        # The driver's text names tables, paths and values: its kind is enough for the log, and too much for callers.
        state = getattr(error.orig, "sqlstate", None) or getattr(error.orig, "sqlite_errorname", None)
        log.error("the database cannot be used: %s %s", type(error.orig).__name__, state)  # noqa: TRY400 - see above
        raise UnavailableError(DATABASE_UNAVAILABLE) from None
