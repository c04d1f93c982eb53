"""The values one decision is made of: what was asked, by whom, and what was answered.

Decides nothing. Every value is frozen once made, so that what was judged, what was recorded and what
was answered cannot drift apart. Nothing here performs I/O or reads a clock.

Trusts: its makers. `edge/` makes a `Check`, `identity/` a `Principal`, `protocol/` a `ToolCall`,
`policy/` a `Verdict`, and only `pdp.py` a `Decision`.
"""

from __future__ import annotations

from dataclasses import field
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from authz.value import value

if TYPE_CHECKING:
    from collections.abc import Mapping

    from authz.destination import Destination

JsonValue: TypeAlias = "bool | int | float | str | list[JsonValue] | dict[str, JsonValue] | None"
JsonObject: TypeAlias = "dict[str, JsonValue]"

PLATFORM: Final = ""
"""As a tenant: what belongs to none of them; and the stream of kills that cover every one."""
MEMORY_WRITE: Final = "memory_write"
"""The capability of tools that write what an agent will read back as its memory."""
EMPTY: Final[Mapping[str, str]] = MappingProxyType({})


class Word(StrEnum):
    """A word out of a closed set. It hashes as the text that it equals: Enum's own hash is of its name, in Python."""

    __hash__ = str.__hash__


class Effect(Word):
    """What the policy says of a call (design §4)."""

    ALLOW = "allow"
    DENY = "deny"
    SANITIZE = "sanitize"
    APPROVAL_NEEDED = "approval_needed"


class Status(Word):
    """What a SIEM alerts on; first-class in spans, metrics and records (requirement D3)."""

    ALLOWED = "allowed"
    SANITIZED = "sanitized"
    POLICY_BLOCKED = "policy_blocked"
    FLAGGED_FOR_REVIEW = "flagged_for_review"
    APPROVAL_PENDING = "approval_pending"
    LIMIT_EXCEEDED = "limit_exceeded"
    REVOKED = "revoked"
    UNAUTHENTICATED = "unauthenticated"
    MALFORMED = "malformed"
    ERROR = "error"


class Phase(Word):
    """Which side of the call is judged: its arguments, its place in a list, or its result."""

    CALL = "call"
    LIST = "list"
    RESULT = "result"


class Mode(Word):
    """`FLAG` lets a refusal run and marks it for review (requirement D4)."""

    BLOCK = "block"
    FLAG = "flag"


class Risk(Word):
    """Ordered by harm; a policy that says nothing means `DESTRUCTIVE`."""

    READ = "read"
    WRITE = "write"
    DESTRUCTIVE = "destructive"


class Protocol(Word):
    """What a route speaks; `PROXY` is a forward proxy that may also see CONNECT."""

    MCP = "mcp"
    HTTP = "http"
    PROXY = "proxy"


class Rate(NamedTuple):
    """How often something happened of late; policies read it as `facts.session.rates.<name>.<seconds>`."""

    name: str
    """One of `RATES`."""
    seconds: int


RATES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "calls": "calls of the session, the one that is judged among them",
        "calls_of_tool": "of them, those of the tool that is called",
        "denied": "calls of the session that were refused before this one",
        "approval_needed": "calls of the session before this one that wait for an approval",
        "agent_calls": "`calls` of the agent, in all its sessions",
        "agent_calls_of_tool": "`calls_of_tool` of the agent, in all its sessions",
        "agent_denied": "`denied` of the agent, in all its sessions",
        "agent_approval_needed": "`approval_needed` of the agent, in all its sessions",
    }
)
"""What is counted where a policy asks, by name. A session may be the agent's own choice; the agent is not."""
MOST_RATE_S: Final = 24 * 3600


class Kind(Word):
    """How a message is judged: `HANDSHAKE` and `RESPONSE` pass with a valid token (contracts §3, §4)."""

    CALL = "call"
    LIST = "list"
    HANDSHAKE = "handshake"
    RESPONSE = "response"


class Lifecycle(Word):
    """Where an agent stands in the registry (requirement I4). Retired is final."""

    ACTIVE = "active"
    PAUSED = "paused"
    RETIRED = "retired"


class Autonomy(Word):
    """What an agent may do without a person (requirement I4)."""

    OBSERVE = "observe"
    ACT_WITH_APPROVAL = "act_with_approval"
    ACT_WITHIN_LIMITS = "act_within_limits"
    AUTONOMOUS = "autonomous"


