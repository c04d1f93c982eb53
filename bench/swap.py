"""`python -m bench.swap`: what taking a large bundle costs those who are answered meanwhile, and what stays behind.

A sidecar follows a signed bundle over HTTP and answers calls at a steady rate. Again and again a new release is
published, of data by the megabyte: the sidecar fetches, verifies, compiles, probes and swaps. Each swap lies between
two windows of calls without one, so that a machine that slows down slows both; a swap's window is from when the release
is published until it answers, and a second more. After each, what the process and Go's heap hold: their slope over the
second half of the run is what leaks. The bars: p99 during a swap at most twice that without, and memory that stays.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from statistics import linear_regression, median
from typing import TYPE_CHECKING, Any, Final

from authz.policy import archive
from authz.policy.signature import read_private_key
from authz.policy.signing import Signer, new_key, sign_archive
from bench.fleet import PATIENCE_S, TENANT, busy, running
from bench.load import generator
from bench.measure import RATE_IN_FLIGHT
from bench.workload import MOST, SOURCES, TOOLS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bench.fleet import Fleet, Sidecar
    from bench.load import Answered, Load

P99_BAR: Final = 2.0
MIB: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Swap:
    """One activation. Memory is in MiB, after it."""

    before: Answered
    during: Answered
    seconds: float
    resident: float
    heap: float


class Publisher:
    """A mirror, and who signs what it serves."""

    def __init__(self, folder: Path, mib: int) -> None:
        pair = new_key()
        folder.mkdir()
        self.public = folder / "release.pub.pem"
        self.public.write_bytes(pair.public)
        self._signer = Signer(read_private_key(pair.private), "release")
        self._place, self._data = folder / "bundle.tar.gz", grants(mib)
        self.released = 0

    def prepare(self) -> Path:
        """The next release, not served yet."""
        self.released += 1
        now = datetime.now(UTC)
        told = {
            "bundle_id": "bench",
            "sequence": self.released,
            "created_at": f"{now:%Y-%m-%dT%H:%M:%SZ}",
            "expires_at": f"{now + timedelta(days=1):%Y-%m-%dT%H:%M:%SZ}",
        }
        manifest = {"revision": f"bench-{self.released}", "metadata": {"authz": told}}
        files = {name: (SOURCES / name).read_bytes() for name in ("grants.rego", "agent.rego")}
        files["release.rego"] = b"package bench.release\n\nnumber := %d\n" % self.released
        files |= {"data.json": self._data, ".manifest": json.dumps(manifest).encode()}
        draft = self._place.with_name("draft")
        draft.write_bytes(sign_archive(archive.write(files, level=1), self._signer))
        return draft

    def publish(self, draft: Path) -> None:
        """Serve it, whole."""
        draft.replace(self._place)


def grants(mib: int) -> bytes:
    """Data of this many MiB: a grant for each of thousands of agents and each tool."""
    rng, agents, size = random.Random(time.time_ns()), dict[str, Any](), 0  # noqa: S311 - no secret
    while size < mib * MIB:
        tools = {f"tool-{number}": {"most": rng.randrange(MOST, 10 * MOST)} for number in range(TOOLS)}
        agents[f"agent-{len(agents)}"] = tools
        size += len(json.dumps(tools, separators=(",", ":"))) + 16
    return json.dumps({"grants": {TENANT: agents}}, separators=(",", ":"), sort_keys=True).encode()


def main(arguments: Sequence[str]) -> int:
    """Measure and say."""
    parser = argparse.ArgumentParser(prog="python -m bench.swap", description=__doc__)
    parser.add_argument("--activations", type=int, default=6, help="100 is the bar's number")
    parser.add_argument("--mib", type=int, default=20, help="of data in each release")
    parser.add_argument("--rate", type=float, default=500.0, help="calls a second")
    parser.add_argument("--seconds", type=float, default=6.0, help="length of a window without a swap")
    options = parser.parse_args(arguments)
    print(busy())
    with tempfile.TemporaryDirectory(prefix="ab-") as name:
        folder = Path(name)
        publisher = Publisher(folder / "mirror", options.mib)
        publisher.publish(publisher.prepare())
        with mirror(folder / "mirror") as url:
            policy = {
                "state": str(folder / "state"),
                "trust": {"keys": {"release": str(publisher.public)}},
                "bundles": [{"source": f"{url}/bundle.tar.gz", "poll_s": 1}],
                "bundle_bytes": 2 * options.mib * MIB,
            }
            with running(folder, 1, policy) as fleet:
                _say(swaps(fleet, publisher, options), options)
    print(busy())
    return 0


def swaps(fleet: Fleet, publisher: Publisher, options: argparse.Namespace) -> list[Swap]:
    """So many, one after another."""
    (sidecar,) = fleet.sidecars
    wait_for(sidecar, 1)
    load = generator(fleet.folder, fleet.requests([f"agent-{number}" for number in range(50)], each=20))
    load.run([sidecar.check], seconds=options.seconds, in_flight=RATE_IN_FLIGHT, rate=options.rate)
    return [swap(sidecar, load, publisher, options) for _ in range(options.activations)]


def swap(sidecar: Sidecar, load: Load, publisher: Publisher, options: argparse.Namespace) -> Swap:
    """A window without one, then one."""
    draft = publisher.prepare()
    rated = {"in_flight": RATE_IN_FLIGHT, "rate": options.rate}
    before = load.run([sidecar.check], seconds=options.seconds, **rated)
    with load.meanwhile([sidecar.check], **rated) as met:
        time.sleep(0.5)
        began = time.perf_counter()
        publisher.publish(draft)
        wait_for(sidecar, publisher.released)
        seconds = time.perf_counter() - began
        time.sleep(1)
    return Swap(before=before, during=met[0], seconds=seconds, resident=resident(sidecar), heap=heap(sidecar))


def wait_for(sidecar: Sidecar, release: int) -> None:
    """Until this release answers.

    Raises:
        RuntimeError: it does not.
    """
    over = time.monotonic() + PATIENCE_S
    wanted = f'revision="bench-{release}"'
    while not any(wanted in name for name in sidecar.metrics()):
        if time.monotonic() > over:
            raise RuntimeError(f"release {release} is not taken: {sidecar.log()}")
        time.sleep(0.25)


def resident(sidecar: Sidecar) -> float:
    """What the process has in memory, in MiB."""
    status = Path(f"/proc/{sidecar.process.pid}/status").read_text()
    found = re.search(r"^VmRSS:\s+(\d+) kB", status, re.MULTILINE)
    return int(found[1]) / 1024 if found else 0.0


def heap(sidecar: Sidecar) -> float:
    """What lives in Go's heap, in MiB."""
    return sidecar.metrics().get("authz_engine_heap_bytes", 0.0) / MIB


