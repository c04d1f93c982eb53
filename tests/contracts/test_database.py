"""What every room may rely on, over SQLite and a real PostgreSQL."""

from __future__ import annotations

import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.script import ScriptDirectory
from sqlalchemy import BigInteger, Column, MetaData, Table, Text, delete, insert, select, text, update
from sqlalchemy.exc import DataError, IntegrityError

import authz
from authz.clock import SystemClock
from authz.database import METADATA, Database, Election, Lease, LeaseLostError, append_only, migrate
from authz.database.migrate import SCRIPTS
from authz.errors import ConfigError, UnavailableError
from tests.databases import make_postgres
from tests.fakes import FakeClock

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from sqlalchemy import Connection

    from tests.databases import PostgresServer

DURABLE = ("journal_mode", "synchronous", "foreign_keys")
ROWS = Table("rows", MetaData(), Column("id", Text, primary_key=True), Column("n", BigInteger, nullable=False))


@pytest.fixture
def rows(database: Database) -> Database:
    """A database with a table of the test's own."""
    with database.write() as connection:
        ROWS.create(connection)
    return database


def names(database: Database) -> list[str]:
    with database.read() as connection:
        return list(connection.execute(select(ROWS.c.id).order_by(ROWS.c.id)).scalars())


def add(database: Database, name: str, number: int = 0) -> None:
    with database.write() as connection:
        connection.execute(insert(ROWS).values(id=name, n=number))


def test_a_write_is_there_for_everybody_once_its_block_has_ended(rows: Database) -> None:
    add(rows, "a")
    assert names(rows) == ["a"]


def test_a_write_that_raises_is_undone(rows: Database) -> None:
    def broken() -> None:
        with rows.write() as connection:
            connection.execute(insert(ROWS).values(id="a", n=0))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        broken()
    assert names(rows) == []


def test_identifiers_differ_by_case_and_by_form(rows: Database) -> None:
    distinct = ["agent", "Agent", "agent\u200b", "ag\u00e9nt", "age\u0301nt", " agent"]
    for name in distinct:
        add(rows, name)
    assert len(names(rows)) == len(distinct)
    with pytest.raises(IntegrityError):
        add(rows, "Agent")


def test_a_read_sees_one_snapshot(rows: Database) -> None:
    add(rows, "a")
    with rows.read() as connection:
        before = connection.execute(select(ROWS.c.id)).all()
        add(rows, "b")
        assert connection.execute(select(ROWS.c.id)).all() == before
    assert names(rows) == ["a", "b"]


def test_a_read_cannot_write(rows: Database) -> None:
    with pytest.raises(UnavailableError), rows.read() as connection:
        connection.execute(insert(ROWS).values(id="a", n=0))
    add(rows, "b")  # the same connections write again afterwards
    assert names(rows) == ["b"]


def test_concurrent_writers_lose_no_update(rows: Database) -> None:
    add(rows, "counter")

    def count(_: int) -> None:
        with rows.write() as connection:
            seen = connection.execute(select(ROWS.c.n).where(ROWS.c.id == "counter").with_for_update()).scalar_one()
            connection.execute(update(ROWS).values(n=seen + 1))

    with ThreadPoolExecutor(8) as workers:
        list(workers.map(count, range(80)))
    with rows.read() as connection:
        assert connection.execute(select(ROWS.c.n)).scalar_one() == 80


def test_an_append_only_table_takes_rows_and_gives_none_back(database: Database) -> None:
    with database.write() as connection:
        ROWS.create(connection)
        with operations(connection):
            append_only("rows")
    add(database, "a")
    for statement in (update(ROWS).values(n=1), delete(ROWS), text("INSERT OR REPLACE INTO rows VALUES ('a', 1)")):
        if "REPLACE" in str(statement) and not database.is_sqlite:
            statement = text("TRUNCATE rows")  # noqa: PLW2901 - each database has a way of its own
        with pytest.raises(IntegrityError), database.write() as connection:
            connection.execute(statement)
    with database.read() as connection:
        assert connection.execute(select(ROWS)).all() == [("a", 0)]


def operations(connection: Connection) -> AbstractContextManager[Operations]:
    return Operations.context(MigrationContext.configure(connection))


# Migrations


def modules_with_tables() -> list[str]:
    package = Path(authz.__file__).parent
    defining = [path for path in package.rglob("*_sql.py") if "    METADATA,\n" in path.read_text()]
    return ["authz." + ".".join(path.relative_to(package).with_suffix("").parts) for path in defining]


def test_migrated_tables_are_those_that_the_modules_define(database: Database) -> None:
    for module in modules_with_tables():
        import_module(module)
    with database.read() as connection:
        differences = compare_metadata(MigrationContext.configure(connection), METADATA)
    assert differences == []


