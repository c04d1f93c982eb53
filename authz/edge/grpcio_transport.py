"""The same answers under `grpc.server`, for platforms without the native transport and for tests.

Decides nothing but who answers first: each check runs on a worker, and if it is not answered by the deadline
the claim is taken away from it and the deny bytes go out (contracts §8). Slower than the native transport by
design: here a Python thread waits for the worker and for the disk. Must never answer an allow before its
record is durable, and never let an exception become a gRPC error.
"""

from __future__ import annotations

import logging
import os
import threading
from concurrent import futures
from typing import TYPE_CHECKING, Any, Final

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from authz.native import NativeError
from authz.reasons import AUDIT_UNAVAILABLE, SYS_DEADLINE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from authz.config import Config
    from authz.edge.ext_authz import ExtAuthz
    from authz.edge.streams import RecordLog
    from authz.pdp import Answered, Exchange
    from authz.reasons import Reason

    Process = Callable[[Iterator[bytes], Mapping[str, str], Callable[[], None]], Iterable[bytes]]
    """Requests, metadata, and what breaks the stream off, to its answers."""

log: Final = logging.getLogger(__name__)
AUTHORIZATION: Final = "envoy.service.auth.v3.Authorization"
EXTERNAL_PROCESSOR: Final = "envoy.service.ext_proc.v3.ExternalProcessor"
HEALTH: Final = "grpc.health.v1.Health"
WORKERS: Final = 32


class LocalClaim:
    """One claim, taken under a lock."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._state = "open"

    def commit(self) -> bool:
        """Take the answer; False when the deadline was first."""
        return self._take("committed")

    def expire(self) -> bool:
        """Take the answer away; False when it was committed first."""
        return self._take("expired")

    def _take(self, state: str) -> bool:
        with self._lock:
            if self._state == "open":
                self._state = state
            return self._state == state


class Answerer:
    """Unary checks: a worker decides, the caller's thread keeps the deadline and waits for the record."""

    def __init__(
        self,
        ext_authz: ExtAuthz,
        records: RecordLog | None,
        deadline_s: float,
        fallback: Callable[[Reason], bytes],
        on_exchange: Callable[[Exchange], None],
    ) -> None:
        self._ext_authz = ext_authz
        self._records = records
        self._deadline_s = deadline_s
        self._fallback = fallback
        self._on_exchange = on_exchange
        self._workers = futures.ThreadPoolExecutor(WORKERS, "decide")

    def check(self, request: bytes, _context: object = None) -> bytes:
        """Answer one check, explicitly, by the deadline."""
        claim = LocalClaim()
        deciding = self._workers.submit(self._decide, request, claim)
        try:
            return deciding.result(self._deadline_s)
        except futures.TimeoutError:
            # Lost the race to a commit: the answer is made, only its record is awaited.
            return self._fallback(SYS_DEADLINE) if claim.expire() else deciding.result()

    def close(self) -> None:
        """Return once every decision under way has its record."""
        self._workers.shutdown()

    def _decide(self, request: bytes, claim: LocalClaim) -> bytes:
        answered = self._ext_authz.check(request, claim)
        if not self._is_recorded(answered) and answered.decision.forwards:
            return self._fallback(AUDIT_UNAVAILABLE)
        if answered.exchange is not None:
            self._on_exchange(answered.exchange)
        return answered.answer

    def _is_recorded(self, answered: Answered) -> bool:
        if self._records is None:
            return True
        try:
            self._records.append(answered.record, answered.sequence)
        except NativeError:
            log.exception("a record could not be written")
            return False
        return True


