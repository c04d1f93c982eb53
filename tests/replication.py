"""A ledger that says what a test has it say: it signs, publishes to Redis and answers pulls, rightly or wrongly."""

from __future__ import annotations

import itertools
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import grpc
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from authz._gen.authz.control.v1 import sidecars_pb2 as pb
from authz.clock import SystemClock
from authz.revocation import entries, redis_streams, scopes, standing
from authz.revocation.entries import Batch, EpochEntry, Heartbeat, KillEntry, LiftEntry, Snapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from authz.clock import Clock
    from authz.revocation.entries import Entry, Signed

KEY = Ed25519PrivateKey.from_private_bytes(b"\1" * 32)
STRANGER = Ed25519PrivateKey.from_private_bytes(b"\2" * 32)
COUNTS = itertools.count(1)


@dataclass
class SignedLedger:
    """One stream of one epoch."""

    stream: str = "acme"
    epoch: int = 1
    key: Ed25519PrivateKey = KEY
    clock: Clock = field(default_factory=SystemClock)
    entries: list[Entry] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not self.entries:
            self.entries.append(EpochEntry(sequence=1, at_ns=self.clock.unix_ns()))

    @property
    def keys(self) -> dict[str, Any]:
        return {entries.thumbprint(self.key.public_key()): self.key.public_key()}

    @property
    def sequence(self) -> int:
        return len(self.entries)

    def kill(self, kind: str, value: str = "", *, expires_at_ns: int = 0, off_ns: int = 0) -> str:
        """Its clock is off by so much; `expires_at_ns` is by that clock."""
        kill = f"e{self.epoch}k{self.sequence + 1}"
        self.entries.append(
            KillEntry(
                sequence=self.sequence + 1,
                id=kill,
                version=1,
                scope=scopes.parse(kind, value, self.stream),
                at_ns=self.clock.unix_ns() + off_ns,
                expires_at_ns=expires_at_ns,
            )
        )
        return kill

    def lift(self, kill: str) -> None:
        self.entries.append(LiftEntry(sequence=self.sequence + 1, id=kill, version=2, at_ns=self.clock.unix_ns()))

    def batch(self, first: int | None = None, last: int | None = None) -> Signed:
        """Entries `first` to `last`, by default the last one alone."""
        run = tuple(self.entries[(first or self.sequence) - 1 : last])
        return entries.sign(
            Batch(stream=self.stream, epoch=self.epoch, at_ns=self.clock.unix_ns(), entries=run), self.key
        )

    def heartbeat(self, sequence: int | None = None, at_ns: int | None = None) -> Signed:
        told = self.sequence if sequence is None else sequence
        beat = Heartbeat(
            stream=self.stream,
            epoch=self.epoch,
            sequence=told,
            at_ns=self.clock.unix_ns() if at_ns is None else at_ns,
            count=next(COUNTS),
        )
        return entries.sign(beat, self.key)

    def snapshot(self) -> tuple[Signed, bytes]:
        latest: dict[str, Entry] = {}
        for entry in self.entries:
            latest[entry.id if isinstance(entry, KillEntry | LiftEntry) else f"#{entry.sequence}"] = entry
        content = b"".join(standing.encode(entry) for entry in latest.values())
        description = Snapshot(
            stream=self.stream,
            epoch=self.epoch,
            sequence=self.sequence,
            at_ns=self.clock.unix_ns(),
            entries=len(latest),
            size_bytes=len(content),
            sha256=sha256(content).hexdigest(),
        )
        return entries.sign(description, self.key), content


def add(client: Any, ledger: SignedLedger, first: int | None = None) -> None:
    """XADD of the batch from `first` on, as the publisher does."""
    identifier = redis_streams.entry_id(ledger.epoch, ledger.sequence)
    client.xadd(redis_streams.entries_key(ledger.stream), redis_streams.fields(ledger.batch(first)), id=identifier)


def beat(client: Any, *ledgers: SignedLedger) -> None:
    for ledger in ledgers:
        client.xadd(redis_streams.heartbeat_key(ledger.stream), redis_streams.fields(ledger.heartbeat()), maxlen=16)


