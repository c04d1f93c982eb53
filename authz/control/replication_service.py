"""The service `Replication`: what a sidecar, known by its certificate, reads of its streams and says of itself.

Decides which streams that is: its tenants' and the platform's. The dispatcher has checked each stream that a request
names; what is answered without being asked for (`ReadTrust`) is chosen here by the same rule. Must never tell one
tenant's sidecar that another tenant exists.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from authz._gen.authz.control.v1 import sidecars_pb2 as pb
from authz.control.callers import ALL_TENANTS
from authz.control.refusals import Code, RefusedError, malformed
from authz.errors import InvalidRequestError
from authz.model import PLATFORM
from authz.policy import directive, findings
from authz.policy.bundle_reports_sql import BundleReport
from authz.policy.registry import Place
from authz.policy.rollout_reports_sql import Counted, Standing
from authz.reasons import REVISION_UNKNOWN
from authz.revocation.entries import thumbprint
from authz.revocation.refill import Refill
from authz.revocation.reports_sql import Applied
from authz.revocation.snapshots import Snapshots

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from authz.control.callers import Caller
    from authz.control.members import Members
    from authz.database import Database
    from authz.policy.bundle_reports_sql import BundleReports
    from authz.policy.registry_sql import Registry
    from authz.policy.rollout_reports_sql import RolloutReports
    from authz.policy.rollout_sql import RolloutBook
    from authz.revocation.entries import Signed
    from authz.revocation.ledger_sql import Ledger
    from authz.revocation.reports_sql import Reports
    from authz.revocation.stream_keys_sql import StreamKeys

log: Final = logging.getLogger(__name__)
MAX_BUNDLES: Final = 1000
"""That one sidecar may report."""
MAX_WINDOWS: Final = 8
"""That one report of a rollout holds."""
MAX_RUN: Final = 64
_CODE: Final = re.compile("[A-Z0-9_]{1,64}")
_PIN: Final = re.compile("configured|[0-9a-f]{12,64}")


@dataclass(frozen=True, slots=True)
class Bundles:
    """What is published, and what sidecars say of it."""

    registry: Registry
    reports: BundleReports


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollouts:
    """Where rollouts stand, and what sidecars found of them."""

    book: RolloutBook
    reports: RolloutReports


class ReplicationService:
    """`authz.control.v1.Replication`.

    Args:
        bundles: the registry, and what is reported of it.
        published: the issuer of access tokens and its JWK Set; both empty where there is none.
    """

    def __init__(
        self,
        members: Members,
        database: Database,
        ledger: Ledger,
        keys: StreamKeys,
        reports: Reports,
        bundles: Bundles,
        *,
        rollouts: Rollouts,
        published: Callable[[], tuple[str, str]] = lambda: ("", ""),
    ) -> None:
        self._members = members
        self._database = database
        self._ledger = ledger
        self._keys = keys
        self._reports = reports
        self._bundles = bundles
        self._rollouts = rollouts
        self._published = published
        self._refill = Refill(database, ledger, keys)
        self._snapshots = Snapshots(database, ledger, keys)

    def renew(self, request: pb.RenewRequest, caller: Caller) -> pb.EnrolResponse:
        """A certificate that ends later."""
        return self._members.renew(caller.id, request.csr)

    def read_trust(self, _request: pb.ReadTrustRequest, caller: Caller) -> pb.Trust:
        """Keys and heads of the caller's streams, and whose tokens to take."""
        with self._database.read() as connection:
            heads = {head.stream: head for head in self._ledger.heads(connection)}
        own = {PLATFORM, *caller.tenants} - {ALL_TENANTS}
        followed = {stream for stream in own | heads.keys() if caller.follows(stream)}
        keys = {stream: self._keys.trusted(stream) for stream in followed}
        issuer, jwks = self._published()
        return pb.Trust(
            streams=[
                pb.StreamTrust(
                    stream=stream,
                    keys=[pb.StreamKey(kid=kid, public_key=public) for kid, public in keys[stream].items()],
                    epoch=heads[stream].epoch if stream in heads else 1,
                    sequence=heads[stream].sequence if stream in heads else 0,
                )
                for stream in sorted(followed)
            ],
            issuer=issuer,
            jwks=jwks,
        )

    def pull_entries(self, request: pb.PullEntriesRequest, _caller: Caller) -> pb.PullEntriesResponse:
        """Signed batches after a sequence, and a heartbeat of this moment."""
        try:
            refilled = self._refill.entries(request.stream, request.epoch, request.after_sequence)
        except InvalidRequestError as error:
            raise RefusedError(Code.OUT_OF_RANGE, error.reason) from None
        return pb.PullEntriesResponse(
            batches=map(_signed, refilled.batches), more=refilled.more, heartbeat=_signed(refilled.heartbeat)
        )

    def pull_snapshot(self, request: pb.PullSnapshotRequest, _caller: Caller) -> Iterator[pb.SnapshotChunk]:
        """Everything in force, signed: its description first, then its content in pieces."""
        description, chunks = self._snapshots.read(request.stream, request.epoch, request.sequence)
        yield pb.SnapshotChunk(description=_signed(description))
        for chunk in chunks:
            yield pb.SnapshotChunk(content=chunk)

    def report(self, request: pb.ReportRequest, caller: Caller) -> pb.ReportResponse:
        """Note how far the caller has come."""
        applied = [Applied(stream=each.stream, epoch=each.epoch, sequence=each.sequence) for each in request.applied]
        with self._database.write() as connection:
            self._reports.put(connection, caller.id, applied)
            for each in applied:
                if self._ledger.has_lost(connection, each.stream, each.epoch, each.sequence):
                    log.critical(
                        "KILL_EPOCH_REGRESS: sidecar %s knows entries that the ledger has lost; a new epoch begins",
                        caller.id,
                    )
                    self._ledger.new_epoch(connection, each.stream, above=each.epoch)
        return pb.ReportResponse()

    def read_newest(self, request: pb.ReadNewestRequest, _caller: Caller) -> pb.Newest:
        """What is served under a name."""
        newest = self._bundles.registry.newest(Place(tenant=request.tenant, name=request.name))
        if newest is None:
            raise RefusedError(Code.NOT_FOUND, REVISION_UNKNOWN)
        beside = self._bundles.registry.beside(newest)
        has_another = request.known not in {"", newest.sha256}
        return pb.Newest(
            sha256=newest.sha256,
            size=newest.size,
            cosignatures=beside.get("sig", b""),
            rollback=beside.get("rollback", b""),
            timestamp=beside.get("timestamp", b""),
            delta=(self._bundles.registry.delta(newest, request.known) if has_another else None) or b"",
        )

    def pull_piece(self, request: pb.PullPieceRequest, _caller: Caller) -> pb.Piece:
        """A piece of an archive that was published under a name which the caller may read."""
        found = self._bundles.registry.find(Place(tenant=request.tenant, name=request.name), request.sha256)
        if found is None or found.retired_at_ns is not None:
            raise RefusedError(Code.NOT_FOUND, REVISION_UNKNOWN)
        return pb.Piece(content=self._bundles.registry.blobs.piece(request.sha256, request.position))

    def report_bundles(self, request: pb.ReportBundlesRequest, caller: Caller) -> pb.ReportBundlesResponse:
        """Note which bundles answer at the caller's."""
        if len(request.bundles) > MAX_BUNDLES:
            raise malformed(f"over {MAX_BUNDLES} bundles")
        self._bundles.reports.put(
            caller.id,
            [
                BundleReport(
                    tenant=each.tenant, name=each.name, sha256=each.sha256, refused=each.refused, code=each.code
                )
                for each in request.bundles
            ],
        )
        return pb.ReportBundlesResponse()

    def pull_candidate(self, request: pb.PullCandidateRequest, _caller: Caller) -> pb.PullCandidateResponse:
        """A piece of an archive that the scope's rollout names, whatever it is published as."""
        with self._database.read() as connection:
            head = self._rollouts.book.find(connection, request.tenant)
        if head is None or request.sha256 not in (head.baseline, head.candidate) or not request.sha256:
            raise RefusedError(Code.NOT_FOUND, REVISION_UNKNOWN)
        registry = self._bundles.registry
        beside = None
        if request.position == 0:
            beside = registry.statement(request.tenant, request.sha256, "sig")
            beside = beside or registry.statement(PLATFORM, request.sha256, "sig")
        return pb.PullCandidateResponse(
            content=registry.blobs.piece(request.sha256, request.position), cosignatures=beside or b""
        )

    def report_rollouts(self, request: pb.ReportRolloutsRequest, caller: Caller) -> pb.ReportRolloutsResponse:
        """Keep what the caller found of its rollouts; answers with where each stands now, signed."""
        if request.reports:
            self._keep(request, caller)
        with self._database.read() as connection:
            heads = [head for head in self._rollouts.book.heads(connection) if caller.follows(head.scope)]
        told = []
        for head in heads:
            key = self._keys.signer(head.scope)
            signed = directive.sign(directive.directive(head), key, thumbprint(key.public_key()))
            told.append(pb.SignedBatch(body=signed.body, signature=signed.signature, kid=signed.kid))
        return pb.ReportRolloutsResponse(directives=told)

    def _keep(self, request: pb.ReportRolloutsRequest, caller: Caller) -> None:
        with self._database.write() as connection:
            for report in sorted(request.reports, key=lambda report: report.tenant):  # one order of locks for all
                head = self._rollouts.book.find(connection, report.tenant)
                if head is None or head.id != report.rollout:
                    continue  # of one that is over; and none of another scope's can be named
                self._rollouts.reports.put(connection, report.tenant, _standing(report, caller.id), _counted(report))


