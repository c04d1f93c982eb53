"""Kills over the API: what is answered, when, and to whom; over SQLite and a real PostgreSQL."""

from __future__ import annotations

import itertools
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from google.protobuf.duration_pb2 import Duration

from authz._gen.authz.control.v1 import kills_pb2 as pb
from authz.clock import SystemClock, random_hex
from authz.control.callers import Caller, Grant, Kind, Role
from authz.control.kill_reach import KillReach
from authz.control.kills_service import WAITERS, KillsService, Stores
from authz.control.refusals import RefusedError
from authz.identity.registry_sql import Because, Registry
from authz.revocation import publication_sql
from authz.revocation.guard import Guard
from authz.revocation.kills_sql import Quota
from authz.revocation.publication_sql import PublicationState
from authz.revocation.reports_sql import Applied, Reports
from tests.e2e.stack import eventually
from tests.ledgers import REASON, ledger_desk
from tests.registry_fakes import agent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from sqlalchemy import Connection

    from authz.database import Database
    from authz.revocation.guard import Hit
    from authz.revocation.scopes import Scope
    from tests.ledgers import LedgerDesk


def operator(name: str, role: Role = Role.SECURITY_LEAD, tenant: str = "acme", **changes: Any) -> Caller:
    return Caller(kind=Kind.OPERATOR, id=name, grants=(Grant(role, tenant),), **changes)


ANNA, BEN = operator("anna"), operator("ben")
ADMIN, SECOND_ADMIN = operator("root", Role.ADMIN, "*"), operator("other-root", Role.ADMIN, "*")
RESPONDER = operator("rita", Role.RESPONDER)
PROGRAM = operator("detector", automatic=True)
AGENT = pb.Scope(kind=pb.SCOPE_KIND_AGENT, tenant="acme", value="billing")
TENANT = pb.Scope(kind=pb.SCOPE_KIND_TENANT, tenant="acme")


@dataclass
class Room:
    """The service, and the sidecars that it believes in."""

    desk: LedgerDesk
    quota: Quota = field(default_factory=Quota)
    guard: Guard = Guard()  # noqa: RUF009 - frozen
    sidecars: list[str] = field(default_factory=list)

    @property
    def service(self) -> KillsService:
        """Each call is answered by another instance."""
        desk = ledger_desk(self.desk.database, guard=self.guard, quota=self.quota)
        stores = Stores(database=desk.database, ledger=desk.ledger, book=desk.book, reports=Reports(desk.database))
        return KillsService(
            stores,
            self.guard,
            hit=self.hit,
            followers=lambda _stream: self.sidecars,
            clock=SystemClock(),
            new_id=random_hex,
        )

    def hit(self, connection: Connection, scope: Scope, alone: Iterable[Scope]) -> Hit:
        return KillReach(self.registry).hit(connection, scope, alone)

    @property
    def registry(self) -> Registry:
        return Registry(self.desk.database, lambda *_: None)

    def register(self, count: int, **fields: Any) -> list[str]:
        """So many active agents of acme."""
        names = [f"{'child' if fields else 'agent'}-{number}" for number in range(count)]
        with self.desk.database.write() as connection:
            for name in names:
                self.registry.add(connection, agent(name, **fields), Because(by="root", reason="test"))
        return names

    def create(self, scope: pb.Scope = AGENT, caller: Caller = ANNA, **fields: Any) -> pb.KillReceipt:
        return self.service.create_kill(pb.CreateKillRequest(scope=scope, reason=REASON, **fields), caller)

    def confirm(self, kill: str, caller: Caller, tenant: str = "acme") -> pb.KillReceipt:
        return self.service.confirm_kill(pb.ConfirmKillRequest(id=kill, tenant=tenant), caller)

    def lift(self, kill: str, caller: Caller = ANNA, tenant: str = "acme") -> pb.KillReceipt:
        return self.service.lift_kill(pb.LiftKillRequest(id=kill, tenant=tenant, reason=REASON), caller)

    def read(self, kill: str, tenant: str = "acme") -> pb.Kill:
        return self.service.read_kill(pb.ReadKillRequest(id=kill, tenant=tenant), ANNA)

    def report(self, sidecar: str, sequence: int, stream: str = "acme") -> None:
        with self.desk.database.write() as connection:
            applied = Applied(stream=stream, epoch=1, sequence=sequence)
            Reports(self.desk.database).put(connection, sidecar, [applied])


@pytest.fixture
def room(database: Database) -> Room:
    return Room(ledger_desk(database))


