"""The catalogue of reason codes: every way this system itself says no, in one table.

Decides how each refusal reads to a caller: HTTP status, JSON-RPC code, `Status`, and what to do next.
A policy's own reason codes are passed verbatim and are not listed here. Codes are stable: they reach
records, metrics, headers and clients, so a row may be added but never renamed.

`docs/reference/reason-codes.md` is generated from this table. Sources: the attack catalogue for names;
MCP 2026-07-28 and JSON-RPC 2.0 for the protocol's own codes; RFC 6750 and RFC 9728 for 401 and 403.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from authz.model import Status

PARSE_ERROR: Final = -32700
INVALID_REQUEST: Final = -32600
INVALID_PARAMS: Final = -32602
HEADER_MISMATCH_CODE: Final = -32020
UNSUPPORTED_VERSION_CODE: Final = -32022
REFUSED: Final = 4000
"""Our JSON-RPC code where MCP has none; outside the reserved range -32768..-32000."""
POLICY_DENIED: Final = 4030
APPROVAL_NEEDED: Final = 4031
LIMIT_EXCEEDED: Final = 4290


@dataclass(frozen=True, slots=True)
class Reason:
    """One row: the stable code, how it is answered, and two sentences for a person or a model."""

    code: str
    http_status: int
    rpc_code: int
    status: Status
    summary: str
    next_step: str


CATALOGUE: Final[dict[str, Reason]] = {}


def _reason(code: str, http_status: int, rpc_code: int, status: Status, summary: str, next_step: str) -> Reason:
    row = Reason(code, http_status, rpc_code, status, summary, next_step)
    CATALOGUE[code] = row
    return row


def _malformed(code: str, http_status: int, summary: str, next_step: str, rpc_code: int = REFUSED) -> Reason:
    return _reason(code, http_status, rpc_code, Status.MALFORMED, summary, next_step)


def _token(code: str, summary: str, next_step: str = "Get a new access token from the issuer and retry.") -> Reason:
    return _reason(code, 401, REFUSED, Status.UNAUTHENTICATED, summary, next_step)


def _error(code: str, summary: str, next_step: str, http_status: int = 403) -> Reason:
    return _reason(code, http_status, REFUSED, Status.ERROR, summary, next_step)


def _refused(code: str, http_status: int, summary: str, next_step: str) -> Reason:
    return _reason(code, http_status, REFUSED, Status.POLICY_BLOCKED, summary, next_step)


_RETRY = "Retry later; if it persists, tell the operator the decision id."
_OPERATOR = "Tell the operator the decision id."
_REWRITE = "Correct the request and retry."

# The service itself
SYS_INTERNAL = _error("SYS_INTERNAL", "the decision service failed", _RETRY)
SYS_DEADLINE = _error("SYS_DEADLINE", "no decision was reached within the deadline", _RETRY)
CONFIG_DRIFT = _error(
    "CONFIG_DRIFT", "the configuration files no longer say what the service runs by", "Operators: restart it.", 503
)
SYS_CALLER = _reason(
    "SYS_CALLER", 403, REFUSED, Status.UNAUTHENTICATED, "the message is not a check from a known proxy", _OPERATOR
)
AUDIT_UNAVAILABLE = _error("AUDIT_UNAVAILABLE", "the decision could not be recorded", _RETRY)

# The envelope: what Envoy handed over
METHOD_UNKNOWN = _malformed("METHOD_UNKNOWN", 405, "the HTTP method is not served on this route", _REWRITE)
PATH_UNKNOWN = _reason(
    "PATH_UNKNOWN",
    403,
    REFUSED,
    Status.MALFORMED,
    "no configured route has exactly this path",
    "Use the path as configured, byte for byte.",
)
ORIGIN = _reason(
    "ORIGIN",
    403,
    REFUSED,
    Status.MALFORMED,
    "the Origin header is not on this route's allow-list",
    "Call from a listed origin, or ask the operator to list this one.",
)
HEADER_BYTES = _malformed("HEADER_BYTES", 400, "a header that decides holds bytes outside visible ASCII", _REWRITE)
HEADER_DUPLICATE = _malformed("HEADER_DUPLICATE", 400, "a header that may come once came more than once", _REWRITE)
CONTENT_TYPE = _malformed("CONTENT_TYPE", 415, "the content type is not the one this route takes", _REWRITE)
CONTENT_ENCODING = _malformed(
    "CONTENT_ENCODING", 415, "an encoded request body cannot be judged", "Send the body without content-encoding."
)
MCP_BODY_MISSING = _malformed(
    "MCP_BODY_MISSING",
    400,
    "the check carries no body",
    "Send the message as the body; if it was sent, the proxy needs with_request_body.",
    INVALID_REQUEST,
)
MCP_BODY_UPGRADE = _reason(
    "MCP_BODY_UPGRADE",
    403,
    REFUSED,
    Status.MALFORMED,
    "an upgrade request hides its body from inspection",
    "Send a plain POST without upgrade headers.",
)
MCP_BODY_PARTIAL = _malformed(
    "MCP_BODY_PARTIAL",
    413,
    "only a part of the body reached the decision service",
    "Send a smaller message; operators: raise max_request_bytes and keep allow_partial_message off.",
)
MCP_BODY_LENGTH = _malformed("MCP_BODY_LENGTH", 400, "content-length differs from the bytes received", _REWRITE)
MCP_BODY_AMBIGUOUS = _malformed(
    "MCP_BODY_AMBIGUOUS", 400, "the check carries two different bodies", "Operators: set pack_as_bytes."
)
MCP_BODY_UNEXPECTED = _malformed("MCP_BODY_UNEXPECTED", 400, "this method carries no body", _REWRITE)
MCP_BODY_TOO_LARGE = _malformed("MCP_BODY_TOO_LARGE", 413, "the body is over the limit", "Send a smaller message.")

# JSON (RFC 8259, I-JSON RFC 7493)
JSON_SYNTAX = _malformed("JSON_SYNTAX", 400, "the body is not JSON", _REWRITE, PARSE_ERROR)
JSON_ENCODING = _malformed("JSON_ENCODING", 400, "the body is not UTF-8 without a BOM", _REWRITE, PARSE_ERROR)
JSON_TRAILING = _malformed("JSON_TRAILING", 400, "bytes follow the JSON value", _REWRITE, PARSE_ERROR)
JSON_DUP_KEY = _malformed("JSON_DUP_KEY", 400, "an object repeats a key", _REWRITE, PARSE_ERROR)
JSON_KEY_FOLD = _malformed(
    "JSON_KEY_FOLD", 400, "a key equals a protocol key only after case folding", _REWRITE, INVALID_REQUEST
)
JSON_NUMBER = _malformed("JSON_NUMBER", 400, "a number is not a JSON number", _REWRITE, PARSE_ERROR)
JSON_NUMBER_RANGE = _malformed(
    "JSON_NUMBER_RANGE",
    400,
    "a number cannot be held exactly (I-JSON)",
    "Send large numbers as strings.",
    PARSE_ERROR,
)
JSON_TEXT = _malformed(
    "JSON_TEXT", 400, "a string holds a lone surrogate or a forbidden character", _REWRITE, PARSE_ERROR
)
JSON_DEPTH = _malformed("JSON_DEPTH", 400, "the JSON is nested too deeply", _REWRITE, PARSE_ERROR)
JSON_SIZE = _malformed("JSON_SIZE", 400, "the JSON has too many keys, items or characters", _REWRITE, PARSE_ERROR)

# JSON-RPC and MCP
MCP_BATCH = _malformed(
    "MCP_BATCH", 400, "batches are not part of MCP", "Send each message as a request of its own.", INVALID_REQUEST
)
MCP_ENVELOPE = _malformed("MCP_ENVELOPE", 400, "the message is not a JSON-RPC 2.0 request", _REWRITE, INVALID_REQUEST)
MCP_RESPONSE = _malformed(
    "MCP_RESPONSE",
    400,
    "a response frame is taken only inside a session",
    "Send Mcp-Session-Id with it, on a revision before 2026-07-28.",
    INVALID_REQUEST,
)
MCP_METHOD_UNKNOWN = _reason(
    "MCP_METHOD_UNKNOWN", 403, REFUSED, Status.MALFORMED, "the method is not one of MCP's", _REWRITE
)
MCP_PARAMS = _malformed("MCP_PARAMS", 400, "the parameters have the wrong shape", _REWRITE, INVALID_PARAMS)
HEADER_MISMATCH = _malformed(
    "HEADER_MISMATCH", 400, "a mirrored header disagrees with the body", _REWRITE, HEADER_MISMATCH_CODE
)
MCP_VERSION = _malformed(
    "MCP_VERSION",
    400,
    "the protocol version is missing, unknown or contradicted",
    "Use 2025-06-18, 2025-11-25 or 2026-07-28.",
    UNSUPPORTED_VERSION_CODE,
)
TOOL_UNKNOWN = _reason(
    "TOOL_UNKNOWN", 403, INVALID_PARAMS, Status.POLICY_BLOCKED, "no such tool", "List the tools and use one of them."
)

SESSION_OWNER = _reason(
    "SESSION_OWNER",
    403,
    REFUSED,
    Status.UNAUTHENTICATED,
    "the MCP session belongs to another caller",
    "Open a session of your own with `initialize`.",
)

# Plain HTTP
HTTP_PATH = _malformed("HTTP_PATH", 400, "the path cannot be decoded without ambiguity", _REWRITE)
HTTP_HOST = _malformed("HTTP_HOST", 400, "the host to connect to cannot be read without ambiguity", _REWRITE)
HTTP_QUERY = _malformed("HTTP_QUERY", 400, "the query cannot be decoded without ambiguity", _REWRITE)
HTTP_FORM = _malformed("HTTP_FORM", 400, "the form body cannot be decoded without ambiguity", _REWRITE)
BODY_MULTIPART = _malformed("BODY_MULTIPART", 400, "the multipart body is broken", _REWRITE)
BODY_GRPC = _malformed("BODY_GRPC", 400, "the gRPC body is broken", _REWRITE)

# Tokens (RFC 6750, RFC 8725, RFC 9068)
TOKEN_MISSING = _token("TOKEN_MISSING", "no bearer token", "Get an access token; the challenge names where.")
TOKEN_MULTIPLE = _token("TOKEN_MULTIPLE", "more than one token")
TOKEN_MALFORMED = _token("TOKEN_MALFORMED", "the token is not a compact JWS")
TOKEN_SIZE = _token("TOKEN_SIZE", "the token is over 8 KiB")
TOKEN_HEADER = _token("TOKEN_HEADER", "the token's header has a parameter that is not allowed")
TOKEN_ALG = _token("TOKEN_ALG", "the token's algorithm is not the key's")
TOKEN_KID = _token("TOKEN_KID", "no published key has the token's kid")
TOKEN_SIGNATURE = _token("TOKEN_SIGNATURE", "the token's signature does not verify")
TOKEN_TYP = _token("TOKEN_TYP", "the token is not an access token")
TOKEN_CLAIMS = _token("TOKEN_CLAIMS", "a required claim is missing or has the wrong type")
TOKEN_ISSUER = _token("TOKEN_ISSUER", "the token's issuer is not trusted here")
TOKEN_AUD = _token("TOKEN_AUD", "the token was issued for another audience")
TOKEN_TENANT = _token("TOKEN_TENANT", "the issuer may not name this tenant")
TOKEN_EXPIRED = _token("TOKEN_EXPIRED", "the token has expired")
TOKEN_NOT_YET = _token("TOKEN_NOT_YET", "the token is not valid yet")
TOKEN_LIFETIME = _token("TOKEN_LIFETIME", "the token lives longer than 900 s")
TOKEN_BINDING = _token("TOKEN_BINDING", "the token is bound to a key that was not shown")
JWKS_UNAVAILABLE = _token("JWKS_UNAVAILABLE", "the issuer's keys are not available", _RETRY)
CLOCK_STEP = _token("CLOCK_STEP", "the clock stepped; tokens cannot be judged", _OPERATOR)
SCOPE = _reason(
    "SCOPE",
    403,
    REFUSED,
    Status.POLICY_BLOCKED,
    "the token lacks a scope that this call needs",
    "Get a token with the scopes in the challenge.",
)

# Revocation, approvals, budgets
REVOKED = _reason("REVOKED", 403, REFUSED, Status.REVOKED, "a kill covers this call", _OPERATOR)
KILL_STALE = _error("KILL_STALE", "the list of kills is too old to trust", _RETRY)
KILL_TENANT = _error("KILL_TENANT", "this service does not follow the kills of the caller's tenant", _OPERATOR)
KILL_EPOCH_REGRESS = _error("KILL_EPOCH_REGRESS", "the ledger of kills has lost what it had said before", _OPERATOR)
KILL_FORGED = _error("KILL_FORGED", "a message of a stream of kills was not signed by the ledger", _OPERATOR)
KILL_UNREADABLE = _error("KILL_UNREADABLE", "the ledger signed what this release cannot read", _OPERATOR)
KILL_JOURNAL = _error("KILL_JOURNAL", "kills cannot be kept on this service's disk", _OPERATOR)
KILL_SCOPE = _malformed(
    "KILL_SCOPE", 400, "the scope of a kill is not one", "Name the scope as `authz kill --help` shows."
)
AGENT_PAUSED = _reason(
    "AGENT_PAUSED", 403, REFUSED, Status.REVOKED, "the agent is paused", "Ask the agent's owner to resume it."
)
AGENT_RETIRED = _reason("AGENT_RETIRED", 403, REFUSED, Status.REVOKED, "the agent is retired", _OPERATOR)
AGENT_INVALID = _malformed("AGENT_INVALID", 400, "the agent's registration is not well-formed", _REWRITE)
AGENT_EXISTS = _malformed(
    "AGENT_EXISTS",
    409,
    "an agent has or had this id, or one that differs in case or form alone",
    "Choose another id; ids are never given twice, so that records stay unambiguous.",
)
AGENT_UNKNOWN = _malformed("AGENT_UNKNOWN", 404, "there is no such agent", "List the agents of the tenant.")
AGENT_CHANGED = _malformed(
    "AGENT_CHANGED",
    409,
    "the agent was changed by somebody else since",
    "Read the agent again, then repeat the change.",
)
AGENT_PARENT = _malformed(
    "AGENT_PARENT", 400, "an agent above this one is unknown, paused or retired", "See the agents it descends from."
)
CREDENTIAL_INVALID = _malformed(
    "CREDENTIAL_INVALID",
    400,
    "the credential is not a public key or certificate that is taken here",
    "Give a public JWK for EdDSA, ES256, RS256 or PS256, or the SHA-256 of a certificate.",
)
TOOL_CEILING = _reason(
    "TOOL_CEILING",
    403,
    POLICY_DENIED,
    Status.POLICY_BLOCKED,
    "the agent's registration does not include this tool",
    "Use another tool, or ask the agent's owner to widen the registration.",
)
AUTONOMY_EXCEEDED = _reason(
    "AUTONOMY_EXCEEDED",
    403,
    POLICY_DENIED,
    Status.POLICY_BLOCKED,
    "the agent may only observe",
    "Do not repeat the call; only calls of risk `read` pass.",
)
AUTONOMY_APPROVAL = _reason(
    "AUTONOMY_APPROVAL",
    403,
    APPROVAL_NEEDED,
    Status.APPROVAL_PENDING,
    "the agent may change things only with a person's approval",
    "Ask a person who may approve it, then repeat the call unchanged.",
)
MEMORY_WRITES_PAUSED = _reason(
    "MEMORY_WRITES_PAUSED",
    403,
    POLICY_DENIED,
    Status.REVOKED,
    "the agent's memory writes are paused",
    "Go on without writing memory, or ask the agent's owner to resume it.",
)
APPROVAL_INVALID = _reason(
    "APPROVAL_INVALID",
    403,
    REFUSED,
    Status.POLICY_BLOCKED,
    "no approval can be redeemed here",
    "Ask for the approval again.",
)
UPSTREAM_CREDENTIAL = _error(
    "UPSTREAM_CREDENTIAL", "the tool's own credential is not at hand", "Retry in a second; it is being fetched.", 503
)
BUDGET_UNAVAILABLE = _error("BUDGET_UNAVAILABLE", "the budget that the policy charges is not available", _RETRY)

# The control plane
KEYS_CHANGED = _malformed(
    "KEYS_CHANGED", 409, "the signing keys were changed by somebody else at once", "List the keys, then ask again."
)
SIGNING_KEY_UNAVAILABLE = _error(
    "SIGNING_KEY_UNAVAILABLE",
    "there is no key to sign tokens with",
    "Operators: start with the key-encryption key that the database was written with; see `authz keys list`.",
    503,
)
DATABASE_UNAVAILABLE = _error(
    "DATABASE_UNAVAILABLE",
    "the control plane's database cannot be used; nothing was done",
    "Retry later; operators: see whether the database is up and its disk has room.",
    503,
)
CONTROL_UNAUTHENTICATED = _reason(
    "CONTROL_UNAUTHENTICATED",
    401,
    REFUSED,
    Status.UNAUTHENTICATED,
    "no operator is known by what was shown",
    "Show an operator's credential, a token of a configured issuer, or a certificate.",
)
CONTROL_EXPIRED = _reason(
    "CONTROL_EXPIRED", 401, REFUSED, Status.UNAUTHENTICATED, "the credential has expired", "Ask an admin for a new one."
)
CONTROL_FORBIDDEN = _reason(
    "CONTROL_FORBIDDEN",
    403,
    REFUSED,
    Status.POLICY_BLOCKED,
    "you lack the permission for this in that tenant",
    "Ask an admin for a role; `authz operators whoami` shows yours.",
)
CONTROL_REQUEST = _malformed("CONTROL_REQUEST", 400, "the request does not have the method's form", _REWRITE)
CONTROL_METHOD = _malformed("CONTROL_METHOD", 404, "there is no such method", "See the services in protos/.")
CONTROL_OVERLOAD = _error(
    "CONTROL_OVERLOAD", "too many calls are under way", "Retry in a moment; nothing was done.", 429
)
CONTROL_STREAM = _malformed(
    "CONTROL_STREAM", 415, "this method answers with a stream", "Ask with application/connect+json, or over gRPC."
)
ENROLMENT_REFUSED = _reason(
    "ENROLMENT_REFUSED",
    403,
    REFUSED,
    Status.UNAUTHENTICATED,
    "the enrolment token is unknown, used or over",
    "Ask an admin for a new one: `authz sidecars invite`.",
)
SIDECAR_REMOVED = _reason(
    "SIDECAR_REMOVED",
    401,
    REFUSED,
    Status.UNAUTHENTICATED,
    "this sidecar was removed",
    "Ask an admin for an enrolment token, remove the identity on disk and start again.",
)
SIDECAR_UNKNOWN = _malformed("SIDECAR_UNKNOWN", 404, "there is no such sidecar", "List the sidecars.")
REVISION_UNKNOWN = _malformed(
    "REVISION_UNKNOWN",
    404,
    "there is no such bundle or revision",
    "See `authz bundle list` and `authz bundle history`.",
)
REVISION_HELD = _malformed(
    "REVISION_HELD", 409, "the revision is under legal hold", "Ask a security-lead to release the hold."
)
PUSH_UNPINNED = _malformed(
    "PUSH_UNPINNED",
    409,
    "no keys are pinned at the control plane, so that nothing it is sent could be verified",
    "Operators: set `bundles.trust` in the control plane's configuration.",
)
PUSH_CHANGED = _malformed(
    "PUSH_CHANGED", 409, "somebody else pushed to this name at once", "Look at its history, then push again."
)
OPERATOR_UNKNOWN = _malformed("OPERATOR_UNKNOWN", 404, "there is no such operator", "List the operators.")
OPERATOR_EXISTS = _malformed(
    "OPERATOR_EXISTS",
    409,
    "an operator has or had this id, or is known by the same token or certificate",
    "Choose another id; ids are never given twice, so that the record stays unambiguous.",
)
OPERATOR_LAST = _malformed("OPERATOR_LAST", 400, "this is the last admin of all tenants", "Make another admin first.")

# Kills, as operators ask for them (revocation/guard.py)
KILL_REASON = _malformed(
    "KILL_REASON", 400, "the kill has no reason in words that says enough", "Say why, for the record."
)
KILL_AUTOMATIC = _refused(
    "KILL_AUTOMATIC", 403, "a program cannot sign a kill that needs two signers", "Ask two people to sign it."
)
KILL_SAME_SIGNER = _refused(
    "KILL_SAME_SIGNER", 409, "the second signer is the first one", "Ask another operator to confirm it."
)
KILL_LAPSED = _refused(
    "KILL_LAPSED", 409, "the second signer did not come within the window", "Ask for it again, and confirm it in time."
)
KILL_STATE = _refused(
    "KILL_STATE", 409, "the kill is not in a state for this", "See where it stands: `authz kills show`."
)
KILL_UNKNOWN = _refused("KILL_UNKNOWN", 404, "no such kill", "List them: `authz kills list`.")
KILL_QUOTA = _reason(
    "KILL_QUOTA",
    429,
    LIMIT_EXCEEDED,
    Status.LIMIT_EXCEEDED,
    "too many kills within a minute",
    "Kill what they have in common: the subtree, the tool or the tenant.",
)
KILL_SNAPSHOT = _refused(
    "KILL_SNAPSHOT", 409, "the entries after this place are in a snapshot alone", "Sidecars: pull the snapshot."
)
KILL_REPEATED = _refused(
    "KILL_REPEATED", 409, "the idempotency key was used for another kill", "Use a fresh key for each kill."
)

# Rollouts of policies
ROLLOUT_PLAN = _malformed(
    "ROLLOUT_PLAN", 400, "the plan of the rollout makes no sense", "See `authz rollout start --help`."
)
ROLLOUT_REASON = _malformed("ROLLOUT_REASON", 400, "this needs a reason in words", "Say why, for the record.")
ROLLOUT_UNKNOWN = _refused("ROLLOUT_UNKNOWN", 404, "no such rollout", "See what there is: `authz rollout status`.")
ROLLOUT_STATE = _refused(
    "ROLLOUT_STATE", 409, "the rollout is not in a state for this", "See where it stands: `authz rollout status`."
)
ROLLOUT_ACTIVE = _refused(
    "ROLLOUT_ACTIVE", 409, "another rollout is under way here", "Let it end, or abort it: `authz rollout abort`."
)
ROLLOUT_FROZEN = _refused(
    "ROLLOUT_FROZEN", 409, "nothing goes forward now", "Wait for the end of the freeze; going back is always possible."
)
ROLLOUT_SECOND_PERSON = _refused(
    "ROLLOUT_SECOND_PERSON",
    409,
    "another person must enforce it",
    "Ask an operator who did not begin it to promote it.",
)
ROLLOUT_QUARANTINED = _refused(
    "ROLLOUT_QUARANTINED",
    409,
    "this candidate was rolled back here by its gates before",
    "Correct it and build another revision, or have a security lead overrule it: `--overrule`.",
)
ROLLOUT_FLAPPING = _refused(
    "ROLLOUT_FLAPPING",
    409,
    "too many candidates were rolled back here within an hour",
    "Find out why first, or have a security lead overrule it: `--overrule`.",
)
ROLLOUT_HELD = _refused("ROLLOUT_HELD", 403, "a person has decided this", "Ask a person.")
ROLLOUT_BASELINE = _refused(
    "ROLLOUT_BASELINE", 409, "nothing was replaced here", "Name the revision to go back to: `--to`."
)
ROLLOUT_LOOSER = _refused(
    "ROLLOUT_LOOSER",
    409,
    "the candidate would let through what is stopped now",
    "See which calls: `authz policy activate --stricter` shows them. A change that also loosens is rolled out.",
)
ROLLOUT_UNSHOWN = _refused(
    "ROLLOUT_UNSHOWN",
    409,
    "nothing shows that the candidate is stricter than what answers now",
    "Replay recorded calls through both: `authz policy activate --stricter --baseline … --records …`.",
)

# Policy
POLICY_UNDEFINED = _error("POLICY_UNDEFINED", "the policy gives no decision for this call", _OPERATOR)
POLICY_TYPE = _error("POLICY_TYPE", "the policy's decision has the wrong shape", _OPERATOR)
POLICY_ERROR = _error("POLICY_ERROR", "the policy failed while it was evaluated", _OPERATOR)
POLICY_TIMEOUT = _error("POLICY_TIMEOUT", "the policy took too long", _OPERATOR)
POLICY_UNAVAILABLE = _error("POLICY_UNAVAILABLE", "the policy engine is not available", _RETRY)
POLICY_DENY = _reason(
    "POLICY_DENY",
    403,
    POLICY_DENIED,
    Status.POLICY_BLOCKED,
    "the policy denies this call",
    "Do not repeat the call unchanged.",
)
POLICY_TENANT_FAILED = _error(
    "POLICY_TENANT_FAILED", "the tenant's own policy gives no decision for this call", _OPERATOR
)
POLICY_TENANT_UNAVAILABLE = _error(
    "POLICY_TENANT_UNAVAILABLE", "the tenant's own policy is not here, or has expired", _RETRY
)
POLICY_TENANT_LIMIT = _error(
    "POLICY_TENANT_LIMIT", "the tenant's own policy changes more of a call than it may", _OPERATOR
)
POLICY_APPROVERS = _reason(
    "POLICY_APPROVERS",
    403,
    POLICY_DENIED,
    Status.POLICY_BLOCKED,
    "two policies ask for the approval of different people",
    "Tell the operator the decision id: no one approval is enough for both.",
)
POLICY_STALE = _error(
    "POLICY_STALE",
    "nobody answers where the policy is published, and it is past half of its life: destructive calls wait",
    "Retry later; operators: see `authz status`.",
)
POLICY_BODY_TRUNCATED = _error(
    "POLICY_BODY_TRUNCATED",
    "the body was truncated and the policy does not read input.truncated_body",
    "Operators: buffer whole bodies, or let the policy decide on truncated ones.",
)

# Sanitize
SANITIZE_UNAVAILABLE = _error(
    "SANITIZE_UNAVAILABLE",
    "the call may run only sanitized, and nothing behind this check can rewrite the body",
    "Remove the sensitive values and retry; operators: put ext_proc behind ext_authz.",
)
SANITIZE_NOT_APPLIED = _error("SANITIZE_NOT_APPLIED", "a planned redaction was not applied", _OPERATOR)
REDACT_FAILED = _error("REDACT_FAILED", "the body could not be redacted", _RETRY, 502)
BODY_CHANGED = _error("BODY_CHANGED", "the body changed after it was judged", _OPERATOR)


BUNDLE_CODES: Final = {
    "BUNDLE_INVALID": "it does not compile, lacks the entrypoint, or cannot judge a first call",
    "BUNDLE_SHRINK": "an update of data alone loses too much of it at once",
    "BUNDLE_SHAPE": "an update of data alone leaves blank, or of another kind, what was there",
    "BUNDLE_GOLDEN": "an input of its golden set is not denied",
    "BUNDLE_TIMEOUT": "its first calls were not judged in time",
    "BUNDLE_POISON": "it ended the service again and again",
    "BUNDLE_STATE": "the state that outlives crashes cannot be used",
    "BUNDLE_QUARANTINED": "these files failed here before",
    "BUNDLE_FETCH": "it cannot be read where it is published",
    "BUNDLE_ARCHIVE": "it is not one whole tar.gz",
    "BUNDLE_SIZE": "it is over the bound on its size",
    "BUNDLE_RATIO": "it unpacks to too many times its size",
    "BUNDLE_COUNT": "it holds too many entries",
    "BUNDLE_DEPTH": "a path is too many folders deep",
    "BUNDLE_PATH": "a path leads out, or is not plain",
    "BUNDLE_ENTRY": "it holds a link, a device or another kind of entry",
    "BUNDLE_DUPLICATE": "two entries are one path on some systems",
    "BUNDLE_DELTA": "a delta is not one of data alone, or does not give the archive that it promises",
    "BUNDLE_DELTA_BASE": "a delta is of another archive than the one that is here",
    "BUNDLE_DELTA_EMPTY": "a delta changes no data",
    "BUNDLE_CONTENT": "it holds a file with a meaning for OPA that it has not here",
    "BUNDLE_JSON": "a document is not strict JSON",
    "BUNDLE_UNSIGNED": "it is not signed",
    "BUNDLE_SIGNATURE": "a signature does not verify, or is not in the one form that is read",
    "BUNDLE_SIGNATURE_COUNT": "more than one signature is in the archive",
    "BUNDLE_ALGORITHM": "a signature is not ES256, or a file is not hashed with SHA-256",
    "BUNDLE_KEY": "no pinned key has the signature's name",
    "BUNDLE_SCOPE": "the signature is for another scope",
    "BUNDLE_FILES": "a file is missing or was added",
    "BUNDLE_DIGEST": "a file is not what was signed",
    "BUNDLE_MANIFEST": "its manifest cannot be understood whole",
    "BUNDLE_SIGNERS": "its key may not sign this bundle, or comes from another path",
    "BUNDLE_THRESHOLD": "too few keys have signed it",
    "BUNDLE_ID": "it is another bundle than the one that is served here",
    "BUNDLE_TENANT": "it is not for the tenants that are served, or its signers may not speak for its own",
    "BUNDLE_NOT_YET": "it was made in the future",
    "BUNDLE_EXPIRED": "it has expired",
    "BUNDLE_ENGINE": "it needs a newer engine",
    "BUNDLE_INPUT": "it needs input that is not given here",
    "BUNDLE_REGRESSION": "its sequence is behind one that was seen here",
    "BUNDLE_MISMATCH": "its sequence was seen with other files",
    "BUNDLE_FAST_FORWARD": "its sequence is too far ahead",
    "BUNDLE_STATEMENT": "a statement beside it is not signed, or is about something else",
    "BUNDLE_STALE": "no recent statement says that it is the newest",
    "BUNDLE_WITHDRAWN": "a rollback statement has taken it back",
}
"""Why a policy is not put in service. No caller sees these: the policy before goes on answering."""
