"""The service `Bundles`: publishing policy bundles, and saying what of them must stay.

Decides that nothing is kept that the keys pinned here have not signed: a pushed archive goes through the same rules
(`policy.trust`) as in a sidecar, held to what its name has seen, so that an older one needs a signed rollback
statement here too. A refusal has that rule's own code. Must never read an archive before the dispatcher has admitted
its caller. Whether it compiles and denies its golden set is each sidecar's to judge, with its own engine.
"""

from __future__ import annotations

import re
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from authz._gen.authz.control.v1 import bundles_pb2 as pb
from authz.control.refusals import Code, RefusedError, malformed
from authz.errors import BundleError
from authz.model import Status
from authz.policy import trust
from authz.policy.registry import Delta, HeldError, Kind, MovedError, Place, Push
from authz.policy.sources import what_lies_beside
from authz.policy.trust import Candidate
from authz.reasons import (
    BUNDLE_CODES,
    PUSH_CHANGED,
    PUSH_UNPINNED,
    REFUSED,
    REVISION_HELD,
    REVISION_UNKNOWN,
    Reason,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from google.protobuf.timestamp_pb2 import Timestamp

    from authz.clock import Clock
    from authz.control.callers import Caller
    from authz.policy.pinned import Trust
    from authz.policy.registry import Event, Revision
    from authz.policy.registry_sql import Registry

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
"""As a manifest's `bundle_id`."""
ATTEMPTS: Final = 3
"""Pushes to one name at once that may cross."""
_KINDS: Final = {
    Kind.PUSHED: pb.BUNDLE_EVENT_KIND_PUSHED,
    Kind.HELD: pb.BUNDLE_EVENT_KIND_HELD,
    Kind.RELEASED: pb.BUNDLE_EVENT_KIND_RELEASED,
    Kind.RETIRED: pb.BUNDLE_EVENT_KIND_RETIRED,
    Kind.COLLECTED: pb.BUNDLE_EVENT_KIND_COLLECTED,
}


class BundlesService:
    """`authz.control.v1.Bundles`.

    Args:
        pins: keys and signers; None where none are configured, and then nothing can be pushed.
        make_delta: what leads from one archive to the next, for who has the first; None where there is no such thing.
    """

    def __init__(
        self,
        registry: Registry,
        pins: Trust | None,
        clock: Clock,
        *,
        make_delta: Callable[[bytes, bytes], bytes | None],
    ) -> None:
        self._registry = registry
        self._pins = pins
        self._clock = clock
        self._make_delta = make_delta
        self._making = threading.Lock()

    def push_bundle(self, request: pb.PushBundleRequest, caller: Caller) -> pb.Revision:
        """Verify, keep, and serve from now on."""
        if self._pins is None:
            raise RefusedError(Code.FAILED_PRECONDITION, PUSH_UNPINNED)
        if not NAME.fullmatch(request.name):
            raise malformed("`name` is not a bundle's id")
        for _ in range(ATTEMPTS):
            try:
                return _message(self._push(request, caller, self._pins))
            except MovedError:
                continue
            except BundleError as error:
                raise RefusedError(Code.FAILED_PRECONDITION, _reason(error), str(error)) from None
        raise RefusedError(Code.ABORTED, PUSH_CHANGED)

    def list_bundles(self, request: pb.ListBundlesRequest, _caller: Caller) -> pb.ListBundlesResponse:
        """The newest of each name."""
        return pb.ListBundlesResponse(bundles=map(_message, self._registry.names(request.tenant)))

    def read_bundle(self, request: pb.ReadBundleRequest, _caller: Caller) -> pb.Revision:
        """What is served under a name."""
        return _message(_known(self._registry.newest(_place(request))))

    def read_history(self, request: pb.ReadHistoryRequest, _caller: Caller) -> pb.ReadHistoryResponse:
        """Every revision, and who did what."""
        revisions, events = self._registry.history(_place(request))
        if not revisions:
            raise RefusedError(Code.NOT_FOUND, REVISION_UNKNOWN)
        return pb.ReadHistoryResponse(revisions=map(_message, revisions), events=map(_event, events))

    def hold_revision(self, request: pb.HoldRevisionRequest, caller: Caller) -> pb.Revision:
        """Keep its content until it is released."""
        return _marked(self._registry.hold, request, caller)

    def release_revision(self, request: pb.ReleaseRevisionRequest, caller: Caller) -> pb.Revision:
        """End its legal hold."""
        return _marked(self._registry.release, request, caller)

    def retire_revision(self, request: pb.RetireRevisionRequest, caller: Caller) -> pb.Revision:
        """Serve it no more."""
        try:
            return _marked(self._registry.retire, request, caller)
        except HeldError:
            raise RefusedError(Code.FAILED_PRECONDITION, REVISION_HELD) from None

    def _push(self, request: pb.PushBundleRequest, caller: Caller, pins: Trust) -> Revision:
        place, beside = _place(request), request.statements
        candidate = Candidate(
            path=f"{place.tenant}/{place.name}" if place.tenant else place.name,
            archive=request.archive,
            cosignatures=beside.cosignatures or None,
            rollback=beside.rollback or None,
            timestamp=beside.timestamp or None,
        )
        seen = self._registry.seen(place)
        # What is published for a tenant must be meant for it, and signed by those who may speak for it.
        mine = replace(pins, tenants=(place.tenant,)) if place.tenant else pins
        if pins.names(place.tenant):
            mine = pins.of_tenant(place.tenant)
        verified = trust.verify(candidate, mine, seen, now_ns=self._clock.unix_ns())
        push = Push(
            place=place,
            archive=candidate.archive,
            verified=verified,
            beside=what_lies_beside(candidate),
            by=caller.id,
            reason=request.reason,
            delta=self._delta(place, candidate),
        )
        return self._registry.push(push, seen)

    def _delta(self, place: Place, candidate: Candidate) -> Delta | None:
        """From what is served now. One at a time: large ones take memory."""
        served = self._registry.newest(place)
        if served is None or served.sha256 == candidate.sha256:
            return None
        with self._making:
            made = self._make_delta(self._registry.blobs.read(served.sha256), candidate.archive)
        return Delta(base=served.sha256, content=made) if made else None


def _marked(
    mark: Callable[..., Revision | None],
    request: pb.HoldRevisionRequest | pb.ReleaseRevisionRequest | pb.RetireRevisionRequest,
    caller: Caller,
) -> pb.Revision:
    return _message(_known(mark(_place(request), request.sha256, by=caller.id, reason=request.reason)))


def _place(
    request: pb.PushBundleRequest
    | pb.ReadBundleRequest
    | pb.ReadHistoryRequest
    | pb.HoldRevisionRequest
    | pb.ReleaseRevisionRequest
    | pb.RetireRevisionRequest,
) -> Place:
    return Place(tenant=request.tenant, name=request.name)


def _known(revision: Revision | None) -> Revision:
    if revision is None:
        raise RefusedError(Code.NOT_FOUND, REVISION_UNKNOWN)
    return revision


def _reason(error: BundleError) -> Reason:
    """The trust rule's code as a row: none of these reaches a caller of tools, so the catalogue has none of them."""
    meaning = BUNDLE_CODES[error.code]
    return Reason(error.code, 422, REFUSED, Status.MALFORMED, f"the bundle is refused: {meaning}", "Correct it.")


def _message(revision: Revision) -> pb.Revision:
    message = pb.Revision(
        tenant=revision.tenant,
        name=revision.name,
        sha256=revision.sha256,
        digest=revision.digest,
        revision=revision.revision,
        sequence=revision.sequence,
        change_id=revision.change_id,
        size=revision.size,
        signed_by=revision.signed_by,
        pushed_by=revision.pushed_by,
        newest=revision.newest,
    )
    _tell(message.expires_at, revision.expires_at_ns)
    _tell(message.pushed_at, revision.pushed_at_ns)
    for when_ns, told in (
        (revision.held_at_ns, message.held_at),
        (revision.retired_at_ns, message.retired_at),
        (revision.collected_at_ns, message.collected_at),
    ):
        if when_ns is not None:
            _tell(told, when_ns)
    return message


def _tell(told: Timestamp, when_ns: int) -> None:
    told.FromNanoseconds(when_ns)


def _event(event: Event) -> pb.BundleEvent:
    message = pb.BundleEvent(kind=_KINDS[event.kind], sha256=event.sha256, by=event.by, reason=event.reason)
    _tell(message.at, event.at_ns)
    return message
