"""How often an agent called, was refused, or asked for an approval of late: what policies read as rates.

Counts in memory, by tenant, agent, session and tool, and only what the policies in service ask for. Each count covers
its span, and of what was before no more than a sixteenth of the span: it never says too little, and seldom too much.

Must never grow without bound, nor forget a caller because others came. Nothing is evicted before it is too old to
count. Where there is no room, a newcomer is counted with what is around it: a session with its agent, an agent with
its tenant. Such a count is at least its own, so that a flood of sessions, agents or names of tools makes nobody
unknown, and costs those among whom it came. What gets room later begins with the count that it was part of.

One process's memory: another sidecar counts for itself, and a restart begins at nothing. Trusts its clock to be
monotonic, and principals to be verified.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple

from authz.model import Effect

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator
    from typing import TypeAlias

    from authz.clock import Clock
    from authz.model import JsonObject, JsonValue, Principal, Rate, Tool

    _Key: TypeAlias = tuple[str, int]
    """What is counted, and over how many seconds."""

PARTS: Final = 16
"""Pieces of a span; it moves on by one piece at a time."""
_AGENT: Final = "agent_"
_OF_TOOL: Final = "_of_tool"
_CALLS: Final = "calls"
_OUTCOMES: Final = {Effect.DENY: "denied", Effect.APPROVAL_NEEDED: "approval_needed"}


class Room(NamedTuple):
    """How many are counted apart: tenants, agents, sessions, and tools of agents and of sessions, all together."""

    of_all: int = 65_536
    of_tenant: int = 4096
    of_agent: int = 1024
    of_session: int = 64


class Rates:
    """Counts of one process. Thread-safe."""

    def __init__(self, clock: Clock, room: Room = Room()) -> None:  # noqa: B008 - it is frozen
        self._now_ns = clock.monotonic_ns
        self._room = room
        self._lock = threading.Lock()
        self._all = _Scope()

    def count(self, principal: Principal, tool: Tool, asked: tuple[Rate, ...]) -> JsonObject:
        """Count a call, and say how often each of what is asked happened, by name and seconds; the call is among it."""
        plan = _planned(asked)
        with self._lock:
            at = _Moment(self._now_ns(), plan)
            around = self._around(principal, tool, at)
            for scope in around.line:
                scope.add(plan.calls, at.now_ns)
            for part in around.tools:
                part.add(plan.calls, at.now_ns)
            return around.said(at)

    def read(self, principal: Principal, tool: Tool, asked: tuple[Rate, ...]) -> JsonObject:
        """The same, with nothing counted."""
        with self._lock:
            at = _Moment(self._now_ns(), _planned(asked), keeps=False)
            return self._around(principal, tool, at).said(at)

    def ended(self, principal: Principal, tool: Tool, asked: tuple[Rate, ...], enforced: Effect) -> None:
        """What became of a call that was counted."""
        plan = _planned(asked)
        keys = plan.outcomes.get(enforced)
        if keys is None:
            return
        with self._lock:
            at = _Moment(self._now_ns(), plan)
            for scope in self._around(principal, tool, at).line:
                scope.add(keys, at.now_ns)

    def _around(self, principal: Principal, tool: Tool, at: _Moment) -> _Around:
        """Where a call is counted: from everything down to its session, as far as there is room."""
        plan, line = at.plan, [self._all]
        called, by_agent, by_session = (tool.server, tool.name), None, None
        tenant = (principal.issuer, principal.tenant)
        if self._narrow(line, tenant, at) and self._narrow(line, principal.agent, at):
            if plan.tool_of_agent:
                by_agent = self._part(line, called, at)
            narrowed = plan.sessions and self._narrow(line, principal.session, at)
            if narrowed and plan.tool_of_session:
                by_session = self._part(line, called, at)
        return _Around(line, by_agent, by_session)

    def _narrow(self, line: list[_Scope], name: Hashable, at: _Moment) -> bool:
        """Go on with a line, if there is room."""
        part = self._part(line, name, at)
        if part is not None:
            line.append(part)
        return part is not None

    def _part(self, line: list[_Scope], name: Hashable, at: _Moment) -> _Scope | None:
        """The narrower part of the last of a line; None where there is no room for it."""
        outer = line[-1]
        found = outer.inner.get(name)
        if found is None:
            return self._newcomer(line, name, at)
        if at.keeps:
            outer.inner.move_to_end(name)
            found.used_ns = at.now_ns
        return found

    def _newcomer(self, line: list[_Scope], name: Hashable, at: _Moment) -> _Scope | None:
        outer = line[-1]
        made = outer.newcomer(at)
        if not at.keeps:
            return made
        for depth, scope in enumerate(line, start=1):
            gone = scope.forget(at.since_ns)
            for above in line[:depth]:
                above.held -= gone
        if any(scope.held >= most for scope, most in zip(line, self._room, strict=False)):
            outer.crowded_ns = at.now_ns
            return None
        outer.inner[name] = made
        for scope in line:
            scope.held += 1
        return made


class _Plan(NamedTuple):
    """What is counted for the rates that are asked."""

    asked: tuple[tuple[str, str, _Key, bool, bool], ...]
    """The names of each, its key, whether it is the agent's, and whether it is of the tool."""
    calls: tuple[_Key, ...]
    outcomes: dict[Effect, tuple[_Key, ...]]
    tool_of_agent: bool
    sessions: bool
    """Whether any is of sessions."""
    tool_of_session: bool
    longest_ns: int


