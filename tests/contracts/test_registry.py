"""The agent registry over SQLite and a real PostgreSQL."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import insert, update
from sqlalchemy.exc import IntegrityError

from authz.errors import InvalidRequestError
from authz.identity.agent_rows_sql import PARENTS, VERSIONS
from authz.identity.registry import Ceiling, Update, moved, rotated, updated
from authz.identity.registry_sql import Because, Registry
from authz.model import Autonomy, Lifecycle
from authz.reasons import AGENT_CHANGED, AGENT_EXISTS, AGENT_PARENT, AGENT_UNKNOWN
from tests.identity_fakes import signing_key
from tests.registry_fakes import agent, certificate_credential, key_credential

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

    from authz.database import Database
    from authz.identity.registry import Agent
    from authz.identity.registry_sql import Told
    from authz.reasons import Reason

WHY = Because(by="alice", reason="a test")


@dataclass
class Book:
    """A registry, and what decisions were told."""

    database: Database
    told: list[tuple[str, Told]] = field(default_factory=list)
    broken: bool = False

    def __post_init__(self) -> None:
        self.registry = Registry(self.database, self.announce)

    def announce(self, connection: Connection, tenant: str, told: Sequence[Told]) -> None:  # noqa: ARG002 - the port's shape
        if self.broken:
            raise InvalidRequestError(AGENT_CHANGED)
        self.told += [(tenant, each) for each in told]

    def add(self, *agents: Agent) -> list[Agent]:
        with self.database.write() as connection:
            return [self.registry.add(connection, each, WHY) for each in agents]

    def read(self, identifier: str = "planner", tenant: str = "acme") -> Agent:
        with self.database.read() as connection:
            return self.registry.find(connection, tenant, identifier)

    def change(self, rule: Any, *arguments: Any, identifier: str = "planner", **named: Any) -> Agent:
        with self.database.write() as connection:
            before = self.registry.line(connection, "acme", identifier, hold=True)[-1]
            return self.registry.change(connection, before, rule(before, *arguments, now_ns=7, **named), WHY)

    def last_told(self) -> dict[str, Told]:
        return {each.agent: each for _, each in self.told}


@pytest.fixture
def book(database: Database) -> Book:
    return Book(database)


def refused(call: Any, *arguments: Any, **named: Any) -> Reason:
    with pytest.raises(InvalidRequestError) as caught:
        call(*arguments, **named)
    return caught.value.reason


def test_an_agent_reads_back_as_it_was_registered(book: Book) -> None:
    ceiling = Ceiling(scopes=(), tools=("files/*",))
    made = agent(purpose="plans", ceiling=ceiling, credentials=(key_credential(), certificate_credential()))
    [added] = book.add(made)
    assert book.read() == added
    assert replace(added, created_ns=0, updated_ns=0) == made
    assert added.created_ns > 0


@pytest.mark.parametrize("identifier", ["planner", "Planner", "\uff50lanner"])
def test_e10_no_look_alike_of_an_agent_is_registered(book: Book, identifier: str) -> None:
    book.add(agent())
    assert refused(book.add, agent(identifier)) is AGENT_EXISTS
    book.add(agent(identifier, tenant="globex"))


def test_the_id_of_a_retired_agent_is_never_given_again(book: Book) -> None:
    book.add(agent())
    book.change(moved, Lifecycle.RETIRED)
    assert refused(book.add, agent()) is AGENT_EXISTS


def test_an_agent_of_another_tenant_is_unknown(book: Book) -> None:
    book.add(agent())
    assert refused(book.read, tenant="globex") is AGENT_UNKNOWN
    assert refused(book.read, "Planner") is AGENT_UNKNOWN


def test_each_change_leaves_who_why_and_what(book: Book) -> None:
    book.add(agent())
    book.change(updated, Update(owner="bob", purpose="plans"))
    book.change(moved, Lifecycle.PAUSED)
    with book.database.read() as connection:
        history = book.registry.versions(connection, "acme", "planner")
    assert [(each.version, each.by, each.reason, each.changed) for each in history] == [
        (1, "alice", "a test", ()),
        (2, "alice", "a test", ("owner", "purpose")),
        (3, "alice", "a test", ("lifecycle",)),
    ]


def test_history_and_parents_cannot_be_rewritten(book: Book) -> None:
    book.add(agent("root"), agent(parents=("root",)))
    for table, values in ((VERSIONS, {"by": "nobody"}), (PARENTS, {"parent": "other"})):
        with pytest.raises(IntegrityError), book.database.write() as connection:
            connection.execute(update(table).values(values))


def test_decisions_are_told_of_an_agent_when_it_is_registered(book: Book) -> None:
    book.add(agent(ceiling=Ceiling(tools=("files/*",))))
    [(tenant, told)] = book.told
    assert (tenant, told.agent, told.version, told.facts.tools_ceiling) == ("acme", "planner", 1, ("files/*",))


@pytest.mark.parametrize(
    "change",
    [
        Update(owner="bob"),
        Update(autonomy=Autonomy.OBSERVE),
        Update(memory_writes_paused=True),
        Update(ceiling=Ceiling(tools=())),
    ],
)
def test_decisions_are_told_of_each_change_that_they_must_know(book: Book, change: Update) -> None:
    book.add(agent())
    book.change(updated, change)
    assert [told.version for _, told in book.told] == [1, 2]


def test_decisions_are_not_told_what_they_need_not_know(book: Book) -> None:
    book.add(agent())
    book.change(updated, Update(purpose="plans"))
    book.change(rotated, key_credential())
    assert len(book.told) == 1


def test_a_change_that_cannot_be_told_is_not_made(book: Book) -> None:
    book.add(agent())
    book.broken = True
    with pytest.raises(InvalidRequestError):
        book.change(moved, Lifecycle.PAUSED)
    assert book.read().lifecycle is Lifecycle.ACTIVE


def test_pausing_a_parent_pauses_everyone_below_it(book: Book) -> None:
    book.add(agent("root"), agent(parents=("root",)), agent("reader", parents=("root", "planner")), agent("other"))
    book.change(moved, Lifecycle.PAUSED, identifier="root")
    last = book.last_told()
    assert {name: told.facts.lifecycle.value for name, told in last.items()} == {
        "root": "paused",
        "planner": "paused",
        "reader": "paused",
        "other": "active",
    }
    assert (last["reader"].version, last["other"].version) == (2, 1)
    book.change(moved, Lifecycle.ACTIVE, identifier="root")
    assert book.last_told()["reader"].facts.lifecycle is Lifecycle.ACTIVE


def test_a_change_of_one_in_between_counts_for_those_below_alone(book: Book) -> None:
    book.add(agent("root"), agent(parents=("root",)), agent("reader", parents=("root", "planner")))
    book.told.clear()
    book.change(updated, Update(ceiling=Ceiling(tools=("files/read",))))
    assert {name: told.facts.tools_ceiling for name, told in book.last_told().items()} == {
        "planner": ("files/read",),
        "reader": ("files/read",),
    }


def test_a_retired_agent_is_told_of_no_more_and_still_bounds_those_below(book: Book) -> None:
    book.add(agent("root"), agent(parents=("root",)), agent("reader", parents=("root", "planner")))
    book.change(moved, Lifecycle.RETIRED)
    book.told.clear()
    book.change(updated, Update(owner="bob"), identifier="root")
    assert {name: told.facts.lifecycle.value for name, told in book.last_told().items()} == {
        "root": "active",
        "reader": "retired",
    }


@pytest.mark.parametrize("parents", [("nobody",), ("planner",), ("other", "planner"), ("planner", "root")])
def test_an_agent_descends_from_agents_as_they_are(book: Book, parents: tuple[str, ...]) -> None:
    book.add(agent("root"), agent("other"), agent(parents=("root",)))
    assert refused(book.add, agent("reader", parents=parents)) is AGENT_PARENT
    book.add(agent("reader", parents=("root", "planner")))


def test_no_agent_descends_from_another_tenants(book: Book) -> None:
    book.add(agent("root", tenant="globex"))
    assert refused(book.add, agent(parents=("root",))) is AGENT_PARENT


def test_nothing_is_registered_below_one_that_is_not_active(book: Book) -> None:
    book.add(agent())
    book.change(moved, Lifecycle.PAUSED)
    assert refused(book.add, agent("reader", parents=("planner",))) is AGENT_PARENT


def test_whoever_comes_second_is_told_so(book: Book) -> None:
    [before] = book.add(agent())
    book.change(updated, Update(owner="bob"))
    with book.database.write() as connection:
        late = updated(before, Update(owner="carol"), now_ns=9)
        assert refused(book.registry.change, connection, before, late, WHY) is AGENT_CHANGED


def test_changes_at_once_each_leave_their_mark(book: Book) -> None:
    book.add(agent())
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: book.change(updated, Update(purpose=f"purpose {number}")), range(16)))
    assert book.read().version == 17


def test_a_family_changed_at_both_ends_at_once_tells_what_holds_in_the_end(book: Book) -> None:
    book.add(agent("root"), agent(parents=("root",)), agent("reader", parents=("root", "planner")))

    def touch(number: int) -> None:
        name = ("root", "planner", "reader")[number % 3]
        book.change(updated, Update(ceiling=Ceiling(tools=(f"s/{number}", f"{name}/x"))), identifier=name)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(touch, range(18)))
    highest = {
        name: max((told for _, told in book.told if told.agent == name), key=lambda each: each.version)
        for name in ("root", "planner", "reader")
    }
    line = [book.read(name) for name in ("root", "planner", "reader")]
    ceiling = line[0].ceiling
    for each in line:
        ceiling = ceiling.below(each.ceiling)
        assert highest[each.id].facts.tools_ceiling == ceiling.tools


def test_agents_are_listed_by_page_and_by_lifecycle(book: Book) -> None:
    book.add(*(agent(f"a{number}") for number in range(5)), agent("b", tenant="globex"))
    book.change(moved, Lifecycle.PAUSED, identifier="a3")
    with book.database.read() as connection:
        first = book.registry.page(connection, "acme", size=3)
        rest = book.registry.page(connection, "acme", after=first[-1].id, size=3)
        paused = book.registry.page(connection, "acme", size=9, lifecycle=Lifecycle.PAUSED)
    assert [each.id for each in (*first, *rest)] == ["a0", "a1", "a2", "a3", "a4"]
    assert [each.id for each in paused] == ["a3"]


def test_an_agents_children_are_counted(book: Book) -> None:
    book.add(agent("root"), agent(parents=("root",)), agent("reader", parents=("root", "planner")))
    created_ns = book.read("planner").created_ns
    with book.database.read() as connection:
        registry = book.registry
        assert registry.below(connection, "acme", "root") == ["planner", "reader"]
        assert registry.below(connection, "acme", "root", directly=True) == ["planner"]
        assert registry.spawned_since(connection, "acme", "root", created_ns - 1) == 1
        assert registry.spawned_since(connection, "acme", "root", created_ns) == 0
        assert registry.alive_below(connection, "acme", "root") == 2
        assert registry.active(connection, "acme") == 3
        assert registry.active_among(connection, "acme", ["planner", "nobody"], below=[]) == {"planner"}
        assert registry.active_among(connection, "acme", ["root"], below=["root"]) == {"root", "planner", "reader"}
        assert registry.active_among(connection, "rival", ["root"], below=["root"]) == frozenset()
    book.change(moved, Lifecycle.RETIRED, identifier="reader")
    with book.database.read() as connection:
        assert registry.alive_below(connection, "acme", "root") == 1
        assert registry.active(connection, "acme") == 2
        assert registry.active_among(connection, "acme", [], below=["root"]) == {"planner"}


def test_credentials_are_replaced_whole(book: Book) -> None:
    book.add(agent(credentials=(key_credential(),)))
    book.change(rotated, key_credential(signing_key("ES256"), "c-9"))
    assert [(each.id, each.revoked_ns) for each in book.read().credentials] == [("c-1", 7), ("c-9", None)]


def test_the_database_itself_refuses_a_second_parent_at_one_distance(book: Book) -> None:
    book.add(agent("root"), agent(parents=("root",)))
    row = {"tenant": "acme", "agent": "planner", "distance": 1, "parent": "other"}
    with pytest.raises(IntegrityError), book.database.write() as connection:
        connection.execute(insert(PARENTS).values(row))
