"""`authz` on a machine whose wall clock is off, or on which time has passed, by as many nanoseconds as a file says.

Run as `python -m tests.e2e.stepped_clock FILE COMMAND…`. The file has sixteen bytes, for the wall clock and for the
running one, and is read each time.
"""

from __future__ import annotations

import mmap
import runpy
import struct
import sys
import time
from pathlib import Path

OFFSETS = struct.Struct("<qq")


def step(file: Path, seconds: float, passed_s: float = 0) -> None:
    """Have the wall clock off by so much from now on, and so much time passed on both."""
    with file.open("r+b" if file.exists() else "wb") as written:
        written.write(OFFSETS.pack(int((seconds + passed_s) * 1e9), int(passed_s * 1e9)))


def run(file: Path, arguments: list[str]) -> None:
    with file.open("rb") as opened:
        offsets = mmap.mmap(opened.fileno(), OFFSETS.size, access=mmap.ACCESS_READ)
    true_ns, running_ns = time.time_ns, time.perf_counter_ns

    def wall_ns() -> int:
        return true_ns() + int(OFFSETS.unpack_from(offsets)[0])

    # Before anything of ours is there: what stands behind the port `Clock` is the operating system's.
    time.time_ns = wall_ns
    time.time = lambda: wall_ns() / 1e9
    time.perf_counter_ns = lambda: running_ns() + int(OFFSETS.unpack_from(offsets)[1])
    sys.argv = ["authz", *arguments]
    runpy.run_module("authz", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    run(Path(sys.argv[1]), sys.argv[2:])
