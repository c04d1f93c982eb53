"""The control plane as a sidecar reaches it: HTTP for the one enrolment, gRPC with mutual TLS ever after.

Decides how the far end is known: at enrolment by web PKI (or a configured root) and by the fingerprint in the token;
afterwards by the roots that were enrolled with and the one name of the listener for sidecars, whatever its address.
Must never send a token in plaintext to another machine, nor follow a redirect with it.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final, TypeVar

import grpc
import urllib3
from google.protobuf import json_format

from authz._gen.authz.control.v1.sidecars_pb2 import EnrolRequest, EnrolResponse
from authz.encoding import decode_json_object
from authz.enrolment.names import SERVER_NAME
from authz.errors import ConfigError, ProgramError
from authz.loopback import is_loopback

if TYPE_CHECKING:
    from pathlib import Path

    from google.protobuf.message import Message

    from authz.enrolment.identity import Identity

ENROL: Final = "/authz.control.v1.Sidecars/Enrol"
REPLICATION: Final = "/authz.control.v1.Replication/"
CALL_S: Final = 5.0
REACH_S: Final = 30.0
"""How long a sidecar waits for a control plane that starts at the same time."""
PAUSE_S: Final = 0.2
_MAX_ANSWER: Final = 256 * 1024
_OPTIONS: Final = (
    ("grpc.ssl_target_name_override", SERVER_NAME),
    ("grpc.max_receive_message_length", 4 * 1024 * 1024),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 2_000),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.enable_retries", 0),
)

_M = TypeVar("_M", bound="Message")


def enrol(url: str, token: str, csr: bytes, *, roots: Path | None = None) -> EnrolResponse:
    """Ask for an identity; waits a while for a control plane that cannot be reached yet.

    Args:
        url: of the control plane's HTTP listener.
        token: the enrolment token's text.
        csr: PKCS#10, DER.
        roots: PEM of who signs the listener's certificate; None means the web's authorities.

    Raises:
        ConfigError: plaintext to another machine, or not a URL.
        ProgramError: it refused, answered what is none, or was not reached.
    """
    base = _checked(url)
    pool = urllib3.PoolManager(ca_certs=str(roots) if roots else None)
    message = EnrolRequest(token=token, csr=csr)
    body = json_format.MessageToJson(message, indent=None).encode()
    until = time.monotonic() + REACH_S
    while True:
        try:
            response = pool.request(
                "POST",
                base + ENROL,
                body=body,
                headers={"content-type": "application/json"},
                redirect=False,
                retries=False,
                timeout=urllib3.Timeout(total=CALL_S),
            )
        except (urllib3.exceptions.NewConnectionError, urllib3.exceptions.ConnectTimeoutError):
            # Nothing was sent, so the token is as good as before.
            if time.monotonic() > until:
                raise ProgramError(f"the control plane at {base} was not reached", remedy="is it running?") from None
            time.sleep(PAUSE_S)
        except urllib3.exceptions.HTTPError as error:
            raise ProgramError(f"the control plane at {base}: {type(error).__name__}") from None
        else:
            return _answer(response.status, response.data[:_MAX_ANSWER])


def _checked(url: str) -> str:
    try:
        parsed = urllib3.util.parse_url(url)
    except urllib3.exceptions.LocationParseError:
        parsed = urllib3.util.Url()
    if parsed.scheme not in ("http", "https") or not parsed.host or parsed.auth is not None:
        raise ConfigError("--control is not an http or https URL", remedy="such as https://control.example:8443")
    if parsed.scheme == "http" and not is_loopback(parsed.host or ""):
        raise ConfigError("plaintext would show the enrolment token to the network", remedy="use https in --control")
    return url.rstrip("/")


def _answer(status: int, body: bytes) -> EnrolResponse:
    try:
        told = decode_json_object(body)
        if status == 200:  # noqa: PLR2004 - HTTP's OK
            return json_format.ParseDict(told, EnrolResponse(), ignore_unknown_fields=True)
    except (ValueError, json_format.ParseError):
        raise ProgramError(f"the control plane answered {status} with what is no answer") from None
    raise ProgramError(f"the control plane refused the enrolment: {told.get('message', status)}")


class ControlChannel:
    """The connection of one identity at a time. Safe to use from any thread."""

    def __init__(self, identity: Identity) -> None:
        self._lock = threading.Lock()
        self._former: grpc.Channel | None = None
        self._channel = _open(identity)

    @property
    def channel(self) -> grpc.Channel:
        """The one to begin a call on; ask again for each call, since a renewal replaces it."""
        return self._channel

    def call(self, method: str, request: Message, answer: type[_M], timeout_s: float = CALL_S) -> _M:
        """One unary call of the service `Replication`.

        Raises:
            ProgramError: the control plane refused, or was not reached.
        """
        begin = self._channel.unary_unary(
            REPLICATION + method, request_serializer=_serialized, response_deserializer=answer.FromString
        )
        try:
            reply: _M = begin(request, timeout=timeout_s)
        except grpc.RpcError as error:
            raise ProgramError(f"the control plane: {_said(error)}") from None
        return reply

    def replace(self, identity: Identity) -> None:
        """Begin new calls with this identity; those under way end on the connection they began on."""
        with self._lock:
            if self._former is not None:
                self._former.close()
            self._former, self._channel = self._channel, _open(identity)

    def close(self) -> None:
        """End both."""
        with self._lock:
            for channel in (self._former, self._channel):
                if channel is not None:
                    channel.close()


def _open(identity: Identity) -> grpc.Channel:
    credentials = grpc.ssl_channel_credentials(
        root_certificates=identity.roots_pem, private_key=identity.key_pem, certificate_chain=identity.chain_pem
    )
    return grpc.secure_channel(identity.replication, credentials, options=_OPTIONS)


def _said(error: grpc.RpcError) -> str:
    """What the far end said; never what we sent."""
    if isinstance(error, grpc.Call):
        return f"{error.code().name} {error.details() or ''}".strip()
    return type(error).__name__


def _serialized(message: Message) -> bytes:
    return message.SerializeToString()
