import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Sidecar(_message.Message):
    __slots__ = ("id", "tenants", "enrolled_at", "certificate_expires_at", "last_report_at", "applied", "removed_at", "bundles")
    ID_FIELD_NUMBER: _ClassVar[int]
    TENANTS_FIELD_NUMBER: _ClassVar[int]
    ENROLLED_AT_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    LAST_REPORT_AT_FIELD_NUMBER: _ClassVar[int]
    APPLIED_FIELD_NUMBER: _ClassVar[int]
    REMOVED_AT_FIELD_NUMBER: _ClassVar[int]
    BUNDLES_FIELD_NUMBER: _ClassVar[int]
    id: str
    tenants: _containers.RepeatedScalarFieldContainer[str]
    enrolled_at: _timestamp_pb2.Timestamp
    certificate_expires_at: _timestamp_pb2.Timestamp
    last_report_at: _timestamp_pb2.Timestamp
    applied: _containers.RepeatedCompositeFieldContainer[Applied]
    removed_at: _timestamp_pb2.Timestamp
    bundles: _containers.RepeatedCompositeFieldContainer[BundleState]
    def __init__(self, id: _Optional[str] = ..., tenants: _Optional[_Iterable[str]] = ..., enrolled_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., certificate_expires_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., last_report_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., applied: _Optional[_Iterable[_Union[Applied, _Mapping]]] = ..., removed_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., bundles: _Optional[_Iterable[_Union[BundleState, _Mapping]]] = ...) -> None: ...

class Applied(_message.Message):
    __slots__ = ("stream", "epoch", "sequence")
    STREAM_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    stream: str
    epoch: int
    sequence: int
    def __init__(self, stream: _Optional[str] = ..., epoch: _Optional[int] = ..., sequence: _Optional[int] = ...) -> None: ...

class InviteSidecarRequest(_message.Message):
    __slots__ = ("tenants", "expires_in", "name")
    TENANTS_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_IN_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    tenants: _containers.RepeatedScalarFieldContainer[str]
    expires_in: _duration_pb2.Duration
    name: str
    def __init__(self, tenants: _Optional[_Iterable[str]] = ..., expires_in: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., name: _Optional[str] = ...) -> None: ...

