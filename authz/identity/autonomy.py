"""What the registry lets an agent do: its lifecycle, the ceiling of its tools, its autonomy, its memory writes.

Decides where the registry narrows what the policy grants (requirement I4). Must never widen it: every rule here
refuses, or asks for a person, or does nothing. Pure. Trusts the facts, which come signed by the control plane, and the
policy's word on risk; risk that a policy does not state is `destructive`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from authz.errors import InvalidRequestError
from authz.model import MEMORY_WRITE, Autonomy, Effect, Kind, Lifecycle, Mode, Risk
from authz.reasons import (
    AGENT_PAUSED,
    AGENT_RETIRED,
    AUTONOMY_APPROVAL,
    AUTONOMY_EXCEEDED,
    MEMORY_WRITES_PAUSED,
    TOOL_CEILING,
)

if TYPE_CHECKING:
    from authz.model import AgentFacts, Tool, ToolCall, Verdict

_REFUSED: Final = {Lifecycle.PAUSED: AGENT_PAUSED, Lifecycle.RETIRED: AGENT_RETIRED}


def admit(facts: AgentFacts, call: ToolCall) -> None:
    """Before the policy is asked.

    Raises:
        InvalidRequestError: AGENT_PAUSED, AGENT_RETIRED, TOOL_CEILING or MEMORY_WRITES_PAUSED.
    """
    if facts.lifecycle is not Lifecycle.ACTIVE:
        raise InvalidRequestError(_REFUSED[facts.lifecycle])
    if call.kind is Kind.CALL and call.tool.name and not is_under(facts.tools_ceiling, call.tool):
        raise InvalidRequestError(TOOL_CEILING)
    if facts.memory_writes_paused and MEMORY_WRITE in call.tool.capabilities:
        raise InvalidRequestError(MEMORY_WRITES_PAUSED)


def is_under(ceiling: tuple[str, ...] | None, tool: Tool) -> bool:
    """Whether the ceiling includes this tool: the server exactly, the name exactly or by a prefix that ends in `*`."""
    return ceiling is None or any(_includes(entry, tool) for entry in ceiling)


def narrowed(facts: AgentFacts, verdict: Verdict, *, approved: bool) -> Verdict:
    """What the policy's verdict comes to for an agent of this autonomy. A refusal that holds stays as it is worded.

    Args:
        facts: what the registry says.
        verdict: what the policy said.
        approved: an override was presented and verified for this very call.

    Raises:
        InvalidRequestError: AUTONOMY_EXCEEDED.
    """
    if verdict.risk is Risk.READ or (verdict.effect is Effect.DENY and verdict.mode is Mode.BLOCK):
        return verdict
    if facts.autonomy is Autonomy.OBSERVE:
        raise InvalidRequestError(AUTONOMY_EXCEEDED)
    if facts.autonomy is not Autonomy.ACT_WITH_APPROVAL or approved or not _runs(verdict):
        return verdict
    # What would run in flag mode would run as well.
    return replace(
        verdict,
        effect=Effect.APPROVAL_NEEDED,
        mode=Mode.BLOCK,
        reason=AUTONOMY_APPROVAL.code,
        message=AUTONOMY_APPROVAL.summary,
    )


def _runs(verdict: Verdict) -> bool:
    return verdict.mode is Mode.FLAG or verdict.effect in (Effect.ALLOW, Effect.SANITIZE)


def _includes(entry: str, tool: Tool) -> bool:
    # Split at the first slash, as `SERVER/NAME` is read everywhere, so that no server's name reaches into another's.
    server, _, name = entry.partition("/")
    if server != tool.server:
        return False
    return tool.name.startswith(name[:-1]) if name.endswith("*") else tool.name == name
