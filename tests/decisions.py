"""Decisions of every status, as `pdp.py` makes them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson

from authz.audit.masking import Masker
from authz.audit.record import RecordWriter
from authz.model import (
    Check,
    Decision,
    Effect,
    Principal,
    Protocol,
    Revision,
    Risk,
    Status,
    Tool,
    ToolCall,
    Verdict,
)

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT_ID = "00f067aa0ba902b7"
SPAN_ID = "53995c3f42cd8ad8"
TRACEPARENT = f"00-{TRACE_ID}-{PARENT_ID}-01"
KEY = b"installation key of 32 bytes....."
MASKER = Masker(key=KEY)

CHECK = Check(
    method="POST", path="/mcp", headers={"traceparent": TRACEPARENT}, source_address="10.1.2.3:4711", received_ns=1
)
PRINCIPAL = Principal(
    issuer="https://issuer",
    tenant="acme",
    agent="agent-1",
    subject="alice@example.com",
    session="s-1",
    parents=("agent-0",),
    jti_sha256="ab" * 32,
)
CALL = ToolCall(
    tool=Tool(server="bank", name="transfer_payment", protocol=Protocol.MCP, method="tools/call"),
    args={"amount": 120},
    protocol_version="2026-07-28",
)
INPUT = {
    "version": 1,
    "agent": {"id": "agent-1", "subject": "alice@example.com"},
    "args": {"amount": 120},
    "time": {"unix_ns": 1_795_687_200_123_456_789},
}
RESULT = {"effect": "allow", "reason": "granted", "message": "ok"}


def decision(status: Status = Status.ALLOWED, **changes: Any) -> Decision:
    """A decision with the effect that goes with its status."""
    effect = {
        Status.ALLOWED: Effect.ALLOW,
        Status.SANITIZED: Effect.SANITIZE,
        Status.APPROVAL_PENDING: Effect.APPROVAL_NEEDED,
    }.get(status, Effect.DENY)
    made = Decision(
        id="1780d507-aea2-45cc-ae50-fa153c8e4a5a",
        effect=effect,
        enforced=Effect.ALLOW if status is Status.FLAGGED_FOR_REVIEW else effect,
        status=status,
        reason="granted",
        message="the policy says so",
        verdict=Verdict(effect=effect, rules=("grants.payments",), risk=Risk.WRITE),
        principal=PRINCIPAL,
        call=CALL,
        revision=Revision(
            revision="r7", bundle_id="starter", change_id="c-9", rollout="ro-1", wave="canary", cohort="candidate"
        ),
        input_json=orjson.dumps(INPUT),
        result_json=orjson.dumps(RESULT),
        timestamp_ns=1_795_687_200_000_000_042,
        trace_id=TRACE_ID,
        span_id=SPAN_ID,
        parent_span_id=PARENT_ID,
        latency_us={"identity": 10, "policy": 50, "total": 75},
    )
    return replace(made, **changes)


def refusal(status: Status, reason: str, **changes: Any) -> Decision:
    """A refusal before policy: nothing is known but what the envelope said."""
    unknown = {"verdict": None, "principal": None, "call": None, "input_json": b"", "result_json": b""}
    return decision(status, reason=reason, latency_us={"total": 20}, **(unknown | changes))


def record_writer(**changes: Any) -> RecordWriter:
    """A writer whose digest of arguments is plain to see."""
    arguments: dict[str, Any] = {
        "labels": {"id": "sidecar-1", "version": "0.1.0", "revocation": "none"},
        "entrypoint": "authz/decision",
        "masker": MASKER,
        "args_digest": lambda call: f"sha256:{len(call.args)}",
    }
    return RecordWriter(**(arguments | changes))