def of_agent(name: str) -> pb.Scope:
    return pb.Scope(kind=pb.SCOPE_KIND_AGENT, tenant="acme", value=name)


def of_subtree(root: str) -> pb.Scope:
    return pb.Scope(kind=pb.SCOPE_KIND_SUBTREE, tenant="acme", value=root)


def refusal(act: Callable[[], object]) -> tuple[str, str]:
    with pytest.raises(RefusedError) as caught:
        act()
    return caught.value.code.word, caught.value.reason.code


def wait(seconds: float) -> Duration:
    return Duration(nanos=int(seconds * 1e9) % 10**9, seconds=int(seconds))


def test_a_kill_is_in_the_ledger_when_it_is_answered(room: Room) -> None:
    kill = room.create(incident="INC-7").kill
    assert (kill.state, kill.sequence, kill.epoch) == (pb.KILL_STATE_IN_FORCE, 1, 1)
    assert (kill.created_by, kill.reason, kill.incident) == ("anna", REASON, "INC-7")
    assert room.desk.head("acme").sequence == 1
    assert room.read(kill.id) == kill


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (pb.SCOPE_KIND_AGENT, "billing"),
        (pb.SCOPE_KIND_SESSION, "s-1"),
        (pb.SCOPE_KIND_TOKEN, "jti-1"),
        (pb.SCOPE_KIND_SUBTREE, "root"),
        (pb.SCOPE_KIND_OVERRIDE, "jti-2"),
        (pb.SCOPE_KIND_TOOL, "server/name"),
        (pb.SCOPE_KIND_CAPABILITY, "payments"),
        (pb.SCOPE_KIND_CONNECTOR, "svc-bank"),
        (pb.SCOPE_KIND_DESTINATION, "Bank.Example."),
        (pb.SCOPE_KIND_MEMORY_WRITES, "billing"),
    ],
)
def test_every_kind_of_scope_is_taken_and_told_as_it_can_be_asked_for_again(room: Room, kind: Any, value: str) -> None:
    told = room.create(pb.Scope(kind=kind, tenant="acme", value=value)).kill.scope
    assert (told.kind, told.tenant) == (kind, "acme")
    assert room.create(told).kill.scope == told


def test_a_jti_is_not_kept(room: Room) -> None:
    room.create(pb.Scope(kind=pb.SCOPE_KIND_TOKEN, tenant="acme", value="jti-secret"))
    with room.desk.database.read() as connection:
        rows = connection.exec_driver_sql("SELECT * FROM kills").all()
    assert "jti-secret" not in str(rows)
    assert "jti-secret" not in str(room.desk.entries("acme"))


@pytest.mark.parametrize(
    "scope",
    [
        pb.Scope(),
        pb.Scope(kind=pb.SCOPE_KIND_AGENT, tenant="acme"),
        pb.Scope(kind=pb.SCOPE_KIND_AGENT, tenant="acme", value="*"),
        pb.Scope(kind=pb.SCOPE_KIND_AGENT, value="billing"),
        pb.Scope(kind=pb.SCOPE_KIND_GLOBAL, tenant="acme"),
        pb.Scope(kind=pb.SCOPE_KIND_TENANT, tenant="acme", value="x"),
        pb.Scope(kind=pb.SCOPE_KIND_TOOL, tenant="acme", value="no-server"),
    ],
)
def test_what_is_no_scope_is_refused(room: Room, scope: pb.Scope) -> None:
    assert refusal(lambda: room.create(scope)) == ("invalid_argument", "KILL_SCOPE")
    assert room.desk.head("acme").sequence == 0


@pytest.mark.parametrize(
    "fields",
    [
        {"expires_in": Duration()},
        {"expires_in": Duration(seconds=-1)},
        {"incident": "x" * 257},
        {"incident": "two\nlines"},
        {"idempotency_key": "x" * 129},
    ],
)
def test_what_makes_no_sense_is_refused(room: Room, fields: dict[str, Any]) -> None:
    assert refusal(lambda: room.create(**fields)) == ("invalid_argument", "CONTROL_REQUEST")


# Two signers


