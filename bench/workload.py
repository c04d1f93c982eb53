"""What is asked of every program: one policy, one call that it allows, and one that it denies.

Decides the size of the work: a table of 10 tenants x 20 agents x 50 tools, and a call of some 1.4 kB with a token.
Must stay the same between programs, so that a ratio of two figures speaks of the programs alone.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from authz._gen.envoy.service.auth.v3.external_auth_pb2 import CheckRequest
from authz.identity.development_issuer import MAX_TTL_S, open_issuer

if TYPE_CHECKING:
    from authz.identity.development_issuer import DevelopmentIssuer

SOURCES: Final = Path(__file__).parent / "policy"
TENANTS, AGENTS, TOOLS = 10, 20, 50
TENANT, AGENT, TOOL = "tenant-7", "agent-13", "tool-31"
MOST: Final = 1000
ARGUMENTS: Final = {
    "account": "DE89 3704 0044 0532 0130 00",
    "amount": 250,
    "currency": "EUR",
    "note": "invoice 2026-11-17 for the consulting of October",
    "lines": [{"text": "consulting", "hours": 16}, {"text": "travel", "hours": 4}],
    "urgent": False,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """Files of one run. `granted` is a serialized CheckRequest that must be allowed, `refused` one that must not be."""

    agent_policy: Path
    plugin_policy: Path
    issuer: DevelopmentIssuer
    token: str
    granted: bytes
    refused: bytes


def prepare(folder: Path) -> Workload:
    """Write the policies for both contracts below `folder`, and make the calls."""
    issuer = open_issuer(folder / "issuer")
    token = issuer.mint(agent=AGENT, tenant=TENANT, session="session-1", scopes=("tools",), ttl_s=MAX_TTL_S)
    return Workload(
        agent_policy=_policy(folder / "agent", "agent.rego"),
        plugin_policy=_policy(folder / "plugin", "plugin.rego"),
        issuer=issuer,
        token=token,
        granted=check_request(token, ARGUMENTS).SerializeToString(),
        refused=check_request(token, ARGUMENTS | {"amount": MOST + 1}).SerializeToString(),
    )


def grants() -> dict[str, dict[str, dict[str, dict[str, int]]]]:
    """Tenant to agent to tool to the most that one call may move."""
    tools = {f"tool-{number}": {"most": MOST} for number in range(TOOLS)}
    agents = {f"agent-{number}": tools for number in range(AGENTS)}
    return {f"tenant-{number}": agents for number in range(TENANTS)}


def check_request(token: str, arguments: dict[str, object]) -> CheckRequest:
    """An MCP `tools/call` as Envoy sends it for checking, with the body whole."""
    call = {"name": TOOL, "arguments": arguments}
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call}).encode()
    request = CheckRequest()
    request.attributes.source.address.socket_address.address = "10.0.0.1"
    request.attributes.source.address.socket_address.port_value = 33333
    request.attributes.destination.address.socket_address.address = "10.0.0.2"
    request.attributes.destination.address.socket_address.port_value = 8000
    request.attributes.request.time.GetCurrentTime()
    http = request.attributes.request.http
    http.id, http.method, http.path, http.host = "7823650174", "POST", "/mcp", "tools.example"
    http.scheme, http.protocol, http.size, http.raw_body = "http", "HTTP/1.1", len(body), body
    http.headers.update(_headers(token, body))
    return request


def _headers(token: str, body: bytes) -> dict[str, str]:
    return {
        ":authority": "tools.example",
        ":method": "POST",
        ":path": "/mcp",
        ":scheme": "http",
        "accept": "application/json, text/event-stream",
        "authorization": f"Bearer {token}",
        "content-length": str(len(body)),
        "content-type": "application/json",
        "mcp-protocol-version": "2025-11-25",
        "user-agent": "bench",
        "x-agent": AGENT,
        "x-forwarded-proto": "http",
        "x-request-id": "6d9c4c0e-6a4b-4f6f-8a75-0f4a0f0b7a11",
        "x-tenant": TENANT,
    }


def _policy(folder: Path, rules: str) -> Path:
    folder.mkdir()
    for name in ("grants.rego", rules):
        shutil.copy(SOURCES / name, folder)
    (folder / "data.json").write_text(json.dumps({"grants": grants()}), encoding="utf-8")
    return folder
