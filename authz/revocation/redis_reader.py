"""Reads the streams of kills from Redis, as they are written: the fast path, never the truth.

Decides nothing but where to go on reading. Whatever the link or the server does, refused credentials, a server that is
still loading, a certificate that has run out, a connection that is cut for being slow, the thread lives on and tries
again after a pause; meanwhile the streams grow old by themselves. Must never write, and never trust what it reads.
"""

from __future__ import annotations

import logging
import random
import threading
from typing import TYPE_CHECKING, Any, Final

from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from authz.revocation import redis_streams

if TYPE_CHECKING:
    from pathlib import Path

    from authz.clock import Clock
    from authz.revocation.follower import Follower

log: Final = logging.getLogger(__name__)

BLOCK_MS: Final = 500
ANSWER_S: Final = 1.5
"""A server that says nothing for so long is taken for frozen; well over BLOCK_MS."""
_BATCHES: Final = 256
_PAUSES_S: Final = (0.05, 2.0)
_IDLE_S: Final = 0.1
"""Before what was of no use is read again: a forged entry stays until the publisher removes it (E8)."""
_ANEW_NS: Final = 1_000_000_000
_FIRST: Final = "0-0"


class RedisReader:
    """One thread on one connection, for all streams. `start`, then `stop`; both once.

    Args:
        follower: takes what is read, and says which streams there are.
        clock: ours.
        url: redis, rediss or unix.
        username: of an account that can read these streams alone; empty uses what the URL says.
        password: its password.
        roots: PEM of who signs the server's certificate; None means the system's authorities.
    """

    def __init__(
        self,
        follower: Follower,
        clock: Clock,
        url: str,
        *,
        username: str = "",
        password: str = "",
        roots: Path | None = None,
    ) -> None:
        self._follower = follower
        self._now_ns = clock.monotonic_ns
        options: dict[str, Any] = {}
        if username:
            options |= {"username": username, "password": password}
        if roots is not None:
            options["ssl_ca_certs"] = str(roots)
        # Retries are ours: the client's own would hide a dead link behind its pauses.
        self._redis = Redis.from_url(
            url,
            protocol=2,
            socket_timeout=ANSWER_S,
            socket_connect_timeout=ANSWER_S,
            retry=Retry(NoBackoff(), 0),
            **options,
        )
        self._heartbeats: dict[str, str] = {}
        self._begun_ns: dict[str, int] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kills-redis", daemon=True)
        self.failures = 0
        """Reads that ended in an error."""
        self.last_error = ""
        """The kind of the last one; empty while reading works."""

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread and the connection."""
        self._stop.set()
        self._thread.join(ANSWER_S + 1)
        self._redis.close()

    def once(self) -> bool:
        """Wait for what comes next in any stream, and hand it in. Returns whether all of it was of use.

        Raises:
            RedisError: the server refused or did not answer; its message may repeat what was asked.
            OSError: it was not reached.
        """
        wanted, streams = self._wanted()
        answer: Any = self._redis.xread(wanted, count=_BATCHES, block=BLOCK_MS) if wanted else None
        useful = True
        # Entries before heartbeats: a heartbeat speaks of entries that came with it.
        for key, messages in sorted(answer or (), key=lambda each: each[0].endswith(b":heartbeat")):
            stream = streams[key.decode()]
            before = self._follower.position(stream)
            for identifier, values in messages:
                self._follower.take(stream, redis_streams.signed(values or {}))
                if key.endswith(b":heartbeat"):
                    self._heartbeats[stream] = identifier.decode()
            useful &= key.endswith(b":heartbeat") or self._follower.position(stream) != before
        return useful

    def _wanted(self) -> tuple[dict[Any, Any], dict[str, str]]:
        """Redis streams with the id to go on from, and whose they are."""
        wanted: dict[Any, Any] = {}
        streams: dict[str, str] = {}
        for stream in self._follower.streams:
            entries, heartbeat = redis_streams.entries_key(stream), redis_streams.heartbeat_key(stream)
            streams |= {entries: stream, heartbeat: stream}
            wanted[entries] = redis_streams.entry_id(*self._follower.position(stream))
            self._begin_anew(stream)
            wanted[heartbeat] = self._heartbeats.get(stream, _FIRST)
        return wanted, streams

    def _begin_anew(self, stream: str) -> None:
        """Read a silent stream's heartbeats from the first on: of a server that was emptied, ids may be lower now."""
        now_ns = self._now_ns()
        begun_ns = self._begun_ns.get(stream)
        if self._follower.is_silent(stream) and (begun_ns is None or now_ns - begun_ns >= _ANEW_NS):
            self._heartbeats.pop(stream, None)
            self._begun_ns[stream] = now_ns

    def _run(self) -> None:
        pause_s = _PAUSES_S[0]
        while not self._stop.is_set():
            try:
                useful = self.once()
            except Exception as error:  # noqa: BLE001 - whatever a server says, the thread lives on
                self.failures += 1
                kind = type(error).__name__
                if kind != self.last_error:
                    log.warning("the kills cannot be read from Redis: %s", kind)
                self.last_error = kind
                self._redis.connection_pool.disconnect()
                self._stop.wait(pause_s * random.uniform(0.5, 1))  # noqa: S311 - spreads load, guards nothing
                pause_s = min(2 * pause_s, _PAUSES_S[1])
                continue
            if self.last_error:
                log.info("the kills are read from Redis again")
            self.last_error, pause_s = "", _PAUSES_S[0]
            if not useful or not self._follower.streams:
                self._stop.wait(_IDLE_S)
