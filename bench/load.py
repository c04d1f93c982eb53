"""The load generator, `native/load`: built of this checkout's own sources, run for a time or while a block lasts.

Calls are bytes that were made before, so that it costs as little as a client can: what shares the processors with the
program under test must not be what is measured. Latency at a rate counts from when a call was due, so a program that
stalls is not spared the calls that it kept from being sent.
"""

from __future__ import annotations

import json
import signal
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tools import toolchain

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

ROOT: Final = Path(__file__).resolve().parents[1]
AS_LONG_AS_IT_TAKES: Final = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """What a load met; latencies in milliseconds. `errors` got no answer."""

    calls: int
    errors: int
    per_second: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    p999_ms: float
    max_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """The generator, and the calls that it makes in turn."""

    binary: Path
    requests: Path

    def run(self, addresses: Sequence[str], *, seconds: float, in_flight: int, rate: float = 0.0) -> Answered:
        """Call for so long. A rate is in calls a second; 0 is as fast as answers come."""
        command = self._command(addresses, seconds, in_flight, rate)
        return _read(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    @contextmanager
    def meanwhile(self, addresses: Sequence[str], *, in_flight: int, rate: float) -> Iterator[list[Answered]]:
        """Call while the block lasts; the list holds what was met once it is over."""
        command = self._command(addresses, AS_LONG_AS_IT_TAKES, in_flight, rate)
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        met: list[Answered] = []
        try:
            yield met
        finally:
            process.send_signal(signal.SIGINT)
            met.append(_read(process.communicate()[0]))

    def _command(self, addresses: Sequence[str], seconds: float, in_flight: int, rate: float) -> list[str]:
        connections = max(2, len(addresses))
        options = ["-address", ",".join(addresses), "-requests", str(self.requests), "-for", f"{seconds}s"]
        options += ["-in-flight", str(in_flight), "-connections", str(connections), "-rate", str(rate)]
        return [str(self.binary), *options]


def generator(folder: Path, requests: Iterable[bytes]) -> Load:
    """The generator, built into `folder`.

    Args:
        folder: of this run.
        requests: what it sends, in turn.

    Raises:
        RuntimeError: it does not compile.
    """
    binary, file = folder / "load", folder / "requests"
    file.write_bytes(b"".join(len(each).to_bytes(4, "big") + each for each in requests))
    command = ["go", "-C", str(ROOT / "native"), "build", "-o", str(binary), "./load"]
    if subprocess.run(command, env=toolchain.environment(), check=False).returncode:
        raise RuntimeError("the load generator does not compile")
    return Load(binary=binary, requests=file)


def _read(printed: str) -> Answered:
    met: dict[str, Any] = json.loads(printed)
    return Answered(**met)
