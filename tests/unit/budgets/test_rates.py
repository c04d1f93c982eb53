"""Floods against the counts: nobody is forgotten, and who floods is counted together."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from authz.budgets.rates import Rates, Room
from authz.model import Effect, Rate
from tests.fakes import PRINCIPAL, TOOL, FakeClock

if TYPE_CHECKING:
    from authz.model import Principal, Tool

CALLS = (Rate("calls", 60),)
ROOM = Room(of_all=16, of_tenant=8, of_agent=3, of_session=2)


class Counted:
    """Counts, and who is counted."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.rates = Rates(self.clock, ROOM)

    def calls(self, *, tool: str = "t", asked: tuple[Rate, ...] = CALLS, **who: str) -> int:
        """How many calls somebody is told of, at one more."""
        rates: Any = self.rates.count(principal(**who), named(tool), asked)
        return int(rates[asked[0].name]["60"])


def principal(**who: Any) -> Principal:
    return replace(PRINCIPAL, **who)


def named(tool: str) -> Tool:
    return replace(TOOL, name=tool)


def test_sessions_agents_and_tenants_are_counted_apart() -> None:
    counted = Counted()
    assert [counted.calls(session="a"), counted.calls(session="a"), counted.calls(session="b")] == [1, 2, 1]
    assert [counted.calls(agent="other", session="a"), counted.calls(tenant="other", session="a")] == [1, 1]


def test_a_flood_of_sessions_makes_no_session_forgotten_and_counts_as_one() -> None:
    counted = Counted()
    before = [counted.calls(session="mine") for _ in range(5)]
    flood = [counted.calls(session=f"s{number}") for number in range(50)]
    assert (before[-1], counted.calls(session="mine")) == (5, 6)
    # The first two had room; each further one is told of all the agent's calls.
    assert flood[:2] == [1, 1]
    assert flood[2:] == [*range(8, 56)]
    assert counted.calls(agent="somebody else") == 1


def test_a_flood_of_agents_costs_its_own_tenant_only() -> None:
    counted = Counted()
    flood = [counted.calls(agent=f"a{number}") for number in range(50)]
    assert flood[-1] == 50
    assert counted.calls(tenant="globex", agent="a0") == 1


def test_a_flood_of_names_of_tools_is_told_of_every_call() -> None:
    counted, of_tool = Counted(), (Rate("calls_of_tool", 60),)
    told = [counted.calls(tool=f"t{number}", asked=of_tool) for number in range(6)]
    assert told == [1, 1, 3, 4, 5, 6]


def test_one_agent_fills_no_more_than_its_own_room() -> None:
    counted, of_tool = Counted(), (Rate("agent_calls_of_tool", 60), Rate("calls_of_tool", 60))
    for number in range(50):
        counted.calls(session=f"s{number % 7}", tool=f"t{number}", asked=of_tool)
    assert counted.calls(agent="somebody else", asked=of_tool) == 1


def test_a_new_session_is_no_new_beginning_for_its_agent() -> None:
    counted, asked = Counted(), (Rate("agent_calls_of_tool", 60),)
    assert [counted.calls(session=str(number), asked=asked) for number in range(10)] == [*range(1, 11)]
    assert counted.calls(session="1", tool="another", asked=asked) == 1


def test_who_gets_room_later_begins_with_what_it_was_counted_with() -> None:
    counted = Counted()
    for session in ("a", "b", "c"):
        counted.calls(session=session)
    assert counted.calls(session="late") == 4
    counted.clock.advance(59)
    assert counted.calls(session="late") == 5
    counted.clock.advance(2)
    # Nothing of a, b and c counts any more, and there is room: of `late`'s own two calls, none is forgotten.
    assert counted.calls(session="late") >= 2
    counted.clock.advance(64)
    assert counted.calls(session="late") == 1


def test_room_is_given_back_once_nothing_counts() -> None:
    counted = Counted()
    for session in ("a", "b", "c", "d"):
        counted.calls(session=session)
    counted.clock.advance(200)
    assert [counted.calls(session=session) for session in ("e", "f", "g")] == [1, 1, 1]


def test_room_that_others_took_is_given_back_as_well() -> None:
    counted = Counted()
    for tenant in ("a", "b", "c", "d", "e", "f"):
        counted.calls(tenant=tenant, session="s")
    assert counted.calls(tenant="a", session="t") > 1
    counted.clock.advance(50)
    assert counted.calls(tenant="a", session="s") == 2
    counted.clock.advance(11)
    assert counted.calls(tenant="a", agent="new") <= 3
    counted.clock.advance(64)
    assert counted.calls(tenant="a", session="u") == 1


def test_an_outcome_is_counted_after_its_call() -> None:
    counted, asked = Counted(), (Rate("agent_denied", 60), Rate("denied", 60))
    who, tool = principal(session="a"), named("t")
    assert counted.rates.count(who, tool, asked) == {"agent_denied": {"60": 0}, "denied": {"60": 0}}
    for enforced in Effect:
        counted.rates.ended(who, tool, asked, enforced)
    assert counted.rates.read(who, tool, asked) == {"agent_denied": {"60": 1}, "denied": {"60": 1}}
    other = principal(session="b")
    assert counted.rates.read(other, tool, asked) == {"agent_denied": {"60": 1}, "denied": {"60": 0}}


def test_reading_takes_no_room() -> None:
    counted = Counted()
    for number in range(50):
        counted.rates.read(principal(session=str(number)), TOOL, CALLS)
    assert [counted.calls(session=session) for session in ("a", "b", "c")] == [1, 1, 1]
