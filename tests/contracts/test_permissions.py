"""K5: the permission table, walked over gRPC and HTTP. What it does not grant is refused and on record."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from authz._gen.authz.control.v1 import sidecars_pb2
from authz.control.callers import PERMISSIONS, Grant, Kind, Permission, Role
from authz.control.dispatcher import FILES
from authz.control.http_app import http_app
from authz.control.permissions import METHODS, PACKAGE, PATHS, rule_for
from authz.database import Database, migrate
from authz.errors import ConfigError
from authz.model import PLATFORM
from tests.control import request_class, running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from google.protobuf.message import Message

    from tests.control import Answer, Plane

    Call = Callable[..., Answer]

OPERATORS = [name for name, rule in METHODS.items() if rule.audience is Kind.OPERATOR]
SIDECARS = [name for name, rule in METHODS.items() if rule.audience is Kind.SIDECAR]
PUBLIC = [name for name, rule in METHODS.items() if rule.audience is Kind.STRANGER]
GUARDED = [*OPERATORS, *SIDECARS]
HERE, ELSEWHERE = "acme", "rival"


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def plane(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    """One for all, since nothing here depends on another test's rows."""
    if request.param == "sqlite":
        folder: Path = tmp_path_factory.mktemp("control")
        url = f"sqlite:///{folder / 'control.db'}"
    else:
        url = request.getfixturevalue("postgres").url()
    database = Database(url)
    migrate(database)
    with running(database) as running_plane:
        yield running_plane
    database.close()


@pytest.fixture(params=["grpc", "http"])
def call(request: pytest.FixtureRequest, plane: Plane) -> Call:
    plane.called.clear()
    return plane.grpc_call if request.param == "grpc" else plane.http_call


def naming(method: str, tenant: str) -> Message:
    """A request of the method that names the tenant wherever it can, and ids of what may exist there."""
    message = request_class(method)()
    _name(message, tenant)
    return message


def _name(message: Any, tenant: str) -> None:
    for field in message.DESCRIPTOR.fields:
        if field.name in {"tenant", "stream"}:
            setattr(message, field.name, tenant)
        elif field.name == "tenants":
            message.tenants.append(tenant)
        elif field.name == "id":
            message.id = "some-id"
        elif field.name in {"applied", "bundles", "reports"}:
            _name(getattr(message, field.name).add(), tenant)
        elif field.name in {"agent", "scope"}:
            _name(getattr(message, field.name), tenant)


def needed(method: str, request: Message) -> tuple[Permission, tuple[str, ...]]:
    rule = METHODS[method]
    return rule.permission_for(request), rule.tenants(request)


def require_recorded(plane: Plane, method: str, answer: Answer, tenant: str = PLATFORM) -> None:
    """The last row is this refusal, and the service was not called."""
    row = plane.last_action()
    assert (row.method, row.outcome, row.tenant) == (f"/{PACKAGE}.{method}", answer.reason, tenant)
    assert method not in plane.called


# The table itself


def test_every_method_of_the_protos_has_a_rule_and_every_rule_a_method() -> None:
    declared = {
        f"{service.name}/{method.name}"
        for file in FILES
        for service in file.services_by_name.values()
        for method in service.methods
    }
    assert declared == set(METHODS)


def test_a_name_outside_the_package_has_no_rule() -> None:
    assert rule_for(f"/{PACKAGE}.Kills/CreateKill") is METHODS["Kills/CreateKill"]
    for name in ("/authz.control.v2.Kills/CreateKill", "/Kills/CreateKill", "", "/", f"/{PACKAGE}.Kills/Other"):
        assert rule_for(name) is None


def test_every_method_that_changes_something_is_recorded() -> None:
    reading = ("Read", "List", "Watch", "WhoAmI", "Pull", "Report", "Renew")
    for name, rule in METHODS.items():
        assert rule.is_recorded is not name.partition("/")[2].startswith(reading), name


def test_each_role_has_what_it_is_said_to_have() -> None:
    read = {Permission.IDENTIFY, Permission.READ}
    respond = read | {Permission.KILL, Permission.PAUSE, Permission.ROLL_BACK, Permission.ACTIVATE}
    lead = respond | {Permission.SIGN, Permission.ROTATE, Permission.HOLD, Permission.ROLL_OUT, Permission.ENFORCE}
    assert {role: set(held) for role, held in PERMISSIONS.items()} == {
        Role.VIEWER: read,
        Role.POLICY_AUTHOR: read | {Permission.POLICY, Permission.ROLL_OUT},
        Role.RESPONDER: respond,
        Role.SECURITY_LEAD: lead,
        Role.ADMIN: set(Permission),
    }


