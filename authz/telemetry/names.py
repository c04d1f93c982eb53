"""Every name that telemetry uses: span attributes, metrics, labels, buckets. One table, so that nothing drifts.

Decides what things are called and which label values exist. Must never name an argument, a token, a user or anything
else without a bound as a metric label (attack K5). `docs/reference/telemetry.md` is generated from here.

Sources: OpenTelemetry's GenAI and MCP conventions (in development, so the names are defined here), OPA's
`opa.decision_id`, opa-envoy-plugin's metrics and buckets. No convention exists for policy decisions: those names are
our own, under `authz.`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

SCOPE: Final = "authz"
"""Instrumentation scope of every span."""

# Spans.
SPAN: Final = "authz.decision"
"""Name of a decision that has no method and tool; else `{mcp.method.name} {gen_ai.tool.name}`, as MCP spans are."""

DECISION_ID: Final = "opa.decision_id"
EFFECT: Final = "authz.effect"
ENFORCED: Final = "authz.enforced"
STATUS: Final = "authz.status"
REASON: Final = "authz.reason"
RULES: Final = "authz.rules"
RISK: Final = "authz.risk"
MODE: Final = "authz.mode"
PHASE: Final = "authz.phase"
TENANT: Final = "authz.tenant"
SESSION: Final = "authz.session"
AGENT: Final = "gen_ai.agent.id"
SERVER: Final = "authz.tool.server"
OPERATION: Final = "gen_ai.operation.name"
TOOL: Final = "gen_ai.tool.name"
METHOD: Final = "mcp.method.name"
PROTOCOL_VERSION: Final = "mcp.protocol.version"
MCP_SESSION: Final = "authz.mcp_session_sha256"
REVISION: Final = "authz.policy.revision"
BUNDLE: Final = "authz.policy.bundle_id"
CHANGE: Final = "authz.policy.change_id"
ROLLOUT: Final = "authz.policy.rollout"
WAVE: Final = "authz.policy.wave"
COHORT: Final = "authz.policy.cohort"
TENANT_REVISION: Final = "authz.policy.tenant.revision"
TENANT_BUNDLE: Final = "authz.policy.tenant.bundle_id"
TENANT_CHANGE: Final = "authz.policy.tenant.change_id"
TENANT_ROLLOUT: Final = "authz.policy.tenant.rollout"
TENANT_WAVE: Final = "authz.policy.tenant.wave"
TENANT_COHORT: Final = "authz.policy.tenant.cohort"
ERROR_TYPE: Final = "error.type"

ATTRIBUTES: Final[dict[str, str]] = {
    DECISION_ID: "the decision; the same in its record and in `x-authz-decision-id`",
    EFFECT: "what was decided: allow, deny, sanitize, approval_needed",
    ENFORCED: "what was done about it; differs in flag mode and where a sanitize cannot be applied",
    STATUS: "what to alert on: allowed, sanitized, policy_blocked, flagged_for_review, …",
    REASON: "a code of the catalogue, or the policy's own",
    RULES: "the rules that decided, as the policy names them",
    RISK: "the policy's risk class: read, write, destructive",
    MODE: "block or flag",
    PHASE: "call, list or result",
    TENANT: "the caller's tenant",
    SESSION: "the caller's session",
    AGENT: "the caller's agent id",
    SERVER: "the tool's server",
    OPERATION: "`execute_tool` on a tool call",
    TOOL: "the tool, on a tool call and on plain HTTP",
    METHOD: "the MCP method",
    PROTOCOL_VERSION: "the MCP revision",
    MCP_SESSION: "SHA-256 of the MCP session id; the id itself would let a reader join the session",
    REVISION: "the policy revision that answered",
    BUNDLE: "its bundle",
    CHANGE: "its change",
    ROLLOUT: "the rollout under way, if any",
    WAVE: "its rollout wave",
    COHORT: "`baseline` or `candidate`: whose revision answered",
    TENANT_REVISION: "the revision of the tenant's own policy that judged beside it, if the tenant has one",
    TENANT_BUNDLE: "its bundle",
    TENANT_CHANGE: "its change",
    TENANT_ROLLOUT: "its rollout",
    TENANT_WAVE: "its rollout wave",
    TENANT_COHORT: "its cohort",
    ERROR_TYPE: "the reason code, where the engine or the service itself failed; the span's status is then ERROR",
}

# Metrics.
STEPS: Final = ("envelope", "identity", "protocol", "facts", "policy", "answer")
"""Steps of a decision, as `Decision.latency_us` names them."""
TOTAL: Final = "total"
"""The whole decision, in the same place."""
POLICY_REASON: Final = "policy"
"""Label of every reason code that is a policy's own: those have no bound."""
OWN_REASONS: Final = ("answered_here", "handshake", "list_filtered")
"""Reasons of ours that are no refusal."""

BUCKETS_S: Final = (
    1e-6, 5e-6, 1e-5, 5e-5, 1e-4, 5e-4, 1e-3, 2e-3, 3e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 0.1, 0.2, 1.0,
)  # fmt: skip
"""opa-envoy-plugin's buckets, and finer ones around Envoy's default timeout of 0.2 s."""
OPA_BUCKETS_S: Final = (1e-6, 5e-6, 1e-5, 5e-5, 1e-4, 5e-4, 1e-3, 3e-3, 5e-3, 0.1, 1.0)
"""opa-envoy-plugin's own."""

Kind = Literal["counter", "gauge", "histogram", "info", "unknown"]


