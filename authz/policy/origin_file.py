"""A bundle in a file, with what lies beside it: the same as an archive in `policy.paths`, for use beside others.

Decides nothing. Must never read more than an archive may weigh. Trusts the operator's path.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

from authz.errors import BundleError, ConfigError
from authz.policy.origin import Offer
from authz.policy.sources import read_candidate, what_lies_beside

if TYPE_CHECKING:
    from pathlib import Path


class FileOrigin:
    """One file."""

    def __init__(self, file: Path, *, archive_bytes: int) -> None:
        self.path: Final = file.as_posix()
        self._file = file
        self._archive_bytes = archive_bytes

    @staticmethod
    def tag(archive: bytes) -> str:
        """See `Origin`."""
        return hashlib.sha256(archive).hexdigest()

    def read(self, known: str, *, base: bytes = b"", wait_s: float = 0.0) -> Offer:  # noqa: ARG002 - a file costs nothing to read again
        """See `Origin`."""
        try:
            candidate = read_candidate(self._file, self._archive_bytes)
        except ConfigError as error:
            raise BundleError(str(error), code="BUNDLE_FETCH") from None
        tag = self.tag(candidate.archive)
        archive = None if tag == known else candidate.archive
        return Offer(tag=tag, archive=archive, beside=what_lies_beside(candidate))
