"""What a stream of kills says, and how it is signed: entries, batches of them, heartbeats, snapshots.

Decides the exact bytes of each message, who may have written it, and whether it is one. A stream is a tenant's, or the
platform's with an empty name; its name stands inside each signed body, so that nothing signed for one tenant is taken
for another. A message is believed only after its signature by a key of that very stream (E8); it is then read strictly:
a missing, unknown or ill-typed member refuses all of it, because half of an order to stop is not one.

Must never act on what it reads, and never repeat it in an error. Pure. Trusts `cryptography` for Ed25519 (RFC 8032).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Final, TypeAlias

import orjson
from cryptography.exceptions import InvalidSignature

from authz.encoding import decode_json_object, encode_base64url
from authz.errors import EntryError, InvalidRequestError
from authz.model import AgentFacts, Autonomy, Lifecycle
from authz.reasons import KILL_FORGED, KILL_UNREADABLE
from authz.revocation.scopes import (
    MAX_TOOL_BYTES,
    Scope,
    ScopeKind,
    require_identifier,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

    from authz.model import JsonObject, JsonValue

DOMAIN: Final = b"authz-kills-v1\0"
"""Before every signed body, so that no signature made for another purpose is one of ours."""
VERSION: Final = 1
MAX_ENTRIES: Final = 256
"""Entries of one batch (contracts §9)."""
MAX_BODY_BYTES: Final = 1 << 20
"""Of one signed message."""
MAX_CEILING: Final = 256
"""Tools that one agent's ceiling names."""
MAX_COUNT: Final = (1 << 53) - 1
MAX_NS: Final = (1 << 63) - 1

_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_CODE: Final = re.compile(r"[A-Za-z0-9_.-]{0,64}")
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class KillEntry:
    """A kill is in force. Times are Unix nanoseconds of the ledger's clock; `expires_at_ns` 0 is never."""

    sequence: int
    id: str
    version: int
    scope: Scope
    at_ns: int
    expires_at_ns: int = 0
    reason_code: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LiftEntry:
    """The kill of this id is no longer in force."""

    sequence: int
    id: str
    version: int
    at_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentEntry:
    """What the registry says of an agent from now on."""

    sequence: int
    agent: str
    version: int
    facts: AgentFacts


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochEntry:
    """The first entry of an epoch: the ledger began anew, and what it does not name is kept by who knows it."""

    sequence: int
    at_ns: int


Entry: TypeAlias = KillEntry | LiftEntry | AgentEntry | EpochEntry


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Entries in the order of the ledger, without a hole: `entries[i].sequence` is `first + i`."""

    stream: str
    epoch: int
    at_ns: int
    entries: tuple[Entry, ...]

    def __post_init__(self) -> None:
        expected = range(self.first, self.first + len(self.entries))
        if len(self.entries) > MAX_ENTRIES or [entry.sequence for entry in self.entries] != list(expected):
            raise _unreadable("a batch is not a run of the ledger")

    @property
    def first(self) -> int:
        """Sequence of the first entry."""
        return self.entries[0].sequence if self.entries else 0

    @property
    def last(self) -> int:
        """Sequence of the last entry."""
        return self.first + len(self.entries) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenBatch:
    """A batch on its way out: its entries are the ledger's own lines, as `encode_entry` made them."""

    stream: str
    epoch: int
    at_ns: int
    first: int
    lines: tuple[bytes, ...]

    @property
    def last(self) -> int:
        """Sequence of the last entry."""
        return self.first + len(self.lines) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat:
    """The ledger stands at `sequence`. `count` grows with each heartbeat of an epoch, so that none can be replayed."""

    stream: str
    epoch: int
    sequence: int
    at_ns: int
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Describes everything that stands at `sequence`: `entries` lines of `size_bytes` together, and their digest."""

    stream: str
    epoch: int
    sequence: int
    at_ns: int
    entries: int
    size_bytes: int
    sha256: str


Message: TypeAlias = Batch | Heartbeat | Snapshot


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """A message as it travels. Nothing in `body` is believed before `read`."""

    body: bytes
    signature: bytes
    kid: str


def sign(message: Message | WrittenBatch, key: Ed25519PrivateKey) -> Signed:
    """The message in its exact bytes, signed by the key of its stream.

    Raises:
        EntryError: KILL_UNREADABLE, the body is over MAX_BODY_BYTES: divide the batch.
    """
    body = encode(message)
    if len(body) > MAX_BODY_BYTES:
        raise _unreadable("a message is over its size limit")
    return Signed(body=body, signature=key.sign(DOMAIN + body), kid=thumbprint(key.public_key()))


def read(signed: Signed, stream: str, keys: Mapping[str, Ed25519PublicKey]) -> Message:
    """The message, if a key of `stream` signed it for that stream.

    Raises:
        EntryError: KILL_FORGED, or KILL_UNREADABLE for what is signed and in no form that is known here.
    """
    key = keys.get(signed.kid)
    if key is None or len(signed.body) > MAX_BODY_BYTES:
        raise _forged("no key of the stream has this kid, or the message is too large")
    try:
        key.verify(signed.signature, DOMAIN + signed.body)
    except InvalidSignature:
        raise _forged("the signature does not verify") from None
    return decode(signed.body, stream)


def thumbprint(key: Ed25519PublicKey) -> str:
    """The kid of a stream's key: its JWK thumbprint (RFC 7638, RFC 8037 appendix A.3)."""
    x = encode_base64url(key.public_bytes_raw())
    return encode_base64url(sha256(f'{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}'.encode()).digest())


