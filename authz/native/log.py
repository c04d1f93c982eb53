"""The record log: what must be on disk before its answer goes out.

Decides nothing about what a record says. Must never report a record as written before the disk has said
so. Trusts its caller to number records without gaps, under one lock, and to void numbers it will not use.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Self

from authz.native.boundary import nanoseconds

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from authz.native.boundary import Boundary


@dataclass(frozen=True, slots=True, kw_only=True)
class LogOptions:
    """Where segments lie, and how hard the log tries."""

    directory: Path
    prefix: str = "decisions-"
    sync: Literal["group", "none"] = "group"
    """`group`: one fdatasync for all records that wait. `none`: the kernel decides; a power cut may lose allows."""
    segment_bytes: int = 256 << 20
    """A segment past this size is followed by a new one."""
    first_sequence: int = 1
    """The number of the first record."""
    gap_s: float = 1.0
    """How long later records wait for a missing number before it counts as lost."""
    retry_s: float = 0.25
    """After a failure, how long until a fresh segment is tried."""
    ring_bytes: int = 8 << 20
    """Records of denials that are kept in memory while the disk fails; the oldest go first."""

    def encoded(self) -> bytes:
        """As the library reads it."""
        return json.dumps(
            {
                "directory": str(self.directory),
                "prefix": self.prefix,
                "sync": self.sync,
                "segment_bytes": self.segment_bytes,
                "first_sequence": self.first_sequence,
                "gap_ns": nanoseconds(self.gap_s),
                "retry_ns": nanoseconds(self.retry_s),
                "ring_bytes": self.ring_bytes,
            }
        ).encode()


class Log:
    """An open log. Thread-safe; a context manager that closes itself."""

    def __init__(self, boundary: Boundary, handle: int) -> None:
        self._boundary = boundary
        self.handle = handle

    @classmethod
    def open(cls, boundary: Boundary, options: LogOptions) -> Self:
        """Make the first segment; see Library.open_log."""
        encoded = options.encoded()
        return cls(boundary, boundary.document(boundary.lib.AuthzOpenLog, encoded, len(encoded))["handle"])

    def append(self, record: bytes, sequence: int) -> None:
        """Write one record, one line without its line feed, and return once it is durable.

        Raises:
            NativeError: it is not; a record that holds a line feed or a used number is refused as well.
        """
        self._boundary.call(self._boundary.lib.AuthzAppend, self.handle, record, len(record), sequence)

    def void(self, sequence: int) -> None:
        """Say that a number that was taken will have no record."""
        self._boundary.lib.AuthzVoid(self.handle, sequence)

    def stats(self) -> dict[str, int | bool | str]:
        """Counters: records, bytes, batches, failures, lost, gaps, waiting, kept, durable_sequence, failed, segment."""
        counters: dict[str, int | bool | str] = self._boundary.document(self._boundary.lib.AuthzLogStats, self.handle)
        return counters

    def close(self) -> None:
        """Write what waits, then close. Servers that use the log must be drained before. Twice is harmless."""
        self._boundary.lib.AuthzCloseLog(self.handle)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
