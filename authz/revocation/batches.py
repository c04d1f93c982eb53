"""Entries of the ledger, put together for the way: the batches that Redis holds and that a direct pull answers with.

Decides where one batch ends: at 256 entries, before it is too large to sign, and where an epoch does. Trusts the
ledger's lines, and goes on with none of them where one is missing. Pure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from authz.errors import EntryError
from authz.reasons import KILL_UNREADABLE
from authz.revocation.entries import MAX_BODY_BYTES, MAX_ENTRIES, WrittenBatch

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from authz.revocation.ledger_sql import Line

_ROOM_BYTES: Final = MAX_BODY_BYTES - 4096
"""Beside the entries a body holds the stream's name and numbers."""


def batches(stream: str, lines: Iterable[Line], at_ns: int) -> Iterator[WrittenBatch]:
    """The lines, which follow one another, in as few batches as will do.

    Raises:
        EntryError: KILL_UNREADABLE, they do not follow one another: the database has lost some.
    """
    run: list[Line] = []
    size_bytes = 0
    for line in lines:
        is_full = len(run) == MAX_ENTRIES or size_bytes + len(line.document) > _ROOM_BYTES
        if run and (is_full or line.epoch != run[0].epoch):
            yield _batch(stream, run, at_ns)
            run, size_bytes = [], 0
        run.append(line)
        size_bytes += len(line.document)
    if run:
        yield _batch(stream, run, at_ns)


def _batch(stream: str, run: Sequence[Line], at_ns: int) -> WrittenBatch:
    first, last = run[0], run[-1]
    if last.sequence - first.sequence != len(run) - 1:
        raise EntryError(KILL_UNREADABLE, "the ledger has a hole")
    lines = tuple(line.document for line in run)
    return WrittenBatch(stream=stream, epoch=first.epoch, at_ns=at_ns, first=first.sequence, lines=lines)
