"""Operators over both databases: who is let in, by what, and that nobody is locked out or let in twice."""

from __future__ import annotations

import secrets
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from authz._gen.authz.control.v1 import operators_pb2 as pb
from authz.clock import SystemClock
from authz.control.actions_sql import ACTIONS, Action, Actions
from authz.control.authentication import Authentication, Presented
from authz.control.bootstrap import first_credential
from authz.control.callers import Caller, Grant, Kind, Role
from authz.control.operators_service import OperatorsService
from authz.control.operators_sql import GRANTS, OPERATORS, Operator, Operators
from authz.control.refusals import Code, RefusedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from authz.database import Database

ADMIN = Caller(kind=Kind.OPERATOR, id="root", grants=(Grant(Role.ADMIN, "*"),))
VIEWER = pb.Grant(role=pb.ROLE_VIEWER, tenant="acme")
EVERYTHING = pb.Grant(role=pb.ROLE_ADMIN, tenant="*")


class Office:
    """The service, and what stands behind it."""

    def __init__(self, database: Database) -> None:
        clock = SystemClock()
        self.operators, self.actions = Operators(database), Actions(database, clock)
        self.service = OperatorsService(self.operators, self.actions, clock, secrets.token_bytes)
        self._authentication = Authentication(self.operators, clock)

    def add(self, name: str, *grants: pb.Grant, **identity: Any) -> pb.CreateOperatorResponse:
        operator = pb.Operator(id=name, grants=grants or (VIEWER,), **(identity or {"credential": True}))
        return self.service.create_operator(pb.CreateOperatorRequest(operator=operator), ADMIN)

    def remove(self, name: str) -> None:
        self.service.delete_operator(pb.DeleteOperatorRequest(id=name), ADMIN)

    def ids(self) -> list[str]:
        return [each.id for each in self.service.list_operators(pb.ListOperatorsRequest(), ADMIN).operators]

    def known(self, credential: str) -> Caller:
        return self._authentication.caller(Presented(authorization=(f"Bearer {credential}",)))


@pytest.fixture
def office(database: Database) -> Office:
    return Office(database)


def refused(call: Callable[[], object]) -> tuple[Code, str]:
    with pytest.raises(RefusedError) as raised:
        call()
    return raised.value.code, raised.value.reason.code


def test_a_new_operator_is_known_by_the_credential_that_was_shown_once(office: Office) -> None:
    made = office.add("ana", VIEWER)
    caller = office.known(made.credential)
    assert (caller.id, caller.grants, caller.automatic) == ("ana", (Grant(Role.VIEWER, "acme"),), False)
    assert made.operator.expires_at.ToNanoseconds() > SystemClock.unix_ns()
    listed = office.service.list_operators(pb.ListOperatorsRequest(), ADMIN).operators[0]
    assert (listed.credential, listed.id) == (True, "ana")


def test_no_credential_is_in_the_database(office: Office, database: Database) -> None:
    credential = office.add("ana").credential
    with database.read() as connection:
        for table in (OPERATORS, GRANTS, ACTIONS):
            assert credential not in str(connection.execute(table.select()).all())


def test_two_credentials_are_never_alike(office: Office) -> None:
    assert len({office.add(f"o{number}").credential for number in range(20)}) == 20


def test_a_removed_operator_is_refused_at_once_and_its_id_is_never_given_again(office: Office) -> None:
    credential = office.add("ana").credential
    office.remove("ana")
    assert refused(lambda: office.known(credential)) == (Code.UNAUTHENTICATED, "CONTROL_UNAUTHENTICATED")
    assert office.ids() == []
    assert refused(lambda: office.add("ana")) == (Code.ALREADY_EXISTS, "OPERATOR_EXISTS")
    assert refused(lambda: office.remove("ana")) == (Code.NOT_FOUND, "OPERATOR_UNKNOWN")


def test_what_a_removed_operator_was_known_by_may_be_anothers(office: Office) -> None:
    office.add("ana", certificate_san="ana.example")
    assert refused(lambda: office.add("ben", certificate_san="ana.example")) == (
        Code.ALREADY_EXISTS,
        "OPERATOR_EXISTS",
    )
    office.remove("ana")
    office.add("cara", certificate_san="ana.example")
    assert office.operators.by_certificate(["ana.example"]) is not None


@pytest.mark.parametrize(
    "identity",
    [{"certificate_san": "robot.example"}, {"subject": pb.Subject(issuer="https://i", subject="s")}],
)
def test_one_identity_is_one_operator(office: Office, identity: dict[str, Any]) -> None:
    office.add("ana", **identity)
    assert refused(lambda: office.add("ben", **identity))[0] is Code.ALREADY_EXISTS


