"""A snapshot is read by the column, and says exactly what its entries would, one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz.errors import EntryError
from authz.model import AgentFacts, Autonomy, Lifecycle
from authz.revocation import entries, standing
from authz.revocation.entries import AgentEntry, EpochEntry, KillEntry, LiftEntry
from authz.revocation.scopes import Scope, ScopeKind

if TYPE_CHECKING:
    from authz.revocation.entries import Entry

AGENT = Scope(ScopeKind.AGENT, "acme", "агент\u00e9")
FACTS = AgentFacts(lifecycle=Lifecycle.PAUSED, autonomy=Autonomy.OBSERVE, owner="ops", tools_ceiling=("a/b",))
ENTRIES: tuple[Entry, ...] = (
    EpochEntry(sequence=1, at_ns=5),
    KillEntry(sequence=2, id="k1", version=2, scope=AGENT, at_ns=6, expires_at_ns=9, reason_code="R"),
    KillEntry(sequence=3, id="k2", version=1, scope=Scope(ScopeKind.TENANT, "acme"), at_ns=7),
    KillEntry(sequence=4, id="k3", version=1, scope=Scope(ScopeKind.DESTINATION, "acme", "bank.example:443"), at_ns=7),
    LiftEntry(sequence=5, id="k4", version=2, at_ns=8),
    AgentEntry(sequence=6, agent="agent-1", version=3, facts=FACTS),
)


def decoded(content: bytes, stream: str = "acme") -> list[Any]:
    """The entries; of kills that came in columns, what columns hold."""
    whole: list[Any] = []
    for part in standing.decode(content, stream):
        if isinstance(part, list):
            whole += part
            continue
        columns = zip(part.ids, part.versions, part.kinds, part.values, part.expiries, strict=True)
        whole += [
            (kill, version, Scope(ScopeKind(kind), stream, value), expiry)
            for kill, version, kind, value, expiry in columns
        ]
    return whole


def column(entry: Any) -> Any:
    return (entry.id, entry.version, entry.scope, entry.expires_at_ns) if isinstance(entry, KillEntry) else entry


def test_the_content_of_a_snapshot_is_read_back() -> None:
    content = b"".join(standing.encode(entry) for entry in ENTRIES)
    assert sorted(map(column, decoded(content)), key=repr) == sorted(map(column, ENTRIES), key=repr)
    assert decoded(b"") == []


def test_a_content_that_names_kills_in_full_is_read_too() -> None:
    assert decoded(b"".join(entries.encode_entry(entry) for entry in ENTRIES)) == list(ENTRIES)


@pytest.mark.parametrize(
    "content",
    [b"{}", b"\n", b"{}\n", b"[]\n", b"null\n{", b"7\n", b'["k",1\n,"agent","a",0]\n', b"x" * (1 << 20) + b"\n"],
)
def test_a_content_of_another_form_is_unreadable(content: bytes) -> None:
    with pytest.raises(EntryError, match="KILL_UNREADABLE"):
        decoded(content)


ODD: st.SearchStrategy[Any] = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text(max_size=3) | st.floats(0, 2) | st.just([])
)
ROW = st.tuples(
    st.sampled_from(["k1", "k2", "k 3", "k\u00e9", "", "k" * 64, "k" * 65]) | ODD,
    st.integers(0, 2) | ODD,
    st.sampled_from([*ScopeKind, "Agent", "kill"]) | ODD,
    st.sampled_from(
        ["a", "ab" * 32, "AB" * 32, "", "a" * 256, "\u00e9" * 129, "a\u200b", "a/b", "a/", "a/" + "b" * 1023]
    )
    | ODD,
    st.integers(-1, 1) | ODD,
).map(list)
PLAIN_ROW = st.tuples(
    st.sampled_from(["k1", "k2"]), st.integers(1, 2), st.sampled_from(["agent", "capability"]), st.just("a"), st.just(0)
).map(list)


def in_full(row: list[Any]) -> dict[str, Any]:
    """The entry that a row is short for."""
    document = dict(zip(("id", "version", "kind", "value", "expires_at_ns"), row, strict=True))
    if type(row[4]) is int and row[4] == 0:
        del document["expires_at_ns"]
    return document | {"seq": 1, "op": "kill", "at_ns": 0}


@given(st.lists(PLAIN_ROW, max_size=2), st.lists(ROW, max_size=2), st.sampled_from(["acme", "", "a\n"]))
def test_rows_say_what_entries_in_full_would_and_nothing_else(
    plain: list[list[Any]], rows: list[list[Any]], stream: str
) -> None:
    rows = plain + rows
    content = b"".join(orjson.dumps(row) + b"\n" for row in rows)
    try:
        expected = [column(entries.entry_of(in_full(row), stream)) for row in rows]
    except EntryError:
        with pytest.raises(EntryError):
            decoded(content, stream)
    else:
        assert sorted(map(column, decoded(content, stream)), key=repr) == sorted(expected, key=repr)


@pytest.mark.parametrize("odd", [["k2", 1, "agent", "a"], ["k2", 1, "agent", "a", 0, 0], [], ["k2"] * 5])
def test_a_row_with_more_or_less_is_unreadable(odd: list[Any]) -> None:
    for rows in ([odd], [["k1", 1, "agent", "a", 0], odd]):
        with pytest.raises(EntryError, match="KILL_UNREADABLE"):
            decoded(b"".join(orjson.dumps(row) + b"\n" for row in rows))
