"""How a stream of kills stands in Redis: names of keys, ids and fields, for its publisher and its readers.

Decides that everything of one tenant lies under one hash tag (one cluster slot, one ACL pattern) and that no name of a
tenant reaches into another's keys: it is percent-encoded whole. An entry's id is `<epoch>-<last sequence>`, so Redis
itself refuses a second writer, a duplicate and a step back, and a reader resumes from what it has applied. Pure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from authz.revocation.entries import Signed

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_ENTRIES: Final = 100_000
"""Entries kept of a stream, about, however many a message holds; older ones come from the control plane."""
MAX_HEARTBEATS: Final = 16
HEARTBEAT_S: Final = 0.4
"""How often each stream's heartbeat is published (contracts §9)."""

_BODY: Final = b"b"
_SIGNATURE: Final = b"s"
_KID: Final = b"k"


def entries_key(stream: str) -> str:
    """The Redis stream of batches."""
    return f"authz:{{kills:{quote(stream, safe='')}}}:entries"


def heartbeat_key(stream: str) -> str:
    """The Redis stream of heartbeats; their ids are Redis' own."""
    return f"authz:{{kills:{quote(stream, safe='')}}}:heartbeat"


def entry_id(epoch: int, sequence: int) -> str:
    """The id of the batch that ends with this sequence."""
    return f"{epoch}-{sequence}"


def oldest_id(epoch: int, sequence: int) -> str:
    """The id before which nothing needs to be kept beside this one: of an earlier epoch only a snapshot helps."""
    return entry_id(epoch, max(0, sequence - MAX_ENTRIES))


def fields(signed: Signed) -> dict[bytes, bytes]:
    """What XADD is given."""
    return {_BODY: signed.body, _SIGNATURE: signed.signature, _KID: signed.kid.encode()}


def signed(values: Mapping[bytes, bytes]) -> Signed:
    """What was given to XADD; a member that is missing or no text makes it one that nobody signed."""
    kid = values.get(_KID, b"").decode("ascii", "replace")
    return Signed(body=values.get(_BODY, b""), signature=values.get(_SIGNATURE, b""), kid=kid)
