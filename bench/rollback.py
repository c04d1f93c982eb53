"""`python -m bench.rollback`: from a candidate's first canary call to the last one, measured from outside.

Starts `authz control` and sidecars, keeps them under load by many agents, begins a rollout whose candidate flips a
share of the calls as a canary, and does nothing more: the gates must take it back. Then a candidate that fails to judge
calls becomes a canary, and the sidecars must take it out by themselves. Says how long each took by the records of the
sidecars, whether every call got an answer, and whether any decision names a revision that did not make it. Exit codes
as everywhere: 0 measured, 2 usage.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from contextlib import contextmanager
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Final

from authz._gen.authz.control.v1 import rollouts_pb2
from authz.policy import archive
from bench import fleet
from bench.fleet import PATIENCE_S, TENANT, busy
from bench.load import generator

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager

    from bench.fleet import Fleet
    from bench.load import Answered

HEADER: Final = "package authz\n\nimport rego.v1\n\n"
ALLOW: Final = HEADER + 'decision := {"effect": "allow", "reason": "baseline", "risk": "read"}\n'
OURS: Final = {"baseline": {"baseline"}, "candidate": {"candidate", "POLICY_UNDEFINED"}, None: {"baseline"}}
"""What the revision of each cohort says."""
SAID: Final = frozenset[str]().union(*OURS.values())
FAILING: Final = HEADER + 'decision := {"effect": "allow", "reason": "failing"} if input.agent.id == "probe"\n'


def flipping(percent: int) -> str:
    """Denies so many of a hundred calls."""
    return (
        f'{HEADER}default decision := {{"effect": "allow", "reason": "candidate", "risk": "read"}}\n\n'
        f'decision := {{"effect": "deny", "reason": "candidate"}} if input.args.amount % 100 < {percent}\n'
    )


def main(arguments: Sequence[str]) -> int:
    """Measure and say."""
    parser = argparse.ArgumentParser(prog="python -m bench.rollback", description=__doc__)
    parser.add_argument("--sidecars", type=int, default=3)
    parser.add_argument("--rate", type=float, default=500.0, help="calls a second in all")
    parser.add_argument("--agents", type=int, default=301, help="no two calls of one have the same last digits")
    parser.add_argument("--percent", type=int, default=3, help="of the calls that the candidate flips")
    parser.add_argument("--share", type=float, default=0.2, help="of the agents that the canary holds")
    options = parser.parse_args(arguments)
    print(busy())
    with tempfile.TemporaryDirectory(prefix="ab-") as name, running(Path(name), options.sidecars) as stack:
        with loaded(stack, options.rate, options.agents) as met:
            time.sleep(2)
            for what, rego in (("flips", flipping(options.percent)), ("fails", FAILING)):
                roll_out(stack, rego, options.share)
                print(f"a candidate that {what}: {told(stack, stack.rollout().rollout.id)}")
        answered = met[0]
        print(f"{answered.calls} calls, {answered.per_second:.0f} a second, p99 {answered.p99_ms:.1f} ms; ", end="")
        print(f"{answered.errors} without an answer; {mixed(stack)} mixed; refused by sidecars {refused(stack)}")
    print(busy())
    return 0


@contextmanager
def running(folder: Path, sidecars: int) -> Iterator[Fleet]:
    """Sidecars of a policy that allows everything, and of a folder of candidates."""
    (folder / "candidates").mkdir()
    (folder / "base.tar.gz").write_bytes(archive.write({"policy.rego": ALLOW.encode()}))
    policy = {"paths": [str(folder / "base.tar.gz")], "candidates": str(folder / "candidates")}
    with fleet.running(folder, sidecars, policy) as begun:
        yield begun


def loaded(stack: Fleet, rate: float, agents: int) -> AbstractContextManager[list[Answered]]:
    """Many agents call every sidecar in turn, so often a second in all, while the block lasts."""
    requests = stack.requests([f"agent-{number}" for number in range(agents)], each=10)
    return generator(stack.folder, requests).meanwhile(stack.addresses, in_flight=48, rate=rate)


def place(stack: Fleet, rego: str) -> str:
    """A candidate where every sidecar finds it; its digest."""
    content = archive.write({"policy.rego": rego.encode()})
    digest = sha256(content).hexdigest()
    (stack.folder / "candidates" / f"{digest}.tar.gz").write_bytes(content)
    return digest


def roll_out(stack: Fleet, rego: str, share: float) -> None:
    """Begin it as a canary, and wait until it is taken back."""
    request = rollouts_pb2.StartRolloutRequest(
        tenant=TENANT,
        candidate=place(stack, rego),
        plan=rollouts_pb2.RolloutPlan(waves=[share], no_shadow=True),
        reason="a measurement",
    )
    stack.control.call("Rollouts/StartRollout", request, rollouts_pb2.Rollout)
    over = time.monotonic() + PATIENCE_S
    while stack.rollout().rollout.state != rollouts_pb2.ROLLOUT_STATE_ROLLED_BACK:
        if time.monotonic() > over:
            raise RuntimeError(f"it was not taken back within {PATIENCE_S:.0f} s: {stack.rollout()}")
        time.sleep(0.1)
    time.sleep(3)  # until the last sidecar has heard


def told(stack: Fleet, rollout: str) -> str:
    """How long the candidate answered, by the records of each sidecar."""
    answered: dict[str, list[float]] = {}
    for record in stack.records():
        if record.get("rollout") == rollout and record.get("cohort") == "candidate":
            at = datetime.fromisoformat(record["timestamp"][:26] + "+00:00").timestamp()
            answered.setdefault(record["labels"]["id"], []).append(at)
    if not answered:
        return "answered nobody"
    begun = min(map(min, answered.values()))
    ended = max(map(max, answered.values()))
    each = ", ".join(f"{max(times) - min(times):.2f} s" for times in answered.values())
    calls = sum(map(len, answered.values()))
    return f"answered {calls} calls, for {ended - begun:.2f} s in all and {each} at each sidecar; bars 10 s and 2 s"


def mixed(stack: Fleet) -> int:
    """Decisions of a revision that is not their cohort's."""
    return sum(
        record["reason"] in SAID and record["reason"] not in OURS[record.get("cohort")] for record in stack.records()
    )


def refused(stack: Fleet) -> dict[str, int]:
    """Calls that a sidecar denied without a revision's word, by reason: where the disk or the deadline failed it."""
    return dict(Counter(record["reason"] for record in stack.records() if record["reason"] not in SAID))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