def test_a_tenant_is_killed_by_two_people(room: Room) -> None:
    awaiting = room.create(TENANT).kill
    assert (awaiting.state, awaiting.sequence) == (pb.KILL_STATE_AWAITING_CONFIRMATION, 0)
    assert refusal(lambda: room.confirm(awaiting.id, ANNA)) == ("failed_precondition", "KILL_SAME_SIGNER")
    assert refusal(lambda: room.confirm(awaiting.id, PROGRAM)) == ("permission_denied", "KILL_AUTOMATIC")
    assert room.desk.head("acme").sequence == 0
    confirmed = room.confirm(awaiting.id, BEN).kill
    assert (confirmed.state, confirmed.sequence, confirmed.confirmed_by) == (pb.KILL_STATE_IN_FORCE, 1, "ben")


def test_everything_is_killed_by_two_people_of_the_platform(room: Room) -> None:
    everything = pb.Scope(kind=pb.SCOPE_KIND_GLOBAL)
    awaiting = room.create(everything, ADMIN).kill
    assert room.confirm(awaiting.id, SECOND_ADMIN, tenant="").kill.state == pb.KILL_STATE_IN_FORCE
    assert (room.desk.head("").sequence, room.desk.head("acme").sequence) == (1, 0)


def test_many_agents_are_killed_by_two_people(room: Room) -> None:
    root, *_ = room.register(6)
    room.register(2, parents=(root,))
    assert room.create(of_subtree("child-0")).kill.state == pb.KILL_STATE_IN_FORCE
    assert room.create(of_subtree(root)).kill.state == pb.KILL_STATE_AWAITING_CONFIRMATION


def test_e9_many_agents_killed_one_by_one_are_killed_by_two_people(room: Room) -> None:
    """Whoever signs them: a quarter of eight is two, and the third is one too many."""
    room.guard = Guard(adds_up=True)
    first, second, third, fourth, *_ = room.register(8)
    kill = room.create(of_agent(first), ANNA).kill
    assert room.create(of_agent(second), BEN).kill.state == pb.KILL_STATE_IN_FORCE
    awaiting = room.create(of_agent(third), ANNA).kill
    assert awaiting.state == pb.KILL_STATE_AWAITING_CONFIRMATION
    assert refusal(lambda: room.create(of_agent(third), PROGRAM)) == ("permission_denied", "KILL_AUTOMATIC")
    assert refusal(lambda: room.create(of_agent(third), RESPONDER)) == ("permission_denied", "CONTROL_FORBIDDEN")
    # The same agent again, and less than an agent, add nothing.
    again = room.create(of_agent(first)).kill
    assert again.state == pb.KILL_STATE_IN_FORCE
    for session in ("s-1", "s-2", "s-3"):
        scope = pb.Scope(kind=pb.SCOPE_KIND_SESSION, tenant="acme", value=session)
        assert room.create(scope).kill.state == pb.KILL_STATE_IN_FORCE
    # What two signed is nobody's alone, and what was lifted is stopped no more.
    assert room.confirm(awaiting.id, BEN).kill.state == pb.KILL_STATE_IN_FORCE
    assert room.create(of_agent(fourth)).kill.state == pb.KILL_STATE_AWAITING_CONFIRMATION
    for each in (kill, again):
        room.lift(each.id)
    assert room.create(of_agent(fourth)).kill.state == pb.KILL_STATE_IN_FORCE


def test_e9_kills_at_one_moment_do_not_miss_one_another(room: Room) -> None:
    room.guard = Guard(adds_up=True)
    names = room.register(8)
    with ThreadPoolExecutor(8) as operators:
        made = list(operators.map(lambda name: room.create(of_agent(name)).kill.state, names))
    assert sorted(made).count(pb.KILL_STATE_IN_FORCE) == 2


def test_a_program_asks_for_no_guarded_kill_and_a_responder_signs_none(room: Room) -> None:
    assert refusal(lambda: room.create(TENANT, PROGRAM)) == ("permission_denied", "KILL_AUTOMATIC")
    assert refusal(lambda: room.create(TENANT, RESPONDER)) == ("permission_denied", "CONTROL_FORBIDDEN")
    assert room.create(AGENT, PROGRAM).kill.state == pb.KILL_STATE_IN_FORCE
    assert room.create(AGENT, RESPONDER).kill.state == pb.KILL_STATE_IN_FORCE


