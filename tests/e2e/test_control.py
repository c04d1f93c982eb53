"""`authz control` from outside: one of them, several on one database, and what happens when something is gone."""

from __future__ import annotations

import resource
import shutil
import signal
import stat
from typing import TYPE_CHECKING, Any

import grpc
import pytest
import urllib3
from grpc_health.v1 import health_pb2
from sqlalchemy import text

from authz._gen.authz.control.v1 import agents_pb2, kills_pb2
from authz._gen.authz.control.v1 import operators_pb2 as pb
from authz.cli.control_client import ControlClient, RefusedCallError, UnavailableCallError
from authz.control.dispatcher import FILES
from authz.control.permissions import METHODS, PACKAGE
from authz.database import Database
from authz.errors import ProgramError
from tests.control import described, grpc_refusal, request_class
from tests.databases import make_postgres
from tests.e2e.control import authz, controlling
from tests.e2e.stack import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.databases import PostgresServer
    from tests.e2e.control import Controlled
    from tests.redis_servers import RedisServer

pytestmark = pytest.mark.e2e
VIEWER = pb.Grant(role=pb.ROLE_VIEWER, tenant="acme")


@pytest.fixture(scope="module")
def control(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Controlled]:
    with controlling(tmp_path_factory.mktemp("control")) as controlled:
        yield controlled


def add(client: ControlClient, name: str) -> str:
    request = pb.CreateOperatorRequest(operator=pb.Operator(id=name, grants=[VIEWER], credential=True))
    return client.call("Operators/CreateOperator", request, pb.CreateOperatorResponse).credential


def ids(client: ControlClient) -> list[str]:
    answer = client.call("Operators/ListOperators", pb.ListOperatorsRequest(), pb.ListOperatorsResponse)
    return [each.id for each in answer.operators]


# One


def test_the_first_admin_is_shown_once_kept_for_its_owner_alone_and_works(control: Controlled) -> None:
    kept = control.state / "operator"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    credential = kept.read_text().strip()
    assert (control.state / "log").read_text().count(credential) == 1
    whoami = control.authz("operators", "whoami", "--output", "json")
    assert (whoami.returncode, '"bootstrap-1"' in whoami.stdout) == (0, True)
    assert {stat.S_IMODE(path.stat().st_mode) for path in control.state.glob("control.db*")} == {0o600}


def test_k5_every_method_of_the_table_is_served_and_refuses_strangers(control: Controlled) -> None:
    """Over the whole program: none is missing, and none is open but the one that takes a token of its own."""
    with grpc.insecure_channel(control.ready["grpc"]) as channel:
        answers = {name: asked_by_a_stranger(channel, name) for name in METHODS}
        checked: Any = channel.unary_unary("/grpc.health.v1.Health/Check", None, None)
        for file in FILES:
            for service in file.services_by_name.values():
                request = health_pb2.HealthCheckRequest(service=service.full_name).SerializeToString()
                assert health_pb2.HealthCheckResponse.FromString(checked(request, timeout=20)).status == 1
    assert answers.pop("Sidecars/Enrol") in ("invalid_argument", "unauthenticated", "permission_denied")
    assert set(answers.values()) == {"unauthenticated"}, answers


def asked_by_a_stranger(channel: grpc.Channel, name: str) -> str:
    """How an empty request without credentials is refused."""
    path = f"/{PACKAGE}.{name}"
    call: Any = (channel.unary_stream if described(name).server_streaming else channel.unary_unary)(path, None, None)
    with pytest.raises(grpc.RpcError) as raised:
        tuple(call(b"", timeout=20))
    return grpc_refusal(raised.value).code


def test_k5_another_tenants_ids_are_nobodys_here(control: Controlled) -> None:
    """An admin of acme asks for what rival has: by rival's name it is refused, by its own there is no such thing."""
    admin = control.client
    agent = agents_pb2.Agent(tenant="rival", id="payer", owner="o", purpose="p", autonomy=agents_pb2.AUTONOMY_OBSERVE)
    admin.call("Agents/CreateAgent", agents_pb2.CreateAgentRequest(agent=agent, reason="r"), agents_pb2.Agent)
    scope = kills_pb2.Scope(kind=kills_pb2.SCOPE_KIND_SESSION, tenant="rival", value="s-1")
    created = kills_pb2.CreateKillRequest(scope=scope, reason="seen in incident 7")
    kill = admin.call("Kills/CreateKill", created, kills_pb2.KillReceipt).kill.id
    grant = pb.Grant(role=pb.ROLE_ADMIN, tenant="acme")
    made = pb.CreateOperatorRequest(operator=pb.Operator(id="acme-admin", grants=[grant], credential=True))
    credential = admin.call("Operators/CreateOperator", made, pb.CreateOperatorResponse).credential
    here = ControlClient(url=admin.url, credential=credential, pool=urllib3.PoolManager())
    for name in METHODS:
        fields = {field.name for field in request_class(name).DESCRIPTOR.fields}
        if not {"tenant", "id"} <= fields:
            continue
        for tenant, codes in (("rival", {"permission_denied"}), ("acme", {"not_found", "invalid_argument"})):
            request = request_class(name)(tenant=tenant, id=kill if name.startswith("Kills/") else "payer")
            if "reason" in fields:
                request.reason = "seen in incident 7"  # type: ignore[attr-defined]
            if "lifecycle" in fields:
                request.lifecycle = agents_pb2.LIFECYCLE_PAUSED  # type: ignore[attr-defined]
            with pytest.raises(RefusedCallError) as raised:
                here.call(name, request, agents_pb2.Agent)
            assert raised.value.code in codes, (name, tenant, raised.value)
    assert not here.call(
        "Agents/ListAgents", agents_pb2.ListAgentsRequest(tenant="acme"), agents_pb2.ListAgentsResponse
    ).agents
    assert not here.call(
        "Kills/ListKills", kills_pb2.ListKillsRequest(tenant="acme", all=True), kills_pb2.ListKillsResponse
    ).kills


