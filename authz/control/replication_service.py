"""The service `Replication`: what a sidecar, known by its certificate, reads of its streams and says of itself.

Decides which streams that is: its tenants' and the platform's. The dispatcher has checked each stream that a request
names; what is answered without being asked for (`ReadTrust`) is chosen here by the same rule. Must never tell one
tenant's sidecar that another tenant exists.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from authz._gen.authz.control.v1 import sidecars_pb2 as pb
from authz.control.callers import PLATFORM
from authz.control.refusals import Code, RefusedError
from authz.reasons import CONTROL_METHOD
from authz.revocation.reports_sql import Applied

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from authz.control.callers import Caller
    from authz.control.members import Members
    from authz.database import Database
    from authz.revocation.ledger_sql import Ledger
    from authz.revocation.reports_sql import Reports
    from authz.revocation.stream_keys_sql import StreamKeys


class ReplicationService:
    """`authz.control.v1.Replication`.

    Args:
        published: the issuer of access tokens and its JWK Set; both empty where there is none.
    """

    def __init__(
        self,
        members: Members,
        database: Database,
        ledger: Ledger,
        keys: StreamKeys,
        reports: Reports,
        published: Callable[[], tuple[str, str]] = lambda: ("", ""),
    ) -> None:
        self._members = members
        self._database = database
        self._ledger = ledger
        self._keys = keys
        self._reports = reports
        self._published = published

    def renew(self, request: pb.RenewRequest, caller: Caller) -> pb.EnrolResponse:
        """A certificate that ends later."""
        return self._members.renew(caller.id, request.csr)

    def read_trust(self, _request: pb.ReadTrustRequest, caller: Caller) -> pb.Trust:
        """Keys and heads of the caller's streams, and whose tokens to take."""
        with self._database.read() as connection:
            heads = {head.stream: head for head in self._ledger.heads(connection)}
        own = {PLATFORM, *caller.tenants}
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

    def pull_entries(self, _request: pb.PullEntriesRequest, _caller: Caller) -> pb.PullEntriesResponse:
        """Signed batches after a sequence."""
        raise RefusedError(Code.UNIMPLEMENTED, CONTROL_METHOD)

    def pull_snapshot(self, _request: pb.PullSnapshotRequest, _caller: Caller) -> Iterator[pb.SnapshotChunk]:
        """Everything in force, signed."""
        raise RefusedError(Code.UNIMPLEMENTED, CONTROL_METHOD)

    def report(self, request: pb.ReportRequest, caller: Caller) -> pb.ReportResponse:
        """Note how far the caller has come."""
        applied = [Applied(stream=each.stream, epoch=each.epoch, sequence=each.sequence) for each in request.applied]
        with self._database.write() as connection:
            self._reports.put(connection, caller.id, applied)
        return pb.ReportResponse()
