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

class RolloutState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ROLLOUT_STATE_UNSPECIFIED: _ClassVar[RolloutState]
    ROLLOUT_STATE_DRAFT: _ClassVar[RolloutState]
    ROLLOUT_STATE_SHADOW: _ClassVar[RolloutState]
    ROLLOUT_STATE_CANARY: _ClassVar[RolloutState]
    ROLLOUT_STATE_ENFORCED: _ClassVar[RolloutState]
    ROLLOUT_STATE_ROLLED_BACK: _ClassVar[RolloutState]
    ROLLOUT_STATE_ABORTED: _ClassVar[RolloutState]
    ROLLOUT_STATE_STRICTER: _ClassVar[RolloutState]
ROLLOUT_STATE_UNSPECIFIED: RolloutState
ROLLOUT_STATE_DRAFT: RolloutState
ROLLOUT_STATE_SHADOW: RolloutState
ROLLOUT_STATE_CANARY: RolloutState
ROLLOUT_STATE_ENFORCED: RolloutState
ROLLOUT_STATE_ROLLED_BACK: RolloutState
ROLLOUT_STATE_ABORTED: RolloutState
ROLLOUT_STATE_STRICTER: RolloutState

class Tolerances(_message.Message):
    __slots__ = ("samples", "flips", "errors", "deny_rate", "approval_rate", "latency_ratio")
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    FLIPS_FIELD_NUMBER: _ClassVar[int]
    ERRORS_FIELD_NUMBER: _ClassVar[int]
    DENY_RATE_FIELD_NUMBER: _ClassVar[int]
    APPROVAL_RATE_FIELD_NUMBER: _ClassVar[int]
    LATENCY_RATIO_FIELD_NUMBER: _ClassVar[int]
    samples: int
    flips: float
    errors: float
    deny_rate: float
    approval_rate: float
    latency_ratio: float
    def __init__(self, samples: _Optional[int] = ..., flips: _Optional[float] = ..., errors: _Optional[float] = ..., deny_rate: _Optional[float] = ..., approval_rate: _Optional[float] = ..., latency_ratio: _Optional[float] = ...) -> None: ...

class Freeze(_message.Message):
    __slots__ = ("until",)
    FROM_FIELD_NUMBER: _ClassVar[int]
    UNTIL_FIELD_NUMBER: _ClassVar[int]
    until: _timestamp_pb2.Timestamp
    def __init__(self, until: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., **kwargs) -> None: ...

class RolloutPlan(_message.Message):
    __slots__ = ("waves", "no_canary", "no_shadow", "by_hand", "four_eyes", "stage", "not_before", "freezes", "tolerances")
    WAVES_FIELD_NUMBER: _ClassVar[int]
    NO_CANARY_FIELD_NUMBER: _ClassVar[int]
    NO_SHADOW_FIELD_NUMBER: _ClassVar[int]
    BY_HAND_FIELD_NUMBER: _ClassVar[int]
    FOUR_EYES_FIELD_NUMBER: _ClassVar[int]
    STAGE_FIELD_NUMBER: _ClassVar[int]
    NOT_BEFORE_FIELD_NUMBER: _ClassVar[int]
    FREEZES_FIELD_NUMBER: _ClassVar[int]
    TOLERANCES_FIELD_NUMBER: _ClassVar[int]
    waves: _containers.RepeatedScalarFieldContainer[float]
    no_canary: bool
    no_shadow: bool
    by_hand: bool
    four_eyes: bool
    stage: _duration_pb2.Duration
    not_before: _timestamp_pb2.Timestamp
    freezes: _containers.RepeatedCompositeFieldContainer[Freeze]
    tolerances: Tolerances
    def __init__(self, waves: _Optional[_Iterable[float]] = ..., no_canary: _Optional[bool] = ..., no_shadow: _Optional[bool] = ..., by_hand: _Optional[bool] = ..., four_eyes: _Optional[bool] = ..., stage: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., not_before: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., freezes: _Optional[_Iterable[_Union[Freeze, _Mapping]]] = ..., tolerances: _Optional[_Union[Tolerances, _Mapping]] = ...) -> None: ...

