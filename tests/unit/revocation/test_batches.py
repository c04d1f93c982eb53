"""The ledger's own lines travel: what is put together unread is the batch that was written, or nothing."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from authz.errors import EntryError
from authz.reasons import KILL_UNREADABLE
from authz.revocation import entries
from authz.revocation.batches import batches
from authz.revocation.entries import MAX_BODY_BYTES, MAX_ENTRIES, Batch, KillEntry
from authz.revocation.ledger_sql import Line
from authz.revocation.scopes import Scope, ScopeKind

if TYPE_CHECKING:
    from collections.abc import Sequence

KEY = Ed25519PrivateKey.from_private_bytes(b"\1" * 32)
KEYS = {entries.thumbprint(KEY.public_key()): KEY.public_key()}


def kill(sequence: int, agent: str = "billing") -> KillEntry:
    return KillEntry(
        sequence=sequence, id=f"k{sequence}", version=1, scope=Scope(ScopeKind.AGENT, "acme", agent), at_ns=3
    )


def lines(written: Sequence[KillEntry], epoch: int = 2) -> list[Line]:
    return [
        Line(
            sequence=entry.sequence,
            epoch=epoch,
            at_ns=1,
            document=entries.encode_entry(dataclasses.replace(entry, sequence=0), entry.sequence),
        )
        for entry in written
    ]


def travelled(sent: Sequence[Line]) -> list[Batch]:
    """What a sidecar reads of what is sent."""
    read = [entries.read(entries.sign(each, KEY), "acme", KEYS) for each in batches("acme", sent, 7)]
    assert all(isinstance(each, Batch) for each in read)
    return [each for each in read if isinstance(each, Batch)]


agents = st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "S"]), min_size=1, max_size=60)


@given(st.lists(agents, min_size=1, max_size=8), st.integers(1, 1 << 40))
def test_what_was_written_is_what_arrives(names: list[str], first: int) -> None:
    written = [kill(first + place, name) for place, name in enumerate(names)]
    (batch,) = travelled(lines(written))
    assert batch == Batch(stream="acme", epoch=2, at_ns=7, entries=tuple(written))


def test_unread_lines_are_signed_byte_for_byte_as_their_entries_are() -> None:
    written = [kill(1), kill(2, 'a "quoted"\\агент')]
    (batch,) = batches("acme", lines(written), 7)
    assert entries.encode(batch) == entries.encode(Batch(stream="acme", epoch=2, at_ns=7, entries=tuple(written)))
    assert (batch.first, batch.last) == (1, 2)


def test_a_batch_ends_at_256_entries_before_it_is_too_large_and_where_an_epoch_does() -> None:
    many = lines([kill(sequence) for sequence in range(1, 2 * MAX_ENTRIES + 2)])
    assert [len(each.entries) for each in travelled(many)] == [MAX_ENTRIES, MAX_ENTRIES, 1]
    large = [dataclasses.replace(line, document=b"x" * (MAX_BODY_BYTES // 2)) for line in many[:3]]
    assert [len(each.lines) for each in batches("acme", large, 7)] == [1, 1, 1]
    assert [each.epoch for each in travelled([*lines([kill(1)]), *lines([kill(2)], epoch=3)])] == [2, 3]


def test_a_hole_in_the_ledger_is_never_closed_over() -> None:
    with pytest.raises(EntryError) as refused:
        travelled(lines([kill(1), kill(3)]))
    assert refused.value.reason is KILL_UNREADABLE