@pytest.mark.parametrize(
    ("granted", "tenant", "reaches"),
    [
        ("acme", "acme", True),
        ("acme", "Acme", False),
        ("acme", "acme ", False),
        ("acme", "", False),
        ("", "", False),
        ("*", "acme", True),
        ("*", "", True),
        ("acm*", "acme", False),
        ("acme", "*", False),
    ],
)
def test_a_grant_reaches_its_tenant_alone_byte_for_byte(granted: str, tenant: str, reaches: bool) -> None:  # noqa: FBT001
    assert Grant(Role.VIEWER, granted).reaches(tenant) is reaches


# Who is nobody


WRONG = {
    "nothing": (),
    "a wrong credential": ("Bearer authz_operator_AAAA",),
    "a token of nobody": ("Bearer eyJhbGciOiJFZERTQSJ9.e30.AAAA",),
    "another scheme": ("Basic YWRtaW46YWRtaW4=",),
    "no token": ("Bearer ",),
    "two": ("Bearer authz_operator_AAAA", "Bearer authz_operator_AAAA"),
}


@pytest.mark.parametrize("method", GUARDED)
@pytest.mark.parametrize("shown", WRONG.values(), ids=WRONG.keys())
def test_k5_without_a_good_credential_every_call_is_refused_and_recorded(
    plane: Plane, call: Call, method: str, shown: tuple[str, ...]
) -> None:
    answer = call(method, naming(method, HERE), *shown)
    assert (answer.code, answer.reason) == ("unauthenticated", "CONTROL_UNAUTHENTICATED")
    require_recorded(plane, method, answer)
    assert plane.last_action().operator == ""


@pytest.fixture(scope="module")
def expired(plane: Plane) -> str:
    return plane.operator(("admin", "*"), life_ns=-1)


@pytest.fixture(scope="module")
def removed(plane: Plane) -> str:
    plane.named("standing-admin", ("admin", "*"))
    credential = plane.named("removed", ("admin", "*"))
    plane.operators.remove("removed")
    return credential


@pytest.mark.parametrize("method", GUARDED)
def test_k5_an_expired_credential_is_refused_and_recorded(plane: Plane, call: Call, method: str, expired: str) -> None:
    answer = call(method, naming(method, HERE), f"Bearer {expired}")
    assert (answer.code, answer.reason) == ("unauthenticated", "CONTROL_EXPIRED")
    require_recorded(plane, method, answer)


@pytest.mark.parametrize("method", GUARDED)
def test_k5_a_removed_operator_is_refused_and_recorded(plane: Plane, call: Call, method: str, removed: str) -> None:
    answer = call(method, naming(method, HERE), f"Bearer {removed}")
    assert (answer.code, answer.reason) == ("unauthenticated", "CONTROL_UNAUTHENTICATED")
    require_recorded(plane, method, answer)


# Who may not


@pytest.fixture(scope="module")
def credentials(plane: Plane) -> dict[tuple[Role, str], str]:
    """An operator for each role, in one tenant and in all."""
    return {(role, tenant): plane.operator((role.value, tenant)) for role in Role for tenant in (HERE, "*")}


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("method", OPERATORS)
def test_k5_a_role_has_its_permissions_in_its_tenant_and_nothing_else(
    plane: Plane, call: Call, credentials: dict[tuple[Role, str], str], method: str, role: Role
) -> None:
    """Each role asks in its own tenant, in another, and for the platform: served, or refused and recorded."""
    for tenant in (HERE, ELSEWHERE, PLATFORM):
        request = naming(method, tenant)
        permission, tenants = needed(method, request)
        holds = permission in PERMISSIONS[role]
        served = holds and all(each == HERE for each in tenants)
        plane.called.clear()
        answer = call(method, request, f"Bearer {credentials[role, HERE]}")
        if served:
            assert (answer.code, plane.called) == ("ok", [method])
        else:
            assert (answer.code, answer.reason) == ("permission_denied", "CONTROL_FORBIDDEN")
            require_recorded(plane, method, answer, tenants[0] if tenants else PLATFORM)
            assert plane.last_action().operator


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("method", OPERATORS)
def test_a_role_for_all_tenants_has_its_permissions_everywhere(
    call: Call, credentials: dict[tuple[Role, str], str], method: str, role: Role
) -> None:
    for tenant in (HERE, ELSEWHERE, PLATFORM):
        request = naming(method, tenant)
        holds = needed(method, request)[0] in PERMISSIONS[role]
        answer = call(method, request, f"Bearer {credentials[role, '*']}")
        assert answer.code == ("ok" if holds else "permission_denied")


