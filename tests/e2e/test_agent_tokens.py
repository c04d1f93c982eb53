"""Tokens of the control plane at a decision service: by its published keys, and as a sidecar of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from authz._gen.authz.control.v1 import keys_pb2, sidecars_pb2
from authz._gen.envoy.type.v3.http_status_pb2 import StatusCode
from authz.identity.development_issuer import open_issuer
from tests.e2e.control import controlling, environment
from tests.e2e.serving import STARTER, STOP_S, Served, serving, tool_call
from tests.e2e.stack import eventually
from tests.token_desk import claims_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.e2e.control import Controlled

pytestmark = pytest.mark.e2e
AGENT = "research-agent"
UNAUTHORIZED = StatusCode.Value("Unauthorized")


@pytest.fixture(scope="module")
def control(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Controlled]:
    with controlling(tmp_path_factory.mktemp("control")) as controlled:
        yield controlled


def token(control: Controlled, agent: str = AGENT, *words: str) -> str:
    """A token by the command line, which registers the agent in the control plane's own state folder."""
    ran = control.authz("token", "--agent", agent, "--tenant", "acme", *words)
    assert (ran.returncode, ran.stderr) == (0, ""), ran.stderr
    return ran.stdout.strip()


def rotate_keys(control: Controlled, *, emergency: bool = False) -> None:
    request = keys_pb2.RotateKeysRequest(emergency=emergency, reason="a test")
    control.client.call("Keys/RotateKeys", request, keys_pb2.ListKeysResponse)


def allowed(served: Served, bearer: str) -> bool:
    return bool(served.check(tool_call(bearer)).HasField("ok_response"))


def refusal(served: Served, bearer: str) -> tuple[int, str]:
    denied = served.check(tool_call(bearer)).denied_response
    return denied.status.code, json.loads(denied.body)["error"]["data"]["code"]


@contextmanager
def trusting(control: Controlled, state: Path, **limits: Any) -> Iterator[Served]:
    """A decision service that knows the control plane as any other issuer: by its name and the URL of its keys."""
    settings = state / "authz.yaml"
    settings.write_text(json.dumps({"version": 1, "limits": limits}))
    url = control.ready["http"]
    flags = ("--config", str(settings), "--jwks", f"{url}/jwks", "--issuer", url, "--audience", "authz")
    with serving(state, *flags) as served:
        yield served


def test_a_decision_service_trusts_the_control_planes_issuer_by_its_key_set(
    control: Controlled, tmp_path: Path
) -> None:
    with trusting(control, tmp_path) as served:
        assert allowed(served, token(control))
        assert refusal(served, served.token())[0] == UNAUTHORIZED


def test_d13_rotation_at_a_running_service_loses_no_valid_request(control: Controlled, tmp_path: Path) -> None:
    with trusting(control, tmp_path) as served:
        old = token(control)
        assert allowed(served, old)
        rotate_keys(control)
        new = token(control)
        assert claims_of(old)["exp"] > claims_of(new)["iat"]
        assert [allowed(served, each) for each in (old, new, old, new)] == [True] * 4


def test_an_emergency_rotation_refuses_old_tokens_as_soon_as_the_keys_are_read(
    control: Controlled, tmp_path: Path
) -> None:
    with trusting(control, tmp_path, jwks_refresh_s=0.3) as served:
        old = token(control)
        assert allowed(served, old)
        rotate_keys(control, emergency=True)
        assert allowed(served, token(control))
        eventually(lambda: not allowed(served, old))
        assert refusal(served, old) == (UNAUTHORIZED, "TOKEN_KID")


# --- as a sidecar of the control plane, which needs no other address


@contextmanager
def joined(control: Controlled, folder: Path) -> Iterator[Served]:
    request = sidecars_pb2.InviteSidecarRequest(tenants=["acme"])
    invited = control.client.call("Sidecars/InviteSidecar", request, sidecars_pb2.InviteSidecarResponse)
    flags = ["--control", control.ready["http"], "--enrol", invited.token, "--state", str(folder / "sidecar")]
    command = [sys.executable, "-m", "authz", "serve", "--policy", str(STARTER), "--output", "json", *flags]
    command += ["--listen", "127.0.0.1:0", "--diagnostics", "127.0.0.1:0", "--audit-dir", str(folder / "records")]
    with (folder / "serve.log").open("w") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment())
    try:
        line = process.stdout.readline() if process.stdout else ""
        assert line, (folder / "serve.log").read_text()
        yield Served(process=process, ready=json.loads(line), state=folder, issuer=open_issuer(folder))
    finally:
        process.kill()
        process.communicate(timeout=STOP_S)


def test_a_sidecar_takes_tokens_of_its_control_plane_and_what_is_done_to_an_agent_bites(
    control: Controlled, tmp_path: Path
) -> None:
    with joined(control, tmp_path) as served:
        bearer = token(control)
        eventually(lambda: allowed(served, bearer))
        for command, reason in (("pause", "AGENT_PAUSED"), ("resume", "")):
            ran = control.authz("agents", command, AGENT, "--tenant", "acme", "--reason", "a test")
            assert ran.returncode == 0, ran.stderr
            eventually(lambda reason=reason: allowed(served, bearer) == (not reason))  # type: ignore[misc]
            assert not reason or refusal(served, bearer)[1] == reason
        other = token(control)
        ran = control.authz("agents", "rotate", AGENT, "--tenant", "acme", "--key", str(tmp_path / "new.pem"))
        assert ran.returncode == 0, ran.stderr
        eventually(lambda: not allowed(served, bearer) and not allowed(served, other))
        assert refusal(served, bearer)[1] == "REVOKED"
        assert allowed(served, token(control, AGENT, "--key", str(tmp_path / "new.pem")))
