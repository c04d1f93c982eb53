"""`authz decide`: judge one call offline, and say why."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.table import Table

from authz.clock import SystemClock
from authz.config import Limits, Policy, Route, load
from authz.errors import ConfigError
from authz.explain import explain
from authz.model import Check, Principal
from authz.native import Library
from authz.policy import agent_contract, envoy_contract
from authz.policy.agent_input import NO_FACTS, input_document
from authz.protocol import mcp
from authz.wiring import policy_source

if TYPE_CHECKING:
    from authz.explain import Explanation

EXAMPLES = """
Examples:

  authz decide --policy bundles/starter --tenant acme --agent billing-agent call.json

  echo '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"delete_records"}}' |
    authz decide --policy bundles/starter --tenant acme --agent research-agent -

  authz decide --policy bundles/starter --output json input.json

  authz decide --contract envoy --policy bundles/envoy-compat input.json
"""
MOST_LINES = 20


def decide(
    file: Annotated[str, typer.Argument(help="A JSON-RPC message, or a whole policy input document; - reads stdin.")],
    policy: Annotated[
        list[Path], typer.Option(envvar="AUTHZ_POLICY", help="Folder, .rego or bundle archive; repeatable.")
    ],
    agent: Annotated[str, typer.Option(help="Agent id of the caller.")] = "agent",
    tenant: Annotated[str, typer.Option(help="Tenant of the caller.")] = "tenant",
    session: Annotated[str, typer.Option(help="Session of the caller.")] = "",
    scope: Annotated[str, typer.Option(help="Scopes of the caller, separated by spaces.")] = "",
    server: Annotated[str, typer.Option(envvar="AUTHZ_SERVER", help="tool.server.")] = "default",
    contract: Annotated[str, typer.Option(envvar="AUTHZ_CONTRACT", help="agent | envoy")] = "agent",
    entrypoint: Annotated[str, typer.Option(envvar="AUTHZ_ENTRYPOINT", help="Rule to ask.")] = "",
    output: Annotated[str, typer.Option(help="table | json")] = "table",
) -> None:
    """Say what would be decided, by which rules, and which conditions did not hold. Exit 1 when it would not run."""
    config = load(
        None,
        {"policy.paths": tuple(policy), "policy.contract": contract, "policy.entrypoint": entrypoint},
    )
    principal = Principal(
        issuer="cli", tenant=tenant, agent=agent, subject=agent, session=session, scopes=tuple(scope.split())
    )
    document = _input(_read(file), principal, server)
    interpret = envoy_contract.interpret if contract == "envoy" else agent_contract.interpret
    explanation = explain(Library.load(), policy_source(config), config.policy.rule, interpret, document)
    if output == "json":
        sys.stdout.write(orjson.dumps(explanation.document(), option=orjson.OPT_INDENT_2).decode() + "\n")
    else:
        _print(explanation)
    raise SystemExit(0 if explanation.is_allowed else 1)


def _read(file: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror}") from None


def _input(body: bytes, principal: Principal, server: str) -> bytes:
    """The policy input: made from a JSON-RPC message as the service would, or as given."""
    try:
        document: Any = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise ConfigError(f"the call is not JSON: {error}") from None
    if not isinstance(document, dict) or "jsonrpc" not in document:
        return body
    headers = {"content-type": "application/json", "mcp-protocol-version": "2025-11-25"}
    check = Check(
        method="POST", path="/mcp", headers=headers, body=body, received_ns=SystemClock().unix_ns(), request_id="cli"
    )
    call = mcp.parse(check, Route(path="/mcp"), server, Limits())
    return input_document(check, principal, call, NO_FACTS, Policy().http_headers)


def _print(explanation: Explanation) -> None:
    console = Console(highlight=False, soft_wrap=True)
    document = explanation.document()
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for name in ("effect", "reason", "message", "mode", "risk"):
        if document[name]:
            table.add_row(name, str(document[name]))
    for redaction in document["redactions"]:
        table.add_row("redaction", f"{redaction['path']} -> {redaction['replacement']}")
    console.print(table)
    _lines(console, "decided by", explanation.rules)
    if not explanation.is_allowed:
        _lines(console, "did not hold (each is a way to another answer)", explanation.failed)
    _lines(console, "printed", explanation.prints)
    profile = tuple(f"{us} us in {n} evaluations of {rule}" for rule, n, us in explanation.profile[:5])
    _lines(console, "slowest rules", profile)


def _lines(console: Console, title: str, lines: tuple[str, ...]) -> None:
    if lines:
        console.print(f"\n{title}:")
        for line in lines[:MOST_LINES]:
            console.print(f"  {line}", markup=False)
