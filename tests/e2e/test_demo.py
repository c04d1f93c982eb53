"""`authz demo`: every promise is kept with the starter policy, and a broken one is seen."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


def demo(state: Path, *options: str) -> tuple[int, list[dict[str, Any]]]:
    command = [sys.executable, "-m", "authz", "demo", "--state", str(state), "--output", "json", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def test_every_promise_is_kept(tmp_path: Path) -> None:
    code, rows = demo(tmp_path)
    assert [row["call"] for row in rows if not row["kept"]] == []
    assert code == 0
    assert {row["outcome"] for row in rows} == {"allow", "deny", "sanitize", "approval_needed"}
    assert all(row["decision_id"] for row in rows)
    stopped = [row for row in rows if row["reason"] == "REVOKED"]
    assert [row["agent"] for row in stopped] == ["research-agent", "billing-agent"]
    assert all("known to every sidecar after" in row["client_saw"] for row in stopped)
    (sanitized,) = (row for row in rows if row["reason"] == "email_redacted")
    assert "4111" not in json.dumps(sanitized["server_saw"])


def test_a_policy_that_denies_all_is_told_apart_row_by_row(tmp_path: Path) -> None:
    closed = tmp_path / "closed.rego"
    closed.write_text('package authz\n\ndecision := {"effect": "deny", "reason": "closed"}\n')
    code, rows = demo(tmp_path / "state", "--policy", str(closed))
    assert code == 1
    kept = {row["call"]: row["kept"] for row in rows}
    assert not kept["tools/list"]
    assert not kept["read_document /docs/report.txt"]
    assert kept["read_document, no token"]


def test_a_policy_that_does_not_load_is_named(tmp_path: Path) -> None:
    broken = tmp_path / "broken.rego"
    broken.write_text("package authz\n\ndecision :=\n")
    command = [sys.executable, "-m", "authz", "demo", "--state", str(tmp_path / "state"), "--policy", str(broken)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert "up.log" in done.stderr
    assert "broken.rego" in (tmp_path / "state" / "demo" / "up.log").read_text()
