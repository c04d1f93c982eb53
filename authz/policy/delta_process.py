"""Makes a delta in a process of its own: to compare large documents takes seconds, in which no other thread would run.

Decides nothing. Must never let what fails there be more than a delta that is not made. Its memory, which is some ten
times the data, goes with it. Trusts this interpreter; both archives were verified by whoever asks.
"""

from __future__ import annotations

import logging
import subprocess
import sys
from typing import Final

from authz.errors import BundleError
from authz.policy import archive, delta

log: Final = logging.getLogger(__name__)
MAKE_S: Final = 40.0
"""Whoever pushes waits for it, a minute at most."""
_LENGTH_BYTES: Final = 8


def make_aside(base: bytes, target: bytes, *, most_bytes: int) -> bytes | None:
    """The delta that leads from one archive to the next; None where there is none that is worth it."""
    # The interpreter's own path alone: nothing that lies in the working directory is imported.
    command = [sys.executable, "-P", "-m", __name__, str(most_bytes)]
    try:
        done = subprocess.run(  # noqa: S603 - this interpreter, an argument of ours
            command,
            input=len(base).to_bytes(_LENGTH_BYTES, "big") + base + target,
            capture_output=True,
            timeout=MAKE_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        log.warning("no delta is published: %s", type(error).__name__)
        return None
    if done.returncode:
        log.info("no delta is published: %s", done.stderr.decode("utf-8", "replace").strip()[-200:])
        return None
    return done.stdout if delta.is_worth(done.stdout, target) else None


def main() -> int:
    """Read the two archives from the input, and write the delta to the output, or why there is none to the errors."""
    told = sys.stdin.buffer.read()
    start = _LENGTH_BYTES + int.from_bytes(told[:_LENGTH_BYTES], "big")
    try:
        made = delta.make(told[_LENGTH_BYTES:start], told[start:], archive.bounds(int(sys.argv[1])))
    except BundleError as error:
        sys.stderr.write(str(error))
        return 1
    sys.stdout.buffer.write(made)
    return 0


if __name__ == "__main__":
    sys.exit(main())
