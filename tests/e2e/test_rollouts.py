"""Rollouts with real programs: a control plane, sidecars under load, and one that is pinned."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from bench import fleet, rollback
from tests.e2e.stack import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bench.fleet import Fleet, Sidecar

pytestmark = pytest.mark.e2e
START_S = 60


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with rollback.running(tmp_path_factory.mktemp("stack"), 2) as running:
        yield running


def test_f11_under_load_candidates_that_flip_or_fail_are_taken_back_by_themselves(stack: Fleet) -> None:
    with rollback.loaded(stack, rate=80, agents=40) as met:
        for rego in (rollback.flipping(50), rollback.FAILING):
            rollback.roll_out(stack, rego, 0.5)
    assert met[0].errors == 0
    assert rollback.mixed(stack) == 0
    records = stack.records()
    named = {(record["rollout"], record["wave"], record["cohort"]) for record in records if record.get("cohort")}
    assert {cohort for _, _, cohort in named} == {"baseline", "candidate"}
    assert {wave for _, wave, _ in named} == {"canary-1"}
    assert len({rollout for rollout, _, _ in named}) == 2


def test_a_sidecar_serves_what_it_is_pinned_to_with_nothing_but_its_disk(stack: Fleet, tmp_path: Path) -> None:
    digest = rollback.place(stack, rollback.flipping(7))
    settings = yaml.safe_load((stack.folder / "0" / "serve.yaml").read_text())
    del settings["control"]
    settings["audit"]["directory"] = str(tmp_path)
    file = tmp_path / "authz.yaml"
    file.write_text(yaml.safe_dump(settings))
    command = [sys.executable, "-m", "authz", "serve", "--config", str(file), "--output", "json", "--pin"]
    served = {pin: _revision([*command, pin]) for pin in ("configured", digest[:12])}
    assert served["configured"] != served[digest[:12]]
    unknown = subprocess.run([*command, "0" * 12], capture_output=True, text=True, timeout=START_S, check=False)
    assert (unknown.returncode, unknown.stdout) == (2, "")


def test_one_command_has_the_stricter_of_two_policies_answer_at_every_sidecar(stack: Fleet) -> None:
    candidate = rollback.place(stack, rollback.flipping(50))
    command = [sys.executable, "-m", "authz", "policy", "activate", "--stricter", "--tenant", fleet.TENANT]
    command += ["--baseline", str(stack.folder / "base.tar.gz"), "--reason", "an exfiltration", "--wait", "20s"]
    command += ["--candidate", str(stack.folder / "candidates" / f"{candidate}.tar.gz"), "--output", "json"]
    command += [word for sidecar in stack.sidecars for word in ("--records", str(sidecar.records))]
    with rollback.loaded(stack, rate=40, agents=20) as met:
        eventually(lambda: bool(stack.records()), START_S)
        told = _told([*command, "--state", str(stack.folder / "control")])
        assert told["sidecars"] == {"following": 2, "stricter": 2, "pinned": []}
        assert told["shown"]["looser"] == 0
        known = {record["decision_id"] for record in stack.records()}

        def later(sidecar: Sidecar) -> list[tuple[str, str]]:
            mine = sidecar.records.glob("decisions-*.jsonl")
            records = [json.loads(line) for file in mine for line in file.read_text().splitlines()]
            return [(each.get("wave", ""), each["effect"]) for each in records if each["decision_id"] not in known]

        both = {("stricter", "allow"), ("stricter", "deny")}
        eventually(lambda: all({*later(sidecar)} >= both for sidecar in stack.sidecars), START_S)
    assert met[0].errors == 0
    back = [sys.executable, "-m", "authz", "rollback", "--tenant", fleet.TENANT, "--reason", "contained"]
    assert _told([*back, "--state", str(stack.folder / "control"), "--output", "json"])["stage"] == "rolled_back"


def _told(command: list[str]) -> Any:
    """What a command prints; it must succeed."""
    ran = subprocess.run(command, capture_output=True, text=True, timeout=START_S, check=False)
    assert ran.returncode == 0, ran.stderr + ran.stdout
    return json.loads(ran.stdout)


def _revision(command: list[str]) -> str:
    """What a sidecar says that it serves."""
    serving = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert serving.stdout is not None
        return str(json.loads(serving.stdout.readline())["revision"])
    finally:
        serving.kill()
        serving.communicate()
