"""`python -m bench.kills`: what kills cost a sidecar: to look up, to join with, to keep up with, and to each decision.

A feed of them is measured on its whole way, from the ledger to the sidecar that has joined with all the others, and the
pauses of its garbage collector meanwhile. Each figure is printed beside its bar. Every kill's scope is drawn afresh
from the system's randomness, so that no run measures what another has seen. Exit codes as everywhere: 0 measured, 2
usage.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import os
import secrets
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from authz.clock import SystemClock
from authz.destination import Destination
from authz.edge.ext_authz import ExtAuthz
from authz.edge.reply import Replies
from authz.model import Principal, Protocol, Tool, ToolCall
from authz.pdp import PolicyDecisionPoint
from authz.revocation import entries, scopes, standing
from authz.revocation.entries import Batch, Heartbeat, KillEntry, Snapshot
from authz.revocation.follower import Follower
from authz.wiring import Sidecar
from bench import kill_feed
from bench.micro import _Committed, _config
from bench.workload import TENANT, prepare

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from authz.revocation.entries import Signed

KINDS: Final = ("agent", "session", "token", "subtree", "capability", "connector")
RATE: Final = 10_000
"""Kills a second that a sidecar must keep up with."""
PAGE: Final = os.sysconf("SC_PAGE_SIZE")


class Ledger:
    """Signs one stream, whose entries it need not keep."""

    def __init__(self, stream: str) -> None:
        self.stream = stream
        self.key = Ed25519PrivateKey.generate()
        self.sequence = 0
        self.beats = 0

    def kill(self) -> KillEntry:
        """One more kill, of something new."""
        self.sequence += 1
        kind = KINDS[self.sequence % len(KINDS)]
        return KillEntry(
            sequence=self.sequence,
            id=secrets.token_hex(16),
            version=1,
            scope=scopes.parse(kind, f"{kind}-{secrets.token_hex(8)}", self.stream),
            at_ns=time.time_ns(),
        )

    def batch(self, size: int) -> Signed:
        """The next kills, as one message."""
        run = tuple(self.kill() for _ in range(size))
        return entries.sign(Batch(stream=self.stream, epoch=1, at_ns=time.time_ns(), entries=run), self.key)

    def snapshot(self, size: int) -> tuple[Signed, bytes]:
        """So many kills at once."""
        content = b"".join(standing.encode(self.kill()) for _ in range(size))
        description = Snapshot(
            stream=self.stream,
            epoch=1,
            sequence=self.sequence,
            at_ns=time.time_ns(),
            entries=size,
            size_bytes=len(content),
            sha256=sha256(content).hexdigest(),
        )
        return entries.sign(description, self.key), content

    def heartbeat(self) -> Signed:
        """The stream is at its end."""
        self.beats += 1
        beat = Heartbeat(stream=self.stream, epoch=1, sequence=self.sequence, at_ns=time.time_ns(), count=self.beats)
        return entries.sign(beat, self.key)


def main(arguments: Sequence[str]) -> int:
    """Measure and say."""
    parser = argparse.ArgumentParser(prog="python -m bench.kills", description=__doc__)
    parser.add_argument("--kills", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each part")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="authz-bench-") as folder:
        for name, measured, bar in _figures(Path(folder), options.kills, options.seconds):
            print(f"{name:<58} {measured:>14}   {bar}", flush=True)
    return 0


def _figures(folder: Path, kills: int, seconds: float) -> Iterator[tuple[str, str, str]]:
    yield "load average at the start", f"{os.getloadavg()[0]:.1f}", f"of {os.cpu_count()} processors"
    ledgers = Ledger(""), Ledger(TENANT)
    late = list[float]()
    follower = Follower(folder / "kills", SystemClock(), effect=late.append)
    description, content = ledgers[1].snapshot(kills)
    for ledger in ledgers:
        follower.trust(ledger.stream, {entries.thumbprint(ledger.key.public_key()): ledger.key.public_key()})
    follower.take_snapshot("", *ledgers[0].snapshot(0))
    before, began, cpu = _memory(), time.perf_counter(), time.process_time()
    follower.take_snapshot(TENANT, description, content)
    wall, cpu = time.perf_counter() - began, time.process_time() - cpu
    yield f"join with {kills:,} kills, journal written", f"{wall:.2f} s", f"bar 5 s; {cpu:.2f} s of CPU"
    grown = (_memory() - before) / 1e6
    yield "memory of them", f"{grown:.0f} MB", f"{grown * 1e6 / kills:.0f} bytes each"
    del content
    yield from _collections()
    yield from _lookups(follower, seconds)
    yield from _replicated(follower, ledgers[1], seconds)
    for name, rate in (("paced", RATE), ("unpaced", 0)):
        late.clear()
        yield from _fed(folder / name, follower, rate, seconds, late)
    yield from _decisions(folder, follower, ledgers, seconds)
    follower.close()


def _memory() -> int:
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * PAGE


def _collections() -> Iterator[tuple[str, str, str]]:
    gc.collect()
    took = min(_timed(gc.collect) for _ in range(5))
    yield "a full garbage collection with them, nothing frozen", f"{took * 1e3:.1f} ms", "a sidecar freezes at start"


@contextmanager
def _paused() -> Iterator[list[float]]:
    """Seconds of each collection while the block runs, as every thread waits for it."""
    pauses, began = list[float](), 0.0

    def note(phase: str, _details: object) -> None:
        nonlocal began
        if phase == "start":
            began = time.perf_counter()
        else:
            pauses.append(time.perf_counter() - began)

    gc.callbacks.append(note)
    try:
        yield pauses
    finally:
        gc.callbacks.remove(note)


def _shares(measured: list[float], shares: dict[str, float]) -> str:
    measured.sort()
    return ", ".join(
        f"{name} {measured[min(int(len(measured) * share), len(measured) - 1)]:.2f}" for name, share in shares.items()
    )


def _timed(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def _caller() -> tuple[Principal, ToolCall]:
    """Somebody that no kill covers, in every kind of scope."""
    principal = Principal(
        issuer="bench",
        tenant=TENANT,
        agent=secrets.token_hex(8),
        subject="bench",
        session=secrets.token_hex(8),
        parents=tuple(secrets.token_hex(8) for _ in range(3)),
        jti_sha256=secrets.token_hex(32),
    )
    tool = Tool(
        server="default",
        name=secrets.token_hex(8),
        protocol=Protocol.MCP,
        method="tools/call",
        capabilities=("payments", "memory_write"),
        connector=secrets.token_hex(8),
    )
    return principal, ToolCall(tool=tool, destination=Destination("bank.example", 443))


def _lookups(follower: Follower, seconds: float) -> Iterator[tuple[str, str, str]]:
    callers = [_caller() for _ in range(20_000)]
    clock, covering, taken = time.perf_counter_ns, follower.covering, list[int]()
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        for principal, call in callers:
            began = clock()
            covering(principal, call)
            taken.append(clock() - began)
    told = _shares([nanoseconds / 1e3 for nanoseconds in taken], {"p50": 0.5, "p99": 0.99, "p99.9": 0.999})
    yield "one whole check, all scopes, strings never seen (us)", told, "bar p99 5"


def _replicated(follower: Follower, ledger: Ledger, seconds: float) -> Iterator[tuple[str, str, str]]:
    batches = [ledger.batch(100) for _ in range(int(RATE * seconds / 100))]
    began, cpu = time.perf_counter(), time.process_time()
    for signed in batches:
        follower.take(ledger.stream, signed)
    wall, cpu = time.perf_counter() - began, time.process_time() - cpu
    count = len(batches) * 100
    told = f"bar {RATE:,}; {cpu / count * 1e6:.1f} us of CPU each"
    yield "kills a second, verified, on disk and applied", f"{count / wall:,.0f}", told
    if follower.position(ledger.stream) != (1, ledger.sequence):
        raise RuntimeError("the follower fell behind")


def _fed(
    folder: Path, follower: Follower, rate: int, seconds: float, late: list[float]
) -> Iterator[tuple[str, str, str]]:
    """A feed of new kills, from the ledger's transaction to this sidecar."""
    with _paused() as pauses:
        fed = kill_feed.feed(folder, follower, rate, seconds)
    control, sidecar = (f"{spent / fed.kills * 1e6:.1f} us" for spent in (fed.control_cpu_s, fed.sidecar_cpu_s))
    pace = f"{rate:,} a second" if rate else "as fast as can be"
    told = f"bar {RATE:,}; CPU each: control plane {control}, sidecar {sidecar}"
    yield f"kills a second from ledger to sidecar, {pace}", f"{fed.rate:,.0f}", told
    late.sort()
    shares = {"p50": 0.5, "p99": 0.99, "max": 1.0}
    told = ", ".join(
        f"{name} {late[min(int(len(late) * share), len(late) - 1)] * 1e3:.0f}" for name, share in shares.items()
    )
    yield "  how late each was applied (ms)", told, f"of {len(late):,}"
    yield "  longest garbage collection", f"{max(pauses, default=0.0) * 1e3:.1f} ms", f"of {len(pauses)}"


