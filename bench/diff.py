"""`python -m bench.diff`: how fast `authz policy diff` asks two policies about recorded calls, and in how much memory.

The records are real: a sidecar under load writes them, masked, some with an account number whose place a rule reads, so
that those are undecidable. As many as a sidecar writes within seconds are read again and again, because a million of
them need a gigabyte of disk and no more reading. The candidate permits less, so that some calls flip. The bar: 5,000
records a second on two processors, with memory that does not grow with their number. CPU says what a busy machine
would have reached on its own.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bench import programs
from bench.fleet import busy
from bench.load import generator
from bench.workload import ARGUMENTS, MOST, check_request, prepare

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.workload import Workload

BAR: Final = 5_000
DISTINCT: Final = 2_000
"""Calls that differ; of five, one carries an account number."""
WRITTEN_S: Final = 10.0
MIB: Final = 1 << 10
"""What `ru_maxrss` counts, in KiB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """One run of the command."""

    records: int
    seconds: float
    cpu_s: float
    peak_mib: float
    report: dict[str, Any]


def main(arguments: Sequence[str]) -> int:
    """Measure and say."""
    parser = argparse.ArgumentParser(prog="python -m bench.diff", description=__doc__)
    parser.add_argument("--records", type=int, default=50_000, help="at least so many; 1000000 is the bar's number")
    options = parser.parse_args(arguments)
    print(busy())
    with tempfile.TemporaryDirectory(prefix="ab-") as name:
        folder = Path(name)
        workload = prepare(folder)
        written = write_records(workload, folder)
        candidate = stricter(workload.agent_policy, folder / "candidate")
        few = diff(workload.agent_policy, candidate, [written])
        many = diff(workload.agent_policy, candidate, [written] * -(-options.records // few.records))
    for ran in (few, many):
        rate = ran.records / ran.seconds
        print(
            f"{ran.records:,} records: {rate:,.0f} a second (bar {BAR:,}), {ran.cpu_s / ran.records * 1e6:.0f} us of ",
            end="",
        )
        print(f"CPU each on {ran.cpu_s / ran.seconds:.1f} processors, at most {ran.peak_mib:.0f} MiB; {_found(ran)}")
    print(busy())
    return 0


def write_records(workload: Workload, folder: Path) -> Path:
    """A folder of records that a sidecar wrote."""
    rng, requests = random.Random(time.time_ns()), []  # noqa: S311 - no secret
    for number in range(DISTINCT):
        asked = ARGUMENTS | {"amount": rng.randrange(2 * MOST), "note": f"invoice {rng.random()}"}
        if number % 5:
            del asked["account"]
        requests.append(bytes(check_request(workload.token, asked).SerializeToString()))
    program = programs.programs(workload, folder, "")[0]
    with programs.running(program, workload, folder) as target:
        generator(folder, requests).run([target.address], seconds=WRITTEN_S, in_flight=16)
    return folder / "agent-records"


def stricter(policy: Path, to: Path) -> Path:
    """The policy with half of what each grant permits."""
    to.mkdir()
    for file in policy.iterdir():
        (to / file.name).write_bytes(file.read_bytes().replace(b'"most": %d' % MOST, b'"most": %d' % (MOST // 2)))
    return to


def diff(before: Path, after: Path, records: Sequence[Path]) -> Ran:
    """Run the command."""
    command = [sys.executable, "-m", "authz", "policy", "diff", "--from", str(before), "--to", str(after)]
    command += [word for folder in records for word in ("--records", str(folder))] + ["--output", "json"]
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    printed = process.stdout.read() if process.stdout else b""
    _, status, used = os.wait4(process.pid, 0)
    seconds, process.returncode = time.perf_counter() - began, os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError("the command failed")
    report = json.loads(printed)
    asked = report["total"] + report["unreadable"] + report["without_input"]
    cpu_s = used.ru_utime + used.ru_stime
    return Ran(records=asked, seconds=seconds, cpu_s=cpu_s, peak_mib=used.ru_maxrss / MIB, report=report)


def _found(ran: Ran) -> str:
    kinds = {name: ran.report[name] for name in ("same", "flip", "undecidable") if name in ran.report}
    return ", ".join(f"{count:,} {name}" for name, count in kinds.items())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
