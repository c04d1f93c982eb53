"""`python -m bench.yaml_rules`: what a policy in YAML costs with 10 rules and with 1,000, compiled and asked.

Each rule allows or narrows one tool of one of ten tenants, with conditions on its arguments; calls meet an allow and
a rule that narrows. Decisions are the engine's alone, taken in turn from both policies, so that a machine that slows
down slows both. The bars: a thousand rules compile within a second, of CPU here, because the wall clock also counts
what else runs; and a decision costs no more than twice as much.
"""

from __future__ import annotations

import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Final

import orjson

from authz.authoring.compiling import MODULE, compile_folder
from authz.native import Library
from authz.policy.engine import PolicySource
from authz.policy.opa_native import NativeEngine
from authz.resources import shared

if TYPE_CHECKING:
    from authz.policy.engine import Query

SIZES: Final = (10, 1000)
ROUNDS: Final = 40
CALLS: Final = 200

_PAIR: Final = """\
  - id: open-{number}
    effect: allow
    match: {{tenant: tenant-{tenant}, agent: agent-{number}, tool: default/tool-{number}}}
    when:
      - {{field: args.amount, above: 0}}
      - {{field: args.amount, at_most: 1000}}
      - {{field: args.currency, in: [EUR, USD]}}
  - id: large-{number}
    effect: approval_needed
    match: {{tool: tool-{number}}}
    when:
      - {{field: args.amount, above: 500}}
      - not: {{field: args.memo, matches: '^internal '}}
    approval: {{approvers: [finance]}}
"""


def write(folder: Path, rules: int) -> float:
    """A policy of so many rules; the CPU seconds that compiling it took."""
    (folder / "policies").mkdir()
    pairs = "".join(_PAIR.format(number=number, tenant=number % 10) for number in range(rules // 2))
    (folder / "policies" / "many.yaml").write_text(f"version: 1\nrules:\n{pairs}")
    began = time.process_time()
    module = compile_folder(folder)
    took = time.process_time() - began
    (folder / MODULE).write_text(module)
    return took


def question(number: int, amount: int) -> bytes:
    """A call of the tool that a pair of rules speaks of."""
    return orjson.dumps(
        {
            "version": 1,
            "phase": "call",
            "agent": {"id": f"agent-{number}", "tenant": f"tenant-{number % 10}", "subject": "s"},
            "tool": {"server": "default", "name": f"tool-{number}", "protocol": "mcp", "method": "tools/call"},
            "args": {"amount": amount, "currency": "EUR", "memo": "desks"},
            "time": {"rfc3339": "2026-11-20T10:00:00Z", "unix_ns": 1_795_168_800_000_000_000},
        }
    )


def measure(query: Query, inputs: list[bytes]) -> float:
    """Microseconds of one decision, the mean of a run."""
    began = time.perf_counter()
    for number in range(CALLS):
        query.evaluate(inputs[number % len(inputs)], 1.0)
    return (time.perf_counter() - began) / CALLS * 1e6


def main() -> None:
    """Measure and print."""
    with ExitStack() as opened:
        queries, seconds = {}, {}
        for rules in SIZES:
            folder = Path(opened.enter_context(tempfile.TemporaryDirectory()))
            seconds[rules] = write(folder, rules)
            source = PolicySource(paths=(folder, shared("rego")))
            policy = opened.enter_context(NativeEngine(Library.load()).open(source))
            queries[rules] = policy.query("authz/decision")
        inputs = {rules: [question(n * (rules // 10), a) for n in range(5) for a in (100, 700)] for rules in SIZES}
        runs = [{rules: measure(queries[rules], inputs[rules]) for rules in SIZES} for _ in range(ROUNDS)]
    few, many = (median(run[rules] for run in runs) for rules in SIZES)
    for rules, cost in zip(SIZES, (few, many), strict=True):
        print(f"{rules:>5} rules: compiled in {seconds[rules] * 1e3:.0f} ms of CPU, {cost:.1f} us for a decision")
    print(f"a decision costs {many / few:.2f} times as much with {SIZES[1]} rules (bar: 2)")


if __name__ == "__main__":
    main()