def encode(message: Message | WrittenBatch) -> bytes:
    """The body that is signed."""
    document: dict[str, object] = {"v": VERSION, "type": _TYPES[type(message)], "stream": message.stream}
    document |= {"epoch": message.epoch, "at_ns": message.at_ns}
    match message:
        case Batch():
            document |= _run(message, list(map(_document, message.entries)))
        case WrittenBatch():
            document |= _run(message, [orjson.Fragment(line.rstrip()) for line in message.lines])
        case Heartbeat():
            document |= {"sequence": message.sequence, "count": message.count}
        case Snapshot():
            document |= {"sequence": message.sequence, "entries": message.entries}
            document |= {"bytes": message.size_bytes, "sha256": message.sha256}
    return orjson.dumps(document)


def decode(body: bytes, stream: str) -> Message:
    """The message that `body` is, for who has checked its signature already; all others call `read`.

    Raises:
        EntryError: KILL_FORGED, it speaks of another stream; KILL_UNREADABLE.
    """
    try:
        document = decode_json_object(body)
    except ValueError:
        raise _unreadable("a body is not strict JSON") from None
    kind = document.get("type")
    if not isinstance(kind, str) or document.keys() != _MEMBERS.get(kind):
        raise _unreadable("a message of an unknown type, or with other members")
    _count(document, "v", VERSION, VERSION)
    if document["stream"] != stream:
        raise _forged("a message was signed for another stream")
    epoch, at_ns = _count(document, "epoch", 1), _count(document, "at_ns", 0, MAX_NS)
    if kind == "batch":
        return _batch(document, stream, epoch, at_ns)
    sequence = _count(document, "sequence")
    if kind == "heartbeat":
        count = _count(document, "count")
        return Heartbeat(stream=stream, epoch=epoch, sequence=sequence, at_ns=at_ns, count=count)
    return Snapshot(
        stream=stream,
        epoch=epoch,
        sequence=sequence,
        at_ns=at_ns,
        entries=_count(document, "entries"),
        size_bytes=_count(document, "bytes"),
        sha256=_text(document, "sha256", _DIGEST),
    )


def encode_entry(entry: Entry, sequence: int | None = None) -> bytes:
    """The entry by itself, on a line; with this sequence in the place of its own, where one is given."""
    document = _document(entry)
    if sequence is not None:
        document["seq"] = sequence
    return orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE)


def entry_of(document: JsonValue, stream: str) -> Entry:
    """The entry that one JSON object of this stream is.

    Raises:
        EntryError: KILL_UNREADABLE.
    """
    if not isinstance(document, dict):
        raise _unreadable("an entry is not an object")
    try:
        return _entry(document, stream)
    except InvalidRequestError as error:
        raise _unreadable(error.detail) from None


