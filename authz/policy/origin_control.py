"""A bundle of the control plane, over the connection that a sidecar's certificate opens.

Decides how it is read: what is newest is asked for with what lies beside it, and an archive is pulled in pieces, within
a bound on the bytes and on the whole time, so that a connection that breaks costs one piece. Where a delta of the
archive that is here comes with the answer, what it makes is taken instead. Must never take other bytes than those that
were offered. Trusts the connection with who is at the far end; `trust` judges what comes.
"""

from __future__ import annotations

import hashlib
import logging
from typing import TYPE_CHECKING, Final, TypeVar

import grpc

from authz._gen.authz.control.v1 import sidecars_pb2 as pb
from authz.errors import BundleError
from authz.policy import delta
from authz.policy.archive import bounds
from authz.policy.origin import Offer

if TYPE_CHECKING:
    from collections.abc import Callable

    from google.protobuf.message import Message

    from authz.clock import Clock
    from authz.policy.registry import Place
    from authz.policy.sources import Beside

log: Final = logging.getLogger(__name__)
SERVICE: Final = "/authz.control.v1.Replication/"
CALL_S: Final = 10.0
FETCH_S: Final = 60.0
_NS: Final = 1_000_000_000

_M = TypeVar("_M", bound="Message")


class ControlOrigin:
    """One name.

    Args:
        channel: the connection with mutual TLS, asked for again for each call.
        archive_bytes: the largest archive.
    """

    def __init__(self, place: Place, channel: Callable[[], grpc.Channel], clock: Clock, *, archive_bytes: int) -> None:
        self.path: Final = f"{place.tenant}/{place.name}" if place.tenant else place.name
        self._place = place
        self._channel = channel
        self._monotonic_ns = clock.monotonic_ns
        self._archive_bytes = archive_bytes

    @staticmethod
    def tag(archive: bytes) -> str:
        """See `Origin`."""
        return hashlib.sha256(archive).hexdigest()

    def read(self, known: str, *, base: bytes = b"", wait_s: float = 0.0) -> Offer:  # noqa: ARG002 - a poll is cheap
        """See `Origin`."""
        request = pb.ReadNewestRequest(tenant=self._place.tenant, name=self._place.name, known=known if base else "")
        newest = self._call("ReadNewest", request, pb.Newest)
        lies: dict[Beside, bytes] = {
            "sig": newest.cosignatures,
            "rollback": newest.rollback,
            "timestamp": newest.timestamp,
        }
        return Offer(
            tag=newest.sha256,
            archive=None if newest.sha256 == known else self._changed(newest, base) or self._archive(newest),
            beside={kind: content for kind, content in lies.items() if content},
        )

    def _changed(self, newest: pb.Newest, base: bytes) -> bytes | None:
        """What the delta makes of the archive that is here; None where that is not what was offered."""
        if not newest.delta:
            return None
        try:
            made = delta.apply(base, newest.delta, bounds(self._archive_bytes))
        except BundleError as error:
            log.warning("a delta of %s is not used, the whole archive is fetched: %s", self.path, error)
            return None
        if self.tag(made) != newest.sha256:
            return None  # an old delta, which promised another archive
        log.info("the newest archive of %s came as a delta of %d bytes", self.path, len(newest.delta))
        return made

    def _archive(self, newest: pb.Newest) -> bytes:
        if newest.size > self._archive_bytes:
            raise BundleError(f"the archive is over {self._archive_bytes} bytes", code="BUNDLE_SIZE")
        until_ns, archive, position = self._monotonic_ns() + int(FETCH_S * _NS), bytearray(), 0
        while len(archive) < newest.size:
            request = pb.PullPieceRequest(
                tenant=self._place.tenant, name=self._place.name, sha256=newest.sha256, position=position
            )
            piece = self._call("PullPiece", request, pb.Piece).content
            if not piece:
                raise _failed("it was cut short")
            if self._monotonic_ns() > until_ns:
                raise _failed(f"it took over {FETCH_S:.0f} s")
            archive += piece
            position += 1
        if len(archive) != newest.size or hashlib.sha256(archive).hexdigest() != newest.sha256:
            raise _failed("it is not what was offered")
        return bytes(archive)

    def _call(self, method: str, request: Message, answer: type[_M]) -> _M:
        begin = self._channel().unary_unary(
            SERVICE + method, request_serializer=_serialized, response_deserializer=answer.FromString
        )
        try:
            reply: _M = begin(request, timeout=CALL_S)
        except grpc.RpcError as error:
            raise _failed(_said(error)) from None
        except ValueError:  # the channel was closed by a renewal, or because the service stops
            raise _failed("the connection was closed") from None
        return reply


def _said(error: grpc.RpcError) -> str:
    """What the far end said; never what we sent."""
    if isinstance(error, grpc.Call):
        return f"{error.code().name} {error.details() or ''}".strip()
    return type(error).__name__


def _serialized(message: Message) -> bytes:
    return message.SerializeToString()


def _failed(how: str) -> BundleError:
    return BundleError(f"the control plane: {how}", code="BUNDLE_FETCH")
