"""What is killed stays killed until it is lifted, whatever arrives, and nothing else is."""

from __future__ import annotations

import dataclasses
from hashlib import sha256
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz.destination import Destination
from authz.encoding import token_digest
from authz.errors import EntryError, UnavailableError
from authz.model import AgentFacts, Autonomy, Lifecycle, Principal, Protocol, Tool, ToolCall
from authz.revocation import scopes, standing
from authz.revocation.entries import AgentEntry, Batch, EpochEntry, Heartbeat, KillEntry, LiftEntry, Snapshot
from authz.revocation.replica import Place, Replica
from authz.revocation.scopes import ScopeKind

if TYPE_CHECKING:
    from collections.abc import Iterable

    from authz.revocation.entries import Entry
    from authz.revocation.scopes import Scope

PRINCIPAL = Principal(
    issuer="https://issuer",
    tenant="acme",
    agent="agent-1",
    subject="someone",
    session="s-1",
    parents=("root", "planner"),
    jti_sha256=sha256(b"jti-1").hexdigest(),
)
CALL = ToolCall(
    tool=Tool(
        server="default",
        name="pay",
        protocol=Protocol.MCP,
        method="tools/call",
        capabilities=("payments", "memory_write"),
        connector="bank",
    ),
    destination=Destination("bank.example", 443),
)
COVERING = [
    ("agent", "agent-1"), ("session", "s-1"), ("token", "jti-1"), ("subtree", "agent-1"), ("subtree", "root"),
    ("subtree", "planner"), ("tool", "default/pay"), ("capability", "payments"), ("connector", "bank"),
    ("destination", "bank.example"), ("destination", "BANK.example.:443"), ("memory-writes", "agent-1"), ("tenant", ""),
]  # fmt: skip
"""Every scope that covers the call, as an operator of the tenant writes it."""
MISSING = [
    ("agent", "agent-"), ("agent", "agent-11"), ("agent", "Agent-1"), ("agent", "agent-1 "), ("agent", "root"),
    ("agent", "someone"), ("agent", "s-1"), ("session", "agent-1"), ("session", "S-1"), ("token", "jti-2"),
    ("subtree", "someone"), ("subtree", "plan"), ("tool", "default/Pay"), ("tool", "default/pay/x"), ("tool", "a/pay"),
    ("capability", "payment"), ("connector", "bank2"), ("destination", "bank.example:80"), ("destination", "example"),
    ("destination", "x.bank.example"), ("memory-writes", "root"), ("override", "jti-1"), ("agent", "agent-\uff11"),
    ("agent", "\u0430gent-1"),
]  # fmt: skip


FREE = AgentFacts(lifecycle=Lifecycle.ACTIVE, autonomy=Autonomy.AUTONOMOUS, owner="ops")


class Ledger:
    """Says one stream in order, as the control plane would."""

    def __init__(self, stream: str = "acme", epoch: int = 1) -> None:
        self.stream, self.epoch = stream, epoch
        self.entries: list[Entry] = []

    @property
    def sequence(self) -> int:
        return len(self.entries)

    def kill(self, scope: Scope, *, expires_at_ns: int = 0, kill: str = "", version: int = 1) -> str:
        kill = kill or f"k{self.sequence + 1}"
        self.entries.append(
            KillEntry(
                sequence=self.sequence + 1, id=kill, version=version, scope=scope, at_ns=0, expires_at_ns=expires_at_ns
            )
        )
        return kill

    def lift(self, kill: str, version: int = 2) -> None:
        self.entries.append(LiftEntry(sequence=self.sequence + 1, id=kill, version=version, at_ns=0))

    def agent(self, version: int, facts: AgentFacts) -> None:
        self.entries.append(AgentEntry(sequence=self.sequence + 1, agent="agent-1", version=version, facts=facts))

    def batch(self, first: int = 1, last: int = 0) -> Batch:
        run = self.entries[first - 1 : last or None]
        return Batch(stream=self.stream, epoch=self.epoch, at_ns=0, entries=tuple(run))

    def snapshot(self, kept: Iterable[Entry] | None = None) -> tuple[Snapshot, bytes]:
        latest: dict[str, Entry] = {}
        for entry in self.entries:
            latest[entry.id if isinstance(entry, KillEntry | LiftEntry) else str(entry.sequence)] = entry
        lines = [standing.encode(entry) for entry in (latest.values() if kept is None else kept)]
        content = b"".join(lines)
        description = Snapshot(
            stream=self.stream,
            epoch=self.epoch,
            sequence=self.sequence,
            at_ns=0,
            entries=len(lines),
            size_bytes=len(content),
            sha256=sha256(content).hexdigest(),
        )
        return description, content


