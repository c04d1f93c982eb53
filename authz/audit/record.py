"""The record of one decision: one JSON line that says what was asked, by whom, and what was answered.

Decides which fields a record has (`FIELDS`) and what in it is masked. Must never hold a token, a credential header or
an unmasked secret, and must never span two lines: every text is JSON, so a newline or an escape sequence in a tool's
name stays escaped (attack J12). What is unknown is absent, never null: a refusal before policy has no input.

Trusts the `Decision` it is given. Pure: the same decision makes the same bytes. Appending them is the extension's.

Names are OPA's decision log where it has them (`decision_id`, `labels`, `bundles`, `path`, `input`, `result`,
`masked`, `metrics`, `requested_by`, `timestamp`, `trace_id`, `span_id`), ours elsewhere.
"""

from __future__ import annotations

import functools
import re
from base64 import b64encode
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

import orjson

from authz.audit.masking import Known
from authz.clock import rfc3339
from authz.errors import ConfigError
from authz.model import Principal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from authz.audit.masking import Masker
    from authz.model import Check, Decision, Revision, ToolCall

SCHEMA: Final = "authz.decision/v1"
REQUIRED_LABELS: Final = ("id", "version", "revocation")
"""Which service wrote this, and whether kills could reach it (`revocation: none` is said in every record)."""
_TIMERS: Final = {"policy": "timer_rego_query_eval_ns", "total": "timer_server_handler_ns"}
"""OPA's names for two of the steps in `Decision.latency_us`."""

_NOBODY: Final = Principal(issuer="", tenant="", agent="", subject="")

# The caller's verified identity stands in the record by name; masking it inside the input would hide nothing.
_KEPT: Final = (("input", "agent"),)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordWriter:
    """Writes records of one service.

    Args:
        labels: `REQUIRED_LABELS` and whatever else tells this service from others.
        entrypoint: the rule that is asked, such as `authz/decision`.
        masker: masks input, result and every other text that a caller or a policy wrote.
        args_digest: `sha256:` and the digest of a call's arguments in RFC 8785 form.
        inputs: `off` leaves the policy input out.

    Raises:
        ConfigError: a required label is missing.
    """

    labels: Mapping[str, str]
    entrypoint: str
    masker: Masker
    args_digest: Callable[[ToolCall], str]
    inputs: Literal["masked", "off"] = "masked"
    _constant: bytes = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        missing = [label for label in REQUIRED_LABELS if label not in self.labels]
        if missing:
            raise ConfigError(f"records lack the label {missing[0]}", remedy="set it where the writer is made")
        constant = orjson.dumps({"schema": SCHEMA, "labels": dict(self.labels), "path": self.entrypoint})
        object.__setattr__(self, "_constant", constant[:-1] + b",")

    def record(self, check: Check, decision: Decision) -> bytes:
        """The record, without a newline at its end."""
        claimed, masked = self.masker.mask(
            orjson.dumps(self._claimed(decision)), keep=_KEPT, known=_credentials(check, decision.input_json)
        )
        known = orjson.dumps(self._known(check, decision, masked))
        standing = _standing(
            (decision.status, decision.effect, decision.enforced, decision.mode, decision.phase),
            decision.verdict.risk if decision.verdict else None,
            decision.principal,
            decision.revision,
        )
        # INVARIANT: four objects, none empty and no name in two of them, so they join as text.
        return one_line(b"".join((self._constant, standing, known[1:-1], b",", claimed[1:])))

    def _known(self, check: Check, decision: Decision, masked: tuple[str, ...]) -> dict[str, Any]:
        """What this system says of this one decision: nothing here is text of the caller's choice."""
        fields = {
            "decision_id": decision.id,
            "amends": decision.amends,
            "kills": "stale" if decision.kills_stale else None,
            "timestamp": rfc3339(decision.timestamp_ns),
            "args_digest": decision.call and self.args_digest(decision.call),
            "masked": masked,
            "latency_us": decision.latency_us and dict(decision.latency_us),
            "metrics": decision.latency_us and _metrics(decision.latency_us),
            "trace_id": decision.trace_id,
            "span_id": decision.span_id,
            "requested_by": check.source_address,
        }
        return {name: value for name, value in fields.items() if value}

    def _claimed(self, decision: Decision) -> dict[str, Any]:
        """What a caller or a policy wrote, and so may hold a secret."""
        claimed: dict[str, Any] = {}
        # The input first, and in it the arguments: what is masked is found by what stands before it.
        if decision.input_json and self.inputs == "masked":
            claimed["input"] = orjson.Fragment(decision.input_json)
        claimed["reason"] = decision.reason
        if decision.call:
            tool = decision.call.tool
            claimed["tool"] = {"server": tool.server, "name": tool.name, "method": tool.method}
            if decision.call.idempotency_key:
                claimed["idempotency_key"] = decision.call.idempotency_key
        if decision.verdict and decision.verdict.rules:
            claimed["rules"] = decision.verdict.rules
        if decision.hidden:
            claimed["hidden"] = decision.hidden
        if decision.result_json:
            claimed["result"] = orjson.Fragment(decision.result_json)
        if decision.tenant_result_json:
            claimed["tenant_result"] = orjson.Fragment(decision.tenant_result_json)
        return claimed


