"""What a stream says is believed whole, from its own key alone, or not at all."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from authz.encoding import decode_base64url
from authz.errors import EntryError
from authz.model import AgentFacts, Autonomy, Lifecycle
from authz.revocation import entries, redis_streams
from authz.revocation.entries import (
    MAX_ENTRIES,
    AgentEntry,
    Batch,
    EpochEntry,
    Heartbeat,
    KillEntry,
    LiftEntry,
    Signed,
    Snapshot,
)
from authz.revocation.scopes import Scope, ScopeKind

if TYPE_CHECKING:
    from authz.revocation.entries import Message

KEY = Ed25519PrivateKey.from_private_bytes(b"\1" * 32)
OTHER = Ed25519PrivateKey.from_private_bytes(b"\2" * 32)
KEYS = {entries.thumbprint(KEY.public_key()): KEY.public_key()}
FACTS = AgentFacts(lifecycle=Lifecycle.PAUSED, autonomy=Autonomy.OBSERVE, owner="ops", tools_ceiling=("a/b",))
ENTRIES = (
    EpochEntry(sequence=1, at_ns=5),
    KillEntry(sequence=2, id="k1", version=1, scope=Scope(ScopeKind.AGENT, "acme", "агент\u00e9"), at_ns=6),
    KillEntry(
        sequence=3, id="k2", version=1, scope=Scope(ScopeKind.TENANT, "acme"), at_ns=7, expires_at_ns=9, reason_code="R"
    ),
    LiftEntry(sequence=4, id="k1", version=2, at_ns=8),
    AgentEntry(sequence=5, agent="agent-1", version=3, facts=FACTS),
    AgentEntry(sequence=6, agent="agent-2", version=1, facts=dataclasses.replace(FACTS, tools_ceiling=None)),
)
BATCH = Batch(stream="acme", epoch=2, at_ns=10, entries=ENTRIES)
HEARTBEAT = Heartbeat(stream="acme", epoch=2, sequence=6, at_ns=11, count=1)
SNAPSHOT = Snapshot(stream="acme", epoch=2, sequence=6, at_ns=12, entries=1, size_bytes=40, sha256="ab" * 32)
MESSAGES: list[Message] = [BATCH, HEARTBEAT, SNAPSHOT]


def code_of(body: bytes, stream: str = "acme") -> str:
    with pytest.raises(EntryError) as refused:
        entries.read(Signed(body=body, signature=KEY.sign(entries.DOMAIN + body), kid=next(iter(KEYS))), stream, KEYS)
    return refused.value.reason.code


def bent(message: Message, **members: Any) -> bytes:
    return orjson.dumps(orjson.loads(entries.encode(message)) | members)


@pytest.mark.parametrize("message", MESSAGES)
def test_what_was_signed_is_read_back(message: Message) -> None:
    signed = entries.sign(message, KEY)
    assert entries.read(signed, "acme", KEYS) == message
    assert redis_streams.signed(redis_streams.fields(signed)) == signed


@pytest.mark.parametrize("message", MESSAGES)
def test_e8_another_key_or_another_stream_is_forged(message: Message) -> None:
    signed = entries.sign(message, KEY)
    by_other = entries.sign(message, OTHER)
    forgeries = [
        by_other,
        dataclasses.replace(by_other, kid=signed.kid),
        dataclasses.replace(signed, kid=""),
        dataclasses.replace(signed, signature=b""),
        dataclasses.replace(signed, body=signed.body + b" "),
        dataclasses.replace(signed, signature=KEY.sign(signed.body)),  # without the domain: for another purpose
    ]
    for forged in forgeries:
        with pytest.raises(EntryError, match="KILL_FORGED: "):
            entries.read(forged, "acme", KEYS)
    with pytest.raises(EntryError, match="KILL_FORGED: "):
        entries.read(signed, "", KEYS)
    with pytest.raises(EntryError, match="KILL_FORGED: "):
        entries.read(signed, "acm", KEYS)


@given(st.data())
def test_e8_a_flipped_bit_anywhere_is_forged(data: st.DataObject) -> None:
    signed = entries.sign(BATCH, KEY)
    octets = bytearray(signed.body + signed.signature)
    bit = data.draw(st.integers(0, len(octets) * 8 - 1))
    octets[bit // 8] ^= 1 << bit % 8
    size = len(signed.body)
    flipped = dataclasses.replace(signed, body=bytes(octets[:size]), signature=bytes(octets[size:]))
    with pytest.raises(EntryError, match="KILL_FORGED: "):
        entries.read(flipped, "acme", KEYS)


@given(st.binary())
def test_any_signed_bytes_are_a_message_or_one_kind_of_error(body: bytes) -> None:
    assert code_of(body) == "KILL_UNREADABLE"


@pytest.mark.parametrize(
    "body",
    [
        bent(BATCH, v=2), bent(BATCH, v=True), bent(BATCH, type="Batch"), bent(BATCH, type=["batch"]),
        bent(BATCH, extra=1), bent(BATCH, first=2), bent(BATCH, last=7), bent(BATCH, entries=[]),
        bent(BATCH, entries={}), bent(BATCH, epoch=0), bent(BATCH, epoch="2"), bent(BATCH, epoch=True),
        bent(BATCH, epoch=2.0), bent(BATCH, at_ns=-1), bent(HEARTBEAT, sequence=-1), bent(HEARTBEAT, count=1 << 60),
        bent(HEARTBEAT, sequence=None), bent(SNAPSHOT, sha256="AB" * 32), bent(SNAPSHOT, bytes="1"),
        entries.encode(BATCH).replace(b'"v":1', b'"v":1,"v":1'), entries.encode(HEARTBEAT) + b"{}", b"[]", b"",
    ],
)  # fmt: skip
def test_a_signed_body_of_another_form_is_unreadable(body: bytes) -> None:
    assert code_of(body) == "KILL_UNREADABLE"


@pytest.mark.parametrize(
    ("position", "members"),
    [
        (1, {"kind": "agents"}), (1, {"kind": "global", "value": ""}), (1, {"kind": "agent", "value": ""}),
        (1, {"value": 7}), (1, {"value": "a\n"}), (1, {"id": ""}), (1, {"id": "a b"}), (1, {"version": 0}),
        (1, {"op": "Kill"}), (1, {"op": None}), (1, {"tenant": "other"}), (1, {"only": "reads"}), (1, {"seq": 3}),
        (1, {"expires_at_ns": 0}), (1, {"reason_code": "a b"}), (1, {"kind": "token"}), (3, {"value": ""}),
        (4, {"lifecycle": "Paused"}), (4, {"autonomy": "all"}), (4, {"memory_writes_paused": 1}), (4, {"agent": ""}),
        (4, {"owner": None}), (4, {"tools_ceiling": "a/b"}), (4, {"tools_ceiling": [1]}), (4, {"tools_ceiling": None}),
        (0, {"id": "k"}), (0, {"op": "lift"}),
    ],
)  # fmt: skip
def test_an_entry_with_anything_unknown_makes_its_whole_batch_unreadable(position: int, members: Any) -> None:
    document = orjson.loads(entries.encode(BATCH))
    document["entries"][position] |= members
    assert code_of(orjson.dumps(document)) == "KILL_UNREADABLE"


def test_a_batch_has_no_hole_and_a_bound() -> None:
    with pytest.raises(EntryError):
        dataclasses.replace(BATCH, entries=(ENTRIES[0], ENTRIES[2]))
    run = tuple(LiftEntry(sequence=i + 1, id="k", version=1, at_ns=0) for i in range(MAX_ENTRIES + 1))
    with pytest.raises(EntryError):
        dataclasses.replace(BATCH, entries=run)


def test_a_body_over_the_limit_is_not_signed() -> None:
    wide = dataclasses.replace(FACTS, tools_ceiling=("a/" + "b" * 1000,) * 200)
    run = tuple(AgentEntry(sequence=i + 1, agent="a", version=1, facts=wide) for i in range(10))
    with pytest.raises(EntryError, match="size"):
        entries.sign(dataclasses.replace(BATCH, entries=run), KEY)


def test_the_kid_is_the_thumbprint_of_rfc_8037() -> None:
    public = Ed25519PublicKey.from_public_bytes(decode_base64url("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"))
    assert entries.thumbprint(public) == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


@given(st.text(), st.text())
def test_e10_keys_of_two_tenants_never_meet(one: str, other: str) -> None:
    keys = {redis_streams.entries_key(one), redis_streams.heartbeat_key(one)}
    assert one == other or not keys & {redis_streams.entries_key(other), redis_streams.heartbeat_key(other)}
    assert all(key.count("{") == key.count("}") == 1 for key in keys)
