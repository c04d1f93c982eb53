"""The kills that this service knows, and which of them covers a call.

Decides whether a message of the ledger is the next one, an old one, one after a gap or one of a past epoch, and whether
any kill in force covers a principal, its ancestors, its token or what it calls. The streams of the caller's tenant and
of the platform are asked; without the first the caller is refused. Identifiers match byte for byte.

Must never do I/O, and never forget a kill because something is missing: a gap, an older epoch or a shorter ledger
change nothing. Trusts messages, which were verified before. One thread writes; any number read without a lock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from authz.errors import EntryError, UnavailableError
from authz.model import MEMORY_WRITE, PLATFORM, Word
from authz.reasons import KILL_TENANT, KILL_UNREADABLE
from authz.revocation import standing
from authz.revocation.entries import KillEntry, LiftEntry
from authz.revocation.kills import Kill
from authz.revocation.scopes import Scope, ScopeKind
from authz.revocation.standing import Kills
from authz.revocation.state import StreamState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from authz.model import AgentFacts, Principal, ToolCall
    from authz.revocation.entries import Batch, Heartbeat, Snapshot


class Place(Word):
    """Where a message stands to what was applied."""

    NEXT = "next"
    """It follows what is known, or says nothing new: applied."""
    OLD = "old"
    """All of it was applied before."""
    GAP = "gap"
    """Something before it is missing: nothing was applied."""
    REGRESS = "regress"
    """It is of an earlier epoch, or of a ledger that forgot what it had said: nothing was applied."""


class Replica:
    """All streams that this service follows.

    Args:
        now_ns: the ledger's time, as far as it is known; see `freshness`.
        running_ns: our running clock.
        streams: the tenants it serves; the platform's stream is always among them.
        every_tenant: a tenant without a stream is one that the ledger has not spoken of, and none of ours to refuse.
    """

    def __init__(
        self,
        now_ns: Callable[[], int],
        running_ns: Callable[[], int],
        streams: Iterable[str] = (),
        *,
        every_tenant: bool = False,
    ) -> None:
        self._unspoken = StreamState() if every_tenant else None
        self._states = {stream: StreamState() for stream in (PLATFORM, *streams)}
        self._now_ns = now_ns
        self._running_ns = running_ns
        self.sequence = 0
        """Grows with every change; unchanged means that nothing need be looked up again."""

    @property
    def streams(self) -> tuple[str, ...]:
        """The names of the streams."""
        return tuple(self._states)

    def position(self, stream: str) -> tuple[int, int]:
        """Epoch and sequence of what was applied; (0, 0) before anything was."""
        state = self._states[stream]
        return state.epoch, state.sequence

    def kills(self) -> int:
        """How many kills stand, expired ones included."""
        return sum(map(len, self._states.values()))

    def follow(self, stream: str) -> None:
        """Begin with a stream, of which nothing is known yet; one that is followed stays as it is."""
        if stream not in self._states:
            self._states = {**self._states, stream: StreamState()}

    def place(self, batch: Batch) -> Place:
        """Where the batch stands to what was applied. One that overlaps it is the next one."""
        epoch, sequence = self.position(batch.stream)
        if batch.epoch != epoch:
            return Place.REGRESS if batch.epoch < epoch else Place.GAP
        if batch.last <= sequence:
            return Place.OLD
        return Place.GAP if batch.first > sequence + 1 else Place.NEXT

    def apply(self, batch: Batch, *, heard: bool = False) -> Place:
        """Take a batch if it is the next one; of one that overlaps what is known, the rest.

        Args:
            batch: verified.
            heard: it came by itself as it was made, not from a disk or in answer to a question about the past.
        """
        place = self.place(batch)
        if place is Place.NEXT:
            state = self._states[batch.stream]
            rest = (entry for entry in batch.entries if entry.sequence > state.sequence)
            state.apply(rest, self._running_ns() if heard else None)
            self.sequence += 1
        return place

    def restore(self, snapshot: Snapshot, content: bytes) -> Place:
        """Put a snapshot in the place of what is known, unless it is older.

        In one epoch it is the whole truth: what it leaves out was lifted or has expired long ago. Of a later epoch the
        ledger began anew, perhaps from a backup: kills that it does not name stay until it does, and so does what it
        has forgotten of agents that were stopped (E7).

        Raises:
            EntryError: KILL_UNREADABLE; what is known stays.
        """
        known = self._states[snapshot.stream]
        if snapshot.epoch < known.epoch:
            return Place.REGRESS
        if snapshot.epoch == known.epoch and snapshot.sequence < known.sequence:
            return Place.OLD
        state = _read(content, snapshot.stream)
        state.epoch, state.sequence = snapshot.epoch, snapshot.sequence
        if known.epoch:
            state.inherit(known, snapshot.stream)
        self._states[snapshot.stream] = state
        self.sequence += 1
        return Place.NEXT

    def compare(self, heartbeat: Heartbeat) -> Place:
        """Whether everything that the ledger has said by this heartbeat was applied: NEXT, if so."""
        epoch, sequence = self.position(heartbeat.stream)
        if heartbeat.epoch != epoch:
            return Place.REGRESS if heartbeat.epoch < epoch else Place.GAP
        if heartbeat.sequence == sequence:
            return Place.NEXT
        return Place.GAP if heartbeat.sequence > sequence else Place.OLD

    def facts(self, principal: Principal) -> AgentFacts | None:
        """What the registry says of this principal's agent."""
        state = self._states.get(principal.tenant)
        return state.facts(principal.agent) if state is not None else None

    def covering(self, principal: Principal, call: ToolCall | None) -> Kill | None:
        """The kill that covers this principal or call, if any.

        Raises:
            UnavailableError: KILL_TENANT, the tenant's kills are not followed here.
        """
        state, platform = self._state_of(principal.tenant), self._states[PLATFORM]
        values = _values(principal, call)
        # Nearly every call is settled here: none of the values that could be killed is one that is.
        if state.values.isdisjoint(values) and (not platform.values or platform.values.isdisjoint(values)):
            return None
        shared = list(_scopes_of_call(call)) if call is not None else []
        own = [*_scopes_of_principal(principal, call), *shared]
        return self._first(state, principal.tenant, own) or self._first(platform, PLATFORM, [_EVERYTHING, *shared])

    def covering_override(self, tenant: str, jti: str) -> Kill | None:
        """The kill of this override token, if any.

        Raises:
            UnavailableError: KILL_TENANT.
        """
        return self._first(self._state_of(tenant), tenant, [(ScopeKind.OVERRIDE, jti)])

    def _state_of(self, tenant: str) -> StreamState:
        # The platform's stream is no tenant's, whatever a token says.
        state = self._states.get(tenant, self._unspoken) if tenant != PLATFORM else None
        if state is None:
            raise UnavailableError(KILL_TENANT)
        return state

    def _first(self, state: StreamState, stream: str, scopes: Iterable[tuple[ScopeKind, str]]) -> Kill | None:
        found = state.first(scopes, self._now_ns(), self._running_ns())
        if found is None:
            return None
        kill, kind, value = found
        return Kill(id=kill, scope=str(Scope(kind, stream, value)), kind=kind)


