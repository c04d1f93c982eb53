"""A listening gRPC server of the library.

Decides the server's limits, and refuses to start where one would leave a call without an explicit answer.
Must never be started before what it needs to decide is there: health says NOT_SERVING until it is told
otherwise. Trusts the callers it authenticates (socket mode, mutual TLS) to be proxies of ours.
"""

from __future__ import annotations

import atexit
import base64
import json
import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Self

from authz.native.boundary import nanoseconds
from authz.native.turns import Turns

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from authz.native.boundary import Boundary, Json
    from authz.native.log import Log
    from authz.native.program import Program

FALLBACK_REASONS: Final = ("SYS_INTERNAL", "SYS_DEADLINE", "AUDIT_UNAVAILABLE")
"""Why the library may have to answer by itself; each needs a complete denial, made beforehand."""
CROWDED_NS: Final = 10 * 10**6
"""A crowd is taken to last so long after its last turn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TLSOptions:
    """PEM files. The certificate is read for each handshake, so that a rotated one is used without a restart."""

    certificate: Path
    key: Path
    client_ca: Path | None = None
    """With it, callers must show a certificate from this authority."""
    allowed_sans: tuple[str, ...] = ()
    """Names (DNS, SPIFFE URI, address) that may call; empty: any from the authority."""

    def encoded(self) -> Json:
        """As the library reads it."""
        return {
            "certificate": str(self.certificate),
            "key": str(self.key),
            "client_ca": str(self.client_ca or ""),
            "allowed_sans": list(self.allowed_sans),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions:
    """An address and its limits. Seconds and bytes."""

    fallback: Mapping[str, bytes]
    """A serialized CheckResponse that denies, for each of FALLBACK_REASONS."""
    stream_fallback: Mapping[str, bytes]
    """A serialized ProcessingResponse that ends the request, for each of FALLBACK_REASONS."""
    listen: str = "127.0.0.1:9191"
    """`host:port`, `unix:///path`, or `unix://@name` (abstract, Linux)."""
    socket_mode: int = 0o660
    tls: TLSOptions | None = None
    max_message_bytes: int = 8 << 20
    max_streams: int = 1024
    """Calls at once on one connection."""
    max_connections: int = 16_384
    """More are closed at once."""
    max_pending: int = 4096
    """Calls that wait for Python; more are refused with RESOURCE_EXHAUSTED before they are read."""
    workers: int = 1
    """Threads that answer checks. One is enough where no check blocks: more only contend for the GIL."""
    stream_workers: int = field(default_factory=lambda: max(2, min(8, os.cpu_count() or 1)))
    """Threads that answer the messages of ext_proc streams, which wait for the engine and the disk."""
    stuck_limit: int = 8
    """So many calls stuck past their deadline make health NOT_SERVING."""
    deadline_s: float = 0.120
    """From a call's headers to its answer; keep it below Envoy's timeout (200 ms)."""
    commit_grace_s: float = 0.040
    """How much longer a decision that is made may wait for its record, before AUDIT_UNAVAILABLE is sent."""
    handshake_s: float = 5.0
    """How long a connection may take to become one (TLS, HTTP/2 preface)."""
    keepalive_idle_s: float = 60.0
    keepalive_answer_s: float = 20.0
    descriptors: bytes | None = None
    """A serialized FileDescriptorSet; with it, server reflection is on."""

    def __post_init__(self) -> None:
        for reason in FALLBACK_REASONS:
            if not self.fallback.get(reason) or not self.stream_fallback.get(reason):
                raise ValueError(f"no fallback answer for {reason}")

    def encoded(self) -> bytes:
        """As the library reads it."""
        return json.dumps(
            {
                "listen": self.listen,
                "socket_mode": self.socket_mode,
                "tls": self.tls and self.tls.encoded(),
                "max_message_bytes": self.max_message_bytes,
                "max_streams": self.max_streams,
                "max_connections": self.max_connections,
                "max_pending": self.max_pending,
                "workers": self.workers,
                "stream_workers": self.stream_workers,
                "stuck_limit": self.stuck_limit,
                "deadline_ns": nanoseconds(self.deadline_s),
                "commit_grace_ns": nanoseconds(self.commit_grace_s),
                "handshake_ns": nanoseconds(self.handshake_s),
                "keepalive_idle_ns": nanoseconds(self.keepalive_idle_s),
                "keepalive_answer_ns": nanoseconds(self.keepalive_answer_s),
                "fallback": _encoded(self.fallback),
                "stream_fallback": _encoded(self.stream_fallback),
                "descriptors": _base64(self.descriptors or b""),
            }
        ).encode()


def _encoded(answers: Mapping[str, bytes]) -> dict[str, str]:
    return {reason: _base64(answer) for reason, answer in answers.items()}


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


class Server:
    """A listening server. Thread-safe."""

    def __init__(self, boundary: Boundary, document: Json, turns: Turns) -> None:
        self._boundary = boundary
        self._turns = turns
        self._handle: int = document["handle"]
        self.address: str = document["address"]
        """Where it listens, with the port it was given."""
        # A thread that came back to an interpreter which is being torn down would hang or crash it.
        atexit.register(self.drain, 0.0)

    @classmethod
    def open(cls, boundary: Boundary, options: ServerOptions, program: Program, log: Log | None) -> Self:
        """Listen; see Library.serve."""
        encoded = options.encoded()
        arguments = (encoded, len(encoded), 0 if log is None else log.handle)
        document = boundary.document(boundary.lib.AuthzServe, *arguments)
        turns = Turns(boundary, program, log)
        server = cls(boundary, document, turns)
        turns.begin(document["handle"], document["seats"])
        return server

    @property
    def is_crowded(self) -> bool:
        """Whether calls had to wait for each other just now, so that what is not urgent should wait for them."""
        return time.monotonic_ns() - self._turns.crowded_ns < CROWDED_NS

    def set_serving(self, serving: bool) -> None:  # noqa: FBT001 - reads as the health it sets
        """Say whether the program can decide; health follows, unless too many calls are stuck."""
        self._boundary.call(self._boundary.lib.AuthzSetServing, self._handle, int(serving))

    def drain(self, grace_s: float) -> bool:
        """Stop: health NOT_SERVING, no new calls, those in flight finish, the rest is cut after the grace.

        Returns:
            Whether the program was told of every call, so that each has its record.
        """
        atexit.unregister(self.drain)
        drained: bool = self._boundary.document(self._boundary.lib.AuthzDrain, self._handle, nanoseconds(grace_s))
        return drained

    def stats(self) -> dict[str, int]:
        """Counters, by the names in native/internal/transport/counters.go; `unrecorded` is the one that must stay 0."""
        counters: dict[str, int] = self._boundary.document(self._boundary.lib.AuthzServerStats, self._handle)
        return counters

    def send(self, stream: int, message: bytes) -> None:
        """Put a message on an open stream, beside the answers.

        Raises:
            NativeError: the stream is gone.
        """
        self._boundary.call(self._boundary.lib.AuthzSend, self._handle, stream, message, len(message))

    def close_stream(self, stream: int, last: bytes | None = None) -> None:
        """End a stream from this side, after a last message if there is one.

        Raises:
            NativeError: the stream is gone.
        """
        final = self._boundary.ffi.NULL if last is None else last
        self._boundary.call(
            self._boundary.lib.AuthzCloseStream, self._handle, stream, final, 0 if last is None else len(last)
        )
