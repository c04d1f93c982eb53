"""The lines of a snapshot: everything that stands in a stream, written to be read by the million.

Decides how a line is spelt, and that a snapshot with one line of another form is none. A kill is a row, `[id, version,
kind, value, expires_at_ns]`, and of many rows each column is judged at once, by the very rules of an entry: an object
for each would take most of a sidecar's start. Whatever else stands is an entry in full.

Must never believe what was not signed: the digest in a snapshot's description is its caller's to check. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import orjson

from authz.errors import EntryError
from authz.reasons import KILL_UNREADABLE
from authz.revocation.entries import MAX_BODY_BYTES, MAX_COUNT, MAX_NS, KillEntry, encode_entry, entry_of
from authz.revocation.scopes import MAX_IDENTIFIER_BYTES, MAX_TOOL_BYTES, SHARED, WHOLE, ScopeKind

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from authz.model import JsonObject
    from authz.revocation.entries import Entry

_CHUNK_BYTES: Final = 1 << 15
"""Read at once: what is made of it is gone again before the garbage collector looks."""
_SINGLE_KINDS: Final = WHOLE | {ScopeKind.DESTINATION}
"""Kinds whose value has a form that only `Scope` knows."""
_TENANTS_COLUMNS: Final = frozenset(ScopeKind) - _SINGLE_KINDS
_PLATFORMS_COLUMNS: Final = SHARED - _SINGLE_KINDS
_ID_CHARACTERS: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"
_MAX_ID: Final = 64
_DIGEST_CHARACTERS: Final = b"0123456789abcdef"
_DIGEST_LENGTH: Final = 64
_UTF8_MAX: Final = 4
"""Bytes of one character at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kills:
    """Many kills, column by column: making an object of each would take most of a start's time."""

    ids: Sequence[str]
    versions: Sequence[int]
    kinds: Sequence[str]
    values: Sequence[str]
    expiries: Sequence[int]


def encode(entry: Entry) -> bytes:
    """One line of a snapshot's content: a kill in short, as `[id, version, kind, value, expires_at_ns]`; else as is."""
    return row(entry) or encode_entry(entry)


def row(entry: Entry) -> bytes:
    """The line of a kill; empty for an entry that stands as the ledger wrote it."""
    if not isinstance(entry, KillEntry):
        return b""
    columns = (entry.id, entry.version, entry.scope.kind, entry.scope.value, entry.expires_at_ns)
    return orjson.dumps(columns, option=orjson.OPT_APPEND_NEWLINE)


def decode(content: bytes, stream: str) -> Iterator[Kills | list[Entry]]:
    """The entries of a content, whose digest the caller has checked: kills by hundreds, others one by one.

    A snapshot names each kill and each agent once, so the order does not matter.

    Raises:
        EntryError: KILL_UNREADABLE, while it is read.
    """
    start = 0
    while start < len(content):
        end = content.rfind(b"\n", start, start + _CHUNK_BYTES) + 1
        end = end or content.find(b"\n", start, start + MAX_BODY_BYTES) + 1
        if end <= start + 1:
            raise _unreadable("a snapshot holds a line without an end, or one over its size limit")
        try:
            lines = orjson.loads(b"[" + content[start : end - 1].replace(b"\n", b",") + b"]")
        except orjson.JSONDecodeError:
            raise _unreadable("a snapshot holds a line that is not JSON") from None
        rows = [line for line in lines if type(line) is list]
        if len(rows) != len(lines):
            yield [entry_of(line, stream) for line in lines if type(line) is not list]
        if rows:
            yield from _kills(rows, stream)
        start = end


def _kills(rows: list[list[Any]], stream: str) -> Iterator[Kills | list[Entry]]:
    """These kills: what is asked of one is asked of all of them at once, column by column."""
    try:
        ids, versions, kinds, values, expiries = columns = tuple(zip(*rows, strict=True))
    except ValueError:
        raise _unreadable("a snapshot holds a kill of another form") from None
    types = [{*map(type, column)} for column in columns]
    if types != [{str}, {int}, {str}, {str}, {int}]:
        raise _unreadable("a snapshot holds a kill of another form")
    named = {*kinds}
    if single := named - (_TENANTS_COLUMNS if stream else _PLATFORMS_COLUMNS):
        yield [entry_of(_row_document(row), stream) for row in rows if row[2] in single]
        if rest := [row for row in rows if row[2] not in single]:
            yield from _kills(rest, stream)
        return
    are_well_formed = (
        _are_ids(ids)
        and _are_counts(versions, 1, MAX_COUNT)
        and _are_counts(expiries, 0, MAX_NS)
        and _are_identifiers(kinds, values)
        and (ScopeKind.TOKEN not in named or _are_digests(_of(ScopeKind.TOKEN, kinds, values)))
        and (ScopeKind.TOOL not in named or _are_tools(_of(ScopeKind.TOOL, kinds, values)))
    )
    if not are_well_formed or (stream and not _are_identifiers([ScopeKind.TENANT], [stream])):
        raise _unreadable("a snapshot holds a kill of another form")
    yield Kills(ids=ids, versions=versions, kinds=kinds, values=values, expiries=expiries)


def _row_document(row: list[Any]) -> JsonObject:
    """The entry in full that a row is short for."""
    document: JsonObject = dict(zip(("id", "version", "kind", "value"), row, strict=False))
    document |= {"seq": 1, "op": "kill", "at_ns": 0}
    if row[4]:
        document["expires_at_ns"] = row[4]
    return document


def _of(kind: ScopeKind, kinds: Sequence[str], values: Sequence[str]) -> list[str]:
    return [value for each, value in zip(kinds, values, strict=True) if each == kind]


def _are_ids(column: Sequence[str]) -> bool:
    # `translate` leaves what is no character of an id.
    text = "".join(column)
    is_plain = text.isascii() and not text.encode().translate(None, _ID_CHARACTERS)
    return is_plain and all(column) and max(map(len, column)) <= _MAX_ID


def _are_digests(column: Sequence[str]) -> bool:
    text = "".join(column)
    is_plain = text.isascii() and not text.encode().translate(None, _DIGEST_CHARACTERS)
    return is_plain and {*map(len, column)} == {_DIGEST_LENGTH}


def _are_tools(column: Sequence[str]) -> bool:
    return all(all(tool.partition("/")) for tool in column)


def _are_counts(column: Sequence[int], least: int, most: int) -> bool:
    return least <= min(column) and max(column) <= most


def _are_identifiers(kinds: Sequence[str], column: Sequence[str]) -> bool:
    """As `scopes.require_identifier`."""
    if not all(column) or not "".join(column).isprintable():
        return False
    if max(map(len, column)) * _UTF8_MAX <= MAX_IDENTIFIER_BYTES:
        return True
    limits = (MAX_TOOL_BYTES if kind == ScopeKind.TOOL else MAX_IDENTIFIER_BYTES for kind in kinds)
    return all(len(value.encode()) <= limit for value, limit in zip(column, limits, strict=True))


def _unreadable(message: str) -> EntryError:
    return EntryError(KILL_UNREADABLE, message)
