"""A signal that comes at any moment of a wait ends it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

from authz.cli.stopping import Stopping

if TYPE_CHECKING:
    from collections.abc import Iterator

NUMBER = signal.SIGUSR1
LONG_S = 20.0
TIMES = 8


@pytest.fixture(autouse=True)
def handled() -> Iterator[None]:
    before = signal.getsignal(NUMBER)
    yield
    signal.signal(NUMBER, before)


def test_nobody_asked() -> None:
    assert not Stopping(NUMBER).wait(0.01)


def test_a_signal_ends_the_wait_at_once_and_is_remembered() -> None:
    stopping = Stopping(NUMBER)
    threading.Timer(0.05, os.kill, (os.getpid(), NUMBER)).start()
    began = time.monotonic()
    assert stopping.wait(LONG_S)
    assert time.monotonic() - began < LONG_S / 2
    assert stopping.wait(LONG_S)


def test_those_after_the_first_are_told_apart() -> None:
    told: list[int] = []
    stopping = Stopping(NUMBER, again=lambda: told.append(1))
    for _ in range(3):
        signal.raise_signal(NUMBER)
    assert stopping.wait(0)
    assert told == [1, 1]


# Waits follow one another without a pause, so that a signal meets any step of one.
PROGRAM = """
import signal
from authz.cli.stopping import Stopping

stopping = Stopping(signal.SIGUSR1)
print("ready", flush=True)
while not stopping.wait(0):
    pass
"""


def test_no_step_of_a_wait_is_one_in_which_a_signal_waits_for_itself() -> None:
    for _ in range(TIMES):
        with subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            process.send_signal(NUMBER)
            try:
                assert process.wait(LONG_S) == 0
            finally:
                process.kill()
