"""When each signing key is published, signs, retires and is gone (requirement I1, attack D13).

Decides from the keys' numbers and times alone which key signs at a moment and which are published, so that every
instance of the control plane agrees without asking. A key is published for at least `lead_s` before it signs, which is
longer than any verifier keeps an old key set, and until the last token that it signed is dead. A withdrawn key verifies
nothing from that moment. Must never hold a private key.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from authz.identity.oauth.access_token import MAX_LIFE_S
from authz.model import Word

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_NS: Final = 1_000_000_000
LEAD_S: Final = 4200.0
"""Over an hour: so long a verifier keeps keys where it cannot read them anew (limits.jwks_stale_s)."""
LINGER_S: Final = MAX_LIFE_S + 120.0
"""The longest token, a verifier's leeway of at most 60 s, and as much between two instances' clocks."""


class KeyState(Word):
    """Where a key stands at one moment."""

    NEXT = "next"
    SIGNING = "signing"
    RETIRING = "retiring"
    RETIRED = "retired"
    WITHDRAWN = "withdrawn"


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningKey:
    """The public side of one key. Times are Unix nanoseconds; a key signs until the next number does."""

    number: int
    kid: str
    algorithm: str
    public_jwk: Mapping[str, Any]
    created_ns: int
    signs_from_ns: int
    withdrawn_ns: int | None = None


class KeyRing:
    """All keys that there have been, in order of their numbers, which no two share."""

    def __init__(self, keys: Iterable[SigningKey]) -> None:
        self.keys: Final = tuple(sorted(keys, key=lambda key: key.number))

    def signing(self, now_ns: int) -> SigningKey | None:
        """The key to sign with: the newest whose time has come."""
        good = [key for key in self.keys if key.signs_from_ns <= now_ns and not _is_withdrawn(key, now_ns)]
        return good[-1] if good else None

    def next(self, now_ns: int) -> SigningKey | None:
        """The key that is published and does not sign yet; the first of them."""
        return next((key for key in self.keys if self.state(key, now_ns) is KeyState.NEXT), None)

    def published(self, now_ns: int) -> tuple[SigningKey, ...]:
        """Those that verifiers must know."""
        shown = (KeyState.NEXT, KeyState.SIGNING, KeyState.RETIRING)
        return tuple(key for key in self.keys if self.state(key, now_ns) in shown)

    def find(self, kid: str | None, now_ns: int) -> SigningKey | None:
        """The published key of this name."""
        return next((key for key in self.published(now_ns) if key.kid == kid), None)

    def state(self, key: SigningKey, now_ns: int) -> KeyState:
        """Where `key` stands."""
        if _is_withdrawn(key, now_ns):
            return KeyState.WITHDRAWN
        if now_ns < key.signs_from_ns:
            return KeyState.NEXT
        until_ns = self.published_until_ns(key)
        if until_ns is None or now_ns < until_ns - int(LINGER_S * _NS):
            return KeyState.SIGNING
        return KeyState.RETIRING if now_ns < until_ns else KeyState.RETIRED

    def published_until_ns(self, key: SigningKey) -> int | None:
        """When the last token that `key` signed is dead; None while no key follows it."""
        if key.withdrawn_ns is not None:
            return key.withdrawn_ns
        follower = next((other for other in self.keys if other.number > key.number), None)
        return follower.signs_from_ns + int(LINGER_S * _NS) if follower else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """How often keys change. `period_s` is how long one signs, `lead_s` how long it is published before."""

    algorithm: str = "EdDSA"
    period_s: float = 30 * 86_400.0
    lead_s: float = LEAD_S

    def due(self, ring: KeyRing, now_ns: int) -> tuple[int, ...]:
        """From when each key that has to be made now will sign: two where there is none, one where none is next."""
        if ring.next(now_ns) is not None:
            return ()
        signing = ring.signing(now_ns)
        if signing is None:
            return (now_ns, now_ns + int(self.period_s * _NS))
        return (max(signing.signs_from_ns + int(self.period_s * _NS), now_ns + int(self.lead_s * _NS)),)

    def earliest(self, ring: KeyRing, following: SigningKey, now_ns: int) -> int:
        """From when `following`, the next key, may sign without a verifier that has not heard of it.

        That is now, where every verifier of the present key learnt of both at once.
        """
        signing = ring.signing(now_ns)
        is_as_old = signing is not None and following.created_ns <= signing.created_ns
        return now_ns if is_as_old else max(now_ns, following.created_ns + int(self.lead_s * _NS))


def _is_withdrawn(key: SigningKey, now_ns: int) -> bool:
    return key.withdrawn_ns is not None and key.withdrawn_ns <= now_ns