def replica(*ledgers: Ledger, now_ns: int = 0) -> Replica:
    """A replica of tenants acme and other that has applied these ledgers."""
    following = Replica(lambda: now_ns, lambda: 0, ["acme", "other"])
    for stream in following.streams:
        ledger = next((each for each in ledgers if each.stream == stream), Ledger(stream))
        assert following.restore(*ledger.snapshot()) is Place.NEXT
    return following


def hits(following: Replica, principal: Principal = PRINCIPAL, call: ToolCall | None = CALL) -> str | None:
    kill = following.covering(principal, call)
    return kill.id if kill is not None else None


@pytest.mark.parametrize(("kind", "value"), COVERING)
def test_a_kill_covers_what_it_names_and_lifting_restores_it(kind: str, value: str) -> None:
    ledger = Ledger()
    kill = ledger.kill(scopes.parse(kind, value, "acme"))
    assert hits(replica(ledger)) == kill
    ledger.lift(kill)
    assert hits(replica(ledger)) is None


@pytest.mark.parametrize(("kind", "value"), MISSING)
def test_e10_what_nearly_names_a_call_does_not_cover_it(kind: str, value: str) -> None:
    ledger = Ledger()
    ledger.kill(scopes.parse(kind, value, "acme"))
    assert hits(replica(ledger)) is None


@pytest.mark.parametrize(("kind", "value"), COVERING)
def test_e10_a_kill_of_another_tenant_covers_nothing_here(kind: str, value: str) -> None:
    ledger = Ledger("other")
    ledger.kill(scopes.parse(kind, value, "other"))
    following = replica(ledger)
    assert hits(following) is None
    assert hits(following, dataclasses.replace(PRINCIPAL, tenant="other")) is not None


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("global", ""), ("tool", "default/pay"), ("capability", "payments"), ("connector", "bank"),
        ("destination", "bank.example"), ("destination", "bank.example:443"),
    ],
)  # fmt: skip
def test_a_kill_on_the_platform_covers_every_tenant(kind: str, value: str) -> None:
    ledger = Ledger("")
    ledger.kill(scopes.parse(kind, value))
    for tenant in ("acme", "other"):
        assert hits(replica(ledger), dataclasses.replace(PRINCIPAL, tenant=tenant)) == "k1"


@pytest.mark.parametrize("tenant", ["third", "", "Acme", "acme "])
def test_e10_a_tenant_that_is_not_followed_is_refused(tenant: str) -> None:
    following = replica()
    with pytest.raises(UnavailableError, match="KILL_TENANT"):
        following.covering(dataclasses.replace(PRINCIPAL, tenant=tenant), CALL)
    with pytest.raises(UnavailableError, match="KILL_TENANT"):
        following.covering_override(tenant, "o-1")


def test_before_the_call_is_read_the_caller_alone_is_judged() -> None:
    ledger = Ledger()
    ledger.kill(scopes.parse("capability", "payments", "acme"))
    ledger.kill(scopes.parse("memory-writes", "agent-1", "acme"))
    assert hits(replica(ledger), call=None) is None
    ledger.kill(scopes.parse("session", "s-1", "acme"))
    assert hits(replica(ledger), call=None) == "k3"


def test_a_kill_of_memory_writes_leaves_other_tools_alone() -> None:
    ledger = Ledger()
    ledger.kill(scopes.parse("memory-writes", "agent-1", "acme"))
    reads = dataclasses.replace(CALL, tool=dataclasses.replace(CALL.tool, capabilities=("payments",)))
    assert hits(replica(ledger), call=reads) is None


def test_a_call_without_a_session_is_no_session() -> None:
    ledger = Ledger()
    ledger.kill(scopes.parse("session", "s-1", "acme"))
    assert hits(replica(ledger), dataclasses.replace(PRINCIPAL, session="")) is None


