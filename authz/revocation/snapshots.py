"""Everything that stands in a stream, in one signed piece: how a sidecar begins, and how it catches up from far behind.

Decides when a snapshot is made anew: a fairly recent one serves as well, since its reader pulls what came after it, and
many sidecars that start at once share one; to whoever knows more than it holds it is of no use. The content lies in a
file without a name, so that a million kills do not lie in memory; its description is signed anew each time it is asked
for. Must never describe what it did not hash.
"""

from __future__ import annotations

import os
import tempfile
import threading
import weakref
from dataclasses import dataclass
from hashlib import sha256
from typing import IO, TYPE_CHECKING, Final

from authz.revocation.entries import Snapshot, sign

if TYPE_CHECKING:
    from collections.abc import Iterator

    from authz.database import Database
    from authz.revocation.entries import Signed
    from authz.revocation.ledger_sql import Head, Ledger
    from authz.revocation.stream_keys_sql import StreamKeys

CHUNK_BYTES: Final = 1 << 20
REUSED_WITHIN: Final = 10_000
"""Entries that its reader may still have to pull: 40 batches."""


@dataclass(frozen=True, slots=True, kw_only=True, weakref_slot=True)
class Content:
    """What stood at `head`, at that time: `entries` lines in a file, with their digest. Its last reader closes it."""

    head: Head
    at_ns: int
    entries: int
    size_bytes: int
    sha256: str
    file: IO[bytes]

    def chunks(self) -> Iterator[bytes]:
        """The lines in pieces of at most CHUNK_BYTES. Any number of readers may be at it."""
        for start in range(0, self.size_bytes, CHUNK_BYTES):
            yield os.pread(self.file.fileno(), CHUNK_BYTES, start)


class Snapshots:
    """The latest snapshot of each stream. Safe to use from any number of threads."""

    def __init__(self, database: Database, ledger: Ledger, keys: StreamKeys) -> None:
        self._database = database
        self._ledger = ledger
        self._keys = keys
        self._made: dict[str, Content] = {}
        self._making: dict[str, threading.Lock] = {}

    def read(self, stream: str, epoch: int = 0, sequence: int = 0) -> tuple[Signed, Iterator[bytes]]:
        """The signed description and the content that it describes: of `epoch`, nothing from before `sequence`.

        Raises:
            UnavailableError: the database cannot be used.
        """
        with self._making.setdefault(stream, threading.Lock()), self._database.read() as connection:
            head, now_ns = self._ledger.head(connection, stream), self._database.now_ns(connection)
            content = self._made.get(stream)
            least = min(sequence, head.sequence) if epoch == head.epoch else 0
            # One from the future was made while a clock was ahead, and may lack what that clock took for long over.
            if content is None or content.at_ns > now_ns or not _serves(content, head, least):
                content = self._made[stream] = _write(head, now_ns, self._ledger.standing(connection, stream))
        described = Snapshot(
            stream=stream,
            epoch=content.head.epoch,
            sequence=content.head.sequence,
            at_ns=now_ns,
            entries=content.entries,
            size_bytes=content.size_bytes,
            sha256=content.sha256,
        )
        return sign(described, self._keys.signer(stream)), content.chunks()


def _serves(content: Content, head: Head, least: int) -> bool:
    made = content.head
    is_near = least <= made.sequence <= head.sequence <= made.sequence + REUSED_WITHIN
    return made.epoch == head.epoch and is_near


def _write(head: Head, at_ns: int, standing: Iterator[list[bytes]]) -> Content:
    entries, digest = 0, sha256()
    file = tempfile.TemporaryFile()  # noqa: SIM115 - closed with its content
    for lines in standing:
        text = b"".join(lines)
        digest.update(text)
        file.write(text)
        entries += len(lines)
    file.flush()
    content = Content(
        head=head, at_ns=at_ns, entries=entries, size_bytes=file.tell(), sha256=digest.hexdigest(), file=file
    )
    weakref.finalize(content, file.close)
    return content