@contextmanager
def mirror(folder: Path) -> Iterator[str]:
    """A server of files."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


def _say(made: Sequence[Swap], options: argparse.Namespace) -> None:
    ratios = sorted(each.during.p99_ms / each.before.p99_ms for each in made)
    noise = sorted(second.before.p99_ms / first.before.p99_ms for first, second in pairwise(made))
    without, during = (median(getattr(each, name).p99_ms for each in made) for name in ("before", "during"))
    errors = sum(each.during.errors + each.before.errors for each in made)
    print(f"{len(made)} activations of {options.mib} MiB at {options.rate:,.0f} calls a second, each ", end="")
    print(f"{median(each.seconds for each in made):.1f} s from its publication; {errors} calls without an answer")
    print(f"p99 {without:.1f} ms without and {during:.1f} ms during one, ratio {median(ratios):.2f}, ", end="")
    print(f"at most {ratios[-1]:.2f} (bar {P99_BAR:.0f}); noise {noise[0]:.2f} to {noise[-1]:.2f}; ", end="")
    print(f"the longest answer {max(each.during.max_ms for each in made):.0f} ms")
    late = range(len(made) // 2, len(made))
    for what in ("resident", "heap"):
        held = [getattr(each, what) for each in made]
        slope = linear_regression(late, [held[number] for number in late]).slope
        print(f"{what}: {held[0]:,.0f} MiB after the first, {held[-1]:,.0f} after the last, ", end="")
        print(f"at most {max(held):,.0f}; slope {slope:+.1f} MiB an activation")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
