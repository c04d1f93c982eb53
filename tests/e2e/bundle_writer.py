"""Kills a writer of bundle state again and again, and looks at what it leaves. Run as a program: it forks.

Prints one line: how many writers were killed, and the last sequence that was counted.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from authz.policy.engine import PolicySource
from authz.policy.last_good import LastGood
from authz.policy.seen_file import SeenFile
from authz.policy.trust import Candidate

if TYPE_CHECKING:
    from authz.policy.trust import Seen


def source(sequence: int) -> PolicySource:
    """Stands for a bundle: as long as one, and it says which."""
    content = f"{sequence}\n".encode() * 20_000
    candidate = Candidate(path="b.tar.gz", archive=content, cosignatures=b"further", rollback=None, timestamp=None)
    return PolicySource(archive=content, candidate=candidate)


def write_for_ever(folder: Path) -> None:
    """One activation after another, in the order that they have in service."""
    memory, kept = SeenFile(folder), LastGood(folder)
    seen = memory.read()
    while True:
        seen = replace(seen, sequence=seen.sequence + 1, activated=(f"{seen.sequence}",) * 64)
        with kept.attempt(source(seen.sequence)):
            memory.write(seen)


def look(folder: Path) -> Seen:
    """What a start would find; raises where it is neither old nor new."""
    seen = SeenFile(folder).read()
    found = LastGood(folder).recall(source(0))
    if found is not None:
        counted = int((found.archive or b"").split(b"\n")[0])
        # A bundle is counted before it is copied, so that what is copied was counted.
        if counted > seen.sequence or found.candidate is None:
            raise SystemExit(f"the copy is of {counted}, the counter of {seen.sequence}")
        if found.candidate.cosignatures != b"further":
            raise SystemExit("the copy has lost what lay beside it")
    return seen


def main(folder: Path, kills: int) -> None:
    """Kill `kills` writers."""
    chance, last = random.Random(7), 0  # noqa: S311 - moments of death
    for _ in range(kills):
        # A start clears what the crash left of an attempt: only two crashes on the same bytes are poison.
        (folder / "attempt").unlink(missing_ok=True)
        child = os.fork()
        if child == 0:
            write_for_ever(folder)
        time.sleep(chance.uniform(0.001, 0.05))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        seen = look(folder)
        if seen.sequence < last:
            raise SystemExit(f"the counter went back from {last} to {seen.sequence}")
        last = seen.sequence
    sys.stdout.write(f"{kills} {last}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
