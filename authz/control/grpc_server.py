"""The gRPC listeners: one for operators, and one that demands a client certificate, for sidecars.

Decides nothing about a call: it hands the bytes, and what the caller shows, to the dispatcher. Plaintext only on
loopback. Health and reflection are open; they say which services there are and nothing else. Must never let an
exception through: what the dispatcher refuses is answered with its code, and `google.rpc.ErrorInfo` in the details.
"""

from __future__ import annotations

import threading
from concurrent import futures
from typing import TYPE_CHECKING, Final, NoReturn, cast

import grpc
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from authz.control.authentication import Presented
from authz.control.dispatcher import ROOM, Asked
from authz.control.forms import Binary
from authz.control.refusals import RefusedError
from authz.errors import ConfigError, ProgramError
from authz.loopback import is_local

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from authz.control.dispatcher import Dispatcher

QUEUED: Final = 256
MAX_MESSAGE_BYTES: Final = 1024 * 1024
MAX_METADATA_BYTES: Final = 16 * 1024
DOMAIN: Final = "authz"
_STATUS: Final = {status.value[0]: status for status in grpc.StatusCode}
_OPTIONS: Final = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_metadata_size", MAX_METADATA_BYTES),
    ("grpc.max_concurrent_streams", 100),
    ("grpc.so_reuseport", 0),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
)


class GrpcServer:
    """One listener.

    Args:
        address: HOST:PORT; port 0 takes a free one.
        credentials: the server's certificate, and whom it demands one of; None is plaintext.

    Raises:
        ConfigError: plaintext on an address that is not loopback.
        ProgramError: the address cannot be listened on.
    """

    def __init__(self, address: str, dispatcher: Dispatcher, credentials: grpc.ServerCredentials | None = None) -> None:
        if credentials is None and not is_local(address):
            raise ConfigError(
                f"plaintext on `{address}` would show operators' credentials to that network",
                remedy="set control.tls, or listen on 127.0.0.1",
            )
        self._health = health.HealthServicer()
        threads = futures.ThreadPoolExecutor(ROOM, "control")
        self._server = grpc.server(threads, options=_OPTIONS, maximum_concurrent_rpcs=ROOM + QUEUED)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        self._services = dispatcher.services
        names = (*self._services, health_pb2.DESCRIPTOR.services_by_name["Health"].full_name)
        reflection.enable_server_reflection((*names, reflection.SERVICE_NAME), self._server)
        self._server.add_generic_rpc_handlers((_Calls(dispatcher),))
        self.set_serving(False)
        self.address: Final = f"{address.rpartition(':')[0]}:{self._bind(address, credentials)}"

    def start(self) -> None:
        """Begin to answer."""
        self._server.start()

    def set_serving(self, serving: bool) -> None:  # noqa: FBT001 - reads as the health it sets
        """Say whether calls can be answered."""
        statuses = health_pb2.HealthCheckResponse
        for name in ("", *self._services):
            self._health.set(name, statuses.SERVING if serving else statuses.NOT_SERVING)

    def stop(self, grace_s: float) -> None:
        """NOT_SERVING, no new calls; those under way may finish within the grace."""
        self._health.enter_graceful_shutdown()
        self._server.stop(grace_s).wait(grace_s + 1.0)

    def _bind(self, address: str, credentials: grpc.ServerCredentials | None) -> int:
        try:
            if credentials is None:
                return self._server.add_insecure_port(address)
            return self._server.add_secure_port(address, credentials)
        except RuntimeError:
            raise ProgramError(f"cannot listen on {address}", remedy="is something else listening there?") from None


def server_credentials(key: bytes, certificates: bytes, roots: bytes | None = None) -> grpc.ServerCredentials:
    """A server's proof, in PEM; with `roots`, a client certificate that ends at one of them is demanded."""
    return grpc.ssl_server_credentials([(key, certificates)], roots, require_client_auth=roots is not None)


class _Calls(grpc.GenericRpcHandler):  # type: ignore[type-arg]  # generic in its stubs alone
    """Every method that is not health or reflection, served or not: the dispatcher says which."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes]:
        method = handler_call_details.method
        if self._dispatcher.is_streaming(method):
            return grpc.unary_stream_rpc_method_handler(lambda body, context: self._stream(method, body, context))
        return grpc.unary_unary_rpc_method_handler(lambda body, context: self._call(method, body, context))

    def _call(self, method: str, body: bytes, context: grpc.ServicerContext) -> bytes:
        try:
            return self._dispatcher.call(_asked(method, body, context))
        except RefusedError as refusal:
            _refuse(context, refusal)

    def _stream(self, method: str, body: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        try:
            yield from self._dispatcher.stream(_asked(method, body, context))
        except RefusedError as refusal:
            _refuse(context, refusal)


def _asked(method: str, body: bytes, context: grpc.ServicerContext) -> Asked:
    gone = threading.Event()
    if not context.add_callback(gone.set):
        gone.set()
    shown = tuple(str(value) for name, value in context.invocation_metadata() if name == "authorization")
    certificate: bytes | None = next(iter(_transport(context).get("x509_pem_cert", ())), None)
    presented = Presented(authorization=shown, certificate=certificate)
    return Asked(method=method, body=body, presented=presented, form=Binary(), gone=gone)


def _transport(context: grpc.ServicerContext) -> Mapping[str, Sequence[bytes]]:
    """What the transport proved of the peer; the stubs are wrong about its type."""
    return cast("Mapping[str, Sequence[bytes]]", context.auth_context())


def status_of(refusal: RefusedError) -> status_pb2.Status:
    """The refusal as `google.rpc.Status`."""
    row = refusal.reason
    told = error_details_pb2.ErrorInfo(reason=row.code, domain=DOMAIN, metadata={"next_step": row.next_step})
    packed = any_pb2.Any()
    packed.Pack(told)
    return status_pb2.Status(code=refusal.code.value.grpc, message=refusal.message, details=[packed])


def _refuse(context: grpc.ServicerContext, refusal: RefusedError) -> NoReturn:
    context.set_trailing_metadata((("grpc-status-details-bin", status_of(refusal).SerializeToString()),))
    context.abort(_STATUS[refusal.code.value.grpc], f"{refusal.reason.code}: {refusal.message}")
    raise AssertionError  # abort raises: this is for the type checker alone