@lru_cache(maxsize=64)
def _planned(asked: tuple[Rate, ...]) -> _Plan:
    taken = [(name, str(seconds), (_event(name), seconds), _AGENT in name, _OF_TOOL in name) for name, seconds in asked]
    keys = sorted({key for _, _, key, _, _ in taken})
    of = {event: tuple(key for key in keys if key[0] == event) for event, _ in keys}
    return _Plan(
        asked=tuple(taken),
        calls=of.get(_CALLS, ()),
        outcomes={effect: of[event] for effect, event in _OUTCOMES.items() if event in of},
        tool_of_agent=any(of_agent and of_tool for *_, of_agent, of_tool in taken),
        sessions=not all(of_agent for *_, of_agent, _ in taken),
        tool_of_session=any(of_tool and not of_agent for *_, of_agent, of_tool in taken),
        longest_ns=max(rate.seconds for rate in asked) * 10**9,
    )


def _event(name: str) -> str:
    return name.removeprefix(_AGENT).removesuffix(_OF_TOOL)


class _Moment:
    """Now, and since when what happened may still count."""

    __slots__ = ("keeps", "now_ns", "plan", "since_ns")

    def __init__(self, now_ns: int, plan: _Plan, *, keeps: bool = True) -> None:
        self.now_ns = now_ns
        self.since_ns = now_ns - plan.longest_ns
        self.plan = plan
        self.keeps = keeps
        """Whether who is not there is counted apart from here on."""


class _Scope:
    """What is counted together, and the narrower parts of it that are also counted apart, the last used at the end."""

    __slots__ = ("counts", "crowded_ns", "held", "inner", "used_ns")

    def __init__(self, used_ns: int = 0) -> None:
        self.counts: dict[_Key, _Count] = {}
        self.inner: OrderedDict[Hashable, _Scope] = OrderedDict()
        self.held = 0
        """How many are counted apart within it, at any depth."""
        self.used_ns = used_ns
        self.crowded_ns: int | None = None
        """When there was last no room for somebody, who was counted here."""

    def add(self, keys: tuple[_Key, ...], now_ns: int) -> None:
        for key in keys:
            count = self.counts.get(key)
            if count is None:
                count = self.counts[key] = _Count(key[1] * 10**9 // PARTS)
            count.add(now_ns)

    def newcomer(self, at: _Moment) -> _Scope:
        """A part that was not there; it may be somebody for whom there was no room of late."""
        made = _Scope(at.now_ns)
        if self.crowded_ns is not None and self.crowded_ns >= at.since_ns:
            made.crowded_ns = self.crowded_ns
            made.counts = {key: count.copy() for key, count in self.counts.items()}
        return made

    def forget(self, before_ns: int) -> int:
        """Let go of parts of which nothing counts any more; how many those are, with what was in them."""
        inner, gone = self.inner, 0
        while inner and next(iter(inner.values())).used_ns < before_ns:
            _, part = inner.popitem(last=False)
            gone += 1 + part.held
        return gone


class _Around:
    """Where one call is counted."""

    __slots__ = ("_by_agent", "_by_session", "line")

    def __init__(self, line: list[_Scope], by_agent: _Scope | None, by_session: _Scope | None) -> None:
        self.line = line
        self._by_agent = by_agent
        self._by_session = by_session

    @property
    def tools(self) -> Iterator[_Scope]:
        return filter(None, (self._by_agent, self._by_session))

    def said(self, at: _Moment) -> JsonObject:
        line = self.line
        agent, session = line[2] if len(line) > 2 else line[-1], line[-1]  # noqa: PLR2004 - all, tenant, agent, session
        rates: dict[str, JsonValue] = {}
        for name, seconds, key, of_agent, of_tool in at.plan.asked:
            scope = agent if of_agent else session
            if of_tool:
                scope = (self._by_agent if of_agent else self._by_session) or scope
            count = scope.counts.get(key)
            number = count.total(at.now_ns) if count is not None else 0
            spans = rates.setdefault(name, {})
            spans[seconds] = number  # type: ignore[index,call-overload]  # it was made a line above
        return rates


@dataclass(slots=True)
class _Count:
    """How often, within the last seconds: whole pieces of the span, and the piece under way."""

    piece_ns: int
    pieces: list[int] = field(default_factory=lambda: [0] * (PARTS + 1))
    newest: int = 0
    sum: int = 0

    def add(self, now_ns: int) -> None:
        piece = now_ns // self.piece_ns
        if piece != self.newest:
            self._move(piece)
        self.pieces[piece % (PARTS + 1)] += 1
        self.sum += 1

    def total(self, now_ns: int) -> int:
        piece = now_ns // self.piece_ns
        if piece != self.newest:
            self._move(piece)
        return self.sum

    def copy(self) -> _Count:
        return replace(self, pieces=[*self.pieces])

    def _move(self, piece: int) -> None:
        for stale in range(max(self.newest + 1, piece - PARTS), piece + 1):
            place = stale % (PARTS + 1)
            self.sum -= self.pieces[place]
            self.pieces[place] = 0
        self.newest = piece
