"""Counts against a list of everything that happened: they never say too little, and say exactly how much too much."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from authz.budgets.rates import PARTS, Rates, Room
from authz.model import RATES, Effect, Rate
from tests.fakes import PRINCIPAL, TOOL, FakeClock

if TYPE_CHECKING:
    from authz.model import Principal, Tool

SPANS = (1, 60, 3600)
ASKED = tuple(Rate(name, seconds) for name in sorted(RATES) for seconds in SPANS)
CROWDED = Room(of_all=8, of_tenant=5, of_agent=3, of_session=1)
OUTCOMES = {Effect.ALLOW: (), Effect.DENY: ("denied",), Effect.APPROVAL_NEEDED: ("approval_needed",)}


class Call(NamedTuple):
    """One call of somebody, some time after the one before."""

    after_s: float
    tenant: str
    agent: str
    session: str
    tool: str
    enforced: Effect

    @property
    def principal(self) -> Principal:
        return replace(PRINCIPAL, tenant=self.tenant, agent=self.agent, session=self.session)

    @property
    def called(self) -> Tool:
        return replace(TOOL, name=self.tool)


NAMES = st.sampled_from(["a", "b", "c", "d"])
PAUSES = st.one_of(
    st.sampled_from([0.0, 0.001, 1 / 16, 1.0, 17 / 16, 60.0, 63.75, 3600.0, 3825.0, 4000.0]), st.floats(0, 90)
)
CALLS = st.lists(st.builds(Call, PAUSES, NAMES, NAMES, NAMES, NAMES, st.sampled_from([*OUTCOMES])), max_size=40)


@dataclass
class Naive:
    """Everything that ever happened, asked from the beginning each time."""

    happened: list[tuple[int, str, Call]]

    def compared(self, told: Any, call: Call, now_ns: int) -> list[Said]:
        return [
            Said(
                rate,
                told[rate.name][str(rate.seconds)],
                self.within(rate, call, now_ns, rate.seconds * 10**9),
                self.within(rate, call, now_ns, rate.seconds * 10**9 * (PARTS + 1) // PARTS),
            )
            for rate in ASKED
        ]

    def within(self, rate: Rate, call: Call, now_ns: int, span_ns: int) -> int:
        who = ("tenant", "agent") if rate.name.startswith("agent_") else ("tenant", "agent", "session")
        what = rate.name.removeprefix("agent_")
        same = (*who, "tool") if what == "calls_of_tool" else who
        return sum(
            at_ns > now_ns - span_ns
            and event == what.removesuffix("_of_tool")
            and all(getattr(other, part) == getattr(call, part) for part in same)
            for at_ns, event, other in self.happened
        )


class Said(NamedTuple):
    """What was said of a rate, with what happened in its span, and in that and one piece more."""

    rate: Rate
    number: int
    least: int
    most: int


def told(calls: list[Call], room: Room) -> list[Said]:
    """What was said at each call: to who only read, and to who called."""
    clock, naive, found = FakeClock(), Naive([]), []
    rates = Rates(clock, room)
    for call in calls:
        clock.advance(call.after_s)
        now_ns = clock.monotonic_ns()
        found += naive.compared(rates.read(call.principal, call.called, ASKED), call, now_ns)
        naive.happened.append((now_ns, "calls", call))
        found += naive.compared(rates.count(call.principal, call.called, ASKED), call, now_ns)
        rates.ended(call.principal, call.called, ASKED, call.enforced)
        naive.happened += [(now_ns, event, call) for event in OUTCOMES[call.enforced]]
    return found


@given(CALLS)
@settings(deadline=None)
def test_a_count_is_of_its_span_and_of_at_most_a_sixteenth_more(calls: list[Call]) -> None:
    for said in told(calls, Room()):
        assert said.least <= said.number <= said.most, said


@given(CALLS)
@settings(deadline=None)
def test_where_there_is_no_room_a_count_is_never_too_small(calls: list[Call]) -> None:
    for said in told(calls, CROWDED):
        assert said.number >= said.least, said