def test_a_killed_override_is_found() -> None:
    ledger = Ledger()
    ledger.kill(scopes.parse("override", "o-1", "acme"))
    following = replica(ledger)
    assert following.covering_override("acme", "o-1") is not None
    assert following.covering_override("acme", "o-2") is None
    assert following.covering_override("other", "o-1") is None


def test_the_record_is_told_the_scope_in_words() -> None:
    ledger = Ledger()
    ledger.kill(scopes.parse("tool", "default/pay", "acme"))
    kill = replica(ledger).covering(PRINCIPAL, CALL)
    assert kill is not None
    assert (kill.id, kill.scope, kill.kind) == ("k1", "tool default/pay", "tool")


def test_e11_a_kill_expires_in_the_ledgers_time_and_not_before() -> None:
    ledger = Ledger()
    ledger.kill(scopes.parse("agent", "agent-1", "acme"), expires_at_ns=100)
    assert hits(replica(ledger, now_ns=99)) == "k1"
    assert hits(replica(ledger, now_ns=100)) is None
    ledger.kill(scopes.parse("agent", "agent-1", "acme"), expires_at_ns=200)
    assert hits(replica(ledger, now_ns=100)) == "k2"


def test_e11_an_expired_kill_hides_no_other() -> None:
    ledger = Ledger()
    ledger.kill(scopes.parse("tenant", "", "acme"), expires_at_ns=1)
    ledger.kill(scopes.parse("destination", "bank.example", "acme"))
    assert hits(replica(ledger, now_ns=5)) == "k2"


def test_e11_replays_and_duplicates_change_nothing() -> None:
    ledger = Ledger()
    ledger.kill(scopes.parse("agent", "agent-1", "acme"), kill="k", version=5)
    ledger.lift("k", version=6)
    following = replica(Ledger())
    assert following.apply(ledger.batch(1, 1)) is Place.NEXT
    assert hits(following) == "k"
    assert following.apply(ledger.batch(2, 2)) is Place.NEXT
    moved = following.sequence
    assert following.apply(ledger.batch(1, 1)) is Place.OLD
    assert following.apply(ledger.batch(1, 2)) is Place.OLD
    assert (hits(following), following.sequence) == (None, moved)


def test_e11_an_older_version_under_a_newer_sequence_changes_nothing() -> None:
    ledger = Ledger()
    ledger.kill(scopes.parse("agent", "agent-1", "acme"), kill="k", version=5)
    ledger.lift("k", version=6)
    ledger.kill(scopes.parse("agent", "agent-1", "acme"), kill="k", version=5)
    following = replica(Ledger())
    assert following.apply(ledger.batch()) is Place.NEXT
    assert hits(following) is None
    ledger.kill(scopes.parse("session", "s-1", "acme"), kill="k", version=7)
    ledger.lift("k", version=6)
    following.apply(ledger.batch())
    assert hits(following) == "k"


def test_a_batch_that_overlaps_adds_the_rest_of_it() -> None:
    ledger = Ledger()
    for agent in ("a", "b", "agent-1"):
        ledger.kill(scopes.parse("agent", agent, "acme"))
    following = replica(Ledger())
    following.apply(ledger.batch(1, 2))
    assert following.apply(ledger.batch(2, 3)) is Place.NEXT
    assert (hits(following), following.position("acme")) == ("k3", (1, 3))


def test_e6_a_gap_is_said_and_nothing_is_skipped() -> None:
    ledger = Ledger()
    for agent in ("a", "b", "agent-1"):
        ledger.kill(scopes.parse("agent", agent, "acme"))
    following = replica(Ledger())
    assert following.apply(ledger.batch(3, 3)) is Place.GAP
    assert (hits(following), following.position("acme")) == (None, (1, 0))
    assert following.restore(*ledger.snapshot()) is Place.NEXT
    assert (hits(following), following.position("acme")) == ("k3", (1, 3))