def test_lifting_what_two_people_killed_takes_two_and_it_stands_until_then(room: Room) -> None:
    kill = room.confirm(room.create(TENANT).kill.id, BEN).kill
    assert refusal(lambda: room.lift(kill.id, RESPONDER)) == ("permission_denied", "CONTROL_FORBIDDEN")
    assert refusal(lambda: room.lift(kill.id, PROGRAM)) == ("permission_denied", "KILL_AUTOMATIC")
    assert room.lift(kill.id, BEN).kill.state == pb.KILL_STATE_AWAITING_LIFT_CONFIRMATION
    assert room.desk.head("acme").sequence == 1
    assert refusal(lambda: room.confirm(kill.id, BEN)) == ("failed_precondition", "KILL_SAME_SIGNER")
    lifted = room.confirm(kill.id, ANNA).kill
    assert (lifted.state, lifted.lifted_by, lifted.lift_confirmed_by) == (pb.KILL_STATE_LIFTED, "ben", "anna")


def test_a_plain_kill_is_lifted_by_one(room: Room) -> None:
    kill = room.create().kill
    assert room.lift(kill.id, RESPONDER).kill.state == pb.KILL_STATE_LIFTED
    assert room.lift(kill.id, ANNA).kill.lifted_by == "rita"
    assert refusal(lambda: room.confirm(kill.id, BEN)) == ("failed_precondition", "KILL_STATE")


def test_who_may_see_the_platform_finds_a_kill_without_its_tenant(room: Room) -> None:
    kill = room.create().kill.id
    assert room.read(kill, tenant="").scope.tenant == "acme"
    listed = room.service.list_kills(pb.ListKillsRequest(), ADMIN)
    assert [each.id for each in listed.kills] == [kill]
    watcher = operator("root", Role.ADMIN, "*")
    seen = room.service.watch_kills(pb.WatchKillsRequest(), watcher)
    assert next(seen).id == kill
    assert room.lift(kill, ADMIN, tenant="").kill.state == pb.KILL_STATE_LIFTED
    assert next(seen).state == pb.KILL_STATE_LIFTED


@pytest.mark.parametrize("tenant", ["globex", "ACME", "acme "])
def test_a_kill_is_not_there_for_another_tenant(room: Room, tenant: str) -> None:
    kill = room.create().kill.id
    missing = ("not_found", "KILL_UNKNOWN")
    assert refusal(lambda: room.read(kill, tenant)) == missing == refusal(lambda: room.read("kill-none"))
    assert refusal(lambda: room.lift(kill, ADMIN, tenant)) == missing
    assert refusal(lambda: room.confirm(kill, ADMIN, tenant)) == missing
    listed = room.service.list_kills(pb.ListKillsRequest(tenant=tenant, all=True), ADMIN)
    assert list(listed.kills) == []


# Again, and too often


def test_a_repeated_request_is_answered_with_its_first_kill(room: Room) -> None:
    first = room.create(idempotency_key="k").kill
    assert room.create(idempotency_key="k").kill == first
    assert room.create(idempotency_key="k", caller=BEN).kill.id != first.id
    assert refusal(lambda: room.create(idempotency_key="k", incident="other")) == ("already_exists", "KILL_REPEATED")
    assert room.desk.head("acme").sequence == 2


def test_requests_with_one_key_that_come_at_once_make_one_kill(room: Room) -> None:
    together, ids = threading.Barrier(6), set()

    def ask() -> None:
        together.wait(10)
        ids.add(room.create(idempotency_key="k").kill.id)

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ids) == 1
    assert room.desk.head("acme").sequence == 1


def test_e9_kills_by_the_thousand_are_refused(room: Room) -> None:
    room.quota = Quota(per_operator=3, per_tenant=100)
    for _ in range(3):
        room.create()
    assert refusal(room.create) == ("resource_exhausted", "KILL_QUOTA")
    assert room.create(caller=BEN).kill.state == pb.KILL_STATE_IN_FORCE


# Who has it


def test_who_has_applied_it_is_named_with_its_time_and_who_has_not_is_named(room: Room) -> None:
    room.sidecars = ["a", "b", "gone"]
    room.report("a", 5)
    room.report("b", 0)
    receipt = room.create()
    assert [(each.sidecar, each.applied_sequence) for each in receipt.confirmed] == [("a", 5)]
    assert list(receipt.unreached) == ["b", "gone"]


def test_an_answer_waits_until_everybody_who_is_alive_has_it(room: Room) -> None:
    room.sidecars = ["a", "b", "gone"]
    for sidecar in ("a", "b"):
        room.report(sidecar, 0)
    answers: list[pb.KillReceipt] = []
    asking = threading.Thread(target=lambda: answers.append(room.create(wait=wait(30))))
    asking.start()
    eventually(lambda: room.desk.head("acme").sequence == 1)
    room.report("a", 1)
    assert answers == []
    room.report("b", 1)
    asking.join(20)
    (receipt,) = answers
    assert [each.sidecar for each in receipt.confirmed] == ["a", "b"]
    assert all(each.ms >= 0 for each in receipt.confirmed)
    assert list(receipt.unreached) == ["gone"]


