"""The rows of the demonstration: what is sent, by whom, and what was promised.

Decides what counts as kept: outcome, reason, and what the tool must or must not have received. Everything
goes over real HTTP through the real Envoy; nothing here knows the decision service but by its answers.
"""

from __future__ import annotations

import json
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

import httpx2
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

DECISION_ID: Final = "x-authz-decision-id"
CARD: Final = "4111 1111 1111 1111"
TIMEOUT_S: Final = 15.0
LARGE: Final = 300 * 1024
KILL: Final = "KILL"
CHILD: Final = "billing-agent"
PARENT: Final = "orchestrator"
"""Spawned the child."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back for one call."""

    outcome: str
    reason: str
    shown: str
    latency_ms: float
    decision_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One call and its promise.

    Attributes:
        received: what the tool must have received; None: nothing at all. "*" in a text stands for anything.
        first: what an operator does before, as arguments of `authz`; `KILL` stands for the id of the last kill.
    """

    call: str
    agent: str
    outcome: str
    reason: str
    send: Callable[[Caller], Awaitable[Answer]]
    tenant: str = "acme"
    received: dict[str, Any] | None = None
    credential: Literal["valid", "none", "expired"] = "valid"
    shows: str = ""
    hides: str = ""
    first: tuple[str, ...] = ()


@dataclass
class Caller:
    """One agent's way to the tools: an MCP client and a plain HTTP client with its token."""

    url: str
    token: str
    decision_ids: dict[str, str] = field(default_factory=dict)

    def http(self, *hooks: Callable[[httpx2.Response], Awaitable[None]]) -> httpx2.AsyncClient:
        """Plain HTTP with the token."""
        headers = {"authorization": f"Bearer {self.token}"} if self.token else {}
        return httpx2.AsyncClient(headers=headers, timeout=TIMEOUT_S, event_hooks={"response": [*hooks]})

    @asynccontextmanager
    async def mcp(self) -> AsyncIterator[Client]:
        """The official MCP client, unchanged; what was decided of each of its methods is noted."""

        async def note(response: httpx2.Response) -> None:
            if DECISION_ID in response.headers and response.request.content:
                method = json.loads(response.request.content)["method"]
                self.decision_ids[method] = response.headers[DECISION_ID]

        async with self.http(note) as http, Client(streamable_http_client(self.url, http_client=http)) as client:
            yield client

    async def call_tool(self, name: str, args: dict[str, Any]) -> Answer:
        """Call one tool as an agent would."""

        async def call(client: Client) -> str:
            result = await client.call_tool(name, args)
            return " ".join(getattr(part, "text", "") for part in result.content)

        return await self._ask("tools/call", call)

    async def list_tools(self) -> Answer:
        """List the tools as an agent would."""

        async def names(client: Client) -> str:
            return ", ".join(sorted(tool.name for tool in (await client.list_tools()).tools))

        return await self._ask("tools/list", names)

    async def _ask(self, method: str, send: Callable[[Client], Awaitable[str]]) -> Answer:
        async with self.mcp() as client:
            started = time.perf_counter()
            try:
                return self._allowed(method, await send(client), started)
            except MCPError as error:
                return _refused(error.error.message, error.error.data, started)

    async def post(self, body: bytes, **headers: str) -> Answer:
        """Send bytes that no SDK would."""
        sent = {"content-type": "application/json", "accept": "application/json, text/event-stream"}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.http() as http:
            started = time.perf_counter()
            response = await http.post(self.url, content=body, headers=sent)
        challenge = response.headers.get("www-authenticate", "")
        error = response.json().get("error", {}) if response.content else {}
        shown = f"{response.status_code} {challenge or error.get('message', '')}"
        return _refused(shown, error.get("data"), started)

    def _allowed(self, method: str, shown: str, started: float) -> Answer:
        return Answer(
            outcome="allow", reason="", shown=shown, latency_ms=_since(started), decision_id=self.decision_ids[method]
        )


def _refused(message: str, details: Any, started: float) -> Answer:  # noqa: ANN401 - JSON
    told = details if isinstance(details, dict) else {}
    needs_approval = "approval" in str(told.get("next_step", "")).lower()
    return Answer(
        outcome="approval_needed" if needs_approval else "deny",
        reason=str(told.get("code", "")),
        shown=f"{message} {told['next_step']}" if needs_approval else message,
        latency_ms=_since(started),
        decision_id=str(told.get("decision_id", "")),
    )


