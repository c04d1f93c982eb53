"""Folders for the servers and databases of tests: in memory where there is room for them.

What is synced there costs nothing, and is as safe as on a disk from all that a test does: none cuts the power. Their
paths are short, since that of a socket has 107 bytes at most.
"""

from __future__ import annotations

import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

DISK, MEMORY = Path("/tmp"), Path("/dev/shm")  # noqa: S108 - what is made there has a name of its own
ROOM_BYTES = 2 << 30


def new_folder(prefix: str) -> Path:
    """An empty one, for the caller to remove."""
    is_roomy = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > ROOM_BYTES
    return Path(tempfile.mkdtemp(prefix=f"authz-{prefix}-", dir=MEMORY if is_roomy else DISK))


@contextmanager
def folder(prefix: str) -> Iterator[Path]:
    """An empty one, removed afterwards."""
    made = new_folder(prefix)
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)
