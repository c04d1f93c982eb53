"""`make bench` runs, says what it measured, and keeps one file. Times are never asserted: they are the machine's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.e2e.serving import ROOT

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(180)]


def bench(*options: str, plugin: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bench", "--seconds", "0.3", "--rounds", "1", "--only", "bare-grpc.aio", *options]
    environment = {**os.environ, "OPA_ENVOY_PLUGIN": plugin}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def test_a_run_prints_each_program_each_bar_and_each_step(tmp_path: Path) -> None:
    run = bench("--results", str(tmp_path))
    assert run.returncode == 0, run.stderr
    assert "NO PEER" in run.stderr
    begun = [line.split()[0] for line in run.stdout.splitlines() if line]
    assert {"authz", "bare-grpc.aio", "bar", "engine", "reply"} <= set(begun)
    (kept,) = tmp_path.glob("*.json")
    document = json.loads(kept.read_text())
    assert document["programs"]["authz"]["errors"] == 0
    assert document["steps_us"].keys() >= {
        "engine",
        "reply",
        "whole check",
        "Python, 8 in a turn",
        "engine, 8 in a turn",
    }
    assert os.uname().nodename not in kept.read_text()


def test_json_is_all_that_stdout_holds(tmp_path: Path) -> None:
    run = bench("--output", "json", "--results", "")
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout)["schema"] == "authz.bench/v1"
    assert not list(tmp_path.iterdir())


def test_a_peer_that_does_not_start_is_named_and_nothing_is_measured() -> None:
    run = bench("--only", "opa-envoy-plugin", "--results", "", plugin="/nonexistent/opa-envoy-plugin")
    assert run.returncode == 3
    assert "/nonexistent/opa-envoy-plugin" in run.stderr
    assert run.stdout == ""
