"""Contract `agent`: the input document that a policy reads.

Decides the shape of `input`, version 1 (design §7, contracts §4), and that an unknown fact is absent
rather than null, so that a rule reading it is undefined and denies. Must never do I/O or show a policy
the caller's credentials. Trusts the values it is given, which were verified before.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import orjson

from authz.clock import rfc3339
from authz.model import Phase

if TYPE_CHECKING:
    from authz.model import AgentFacts, Check, JsonObject, JsonValue, Principal, ToolCall


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What local replicas know beside the call itself; absent facts are absent from the input, not null."""

    agent: JsonObject = field(default_factory=dict)
    budgets: JsonObject = field(default_factory=dict)
    session: JsonObject = field(default_factory=dict)
    approval: JsonObject = field(default_factory=dict)


NO_FACTS: Final = Facts()


def agent_facts(agent: AgentFacts | None) -> JsonObject:
    """What policies read of the registry; nothing of an agent that it does not know."""
    if agent is None:
        return {}
    return {"lifecycle": agent.lifecycle, "autonomy": agent.autonomy, "owner": agent.owner}


def input_document(
    check: Check,
    principal: Principal,
    call: ToolCall,
    facts: Facts,
    http_headers: tuple[str, ...],
    result: JsonValue = None,
) -> bytes:
    """The JSON that the engine reads: design §7, version 1. `result` only in phase `result`."""
    path, _, query = check.path.partition("?")
    tool = call.tool
    document: dict[str, object] = {"version": 1, "phase": call.phase}
    if call.phase is not Phase.LIST:
        document["args"] = call.args
    if call.phase is Phase.RESULT:
        document["result"] = result
    if call.destination is not None:
        host, port = call.destination.host, call.destination.port
        document["destination"] = {"host": host, "port": port} if port else {"host": host}
    document |= {
        "agent": {
            "id": principal.agent,
            "tenant": principal.tenant,
            "session": principal.session,
            "subject": principal.subject,
            "scopes": principal.scopes,
            "parents": principal.parents,
            **facts.agent,
        },
        "tool": {
            "server": tool.server,
            "name": tool.name,
            "protocol": tool.protocol,
            "method": tool.method,
            "capabilities": tool.capabilities,
            "connector": tool.connector,
            "pinned": tool.pinned,
            "digest": tool.digest,
        },
        "http": {
            "method": check.method,
            "host": check.host,
            "path": path,
            "query": query,
            "headers": {name: check.headers[name] for name in http_headers if name in check.headers},
        },
        "source": {"address": check.source_address, "principal": check.source_principal},
        "call": {
            "id": check.request_id,
            "idempotency_key": call.idempotency_key,
            "size_bytes": len(check.body or b""),
        },
        "facts": {"budgets": facts.budgets, "session": facts.session, "approval": facts.approval},
        "time": {"rfc3339": rfc3339(check.received_ns), "unix_ns": check.received_ns},
    }
    return orjson.dumps(document)
