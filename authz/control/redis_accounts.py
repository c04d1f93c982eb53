"""Accounts of sidecars at Redis: one each, that can read its own streams and write nothing (E8).

Decides what an account may do: XREAD on the keys of the sidecar's tenants and of the platform, and what a client needs
to connect. Everything else is NOPERM. The accounts follow the list of sidecars: one that is missing, as after a restart
of a Redis that keeps none, is made again; one whose sidecar was removed is deleted, which also cuts its connections.
Must never hold a password: Redis and the database are given its SHA-256.

Trusts Redis with who may read. What is read there is believed for its signatures alone, so that a Redis without these
rules can delay kills, which sidecars notice, but neither make nor lift one.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Final

import redis

from authz.revocation.redis_streams import entries_key, heartbeat_key

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from authz.control.sidecars_sql import Sidecar

log: Final = logging.getLogger(__name__)
PREFIX: Final = "sidecar:"
RECONCILE_S: Final = 5.0
TIMEOUT_S: Final = 2.0
_COMMANDS: Final = ("-@all", "+xread", "+ping", "+select", "+client|setinfo", "+client|setname", "+client|no-evict")
_ANY_TENANT: Final = "*"


def username(sidecar: str) -> str:
    """The account of a sidecar."""
    return PREFIX + sidecar


def without_credentials(url: str) -> str:
    """The same place, for somebody with an account of their own."""
    scheme, found, rest = url.partition("://")
    authority, slash, path = rest.partition("/")
    return scheme + found + authority.rpartition("@")[2] + slash + path


def rules(sidecar: Sidecar) -> list[str]:
    """What its account may do, whole: as ACL SETUSER takes it."""
    streams = ("", *sidecar.tenants)
    # Percent-encoded names hold no character that a pattern of Redis would read as its own.
    keys = [key(stream) for stream in streams for key in (entries_key, heartbeat_key)]
    if not sidecar.tenants:
        keys = [key("").replace("kills:", f"kills:{_ANY_TENANT}") for key in (entries_key, heartbeat_key)]
    return ["reset", "on", f"#{sidecar.redis_password_sha256}", *(f"%R~{key}" for key in keys), *_COMMANDS]


class RedisAccounts:
    """The accounts at one Redis.

    Args:
        url: of an account that may use ACL.
        present: lists the sidecars that have joined.
    """

    def __init__(self, url: str, present: Callable[[], Sequence[Sidecar]]) -> None:
        self._redis: redis.Redis = redis.Redis.from_url(
            url, decode_responses=True, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S
        )
        self._present = present
        self._known: set[str] = set()
        self._changing = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="redis-accounts", daemon=True)

    def start(self) -> None:
        """Keep the accounts as the list says, on a thread of its own."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread and the connections; the accounts stay."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()
        self._redis.close()

    def reconcile(self) -> None:
        """Make what is missing, delete what has no sidecar any more.

        Raises:
            RedisError: Redis cannot be asked, or the control plane's own account may not use ACL.
        """
        with self._changing:
            wanted = {username(sidecar.id): sidecar for sidecar in self._present()}
            there = {name for name in map(str, self._redis.acl_users()) if name.startswith(PREFIX)}
            # Those of an earlier run are written once more: what they may do may have changed since.
            missing = [name for name in wanted if name not in there or name not in self._known]
            for name in missing:
                # The client's own method knows no patterns for reading alone.
                self._redis.execute_command("ACL SETUSER", name, *rules(wanted[name]))  # type: ignore[no-untyped-call]
            if gone := there - wanted.keys():
                self._redis.acl_deluser(*gone)
            if missing or gone:
                self._save()
            self._known = set(wanted)

    def follow(self) -> None:
        """Reconcile now, where Redis can be reached; else it is done as soon as it can."""
        try:
            self.reconcile()
        except redis.RedisError as error:
            log.warning("accounts of sidecars at Redis could not be brought up to date: %s", type(error).__name__)

    def _save(self) -> None:
        """Into Redis' ACL file, where it has one; others forget at their restart, and are told again."""
        try:
            self._redis.acl_save()
        except redis.ResponseError:
            log.debug("this Redis has no ACL file")

    def _run(self) -> None:
        while True:
            self.follow()
            if self._stop.wait(RECONCILE_S):
                return