class GrpcioServer:
    """`grpc.server` with Check, Process and health."""

    def __init__(
        self,
        config: Config,
        answerer: Answerer,
        process: Process,
    ) -> None:
        self._answerer = answerer
        self._health = health.HealthServicer()
        options = [
            ("grpc.max_receive_message_length", config.limits.max_message_bytes),
            ("grpc.max_concurrent_streams", config.limits.streams),
        ]
        threads = futures.ThreadPoolExecutor(WORKERS, "grpc")
        # More would wait past Envoy's timeout for a thread: refused at once, they are at least denied at once (K2).
        self._server = grpc.server(threads, options=options, maximum_concurrent_rpcs=2 * WORKERS)
        known = KnownCallers(config.listen.tls.client_sans if config.listen.tls else ())
        handlers = (service(AUTHORIZATION, "Check", known.check(answerer.check)), _stream(process, known))
        self._server.add_generic_rpc_handlers(handlers)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        if config.listen.reflection:
            reflection.enable_server_reflection((AUTHORIZATION, EXTERNAL_PROCESSOR, HEALTH), self._server)
        self.set_serving(False)
        self.address = _bind(self._server, config)
        self._server.start()

    def set_serving(self, serving: bool) -> None:  # noqa: FBT001 - reads as the health it sets
        """Say whether checks can be decided."""
        statuses = health_pb2.HealthCheckResponse
        for name in ("", AUTHORIZATION, EXTERNAL_PROCESSOR):
            self._health.set(name, statuses.SERVING if serving else statuses.NOT_SERVING)

    def drain(self, grace_s: float) -> bool:
        """NOT_SERVING, no new calls, those in flight finish; True when they did within the grace."""
        self._health.enter_graceful_shutdown()
        drained = bool(self._server.stop(grace_s).wait(grace_s + 1.0))
        self._answerer.close()
        return drained


def service(name: str, method: str, answer: Callable[[bytes, Any], bytes]) -> grpc.GenericRpcHandler[bytes, bytes]:
    """A service of one unary method over raw bytes."""
    return grpc.method_handlers_generic_handler(name, {method: grpc.unary_unary_rpc_method_handler(answer)})


class KnownCallers:
    """Who may call at all: whose certificate has one of these names, or anyone of the authority where none is given."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self._names = frozenset(names)

    def require(self, context: grpc.ServicerContext) -> None:
        """End the call of anyone else (A21)."""
        if not self._names:
            return
        shown: Iterable[Any] = context.auth_context().get("x509_subject_alternative_name", ())
        if self._names.isdisjoint(name.decode("utf-8", "replace") for name in shown):
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "not a known proxy")

    def check(self, answer: Callable[[bytes, object], bytes]) -> Callable[[bytes, grpc.ServicerContext], bytes]:
        """The unary call, for them."""

        def answered(request: bytes, context: grpc.ServicerContext) -> bytes:
            self.require(context)
            return answer(request, context)

        return answered


def _stream(process: Process, known: KnownCallers) -> grpc.GenericRpcHandler[bytes, bytes]:
    def run(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterable[bytes]:
        known.require(context)
        metadata = {key: str(value) for key, value in context.invocation_metadata()}
        return process(requests, metadata, context.cancel)

    return grpc.method_handlers_generic_handler(
        EXTERNAL_PROCESSOR, {"Process": grpc.stream_stream_rpc_method_handler(run)}
    )


def _bind(server: grpc.Server, config: Config) -> str:
    listen = config.listen
    if listen.check.startswith("unix:"):
        # The socket is made with its mode: there is no moment at which another user could connect (A21).
        mask = os.umask(0o777 & ~listen.socket_mode)
        try:
            server.add_insecure_port(listen.check)
        finally:
            os.umask(mask)
        return listen.check
    if listen.tls is None:
        port = server.add_insecure_port(listen.check)
    else:
        roots = listen.tls.client_ca.read_bytes() if listen.tls.client_ca else None
        pair = (listen.tls.key.read_bytes(), listen.tls.certificate.read_bytes())
        credentials = grpc.ssl_server_credentials([pair], roots, require_client_auth=roots is not None)
        port = server.add_secure_port(listen.check, credentials)
    return f"{listen.check.rpartition(':')[0]}:{port}"