def _standing(report: pb.RolloutReport, sidecar: str) -> Standing:
    return Standing(
        sidecar=sidecar,
        rollout=report.rollout,
        version=report.version,
        is_ready=report.ready,
        refused=_code(report.refused),
        tripped=_code(report.tripped),
        golden=_code(report.golden),
        pinned=_pin(report.pinned),
    )


def _counted(report: pb.RolloutReport) -> list[Counted]:
    if len(report.findings) > MAX_WINDOWS:
        raise malformed(f"over {MAX_WINDOWS} windows")
    for each in report.findings:
        try:
            findings.decode(each.counted)
        except ValueError as error:
            raise malformed(f"findings: {error}") from None
    return [
        Counted(since_ns=each.stage_since_ns, run=each.run[:MAX_RUN], number=each.window, document=each.counted)
        for each in report.findings
    ]


def _code(told: str) -> str:
    """A reason code, or what stands for one that is none: sidecars' words reach operators' terminals."""
    return told if not told or _CODE.fullmatch(told) else "UNKNOWN"


def _pin(told: str) -> str:
    """What a sidecar is pinned to, likewise."""
    return told if not told or _PIN.fullmatch(told) else "UNKNOWN"


def _signed(message: Signed) -> pb.SignedBatch:
    return pb.SignedBatch(body=message.body, signature=message.signature, kid=message.kid)