_TYPES: Final = {Batch: "batch", WrittenBatch: "batch", Heartbeat: "heartbeat", Snapshot: "snapshot"}
_COMMON: Final = frozenset({"v", "type", "stream", "epoch", "at_ns"})
_MEMBERS: Final = {
    "batch": _COMMON | {"first", "last", "entries"},
    "heartbeat": _COMMON | {"sequence", "count"},
    "snapshot": _COMMON | {"sequence", "entries", "bytes", "sha256"},
}
_KILL: Final = frozenset({"seq", "op", "id", "version", "kind", "value", "at_ns"})
_KILL_OPTIONS: Final = frozenset({"expires_at_ns", "reason_code"})
_LIFT: Final = frozenset({"seq", "op", "id", "version", "at_ns"})
_AGENT: Final = frozenset({"seq", "op", "agent", "version", "lifecycle", "autonomy", "owner", "memory_writes_paused"})
_AGENT_OPTIONS: Final = frozenset({"tools_ceiling"})
_EPOCH: Final = frozenset({"seq", "op", "at_ns"})


def _run(batch: Batch | WrittenBatch, entries: Sequence[object]) -> dict[str, object]:
    return {"first": batch.first, "last": batch.last, "entries": entries}


def _document(entry: Entry) -> JsonObject:
    match entry:
        case KillEntry():
            return _kill_document(entry)
        case LiftEntry():
            return {
                "seq": entry.sequence,
                "op": "lift",
                "id": entry.id,
                "version": entry.version,
                "at_ns": entry.at_ns,
            }
        case AgentEntry():
            return _agent_document(entry)
        case EpochEntry():
            return {"seq": entry.sequence, "op": "epoch", "at_ns": entry.at_ns}


def _kill_document(entry: KillEntry) -> JsonObject:
    document: JsonObject = {
        "seq": entry.sequence,
        "op": "kill",
        "id": entry.id,
        "version": entry.version,
        "kind": entry.scope.kind,
        "value": entry.scope.value,
        "at_ns": entry.at_ns,
    }
    if entry.expires_at_ns:
        document["expires_at_ns"] = entry.expires_at_ns
    if entry.reason_code:
        document["reason_code"] = entry.reason_code
    return document


def _agent_document(entry: AgentEntry) -> JsonObject:
    facts = entry.facts
    document: JsonObject = {
        "seq": entry.sequence,
        "op": "agent",
        "agent": entry.agent,
        "version": entry.version,
        "lifecycle": facts.lifecycle,
        "autonomy": facts.autonomy,
        "owner": facts.owner,
        "memory_writes_paused": facts.memory_writes_paused,
    }
    if facts.tools_ceiling is not None:
        document["tools_ceiling"] = list(facts.tools_ceiling)
    return document


_SCOPE_KINDS: Final = {kind.value: kind for kind in ScopeKind}


def _batch(document: JsonObject, stream: str, epoch: int, at_ns: int) -> Batch:
    entries = document["entries"]
    if not isinstance(entries, list) or not 0 < len(entries) <= MAX_ENTRIES:
        raise _unreadable("`entries` is not a list of 1 to 256")
    batch = Batch(stream=stream, epoch=epoch, at_ns=at_ns, entries=tuple(entry_of(each, stream) for each in entries))
    if (_count(document, "first"), _count(document, "last")) != (batch.first, batch.last):
        raise _unreadable("a batch does not hold what it says")
    return batch


def _entry(document: JsonObject, stream: str) -> Entry:
    operation = document.get("op")
    if operation == "kill":
        return _kill(document, stream)
    if operation == "lift":
        _require_members(document, _LIFT)
        return LiftEntry(
            sequence=_count(document, "seq", 1),
            id=_text(document, "id", _ID),
            version=_count(document, "version", 1),
            at_ns=_count(document, "at_ns", 0, MAX_NS),
        )
    if operation == "agent":
        return _agent(document)
    _require_members(document, _EPOCH)
    if operation != "epoch":
        raise _unreadable("an unknown `op`")
    return EpochEntry(sequence=_count(document, "seq", 1), at_ns=_count(document, "at_ns", 0, MAX_NS))