@pytest.mark.parametrize(
    ("name", "grants", "identity"),
    [
        ("", (VIEWER,), {"credential": True}),
        ("a b", (VIEWER,), {"credential": True}),
        ("sidecar:x", (VIEWER,), {"credential": True}),
        ("-x", (VIEWER,), {"credential": True}),
        ("a" * 129, (VIEWER,), {"credential": True}),
        ("\u0430na", (VIEWER,), {"credential": True}),
        ("ana", (pb.Grant(role=pb.ROLE_VIEWER),), {"credential": True}),
        ("ana", (pb.Grant(tenant="acme"),), {"credential": True}),
        ("ana", (VIEWER,), {"credential": False}),
        ("ana", (VIEWER,), {"certificate_san": ""}),
        ("ana", (VIEWER,), {"certificate_san": "spiffe://authz/sidecar/acme-1"}),
        ("ana", (VIEWER,), {"subject": pb.Subject(issuer="https://i")}),
        ("ana", (VIEWER,), {"subject": pb.Subject(subject="s")}),
        ("ana", (VIEWER,) * 101, {"credential": True}),
    ],
)
def test_an_operator_that_could_be_mistaken_is_not_made(
    office: Office, name: str, grants: tuple[pb.Grant, ...], identity: dict[str, Any]
) -> None:
    assert refused(lambda: office.add(name, *grants, **identity)) == (Code.INVALID_ARGUMENT, "CONTROL_REQUEST")
    assert office.ids() == []


def test_an_operator_known_by_nothing_is_not_made(office: Office) -> None:
    request = pb.CreateOperatorRequest(operator=pb.Operator(id="ana", grants=[VIEWER]))
    assert refused(lambda: office.service.create_operator(request, ADMIN))[0] is Code.INVALID_ARGUMENT
    request = pb.CreateOperatorRequest(operator=pb.Operator(id="ana", credential=True))
    assert refused(lambda: office.service.create_operator(request, ADMIN))[0] is Code.INVALID_ARGUMENT


def test_the_last_admin_of_all_tenants_cannot_be_removed(office: Office) -> None:
    office.add("first", EVERYTHING)
    office.add("local", pb.Grant(role=pb.ROLE_ADMIN, tenant="acme"))
    assert refused(lambda: office.remove("first")) == (Code.FAILED_PRECONDITION, "OPERATOR_LAST")
    office.add("second", EVERYTHING)
    office.remove("first")
    assert office.ids() == ["local", "second"]


def test_two_admins_that_remove_one_another_at_once_do_not_both_go(office: Office) -> None:
    for round_ in range(10):
        names = [f"a{round_}", f"b{round_}"]
        for name in names:
            office.add(name, EVERYTHING)
        for other in [each for each in office.ids() if each not in names]:
            office.remove(other)
        with ThreadPoolExecutor(2) as workers:
            list(workers.map(lambda name: _try(lambda: office.remove(name)), names))
        assert len(office.ids()) == 1


def _try(call: Callable[[], object]) -> None:
    with suppress(RefusedError):
        call()


# The first admin


def test_where_there_is_no_admin_one_credential_is_made_by_one_of_many_starts(
    office: Office, database: Database
) -> None:
    with ThreadPoolExecutor(6) as instances:
        made = list(instances.map(lambda _: first_credential(database, secrets.token_bytes, 60), range(6)))
    (credential,) = [each for each in made if each is not None]
    assert office.known(credential).grants == (Grant(Role.ADMIN, "*"),)
    assert office.ids() == ["bootstrap-1"]


def test_the_first_credential_expires_and_a_start_without_an_admin_makes_another(
    office: Office, database: Database
) -> None:
    old = first_credential(database, secrets.token_bytes, 1e-9)
    assert old is not None
    assert refused(lambda: office.known(old)) == (Code.UNAUTHENTICATED, "CONTROL_EXPIRED")
    new = first_credential(database, secrets.token_bytes, 60)
    assert new is not None
    assert office.known(new).id == "bootstrap-2"
    assert first_credential(database, secrets.token_bytes, 60) is None


def test_an_admin_of_one_tenant_does_not_stand_in_for_the_first(office: Office, database: Database) -> None:
    office.operators.add(Operator(id="local", grants=(Grant(Role.ADMIN, "acme"),), certificate_san="a.example"))
    assert first_credential(database, secrets.token_bytes, 60) is not None


# The record


def fill(office: Office) -> None:
    for number in range(7):
        for outcome in ("begun", "done"):
            office.actions.add(
                Action(
                    id=f"c{number}",
                    operator="ana",
                    method="/x/Y",
                    tenant="acme" if number % 2 else "rival",
                    outcome=outcome,
                    subject=str(number),
                )
            )


def listed(office: Office, **fields: Any) -> pb.ListActionsResponse:
    return office.service.list_actions(pb.ListActionsRequest(**fields), ADMIN)


def test_the_record_comes_newest_first_one_row_a_call_page_by_page(office: Office) -> None:
    fill(office)
    seen, token = [], ""
    while True:
        page = listed(office, page_size=3, page_token=token)
        seen += [(action.subject, action.outcome) for action in page.actions]
        token = page.next_page_token
        if not token:
            break
    assert seen == [(str(number), "done") for number in range(6, -1, -1)]


def test_a_tenants_record_holds_nothing_of_another(office: Office) -> None:
    fill(office)
    assert {action.tenant for action in listed(office, tenant="acme").actions} == {"acme"}
    assert listed(office, tenant="nobody").actions == []


@pytest.mark.parametrize(
    "fields", [{"page_size": -1}, {"page_token": "x"}, {"page_token": "-1"}, {"page_token": "9" * 30}]
)
def test_a_page_that_is_none_is_refused(office: Office, fields: dict[str, Any]) -> None:
    assert refused(lambda: listed(office, **fields))[0] is Code.INVALID_ARGUMENT


def test_a_page_is_bounded(office: Office) -> None:
    assert listed(office, page_size=2**31 - 1).next_page_token == ""
