"""Whether a signal has asked this program to end: something to wait for that a signal can never leave waiting.

Must never take a lock in the function that a signal calls. It runs on the main thread, between any two steps of what
that thread does: `threading.Event` holds a lock for a moment in each of its waits, and `set` in that moment waits for
itself forever. So a signal sets a plain value and writes into a pipe.
"""

from __future__ import annotations

import os
import select
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Stopping:
    """Asked by the first of these signals, from when this is made; the main thread's.

    Args:
        numbers: the signals.
        again: called for each one after the first.
    """

    def __init__(self, *numbers: signal.Signals, again: Callable[[], None] = lambda: None) -> None:
        self._asked = False
        self._again = again
        heard, self._tell = os.pipe()
        self._heard = select.poll()
        self._heard.register(heard, select.POLLIN)
        for number in numbers:
            signal.signal(number, self._ask)

    def wait(self, seconds: float) -> bool:
        """Return when asked, or when so long has passed; whether it was asked."""
        self._heard.poll(seconds * 1000)
        return self._asked

    def _ask(self, *_: object) -> None:
        if self._asked:
            self._again()
            return
        self._asked = True
        os.write(self._tell, b"\0")