class Rollout(_message.Message):
    __slots__ = ("id", "tenant", "baseline", "candidate", "state", "stage", "share", "paused", "overruled", "version", "created_by", "created_at", "stage_since", "plan", "serving")
    ID_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    BASELINE_FIELD_NUMBER: _ClassVar[int]
    CANDIDATE_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    STAGE_FIELD_NUMBER: _ClassVar[int]
    SHARE_FIELD_NUMBER: _ClassVar[int]
    PAUSED_FIELD_NUMBER: _ClassVar[int]
    OVERRULED_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    CREATED_BY_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    STAGE_SINCE_FIELD_NUMBER: _ClassVar[int]
    PLAN_FIELD_NUMBER: _ClassVar[int]
    SERVING_FIELD_NUMBER: _ClassVar[int]
    id: str
    tenant: str
    baseline: str
    candidate: str
    state: RolloutState
    stage: str
    share: float
    paused: bool
    overruled: bool
    version: int
    created_by: str
    created_at: _timestamp_pb2.Timestamp
    stage_since: _timestamp_pb2.Timestamp
    plan: RolloutPlan
    serving: str
    def __init__(self, id: _Optional[str] = ..., tenant: _Optional[str] = ..., baseline: _Optional[str] = ..., candidate: _Optional[str] = ..., state: _Optional[_Union[RolloutState, str]] = ..., stage: _Optional[str] = ..., share: _Optional[float] = ..., paused: _Optional[bool] = ..., overruled: _Optional[bool] = ..., version: _Optional[int] = ..., created_by: _Optional[str] = ..., created_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., stage_since: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., plan: _Optional[_Union[RolloutPlan, _Mapping]] = ..., serving: _Optional[str] = ...) -> None: ...

class GateReading(_message.Message):
    __slots__ = ("gate", "outcome", "figures")
    class FiguresEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    GATE_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    FIGURES_FIELD_NUMBER: _ClassVar[int]
    gate: str
    outcome: str
    figures: _containers.ScalarMap[str, float]
    def __init__(self, gate: _Optional[str] = ..., outcome: _Optional[str] = ..., figures: _Optional[_Mapping[str, float]] = ...) -> None: ...

class Ranking(_message.Message):
    __slots__ = ("by", "calls")
    class CallsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    BY_FIELD_NUMBER: _ClassVar[int]
    CALLS_FIELD_NUMBER: _ClassVar[int]
    by: str
    calls: _containers.ScalarMap[str, int]
    def __init__(self, by: _Optional[str] = ..., calls: _Optional[_Mapping[str, int]] = ...) -> None: ...

class Disagreement(_message.Message):
    __slots__ = ("decision_id", "agent", "tool", "baseline", "candidate", "rules")
    DECISION_ID_FIELD_NUMBER: _ClassVar[int]
    AGENT_FIELD_NUMBER: _ClassVar[int]
    TOOL_FIELD_NUMBER: _ClassVar[int]
    BASELINE_FIELD_NUMBER: _ClassVar[int]
    CANDIDATE_FIELD_NUMBER: _ClassVar[int]
    RULES_FIELD_NUMBER: _ClassVar[int]
    decision_id: str
    agent: str
    tool: str
    baseline: str
    candidate: str
    rules: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, decision_id: _Optional[str] = ..., agent: _Optional[str] = ..., tool: _Optional[str] = ..., baseline: _Optional[str] = ..., candidate: _Optional[str] = ..., rules: _Optional[_Iterable[str]] = ...) -> None: ...

class SidecarStanding(_message.Message):
    __slots__ = ("sidecar", "version", "ready", "refused", "tripped", "golden", "heard_at", "pinned")
    SIDECAR_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    READY_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    TRIPPED_FIELD_NUMBER: _ClassVar[int]
    GOLDEN_FIELD_NUMBER: _ClassVar[int]
    HEARD_AT_FIELD_NUMBER: _ClassVar[int]
    PINNED_FIELD_NUMBER: _ClassVar[int]
    sidecar: str
    version: int
    ready: bool
    refused: str
    tripped: str
    golden: str
    heard_at: _timestamp_pb2.Timestamp
    pinned: str
    def __init__(self, sidecar: _Optional[str] = ..., version: _Optional[int] = ..., ready: _Optional[bool] = ..., refused: _Optional[str] = ..., tripped: _Optional[str] = ..., golden: _Optional[str] = ..., heard_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., pinned: _Optional[str] = ...) -> None: ...

class RolloutStatus(_message.Message):
    __slots__ = ("rollout", "outcome", "gates", "rankings", "examples", "sidecars", "compared", "shed")
    ROLLOUT_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    GATES_FIELD_NUMBER: _ClassVar[int]
    RANKINGS_FIELD_NUMBER: _ClassVar[int]
    EXAMPLES_FIELD_NUMBER: _ClassVar[int]
    SIDECARS_FIELD_NUMBER: _ClassVar[int]
    COMPARED_FIELD_NUMBER: _ClassVar[int]
    SHED_FIELD_NUMBER: _ClassVar[int]
    rollout: Rollout
    outcome: str
    gates: _containers.RepeatedCompositeFieldContainer[GateReading]
    rankings: _containers.RepeatedCompositeFieldContainer[Ranking]
    examples: _containers.RepeatedCompositeFieldContainer[Disagreement]
    sidecars: _containers.RepeatedCompositeFieldContainer[SidecarStanding]
    compared: int
    shed: int
    def __init__(self, rollout: _Optional[_Union[Rollout, _Mapping]] = ..., outcome: _Optional[str] = ..., gates: _Optional[_Iterable[_Union[GateReading, _Mapping]]] = ..., rankings: _Optional[_Iterable[_Union[Ranking, _Mapping]]] = ..., examples: _Optional[_Iterable[_Union[Disagreement, _Mapping]]] = ..., sidecars: _Optional[_Iterable[_Union[SidecarStanding, _Mapping]]] = ..., compared: _Optional[int] = ..., shed: _Optional[int] = ...) -> None: ...

