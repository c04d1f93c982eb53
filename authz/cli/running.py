"""A program of ours that serves until a signal: how it begins, what its one line on stdout says, how it ends.

Decides that SIGTERM and SIGINT drain and that a second signal ends at once. Must never print what is secret: the line
goes into logs.
"""

from __future__ import annotations

import json
import secrets
import signal
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from authz.audit.masking import KEY_BYTES, Masker
from authz.cli.output import Output
from authz.cli.stopping import Stopping
from authz.telemetry import logs

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

WAKE_S: Final = 0.5
INTERRUPTED: Final = 130


class Program(Protocol):
    """What serves between `start` and `stop`."""

    def start(self) -> object:
        """Serve from here on."""
        ...

    def stop(self) -> object:
        """Drain, then end."""
        ...


P = TypeVar("P", bound=Program)


def run(compose: Callable[[], P], say_ready: Callable[[P], None], *, log_level: str) -> None:
    """Serve until a signal, then drain. A second signal ends at once."""
    # Logs have a key of their own: a mark in them need not match one in the records.
    logs.configure(log_level, Masker(key=secrets.token_bytes(KEY_BYTES)).text)
    stopping = Stopping(signal.SIGTERM, signal.SIGINT, again=_exit_at_once)
    program = compose()
    program.start()
    say_ready(program)
    while not stopping.wait(WAKE_S):
        pass  # a plain wait would not let the signal's function run on every platform
    program.stop()


def say(name: str, facts: Mapping[str, Any], output: Output) -> None:
    """The line that says that `name` serves, and where; facts that are empty are left out of the words."""
    if output is Output.JSON:
        print(json.dumps({"ready": True, **facts}), flush=True)
    else:
        print(f"{name} serves: {', '.join(f'{fact} {value}' for fact, value in facts.items() if value)}", flush=True)


def _exit_at_once() -> None:
    raise SystemExit(INTERRUPTED)
