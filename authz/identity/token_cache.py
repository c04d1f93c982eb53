"""Tokens that verified before, so that an agent's next call costs a hash instead of a signature.

Decides what is forgotten: two generations, the older dropped whole when the younger is full, so the bound holds
without bookkeeping on a hit. Must never hold a token: the key is its SHA-256. Whether an entry still counts (expiry,
keys) is judged by `tokens` on each use. Trusts its only caller to store what verified.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from authz.identity.keys import KeySet, KeySource
    from authz.model import Principal


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedToken:
    """What one token proved, until when, and by which keys."""

    principal: Principal
    expires_ns: int
    keys: KeySource
    key_set: KeySet


class TokenCache:
    """At most `capacity` entries; reads take no lock."""

    def __init__(self, capacity: int) -> None:
        self._generation_size = capacity // 2
        self._lock = threading.Lock()
        self._young: dict[bytes, VerifiedToken] = {}
        self._old: dict[bytes, VerifiedToken] = {}

    def __len__(self) -> int:
        """Entries held."""
        return len(self._young) + len(self._old)

    def find(self, digest: bytes) -> VerifiedToken | None:
        """The entry for a token's SHA-256."""
        found = self._young.get(digest)
        if found is None:
            found = self._old.get(digest)
            if found is not None:
                self.store(digest, found)
        return found

    def store(self, digest: bytes, verified: VerifiedToken) -> None:
        """Keep `verified`, forgetting the least recently used generation if there is no room."""
        if not self._generation_size:
            return
        with self._lock:
            if len(self._young) >= self._generation_size:
                self._young, self._old = {}, self._young
            self._young[digest] = verified