def test_operators_by_the_command_line(control: Controlled) -> None:
    made = control.authz("operators", "add", "cli-ana", "--grant", "viewer:acme", "--credential", "--expires", "8h")
    assert made.returncode == 0, made.stderr
    credential = made.stdout.splitlines()[-1]
    shown = authz("operators", "whoami", "--control", control.ready["http"], AUTHZ_OPERATOR_CREDENTIAL=credential)
    assert (shown.returncode, "viewer:acme" in shown.stdout) == (0, True)
    denied = authz("operators", "list", "--control", control.ready["http"], AUTHZ_OPERATOR_CREDENTIAL=credential)
    assert (denied.returncode, "CONTROL_FORBIDDEN" in denied.stderr, credential in denied.stderr) == (1, True, False)
    removed = control.authz("operators", "remove", "cli-ana", "--reason", "left")
    assert removed.returncode == 0
    record = control.authz("operators", "actions", "--output", "json").stdout
    assert all(part in record for part in ("CONTROL_FORBIDDEN", '"cli-ana"', '"left"'))


def test_the_addresses_are_where_the_command_line_looks_for_them(control: Controlled) -> None:
    told = urllib3.request("GET", f"{control.ready['http']}/.well-known/authz-control", retries=False).json()
    assert {name: control.ready[name] for name in ("http", "grpc", "replication")} == told


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_exit_code_0_and_what_it_knew_is_there_again(tmp_path: Path, number: int) -> None:
    with controlling(tmp_path / "state") as first:
        add(first.client, "ana")
        assert first.end(number) == 0
    with controlling(tmp_path / "state") as second:
        assert ids(second.client) == ["ana", "bootstrap-1"]
        assert "first admin" not in (tmp_path / "state" / "log").read_text()


def test_what_was_acknowledged_survives_sigkill(tmp_path: Path) -> None:
    with controlling(tmp_path / "state") as first:
        names = [f"op-{number}" for number in range(5)]
        for name in names:
            add(first.client, name)
        first.process.kill()
        first.process.wait()
    with controlling(tmp_path / "state") as second:
        assert set(names) <= set(ids(second.client))


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--database", "mysql://localhost/x"), "neither SQLite nor PostgreSQL"),
        (("--http", "0.0.0.0:0"), "plaintext"),
        (("--grpc", "0.0.0.0:0"), "plaintext"),
        (("--database", "postgresql://db.example/authz"), "plaintext"),
    ],
)
def test_k4_an_unsafe_setting_does_not_start(tmp_path: Path, flags: tuple[str, str], says: str) -> None:
    ended = authz("control", "--state", str(tmp_path), *flags)
    assert (ended.returncode, says in ended.stderr, ended.stdout) == (2, True, ""), ended.stderr


def test_k4_an_unknown_key_is_named_with_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "control.yaml").write_text("version: 1\ncontrol: {databse: 'sqlite:///x'}\n")
    ended = authz("control", "--config", str(tmp_path / "control.yaml"), "--state", str(tmp_path))
    assert ended.returncode == 2
    assert "did you mean `database`" in ended.stderr


def test_a_command_without_a_control_plane_says_what_to_do(tmp_path: Path) -> None:
    nowhere = authz("operators", "whoami", "--state", str(tmp_path))
    assert (nowhere.returncode, "--control URL" in nowhere.stderr) == (2, True)
    silent = authz("operators", "whoami", "--control", "http://127.0.0.1:9", "--state", str(tmp_path))
    assert (silent.returncode, "is `authz control` running there?" in silent.stderr) == (3, True)
    remote = authz("operators", "whoami", "--control", "http://control.example", "--state", str(tmp_path))
    assert (remote.returncode, "use https" in remote.stderr) == (2, True)


# Several