def _kill(document: JsonObject, stream: str) -> KillEntry:
    _require_members(document, _KILL, _KILL_OPTIONS)
    kind, value = document["kind"], document["value"]
    if not isinstance(kind, str) or kind not in _SCOPE_KINDS or not isinstance(value, str):
        raise _unreadable("a scope of an unknown kind")
    return KillEntry(
        sequence=_count(document, "seq", 1),
        id=_text(document, "id", _ID),
        version=_count(document, "version", 1),
        scope=Scope(_SCOPE_KINDS[kind], stream, value),
        at_ns=_count(document, "at_ns", 0, MAX_NS),
        expires_at_ns=_count(document, "expires_at_ns", 1, MAX_NS) if "expires_at_ns" in document else 0,
        reason_code=_text(document, "reason_code", _CODE) if "reason_code" in document else "",
    )


_LIFECYCLES: Final = {each.value: each for each in Lifecycle}
_AUTONOMIES: Final = {each.value: each for each in Autonomy}


def _agent(document: JsonObject) -> AgentEntry:
    _require_members(document, _AGENT, _AGENT_OPTIONS)
    agent, owner, paused = document["agent"], document["owner"], document["memory_writes_paused"]
    lifecycle, autonomy = document["lifecycle"], document["autonomy"]
    if not isinstance(agent, str) or not isinstance(owner, str) or not isinstance(paused, bool):
        raise _unreadable("facts of an agent are of another type")
    if not isinstance(lifecycle, str) or not isinstance(autonomy, str):
        raise _unreadable("facts of an agent are of another type")
    if lifecycle not in _LIFECYCLES or autonomy not in _AUTONOMIES:
        raise _unreadable("an unknown lifecycle or autonomy")
    require_identifier(agent, "the agent")
    facts = AgentFacts(
        lifecycle=_LIFECYCLES[lifecycle],
        autonomy=_AUTONOMIES[autonomy],
        owner=owner,
        memory_writes_paused=paused,
        tools_ceiling=_ceiling(document["tools_ceiling"]) if "tools_ceiling" in document else None,
    )
    return AgentEntry(
        sequence=_count(document, "seq", 1), agent=agent, version=_count(document, "version", 1), facts=facts
    )


def _ceiling(value: JsonValue) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) > MAX_CEILING:
        raise _unreadable("`tools_ceiling` is not a short list")
    tools: list[str] = []
    for tool in value:
        if not isinstance(tool, str):
            raise _unreadable("`tools_ceiling` holds something else than names")
        require_identifier(tool, "a tool", MAX_TOOL_BYTES)
        tools.append(tool)
    return tuple(tools)


_NO_OPTIONS: Final[frozenset[str]] = frozenset()


def _require_members(document: JsonObject, required: frozenset[str], optional: frozenset[str] = _NO_OPTIONS) -> None:
    # A member that is not known here could narrow what the entry means, so it is not skipped.
    if not _has_members(document, required, optional):
        raise _unreadable("an entry has other members")


def _has_members(document: JsonObject, required: frozenset[str], optional: frozenset[str]) -> bool:
    keys = document.keys()
    return keys == required if len(keys) == len(required) else keys - optional == required


def _count(document: JsonObject, key: str, least: int = 0, most: int = MAX_COUNT) -> int:
    value = document[key]
    if type(value) is not int or not least <= value <= most:  # True is an int, and no count
        raise _unreadable(f"`{key}` is not a count")
    return value


def _text(document: JsonObject, key: str, form: re.Pattern[str]) -> str:
    value = document[key]
    if not isinstance(value, str) or not form.fullmatch(value):
        raise _unreadable(f"`{key}` has another form")
    return value


def _forged(message: str) -> EntryError:
    return EntryError(KILL_FORGED, message)


def _unreadable(message: str) -> EntryError:
    return EntryError(KILL_UNREADABLE, message)