@pytest.mark.parametrize(
    ("epoch", "sequence", "place"),
    [(2, 1, Place.NEXT), (2, 0, Place.OLD), (2, 2, Place.GAP), (1, 9, Place.REGRESS), (3, 0, Place.GAP)],
)
def test_a_heartbeat_is_compared_with_what_was_applied(epoch: int, sequence: int, place: Place) -> None:
    ledger = Ledger(epoch=2)
    ledger.kill(scopes.parse("agent", "a", "acme"))
    heartbeat = Heartbeat(stream="acme", epoch=epoch, sequence=sequence, at_ns=0, count=1)
    assert replica(ledger).compare(heartbeat) is place


def test_e7_an_older_ledger_frees_nobody() -> None:
    ledger = Ledger(epoch=2)
    ledger.kill(scopes.parse("agent", "agent-1", "acme"))
    following = replica(ledger)
    assert following.restore(*Ledger(epoch=2).snapshot()) is Place.OLD
    yesterday = Ledger(epoch=1)
    yesterday.kill(scopes.parse("agent", "x", "acme"))
    assert following.restore(*yesterday.snapshot()) is Place.REGRESS
    assert following.apply(yesterday.batch()) is Place.REGRESS
    assert (hits(following), following.position("acme")) == ("k1", (2, 1))


def test_e7_kills_of_an_earlier_epoch_stay_until_the_new_one_names_them() -> None:
    ledger = Ledger()
    kill = ledger.kill(scopes.parse("agent", "agent-1", "acme"))
    following = replica(ledger)
    anew = Ledger(epoch=2)
    anew.entries.append(EpochEntry(sequence=1, at_ns=0))
    assert following.apply(anew.batch()) is Place.GAP  # a new epoch is joined by its snapshot alone
    assert following.restore(*anew.snapshot()) is Place.NEXT
    assert hits(following) == kill
    anew.kill(scopes.parse("agent", "x", "acme"), kill="k9")
    assert following.restore(*anew.snapshot()) is Place.NEXT
    assert hits(following) == kill
    anew.lift(kill)
    assert following.apply(anew.batch()) is Place.NEXT
    assert hits(following) is None
    assert following.restore(*anew.snapshot()) is Place.NEXT
    assert hits(following) is None


def test_a_newer_snapshot_of_one_epoch_leaves_out_what_was_lifted_long_ago() -> None:
    ledger = Ledger()
    ledger.lift(ledger.kill(scopes.parse("agent", "agent-1", "acme")))
    following = replica(Ledger())
    following.apply(ledger.batch(1, 1))
    assert following.restore(*ledger.snapshot(kept=())) is Place.NEXT
    assert (hits(following), following.kills()) == (None, 0)


def test_a_snapshot_that_cannot_be_read_changes_nothing() -> None:
    ledger = Ledger()
    ledger.kill(scopes.parse("agent", "agent-1", "acme"))
    following = replica(ledger)
    description, content = ledger.snapshot()
    twice = content + content.replace(b'"agent"', b'"session"')
    lifted = content + standing.encode(LiftEntry(sequence=1, id="k1", version=2, at_ns=0))
    for broken in (content + b'{"op":"kill"}\n', content[:-1], content + content, twice, lifted):
        with pytest.raises(EntryError, match="KILL_UNREADABLE"):
            following.restore(description, broken)
    assert (hits(following), following.position("acme")) == ("k1", (1, 1))


def test_the_registrys_latest_word_on_an_agent_is_known() -> None:
    paused = AgentFacts(lifecycle=Lifecycle.PAUSED, autonomy=Autonomy.OBSERVE, owner="ops")
    active = dataclasses.replace(paused, lifecycle=Lifecycle.ACTIVE)
    ledger = Ledger()
    for version, facts in ((2, paused), (1, active)):
        ledger.entries.append(AgentEntry(sequence=ledger.sequence + 1, agent="agent-1", version=version, facts=facts))
    following = replica(Ledger())
    assert following.facts(PRINCIPAL) is None
    following.apply(ledger.batch())
    assert following.facts(PRINCIPAL) == paused
    assert following.facts(dataclasses.replace(PRINCIPAL, tenant="other")) is None
    assert following.facts(dataclasses.replace(PRINCIPAL, tenant="third")) is None


def told(following: Replica) -> tuple[Lifecycle, bool] | None:
    facts = following.facts(PRINCIPAL)
    return (facts.lifecycle, facts.memory_writes_paused) if facts else None