def joining(state: Path, first: Controlled) -> Path:
    """A state folder with what every instance is given: the key-encryption key, and here the first credential too."""
    state.mkdir()
    for name in ("key-encryption.key", "operator"):
        shutil.copy(first.state / name, state / name)
    return state


def test_two_instances_on_one_database_are_one_control_plane(tmp_path: Path, postgres_url: str) -> None:
    """Created on one, read on the other; revoked on one, refused by the other; one first admin."""
    with (
        controlling(tmp_path / "a", "--database", postgres_url) as a,
        controlling(joining(tmp_path / "b", a), "--database", postgres_url) as b,
    ):
        assert "first admin" not in (b.state / "log").read_text()
        credential = add(a.client, "ana")
        assert ids(b.client) == ["ana", "bootstrap-1"]
        ana = ControlClient(url=b.client.url, credential=credential, pool=urllib3.PoolManager())
        assert ana.call("Operators/WhoAmI", pb.WhoAmIRequest(), pb.Operator).id == "ana"
        a.client.call("Operators/DeleteOperator", pb.DeleteOperatorRequest(id="ana"), pb.Operator)
        with pytest.raises(RefusedCallError, match="CONTROL_UNAUTHENTICATED"):
            ana.call("Operators/WhoAmI", pb.WhoAmIRequest(), pb.Operator)
        listed = a.client.call("Operators/ListActions", pb.ListActionsRequest(), pb.ListActionsResponse)
        assert listed.actions[0].outcome == "CONTROL_UNAUTHENTICATED"


def test_leadership_moves_when_the_leader_is_killed(
    tmp_path: Path, postgres_url: str, redis_server: RedisServer
) -> None:
    """The publisher of kills: one instance holds the lease; SIGKILL it, and another takes over in a new term."""
    database = Database(postgres_url)

    def leader() -> tuple[str, int] | None:
        query = text("SELECT holder, term FROM leases WHERE name = 'kills-publisher'")
        with database.read() as connection:
            row = connection.execute(query).one_or_none()
        return (str(row.holder), int(row.term)) if row else None

    flags = ("--database", postgres_url, "--redis", redis_server.url)
    with controlling(tmp_path / "a", *flags) as a:
        first = eventually(leader)
        with controlling(joining(tmp_path / "b", a), *flags) as b:
            assert leader() == first
            a.process.kill()
            a.process.wait()
            second = eventually(lambda: found if (found := leader()) != first else None)
            assert second[0] != first[0]
            assert second[1] > first[1]
            assert ids(b.client) == ["bootstrap-1"]
    database.close()


# Something is gone


@pytest.fixture
def own_postgres() -> Iterator[PostgresServer]:
    server = make_postgres()
    server.start()
    yield server
    server.stop()
    shutil.rmtree(server.folder, ignore_errors=True)


def test_without_its_database_it_says_so_acknowledges_nothing_and_comes_back(
    tmp_path: Path, own_postgres: PostgresServer
) -> None:
    with controlling(tmp_path / "state", "--database", own_postgres.url()) as control:
        add(control.client, "before")
        own_postgres.stop(signal.SIGQUIT)
        with pytest.raises(UnavailableCallError, match="DATABASE_UNAVAILABLE"):
            add(control.client, "during")
        ready = f"{control.ready['http']}/readyz"
        eventually(lambda: urllib3.request("GET", ready, retries=False).status == 503)
        assert urllib3.request("GET", f"{control.ready['http']}/healthz", retries=False).status == 200
        with grpc.insecure_channel(control.ready["grpc"]) as channel:
            check: Any = channel.unary_unary("/grpc.health.v1.Health/Check", None, None)
            eventually(lambda: health_pb2.HealthCheckResponse.FromString(check(b"", timeout=20)).status == 2)
        own_postgres.start()
        eventually(lambda: urllib3.request("GET", ready, retries=False).status == 200)
        add(control.client, "after")
        assert ids(control.client) == ["after", "before", "bootstrap-1"]


def test_a_full_disk_is_unavailable_and_nothing_is_acknowledged_that_is_not_kept(tmp_path: Path) -> None:
    """The disk is as large as the process may make a file: SQLite then fails as on a full one."""
    with controlling(tmp_path / "state") as control:
        size = (control.state / "control.db-wal").stat().st_size
        resource.prlimit(control.process.pid, resource.RLIMIT_FSIZE, (size + 200_000, resource.RLIM_INFINITY))
        kept = ["bootstrap-1"]
        for number in range(2000):
            try:
                add(control.client, f"op-{number:04}")
            except (UnavailableCallError, ProgramError) as error:
                assert "DATABASE_UNAVAILABLE" in str(error)  # noqa: PT017 - what came before must be kept
                break
            kept.append(f"op-{number:04}")
        else:
            pytest.fail("the disk never was full")
        resource.prlimit(control.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        assert sorted(kept) == ids(control.client)
