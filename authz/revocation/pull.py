"""Asks the control plane itself: for keys, for what is missing, for everything while Redis is silent; and reports.

Decides when to ask. Every few seconds for keys and for where each stream stands, so that entries that Redis withholds
are noticed; at once where something is missing; every 0.4 s while Redis is silent. What comes
this way is signed like everything else, and known to be of this moment, because it answers us.

Must never end a thread because of what the far end does: each failure is counted, and tried again later.
"""

from __future__ import annotations

import logging
import random
import threading
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

import grpc
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from authz._gen.authz.control.v1 import sidecars_pb2 as pb
from authz.revocation.entries import Signed

if TYPE_CHECKING:
    from collections.abc import Callable

    from google.protobuf.message import Message

    from authz.clock import Clock
    from authz.revocation.follower import Follower

log: Final = logging.getLogger(__name__)

SERVICE: Final = "/authz.control.v1.Replication/"
TRUST_S: Final = 5.0
"""How often keys and heads are read."""
PULL_S: Final = 0.4
"""How often a stream is pulled of which Redis brings no news."""
COALESCE_S: Final = 0.02
"""Reports of what was applied within so long are one."""
CALL_S: Final = 2.0
SNAPSHOT_S: Final = 60.0
REPEAT_S: Final = 10.0
"""What was applied is said again so often, so that the control plane knows who is alive."""
_MAX_PAUSE_S: Final = 2.0
_MAX_BATCHES: Final = 10_000

_M = TypeVar("_M", bound="Message")


