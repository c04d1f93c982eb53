"""Whose an MCP session is: that of the caller it was opened for (C21).

Decides that an `Mcp-Session-Id` is used by one caller alone: the same issuer, tenant, subject, agent and client. It
belongs to whoever the tool gave it to, where ext_proc sees the answer to `initialize`, and else to the first whose call
with it was let through. Must never grow without bound, nor let one caller crowd out what belongs to another: each has a
share, and gives up its own oldest. Must never hold an id: the key is a digest.

One process's memory. After a restart, or at another sidecar, a session belongs to the first who uses it there.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from hashlib import sha256
from typing import TYPE_CHECKING, Final, TypeAlias

from authz.errors import InvalidRequestError
from authz.reasons import SESSION_OWNER

if TYPE_CHECKING:
    from authz.clock import Clock
    from authz.model import Principal

MAX_SESSIONS: Final = 100_000
MAX_PER_OWNER: Final = 1_000
IDLE_NS: Final = 24 * 3600 * 1_000_000_000
"""A session that nobody used for a day is forgotten; tools forget theirs sooner."""

Owner: TypeAlias = tuple[str, str, str, str, str]


class Sessions:
    """Owners of sessions. Thread-safe; looking one up takes no lock."""

    def __init__(self, clock: Clock, *, max_sessions: int = MAX_SESSIONS, max_per_owner: int = MAX_PER_OWNER) -> None:
        self._now_ns = clock.monotonic_ns
        self._max_sessions = max_sessions
        self._max_per_owner = max_per_owner
        self._lock = threading.Lock()
        self._owners: OrderedDict[bytes, tuple[Owner, int]] = OrderedDict()
        self._held: dict[Owner, OrderedDict[bytes, None]] = {}

    def require(self, principal: Principal, server: str, session: str) -> None:
        """That the session is nobody else's.

        Raises:
            InvalidRequestError: SESSION_OWNER.
        """
        found = self._owners.get(_key(server, session))
        if found is not None and found[0] != _owner(principal) and self._now_ns() - found[1] <= IDLE_NS:
            raise InvalidRequestError(SESSION_OWNER)

    def take(self, principal: Principal, server: str, session: str) -> None:
        """The session is the caller's from here on, and in use now.

        Raises:
            InvalidRequestError: SESSION_OWNER, somebody was faster.
        """
        key, owner = _key(server, session), _owner(principal)
        with self._lock:
            self.require(principal, server, session)
            self._forget(key)
            self._owners[key] = owner, self._now_ns()
            held = self._held.setdefault(owner, OrderedDict())
            held[key] = None
            if len(held) > self._max_per_owner:
                self._forget(next(iter(held)))
            while len(self._owners) > self._max_sessions or self._is_idle():
                self._forget(next(iter(self._owners)))

    def __len__(self) -> int:
        """Sessions held."""
        return len(self._owners)

    def _is_idle(self) -> bool:
        _, used_ns = next(iter(self._owners.values()))
        return self._now_ns() - used_ns > IDLE_NS

    def _forget(self, key: bytes) -> None:
        if (found := self._owners.pop(key, None)) is not None:
            held = self._held[found[0]]
            held.pop(key, None)
            if not held:
                del self._held[found[0]]


def _owner(principal: Principal) -> Owner:
    return principal.issuer, principal.tenant, principal.subject, principal.agent, principal.client


def _key(server: str, session: str) -> bytes:
    # The length says where the one ends: no two pairs are one.
    return sha256(f"{len(server)}:{server}{session}".encode("utf-8", "surrogatepass")).digest()[:16]