def test_who_is_alive_is_waited_for_on_a_stream_that_it_does_not_follow_yet(room: Room) -> None:
    room.sidecars = ["a"]
    room.report("a", 0, stream="")
    threading.Timer(0.3, lambda: room.report("a", 1)).start()
    assert [each.sidecar for each in room.create(wait=wait(30)).confirmed] == ["a"]


def test_an_answer_comes_when_the_wait_is_over_or_nobody_listens(room: Room) -> None:
    room.sidecars = ["a"]
    room.report("a", 0)
    assert list(room.create(wait=wait(0.05)).unreached) == ["a"]
    gone = operator("anna")
    gone.gone.set()
    assert list(room.create(caller=gone, wait=wait(50)).unreached) == ["a"]


def test_those_who_wait_keep_nobody_from_killing(room: Room) -> None:
    room.sidecars = ["a"]
    room.report("a", 0)
    service, hung_up = room.service, threading.Event()
    waiting = operator("rita", Role.RESPONDER, gone=hung_up)

    def kill(number: int, caller: Caller) -> pb.KillReceipt:
        request = pb.CreateKillRequest(scope=of_agent(f"agent-{number}"), reason=REASON, wait=wait(50))
        return service.create_kill(request, caller)

    with ThreadPoolExecutor(WAITERS) as pool:
        asked = [pool.submit(kill, number, waiting) for number in range(WAITERS)]
        eventually(lambda: service._waiters._value == 0)
        assert kill(WAITERS, ANNA).kill.state == pb.KILL_STATE_IN_FORCE
        assert not any(each.done() for each in asked)
        hung_up.set()
    assert [list(each.result().unreached) for each in asked] == [["a"]] * WAITERS


def test_what_awaits_a_signer_waits_for_no_sidecar(room: Room) -> None:
    room.sidecars = ["a"]
    receipt = room.create(TENANT, wait=wait(50))
    assert (list(receipt.confirmed), list(receipt.unreached)) == ([], [])


@pytest.mark.parametrize("state", PublicationState)
def test_e5_a_receipt_says_what_became_of_redis(room: Room, state: PublicationState) -> None:
    assert room.create().redis == "none"
    publication_sql.write(room.desk.database, state, "for a test")
    receipt = room.create()
    assert (receipt.redis, receipt.kill.state) == (state.value, pb.KILL_STATE_IN_FORCE)


# Reading


def test_kills_are_listed_page_by_page(room: Room) -> None:
    ids = [room.create().kill.id for _ in range(5)]
    room.lift(ids[2])
    found, token = [], ""
    while True:
        page = room.service.list_kills(pb.ListKillsRequest(tenant="acme", page_size=2, page_token=token), ANNA)
        found += [kill.id for kill in page.kills]
        token = page.next_page_token
        if not token:
            break
    assert found == [ids[4], ids[3], ids[1], ids[0]]


@pytest.mark.parametrize("fields", [{"page_size": -1}, {"page_size": 501}, {"page_token": "x"}, {"page_token": "1.'"}])
def test_a_page_that_is_none_is_refused(room: Room, fields: dict[str, Any]) -> None:
    request = pb.ListKillsRequest(tenant="acme", **fields)
    assert refusal(lambda: room.service.list_kills(request, ANNA)) == ("invalid_argument", "CONTROL_REQUEST")


def test_who_watches_sees_what_was_and_what_comes_and_nothing_of_others(room: Room) -> None:
    first = room.create().kill.id
    room.create(pb.Scope(kind=pb.SCOPE_KIND_AGENT, tenant="globex", value="theirs"), ADMIN)
    watcher = operator("anna")
    seen = room.service.watch_kills(pb.WatchKillsRequest(tenant="acme"), watcher)
    assert next(seen).id == first
    room.lift(first)
    second = room.create().kill.id
    changes = [(kill.id, kill.sequence) for kill in itertools.islice(seen, 2)]
    assert changes == [(first, 2), (second, 3)]
    to_come = room.service.watch_kills(pb.WatchKillsRequest(tenant="acme", sequence=-1), operator("ben"))
    threading.Timer(0.3, lambda: room.lift(second)).start()
    assert next(to_come).state == pb.KILL_STATE_LIFTED
    watcher.gone.set()
    assert [kill.id for kill in seen] == [second]
