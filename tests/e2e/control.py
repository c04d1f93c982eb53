"""`authz control` as a child process, and the command line beside it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from authz.cli.control_client import connect
from tests.e2e.serving import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from authz.cli.control_client import ControlClient

STOP_S = 30.0


@dataclass(frozen=True)
class Controlled:
    """A running `authz control`."""

    process: subprocess.Popen[str]
    ready: dict[str, Any]
    state: Path

    @property
    def client(self) -> ControlClient:
        """Calls as whoever has its state folder."""
        return connect(self.ready["http"], self.state)

    def authz(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A command of the command line, with this control plane's state."""
        return authz(*arguments, "--state", str(self.state))

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(STOP_S)


def environment() -> dict[str, str]:
    """Ours, without settings of `authz`."""
    return {name: value for name, value in os.environ.items() if not name.startswith("AUTHZ_")}


def authz(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "authz", *arguments],
        cwd=ROOT,
        env=environment() | variables,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@contextmanager
def controlling(state: Path, *flags: str) -> Iterator[Controlled]:
    """A control plane on free ports; ended with SIGKILL if the test did not end it."""
    addresses = [word for name in ("grpc", "http", "replication") for word in (f"--{name}", "127.0.0.1:0")]
    command = [sys.executable, "-m", "authz", "control", "--state", str(state), "--output", "json", *addresses, *flags]
    state.mkdir(parents=True, exist_ok=True)
    with (state / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, (state / "log").read_text()
        yield Controlled(process, json.loads(line), state)
    finally:
        process.kill()
        process.wait(STOP_S)
        assert process.stdout is not None
        process.stdout.close()