@pytest.mark.parametrize("backed_up", [(), ((3, FREE),)])
def test_e7_an_agent_stays_stopped_when_the_ledger_forgets_until_the_registry_changes_it_again(
    backed_up: tuple[tuple[int, AgentFacts], ...],
) -> None:
    ledger = Ledger()
    ledger.agent(5, dataclasses.replace(FREE, lifecycle=Lifecycle.PAUSED, memory_writes_paused=True))
    following = replica(ledger)
    for anew in (Ledger(epoch=2), last := Ledger(epoch=3)):
        for version, facts in backed_up:
            anew.agent(version, facts)
        for _ in range(2):  # a later snapshot of the same epoch frees nobody either
            assert following.restore(*anew.snapshot()) is Place.NEXT
            assert told(following) == (Lifecycle.PAUSED, True)
            anew.kill(scopes.parse("agent", "x", "acme"))
    last.agent(4, FREE)
    assert following.apply(last.batch(last.sequence - 1)) is Place.NEXT
    assert told(following) == (Lifecycle.ACTIVE, False)
    last.kill(scopes.parse("agent", "y", "acme"))
    assert following.restore(*last.snapshot()) is Place.NEXT
    assert told(following) == (Lifecycle.ACTIVE, False)


def test_e7_an_agent_that_a_restored_ledger_knows_to_be_stopped_is_stopped() -> None:
    ledger = Ledger()
    ledger.agent(5, FREE)
    following = replica(ledger)
    anew = Ledger(epoch=2)
    anew.agent(3, dataclasses.replace(FREE, lifecycle=Lifecycle.PAUSED))
    following.restore(*anew.snapshot())
    assert told(following) == (Lifecycle.PAUSED, False)


def test_each_change_moves_the_sequence() -> None:
    ledger = Ledger()
    ledger.kill(scopes.parse("agent", "a", "acme"))
    following = replica()
    before = following.sequence
    following.apply(ledger.batch())
    assert following.sequence > before
    before = following.sequence
    following.restore(*ledger.snapshot())
    assert following.sequence > before


NAMES = ["a", "ab", "A", "a ", "a/b", "b", "\u0430", "a:b", "a\u00e9", "ae\u0301"]
NAME = st.sampled_from(NAMES) | st.text(min_size=1, max_size=3).filter(str.isprintable)
SERVER = NAME.map(lambda name: name.replace("/", "-"))
CAPABILITIES = st.sampled_from(["memory_write", "payments", "a"])


@st.composite
def scope_of(draw: st.DrawFn, tenant: str) -> Scope:
    shared = ["tool", "capability", "connector", "destination"]
    own = ["agent", "session", "token", "subtree", "memory-writes", "tenant"]
    kind = draw(st.sampled_from([*shared, *own] if tenant else [*shared, "global"]))
    value = draw(NAME)
    if kind == "tool":
        value = f"{draw(SERVER)}/{draw(NAME)}"
    elif kind == "destination":
        value = draw(st.sampled_from(["a", "a:443", "b", "127.0.0.1"]))
    elif kind in ("tenant", "global"):
        value = ""
    return scopes.parse(kind, value if value != "*" else "a", tenant)


@st.composite
def callers(draw: st.DrawFn) -> tuple[Principal, ToolCall]:
    principal = Principal(
        issuer="i",
        tenant=draw(st.sampled_from(["acme", "other"])),
        agent=draw(NAME),
        subject=draw(NAME),
        session=draw(NAME | st.just("")),
        parents=tuple(draw(st.lists(NAME, max_size=3))),
        jti_sha256=token_digest(draw(NAME)),
    )
    tool = Tool(
        server=draw(SERVER),
        name=draw(NAME),
        protocol=Protocol.MCP,
        method="tools/call",
        capabilities=tuple(draw(st.lists(CAPABILITIES, max_size=2))),
        connector=draw(NAME | st.just("")),
    )
    host = st.sampled_from([None, Destination("a", 443), Destination("b", 80), Destination("127.0.0.1")])
    return principal, ToolCall(tool=tool, destination=draw(host))


