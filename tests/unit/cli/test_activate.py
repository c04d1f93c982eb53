"""`authz policy activate --stricter`, against a running control plane: what it shows, refuses and has in force."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import orjson
import pytest

from authz._gen.authz.control.v1 import sidecars_pb2 as pb
from authz.policy import archive
from tests.control_planes import control_plane

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.control_planes import Running
    from tests.unit.cli.conftest import Ran, Run

HEADER = "package authz\n\nimport rego.v1\n\n"
LIVE = f"""{HEADER}default decision := {{"effect": "allow", "reason": "live", "risk": "read"}}

decision := {{"effect": "deny", "reason": "blocked"}} if input.agent.id == "mallory"
"""
STRICTER = f"""{HEADER}default decision := {{"effect": "allow", "reason": "contain", "risk": "read"}}

decision := {{"effect": "deny", "reason": "contained"}} if input.args.amount > 3
else := {{"effect": "deny", "reason": "blocked"}} if input.agent.id == "mallory"
"""
LOOSER = f'{HEADER}decision := {{"effect": "allow", "reason": "all", "risk": "read"}}\n'


@pytest.fixture(scope="module")
def control(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with control_plane(tmp_path_factory.mktemp("control") / "state") as running:
        yield running


class Bench:
    """One test's files and tenant."""

    def __init__(self, folder: Path, authz: Callable[..., Ran]) -> None:
        self.folder = folder
        self.authz = authz
        self.record(*(("agent-1", amount) for amount in range(1, 6)), ("mallory", 1))

    def record(self, *calls: tuple[str, int], masked: str = "") -> None:
        lines = [
            orjson.dumps(
                {
                    "decision_id": f"d{number}",
                    "agent": agent,
                    "input": {"agent": {"id": agent}, "args": {"amount": amount}},
                    "masked": [masked] if masked else [],
                }
            )
            for number, (agent, amount) in enumerate(calls)
        ]
        (self.folder / "decisions.jsonl").write_bytes(b"\n".join(lines))

    def bundle(self, name: str, rego: str, golden: list[object] | None = None) -> Path:
        files = {"policy.rego": rego.encode()} | ({"golden/deny.json": orjson.dumps(golden)} if golden else {})
        path = self.folder / f"{name}.tar.gz"
        path.write_bytes(archive.write(files))
        return path

    def activate(self, candidate: str, *more: object, golden: list[object] | None = None) -> Ran:
        return self.authz(
            *("policy", "activate", "--stricter", "--baseline", self.bundle("live", LIVE, golden)),
            *("--candidate", self.bundle("candidate", candidate), "--records", self.folder),
            *("--reason", "an exfiltration", *more),
        )


@pytest.fixture
def bench(control: Running, run: Run, tmp_path: Path, request: pytest.FixtureRequest) -> Bench:
    tenant = f"t-{hashlib.sha256(request.node.name.encode()).hexdigest()[:8]}"
    return Bench(tmp_path, lambda *words: run(*words, "--tenant", tenant, "--state", control.plane.state))


def test_what_was_shown_to_be_stricter_is_in_force_and_said_twice_changes_nothing(bench: Bench) -> None:
    first, again = (bench.activate(STRICTER, "--output", "json").document() for _ in range(2))
    assert first["activated"]
    assert {name: first["shown"][name] for name in ("calls", "looser", "stricter", "undecidable")} == {
        "calls": 6,
        "looser": 0,
        "stricter": 2,
        "undecidable": 0,
    }
    assert (first["rollout"]["stage"], first["rollout"]["share"]) == ("stricter", 1.0)
    assert again["rollout"]["version"] == first["rollout"]["version"]
    assert "everybody, by the stricter of the two" in bench.authz("rollout", "status").out


def test_one_call_that_would_be_let_through_refuses_it_and_is_shown(bench: Bench) -> None:
    ran = bench.activate(LOOSER)
    assert ran.code == 1
    assert "NOT ACTIVATED: 1 of 6 recorded calls" in ran.out
    assert "d5 mallory : deny -> allow all" in ran.out
    told = bench.activate(LOOSER, "--output", "json").document()
    assert (told["activated"], [each["decision_id"] for each in told["shown"]["examples"]]) == (False, ["d5"])
    assert bench.authz("rollout", "status").code == 1, "nothing is under way"


def test_calls_that_nobody_can_judge_show_nothing(bench: Bench) -> None:
    bench.record(("agent-1", 1), masked="/input/agent/id")
    ran = bench.activate(STRICTER)
    assert ran.code == 1
    assert "no recorded call could be compared" in ran.out


def test_f11_a_candidate_that_lets_a_golden_input_pass_is_refused(bench: Bench) -> None:
    ran = bench.activate(STRICTER, golden=[{"agent": {"id": "eve"}, "args": {"amount": 1}}])
    assert ran.code != 0
    assert "golden inputs are not denied" in ran.err
    held = bench.activate(STRICTER, "--output", "json", golden=[{"agent": {"id": "mallory"}, "args": {"amount": 1}}])
    assert held.document()["shown"]["golden"] == 1


def test_f11_the_golden_set_of_a_folder_is_held_too(bench: Bench) -> None:
    folder = bench.folder / "live"
    (folder / "golden").mkdir(parents=True)
    (folder / "policy.rego").write_text(LIVE)
    (folder / "golden" / "deny.json").write_bytes(orjson.dumps([{"agent": {"id": "eve"}, "args": {"amount": 1}}]))
    ran = bench.activate(STRICTER, "--baseline", folder)
    assert ran.code != 0
    assert "golden inputs are not denied" in ran.err


@pytest.mark.parametrize("left_out", ["--stricter", "--records"])
def test_nothing_goes_at_once_without_saying_so_and_being_shown(bench: Bench, left_out: str) -> None:
    words = {
        "--stricter": (),
        "--records": (bench.folder,),
        "--baseline": (bench.bundle("live", LIVE),),
        "--candidate": (bench.bundle("candidate", STRICTER),),
        "--reason": ("why",),
    }
    given = [word for name, rest in words.items() if name != left_out for word in (name, *rest)]
    assert bench.authz("policy", "activate", *given).code == 2


def test_a_sidecar_that_has_not_taken_it_is_no_success(control: Running, bench: Bench, tmp_path: Path) -> None:
    begun = bench.activate(STRICTER, "--wait", "0s", "--output", "json").document()["rollout"]
    member = control.joined(tmp_path / "sidecar", begun["tenant"])
    standing = pb.RolloutReport(tenant=begun["tenant"], rollout=begun["id"], version=1, refused="BUNDLE_UNSIGNED")
    member.control.call("ReportRollouts", pb.ReportRolloutsRequest(reports=[standing]), pb.ReportRolloutsResponse)
    ran = bench.activate(STRICTER, "--wait", "300ms")
    assert ran.code == 3
    assert "in force at 0 of 1 sidecars" in ran.out
    assert "BUNDLE_UNSIGNED" in ran.out