def _since(started: float) -> float:
    return (time.perf_counter() - started) * 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A row carried out: the answer, what the tool received, and the record of the decision."""

    row: Row
    answer: Answer
    received: list[dict[str, Any]]
    record: dict[str, Any] = field(default_factory=dict)

    @property
    def broken(self) -> str:
        """Which promise was not kept; empty when all were."""
        if not self.record:
            return "the call has no record"
        return self._broken_answer or self._broken_receipt

    @property
    def _broken_answer(self) -> str:
        row, answer = self.row, self.answer
        if answer.outcome != row.outcome.replace("sanitize", "allow"):
            return f"expected {row.outcome}, got {answer.outcome} ({answer.reason}): {answer.shown}"
        if row.reason and answer.reason != row.reason:
            return f"expected reason {row.reason}, got {answer.reason}"
        if row.shows not in answer.shown or (row.hides and row.hides in answer.shown):
            return f"the client saw: {answer.shown}"
        return ""

    @property
    def _broken_receipt(self) -> str:
        arrived = [call["args"] for call in self.received]
        promised = [] if self.row.received is None else [self.row.received]
        return "" if arrived == promised else f"the tool received {arrived}"


async def carry_out(row: Row, caller: Caller, received: Callable[[], list[dict[str, Any]]]) -> Seen:
    """Send one row and look at both ends."""
    before = len(received())
    answer = await row.send(caller)
    return Seen(row=row, answer=answer, received=received()[before:])


def _tool(name: str, **args: Any) -> Callable[[Caller], Awaitable[Answer]]:  # noqa: ANN401 - the tool's own
    return lambda caller: caller.call_tool(name, args)


def _post(body: bytes, **headers: str) -> Callable[[Caller], Awaitable[Answer]]:
    return lambda caller: caller.post(body, **headers)


def _message(**params: Any) -> bytes:  # noqa: ANN401 - JSON
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).encode()


def _payment(amount: float) -> dict[str, Any]:
    return {"recipient": "cloud-hosting", "amount": amount, "currency": "EUR", "memo": "November"}


LEGACY: Final = {"mcp_protocol_version": "2025-11-25"}
READ: Final = _message(name="read_document", arguments={"path": "/docs/report.txt"})
MAIL: Final = {"to": "ada@customer.example", "subject": "Your card"}

ROWS: Final = (
    Row(
        call="read_document /docs/report.txt",
        agent="research-agent",
        outcome="allow",
        reason="",
        send=_tool("read_document", path="/docs/report.txt"),
        received={"path": "/docs/report.txt"},
    ),
    Row(
        call="transfer_payment 250 EUR",
        agent="billing-agent",
        outcome="allow",
        reason="",
        send=_tool("transfer_payment", **_payment(250)),
        received=_payment(250),
    ),
    Row(
        call="transfer_payment 25000 EUR",
        agent="billing-agent",
        outcome="deny",
        reason="payment_over_limit",
        send=_tool("transfer_payment", **_payment(25_000)),
    ),
    Row(
        call="transfer_payment 5000 EUR",
        agent="billing-agent",
        outcome="approval_needed",
        reason="payment_needs_approval",
        send=_tool("transfer_payment", **_payment(5000)),
        shows="finance",
    ),
    Row(
        call="transfer_payment 250 EUR",
        agent="billing-agent",
        tenant="globex",
        outcome="deny",
        reason="tenant_not_granted",
        send=_tool("transfer_payment", **_payment(250)),
    ),
    Row(
        call="send_email with a card number",
        agent="support-agent",
        outcome="sanitize",
        reason="",
        send=_tool("send_email", **MAIL, body=f"Card {CARD}, thank you."),
        received={**MAIL, "body": "Card [REDACTED:payment_card], thank you."},
    ),
    Row(
        call="read_document with an IBAN in it",
        agent="research-agent",
        outcome="sanitize",
        reason="",
        send=_tool("read_document", path="/docs/customer.txt"),
        received={"path": "/docs/customer.txt"},
        shows="[REDACTED:iban]",
        hides="DE89",
    ),
    Row(
        call="tools/list",
        agent="support-agent",
        outcome="allow",
        reason="",
        send=Caller.list_tools,
        shows="send_email",
        hides="delete_records",
    ),
    Row(
        call="delete_records (hidden)",
        agent="support-agent",
        outcome="deny",
        reason="tool_not_granted",
        send=_tool("delete_records", table="customers", where="1=1"),
    ),
    Row(
        call="read_document, no token",
        agent="(nobody)",
        outcome="deny",
        reason="TOKEN_MISSING",
        send=_post(READ, **LEGACY),
        credential="none",
        shows="resource_metadata",
    ),
    Row(
        call="read_document, expired token",
        agent="research-agent",
        outcome="deny",
        reason="TOKEN_EXPIRED",
        send=_post(READ, **LEGACY),
        credential="expired",
        shows="401",
    ),
    Row(
        call="JSON-RPC batch of two calls",
        agent="research-agent",
        outcome="deny",
        reason="MCP_BATCH",
        send=_post(b"[" + READ + b"," + READ + b"]", **LEGACY),
    ),
    Row(
        call="the key `name` twice",
        agent="research-agent",
        outcome="deny",
        reason="JSON_DUP_KEY",
        send=_post(READ.replace(b'"arguments"', b'"name": "delete_records", "arguments"'), **LEGACY),
    ),
    Row(
        call="body of 300 KiB",
        agent="research-agent",
        outcome="deny",
        reason="MCP_BODY_TOO_LARGE",
        send=_post(_message(name="search_web", arguments={"query": "x" * LARGE}), **LEGACY),
    ),
    Row(
        call="Mcp-Name says another tool",
        agent="research-agent",
        outcome="deny",
        reason="HEADER_MISMATCH",
        send=_post(READ, **LEGACY, mcp_name="search_web"),
    ),
    Row(
        call="its session is killed, then read_document",
        agent="research-agent",
        outcome="deny",
        reason="REVOKED",
        send=_post(READ, **LEGACY),
        first=("kill", "session", "demo", "--tenant", "acme", "--reason", "shown in the demonstration"),
    ),
    Row(
        call="the kill is lifted, then read_document",
        agent="research-agent",
        outcome="allow",
        reason="",
        send=_tool("read_document", path="/docs/report.txt"),
        received={"path": "/docs/report.txt"},
        first=("lift", KILL, "--tenant", "acme", "--reason", "shown in the demonstration"),
    ),
    Row(
        call="its parent is killed, then transfer_payment 250 EUR",
        agent="billing-agent",
        outcome="deny",
        reason="REVOKED",
        send=_post(_message(name="transfer_payment", arguments=_payment(250)), **LEGACY),
        first=("kill", "subtree", PARENT, "--tenant", "acme", "--reason", "shown in the demonstration"),
    ),
)