def _read(content: bytes, stream: str) -> StreamState:
    state = StreamState()
    named, ids = 0, set[str]()
    for part in standing.decode(content, stream):
        if isinstance(part, Kills):
            state.add(part)
            named += len(part.ids)
            ids.update(part.ids)
        else:
            state.apply(part)
            kills = [entry.id for entry in part if isinstance(entry, KillEntry | LiftEntry)]
            named += len(kills)
            ids.update(kills)
    if len(ids) != named:
        raise EntryError(KILL_UNREADABLE, "a snapshot names a kill twice")
    return state


_EVERYTHING: Final = (ScopeKind.GLOBAL, "")


def _values(principal: Principal, call: ToolCall | None) -> tuple[str, ...]:
    """Every value under which a kill could cover this call. INVARIANT: all that `_scopes_of_…` yield, and ""."""
    if call is None:
        return ("", principal.agent, principal.session, principal.jti_sha256, *principal.parents)
    tool, led = call.tool, call.destination
    return (
        "",
        principal.agent,
        principal.session,
        principal.jti_sha256,
        *principal.parents,
        f"{tool.server}/{tool.name}",
        tool.connector,
        *tool.capabilities,
        *(() if led is None else (led.host, f"{led.host}:{led.port}")),
    )


def _scopes_of_principal(principal: Principal, call: ToolCall | None) -> Iterator[tuple[ScopeKind, str]]:
    """What of a tenant's the principal is, or descends from."""
    yield ScopeKind.TENANT, ""
    yield ScopeKind.AGENT, principal.agent
    yield ScopeKind.SUBTREE, principal.agent
    for parent in principal.parents:
        yield ScopeKind.SUBTREE, parent
    yield ScopeKind.TOKEN, principal.jti_sha256
    if principal.session:
        yield ScopeKind.SESSION, principal.session
    if call is not None and MEMORY_WRITE in call.tool.capabilities:
        yield ScopeKind.MEMORY_WRITES, principal.agent


def _scopes_of_call(call: ToolCall) -> Iterator[tuple[ScopeKind, str]]:
    """What the call touches, which a tenant and the platform can both stop."""
    tool = call.tool
    yield ScopeKind.TOOL, f"{tool.server}/{tool.name}"
    for capability in tool.capabilities:
        yield ScopeKind.CAPABILITY, capability
    if tool.connector:
        yield ScopeKind.CONNECTOR, tool.connector
    if call.destination is not None:
        yield ScopeKind.DESTINATION, call.destination.host
        yield ScopeKind.DESTINATION, str(call.destination)
