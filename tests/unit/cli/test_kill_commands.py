"""`authz kill`, `lift` and `kills`, against a running control plane and sidecars that joined it."""

from __future__ import annotations

import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from authz._gen.authz.control.v1 import operators_pb2
from authz._gen.authz.control.v1 import sidecars_pb2 as pb
from authz.cli.control_client import CREDENTIAL
from authz.encoding import token_digest
from authz.revocation import publication_sql
from authz.revocation.publication_sql import PublicationState
from tests.control_planes import control_plane

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from authz.enrolment.membership import Membership
    from tests.control_planes import Running
    from tests.unit.cli.conftest import Ran, Run

REASON = "sends invoices to strangers"


@pytest.fixture(scope="module")
def control(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with control_plane(tmp_path_factory.mktemp("control") / "state") as running:
        yield running


@pytest.fixture
def tenant(request: pytest.FixtureRequest) -> str:
    """One for each test: the control plane is shared."""
    return f"t-{abs(hash(request.node.name))}"


@pytest.fixture
def authz(control: Running, run: Run) -> Callable[..., Ran]:
    def authz(*arguments: object) -> Ran:
        return run(*arguments, "--state", control.plane.state)

    return authz


@pytest.fixture
def as_second(control: Running, tenant: str, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From its call on, somebody else than the first admin is at the keyboard."""
    grant = operators_pb2.Grant(role=operators_pb2.ROLE_SECURITY_LEAD, tenant=tenant)
    made = operators_pb2.Operator(id=f"second-{tenant}", credential=True, grants=[grant])
    request = operators_pb2.CreateOperatorRequest(operator=made)
    credential = control.ask("Operators/CreateOperator", request, operators_pb2.CreateOperatorResponse).credential
    return lambda: monkeypatch.setenv(CREDENTIAL, credential)


class Applying:
    """A sidecar that says it has applied whatever the control plane has."""

    def __init__(self, member: Membership, stream: str) -> None:
        self._member, self._stream = member, stream
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> None:
        self._apply()
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(20)

    def _run(self) -> None:
        while not self._stop.wait(0.02):
            self._apply()

    def _apply(self) -> None:
        trust = self._member.control.call("ReadTrust", pb.ReadTrustRequest(), pb.Trust)
        (stream,) = [each for each in trust.streams if each.stream == self._stream]
        applied = pb.Applied(stream=stream.stream, epoch=stream.epoch, sequence=stream.sequence)
        self._member.control.call("Report", pb.ReportRequest(applied=[applied]), pb.ReportResponse)


def killed(authz: Callable[..., Ran], tenant: str, *more: object) -> Any:
    ran = authz("kill", "agent", "billing", "--tenant", tenant, "--reason", REASON, "--output", "json", *more)
    return ran.document()


def test_the_answer_has_the_shape_of_the_contract(authz: Callable[..., Ran], tenant: str) -> None:
    ran = authz("kill", "agent", "billing", "--tenant", tenant, "--reason", REASON, "--output", "json")
    assert ran.code == 0
    answer = ran.document()
    kill_id = answer.pop("id")
    assert kill_id.startswith("kill-")
    assert answer == {
        "seq": 1,
        "epoch": 1,
        "scope": {"kind": "agent", "tenant": tenant, "value": "billing"},
        "confirmed": 0,
        "sidecars": [],
        "unreached": [],
    }


def test_a_sidecar_that_confirmed_is_shown_with_its_time_and_one_that_did_not_is_named(
    control: Running, authz: Callable[..., Ran], tenant: str, tmp_path: Path
) -> None:
    here = control.joined(tmp_path / "here", tenant, name="here")
    gone = control.joined(tmp_path / "gone", tenant, name="gone")
    asked = ("kill", "session", "s-1", "--tenant", tenant, "--reason", REASON, "--wait", "10s")
    with Applying(here, tenant):
        ran = authz(*asked)
        answer = authz(*asked, "--output", "json").document()
    assert ran.code == 3
    assert "confirmed by 1 of 2 sidecars" in ran.out
    assert f"{gone.identity.sidecar}  NOT CONFIRMED" in ran.out
    (confirmation,) = answer["sidecars"]
    assert confirmation.pop("ms") >= 0
    assert confirmation == {"id": here.identity.sidecar, "applied_seq": answer["seq"]}
    assert (answer["confirmed"], answer["unreached"]) == (1, [gone.identity.sidecar])
    assert authz(*asked[:-1], "0s").code == 0, "who does not wait asks for no confirmation"


@pytest.mark.parametrize(
    ("what", "name"),
    [
        ("agent", "billing"),
        ("session", "s-1"),
        ("token", "jti-1"),
        ("subtree", "planner"),
        ("override", "jti-2"),
        ("tool", "payments/transfer"),
        ("capability", "payments"),
        ("connector", "svc-bank"),
        ("destination", "bank.example:443"),
        ("memory-writes", "billing"),
    ],
)
def test_everything_of_the_contract_can_be_killed(authz: Callable[..., Ran], tenant: str, what: str, name: str) -> None:
    more = ("--incident", "INC-7", "--expires", "1h", "--output", "json")
    ran = authz("kill", what, name, "--tenant", tenant, "--reason", REASON, *more)
    assert ran.code == 0
    assert ran.document()["scope"]["kind"] == what
    shown = authz("kills", "show", ran.document()["id"], "--output", "json").document()
    assert (shown["state"], shown["incident"], shown["reason"]) == ("in_force", "INC-7", REASON)
    assert shown["created_at"] < shown["expires_at"]


def test_a_tenant_takes_two_people_and_does_not_look_done_before(
    authz: Callable[..., Ran], tenant: str, as_second: Callable[[], None]
) -> None:
    asked = ("kill", "tenant", "--tenant", tenant, "--reason", REASON)
    ran = authz(*asked)
    assert ran.code == 1
    assert "NOT IN FORCE" in ran.out
    assert "authz kill confirm kill-" in ran.out
    awaiting = authz(*asked, "--output", "json")
    assert (awaiting.code, awaiting.document()["state"]) == (1, "awaiting_confirmation")
    kill_id = awaiting.document()["id"]
    same = authz("kill", "confirm", kill_id)
    assert (same.code, "KILL_SAME_SIGNER" in same.err) == (1, True)
    as_second()
    confirmed = authz("kill", "confirm", kill_id)
    assert (confirmed.code, "KILLED" in confirmed.out) == (0, True)
    lifting = authz("lift", kill_id, "--reason", "rotated all credentials")
    assert (lifting.code, "STILL IN FORCE" in lifting.out) == (1, True)


def test_a_lift_finds_its_kill_without_its_tenant(
    authz: Callable[..., Ran], tenant: str, as_second: Callable[[], None]
) -> None:
    first, second = (killed(authz, tenant)["id"] for _ in range(2))
    ran = authz("lift", first, "--reason", "false alarm")
    assert (ran.code, "LIFTED" in ran.out) == (0, True)
    as_second()
    assert authz("lift", second, "--reason", "false alarm").code == 0


@pytest.mark.parametrize("arguments", [("lift", "--reason", "x y"), ("kill", "confirm"), ("kills", "show")])
def test_a_kill_that_is_not_there_is_said(authz: Callable[..., Ran], arguments: tuple[str, ...]) -> None:
    ran = authz(*arguments, "kill-0000")
    assert (ran.code, "KILL_UNKNOWN" in ran.err) == (1, True)


@pytest.mark.parametrize(
    "arguments",
    [
        ("agent", "billing", "--reason", REASON),
        ("tool", "payments/transfer", "--reason", REASON),
        ("agent", "billing", "--tenant", "acme"),
        ("agent", "billing", "--tenant", "*", "--reason", REASON),
        ("agent", "*", "--tenant", "acme", "--reason", REASON),
        ("agent", "--tenant", "acme", "--reason", REASON),
        ("agent", "billing", "--tenant", "acme", "--reason", REASON, "--expires", "soon"),
        ("everything", "--reason", REASON),
        ("confirm",),
    ],
)
def test_what_is_incomplete_or_too_broad_is_refused(authz: Callable[..., Ran], arguments: tuple[str, ...]) -> None:
    ran = authz("kill", *arguments)
    assert ran.code == 2
    assert ran.out == ""


def test_a_tool_of_every_tenant_is_killed_in_as_many_words(authz: Callable[..., Ran]) -> None:
    ran = authz("kill", "tool", "payments/transfer", "--tenant", "*", "--reason", REASON, "--wait", "0s")
    assert ran.code == 0
    assert "tool payments/transfer of every tenant" in ran.out


@pytest.mark.parametrize("what", ["agent", "subtree", "memory-writes"])
def test_a_name_that_nobody_has_is_said_beside_the_receipt(authz: Callable[..., Ran], tenant: str, what: str) -> None:
    for kind, name in (("agent", "Billing"), ("agents", "billing")):
        if kind == "agents":
            assert authz("agents", "add", name, "--tenant", tenant, "--owner", "ana").code == 0
        ran = authz("kill", what, name, "--tenant", tenant, "--reason", REASON)
        assert (ran.code, ran.out.startswith("KILLED")) == (0, True)
        assert (f"no agent `{name}` is registered in {tenant}" in ran.err) is (name == "Billing")


def test_a_family_that_takes_two_people_says_why(authz: Callable[..., Ran], tenant: str) -> None:
    assert authz("agents", "add", "root", "--tenant", tenant, "--owner", "ana").code == 0
    for number in range(4):
        added = authz("agents", "add", f"kid-{number}", "--tenant", tenant, "--owner", "ana", "--parent", "root")
        assert added.code == 0
    ran = authz("kill", "subtree", "root", "--tenant", tenant, "--reason", REASON)
    assert (ran.code, ran.out.startswith("NOT IN FORCE")) == (1, True)
    assert "more of the tenant's agents than one person may" in ran.out
    whole = authz("kill", "tenant", "--tenant", tenant, "--reason", REASON).out
    assert "more of the tenant's agents" not in whole


def test_a_record_says_what_a_kill_is_of_and_never_the_jti(authz: Callable[..., Ran], tenant: str) -> None:
    authz("kill", "tool", "bank/pay", "--tenant", tenant, "--reason", REASON)
    authz("kill", "token", "jti-7", "--tenant", tenant, "--reason", REASON)
    said = authz("operators", "actions", "--tenant", tenant).out.splitlines()
    assert [line.partition("  done  ")[2] for line in said] == [
        f"token {token_digest('jti-7')}  {REASON}",
        f"tool bank/pay  {REASON}",
    ]


def test_kills_alone_lists_what_stands(run: Run, authz: Callable[..., Ran], tenant: str) -> None:
    made = killed(authz, tenant)["id"]
    listed = authz("kills", "list", "--tenant", tenant).out
    assert made in listed
    assert authz("kills", "--tenant", tenant).out == listed
    assert made in authz("kills").out
    assert "watch" in run("kills", "--help").out
    assert authz("kills", "lst").code == 2


def test_the_list_shows_what_stands_and_all_shows_the_rest(authz: Callable[..., Ran], tenant: str) -> None:
    assert authz("kills", "list", "--tenant", tenant).out == "nothing is killed\n"
    first, second = (killed(authz, tenant)["id"] for _ in range(2))
    authz("lift", first, "--reason", "false alarm")
    listed = authz("kills", "list", "--tenant", tenant).out
    assert (second in listed, first in listed, REASON in listed, "agent billing" in listed) == (True, False, True, True)
    everything = authz("kills", "list", "--tenant", tenant, "--all", "--output", "json").document()
    assert [kill["state"] for kill in everything] == ["in_force", "lifted"]
    assert len(authz("kills", "list", "--all", "--limit", "1", "--output", "json").document()) == 1


def test_who_watches_sees_kills_as_they_come(control: Running, authz: Callable[..., Ran], tenant: str) -> None:
    command = [sys.executable, "-m", "authz", "kills", "watch", "--tenant", tenant, "--output", "json"]
    watching = subprocess.Popen([*command, "--state", control.plane.state], stdout=subprocess.PIPE)
    try:
        assert watching.stdout is not None
        first: list[Any] = []
        reading = threading.Thread(target=lambda: first.append(orjson.loads(watching.stdout.readline())))  # type: ignore[union-attr]
        reading.start()
        made: list[str] = []
        while reading.is_alive() and len(made) < 200:  # until the watcher has come up
            made.append(killed(authz, tenant, "--wait", "0s")["id"])
            reading.join(0.1)
        assert first[0]["id"] in made
        assert first[0]["state"] == "in_force"
    finally:
        watching.kill()
        watching.wait(20)
        watching.stdout.close()  # type: ignore[union-attr]


def test_e5_a_redis_that_takes_nothing_is_said_aloud_and_the_kill_stands(
    control: Running, authz: Callable[..., Ran], tenant: str
) -> None:
    database = control.plane._database
    publication_sql.write(database, PublicationState.FAILED, "OOM")
    ran = authz("kill", "agent", "billing", "--tenant", tenant, "--reason", REASON)
    publication_sql.write(database, PublicationState.NONE)
    assert (ran.code, "redis failed" in ran.err) == (0, True)


def test_without_a_control_plane_it_says_where_it_looked(run: Run, tmp_path: Path) -> None:
    asked = ("kill", "agent", "billing", "--tenant", "acme", "--reason", REASON)
    assert run(*asked, "--state", tmp_path).code == 2
    ran = run(*asked, "--control", "http://127.0.0.1:9")
    assert (ran.code, "127.0.0.1:9" in ran.err) == (3, True)