class StartRolloutRequest(_message.Message):
    __slots__ = ("tenant", "baseline", "candidate", "plan", "reason", "overrule")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    BASELINE_FIELD_NUMBER: _ClassVar[int]
    CANDIDATE_FIELD_NUMBER: _ClassVar[int]
    PLAN_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    OVERRULE_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    baseline: str
    candidate: str
    plan: RolloutPlan
    reason: str
    overrule: bool
    def __init__(self, tenant: _Optional[str] = ..., baseline: _Optional[str] = ..., candidate: _Optional[str] = ..., plan: _Optional[_Union[RolloutPlan, _Mapping]] = ..., reason: _Optional[str] = ..., overrule: _Optional[bool] = ...) -> None: ...

class ReadRolloutRequest(_message.Message):
    __slots__ = ("tenant",)
    TENANT_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    def __init__(self, tenant: _Optional[str] = ...) -> None: ...

class ListTransitionsRequest(_message.Message):
    __slots__ = ("tenant", "page_size", "before")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    page_size: int
    before: int
    def __init__(self, tenant: _Optional[str] = ..., page_size: _Optional[int] = ..., before: _Optional[int] = ...) -> None: ...

class RolloutTransition(_message.Message):
    __slots__ = ("at", "action", "by", "automatic", "reason", "rollout", "evidence")
    AT_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    BY_FIELD_NUMBER: _ClassVar[int]
    AUTOMATIC_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ROLLOUT_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    at: _timestamp_pb2.Timestamp
    action: str
    by: str
    automatic: bool
    reason: str
    rollout: Rollout
    evidence: _containers.RepeatedCompositeFieldContainer[GateReading]
    def __init__(self, at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., action: _Optional[str] = ..., by: _Optional[str] = ..., automatic: _Optional[bool] = ..., reason: _Optional[str] = ..., rollout: _Optional[_Union[Rollout, _Mapping]] = ..., evidence: _Optional[_Iterable[_Union[GateReading, _Mapping]]] = ...) -> None: ...

class ListTransitionsResponse(_message.Message):
    __slots__ = ("transitions",)
    TRANSITIONS_FIELD_NUMBER: _ClassVar[int]
    transitions: _containers.RepeatedCompositeFieldContainer[RolloutTransition]
    def __init__(self, transitions: _Optional[_Iterable[_Union[RolloutTransition, _Mapping]]] = ...) -> None: ...

class ChangeRolloutRequest(_message.Message):
    __slots__ = ("tenant", "reason")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    reason: str
    def __init__(self, tenant: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class PromoteRolloutRequest(_message.Message):
    __slots__ = ("tenant", "reason", "overrule", "version")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    OVERRULE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    reason: str
    overrule: bool
    version: int
    def __init__(self, tenant: _Optional[str] = ..., reason: _Optional[str] = ..., overrule: _Optional[bool] = ..., version: _Optional[int] = ...) -> None: ...

class RollBackRequest(_message.Message):
    __slots__ = ("tenant", "reason", "to")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    TO_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    reason: str
    to: str
    def __init__(self, tenant: _Optional[str] = ..., reason: _Optional[str] = ..., to: _Optional[str] = ...) -> None: ...

class Replayed(_message.Message):
    __slots__ = ("calls", "looser", "stricter", "undecidable", "golden")
    CALLS_FIELD_NUMBER: _ClassVar[int]
    LOOSER_FIELD_NUMBER: _ClassVar[int]
    STRICTER_FIELD_NUMBER: _ClassVar[int]
    UNDECIDABLE_FIELD_NUMBER: _ClassVar[int]
    GOLDEN_FIELD_NUMBER: _ClassVar[int]
    calls: int
    looser: int
    stricter: int
    undecidable: int
    golden: int
    def __init__(self, calls: _Optional[int] = ..., looser: _Optional[int] = ..., stricter: _Optional[int] = ..., undecidable: _Optional[int] = ..., golden: _Optional[int] = ...) -> None: ...

class ActivateStricterRequest(_message.Message):
    __slots__ = ("tenant", "candidate", "baseline", "replayed", "reason")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    CANDIDATE_FIELD_NUMBER: _ClassVar[int]
    BASELINE_FIELD_NUMBER: _ClassVar[int]
    REPLAYED_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    candidate: str
    baseline: str
    replayed: Replayed
    reason: str
    def __init__(self, tenant: _Optional[str] = ..., candidate: _Optional[str] = ..., baseline: _Optional[str] = ..., replayed: _Optional[_Union[Replayed, _Mapping]] = ..., reason: _Optional[str] = ...) -> None: ...