@value
class Check:
    """One request as Envoy described it, before anything in it is believed.

    `headers` has lower-case names; repeated headers are joined by "," as Envoy does. `path` is raw and
    includes the query. `body` is None when Envoy sent none. `source_certificate` is the client
    certificate that Envoy verified, in PEM, percent-encoded. `document` is the opa-envoy-plugin input
    document and is set under contract `envoy` only. `fault` is the reason code of
    what made Envoy's message itself unusable, to be refused in step 1.
    """

    request_id: str = ""
    method: str = ""
    path: str = ""
    host: str = ""
    scheme: str = ""
    headers: Mapping[str, str] = field(default_factory=lambda: EMPTY)
    body: bytes | None = None
    source_address: str = ""
    source_principal: str = ""
    source_certificate: str = ""
    context: Mapping[str, str] = field(default_factory=lambda: EMPTY)
    received_ns: int = 0
    fault: str = ""
    document: JsonObject | None = None


@value
class Confirmation:
    """What a token is bound to (`cnf`, RFC 7800), as base64url of a SHA-256. Where both are set, both must be shown."""

    certificate: str = ""
    """`x5t#S256` (RFC 8705): the client certificate's."""
    key: str = ""
    """`jkt` (RFC 9449): the DPoP key's thumbprint (RFC 7638)."""


@value
class Principal:
    """Who calls, as a verified token says. Agents are known by (issuer, tenant, agent).

    `parents` are those that delegated to this agent: the token's `parents`, root first, then, where it has an `act`
    chain, its subject and the chain's other actors, outermost first; each once. `confirmation` is None for a bearer
    token.
    """

    issuer: str
    tenant: str
    agent: str
    subject: str
    session: str = ""
    scopes: tuple[str, ...] = ()
    parents: tuple[str, ...] = ()
    client: str = ""
    jti_sha256: str = ""
    expires_at: float = 0.0
    confirmation: Confirmation | None = None


@value
class AgentFacts:
    """What the registry says of an agent and a decision needs; the local replica holds it.

    `tools_ceiling` lists `SERVER/NAME`, where a name that ends in `*` is a prefix; None is no ceiling,
    empty grants none.
    """

    lifecycle: Lifecycle
    autonomy: Autonomy
    owner: str
    memory_writes_paused: bool = False
    tools_ceiling: tuple[str, ...] | None = None


@value
class Tool:
    """What is called. The key is (server, name): equal names on two servers are two tools (C19)."""

    server: str
    name: str
    protocol: Protocol
    method: str
    capabilities: tuple[str, ...] = ()
    connector: str = ""
    pinned: bool = False
    digest: str = ""


@value
class ToolCall:
    """One call, parsed strictly from the caller's bytes.

    `args_pointer` is the RFC 6901 pointer of `args` inside the body, so that a redaction planned on
    `args` can be applied to the body. `mirrors` maps an `Mcp-Param-*` header (lower case) to the pointer
    of the argument it repeats. `simple_json` is True when the arguments hold ASCII keys and no floats,
    which makes sorted JSON and RFC 8785 the same bytes. `destination` is where the call leads, where that is known.
    """

    tool: Tool
    kind: Kind = Kind.CALL
    phase: Phase = Phase.CALL
    args: JsonObject = field(default_factory=dict)
    args_pointer: str = ""
    message_id: str | int | None = None
    notification: bool = False
    protocol_version: str = ""
    mcp_session: str = ""
    idempotency_key: str = ""
    mirrors: Mapping[str, str] = field(default_factory=lambda: EMPTY)
    traceparent: str = ""
    body_sha256: str = ""
    simple_json: bool = False
    destination: Destination | None = None


@value
class Redaction:
    """Replace the value at `path` (RFC 6901, relative to the arguments), or only what `pattern` (RE2) matches."""

    path: str
    replacement: str
    pattern: str = ""
    stage: int = 0
    """Carried out on what those of earlier stages have left, so that it takes nothing from their sight."""


@value
class ApprovalRequest:
    """Who may approve, how many of them, and for how long the request stands (seconds)."""

    approvers: tuple[str, ...]
    quorum: int
    ttl_s: int


@value
class Charge:
    """An amount to reserve from a named budget before the call runs."""

    budget: str
    amount: float