def _credentials(check: Check, input_json: bytes) -> list[Known]:
    """What the input of contract `envoy` nearly always holds: the caller's token, and the body in base64."""
    if check.document is None:
        return []
    credentials = []
    if authorization := check.headers.get("authorization"):
        credentials.append(_credential("secret", "headers/authorization", authorization))
    if check.body and b'"rawBody"' in input_json:
        credentials.append(_credential("encoded_body", "rawBody", b64encode(check.body).decode()))
    return credentials


def _credential(kind: str, place: str, value: str) -> Known:
    pointer = f"/input/attributes/request/http/{place}"
    return Known(name=pointer.rpartition("/")[2], value=value, kind=kind, pointer=pointer)


# DEL, C1 and the two separators: JSON lets them stand, terminals obey some, and readers break lines at others (J12).
_CONTROL: Final = re.compile(rb"\x7f|\xc2[\x80-\x9f]|\xe2\x80[\xa8\xa9]")


def one_line(document: bytes) -> bytes:
    """The same JSON with every control character escaped; only texts can hold one."""
    if document.isascii() and b"\x7f" not in document:
        return document
    return _CONTROL.sub(lambda match: b"\\u%04x" % ord(match[0].decode()), document)


@functools.lru_cache(maxsize=1024)  # what an agent's decisions share is written once, not by call
def _standing(
    judgement: tuple[str, str, str, str, str], risk: str | None, principal: Principal | None, revision: Revision
) -> bytes:
    """The part of a record that says how it was judged, who called and which policy answered, ending in a comma."""
    status, effect, enforced, mode, phase = judgement
    caller = principal or _NOBODY
    fields = {
        "status": status,
        "effect": effect,
        "enforced": enforced,
        "mode": mode,
        "phase": phase,
        "risk": risk,
        "tenant": caller.tenant,
        "agent": caller.agent,
        "subject": caller.subject,
        "session": caller.session,
        "jti_sha256": caller.jti_sha256,
        "parents": caller.parents,
        "revision": revision.revision,
        "bundle_id": revision.bundle_id,
        "change_id": revision.change_id,
        "rollout": revision.rollout,
        "wave": revision.wave,
        "cohort": revision.cohort,
        "beside": revision.beside,
        "bundles": _bundles(revision, caller.tenant),
    }
    return orjson.dumps({name: value for name, value in fields.items() if value})[1:-1] + b","


def _bundles(revision: Revision, tenant: str) -> dict[str, dict[str, str]]:
    """OPA's map of the bundles that answered; a tenant's own is named with its tenant, and with all that it is."""
    found = {revision.bundle_id: {"revision": revision.revision}} if revision.bundle_id else {}
    if (own := revision.tenant) is not None:
        named = {
            "revision": own.revision,
            "change_id": own.change_id,
            "rollout": own.rollout,
            "wave": own.wave,
            "cohort": own.cohort,
            "beside": own.beside,
        }
        found[f"{tenant}/{own.bundle_id}"] = {name: value for name, value in named.items() if value}
    return found


def _metrics(latency_us: Mapping[str, int]) -> dict[str, int]:
    """OPA's timers, so that what reads its decision logs reads ours."""
    return {timer: latency_us[step] * 1000 for step, timer in _TIMERS.items() if step in latency_us}
