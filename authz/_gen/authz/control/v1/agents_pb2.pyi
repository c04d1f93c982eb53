import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Autonomy(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    AUTONOMY_UNSPECIFIED: _ClassVar[Autonomy]
    AUTONOMY_OBSERVE: _ClassVar[Autonomy]
    AUTONOMY_ACT_WITH_APPROVAL: _ClassVar[Autonomy]
    AUTONOMY_ACT_WITHIN_LIMITS: _ClassVar[Autonomy]
    AUTONOMY_AUTONOMOUS: _ClassVar[Autonomy]

class Lifecycle(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    LIFECYCLE_UNSPECIFIED: _ClassVar[Lifecycle]
    LIFECYCLE_ACTIVE: _ClassVar[Lifecycle]
    LIFECYCLE_PAUSED: _ClassVar[Lifecycle]
    LIFECYCLE_RETIRED: _ClassVar[Lifecycle]
AUTONOMY_UNSPECIFIED: Autonomy
AUTONOMY_OBSERVE: Autonomy
AUTONOMY_ACT_WITH_APPROVAL: Autonomy
AUTONOMY_ACT_WITHIN_LIMITS: Autonomy
AUTONOMY_AUTONOMOUS: Autonomy
LIFECYCLE_UNSPECIFIED: Lifecycle
LIFECYCLE_ACTIVE: Lifecycle
LIFECYCLE_PAUSED: Lifecycle
LIFECYCLE_RETIRED: Lifecycle

class Credential(_message.Message):
    __slots__ = ("id", "public_jwk", "certificate_sha256", "created_at", "revoked_at")
    ID_FIELD_NUMBER: _ClassVar[int]
    PUBLIC_JWK_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_SHA256_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    REVOKED_AT_FIELD_NUMBER: _ClassVar[int]
    id: str
    public_jwk: str
    certificate_sha256: str
    created_at: _timestamp_pb2.Timestamp
    revoked_at: _timestamp_pb2.Timestamp
    def __init__(self, id: _Optional[str] = ..., public_jwk: _Optional[str] = ..., certificate_sha256: _Optional[str] = ..., created_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., revoked_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class Ceiling(_message.Message):
    __slots__ = ("scopes", "tools")
    class Names(_message.Message):
        __slots__ = ("names",)
        NAMES_FIELD_NUMBER: _ClassVar[int]
        names: _containers.RepeatedScalarFieldContainer[str]
        def __init__(self, names: _Optional[_Iterable[str]] = ...) -> None: ...
    SCOPES_FIELD_NUMBER: _ClassVar[int]
    TOOLS_FIELD_NUMBER: _ClassVar[int]
    scopes: Ceiling.Names
    tools: Ceiling.Names
    def __init__(self, scopes: _Optional[_Union[Ceiling.Names, _Mapping]] = ..., tools: _Optional[_Union[Ceiling.Names, _Mapping]] = ...) -> None: ...

class Agent(_message.Message):
    __slots__ = ("tenant", "id", "owner", "purpose", "autonomy", "lifecycle", "memory_writes_paused", "ceiling", "credentials", "version", "parents", "created_at", "updated_at")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    PURPOSE_FIELD_NUMBER: _ClassVar[int]
    AUTONOMY_FIELD_NUMBER: _ClassVar[int]
    LIFECYCLE_FIELD_NUMBER: _ClassVar[int]
    MEMORY_WRITES_PAUSED_FIELD_NUMBER: _ClassVar[int]
    CEILING_FIELD_NUMBER: _ClassVar[int]
    CREDENTIALS_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    PARENTS_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    UPDATED_AT_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    id: str
    owner: str
    purpose: str
    autonomy: Autonomy
    lifecycle: Lifecycle
    memory_writes_paused: bool
    ceiling: Ceiling
    credentials: _containers.RepeatedCompositeFieldContainer[Credential]
    version: int
    parents: _containers.RepeatedScalarFieldContainer[str]
    created_at: _timestamp_pb2.Timestamp
    updated_at: _timestamp_pb2.Timestamp
    def __init__(self, tenant: _Optional[str] = ..., id: _Optional[str] = ..., owner: _Optional[str] = ..., purpose: _Optional[str] = ..., autonomy: _Optional[_Union[Autonomy, str]] = ..., lifecycle: _Optional[_Union[Lifecycle, str]] = ..., memory_writes_paused: _Optional[bool] = ..., ceiling: _Optional[_Union[Ceiling, _Mapping]] = ..., credentials: _Optional[_Iterable[_Union[Credential, _Mapping]]] = ..., version: _Optional[int] = ..., parents: _Optional[_Iterable[str]] = ..., created_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., updated_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class AgentVersion(_message.Message):
    __slots__ = ("version", "at", "by", "reason", "changed")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    AT_FIELD_NUMBER: _ClassVar[int]
    BY_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    CHANGED_FIELD_NUMBER: _ClassVar[int]
    version: int
    at: _timestamp_pb2.Timestamp
    by: str
    reason: str
    changed: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, version: _Optional[int] = ..., at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., by: _Optional[str] = ..., reason: _Optional[str] = ..., changed: _Optional[_Iterable[str]] = ...) -> None: ...

class CreateAgentRequest(_message.Message):
    __slots__ = ("agent", "reason")
    AGENT_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    agent: Agent
    reason: str
    def __init__(self, agent: _Optional[_Union[Agent, _Mapping]] = ..., reason: _Optional[str] = ...) -> None: ...

class ReadAgentRequest(_message.Message):
    __slots__ = ("tenant", "id")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    id: str
    def __init__(self, tenant: _Optional[str] = ..., id: _Optional[str] = ...) -> None: ...

class ListAgentsRequest(_message.Message):
    __slots__ = ("tenant", "page_size", "page_token", "lifecycle")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    LIFECYCLE_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    page_size: int
    page_token: str
    lifecycle: Lifecycle
    def __init__(self, tenant: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., lifecycle: _Optional[_Union[Lifecycle, str]] = ...) -> None: ...

class ListAgentsResponse(_message.Message):
    __slots__ = ("agents", "next_page_token", "stopped")
    AGENTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    STOPPED_FIELD_NUMBER: _ClassVar[int]
    agents: _containers.RepeatedCompositeFieldContainer[Agent]
    next_page_token: str
    stopped: _containers.RepeatedCompositeFieldContainer[StoppedAgent]
    def __init__(self, agents: _Optional[_Iterable[_Union[Agent, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., stopped: _Optional[_Iterable[_Union[StoppedAgent, _Mapping]]] = ...) -> None: ...

class StoppedAgent(_message.Message):
    __slots__ = ("id", "kills")
    ID_FIELD_NUMBER: _ClassVar[int]
    KILLS_FIELD_NUMBER: _ClassVar[int]
    id: str
    kills: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, id: _Optional[str] = ..., kills: _Optional[_Iterable[str]] = ...) -> None: ...

class UpdateAgentRequest(_message.Message):
    __slots__ = ("tenant", "id", "version", "reason", "owner", "purpose", "autonomy", "memory_writes_paused", "ceiling")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    PURPOSE_FIELD_NUMBER: _ClassVar[int]
    AUTONOMY_FIELD_NUMBER: _ClassVar[int]
    MEMORY_WRITES_PAUSED_FIELD_NUMBER: _ClassVar[int]
    CEILING_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    id: str
    version: int
    reason: str
    owner: str
    purpose: str
    autonomy: Autonomy
    memory_writes_paused: bool
    ceiling: Ceiling
    def __init__(self, tenant: _Optional[str] = ..., id: _Optional[str] = ..., version: _Optional[int] = ..., reason: _Optional[str] = ..., owner: _Optional[str] = ..., purpose: _Optional[str] = ..., autonomy: _Optional[_Union[Autonomy, str]] = ..., memory_writes_paused: _Optional[bool] = ..., ceiling: _Optional[_Union[Ceiling, _Mapping]] = ...) -> None: ...

class SetLifecycleRequest(_message.Message):
    __slots__ = ("tenant", "id", "lifecycle", "reason")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    LIFECYCLE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    id: str
    lifecycle: Lifecycle
    reason: str
    def __init__(self, tenant: _Optional[str] = ..., id: _Optional[str] = ..., lifecycle: _Optional[_Union[Lifecycle, str]] = ..., reason: _Optional[str] = ...) -> None: ...

class RotateCredentialRequest(_message.Message):
    __slots__ = ("tenant", "id", "revoke", "credential", "reason")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    REVOKE_FIELD_NUMBER: _ClassVar[int]
    CREDENTIAL_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    id: str
    revoke: _containers.RepeatedScalarFieldContainer[str]
    credential: Credential
    reason: str
    def __init__(self, tenant: _Optional[str] = ..., id: _Optional[str] = ..., revoke: _Optional[_Iterable[str]] = ..., credential: _Optional[_Union[Credential, _Mapping]] = ..., reason: _Optional[str] = ...) -> None: ...

class ReadPassportRequest(_message.Message):
    __slots__ = ("tenant", "id")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    id: str
    def __init__(self, tenant: _Optional[str] = ..., id: _Optional[str] = ...) -> None: ...

class Passport(_message.Message):
    __slots__ = ("agent", "versions", "kills", "live_tokens", "children")
    AGENT_FIELD_NUMBER: _ClassVar[int]
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    KILLS_FIELD_NUMBER: _ClassVar[int]
    LIVE_TOKENS_FIELD_NUMBER: _ClassVar[int]
    CHILDREN_FIELD_NUMBER: _ClassVar[int]
    agent: Agent
    versions: _containers.RepeatedCompositeFieldContainer[AgentVersion]
    kills: _containers.RepeatedScalarFieldContainer[str]
    live_tokens: int
    children: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, agent: _Optional[_Union[Agent, _Mapping]] = ..., versions: _Optional[_Iterable[_Union[AgentVersion, _Mapping]]] = ..., kills: _Optional[_Iterable[str]] = ..., live_tokens: _Optional[int] = ..., children: _Optional[_Iterable[str]] = ...) -> None: ...
