"""`make bench`: the programs beside each other, the bars, the parts of a decision, and one file of history.

Rounds are interleaved: each round measures every program once, so that a machine that slows down slows all of them.
Exit codes as everywhere: 0 measured, 2 usage, 3 something it needs is unavailable.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from bench import micro, report
from bench.load import generator
from bench.measure import measured, medians, warm_up
from bench.programs import PLUGIN, PLUGIN_VARIABLE, programs, running
from bench.workload import prepare

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Sequence

    from bench.measure import Figures
    from bench.workload import Workload

UNAVAILABLE = 3


def main(arguments: Sequence[str]) -> int:
    """Measure, say, keep."""
    options = _parser().parse_args(arguments)
    plugin = os.environ.get(PLUGIN_VARIABLE, "")
    if not plugin:
        _say(f"NO PEER: {PLUGIN} is skipped, and with it the bars against it. Set {PLUGIN_VARIABLE} to its binary.")
    with tempfile.TemporaryDirectory(prefix="authz-bench-") as name:
        folder = Path(name)
        workload = prepare(folder)
        try:
            figures, tells = _beside(workload, folder, plugin, options)
        except (OSError, RuntimeError) as error:
            _say(f"bench: {error}")
            return UNAVAILABLE
        steps = micro.measure(workload, folder, options.seconds)
    settings = {"seconds": options.seconds, "rounds": options.rounds, "gomaxprocs": os.cpu_count(), "sync": "group"}
    run = report.document(figures, steps, settings)
    if options.results:
        report.keep(run, options.results)
    if options.output == "json":
        print(json.dumps(run))
    else:
        parts = (report.table(figures, tells), report.bars_table(report.bars(figures)), report.steps_table(steps))
        print("\n\n".join(parts))
    return 0


def _parser() -> ArgumentParser:
    examples = """examples:
  OPA_ENVOY_PLUGIN=/path/opa-envoy-plugin make bench
  python -m bench --seconds 1 --rounds 1 --only authz"""
    parser = ArgumentParser(
        prog="bench", description=__doc__, epilog=examples, formatter_class=RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=4.0, help="length of each measurement")
    parser.add_argument("--rounds", type=int, default=3, help="times that each program is measured; medians are shown")
    parser.add_argument("--only", nargs="*", default=[], help="names of the programs to measure beside authz")
    parser.add_argument("--output", choices=("table", "json"), default="table")
    parser.add_argument("--results", type=_folder, default=report.RESULTS, help="folder of history; empty keeps none")
    return parser


def _folder(text: str) -> Path | None:
    return Path(text) if text else None


def _beside(
    workload: Workload, folder: Path, plugin: str, options: Namespace
) -> tuple[dict[str, Figures], dict[str, str]]:
    load = generator(folder, [workload.granted])
    chosen = [p for p in programs(workload, folder, plugin) if not options.only or p.name in {"authz", *options.only}]
    rounds: dict[str, list[Figures]] = {program.name: [] for program in chosen}
    with ExitStack() as stack:
        targets = [stack.enter_context(running(program, workload, folder)) for program in chosen]
        for target in targets:
            warm_up(load, target, options.seconds)
        for number in range(options.rounds):
            _say(f"round {number + 1} of {options.rounds}")
            for target in targets:
                rounds[target.program.name].append(measured(load, target, options.seconds))
    return {name: medians(seen) for name, seen in rounds.items()}, {p.name: p.tells for p in chosen}


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
