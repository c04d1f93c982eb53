import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ScopeKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SCOPE_KIND_UNSPECIFIED: _ClassVar[ScopeKind]
    SCOPE_KIND_AGENT: _ClassVar[ScopeKind]
    SCOPE_KIND_SESSION: _ClassVar[ScopeKind]
    SCOPE_KIND_TOKEN: _ClassVar[ScopeKind]
    SCOPE_KIND_SUBTREE: _ClassVar[ScopeKind]
    SCOPE_KIND_OVERRIDE: _ClassVar[ScopeKind]
    SCOPE_KIND_TOOL: _ClassVar[ScopeKind]
    SCOPE_KIND_CAPABILITY: _ClassVar[ScopeKind]
    SCOPE_KIND_CONNECTOR: _ClassVar[ScopeKind]
    SCOPE_KIND_DESTINATION: _ClassVar[ScopeKind]
    SCOPE_KIND_MEMORY_WRITES: _ClassVar[ScopeKind]
    SCOPE_KIND_TENANT: _ClassVar[ScopeKind]
    SCOPE_KIND_GLOBAL: _ClassVar[ScopeKind]

class KillState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    KILL_STATE_UNSPECIFIED: _ClassVar[KillState]
    KILL_STATE_AWAITING_CONFIRMATION: _ClassVar[KillState]
    KILL_STATE_IN_FORCE: _ClassVar[KillState]
    KILL_STATE_AWAITING_LIFT_CONFIRMATION: _ClassVar[KillState]
    KILL_STATE_LIFTED: _ClassVar[KillState]
    KILL_STATE_EXPIRED: _ClassVar[KillState]
    KILL_STATE_LAPSED: _ClassVar[KillState]
SCOPE_KIND_UNSPECIFIED: ScopeKind
SCOPE_KIND_AGENT: ScopeKind
SCOPE_KIND_SESSION: ScopeKind
SCOPE_KIND_TOKEN: ScopeKind
SCOPE_KIND_SUBTREE: ScopeKind
SCOPE_KIND_OVERRIDE: ScopeKind
SCOPE_KIND_TOOL: ScopeKind
SCOPE_KIND_CAPABILITY: ScopeKind
SCOPE_KIND_CONNECTOR: ScopeKind
SCOPE_KIND_DESTINATION: ScopeKind
SCOPE_KIND_MEMORY_WRITES: ScopeKind
SCOPE_KIND_TENANT: ScopeKind
SCOPE_KIND_GLOBAL: ScopeKind
KILL_STATE_UNSPECIFIED: KillState
KILL_STATE_AWAITING_CONFIRMATION: KillState
KILL_STATE_IN_FORCE: KillState
KILL_STATE_AWAITING_LIFT_CONFIRMATION: KillState
KILL_STATE_LIFTED: KillState
KILL_STATE_EXPIRED: KillState
KILL_STATE_LAPSED: KillState