def test_each_room_has_one_line_of_migrations() -> None:
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS))
    scripts = ScriptDirectory.from_config(config)
    for head in scripts.get_revisions("heads"):
        assert head is not None
        assert head.branch_labels == {head.revision.rpartition("_")[0]}


def test_migrating_again_changes_nothing(rows: Database) -> None:
    add(rows, "a")
    migrate(rows)
    assert names(rows) == ["a"]


def test_instances_that_start_at_once_migrate_once(empty_url: str) -> None:
    start = threading.Barrier(4)

    def begin(_: int) -> None:
        database = Database(empty_url)
        start.wait()
        migrate(database)
        database.close()

    with ThreadPoolExecutor(4) as instances:
        list(instances.map(begin, range(4)))
    database = Database(empty_url)
    with database.read() as connection:
        assert MigrationContext.configure(connection).get_current_heads()
    database.close()


def test_a_database_of_a_newer_release_is_refused(database: Database) -> None:
    with database.write() as connection:
        connection.execute(
            text("UPDATE alembic_version SET version_num = 'database_9999' WHERE version_num LIKE 'database_%'")
        )
    with pytest.raises(ConfigError, match="not one of this release"):
        migrate(database)


# Leases


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def lease(database: Database, holder: str, clock: FakeClock | SystemClock, life_s: float = 3.0) -> Lease:
    return Lease(database, "publisher", holder, clock=clock, life_s=life_s)


def test_the_first_to_take_a_lease_keeps_it(database: Database, clock: FakeClock) -> None:
    first, second = lease(database, "a", clock), lease(database, "b", clock)
    assert (first.take(), second.take(), first.take()) == (True, False, True)
    assert (first.term, second.term) == (1, 0)


def test_a_lease_given_back_is_taken_at_once_in_a_new_term(database: Database, clock: FakeClock) -> None:
    first, second = lease(database, "a", clock), lease(database, "b", clock)
    first.take()
    first.release()
    assert second.take()
    assert (first.term, second.term) == (0, 2)


def test_a_lease_of_a_time_when_the_clock_was_ahead_does_not_outlive_its_holder(
    database: Database, clock: FakeClock
) -> None:
    gone, second = lease(database, "a", clock), lease(database, "b", clock)
    gone.take()
    with database.write() as connection:
        connection.execute(text("UPDATE leases SET until_ns = until_ns + 3600000000000"))
    assert second.take()
    assert second.term == 2


def test_a_holder_stops_believing_by_its_own_clock(database: Database, clock: FakeClock) -> None:
    held = lease(database, "a", clock)
    held.take()
    clock.advance(2.9)
    assert held.term == 1
    clock.advance(0.2)
    assert held.term == 0


def test_an_old_leader_cannot_write_once_another_leads(rows: Database, clock: FakeClock) -> None:
    first, second = lease(rows, "a", clock), lease(rows, "b", clock)
    first.take()
    with rows.write() as connection:
        first.confirm(connection)
    with rows.write() as connection:
        connection.execute(text("UPDATE leases SET until_ns = 0"))  # the holder slept past its life
    assert second.take()

    def write_as_leader() -> None:
        with rows.write() as connection:
            connection.execute(insert(ROWS).values(id="too late", n=0))
            first.confirm(connection)

    with pytest.raises(LeaseLostError):
        write_as_leader()
    assert names(rows) == []


def test_of_many_instances_that_race_one_leads_at_a_time(rows: Database) -> None:
    """Each takes a short lease again and again and writes down its term: no term ever has two holders."""
    clock = SystemClock()
    over = threading.Event()
    taken: list[tuple[int, str]] = []

    def stand(holder: str) -> None:
        mine = lease(rows, holder, clock, life_s=0.05)
        while not over.is_set():
            if mine.take() and mine.term:
                taken.append((mine.term, holder))
                if len(taken) >= 60:
                    over.set()
            over.wait(0.03 if holder < "c" else 0.07)  # some renew in time and some let go

    with ThreadPoolExecutor(6) as instances:
        list(instances.map(stand, "abcdef"))
    holders: dict[int, set[str]] = {}
    for term, holder in taken:
        holders.setdefault(term, set()).add(holder)
    assert all(len(each) == 1 for each in holders.values())


def test_leadership_moves_when_the_leader_steps_down(database: Database) -> None:
    clock = SystemClock()
    elections = [Election(lease(database, holder, clock, life_s=0.6)) for holder in "ab"]
    for election in elections:
        election.start()
    leader = wait_for_leader(elections)
    leader.stop()
    others = [election for election in elections if election is not leader]
    assert wait_for_leader(others) is others[0]
    others[0].stop()


