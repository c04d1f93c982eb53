"""`authz decide`: judge one call offline, and say why."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, NamedTuple

import orjson
import typer
from google.protobuf import json_format

from authz._gen.envoy.service.auth.v3.external_auth_pb2 import CheckRequest
from authz.authoring.compiling import hold_current
from authz.budgets.rates import Rates
from authz.cli.output import Output, OutputOption, document, line, pairs
from authz.clock import SystemClock
from authz.config import Limits, Policy, Route, load
from authz.edge.plugin_input import plugin_input
from authz.errors import ConfigError, InvalidRequestError
from authz.explain import Explanation, explain
from authz.model import Check, Effect, Principal
from authz.native import EngineError, Library, PolicyOptions
from authz.policy.agent_input import NO_FACTS, Facts, input_document
from authz.policy.contracts import INTERPRET
from authz.policy.rates import asked
from authz.policy.sources import library_beside
from authz.protocol import mcp
from authz.wiring import policy_source

if TYPE_CHECKING:
    from authz.model import ApprovalRequest, JsonObject, Rate
    from authz.policy.engine import PolicySource

EXAMPLES = """
Examples:

  authz decide --policy bundles/starter --tenant acme --agent billing-agent call.json

  echo '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"delete_records"}}' |
    authz decide --policy bundles/starter --tenant acme --agent research-agent -

  authz decide --policy bundles/starter --output json input.json

  authz decide --contract envoy --policy bundles/envoy-compat check-request.json
"""
MOST_LINES: Final = 20
_VERSION: Final = "io.modelcontextprotocol/protocolVersion"


def decide(
    file: Annotated[str, typer.Argument(help="JSON-RPC message, policy input or CheckRequest in JSON; - reads stdin.")],
    policy: Annotated[list[Path], typer.Option(help="Folder, .rego or bundle archive; repeatable.")],
    agent: Annotated[str, typer.Option(help="Agent id of the caller.")] = "agent",
    tenant: Annotated[str, typer.Option(help="Tenant of the caller.")] = "tenant",
    session: Annotated[str, typer.Option(help="Session of the caller.")] = "",
    scope: Annotated[str, typer.Option(help="Scopes of the caller, separated by spaces.")] = "",
    server: Annotated[str, typer.Option(help="`tool.server` in policy input.")] = "default",
    contract: Annotated[Literal["agent", "envoy"], typer.Option(help="What the policy is written for.")] = "agent",
    entrypoint: Annotated[str, typer.Option(help="Rule to ask; default: the contract's.")] = "",
    verbose: Annotated[bool, typer.Option("--verbose", help="Tell of the policy library's rules too.")] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Say what would be decided, by which rules, and what would have to hold. Exit 1 when the call would not run."""
    hold_current(policy)
    settings = {"policy.paths": tuple(policy), "policy.contract": contract, "policy.entrypoint": entrypoint}
    config = load(None, settings)
    principal = Principal(
        issuer="cli", tenant=tenant, agent=agent, subject=agent, session=session, scopes=tuple(scope.split())
    )
    interpret, library, source = INTERPRET[contract], Library.load(), policy_source(config)
    hidden = () if verbose else library_beside(policy, contract)
    rates = _rates(library, source) if contract == "agent" else ()
    try:
        asked = _input(_read(file), Caller(principal, server, rates), contract)
    except InvalidRequestError as error:
        explanation = Explanation.refusal(error)
    else:
        explanation = explain(library, source, config.policy.rule, interpret, asked, hidden=hidden)
    if output is Output.JSON:
        document(explanation.document())
    else:
        _print(explanation)
    raise typer.Exit(0 if explanation.is_allowed else 1)


def _read(file: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror}") from None


class Caller(NamedTuple):
    """Who calls where, and which counts the policy asks for."""

    principal: Principal
    server: str
    rates: tuple[Rate, ...]


def _rates(library: Library, source: PolicySource) -> tuple[Rate, ...]:
    options = PolicyOptions(paths=source.paths, archive=source.archive, contract=source.contract)
    try:
        with library.open_policy(options) as policy:
            return asked([reference.path for reference in policy.references], policy.metadata)
    except EngineError:
        return ()  # what does not load is told where it is asked


def _input(body: bytes, caller: Caller, contract: str) -> bytes:
    """The policy input: made of a message or a check as the service would, or as given."""
    try:
        given: Any = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise ConfigError(f"the call is not JSON: {error}") from None
    if not isinstance(given, dict):
        raise ConfigError("the call is not a JSON object")
    if contract == "envoy":
        return orjson.dumps(plugin_input(_check_request(body))) if given.keys() == {"attributes"} else body
    return _message(body, given, caller) if "jsonrpc" in given else body


def _check_request(body: bytes) -> CheckRequest:
    try:
        return json_format.Parse(body, CheckRequest())
    except json_format.ParseError as error:
        raise ConfigError(f"the call is no CheckRequest: {error}") from None


def _message(body: bytes, message: JsonObject, caller: Caller) -> bytes:
    clock = SystemClock()
    check = Check(
        method="POST", path="/mcp", headers=_headers(message), body=body, received_ns=clock.unix_ns(), request_id="cli"
    )
    call = mcp.parse(check, Route(path="/mcp"), caller.server, Limits())
    facts = NO_FACTS
    if caller.rates:  # as at the first call
        facts = Facts(session={"rates": Rates(clock).count(caller.principal, call.tool, caller.rates)})
    return input_document(check, caller.principal, call, facts, Policy().http_headers)


def _headers(message: JsonObject) -> dict[str, str]:
    """Those that a client of the message's revision sends with it."""
    headers = {"content-type": "application/json", "mcp-protocol-version": mcp.LEGACY[-1]}
    params = message.get("params")
    meta = params.get("_meta") if isinstance(params, dict) else None
    if not isinstance(params, dict) or not isinstance(meta, dict) or _VERSION not in meta:
        return headers
    mirrored = {"mcp-method": message.get("method"), "mcp-name": params.get("name", params.get("uri"))}
    named = {name: str(value) for name, value in mirrored.items() if value is not None}
    return headers | {"mcp-protocol-version": str(meta[_VERSION])} | named


def _print(explanation: Explanation) -> None:
    told = explanation.document()
    pairs({name: told[name] for name in ("effect", "reason", "message", "mode", "risk")})
    for redaction in told["redactions"]:
        line(f"redacts {redaction.path} to {redaction.replacement}")
    _lines("decided by", explanation.decided)
    if explanation.verdict and explanation.verdict.approval:
        line(f"\nto be allowed, it needs an approval{_by(explanation.verdict.approval)}")
    elif not explanation.is_allowed and explanation.ways:
        _lines("to be allowed, of these must hold what applies", explanation.ways)
    elif explanation.verdict and explanation.verdict.effect is Effect.DENY and explanation.decided:
        line("\nto be allowed, the rule that decided must not hold")
    _lines("printed", explanation.prints)
    _lines("also held", explanation.held)
    _lines("slowest", tuple(f"{us} us in {n} evaluations of {rule}" for rule, n, us in explanation.profile[:5]))


def _by(approval: ApprovalRequest) -> str:
    return f" by {approval.quorum} of {', '.join(approval.approvers)}" if approval.approvers else ""


def _lines(title: str, lines: tuple[str, ...]) -> None:
    if lines:
        line(f"\n{title}:")
        for text in lines[:MOST_LINES]:
            line(f"  {text.replace(f'{Path.cwd()}/', '')}")