@contextmanager
def beating(client: Any, *ledgers: SignedLedger) -> Iterator[None]:
    """Heartbeats of these streams, every 0.1 s, whatever Redis answers."""
    over = threading.Event()

    def run() -> None:
        while not over.wait(0.1):
            try:
                beat(client, *ledgers)
            except Exception:  # noqa: BLE001, S112 - the test breaks Redis on purpose
                continue

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@dataclass
class ReplicationServer:
    """The service `Replication` over these ledgers, without TLS, on loopback."""

    ledgers: dict[str, SignedLedger]
    reports: list[pb.ReportRequest] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    is_down: bool = False
    refused: str | None = None
    """A stream that this sidecar may not read."""
    key_bytes: int = 32
    """Of each key that is answered."""
    server: grpc.Server | None = None
    address: str = ""

    def start(self) -> None:
        self.server = grpc.server(ThreadPoolExecutor(4))
        methods: dict[str, tuple[Any, Callable[..., Any]]] = {
            "ReadTrust": (pb.ReadTrustRequest, self.read_trust),
            "PullEntries": (pb.PullEntriesRequest, self.pull_entries),
            "Report": (pb.ReportRequest, self.report),
        }
        handlers: dict[str, Any] = {
            name: grpc.unary_unary_rpc_method_handler(self._counted(name, call), request.FromString, _bytes)
            for name, (request, call) in methods.items()
        }
        handlers["PullSnapshot"] = grpc.unary_stream_rpc_method_handler(
            self.pull_snapshot, pb.PullSnapshotRequest.FromString, _bytes
        )
        self.server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("authz.control.v1.Replication", handlers),)
        )
        self.address = f"127.0.0.1:{self.server.add_insecure_port('127.0.0.1:0')}"
        self.server.start()

    def stop(self) -> None:
        if self.server is not None:
            self.server.stop(None).wait()

    def read_trust(self, _request: pb.ReadTrustRequest) -> pb.Trust:
        return pb.Trust(
            streams=[
                pb.StreamTrust(
                    stream=name,
                    keys=[
                        pb.StreamKey(kid=kid, public_key=key.public_bytes_raw()[: self.key_bytes])
                        for kid, key in ledger.keys.items()
                    ],
                    epoch=ledger.epoch,
                    sequence=ledger.sequence,
                )
                for name, ledger in self.ledgers.items()
            ]
        )

    def pull_entries(self, request: pb.PullEntriesRequest) -> pb.PullEntriesResponse:
        ledger = self.ledgers[request.stream]
        if request.epoch != ledger.epoch or request.after_sequence > ledger.sequence:
            raise LookupError
        first, last = request.after_sequence + 1, min(request.after_sequence + 256, ledger.sequence)
        batches = [_wire(ledger.batch(first, last))] if first <= last else []
        return pb.PullEntriesResponse(batches=batches, more=last < ledger.sequence, heartbeat=_wire(ledger.heartbeat()))

    def pull_snapshot(self, request: pb.PullSnapshotRequest, context: grpc.ServicerContext) -> Iterator[Any]:
        self.calls.append("PullSnapshot")
        if self.is_down:
            context.abort(grpc.StatusCode.UNAVAILABLE, "down")
        description, content = self.ledgers[request.stream].snapshot()
        yield pb.SnapshotChunk(description=_wire(description))
        for start in range(0, len(content), 1 << 20):
            yield pb.SnapshotChunk(content=content[start : start + (1 << 20)])

    def report(self, request: pb.ReportRequest) -> pb.ReportResponse:
        self.reports.append(request)
        return pb.ReportResponse()

    def _counted(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def answer(request: Any, context: grpc.ServicerContext) -> Any:
            self.calls.append(name)
            if self.is_down:
                context.abort(grpc.StatusCode.UNAVAILABLE, "down")
            if self.refused is not None and getattr(request, "stream", None) == self.refused:
                context.abort(grpc.StatusCode.PERMISSION_DENIED, "not of this sidecar")
            try:
                return call(request)
            except LookupError:
                context.abort(grpc.StatusCode.OUT_OF_RANGE, "only a snapshot will do")

        return answer


@contextmanager
def replication(*ledgers: SignedLedger) -> Iterator[ReplicationServer]:
    """A control plane that serves these streams."""
    server = ReplicationServer({ledger.stream: ledger for ledger in ledgers})
    server.start()
    try:
        yield server
    finally:
        server.stop()


def both(tenant: str = "acme", **fields: Any) -> tuple[SignedLedger, SignedLedger]:
    """The ledgers of the platform and of a tenant."""
    return SignedLedger("", **fields), SignedLedger(tenant, **fields)


def _wire(signed: Signed) -> pb.SignedBatch:
    return pb.SignedBatch(body=signed.body, signature=signed.signature, kid=signed.kid)


def _bytes(message: Any) -> bytes:
    octets: bytes = message.SerializeToString()
    return octets