def covers(scope: Scope, principal: Principal, call: ToolCall) -> bool:
    """The meaning of a scope, said plainly: what the replica must come to by its own way."""
    tool, destination = call.tool, call.destination
    if scope.tenant not in ("", principal.tenant):
        return False
    named = {
        ScopeKind.AGENT: [principal.agent],
        ScopeKind.SESSION: [principal.session],
        ScopeKind.TOKEN: [principal.jti_sha256],
        ScopeKind.SUBTREE: [principal.agent, *principal.parents],
        ScopeKind.TOOL: [f"{tool.server}/{tool.name}"],
        ScopeKind.CAPABILITY: tool.capabilities,
        ScopeKind.CONNECTOR: [tool.connector],
        ScopeKind.DESTINATION: [destination.host, str(destination)] if destination else [],
        ScopeKind.MEMORY_WRITES: [principal.agent] if "memory_write" in tool.capabilities else [],
        ScopeKind.TENANT: [""],
        ScopeKind.GLOBAL: [""],
    }
    return scope.value in named[scope.kind]


@st.composite
def histories(draw: st.DrawFn) -> dict[str, Ledger]:
    """What three streams have said: kills, some of them lifted."""
    ledgers = {stream: Ledger(stream) for stream in ("", "acme", "other")}
    for _ in range(draw(st.integers(0, 12))):
        ledger = draw(st.sampled_from(list(ledgers.values())))
        standing = [entry.id for entry in ledger.entries if isinstance(entry, KillEntry)]
        lifts = draw(st.booleans())
        if standing and lifts:
            ledger.lift(draw(st.sampled_from(standing)))
        else:
            ledger.kill(draw(scope_of(ledger.stream)))
    return ledgers


def in_force(ledger: Ledger) -> dict[str, Scope]:
    standing: dict[str, Scope] = {}
    for entry in ledger.entries:
        if isinstance(entry, KillEntry):
            standing[entry.id] = entry.scope
        elif isinstance(entry, LiftEntry):
            standing.pop(entry.id, None)
    return standing


@given(histories(), callers())
def test_e10_the_replica_finds_exactly_the_kills_that_cover_a_call(
    ledgers: dict[str, Ledger], caller: tuple[Principal, ToolCall]
) -> None:
    found = replica(*ledgers.values()).covering(*caller)
    covering = {
        (kill, str(scope))
        for ledger in ledgers.values()
        for kill, scope in in_force(ledger).items()
        if covers(scope, *caller)
    }
    assert (found is not None) == bool(covering)
    assert found is None or (found.id, found.scope) in covering


@given(histories(), callers(), st.data())
def test_killing_more_never_allows_more_and_lifting_it_restores_exactly(
    ledgers: dict[str, Ledger], caller: tuple[Principal, ToolCall], data: st.DataObject
) -> None:
    following = replica(*ledgers.values())
    before = following.covering(*caller)
    ledger = data.draw(st.sampled_from(list(ledgers.values())))
    kill = ledger.kill(data.draw(scope_of(ledger.stream)))
    following.apply(ledger.batch())
    assert before is None or following.covering(*caller) is not None
    ledger.lift(kill)
    following.apply(ledger.batch())
    after = following.covering(*caller)
    assert (after is None) == (before is None)


@given(histories(), callers(), st.data())
def test_e11_any_order_loss_and_repetition_converges_or_says_gap(
    ledgers: dict[str, Ledger], caller: tuple[Principal, ToolCall], data: st.DataObject
) -> None:
    whole = replica(*ledgers.values())
    following = replica()
    spans = [
        (ledger, first, last)
        for ledger in ledgers.values()
        for first in range(1, ledger.sequence + 1)
        for last in range(first, ledger.sequence + 1)
    ]
    deliveries = data.draw(st.lists(st.sampled_from(spans), max_size=15)) if spans else []
    for ledger, first, last in deliveries:
        applied = following.position(ledger.stream)[1]
        place = following.apply(ledger.batch(first, last))
        assert place is (Place.GAP if first > applied + 1 else Place.OLD if last <= applied else Place.NEXT)
    for ledger in ledgers.values():  # the refill
        applied = following.position(ledger.stream)[1]
        if applied < ledger.sequence:
            assert following.apply(ledger.batch(applied + 1)) is Place.NEXT
    assert {s: following.position(s) for s in following.streams} == {s: whole.position(s) for s in whole.streams}
    assert (following.covering(*caller) is None) == (whole.covering(*caller) is None)
    assert following.kills() == whole.kills()
