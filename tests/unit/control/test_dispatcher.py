"""Every call goes the same way, and ends in an answer or a refusal that is on record."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from authz._gen.authz.control.v1 import agents_pb2, kills_pb2, operators_pb2
from authz.control.actions_sql import ACTIONS, Actions
from authz.control.authentication import Authentication, Presented, credential_sha256
from authz.control.callers import Grant, Permission, Role
from authz.control.dispatcher import CALLS, RECHECK_NS, STREAMS, Asked, Dispatcher
from authz.control.forms import Binary, Json
from authz.control.operators_sql import Operator, Operators
from authz.control.permissions import PACKAGE
from authz.control.refusals import Code, RefusedError
from authz.database import Database
from authz.errors import ConfigError, UnavailableError
from authz.reasons import DATABASE_UNAVAILABLE, OPERATOR_UNKNOWN
from tests.fakes import FakeClock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from authz.control.callers import Caller

CREATE = "Agents/CreateAgent"
READ = "Agents/ReadAgent"
WATCH = "Kills/WatchKills"


@dataclass
class Agents:
    """A service that does what a test says."""

    act: Callable[[Any, Caller], Any] = lambda _request, _caller: agents_pb2.Agent(id="made")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return lambda request, caller: self.act(request, caller)  # noqa: PLW0108 - what it does now, not when it was added


@dataclass
class Desk:
    """A dispatcher over a database, with one operator of each kind."""

    database: Database
    clock: FakeClock
    operators: Operators
    actions: Actions
    dispatcher: Dispatcher
    agents: Agents
    kills: Agents
    counted: list[tuple[str, str]] = field(default_factory=list)

    def asked(self, method: str, request: Any = None, credential: str = "admin", form: Any = Binary) -> Asked:
        body = request.SerializeToString() if request is not None else b""
        shown = Presented(authorization=(f"Bearer authz_operator_{credential}",))
        return Asked(f"/{PACKAGE}.{method}", body, shown, form(), threading.Event())

    def create(self, **fields: Any) -> bytes:
        request = agents_pb2.CreateAgentRequest(agent=agents_pb2.Agent(tenant="acme", id="a1"), **fields)
        return self.dispatcher.call(self.asked(CREATE, request))

    def refused(self, call: Callable[[], object]) -> RefusedError:
        with pytest.raises(RefusedError) as raised:
            call()
        return raised.value

    def rows(self) -> list[tuple[str, str, str]]:
        with self.database.read() as connection:
            rows = connection.execute(ACTIONS.select().order_by(ACTIONS.c.number)).all()
        return [(row.operator, row.method.rpartition(".")[2], row.outcome) for row in rows]


@pytest.fixture
def desk(sqlite_url: str) -> Iterator[Desk]:
    database = Database(sqlite_url)
    clock = FakeClock()
    operators, actions = Operators(database), Actions(database, clock)
    for name, grant in (("admin", Grant(Role.ADMIN, "*")), ("viewer", Grant(Role.VIEWER, "acme"))):
        operators.add(Operator(id=name, grants=(grant,), credential_sha256=credential_sha256(f"authz_operator_{name}")))
    numbers = iter(range(1_000_000))
    counted: list[tuple[str, str]] = []
    dispatcher = Dispatcher(
        Authentication(operators, clock),
        actions,
        clock,
        new_id=lambda: str(next(numbers)),
        observe=lambda method, outcome: counted.append((method.rpartition(".")[2], outcome)),
    )
    agents, kills = Agents(), Agents()
    dispatcher.add("Agents", agents)
    dispatcher.add("Kills", kills)
    yield Desk(database, clock, operators, actions, dispatcher, agents, kills, counted)
    database.close()


def test_an_action_is_on_record_before_it_is_carried_out_and_again_when_it_is_done(desk: Desk) -> None:
    seen: list[tuple[str, str, str]] = []

    def act(_request: Any, _caller: Caller) -> agents_pb2.Agent:
        seen.extend(desk.rows())
        return agents_pb2.Agent(id="made")

    desk.agents.act = act
    assert agents_pb2.Agent.FromString(desk.create(reason="new team")).id == "made"
    assert seen == [("admin", CREATE, "begun")]
    assert desk.rows() == [("admin", CREATE, "begun"), ("admin", CREATE, "done")]
    (last,) = desk.actions.page(None, before=None, size=10)
    assert (last.outcome, last.tenant, last.subject, last.reason) == ("done", "acme", "a1", "new team")


def test_a_call_that_reads_leaves_no_row(desk: Desk) -> None:
    desk.dispatcher.call(desk.asked(READ, agents_pb2.ReadAgentRequest(tenant="acme", id="a1")))
    assert desk.rows() == []


def test_what_the_service_refuses_is_recorded_as_the_end_of_its_action(desk: Desk) -> None:
    def act(_request: Any, _caller: Caller) -> None:
        raise RefusedError(Code.NOT_FOUND, OPERATOR_UNKNOWN)

    desk.agents.act = act
    assert desk.refused(desk.create).code is Code.NOT_FOUND
    assert desk.rows() == [("admin", CREATE, "begun"), ("admin", CREATE, "OPERATOR_UNKNOWN")]
    assert [action.outcome for action in desk.actions.page(None, before=None, size=10)] == ["OPERATOR_UNKNOWN"]


def test_a_bug_is_internal_recorded_logged_and_told_to_nobody(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    def act(_request: Any, _caller: Caller) -> None:
        message = "the secret is 42"
        raise ValueError(message)

    desk.agents.act = act
    refusal = desk.refused(desk.create)
    assert (refusal.code, refusal.reason.code) == (Code.INTERNAL, "SYS_INTERNAL")
    assert "42" not in str(refusal)
    assert desk.rows()[-1] == ("admin", CREATE, "SYS_INTERNAL")
    assert "a bug" in caplog.text
    assert desk.counted == [(CREATE, "SYS_INTERNAL")]


def test_a_part_that_is_gone_is_unavailable(desk: Desk) -> None:
    def act(_request: Any, _caller: Caller) -> None:
        raise UnavailableError(DATABASE_UNAVAILABLE)

    desk.agents.act = act
    assert desk.refused(desk.create).code is Code.UNAVAILABLE


def test_nothing_is_done_that_cannot_be_recorded(desk: Desk) -> None:
    done: list[int] = []
    desk.agents.act = lambda _request, _caller: done.append(1)
    with desk.database.write() as connection:
        connection.exec_driver_sql("CREATE TRIGGER full BEFORE INSERT ON actions BEGIN SELECT unknown_function(); END")
    assert desk.refused(desk.create).code is Code.UNAVAILABLE
    assert done == []


def test_an_action_whose_end_cannot_be_recorded_is_answered_and_stays_begun(desk: Desk) -> None:
    """It was carried out, and it is on record that it was begun: to call it refused would be a lie."""

    def act(_request: Any, _caller: Caller) -> agents_pb2.Agent:
        with desk.database.write() as connection:
            connection.exec_driver_sql(
                "CREATE TRIGGER full BEFORE INSERT ON actions BEGIN SELECT unknown_function(); END"
            )
        return agents_pb2.Agent(id="made")

    desk.agents.act = act
    assert agents_pb2.Agent.FromString(desk.create()).id == "made"
    assert desk.rows() == [("admin", CREATE, "begun")]


def test_services_may_ask_for_more_than_the_table_does(desk: Desk) -> None:
    """What only the service knows to be needed is refused in the same words."""

    def act(_request: Any, caller: Caller) -> agents_pb2.Agent:
        caller.require(Permission.SIGN, "rival")
        return agents_pb2.Agent()

    desk.agents.act = act
    asked = desk.asked(READ, agents_pb2.ReadAgentRequest(tenant="acme", id="a"), "viewer")
    refusal = desk.refused(lambda: desk.dispatcher.call(asked))
    assert (refusal.code, refusal.reason.code) == (Code.PERMISSION_DENIED, "CONTROL_FORBIDDEN")
    assert desk.rows()[-1] == ("viewer", READ, "CONTROL_FORBIDDEN")


def test_a_service_without_one_of_its_methods_is_not_served(desk: Desk) -> None:
    with pytest.raises(ConfigError, match="has no method"):
        desk.dispatcher.add("Keys", object())


# Requests


@pytest.mark.parametrize(
    ("form", "body"),
    [
        (Binary, b"\xff\xff"),
        (Json, b""),
        (Json, b"null"),
        (Json, b"{"),
        (Json, b"[]"),
        (Json, b'{"unknown": 1}'),
        (Json, b'{"tenant": "acme", "tenant": "rival"}'),
        (Json, b'{"tenant": 7}'),
        (Json, b'{"tenant": "*"}'),
        (Json, b'{"tenant": "a\\u0000b"}'),
        (Json, b'{"tenant": "a\\nb"}'),
        (Json, b'{"id": "\\ud800"}'),
        (Json, b"\xff"),
        (Json, b'{"a":' * 100_000),
        (Json, b'{"id": ' + b"9" * 100_000 + b"}"),
        (Json, ('{"tenant": "' + "t" * 257 + '"}').encode()),
    ],
)
def test_a_request_that_is_not_well_formed_is_refused_and_recorded(desk: Desk, form: Any, body: bytes) -> None:
    asked = desk.asked(READ, form=form)
    refusal = desk.refused(lambda: desk.dispatcher.call(_with(asked, body)))
    assert refusal.code is Code.INVALID_ARGUMENT
    assert refusal.reason.code == "CONTROL_REQUEST" or refusal.reason.code.startswith("JSON_")
    assert desk.rows()[-1] == ("admin", READ, refusal.reason.code)


@pytest.mark.parametrize("span", ['"-1s"', '"400000000s"', '"1"', "5"])
def test_a_span_of_time_that_is_negative_or_absurd_is_refused(desk: Desk, span: str) -> None:
    body = f'{{"scope": {{"tenant": "acme"}}, "expiresIn": {span}}}'.encode()
    refusal = desk.refused(lambda: desk.dispatcher.call(_with(desk.asked("Kills/CreateKill", form=Json), body)))
    assert refusal.code is Code.INVALID_ARGUMENT


def _with(asked: Asked, body: bytes) -> Asked:
    return Asked(asked.method, body, asked.presented, asked.form, asked.gone)


# The record of refusals is bounded


def test_refusals_are_recorded_at_a_bounded_rate_and_what_is_left_out_is_counted(desk: Desk) -> None:
    asked = desk.asked(READ, agents_pb2.ReadAgentRequest(tenant="acme"), "nobody")
    for _ in range(1005):
        assert desk.refused(lambda: desk.dispatcher.call(asked)).code is Code.UNAUTHENTICATED
    assert len(desk.rows()) == 1000
    desk.clock.advance(1.0)
    desk.refused(lambda: desk.dispatcher.call(asked))
    (last,) = desk.actions.page(None, before=None, size=1)
    assert last.reason == "5 refusals before this one were not recorded"
    assert desk.counted.count((READ, "CONTROL_UNAUTHENTICATED")) == 1006


def test_one_operators_refusals_do_not_hide_anothers(desk: Desk) -> None:
    strange = desk.asked(READ, agents_pb2.ReadAgentRequest(tenant="acme"), "nobody")
    for _ in range(1005):
        desk.refused(lambda: desk.dispatcher.call(strange))
    viewer = desk.asked(CREATE, agents_pb2.CreateAgentRequest(agent=agents_pb2.Agent(tenant="acme")), "viewer")
    desk.refused(lambda: desk.dispatcher.call(viewer))
    assert desk.rows()[-1] == ("viewer", CREATE, "CONTROL_FORBIDDEN")


# Room


def test_calls_beyond_the_room_are_refused_and_those_under_way_end(desk: Desk) -> None:
    inside, leave = threading.Semaphore(0), threading.Event()

    def act(_request: Any, _caller: Caller) -> agents_pb2.Agent:
        inside.release()
        leave.wait(20)
        return agents_pb2.Agent()

    desk.agents.act = act
    asked = desk.asked(READ, agents_pb2.ReadAgentRequest(tenant="acme"))
    threads = [threading.Thread(target=desk.dispatcher.call, args=(asked,)) for _ in range(CALLS)]
    for thread in threads:
        thread.start()
    for _ in threads:
        assert inside.acquire(timeout=20)
    assert desk.refused(lambda: desk.dispatcher.call(asked)).code is Code.RESOURCE_EXHAUSTED
    leave.set()
    for thread in threads:
        thread.join()
    desk.dispatcher.call(asked)


# Streams


def kills(count: int) -> Callable[[Any, Caller], Iterator[kills_pb2.Kill]]:
    return lambda _request, _caller: (kills_pb2.Kill(id=str(number)) for number in range(count))


def test_a_stream_gives_its_answers_as_they_come(desk: Desk) -> None:
    desk.kills.act = kills(3)
    answers = desk.dispatcher.stream(desk.asked(WATCH, kills_pb2.WatchKillsRequest(tenant="acme"), "viewer"))
    assert [kills_pb2.Kill.FromString(answer).id for answer in answers] == ["0", "1", "2"]


def test_a_stream_ends_when_its_operator_is_removed(desk: Desk) -> None:
    desk.kills.act = kills(3)
    answers = desk.dispatcher.stream(desk.asked(WATCH, kills_pb2.WatchKillsRequest(tenant="acme"), "viewer"))
    next(answers)
    desk.operators.remove("viewer")
    desk.clock.running_ns += RECHECK_NS + 1
    assert desk.refused(lambda: next(answers)).code is Code.UNAUTHENTICATED


def test_streams_beyond_the_room_are_refused_and_one_that_is_dropped_makes_room(desk: Desk) -> None:
    desk.kills.act = kills(3)
    asked = desk.asked(WATCH, kills_pb2.WatchKillsRequest(tenant="acme"))
    streams = [desk.dispatcher.stream(asked) for _ in range(STREAMS)]
    for stream in streams:
        next(stream)
    assert desk.refused(lambda: next(desk.dispatcher.stream(asked))).code is Code.RESOURCE_EXHAUSTED
    streams[0].close()  # type: ignore[attr-defined]  # it is a generator
    next(desk.dispatcher.stream(asked))


def test_a_method_is_called_in_its_own_way_alone(desk: Desk) -> None:
    watch = desk.asked(WATCH, kills_pb2.WatchKillsRequest(tenant="acme"))
    assert desk.refused(lambda: desk.dispatcher.call(watch)).code is Code.UNIMPLEMENTED
    read = desk.asked(READ, agents_pb2.ReadAgentRequest(tenant="acme"))
    assert desk.refused(lambda: next(desk.dispatcher.stream(read))).code is Code.UNIMPLEMENTED


def test_whoever_waits_is_told_when_the_service_stops(desk: Desk) -> None:
    waiting = threading.Event()
    stayed: list[bool] = []

    def act(_request: Any, caller: Caller) -> agents_pb2.Agent:
        waiting.set()
        stayed.append(caller.stays(30))
        return agents_pb2.Agent()

    desk.agents.act = act
    asked = desk.asked(READ, agents_pb2.ReadAgentRequest(tenant="acme"))
    thread = threading.Thread(target=desk.dispatcher.call, args=(asked,))
    thread.start()
    assert waiting.wait(20)
    desk.dispatcher.stop()
    thread.join()
    assert stayed == [False]


def test_operators_are_not_among_the_services_until_added(desk: Desk) -> None:
    assert desk.dispatcher.services == (f"{PACKAGE}.Agents", f"{PACKAGE}.Kills")
    whoami = desk.asked("Operators/WhoAmI", operators_pb2.WhoAmIRequest())
    assert desk.refused(lambda: desk.dispatcher.call(whoami)).code is Code.UNIMPLEMENTED
