"""`authz` on a machine whose wall clock is off by as many nanoseconds as a file says; the running clock is right.

Run as `python -m tests.e2e.stepped_clock FILE COMMAND…`. The file has eight bytes and is read each time.
"""

from __future__ import annotations

import mmap
import runpy
import struct
import sys
import time
from pathlib import Path

OFFSET = struct.Struct("<q")


def step(file: Path, seconds: float) -> None:
    """Have the clock off by so much from now on."""
    with file.open("r+b" if file.exists() else "wb") as written:
        written.write(OFFSET.pack(int(seconds * 1e9)))


def run(file: Path, arguments: list[str]) -> None:
    with file.open("rb") as opened:
        offset = mmap.mmap(opened.fileno(), OFFSET.size, access=mmap.ACCESS_READ)
    true_ns = time.time_ns

    def wall_ns() -> int:
        return true_ns() + int(OFFSET.unpack_from(offset)[0])

    # Before anything of ours is there: what stands behind the port `Clock` is the operating system's.
    time.time_ns = wall_ns
    time.time = lambda: wall_ns() / 1e9
    sys.argv = ["authz", *arguments]
    runpy.run_module("authz", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    run(Path(sys.argv[1]), sys.argv[2:])