@dataclass(frozen=True, slots=True)
class Metric:
    """One family. `name` is the base name: the text format appends `_total` to counters and `_info` to infos."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    help: str


DECISIONS: Final = Metric(
    "authz_decisions", "counter", ("effect", "enforced", "status", "reason", "contract"), "Decisions made."
)
DURATION: Final = Metric("authz_decision_duration_seconds", "histogram", (), "Time from a check to its answer.")
STEP_DURATION: Final = Metric(
    "authz_decision_step_duration_seconds", "histogram", ("step",), "Time by step of a decision."
)
CACHE_HITS: Final = Metric("authz_cache_hits", "counter", ("cache",), "Lookups answered from a cache.")
CACHE_MISSES: Final = Metric("authz_cache_misses", "counter", ("cache",), "Lookups that a cache could not answer.")
CACHE_ENTRIES: Final = Metric("authz_cache_entries", "gauge", ("cache",), "Entries in a cache.")
ENGINE_HEAP: Final = Metric(
    "authz_engine_heap_bytes", "gauge", (), "Go's heap, which holds compiled policies: live, or not collected yet."
)
RECORDS_WRITTEN: Final = Metric("authz_records_written", "counter", (), "Records appended to the log.")
RECORDS_LOST: Final = Metric("authz_records_lost", "counter", (), "Records that could not be appended.")
SPANS_EXPORTED: Final = Metric("authz_spans_exported", "counter", (), "Spans handed to every exporter.")
SPANS_DROPPED: Final = Metric(
    "authz_spans_dropped", "counter", ("cause",), "Spans given up: the queue was full, or an exporter failed."
)
READY: Final = Metric("authz_ready", "gauge", (), "1 when checks are served.")
CONFIG: Final = Metric("authz_config", "info", ("sha256",), "The configuration that this service runs by.")
CONFIG_DRIFT: Final = Metric(
    "authz_config_drift", "gauge", (), "Settings that the files have come to say otherwise; alarm above 0."
)
REVOCATION_MODE: Final = Metric(
    "authz_revocation_mode", "gauge", ("mode",), "1 for where kills come from; `none` means that no kill reaches us."
)
KILLS_AGE: Final = Metric(
    "authz_kill_replica_age_seconds",
    "gauge",
    ("streams",),
    "Time since all kills of the platform, or of every tenant, were known here.",
)
KILLS_EPOCH: Final = Metric("authz_kill_replica_epoch", "gauge", ("streams",), "Latest epoch of the ledger of kills.")
KILLS_SEQUENCE: Final = Metric(
    "authz_kill_replica_sequence", "gauge", ("streams",), "Entries applied; of tenants, all together."
)
KILLS_KNOWN: Final = Metric("authz_kills_known", "gauge", (), "Kills that are not lifted.")
KILL_EFFECT: Final = Metric(
    "authz_kill_effect_seconds", "histogram", (), "Time from a kill's entry in the ledger to its effect here."
)
KILL_MESSAGES_REFUSED: Final = Metric(
    "authz_kill_messages_refused", "counter", ("reason",), "Messages of kills that were not taken, by code."
)
KILL_LINK_FAILURES: Final = Metric(
    "authz_kill_link_failures", "counter", ("link",), "Failed reads of kills: redis, or control for the control plane."
)
BUILD: Final = Metric("authz_build", "info", ("version", "python"), "This program.")
POLICY: Final = Metric("authz_policy", "info", ("revision", "bundle_id"), "The active policy; one series.")
ACTIVATIONS: Final = Metric("authz_policy_activations", "counter", ("outcome",), "Policies activated or refused.")
ROLLOUT_COMPARED: Final = Metric(
    "authz_rollout_compared",
    "counter",
    ("outcome",),
    "Calls that both revisions of a rollout judged: `agree`, `disagree`, or `shed` for want of time.",
)
ROLLOUT_TRIPPED: Final = Metric(
    "authz_rollout_tripped", "gauge", (), "Rollouts whose candidate this service took out of service by itself."
)
OPA_DURATION: Final = Metric(
    "grpc_request_duration_seconds", "histogram", ("handler",), "opa-envoy-plugin's duration of Check, in seconds."
)
OPA_ERRORS: Final = Metric("error_counter", "unknown", ("reason",), "opa-envoy-plugin's errors by their code.")

CONTROL_CALLS: Final = Metric(
    "authz_control_calls",
    "counter",
    ("method", "outcome"),
    "Calls of the control plane, by method and `done` or the reason of the refusal.",
)

KILL_PUBLICATION: Final = Metric(
    "authz_kill_publication",
    "gauge",
    ("state",),
    "1 for the state of publishing kills on Redis: `ok`, `failed`, `refused` (it may evict), or `none` configured.",
)

METRICS: Final = (
    DECISIONS, DURATION, STEP_DURATION, CACHE_HITS, CACHE_MISSES, CACHE_ENTRIES, ENGINE_HEAP, RECORDS_WRITTEN,
    RECORDS_LOST, SPANS_EXPORTED, SPANS_DROPPED, READY, CONFIG, CONFIG_DRIFT, REVOCATION_MODE, KILLS_AGE, KILLS_EPOCH,
    KILLS_SEQUENCE,
    KILLS_KNOWN, KILL_EFFECT, KILL_MESSAGES_REFUSED, KILL_LINK_FAILURES, BUILD, POLICY, ACTIVATIONS, ROLLOUT_COMPARED,
    ROLLOUT_TRIPPED, OPA_DURATION,
    OPA_ERRORS, CONTROL_CALLS,
    KILL_PUBLICATION,
)  # fmt: skip