def wait_for_leader(elections: list[Election]) -> Election:
    for _ in range(1000):
        if leading := [election for election in elections if election.is_leader]:
            return leading[0]
        threading.Event().wait(0.01)
    pytest.fail("nobody leads")


# When it cannot be used


def test_a_database_that_is_gone_is_unavailable_and_back_when_it_is_back() -> None:
    server = make_postgres()
    server.start()
    database = Database(server.url())
    migrate(database)
    try:
        server.stop()
        with pytest.raises(UnavailableError, match="DATABASE_UNAVAILABLE"):
            database.check()
        server.start()
        database.check()
    finally:
        database.close()
        server.stop()


def test_a_full_disk_is_unavailable_and_nothing_is_kept(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'control.db'}")
    with database.write() as connection:
        ROWS.create(connection)
        pages = connection.execute(text("PRAGMA page_count")).scalar_one()
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")  # SQLite's own stand-in for a full disk
    with pytest.raises(UnavailableError, match="DATABASE_UNAVAILABLE"):
        add(database, "a" * 100_000)
    assert names(database) == []
    database.close()


def test_a_wrong_statement_is_a_bug_and_no_outage(rows: Database) -> None:
    with pytest.raises((DataError, OverflowError)), rows.write() as connection:
        connection.execute(insert(ROWS).values(id="a", n=2**70))


def test_a_writer_that_waits_too_long_is_told_so(rows: Database, database_url: str) -> None:
    add(rows, "a")
    impatient = Database(database_url, busy_s=0.05)
    change = update(ROWS).values(n=1)
    with rows.write() as holder:
        holder.execute(change)
        with pytest.raises(UnavailableError), impatient.write() as connection:
            connection.execute(change)
    impatient.close()


def test_sqlite_syncs_every_commit_and_keeps_what_refers_to_what(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'control.db'}")
    full, enabled = 2, 1
    for use in (database.read, database.write):
        with use() as connection:
            said = [connection.exec_driver_sql(f"PRAGMA {name}").scalar_one() for name in DURABLE]
        assert said == ["wal", full, enabled]
    database.close()


def test_k4_the_file_is_its_owners_alone(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'control.db'}")
    migrate(database)
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o600}
    database.close()


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("sqlite://", "in memory"),
        ("sqlite:///:memory:", "in memory"),
        ("mysql://localhost/authz", "neither"),
        ("postgresql://db.example/authz", "plaintext"),
        ("postgresql://db.example/authz?sslmode=prefer", "plaintext"),
        ("postgresql:///authz?host=/run/pg&host=db.example", "plaintext"),
        ("nonsense", "not given as a URL"),
        ("sqlite:////nowhere/control.db", "nowhere"),
    ],
)
def test_k4_a_database_that_could_lose_or_show_is_refused(url: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        Database(url)


def test_k4_a_database_that_does_not_sync_is_refused(postgres: PostgresServer, postgres_url: str) -> None:
    name = postgres_url.partition("?")[0].rpartition("/")[2]
    postgres.execute(f"ALTER DATABASE {name} SET synchronous_commit = off")
    database = Database(postgres_url)
    with pytest.raises(ConfigError, match="would lose"):
        migrate(database)
    database.close()


def test_no_error_shows_what_was_written(rows: Database, caplog: pytest.LogCaptureFixture) -> None:
    add(rows, "secret-value", 1)
    with pytest.raises(IntegrityError) as raised:
        add(rows, "secret-value", 2)
    assert "secret-value" not in str(raised.value).replace(str(raised.value.orig), "")
    assert "secret-value" not in caplog.text


def test_what_a_write_returned_from_survives_a_kill(tmp_path: Path) -> None:
    """A program writes and says so; SIGKILL; what it said is there."""
    program = (
        "import sys; from sqlalchemy import text; from authz.database import Database\n"
        "database = Database(sys.argv[1])\n"
        "with database.write() as c: c.execute(text('CREATE TABLE rows (id TEXT, n BIGINT)'))\n"
        "for number in range(10_000):\n"
        "    with database.write() as c: c.execute(text(f\"INSERT INTO rows VALUES ('{number}', {number})\"))\n"
        "    print(number, flush=True)\n"
    )
    url = f"sqlite:///{tmp_path / 'control.db'}"
    with subprocess.Popen([sys.executable, "-c", program, url], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        said = [int(writer.stdout.readline()) for _ in range(50)]
        writer.kill()
        said += [int(line) for line in writer.stdout.read().split("\n")[:-1]]
    database = Database(url)
    assert {int(name) for name in names(database)} >= set(said)
    database.close()
