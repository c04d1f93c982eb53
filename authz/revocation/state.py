"""What one stream of kills comes to: the kills in force and the facts of agents, as of one place in the ledger.

Decides what an entry changes. The highest version of a kill or an agent wins, a lift ends exactly the kill it names,
and kills of one scope stand beside one another, so that lifting one leaves the rest. Nothing lifted is forgotten before
a snapshot leaves it out. Must never read a clock: whether a kill has expired is judged at each look.

One thread writes; any number read without a lock. INVARIANT: a kill is in `values` last when it begins and no longer
when it ends, so readers see each change by one operation. Kills are kept as strings and integers alone, in dicts that
the garbage collector therefore neither tracks nor walks. It does walk sets: whoever has put a million kills into one
freezes it (`gc.freeze`). Each dict costs a start a third of a second a million, so there are two: a kill by its id,
which says its kind by the dict that it lies in, and the ids by what they kill.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from authz.model import Autonomy, Lifecycle
from authz.revocation.entries import AgentEntry, KillEntry, LiftEntry
from authz.revocation.scopes import Scope, ScopeKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from authz.model import AgentFacts
    from authz.revocation.entries import Entry
    from authz.revocation.standing import Kills

_FIRST: Final = 1
"""The version of a kill that was never changed: not kept."""
_LIFECYCLES: Final = list(Lifecycle)
_AUTONOMIES: Final = list(Autonomy)


class StreamState:
    """Kills and facts of one stream at `epoch` and `sequence`; both 0 before anything is known."""

    __slots__ = (
        "_agents",
        "_expiries",
        "_forgotten",
        "_ids",
        "_inherited",
        "_until",
        "_values",
        "_versions",
        "epoch",
        "sequence",
        "values",
    )

    def __init__(self) -> None:
        self.epoch = 0
        self.sequence = 0
        self._inherited: tuple[KillEntry, ...] = ()
        """Kills of earlier epochs that the ledger has not named since: kept until it does (E7)."""
        self._forgotten: dict[str, tuple[int, AgentFacts]] = {}
        """Facts of earlier epochs that the ledger has lost, and the version that it knows: they count until a later."""
        self._ids: dict[str, str] = {}  # a scope's value to the ids of its kills, of any kind, separated by spaces
        self.values: set[str] = set()
        """The keys of `_ids`, by themselves: what is not killed is found out in a set with half the cache misses."""
        self._values: dict[str, dict[str, str]] = {kind: {} for kind in ScopeKind}
        """By kind, the kills that are not lifted: their ids, and what they kill."""
        self._versions: dict[str, int] = {}  # of what was changed or lifted
        self._expiries: dict[str, int] = {}
        self._until: dict[str, int] = {}
        """On our running clock, how long a kill lasts that was heard as it was made: the ledger's clock may be set."""
        self._agents: dict[str, tuple[int, AgentFacts]] = {}

    def __len__(self) -> int:
        """How many kills are not lifted."""
        return sum(map(len, self._values.values()))

    def apply(self, entries: Iterable[Entry], heard_ns: int | None = None) -> None:
        """Take entries in the order of the ledger.

        Args:
            entries: all of one stream.
            heard_ns: our running clock, where they were heard as they were made.
        """
        for entry in entries:
            match entry:
                case KillEntry():
                    self._kill(entry, heard_ns)
                case LiftEntry():
                    self._lift(entry)
                case AgentEntry():
                    known = self._agents.get(entry.agent)
                    if known is None or known[0] < entry.version:
                        self._agents[entry.agent] = (entry.version, entry.facts)
                case _:  # an epoch begins: nothing is known of it yet
                    pass
            self.sequence = max(self.sequence, entry.sequence)

    def add(self, kills: Kills) -> None:
        """Take many kills at once, none of them known: for a state that nobody reads yet."""
        ids, values = kills.ids, kills.values
        for kill, kind, value in zip(ids, kills.kinds, values, strict=True):
            self._values[kind][kill] = value
        self._versions.update((kill, at) for kill, at in zip(ids, kills.versions, strict=True) if at != _FIRST)
        self._expiries.update((kill, at) for kill, at in zip(ids, kills.expiries, strict=True) if at)
        before = len(self.values)
        self.values.update(values)
        if len(self.values) == before + len(values):
            self._ids.update(zip(values, ids, strict=True))
            return
        for value, kill in zip(values, ids, strict=True):
            self._name(value, kill)

    def inherit(self, before: StreamState, stream: str) -> None:
        """Keep what `before` stopped and the ledger of a later epoch has lost.

        A kill stays until it is named; an agent that was stopped, until the registry changes it again.
        """
        begins_anew = before.epoch != self.epoch
        kills = before.in_force(stream) if begins_anew else before._inherited
        self._inherited = tuple(kill for kill in kills if not self._version(kill.id))
        for kill in self._inherited:
            self._kill(kill)
        lost = before._forgotten
        if begins_anew:
            lost = lost | {
                agent: (self._agent_version(agent), facts)
                for agent, (version, facts) in before._agents.items()
                if self._agent_version(agent) < version
            }
        for agent, (version, facts) in lost.items():
            known = self._agents.get(agent)
            stopped = _narrower(known[1], facts) if known else facts
            if self._agent_version(agent) <= version and (known is None or stopped != known[1]):
                self._forgotten[agent] = (version, facts)
                self._agents[agent] = (version, stopped)
        self._until = {kill: at_ns for kill, at_ns in before._until.items() if kill in self._expiries}

    def facts(self, agent: str) -> AgentFacts | None:
        """What the registry says of the agent."""
        known = self._agents.get(agent)
        return known[1] if known is not None else None

    def first(
        self, scopes: Iterable[tuple[ScopeKind, str]], now_ns: int, running_ns: int
    ) -> tuple[str, ScopeKind, str] | None:
        """Id, kind and value of a kill of one of these scopes that has not expired at `now_ns`, by the ledger's time.

        Nor at `running_ns`, by ours: a ledger whose clock was set does not end what it has just begun (E11).
        """
        for kind, value in scopes:
            for kill in self._ids.get(value, "").split():
                # It may kill this as another kind of thing, or have been lifted since it was found.
                if kill in self._values[kind] and not self._is_expired(kill, now_ns, running_ns):
                    return kill, kind, value
        return None

    def in_force(self, stream: str) -> Iterator[KillEntry]:
        """Every kill that is not lifted, expired ones included. Only for the thread that writes this state."""
        for kind in ScopeKind:
            for kill, value in self._values[kind].items():
                yield KillEntry(
                    sequence=self.sequence,
                    id=kill,
                    version=self._version(kill),
                    scope=Scope(kind, stream, value),
                    at_ns=0,
                    expires_at_ns=self._expiries.get(kill, 0),
                )

    def _agent_version(self, agent: str) -> int:
        """Of the registry's facts; 0 where it is not known."""
        known = self._agents.get(agent)
        return known[0] if known else 0

    def _is_expired(self, kill: str, now_ns: int, running_ns: int) -> bool:
        expires_at_ns = self._expiries.get(kill)
        return expires_at_ns is not None and expires_at_ns <= now_ns and self._until.get(kill, 0) <= running_ns

    def _version(self, kill: str) -> int:
        """Of the kill; 0 where it is not known."""
        changed = self._versions.get(kill)
        if changed is not None:
            return changed
        return _FIRST if any(kill in values for values in self._values.values()) else 0

    def _kill(self, entry: KillEntry, heard_ns: int | None = None) -> None:
        known = self._version(entry.id)
        if known >= entry.version:
            return
        if known:
            self._end(entry.id)
        # What must be known of a kill stands before the kill can be found.
        if entry.expires_at_ns:
            if heard_ns is not None:
                self._until[entry.id] = heard_ns + entry.expires_at_ns - entry.at_ns
            self._expiries[entry.id] = entry.expires_at_ns
        if entry.version != _FIRST:
            self._versions[entry.id] = entry.version
        self._values[entry.scope.kind][entry.id] = entry.scope.value
        self._name(entry.scope.value, entry.id)

    def _lift(self, entry: LiftEntry) -> None:
        if self._version(entry.id) < entry.version:
            self._versions[entry.id] = entry.version
            self._end(entry.id)

    def _name(self, value: str, kill: str) -> None:
        others = self._ids.get(value)
        self._ids[value] = kill if others is None else f"{others} {kill}"
        self.values.add(value)

    def _end(self, kill: str) -> None:
        value = next((values.pop(kill) for values in self._values.values() if kill in values), None)
        if value is None:
            return
        others = [other for other in self._ids[value].split() if other != kill]
        if others:
            self._ids[value] = " ".join(others)
        else:
            self.values.discard(value)
            del self._ids[value]
        self._expiries.pop(kill, None)
        self._until.pop(kill, None)


def _narrower(known: AgentFacts, lost: AgentFacts) -> AgentFacts:
    """What the ledger knows of an agent, as far as what it has lost did not stop it."""
    return replace(
        known,
        lifecycle=max(known.lifecycle, lost.lifecycle, key=_LIFECYCLES.index),
        autonomy=min(known.autonomy, lost.autonomy, key=_AUTONOMIES.index),
        memory_writes_paused=known.memory_writes_paused or lost.memory_writes_paused,
    )
