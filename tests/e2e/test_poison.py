"""A policy that ends the service while it is opened, in a real process: the last good one answers after two crashes."""

from __future__ import annotations

import json
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.serving import ask, serving, tool_call

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.serving import Served

pytestmark = pytest.mark.e2e

GOOD = 'package authz\n\ndecision := {"effect": "allow", "reason": "good"}\n'
# A number of 64 TiB: Go ends the whole process when memory cannot be had, and nothing can recover from that.
POISON = 'package authz\n\ndecision := {"effect": "allow", "reason": "poison"} if bits.lsh(1, 562949953421312) > 0\n'


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    folder = tmp_path / "policy"
    folder.mkdir()
    (folder / "policy.rego").write_text(GOOD)
    return folder


def reason(served: Served) -> str:
    with served.channel() as channel:
        answer = ask(channel, tool_call(served.token()))
    return str(dict(answer.dynamic_metadata.items())["reason"])


def ready(served: Served) -> dict[str, Any]:
    with urllib.request.urlopen(f"http://{served.ready['diagnostics']}/readyz", timeout=5) as answer:
        document: dict[str, Any] = json.load(answer)
    return document


def failure(tmp_path: Path, policy: Path) -> str:
    """Why a service does not start."""
    with pytest.raises(AssertionError) as failed, serving(tmp_path, "--state", str(tmp_path), policy=policy):
        pass
    return str(failed.value)


def crash(tmp_path: Path, policy: Path) -> None:
    """A start that ends in the middle of opening the policy."""
    with (
        pytest.raises(AssertionError, match="out of memory"),
        serving(tmp_path, "--state", str(tmp_path), policy=policy),
    ):
        pass


def test_f15_a_policy_that_ends_the_service_twice_is_not_opened_a_third_time(tmp_path: Path, policy: Path) -> None:
    with serving(tmp_path, "--state", str(tmp_path), policy=policy) as served:
        assert reason(served) == "good"
    (policy / "policy.rego").write_text(POISON)
    crash(tmp_path, policy)
    crash(tmp_path, policy)
    with serving(tmp_path, "--state", str(tmp_path), policy=policy) as served:
        assert reason(served) == "good"
        assert (ready(served)["status"], ready(served)["degraded"]) == ("ready", {"policy": "BUNDLE_POISON"})
        assert "BUNDLE_POISON" in (tmp_path / "serve.log").read_text()
        assert served.records()[-1]["revision"] == served.ready["revision"]


def test_f15_a_reload_that_ends_the_service_counts_as_a_crash(tmp_path: Path, policy: Path) -> None:
    with serving(tmp_path, "--state", str(tmp_path), policy=policy) as served:
        (policy / "policy.rego").write_text(POISON)
        assert served.process.wait(20) != 0
    crash(tmp_path, policy)
    with serving(tmp_path, "--state", str(tmp_path), policy=policy) as served:
        assert reason(served) == "good"


def test_f14_an_oversize_policy_leaves_the_active_one_and_shows(tmp_path: Path, policy: Path) -> None:
    with serving(tmp_path, policy=policy) as served:
        assert ready(served)["degraded"] == {}
        for times in (33, 66):
            (policy / "data.json").write_text(json.dumps({"pad": "x" * (times << 20)}))
            while ready(served)["degraded"] != {"policy": "BUNDLE_SIZE"}:
                assert served.process.poll() is None
        assert reason(served) == "good"
        (policy / "data.json").write_text("{}")
        while ready(served)["degraded"]:
            assert served.process.poll() is None
        assert reason(served) == "good"