class InviteSidecarResponse(_message.Message):
    __slots__ = ("token", "expires_at")
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    token: str
    expires_at: _timestamp_pb2.Timestamp
    def __init__(self, token: _Optional[str] = ..., expires_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class ListSidecarsRequest(_message.Message):
    __slots__ = ("tenant",)
    TENANT_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    def __init__(self, tenant: _Optional[str] = ...) -> None: ...

class ListSidecarsResponse(_message.Message):
    __slots__ = ("sidecars",)
    SIDECARS_FIELD_NUMBER: _ClassVar[int]
    sidecars: _containers.RepeatedCompositeFieldContainer[Sidecar]
    def __init__(self, sidecars: _Optional[_Iterable[_Union[Sidecar, _Mapping]]] = ...) -> None: ...

class RemoveSidecarRequest(_message.Message):
    __slots__ = ("id", "reason")
    ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    id: str
    reason: str
    def __init__(self, id: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class EnrolRequest(_message.Message):
    __slots__ = ("token", "csr")
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    CSR_FIELD_NUMBER: _ClassVar[int]
    token: str
    csr: bytes
    def __init__(self, token: _Optional[str] = ..., csr: _Optional[bytes] = ...) -> None: ...

class EnrolResponse(_message.Message):
    __slots__ = ("sidecar", "tenants", "certificates", "roots", "replication", "redis")
    SIDECAR_FIELD_NUMBER: _ClassVar[int]
    TENANTS_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATES_FIELD_NUMBER: _ClassVar[int]
    ROOTS_FIELD_NUMBER: _ClassVar[int]
    REPLICATION_FIELD_NUMBER: _ClassVar[int]
    REDIS_FIELD_NUMBER: _ClassVar[int]
    sidecar: str
    tenants: _containers.RepeatedScalarFieldContainer[str]
    certificates: _containers.RepeatedScalarFieldContainer[bytes]
    roots: _containers.RepeatedScalarFieldContainer[bytes]
    replication: str
    redis: Redis
    def __init__(self, sidecar: _Optional[str] = ..., tenants: _Optional[_Iterable[str]] = ..., certificates: _Optional[_Iterable[bytes]] = ..., roots: _Optional[_Iterable[bytes]] = ..., replication: _Optional[str] = ..., redis: _Optional[_Union[Redis, _Mapping]] = ...) -> None: ...

class Redis(_message.Message):
    __slots__ = ("url", "username", "password")
    URL_FIELD_NUMBER: _ClassVar[int]
    USERNAME_FIELD_NUMBER: _ClassVar[int]
    PASSWORD_FIELD_NUMBER: _ClassVar[int]
    url: str
    username: str
    password: str
    def __init__(self, url: _Optional[str] = ..., username: _Optional[str] = ..., password: _Optional[str] = ...) -> None: ...

class RenewRequest(_message.Message):
    __slots__ = ("csr",)
    CSR_FIELD_NUMBER: _ClassVar[int]
    csr: bytes
    def __init__(self, csr: _Optional[bytes] = ...) -> None: ...

class ReadTrustRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class StreamKey(_message.Message):
    __slots__ = ("kid", "public_key")
    KID_FIELD_NUMBER: _ClassVar[int]
    PUBLIC_KEY_FIELD_NUMBER: _ClassVar[int]
    kid: str
    public_key: bytes
    def __init__(self, kid: _Optional[str] = ..., public_key: _Optional[bytes] = ...) -> None: ...

class StreamTrust(_message.Message):
    __slots__ = ("stream", "keys", "epoch", "sequence")
    STREAM_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    stream: str
    keys: _containers.RepeatedCompositeFieldContainer[StreamKey]
    epoch: int
    sequence: int
    def __init__(self, stream: _Optional[str] = ..., keys: _Optional[_Iterable[_Union[StreamKey, _Mapping]]] = ..., epoch: _Optional[int] = ..., sequence: _Optional[int] = ...) -> None: ...

class Trust(_message.Message):
    __slots__ = ("streams", "jwks", "issuer")
    STREAMS_FIELD_NUMBER: _ClassVar[int]
    JWKS_FIELD_NUMBER: _ClassVar[int]
    ISSUER_FIELD_NUMBER: _ClassVar[int]
    streams: _containers.RepeatedCompositeFieldContainer[StreamTrust]
    jwks: str
    issuer: str
    def __init__(self, streams: _Optional[_Iterable[_Union[StreamTrust, _Mapping]]] = ..., jwks: _Optional[str] = ..., issuer: _Optional[str] = ...) -> None: ...

class PullEntriesRequest(_message.Message):
    __slots__ = ("stream", "epoch", "after_sequence")
    STREAM_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    AFTER_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    stream: str
    epoch: int
    after_sequence: int
    def __init__(self, stream: _Optional[str] = ..., epoch: _Optional[int] = ..., after_sequence: _Optional[int] = ...) -> None: ...

class SignedBatch(_message.Message):
    __slots__ = ("body", "signature", "kid")
    BODY_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    KID_FIELD_NUMBER: _ClassVar[int]
    body: bytes
    signature: bytes
    kid: str
    def __init__(self, body: _Optional[bytes] = ..., signature: _Optional[bytes] = ..., kid: _Optional[str] = ...) -> None: ...

class PullEntriesResponse(_message.Message):
    __slots__ = ("batches", "more", "heartbeat")
    BATCHES_FIELD_NUMBER: _ClassVar[int]
    MORE_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    batches: _containers.RepeatedCompositeFieldContainer[SignedBatch]
    more: bool
    heartbeat: SignedBatch
    def __init__(self, batches: _Optional[_Iterable[_Union[SignedBatch, _Mapping]]] = ..., more: _Optional[bool] = ..., heartbeat: _Optional[_Union[SignedBatch, _Mapping]] = ...) -> None: ...

class PullSnapshotRequest(_message.Message):
    __slots__ = ("stream", "epoch", "sequence")
    STREAM_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    stream: str
    epoch: int
    sequence: int
    def __init__(self, stream: _Optional[str] = ..., epoch: _Optional[int] = ..., sequence: _Optional[int] = ...) -> None: ...

class SnapshotChunk(_message.Message):
    __slots__ = ("description", "content")
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    description: SignedBatch
    content: bytes
    def __init__(self, description: _Optional[_Union[SignedBatch, _Mapping]] = ..., content: _Optional[bytes] = ...) -> None: ...

class ReadNewestRequest(_message.Message):
    __slots__ = ("tenant", "name", "known")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    KNOWN_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    name: str
    known: str
    def __init__(self, tenant: _Optional[str] = ..., name: _Optional[str] = ..., known: _Optional[str] = ...) -> None: ...

class Newest(_message.Message):
    __slots__ = ("sha256", "size", "cosignatures", "rollback", "timestamp", "delta")
    SHA256_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    COSIGNATURES_FIELD_NUMBER: _ClassVar[int]
    ROLLBACK_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    DELTA_FIELD_NUMBER: _ClassVar[int]
    sha256: str
    size: int
    cosignatures: bytes
    rollback: bytes
    timestamp: bytes
    delta: bytes
    def __init__(self, sha256: _Optional[str] = ..., size: _Optional[int] = ..., cosignatures: _Optional[bytes] = ..., rollback: _Optional[bytes] = ..., timestamp: _Optional[bytes] = ..., delta: _Optional[bytes] = ...) -> None: ...

class PullPieceRequest(_message.Message):
    __slots__ = ("tenant", "name", "sha256", "position")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    name: str
    sha256: str
    position: int
    def __init__(self, tenant: _Optional[str] = ..., name: _Optional[str] = ..., sha256: _Optional[str] = ..., position: _Optional[int] = ...) -> None: ...

class Piece(_message.Message):
    __slots__ = ("content",)
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    content: bytes
    def __init__(self, content: _Optional[bytes] = ...) -> None: ...

class BundleState(_message.Message):
    __slots__ = ("tenant", "name", "sha256", "refused", "code")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    name: str
    sha256: str
    refused: str
    code: str
    def __init__(self, tenant: _Optional[str] = ..., name: _Optional[str] = ..., sha256: _Optional[str] = ..., refused: _Optional[str] = ..., code: _Optional[str] = ...) -> None: ...

class ReportRequest(_message.Message):
    __slots__ = ("applied", "version")
    APPLIED_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    applied: _containers.RepeatedCompositeFieldContainer[Applied]
    version: str
    def __init__(self, applied: _Optional[_Iterable[_Union[Applied, _Mapping]]] = ..., version: _Optional[str] = ...) -> None: ...

class ReportResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ReportBundlesRequest(_message.Message):
    __slots__ = ("bundles",)
    BUNDLES_FIELD_NUMBER: _ClassVar[int]
    bundles: _containers.RepeatedCompositeFieldContainer[BundleState]
    def __init__(self, bundles: _Optional[_Iterable[_Union[BundleState, _Mapping]]] = ...) -> None: ...

class ReportBundlesResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class RolloutReport(_message.Message):
    __slots__ = ("tenant", "rollout", "version", "ready", "refused", "tripped", "golden", "findings", "pinned")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    ROLLOUT_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    READY_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    TRIPPED_FIELD_NUMBER: _ClassVar[int]
    GOLDEN_FIELD_NUMBER: _ClassVar[int]
    FINDINGS_FIELD_NUMBER: _ClassVar[int]
    PINNED_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    rollout: str
    version: int
    ready: bool
    refused: str
    tripped: str
    golden: str
    findings: _containers.RepeatedCompositeFieldContainer[RolloutFindings]
    pinned: str
    def __init__(self, tenant: _Optional[str] = ..., rollout: _Optional[str] = ..., version: _Optional[int] = ..., ready: _Optional[bool] = ..., refused: _Optional[str] = ..., tripped: _Optional[str] = ..., golden: _Optional[str] = ..., findings: _Optional[_Iterable[_Union[RolloutFindings, _Mapping]]] = ..., pinned: _Optional[str] = ...) -> None: ...

class RolloutFindings(_message.Message):
    __slots__ = ("stage_since_ns", "run", "window", "counted")
    STAGE_SINCE_NS_FIELD_NUMBER: _ClassVar[int]
    RUN_FIELD_NUMBER: _ClassVar[int]
    WINDOW_FIELD_NUMBER: _ClassVar[int]
    COUNTED_FIELD_NUMBER: _ClassVar[int]
    stage_since_ns: int
    run: str
    window: int
    counted: bytes
    def __init__(self, stage_since_ns: _Optional[int] = ..., run: _Optional[str] = ..., window: _Optional[int] = ..., counted: _Optional[bytes] = ...) -> None: ...

class ReportRolloutsRequest(_message.Message):
    __slots__ = ("reports",)
    REPORTS_FIELD_NUMBER: _ClassVar[int]
    reports: _containers.RepeatedCompositeFieldContainer[RolloutReport]
    def __init__(self, reports: _Optional[_Iterable[_Union[RolloutReport, _Mapping]]] = ...) -> None: ...

class ReportRolloutsResponse(_message.Message):
    __slots__ = ("directives",)
    DIRECTIVES_FIELD_NUMBER: _ClassVar[int]
    directives: _containers.RepeatedCompositeFieldContainer[SignedBatch]
    def __init__(self, directives: _Optional[_Iterable[_Union[SignedBatch, _Mapping]]] = ...) -> None: ...

class PullCandidateRequest(_message.Message):
    __slots__ = ("tenant", "sha256", "position")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    sha256: str
    position: int
    def __init__(self, tenant: _Optional[str] = ..., sha256: _Optional[str] = ..., position: _Optional[int] = ...) -> None: ...

class PullCandidateResponse(_message.Message):
    __slots__ = ("content", "cosignatures")
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    COSIGNATURES_FIELD_NUMBER: _ClassVar[int]
    content: bytes
    cosignatures: bytes
    def __init__(self, content: _Optional[bytes] = ..., cosignatures: _Optional[bytes] = ...) -> None: ...
