"""Published bundles: what a name, a revision and its history are, and whose content nobody needs any more.

Decides what may be collected. Kept is what is served, under legal hold, in use, or among the last of its name that
somebody may want back. Must never give up what is held, whoever retired it. Pure; `registry_sql` keeps it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from typing import TYPE_CHECKING, Final

from authz.errors import AuthzError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from authz.policy.sources import Beside
    from authz.policy.trust import Verified

PIECE_BYTES: Final = 1 << 20
"""What one transaction writes and one answer holds: a few milliseconds of a disk."""


class Kind(StrEnum):
    """What happened to a revision."""

    PUSHED = "pushed"
    HELD = "held"
    RELEASED = "released"
    RETIRED = "retired"
    COLLECTED = "collected"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A name, of a tenant or (empty) of the platform."""

    tenant: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """One archive under one name. Times are nanoseconds since the epoch; None: it has not happened."""

    number: int
    tenant: str
    name: str
    sha256: str
    digest: str
    revision: str
    sequence: int
    change_id: str
    size: int
    signed_by: tuple[str, ...]
    expires_at_ns: int
    pushed_at_ns: int
    pushed_by: str
    held_at_ns: int | None
    retired_at_ns: int | None
    collected_at_ns: int | None
    newest: bool

    @property
    def place(self) -> Place:
        """Where it belongs."""
        return Place(tenant=self.tenant, name=self.name)

    @property
    def pieces(self) -> int:
        """How many its archive lies in."""
        return -(-self.size // PIECE_BYTES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What somebody did with a revision, and when; `by` is empty for the collector."""

    kind: Kind
    sha256: str
    at_ns: int
    by: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Delta:
    """What makes an archive of the one before it."""

    base: str
    """SHA-256 of the one before, in hex."""
    content: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Push:
    """A verified archive on its way to a name."""

    place: Place
    archive: bytes
    verified: Verified
    beside: Mapping[Beside, bytes]
    by: str
    reason: str = ""
    delta: Delta | None = None
    """From what was served before, where that has one."""

    @property
    def sha256(self) -> str:
        """What it is kept by."""
        return hashlib.sha256(self.archive).hexdigest()


class MovedError(AuthzError):
    """Somebody else changed the same name at once; verify again by what is seen now."""


class HeldError(AuthzError):
    """The revision is under legal hold."""


def collectable(kept: Iterable[Revision], *, keep: int, in_use: Collection[str]) -> Iterator[Revision]:
    """What of these nobody needs.

    Args:
        kept: revisions that have their content, the last pushed first.
        keep: of each name, how many that were not retired may be wanted back.
        in_use: digests of archives that somebody has, such as a sidecar that may be restarted.
    """
    by_place: dict[Place, list[Revision]] = {}
    for revision in kept:
        by_place.setdefault(revision.place, []).append(revision)
    for of_name in by_place.values():
        wanted = {each.number for each in islice((each for each in of_name if each.retired_at_ns is None), keep)}
        for each in of_name:
            if not (each.newest or each.held_at_ns is not None or each.sha256 in in_use or each.number in wanted):
                yield each
