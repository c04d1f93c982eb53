"""What a tool answered, judged one message at a time: phases `list` and `result` (contracts §4, §6).

Decides which phase a message belongs to, and writes what the caller sees instead of it: the list without its hidden
tools, the result without its secrets, or a refusal. Must never return a byte of a message that it could not read or
that the policy refused.

Trusts `pdp.py` for the judgement and the record of it, and nothing that the tool says.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import orjson

from authz.edge import reply
from authz.errors import DenialError, UnavailableError
from authz.model import Effect, Kind, Phase, Protocol
from authz.protocol import mcp, pointer, redaction, results, strict_json
from authz.reasons import REDACT_FAILED

if TYPE_CHECKING:
    from collections.abc import Iterable

    from authz.config import Limits
    from authz.model import Decision, JsonObject, JsonValue
    from authz.pdp import Answered, Exchange, PolicyDecisionPoint

_RESULT: Final = "/result"


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspected:
    """What to send instead of a message; empty sends nothing. `answered` is None where nothing was judged."""

    body: bytes
    answered: Answered | None = None

    @property
    def is_refused(self) -> bool:
        """The message itself must not be seen."""
        return self.answered is not None and not self.answered.decision.forwards


class Inspection:
    """Judges the messages of one answer. Not thread-safe; one for each stream."""

    def __init__(self, pdp: PolicyDecisionPoint, exchange: Exchange, limits: Limits) -> None:
        self._pdp = pdp
        self._exchange = exchange
        self._limits = limits
        self.phase = Phase.LIST if exchange.call.kind is Kind.LIST else Phase.RESULT

    def judge(self, body: bytes) -> Inspected:
        """Judge one whole message; an unreadable one is refused and recorded like any other refusal."""
        try:
            return self._judge(body)
        except UnavailableError:
            return self.refuse()

    def refuse(self) -> Inspected:
        """The refusal, on record, of an answer that cannot be judged at all."""
        answered = self._pdp.refuse_later(self._exchange, self.phase, REDACT_FAILED)
        return Inspected(body=refusal(answered.decision), answered=answered)

    def fields(self, fields: Iterable[bytes], inspected: Inspected) -> tuple[bytes, ...]:
        """What else an event may carry: nothing beside a refusal, and nothing that the plan for its data matches."""
        if inspected.is_refused:
            return ()
        verdict = inspected.answered.decision.verdict if inspected.answered else None
        patterns = [replace(item, path="") for item in (verdict.redactions if verdict else ()) if item.pattern]
        return tuple(field for field in fields if not redaction.apply(field.decode("ascii"), patterns).count)

    def _judge(self, body: bytes) -> Inspected:
        if self._exchange.call.tool.protocol is not Protocol.MCP:
            return self._result(body, self._parse(body), "")
        message = results.read(body, self._limits, self._limits.max_body_bytes)
        part = results.judged_part(message)
        if self.phase is Phase.LIST and "method" not in message:
            return self._list(body, message)
        if part is None or not self._exchange.reads_results:
            return Inspected(body=body)
        return self._result(body, message, part)

    def _parse(self, body: bytes) -> JsonValue:
        try:
            return strict_json.parse(body, self._limits, max_bytes=self._limits.max_body_bytes).value
        except DenialError as error:
            raise UnavailableError(REDACT_FAILED, f"the tool's answer is unreadable: {error.reason.code}") from None

    def _list(self, body: bytes, message: JsonObject) -> Inspected:
        modern = self._exchange.call.protocol_version == mcp.MODERN
        filtered = results.filter_tools(message, self._is_visible, modern=modern)
        shown = body if filtered.message == message else orjson.dumps(filtered.message)
        answered = self._pdp.filtered(self._exchange, filtered.hidden, shown)
        is_shown = answered.decision.forwards
        return Inspected(body=shown if is_shown else _refusal_of(message, answered.decision), answered=answered)

    def _is_visible(self, tool: JsonObject) -> bool:
        try:
            return self._pdp.visible(self._exchange, str(tool["name"]))
        except DenialError:
            return False  # a tool that nobody could judge stays hidden; a call of it would be denied as well

    def _result(self, body: bytes, message: JsonValue, part: str) -> Inspected:
        def render(decision: Decision) -> bytes:
            if not decision.forwards:
                return _refusal_of(message, decision)
            return self._redacted(message, part, decision) if decision.enforced is Effect.SANITIZE else body

        answered = self._pdp.judge_result(self._exchange, pointer.find(message, part), render)
        return Inspected(body=answered.answer, answered=answered)

    def _redacted(self, message: JsonValue, part: str, decision: Decision) -> bytes:
        plan = decision.verdict.redactions if decision.verdict else ()
        apply = redaction.apply_to_result if part == _RESULT else redaction.apply
        value = apply(pointer.find(message, part), plan).value
        if part and isinstance(message, dict):
            value = {**message, part[1:]: value}
        return orjson.dumps(value)


def refusal(decision: Decision) -> bytes:
    """The body of a refusal: a JSON-RPC error on MCP, else a problem document."""
    return orjson.dumps(reply.rpc_error(decision) if decision.rpc_code else reply.problem(decision))


def _refusal_of(message: JsonValue, decision: Decision) -> bytes:
    """What stands in for one message. Nothing does for what the server asks or tells: that waits for no answer."""
    if isinstance(message, dict) and "method" in message and decision.rpc_code:
        return b""
    return refusal(decision)