class Pull:
    """The threads that speak with the control plane. `start`, then `stop`; both once.

    Args:
        follower: takes what comes.
        channel: the connection with mutual TLS, asked for again for each call.
        clock: ours.
        version: of this program, for the report.
        trust_s: how often keys and heads are read.
    """

    def __init__(
        self,
        follower: Follower,
        channel: Callable[[], grpc.Channel],
        clock: Clock,
        *,
        version: str,
        trust_s: float = TRUST_S,
    ) -> None:
        self._trust_ns = int(trust_s * 1e9)
        self._follower = follower
        self._now_ns = clock.monotonic_ns
        self._channel = channel
        self._version = version
        self._stop = threading.Event()
        self._trusted_ns: int | None = None
        self._failing: frozenset[str] = frozenset()
        """Streams of which the last question was not answered."""
        self.failures = 0
        """Calls that the control plane did not answer."""
        self._threads = [
            threading.Thread(target=self._pull, name="kills-pull", daemon=True),
            threading.Thread(target=self._report, name="kills-report", daemon=True),
        ]

    def start(self) -> None:
        """Begin to ask and to report."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End the threads."""
        self._stop.set()
        self._follower.wanted.set()
        self._follower.moved.set()
        for thread in self._threads:
            thread.join(CALL_S + 1)

    def once(self) -> bool:
        """Ask for whatever is due. Returns whether the control plane answered any of it, if there was any.

        What fails for one stream keeps no other from being asked for: those that failed before come last.
        """
        follower = self._follower
        answers = [self._is_answered(self._read_trust)] if self._is_trust_due() else []
        for stream in sorted(follower.streams, key=self._failing.__contains__):
            if self._stop.is_set() or not (follower.needs(stream) or follower.is_silent(stream)):
                continue
            answers.append(self._is_answered(partial(self._catch_up, stream)))
            self._failing = self._failing - {stream} if answers[-1] else self._failing | {stream}
        return any(answers) or not answers

    def report(self) -> bool:
        """Say what was applied and is on the disk. Returns whether the control plane has heard it."""
        self._follower.moved.clear()
        return self._is_answered(self._say)

    def _is_answered(self, ask: Callable[[], None]) -> bool:
        """Whether the control plane answered; whatever it did instead, the threads live on."""
        try:
            ask()
        except grpc.RpcError as error:
            log.debug("the control plane did not answer: %s", error)
        except Exception:
            if self.failures.bit_count() <= 1:  # the 1st, 2nd, 3rd, 5th …
                log.exception("what the control plane answered could not be used")
        else:
            return True
        self.failures += 1
        return False

    def _pull(self) -> None:
        pause_s = 0.0
        while not self._stop.is_set():
            self._follower.wanted.wait(pause_s)
            self._follower.wanted.clear()
            if self._stop.is_set():
                return
            if self.once():
                pause_s = PULL_S
            else:
                pause_s = min(2 * max(pause_s, PULL_S), _MAX_PAUSE_S) * random.uniform(0.5, 1)  # noqa: S311 - load
                self._stop.wait(pause_s)

    def _is_trust_due(self) -> bool:
        return self._trusted_ns is None or self._now_ns() - self._trusted_ns >= self._trust_ns

    def _read_trust(self) -> None:
        trust = self._call("ReadTrust", pb.ReadTrustRequest(), pb.Trust)
        for stream in trust.streams:
            keys = {key.kid: Ed25519PublicKey.from_public_bytes(key.public_key) for key in stream.keys}
            self._follower.trust(stream.stream, keys)
            if (stream.epoch, stream.sequence) > self._follower.position(stream.stream):
                self._follower.ask(stream.stream, "entries")
        self._follower.listed()
        self._trusted_ns = self._now_ns()

    def _catch_up(self, stream: str) -> None:
        follower = self._follower
        if follower.needs(stream) in ("snapshot", "compact") or follower.position(stream)[0] == 0:
            self._pull_snapshot(stream)
        for _ in range(_MAX_BATCHES):
            epoch, sequence = follower.position(stream)
            request = pb.PullEntriesRequest(stream=stream, epoch=epoch, after_sequence=sequence)
            try:
                answer = self._call("PullEntries", request, pb.PullEntriesResponse)
            except grpc.RpcError as error:
                if not isinstance(error, grpc.Call) or error.code() is not grpc.StatusCode.OUT_OF_RANGE:
                    raise
                self._pull_snapshot(stream)
                continue
            for batch in answer.batches:
                follower.take(stream, _signed(batch), direct=True)
            if answer.HasField("heartbeat") and not answer.more:
                follower.take(stream, _signed(answer.heartbeat), direct=True)
            if not answer.more or follower.position(stream) == (epoch, sequence):
                return

    def _pull_snapshot(self, stream: str) -> None:
        begin = self._channel().unary_stream(
            SERVICE + "PullSnapshot",
            request_serializer=_serialized,
            response_deserializer=pb.SnapshotChunk.FromString,
        )
        description: Signed | None = None
        content = bytearray()
        epoch, sequence = self._follower.position(stream)
        request = pb.PullSnapshotRequest(stream=stream, epoch=epoch, sequence=sequence)
        for chunk in begin(request, timeout=SNAPSHOT_S):
            if chunk.HasField("description"):
                description = _signed(chunk.description)
            content += chunk.content
        if description is not None:
            self._follower.take_snapshot(stream, description, bytes(content))

    def _report(self) -> None:
        while not self._stop.is_set():
            self._follower.moved.wait(REPEAT_S)
            if self._stop.wait(COALESCE_S):
                return
            if not self.report():
                self._stop.wait(PULL_S)
                self._follower.moved.set()

    def _say(self) -> None:
        applied = [
            pb.Applied(stream=stream, epoch=epoch, sequence=sequence)
            for stream, (epoch, sequence) in self._follower.durable().items()
        ]
        self._call("Report", pb.ReportRequest(applied=applied, version=self._version), pb.ReportResponse)

    def _call(self, method: str, request: Message, answer: type[_M]) -> _M:
        begin = self._channel().unary_unary(
            SERVICE + method, request_serializer=_serialized, response_deserializer=answer.FromString
        )
        reply: _M = begin(request, timeout=CALL_S)
        return reply


def _signed(batch: pb.SignedBatch) -> Signed:
    return Signed(body=batch.body, signature=batch.signature, kid=batch.kid)


def _serialized(message: Message) -> bytes:
    return message.SerializeToString()