def _decisions(
    folder: Path, follower: Follower, ledgers: tuple[Ledger, Ledger], seconds: float
) -> Iterator[tuple[str, str, str]]:
    """The same decision without and with kills, in turns, while heartbeats keep them fresh."""
    workload = prepare(folder)
    config = _config(workload, folder)
    sidecar = Sidecar(config)
    sidecar.start()
    over = threading.Event()

    def beat() -> None:
        while not over.wait(0.4):
            for ledger in ledgers:
                follower.take(ledger.stream, ledger.heartbeat())

    beating = threading.Thread(target=beat)
    beating.start()
    try:
        for ledger in ledgers:
            follower.take(ledger.stream, ledger.heartbeat())
        ports = sidecar._ports()  # noqa: SLF001 - the same decision but for one port
        with_kills = PolicyDecisionPoint(config, dataclasses.replace(ports, kills=follower))
        judged = [
            ExtAuthz(pdp, Replies(lambda _check, _route, _principal: None), SystemClock())
            for pdp in (PolicyDecisionPoint(config, ports), with_kills)
        ]
        spent = _in_turns(judged, workload.granted, seconds)
    finally:
        over.set()
        beating.join()
        sidecar.stop()
    without, following = spent
    ratio = f"{(following / without - 1) * 100:+.1f} %"
    yield "a decision's CPU with kills over without", ratio, f"bar +8 %; {without:.0f} and {following:.0f} us"


def _in_turns(judged: list[ExtAuthz], request: bytes, seconds: float) -> list[float]:
    """Microseconds of this thread's CPU, the least of many short rounds each."""
    best = [float("inf")] * len(judged)
    until = time.perf_counter() + 2 * seconds
    while time.perf_counter() < until:
        for index, each in enumerate(judged):
            if not each.check(request, _Committed()).decision.forwards:
                raise RuntimeError("the granted call was refused")
            began = time.thread_time()
            for _ in range(100):
                each.check(request, _Committed())
            best[index] = min(best[index], (time.thread_time() - began) * 1e4)
    return best


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