class Scope(_message.Message):
    __slots__ = ("kind", "tenant", "value")
    KIND_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    kind: ScopeKind
    tenant: str
    value: str
    def __init__(self, kind: _Optional[_Union[ScopeKind, str]] = ..., tenant: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...

class Kill(_message.Message):
    __slots__ = ("id", "scope", "state", "reason", "incident", "created_by", "created_at", "expires_at", "confirmed_by", "lifted_by", "lifted_at", "lift_reason", "sequence", "epoch", "lift_confirmed_by")
    ID_FIELD_NUMBER: _ClassVar[int]
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    INCIDENT_FIELD_NUMBER: _ClassVar[int]
    CREATED_BY_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    CONFIRMED_BY_FIELD_NUMBER: _ClassVar[int]
    LIFTED_BY_FIELD_NUMBER: _ClassVar[int]
    LIFTED_AT_FIELD_NUMBER: _ClassVar[int]
    LIFT_REASON_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    LIFT_CONFIRMED_BY_FIELD_NUMBER: _ClassVar[int]
    id: str
    scope: Scope
    state: KillState
    reason: str
    incident: str
    created_by: str
    created_at: _timestamp_pb2.Timestamp
    expires_at: _timestamp_pb2.Timestamp
    confirmed_by: str
    lifted_by: str
    lifted_at: _timestamp_pb2.Timestamp
    lift_reason: str
    sequence: int
    epoch: int
    lift_confirmed_by: str
    def __init__(self, id: _Optional[str] = ..., scope: _Optional[_Union[Scope, _Mapping]] = ..., state: _Optional[_Union[KillState, str]] = ..., reason: _Optional[str] = ..., incident: _Optional[str] = ..., created_by: _Optional[str] = ..., created_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., expires_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., confirmed_by: _Optional[str] = ..., lifted_by: _Optional[str] = ..., lifted_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., lift_reason: _Optional[str] = ..., sequence: _Optional[int] = ..., epoch: _Optional[int] = ..., lift_confirmed_by: _Optional[str] = ...) -> None: ...

class CreateKillRequest(_message.Message):
    __slots__ = ("scope", "reason", "expires_in", "incident", "wait", "idempotency_key")
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_IN_FIELD_NUMBER: _ClassVar[int]
    INCIDENT_FIELD_NUMBER: _ClassVar[int]
    WAIT_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    scope: Scope
    reason: str
    expires_in: _duration_pb2.Duration
    incident: str
    wait: _duration_pb2.Duration
    idempotency_key: str
    def __init__(self, scope: _Optional[_Union[Scope, _Mapping]] = ..., reason: _Optional[str] = ..., expires_in: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., incident: _Optional[str] = ..., wait: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., idempotency_key: _Optional[str] = ...) -> None: ...

class ConfirmKillRequest(_message.Message):
    __slots__ = ("id", "tenant", "wait")
    ID_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    WAIT_FIELD_NUMBER: _ClassVar[int]
    id: str
    tenant: str
    wait: _duration_pb2.Duration
    def __init__(self, id: _Optional[str] = ..., tenant: _Optional[str] = ..., wait: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class LiftKillRequest(_message.Message):
    __slots__ = ("id", "tenant", "reason", "wait")
    ID_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    WAIT_FIELD_NUMBER: _ClassVar[int]
    id: str
    tenant: str
    reason: str
    wait: _duration_pb2.Duration
    def __init__(self, id: _Optional[str] = ..., tenant: _Optional[str] = ..., reason: _Optional[str] = ..., wait: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class ReadKillRequest(_message.Message):
    __slots__ = ("id", "tenant")
    ID_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    id: str
    tenant: str
    def __init__(self, id: _Optional[str] = ..., tenant: _Optional[str] = ...) -> None: ...

class ListKillsRequest(_message.Message):
    __slots__ = ("tenant", "all", "page_size", "page_token")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    ALL_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    all: bool
    page_size: int
    page_token: str
    def __init__(self, tenant: _Optional[str] = ..., all: _Optional[bool] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListKillsResponse(_message.Message):
    __slots__ = ("kills", "next_page_token")
    KILLS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    kills: _containers.RepeatedCompositeFieldContainer[Kill]
    next_page_token: str
    def __init__(self, kills: _Optional[_Iterable[_Union[Kill, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class WatchKillsRequest(_message.Message):
    __slots__ = ("tenant", "sequence")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    sequence: int
    def __init__(self, tenant: _Optional[str] = ..., sequence: _Optional[int] = ...) -> None: ...

class Confirmation(_message.Message):
    __slots__ = ("sidecar", "applied_sequence", "ms")
    SIDECAR_FIELD_NUMBER: _ClassVar[int]
    APPLIED_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    MS_FIELD_NUMBER: _ClassVar[int]
    sidecar: str
    applied_sequence: int
    ms: float
    def __init__(self, sidecar: _Optional[str] = ..., applied_sequence: _Optional[int] = ..., ms: _Optional[float] = ...) -> None: ...

class KillReceipt(_message.Message):
    __slots__ = ("kill", "confirmed", "unreached", "redis")
    KILL_FIELD_NUMBER: _ClassVar[int]
    CONFIRMED_FIELD_NUMBER: _ClassVar[int]
    UNREACHED_FIELD_NUMBER: _ClassVar[int]
    REDIS_FIELD_NUMBER: _ClassVar[int]
    kill: Kill
    confirmed: _containers.RepeatedCompositeFieldContainer[Confirmation]
    unreached: _containers.RepeatedScalarFieldContainer[str]
    redis: str
    def __init__(self, kill: _Optional[_Union[Kill, _Mapping]] = ..., confirmed: _Optional[_Iterable[_Union[Confirmation, _Mapping]]] = ..., unreached: _Optional[_Iterable[str]] = ..., redis: _Optional[str] = ...) -> None: ...
