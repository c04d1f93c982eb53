"""The service `Sidecars`: operators invite, list and remove; whoever holds a token enrols.

Decides how long an invitation is good and what of a sidecar a caller sees: one who asks for a tenant is not told of the
others that the same sidecar serves.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from authz._gen.authz.control.v1 import sidecars_pb2 as pb
from authz.control.refusals import malformed
from authz.model import PLATFORM

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from authz.control.callers import Caller
    from authz.control.members import Members
    from authz.control.sidecars_sql import Sidecar, Sidecars
    from authz.policy.bundle_reports_sql import BundleReport
    from authz.revocation.reports_sql import Applied

INVITATION_LIFE: Final = timedelta(hours=1)
MAX_INVITATION_LIFE: Final = timedelta(hours=24)
MAX_TENANTS: Final = 1000


class SidecarsService:
    """`authz.control.v1.Sidecars`.

    Args:
        reported: what each of these sidecars has applied, and when it was last heard (nanoseconds), by its id.
        bundles: what each of these says of its bundles, by its id.
    """

    def __init__(
        self,
        members: Members,
        sidecars: Sidecars,
        reported: Callable[[Collection[str]], dict[str, tuple[list[Applied], int]]],
        bundles: Callable[[Collection[str]], dict[str, list[BundleReport]]] = lambda _: {},
    ) -> None:
        self._members = members
        self._sidecars = sidecars
        self._reported = reported
        self._bundles = bundles

    def invite_sidecar(self, request: pb.InviteSidecarRequest, _caller: Caller) -> pb.InviteSidecarResponse:
        """A token for one enrolment; for no tenant in particular, it is for all of them."""
        life = request.expires_in.ToTimedelta() if request.HasField("expires_in") else INVITATION_LIFE
        if not timedelta() < life <= MAX_INVITATION_LIFE:
            raise malformed("expires_in is not within 24 hours")
        if len(request.tenants) > MAX_TENANTS or not all(request.tenants):
            raise malformed(f"tenants are over {MAX_TENANTS}, or one is empty")
        token, ends_ns = self._members.invite(request.name, request.tenants, life)
        answer = pb.InviteSidecarResponse(token=token)
        answer.expires_at.FromNanoseconds(ends_ns)
        return answer

    def list_sidecars(self, request: pb.ListSidecarsRequest, _caller: Caller) -> pb.ListSidecarsResponse:
        """Those that follow the tenant; all, with all their tenants, for the platform."""
        found = self._sidecars.following(request.tenant)
        ids = [sidecar.id for sidecar in found]
        heard, bundles = self._reported(ids), self._bundles(ids)
        answer = pb.ListSidecarsResponse()
        for sidecar in found:
            message = _message(sidecar, *heard.get(sidecar.id, ([], 0)), seen_by=request.tenant)
            message.bundles.extend(map(_bundle, _visible(bundles.get(sidecar.id, []), request.tenant)))
            answer.sidecars.append(message)
        return answer

    def remove_sidecar(self, request: pb.RemoveSidecarRequest, _caller: Caller) -> pb.Sidecar:
        """Refuse it from now on."""
        return _message(self._members.remove(request.id), [], 0, seen_by=PLATFORM)

    def enrol(self, request: pb.EnrolRequest, _caller: Caller) -> pb.EnrolResponse:
        """An identity, for a token that is good."""
        return self._members.enrol(request.token, request.csr)


def _message(sidecar: Sidecar, applied: list[Applied], heard_ns: int, *, seen_by: str) -> pb.Sidecar:
    is_all = seen_by == PLATFORM
    message = pb.Sidecar(
        id=sidecar.id,
        tenants=sidecar.tenants if is_all else [seen_by],
        applied=[
            pb.Applied(stream=each.stream, epoch=each.epoch, sequence=each.sequence)
            for each in applied
            if is_all or each.stream in (PLATFORM, seen_by)
        ],
    )
    message.enrolled_at.FromNanoseconds(sidecar.enrolled_at_ns)
    message.certificate_expires_at.FromNanoseconds(sidecar.certificate_expires_at_ns)
    if heard_ns:
        message.last_report_at.FromNanoseconds(heard_ns)
    if sidecar.removed_at_ns is not None:
        message.removed_at.FromNanoseconds(sidecar.removed_at_ns)
    return message


def _visible(reports: list[BundleReport], seen_by: str) -> list[BundleReport]:
    return [each for each in reports if seen_by == PLATFORM or each.tenant in (PLATFORM, seen_by)]


def _bundle(report: BundleReport) -> pb.BundleState:
    return pb.BundleState(
        tenant=report.tenant, name=report.name, sha256=report.sha256, refused=report.refused, code=report.code
    )
