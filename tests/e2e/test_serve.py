"""`authz serve` from outside: a process, a socket, signals, files."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from authz.authoring.compiling import compile_folder
from tests.control_planes import control_plane
from tests.e2e.serving import ROOT, STARTER, ask, serving, tool_call, trust
from tests.e2e.stack import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.e2e.serving import Served

pytestmark = pytest.mark.e2e
SERVING, NOT_SERVING = 1, 2
RATED = """version: 1
rules:
  - {id: all, effect: allow, match: {tenant: acme, agent: a, tool: "default/*"}}
  - {id: many, effect: deny, match: {tool: "*"}, when: [rate: {of: calls, per: 1m, above: 20}], reason: too_many_calls}
"""
PATIENCE_S = 10.0


@pytest.fixture(scope="module", params=["native", "grpcio"])
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("serve"), "--transport", request.param) as served:
        yield served


def reason_of(response: Any) -> str:
    reason: str = json.loads(response.denied_response.body)["error"]["data"]["code"]
    return reason


def test_an_allowed_call_is_answered_and_its_record_is_on_disk(served: Served) -> None:
    response = served.check(tool_call(served.token()))
    assert response.status.code == 0
    metadata = dict(response.dynamic_metadata.items())
    record = next(r for r in served.records() if r["decision_id"] == metadata["decision_id"])
    assert (record["effect"], record["enforced"], record["agent"]) == ("allow", "allow", "research-agent")
    assert record["labels"]["revocation"] == "none"


@pytest.mark.parametrize(
    ("agent", "tenant", "tool", "args", "reason"),
    [
        ("research-agent", "acme", "read_document", {"path": "/etc/passwd"}, "path_outside_roots"),
        ("research-agent", "acme", "delete_records", {"table": "t", "where": "1=1"}, "tool_not_granted"),
        ("research-agent", "globex", "read_document", {"path": "/docs/a"}, "tenant_not_granted"),
    ],
)
def test_a_denied_call_says_why(
    served: Served, agent: str, tenant: str, tool: str, args: dict[str, Any], reason: str
) -> None:
    response = served.check(tool_call(served.token(agent, tenant), tool, **args))
    assert response.status.code == 7
    assert reason_of(response) == reason


def test_a_call_without_a_token_is_challenged(served: Served) -> None:
    response = served.check(tool_call(""))
    assert (response.status.code, response.denied_response.status.code) == (16, 401)
    sent = {option.header.key: option.header.value for option in response.denied_response.headers}
    assert 'resource_metadata="http://tools/.well-known/oauth-protected-resource/mcp"' in sent["www-authenticate"]


def test_every_answer_has_exactly_one_record(served: Served) -> None:
    before = {record["decision_id"] for record in served.records()}
    with served.channel() as channel:
        answers = [ask(channel, tool_call(token)) for token in (served.token(), "", "x.y.z", served.token())]
    ids = [str(answer.dynamic_metadata["decision_id"]) for answer in answers]
    after = [r["decision_id"] for r in served.records() if r["decision_id"] not in before]
    assert sorted(after) == sorted(ids)


def test_health_and_probes_say_serving(served: Served) -> None:
    with served.channel() as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        for service in ("", "envoy.service.auth.v3.Authorization", "envoy.service.ext_proc.v3.ExternalProcessor"):
            assert stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=5).status == SERVING
    assert fetch(served, "/readyz")["status"] == "ready"
    assert fetch(served, "/healthz")["status"] == "alive"


def test_metrics_count_decisions_without_names_of_callers(served: Served) -> None:
    served.check(tool_call(served.token(), "read_document", path="/docs/canary-7f3a"))
    with urllib.request.urlopen(f"http://{served.ready['diagnostics']}/metrics", timeout=5) as answer:
        text = answer.read().decode()
    assert 'effect="allow",enforced="allow"' in text
    assert 'authz_revocation_mode{mode="none"} 1.0' in text
    assert "canary-7f3a" not in text
    assert "research-agent" not in text
    assert "acme" not in text


def test_unknown_diagnostics_paths_are_404(served: Served) -> None:
    with pytest.raises(urllib.error.HTTPError, match="404"):
        fetch(served, "/config")


def fetch(served: Served, path: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"http://{served.ready['diagnostics']}{path}", timeout=5) as answer:
        document: dict[str, Any] = json.load(answer)
        return document


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_k1_a_signal_drains_and_exits_zero(tmp_path: Path, number: int) -> None:
    with serving(tmp_path) as served:
        answers: list[int] = []
        stop = threading.Event()

        def keep_asking() -> None:
            with served.channel() as channel:
                while not stop.is_set():
                    try:
                        answers.append(ask(channel, tool_call(served.token())).status.code)
                    except grpc.RpcError:
                        return

        asking = threading.Thread(target=keep_asking)
        asking.start()
        while len(answers) < 20:
            stop.wait(0.01)
        assert served.end(number) == 0
        stop.set()
        asking.join(PATIENCE_S)
        assert set(answers) == {0}
        allowed = [record for record in served.records() if record["enforced"] == "allow"]
        assert len(allowed) >= len(answers)


LISTED = """
import atexit, sys
atexit.register(lambda: print(*sorted({name.partition(".")[0] for name in sys.modules})))
from authz.cli import main
main(sys.argv[1:])
"""


@pytest.mark.parametrize("enrolled", [False, True])
def test_a_sidecar_loads_nothing_of_the_control_plane(tmp_path: Path, *, enrolled: bool) -> None:
    with control_plane(tmp_path / "control") as control:
        flags = ["--policy", str(STARTER), "--state", str(tmp_path), "--audit-dir", str(tmp_path / "records")]
        flags += ["--listen", "127.0.0.1:0", "--diagnostics", "127.0.0.1:0"]
        flags += ["--control", control.url, "--enrol", control.invite("acme")] if enrolled else trust(tmp_path)
        command = [sys.executable, "-c", LISTED, "serve", *flags]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            ready = process.stdout.readline()
            process.send_signal(signal.SIGTERM)
            loaded = process.stdout.read().split()
    assert ready.startswith("authz serves")
    assert "cryptography" in loaded
    assert not {"alembic", "psycopg", "sqlalchemy", "starlette", "uvicorn", "mcp"} & {*loaded}


@pytest.mark.parametrize("transport", ["native", "grpcio"])
def test_reflection_names_the_services_where_it_is_switched_on(tmp_path: Path, transport: str) -> None:
    configuration = tmp_path / "authz.yaml"
    configuration.write_text("version: 1\nlisten: {reflection: true}\n")
    flags = ("--config", str(configuration), "--transport", transport)
    with serving(tmp_path, *flags) as served, served.channel() as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        question = reflection_pb2.ServerReflectionRequest(file_containing_symbol="envoy.service.auth.v3.Authorization")
        answer = next(iter(stub.ServerReflectionInfo(iter([question]), timeout=5)))
        assert answer.file_descriptor_response.file_descriptor_proto


def test_a_unix_socket_has_the_asked_mode(tmp_path: Path) -> None:
    socket = tmp_path / "pdp.sock"
    with serving(tmp_path, "--listen", f"unix://{socket}", "--socket-mode", "0600") as served:
        assert socket.stat().st_mode & 0o777 == 0o600
        assert served.check(tool_call(served.token())).status.code == 0


def test_a_changed_policy_is_reloaded_and_a_bad_one_is_not(tmp_path: Path) -> None:
    folder = tmp_path / "policy"
    folder.mkdir()
    policy = folder / "policy.rego"
    policy.write_text('package authz\n\ndecision := {"effect": "allow", "reason": "one"}\n')
    with serving(tmp_path, policy=folder) as served, served.channel() as channel:

        def reason() -> str:
            metadata = dict(ask(channel, tool_call(served.token())).dynamic_metadata.items())
            return str(metadata["reason"])

        assert reason() == "one"
        policy.write_text('package authz\n\ndecision := {"effect": "allow", "reason": "two"}\n')
        assert eventually(lambda: reason() == "two")
        policy.write_text("package authz\n\ndecision := {\n")
        assert eventually(lambda: "refused" in (tmp_path / "serve.log").read_text())
        assert reason() == "two"


def test_g6_a_policy_without_end_is_stopped_at_its_deadline(tmp_path: Path) -> None:
    folder = tmp_path / "policy"
    folder.mkdir()
    (folder / "policy.rego").write_text(
        "package authz\n\n"
        'decision := {"effect": "allow"} if input.tool.name != "read_document"\n\n'
        'decision := {"effect": "allow"} if {\n'
        '\tinput.tool.name == "read_document"\n'
        "\tx := numbers.range(1, 3000)\n"
        "\tcount([1 | x[_] == x[_] + x[_] * 100000 + 7]) < 0\n"
        "}\n"
    )
    with serving(tmp_path, policy=folder) as served:
        assert reason_of(served.check(tool_call(served.token()))) in ("POLICY_TIMEOUT", "SYS_DEADLINE")
        assert served.check(tool_call(served.token(), "search_web", query="x")).status.code == 0


@pytest.mark.parametrize(
    ("flags", "code", "says"),
    [
        (["--policy", "/absent"], 2, "no policy at"),
        (["--listen", "0.0.0.0:0"], 2, "listen.tls"),
        (["--jwks", "/absent.json"], 2, "absent.json"),
        (["--contract", "neither"], 2, "contract"),
        (["--revocation", "redis://127.0.0.1:1"], 2, "revocation"),
        (["--socket-mode", "rw"], 2, "octal"),
        (["--nonsense"], 2, "nonsense"),
    ],
)
def test_k4_what_is_wrong_or_unsafe_refuses_to_start(tmp_path: Path, flags: list[str], code: int, says: str) -> None:
    command = [sys.executable, "-m", "authz", "serve", "--policy", str(ROOT / "bundles/starter")]
    command += ["--issuer", "https://i", "--audience", "a", "--jwks", str(tmp_path / "jwks.json")]
    (tmp_path / "jwks.json").write_text('{"keys": []}')
    ended = subprocess.run([*command, *flags], capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == code, ended.stderr
    assert says in ended.stderr
    assert "Traceback" not in ended.stderr


def test_the_twenty_first_call_of_a_minute_is_refused_and_of_another_session_the_first_is_not(
    tmp_path: Path,
) -> None:
    policy = tmp_path / "policy"
    (policy / "policies").mkdir(parents=True)
    (policy / "policies" / "calls.yaml").write_text(RATED)
    (policy / "compiled.rego").write_text(compile_folder(policy))
    with serving(tmp_path, policy=policy) as served, served.channel() as channel:
        busy, quiet = (served.issuer.mint(agent="a", tenant="acme", session=name) for name in ("busy", "quiet"))
        answers = [ask(channel, tool_call(busy)) for _ in range(22)]
        assert [answer.status.code for answer in answers] == [0] * 20 + [7] * 2
        assert {reason_of(answer) for answer in answers[20:]} == {"too_many_calls"}
        assert ask(channel, tool_call(quiet)).status.code == 0
        counted = [record["input"]["facts"]["session"]["rates"] for record in served.records()]
    assert counted == [{"calls": {"60": number}} for number in (*range(1, 23), 1)]