def test_k5_a_request_that_names_several_tenants_needs_the_permission_in_each(
    call: Call, credentials: dict[tuple[Role, str], str]
) -> None:
    admin = f"Bearer {credentials[Role.ADMIN, HERE]}"
    for tenants, code in (([HERE], "ok"), ([HERE, ELSEWHERE], "permission_denied"), ([], "permission_denied")):
        assert call("Sidecars/InviteSidecar", sidecars_pb2.InviteSidecarRequest(tenants=tenants), admin).code == code


def test_k5_a_good_credential_beside_another_is_refused(call: Call, credentials: dict[tuple[Role, str], str]) -> None:
    """Two readers could each believe another one."""
    good = f"Bearer {credentials[Role.ADMIN, '*']}"
    for shown in ((good, good), (good, "Bearer authz_operator_AAAA")):
        assert call("Keys/ListKeys", naming("Keys/ListKeys", HERE), *shown).code == "unauthenticated"


@pytest.mark.parametrize("method", SIDECARS)
def test_k5_no_operator_is_a_sidecar(
    plane: Plane, call: Call, credentials: dict[tuple[Role, str], str], method: str
) -> None:
    answer = call(method, naming(method, HERE), f"Bearer {credentials[Role.ADMIN, '*']}")
    assert (answer.code, answer.reason) == ("permission_denied", "CONTROL_FORBIDDEN")
    require_recorded(plane, method, answer)


@pytest.mark.parametrize("method", OPERATORS)
def test_k5_no_sidecar_is_an_operator(plane: Plane, method: str) -> None:
    plane.called.clear()
    answer = plane.grpc_call(method, naming(method, HERE), pair=plane.sidecar("acme-1"))
    assert (answer.code, answer.reason) == ("permission_denied", "CONTROL_FORBIDDEN")
    require_recorded(plane, method, answer)
    assert plane.last_action().operator == "sidecar:acme-1"


@pytest.mark.parametrize("method", SIDECARS)
def test_k5_a_sidecar_reads_its_own_tenants_streams_and_the_platforms(plane: Plane, method: str) -> None:
    pair = plane.sidecar("acme-1")
    for tenant in (HERE, PLATFORM):
        assert plane.grpc_call(method, naming(method, tenant), pair=pair).code == "ok"
    request = naming(method, ELSEWHERE)
    answer = plane.grpc_call(method, request, pair=pair)
    if METHODS[method].tenants(request) == (PLATFORM,):
        assert answer.code == "ok"
    else:
        plane.called.clear()
        assert (answer.code, answer.reason) == ("permission_denied", "CONTROL_FORBIDDEN")
        require_recorded(plane, method, answer, ELSEWHERE)


@pytest.mark.parametrize("method", PUBLIC)
def test_only_joining_is_open_to_strangers_and_it_is_recorded(plane: Plane, call: Call, method: str) -> None:
    assert PUBLIC == ["Sidecars/Enrol"]
    assert call(method, naming(method, HERE)).code == "ok"
    assert (plane.last_action().operator, plane.last_action().outcome) == ("", "done")


# What is in no table


@pytest.mark.parametrize(
    "path",
    [
        f"/{PACKAGE}.Kills/Other",
        f"/{PACKAGE}.Other/CreateKill",
        "/authz.control.v2.Kills/CreateKill",
        f"/{PACKAGE}.kills/CreateKill",
        f"/{PACKAGE}.Kills/createKill",
        f"/{PACKAGE}.Kills/CreateKill/",
    ],
)
def test_k5_a_method_of_no_table_is_refused_and_recorded(
    plane: Plane, credentials: dict[tuple[Role, str], str], path: str
) -> None:
    admin = f"Bearer {credentials[Role.ADMIN, '*']}"
    assert plane.grpc_bytes(path, b"", admin).code == "unimplemented"
    assert (plane.last_action().method, plane.last_action().outcome) == ("unknown", "CONTROL_METHOD")
    assert plane.last_action().subject == path
    assert plane.http_bytes(path, b"{}", admin).code == "unimplemented"


def test_k5_metrics_never_take_a_name_from_a_caller(plane: Plane) -> None:
    for number in range(20):
        plane.grpc_bytes(f"/{PACKAGE}.Kills/Invented{number}", b"")
    text = plane.metrics.exposition()[1].decode()
    assert "Invented" not in text
    assert 'authz_control_calls_total{method="unknown",outcome="CONTROL_METHOD"}' in text


def test_k5_a_path_that_no_table_names_cannot_be_served(plane: Plane) -> None:
    def app(*paths: str) -> object:
        routes = [Route(path, PlainTextResponse("open")) for path in paths]
        metrics = plane.metrics.exposition
        return http_app(plane.dispatcher, exposition=metrics, unready=dict, addresses=dict, routes=routes)

    app(*PATHS)
    with pytest.raises(ConfigError, match="/backdoor"):
        app("/token", "/backdoor")
