"""Runs a program that does not outlive who started it: `python -m authz.proxy.tied PARENT-PID PROGRAM ARGUMENT...`.

`authz up` ends its programs itself. This is for the end that it cannot see coming, such as SIGKILL or the kernel's
out-of-memory killer: an Envoy that nobody watches must not go on holding the port, nor a service the records.

Decides nothing and trusts its arguments. Linux alone can tie a process to its parent (prctl(2), PR_SET_PDEATHSIG; it
outlives execve); elsewhere the program runs untied.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import Final

PR_SET_PDEATHSIG: Final = 1


def main() -> None:
    """Become the program, unless the parent is gone already."""
    parent, *command = sys.argv[1:]
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(PR_SET_PDEATHSIG, int(signal.SIGTERM))
    # Asked after the tie is made: a parent that went before sends no signal any more.
    if os.getppid() == int(parent):
        os.execv(command[0], command)  # noqa: S606 - a program of our own choice, no shell


if __name__ == "__main__":
    main()
