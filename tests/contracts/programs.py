"""Real programs that the contract suites run: started on a free loopback port, stopped by their own pid."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

START_S = 20.0


def opa() -> str:
    """The `opa` command that `make` builds beside the interpreter, or the one on PATH."""
    beside = Path(sys.executable).with_name("opa")
    found = str(beside) if beside.exists() else shutil.which("opa")
    if found is None:
        pytest.skip("no `opa` command: run `make build`")
    return found


@contextmanager
def running(command: list[str], port: int, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run `command` until the block ends; it must begin to listen on `port`."""
    with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=output, env=_quiet()) as process:
        try:
            _await_listener(process, port, log)
            yield process
        finally:
            process.kill()


@contextmanager
def opa_server(policy: Path, port: int, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A real OPA server that holds `policy`."""
    command = [opa(), "run", "--server", "--addr", f"127.0.0.1:{port}", "--disable-telemetry", str(policy)]
    with running(command, port, log) as process:
        yield process


def _quiet() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}


def _await_listener(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)  # a poll with a deadline: the program says nothing when it listens
    pytest.fail(f"the program does not listen on port {port}: {log.read_text(errors='replace')[-2000:]}")