@value
class HeaderChanges:
    """What the policy changes on the way to the tool. `response` goes to the caller; contract `envoy` only."""

    upsert: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    remove: tuple[str, ...] = ()
    response: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    query_set: tuple[tuple[str, str], ...] = ()
    query_remove: tuple[str, ...] = ()


NO_HEADER_CHANGES: Final = HeaderChanges()


@value
class Verdict:
    """What the policy said, after strict interpretation and before anything was enforced.

    `capabilities` are the tool's as `tags.capabilities` names them, beside the route's.
    `http_status`, `body` and `metadata` are opa-envoy-plugin's and stay unset under contract `agent`.
    """

    effect: Effect
    reason: str = ""
    message: str = ""
    rules: tuple[str, ...] = ()
    risk: Risk = Risk.DESTRUCTIVE
    mode: Mode = Mode.BLOCK
    redactions: tuple[Redaction, ...] = ()
    approval: ApprovalRequest | None = None
    charges: tuple[Charge, ...] = ()
    headers: HeaderChanges = NO_HEADER_CHANGES
    tags: Mapping[str, JsonValue] = field(default_factory=dict)
    capabilities: tuple[str, ...] = ()
    http_status: int | None = None
    body: str | None = None
    metadata: Mapping[str, JsonValue] = field(default_factory=dict)


@value
class Revision:
    """The policy that answered: requirement P2 names each of these on every decision.

    `beside` is the revision that was asked as well, where the stricter answer of two counts. `tenant` is the tenant's
    own policy that judged beside the platform's, where it has one.
    """

    revision: str = ""
    bundle_id: str = ""
    change_id: str = ""
    rollout: str = ""
    wave: str = ""
    cohort: str = ""
    beside: str = ""
    tenant: Revision | None = None


NO_REVISION: Final = Revision()


@value
class LocalAnswer:
    """What this service answers by itself instead of the tool: a metadata document or a CORS preflight."""

    http_status: int
    headers: Mapping[str, str] = field(default_factory=lambda: EMPTY)
    body: bytes = b""


@value
class Decision:
    """The answer to one check. Made by `pdp.py` only.

    `effect` is what was decided, `enforced` what is done about it. They differ in flag mode (a refusal
    runs), and where a sanitize cannot be applied (it is denied). `http_status` and `rpc_code` say how a
    refusal is answered; `rpc_code` 0 means a plain HTTP problem document. `latency_us` has one entry for
    each step that ran. `input_json` and `result_json` are the bytes the engine read and wrote, kept for
    the record so that nothing is serialised twice. `kills_stale` flags what was served although a kill of the
    last seconds may have been missing. `amends` is the id of a decision whose record says allow
    although a denial was sent.
    """

    id: str
    effect: Effect
    enforced: Effect
    status: Status
    reason: str
    message: str
    next_step: str = ""
    http_status: int = 200
    rpc_code: int = 0
    challenge: str = ""
    message_id: str | int | None = None
    phase: Phase = Phase.CALL
    mode: Mode = Mode.BLOCK
    verdict: Verdict | None = None
    principal: Principal | None = None
    call: ToolCall | None = None
    local: LocalAnswer | None = None
    inspect_response: bool = False
    """The tool's answer must be judged too."""
    opens_session: bool = False
    """The tool's answer may name an MCP session, which is then the caller's."""
    watch_response: bool = False
    """An answer that streams, and that nobody judges, must be cut once its call is stopped."""
    revision: Revision = NO_REVISION
    input_json: bytes = b""
    result_json: bytes = b""
    tenant_result_json: bytes = b""
    """What the tenant's own policy answered, where it was asked."""
    platform_verdict: Verdict | None = None
    """What the platform's policy alone said, where a tenant's was asked beside it."""
    tenant_verdict: Verdict | None = None
    """What the tenant's own policy alone said."""
    hidden: tuple[str, ...] = ()
    amends: str = ""
    kills_stale: bool = False
    timestamp_ns: int = 0
    trace_id: str = ""
    span_id: str = ""
    parent_span_id: str = ""
    latency_us: Mapping[str, int] = field(default_factory=dict)

    @property
    def forwards(self) -> bool:
        """True when the call goes on to the tool, whole or sanitized."""
        return self.local is None and self.enforced in (Effect.ALLOW, Effect.SANITIZE)
