"""`python -m bench.shadow`: what a candidate in shadow, compared on every call, costs those who are answered meanwhile.

Two sidecars of one policy: one takes part in a rollout whose candidate is in shadow, the other is pinned and takes part
in none. Calls go to one of them at a time, in windows that lie beside each other, the pinned one before and after, so
that a machine that slows down slows both: the ratio of the two pinned windows is the noise that the third is held to.
First at half of the rate that the pinned one was measured to answer, then as fast as answers come, where what there is
no time for has to be left out and counted. CPU is the sidecar's own.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Final

from authz._gen.authz.control.v1 import rollouts_pb2
from authz.policy import archive
from bench.fleet import PATIENCE_S, TENANT, busy, running
from bench.load import generator
from bench.measure import IN_FLIGHT, RATE_IN_FLIGHT, cpu_us
from bench.workload import MOST, SOURCES, TOOL

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.fleet import Fleet, Sidecar
    from bench.load import Answered, Load

AGENTS: Final = tuple(f"agent-{number}" for number in range(50))
CPU_BAR: Final = 1.45


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """What one sidecar did for a few seconds. `compared` and `shed` are calls."""

    met: Answered
    cpu_us: float
    compared: float
    shed: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """The sidecar with a shadow, between two windows of the one without."""

    before: Window
    shadowed: Window
    after: Window


def main(arguments: Sequence[str]) -> int:
    """Measure and say."""
    parser = argparse.ArgumentParser(prog="python -m bench.shadow", description=__doc__)
    parser.add_argument("--seconds", type=float, default=4.0, help="length of each window")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args(arguments)
    print(busy())
    with tempfile.TemporaryDirectory(prefix="ab-") as name:
        folder = Path(name)
        (folder / "candidates").mkdir()
        (folder / "base.tar.gz").write_bytes(policy(MOST))
        settings = {"paths": [str(folder / "base.tar.gz")], "candidates": str(folder / "candidates")}
        with running(folder, 1, settings) as fleet:
            fleet.join({**settings, "pin": "configured"})
            _measure(fleet, options)
    print(busy())
    return 0


def _measure(fleet: Fleet, options: argparse.Namespace) -> None:
    load = generator(fleet.folder, fleet.requests(AGENTS, each=20))
    for sidecar in fleet.sidecars:
        window(sidecar, load, options.seconds, IN_FLIGHT, 0)
    cast_shadow(fleet)
    capacity = window(fleet.sidecars[1], load, options.seconds, IN_FLIGHT, 0).met.per_second
    half = rounds(fleet, load, options, RATE_IN_FLIGHT, capacity / 2)
    print(f"at {capacity / 2:,.0f} calls a second, half of {capacity:,.0f}:")
    _say("p99", [(r.before.met.p99_ms, r.shadowed.met.p99_ms, r.after.met.p99_ms) for r in half], "ms")
    _say("p50", [(r.before.met.p50_ms, r.shadowed.met.p50_ms, r.after.met.p50_ms) for r in half], "ms")
    _say("CPU a call", [(r.before.cpu_us, r.shadowed.cpu_us, r.after.cpu_us) for r in half], f"us, bar {CPU_BAR}")
    _say_compared(half)
    full = rounds(fleet, load, options, IN_FLIGHT, 0)
    print("as fast as answers come:")
    _say(
        "answers",
        [(r.before.met.per_second, r.shadowed.met.per_second, r.after.met.per_second) for r in full],
        "a second",
    )
    _say_compared(full)
    status = _reported(fleet)
    told = sum(sidecar.metrics()[_sample("shed")] for sidecar in fleet.sidecars[:1])
    print(f"shed in all: {told:,.0f} by the metrics, {status.shed:,} by the rollout's report")


def policy(most: int) -> bytes:
    """An archive of the bench's rules, with a grant for each agent."""
    grants = {TENANT: {agent: {TOOL: {"most": most}} for agent in AGENTS}}
    files = {name: (SOURCES / name).read_bytes() for name in ("grants.rego", "agent.rego")}
    return archive.write({**files, "data.json": json.dumps({"grants": grants}).encode()})


def cast_shadow(fleet: Fleet) -> None:
    """Begin a rollout that stays in shadow, and wait until the sidecar compares."""
    content = policy(MOST + 1)
    digest = sha256(content).hexdigest()
    (fleet.folder / "candidates" / f"{digest}.tar.gz").write_bytes(content)
    request = rollouts_pb2.StartRolloutRequest(
        tenant=TENANT, candidate=digest, plan=rollouts_pb2.RolloutPlan(by_hand=True), reason="a measurement"
    )
    fleet.control.call("Rollouts/StartRollout", request, rollouts_pb2.Rollout)
    over = time.monotonic() + PATIENCE_S
    while not any(standing.ready for standing in fleet.rollout().sidecars):
        if time.monotonic() > over:
            raise RuntimeError(f"no sidecar compares: {fleet.rollout()}")
        time.sleep(0.1)


def rounds(fleet: Fleet, load: Load, options: argparse.Namespace, in_flight: int, rate: float) -> list[Round]:
    """So many, each of three windows."""
    shadowed, plain = fleet.sidecars
    return [
        Round(
            before=window(plain, load, options.seconds, in_flight, rate),
            shadowed=window(shadowed, load, options.seconds, in_flight, rate),
            after=window(plain, load, options.seconds, in_flight, rate),
        )
        for _ in range(options.rounds)
    ]


def window(sidecar: Sidecar, load: Load, seconds: float, in_flight: int, rate: float) -> Window:
    """Call one sidecar for so long."""
    counted, before = sidecar.metrics(), cpu_us(sidecar.process.pid)
    met = load.run([sidecar.check], seconds=seconds, in_flight=in_flight, rate=rate)
    spent, now = cpu_us(sidecar.process.pid) - before, sidecar.metrics()
    done = {kind: now.get(_sample(kind), 0) - counted.get(_sample(kind), 0) for kind in ("agree", "disagree", "shed")}
    return Window(met=met, cpu_us=spent / met.calls, compared=done["agree"] + done["disagree"], shed=done["shed"])


def _say(what: str, windows: Sequence[tuple[float, float, float]], unit: str) -> None:
    """A figure without and with a shadow, their ratio, and that of the two windows without."""
    plain, shadowed = median((a + c) / 2 for a, _, c in windows), median(b for _, b, _ in windows)
    ratio = median(2 * b / (a + c) for a, b, c in windows)
    noise = sorted(c / a for a, _, c in windows)
    print(f"  {what}: {plain:,.1f} without, {shadowed:,.1f} with a shadow ({unit}); ratio {ratio:.2f}, ", end="")
    print(f"noise {noise[0]:.2f} to {noise[-1]:.2f}")


def _say_compared(windows: Sequence[Round]) -> None:
    calls = sum(each.shadowed.met.calls for each in windows)
    compared, shed = (sum(getattr(each.shadowed, name) for each in windows) for name in ("compared", "shed"))
    errors = sum(part.met.errors for each in windows for part in (each.before, each.shadowed, each.after))
    print(f"  of {calls:,} calls {compared:,.0f} were compared and {shed:,.0f} shed; {errors} calls without an answer")


def _reported(fleet: Fleet) -> rollouts_pb2.RolloutStatus:
    """Once the sidecar has told of its last calls."""
    time.sleep(6)
    return fleet.rollout()


def _sample(outcome: str) -> str:
    return f'authz_rollout_compared_total{{outcome="{outcome}"}}'


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
