import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class BundleEventKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    BUNDLE_EVENT_KIND_UNSPECIFIED: _ClassVar[BundleEventKind]
    BUNDLE_EVENT_KIND_PUSHED: _ClassVar[BundleEventKind]
    BUNDLE_EVENT_KIND_HELD: _ClassVar[BundleEventKind]
    BUNDLE_EVENT_KIND_RELEASED: _ClassVar[BundleEventKind]
    BUNDLE_EVENT_KIND_RETIRED: _ClassVar[BundleEventKind]
    BUNDLE_EVENT_KIND_COLLECTED: _ClassVar[BundleEventKind]
BUNDLE_EVENT_KIND_UNSPECIFIED: BundleEventKind
BUNDLE_EVENT_KIND_PUSHED: BundleEventKind
BUNDLE_EVENT_KIND_HELD: BundleEventKind
BUNDLE_EVENT_KIND_RELEASED: BundleEventKind
BUNDLE_EVENT_KIND_RETIRED: BundleEventKind
BUNDLE_EVENT_KIND_COLLECTED: BundleEventKind

class Revision(_message.Message):
    __slots__ = ("tenant", "name", "sha256", "digest", "revision", "sequence", "change_id", "size", "signed_by", "expires_at", "pushed_at", "pushed_by", "newest", "held_at", "retired_at", "collected_at")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    CHANGE_ID_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    SIGNED_BY_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    PUSHED_AT_FIELD_NUMBER: _ClassVar[int]
    PUSHED_BY_FIELD_NUMBER: _ClassVar[int]
    NEWEST_FIELD_NUMBER: _ClassVar[int]
    HELD_AT_FIELD_NUMBER: _ClassVar[int]
    RETIRED_AT_FIELD_NUMBER: _ClassVar[int]
    COLLECTED_AT_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    name: str
    sha256: str
    digest: str
    revision: str
    sequence: int
    change_id: str
    size: int
    signed_by: _containers.RepeatedScalarFieldContainer[str]
    expires_at: _timestamp_pb2.Timestamp
    pushed_at: _timestamp_pb2.Timestamp
    pushed_by: str
    newest: bool
    held_at: _timestamp_pb2.Timestamp
    retired_at: _timestamp_pb2.Timestamp
    collected_at: _timestamp_pb2.Timestamp
    def __init__(self, tenant: _Optional[str] = ..., name: _Optional[str] = ..., sha256: _Optional[str] = ..., digest: _Optional[str] = ..., revision: _Optional[str] = ..., sequence: _Optional[int] = ..., change_id: _Optional[str] = ..., size: _Optional[int] = ..., signed_by: _Optional[_Iterable[str]] = ..., expires_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., pushed_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., pushed_by: _Optional[str] = ..., newest: _Optional[bool] = ..., held_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., retired_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., collected_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class Statements(_message.Message):
    __slots__ = ("cosignatures", "rollback", "timestamp")
    COSIGNATURES_FIELD_NUMBER: _ClassVar[int]
    ROLLBACK_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    cosignatures: bytes
    rollback: bytes
    timestamp: bytes
    def __init__(self, cosignatures: _Optional[bytes] = ..., rollback: _Optional[bytes] = ..., timestamp: _Optional[bytes] = ...) -> None: ...

class PushBundleRequest(_message.Message):
    __slots__ = ("tenant", "name", "archive", "statements", "reason")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    ARCHIVE_FIELD_NUMBER: _ClassVar[int]
    STATEMENTS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    name: str
    archive: bytes
    statements: Statements
    reason: str
    def __init__(self, tenant: _Optional[str] = ..., name: _Optional[str] = ..., archive: _Optional[bytes] = ..., statements: _Optional[_Union[Statements, _Mapping]] = ..., reason: _Optional[str] = ...) -> None: ...

class ListBundlesRequest(_message.Message):
    __slots__ = ("tenant",)
    TENANT_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    def __init__(self, tenant: _Optional[str] = ...) -> None: ...

class ListBundlesResponse(_message.Message):
    __slots__ = ("bundles",)
    BUNDLES_FIELD_NUMBER: _ClassVar[int]
    bundles: _containers.RepeatedCompositeFieldContainer[Revision]
    def __init__(self, bundles: _Optional[_Iterable[_Union[Revision, _Mapping]]] = ...) -> None: ...

class ReadBundleRequest(_message.Message):
    __slots__ = ("tenant", "name")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    name: str
    def __init__(self, tenant: _Optional[str] = ..., name: _Optional[str] = ...) -> None: ...

class ReadHistoryRequest(_message.Message):
    __slots__ = ("tenant", "name")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    name: str
    def __init__(self, tenant: _Optional[str] = ..., name: _Optional[str] = ...) -> None: ...

class ReadHistoryResponse(_message.Message):
    __slots__ = ("revisions", "events")
    REVISIONS_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    revisions: _containers.RepeatedCompositeFieldContainer[Revision]
    events: _containers.RepeatedCompositeFieldContainer[BundleEvent]
    def __init__(self, revisions: _Optional[_Iterable[_Union[Revision, _Mapping]]] = ..., events: _Optional[_Iterable[_Union[BundleEvent, _Mapping]]] = ...) -> None: ...

class BundleEvent(_message.Message):
    __slots__ = ("kind", "sha256", "at", "by", "reason")
    KIND_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    AT_FIELD_NUMBER: _ClassVar[int]
    BY_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    kind: BundleEventKind
    sha256: str
    at: _timestamp_pb2.Timestamp
    by: str
    reason: str
    def __init__(self, kind: _Optional[_Union[BundleEventKind, str]] = ..., sha256: _Optional[str] = ..., at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., by: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class HoldRevisionRequest(_message.Message):
    __slots__ = ("tenant", "name", "sha256", "reason")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    name: str
    sha256: str
    reason: str
    def __init__(self, tenant: _Optional[str] = ..., name: _Optional[str] = ..., sha256: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class ReleaseRevisionRequest(_message.Message):
    __slots__ = ("tenant", "name", "sha256", "reason")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    name: str
    sha256: str
    reason: str
    def __init__(self, tenant: _Optional[str] = ..., name: _Optional[str] = ..., sha256: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class RetireRevisionRequest(_message.Message):
    __slots__ = ("tenant", "name", "sha256", "reason")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    name: str
    sha256: str
    reason: str
    def __init__(self, tenant: _Optional[str] = ..., name: _Optional[str] = ..., sha256: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...
