"""Numbers records in the order of the log.

Decides the sequence: one number for each record, without gaps, taken when the record is made. The
library's commit barrier keeps that order on disk. Must never number a record that is not handed over.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from authz.model import Check, Decision


class Recorder:
    """Seals records. Thread-safe: `next` on a count is atomic."""

    def __init__(self, write: Callable[[Check, Decision], bytes]) -> None:
        self._write = write
        self._numbers = itertools.count(1)

    def seal(self, check: Check, decision: Decision) -> tuple[bytes, int]:
        """The line and its number; numbered last, so that a failure to write it leaves no gap."""
        line = self._write(check, decision)
        return line, next(self._numbers)
