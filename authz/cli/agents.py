"""`authz agents`: register agents, change, pause and retire them, rotate their credentials, read their passports."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Final, Literal

import typer

from authz._gen.authz.control.v1 import agents_pb2 as pb
from authz.cli import VARIABLES, agent_keys, group
from authz.cli.agent_messages import (
    AUTONOMIES,
    LIFECYCLES,
    AutonomyWord,
    LifecycleWord,
    print_agent,
    print_passport,
    print_row,
)
from authz.cli.control_client import ControlOption, connect
from authz.cli.messages import as_json
from authz.cli.output import Output, OutputOption, document, line
from authz.cli.state import StateOption
from authz.errors import AuthzError, ConfigError

EXAMPLES = """
Examples:

  authz agents add billing --tenant acme --owner payments-team --key billing.pem --tool 'invoices/*'

  authz agents pause billing --tenant acme --reason "unusual transfers"

  authz agents set billing --tenant acme --autonomy act_with_approval --reason "until it is reviewed"

  authz agents rotate billing --tenant acme --key billing-2.pem --reason "the old key leaked"

  authz agents show billing --tenant acme --output json > billing-passport.json
"""

PAGE: Final = 500

agents: Final = group("Register, change, pause and retire agents; read their passports.", EXAMPLES)

AgentArgument = Annotated[str, typer.Argument(metavar="ID", help="The agent's id.")]
TenantOption = Annotated[str, typer.Option(envvar="AUTHZ_TENANT", help="Tenant.")]
ReasonOption = Annotated[str, typer.Option(help="Why, for the agent's history.")]
KeyOption = Annotated[
    Path | None, typer.Option(help="Make a key pair: the private key goes into this new file, mode 0600.")
]
AlgorithmOption = Annotated[Literal["EdDSA", "ES256"], typer.Option(help="Of the key pair that is made.")]
PublicKeyOption = Annotated[Path | None, typer.Option(help="Take this public key: a JWK, or PEM.")]
CertificateOption = Annotated[Path | None, typer.Option(help="Take this client certificate: PEM.")]
ScopeOption = Annotated[list[str] | None, typer.Option(help="Ceiling: a scope that it may have; repeatable.")]
ToolOption = Annotated[
    list[str] | None, typer.Option(help="Ceiling: SERVER/NAME, where a final * is any end; repeatable.")
]
AutonomyOption = Annotated[AutonomyWord | None, typer.Option(help="What it may do without a person.")]


@agents.command("add", context_settings=VARIABLES)
def add(
    agent: AgentArgument,
    tenant: TenantOption,
    owner: Annotated[str, typer.Option(help="Who answers for it.")],
    purpose: Annotated[str, typer.Option(help="What it is for.")] = "",
    autonomy: AutonomyOption = None,
    scope: ScopeOption = None,
    tool: ToolOption = None,
    parent: Annotated[list[str] | None, typer.Option(help="Agent that it descends from; root first.")] = None,
    key: KeyOption = None,
    algorithm: AlgorithmOption = "EdDSA",
    public_key: PublicKeyOption = None,
    certificate: CertificateOption = None,
    reason: ReasonOption = "",
    control: ControlOption = None,
    state: StateOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Register an agent. Its key pair is made here, or it has one already."""
    client = connect(control, state)
    wanted = pb.Agent(tenant=tenant, id=agent, owner=owner, purpose=purpose, parents=parent or ())
    if autonomy:
        wanted.autonomy = AUTONOMIES[autonomy]
    wanted.ceiling.CopyFrom(_ceiling(scope, tool))
    if credential := _credential(key, algorithm, public_key, certificate):
        wanted.credentials.append(credential)
    with _KeptOnSuccess(key):
        made = client.call("Agents/CreateAgent", pb.CreateAgentRequest(agent=wanted, reason=reason), pb.Agent)
    _print(made, output)
    _print_use(made, key, output)


@agents.command("list", context_settings=VARIABLES)
def list_(
    tenant: TenantOption,
    lifecycle: Annotated[LifecycleWord | None, typer.Option(help="Only these.")] = None,
    control: ControlOption = None,
    state: StateOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """List a tenant's agents."""
    client = connect(control, state)
    request = pb.ListAgentsRequest(tenant=tenant, page_size=PAGE)
    if lifecycle:
        request.lifecycle = LIFECYCLES[lifecycle]
    found: list[pb.Agent] = []
    stopped: dict[str, list[str]] = {}
    while True:
        answer = client.call("Agents/ListAgents", request, pb.ListAgentsResponse)
        found += answer.agents
        stopped |= {each.id: [*each.kills] for each in answer.stopped}
        request.page_token = answer.next_page_token
        if not request.page_token:
            break
    if output is Output.JSON:
        document([as_json(each) | {"kills": stopped.get(each.id, [])} for each in found])
        return
    for each in found:
        print_row(each, stopped.get(each.id, []))
    if not found:
        line(f"no agent of {tenant} is registered")


@agents.command("show", context_settings=VARIABLES)
def show(
    agent: AgentArgument,
    tenant: TenantOption,
    control: ControlOption = None,
    state: StateOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Print the agent passport. What it is, may and was, who changed it, what stops it, whom it spawned."""
    request = pb.ReadPassportRequest(tenant=tenant, id=agent)
    passport = connect(control, state).call("Agents/ReadPassport", request, pb.Passport)
    document(as_json(passport)) if output is Output.JSON else print_passport(passport)


@agents.command("pause", context_settings=VARIABLES)
def pause(
    agent: AgentArgument,
    tenant: TenantOption,
    reason: ReasonOption = "",
    control: ControlOption = None,
    state: StateOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Refuse its next calls, and those of all that it spawned."""
    _move(agent, tenant, pb.LIFECYCLE_PAUSED, reason, control, state, output)


@agents.command("resume", context_settings=VARIABLES)
def resume(
    agent: AgentArgument,
    tenant: TenantOption,
    reason: ReasonOption = "",
    control: ControlOption = None,
    state: StateOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Let a paused agent call again."""
    _move(agent, tenant, pb.LIFECYCLE_ACTIVE, reason, control, state, output)


@agents.command("retire", context_settings=VARIABLES)
def retire(
    agent: AgentArgument,
    tenant: TenantOption,
    reason: ReasonOption = "",
    control: ControlOption = None,
    state: StateOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """End an agent for good. Its credentials and tokens die, and its id is never given again."""
    _move(agent, tenant, pb.LIFECYCLE_RETIRED, reason, control, state, output)


@agents.command("rotate", context_settings=VARIABLES)
def rotate(
    agent: AgentArgument,
    tenant: TenantOption,
    key: KeyOption = None,
    algorithm: AlgorithmOption = "EdDSA",
    public_key: PublicKeyOption = None,
    certificate: CertificateOption = None,
    revoke: Annotated[list[str] | None, typer.Option(help="Credential to revoke; without it all.")] = None,
    reason: ReasonOption = "",
    control: ControlOption = None,
    state: StateOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Give it a new credential. The old ones are dead at once, with every token that they got."""
    client = connect(control, state)
    request = pb.RotateCredentialRequest(tenant=tenant, id=agent, revoke=revoke or (), reason=reason)
    if credential := _credential(key, algorithm, public_key, certificate):
        request.credential.CopyFrom(credential)
    with _KeptOnSuccess(key):
        made = client.call("Agents/RotateCredential", request, pb.Agent)
    _print(made, output)
    _print_use(made, key, output)


@agents.command("set", context_settings=VARIABLES)
def set_(
    agent: AgentArgument,
    tenant: TenantOption,
    owner: Annotated[str | None, typer.Option(help="Who answers for it.")] = None,
    purpose: Annotated[str | None, typer.Option(help="What it is for.")] = None,
    autonomy: AutonomyOption = None,
    memory_writes: Annotated[
        bool | None,
        typer.Option("--memory-writes/--no-memory-writes", help="Whether its tools may write memory."),
    ] = None,
    scope: ScopeOption = None,
    no_scopes: Annotated[bool, typer.Option("--no-scopes", help="Ceiling: no scope at all.")] = False,
    any_scope: Annotated[bool, typer.Option("--any-scope", help="No ceiling of scopes.")] = False,
    tool: ToolOption = None,
    no_tools: Annotated[bool, typer.Option("--no-tools", help="Ceiling: no tool at all.")] = False,
    any_tool: Annotated[bool, typer.Option("--any-tool", help="No ceiling of tools.")] = False,
    reason: ReasonOption = "",
    control: ControlOption = None,
    state: StateOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Change what is given, and nothing else."""
    client = connect(control, state)
    before = client.call("Agents/ReadAgent", pb.ReadAgentRequest(tenant=tenant, id=agent), pb.Agent)
    request = pb.UpdateAgentRequest(tenant=tenant, id=agent, version=before.version, reason=reason)
    if owner is not None:
        request.owner = owner
    if purpose is not None:
        request.purpose = purpose
    if autonomy:
        request.autonomy = AUTONOMIES[autonomy]
    if memory_writes is not None:
        request.memory_writes_paused = not memory_writes
    ceiling = pb.Ceiling()
    ceiling.CopyFrom(before.ceiling)
    if _change(ceiling, "scopes", scope, none=no_scopes, unbounded=any_scope) | _change(
        ceiling, "tools", tool, none=no_tools, unbounded=any_tool
    ):
        request.ceiling.CopyFrom(ceiling)
    _print(client.call("Agents/UpdateAgent", request, pb.Agent), output)


def _move(
    agent: str,
    tenant: str,
    lifecycle: pb.Lifecycle,
    reason: str,
    control: str | None,
    state: Path | None,
    output: Output,
) -> None:
    request = pb.SetLifecycleRequest(tenant=tenant, id=agent, lifecycle=lifecycle, reason=reason)
    _print(connect(control, state).call("Agents/SetLifecycle", request, pb.Agent), output)


def _ceiling(scopes: list[str] | None, tools: list[str] | None) -> pb.Ceiling:
    ceiling = pb.Ceiling()
    _change(ceiling, "scopes", scopes)
    _change(ceiling, "tools", tools)
    return ceiling


def _change(
    ceiling: pb.Ceiling,
    kind: Literal["scopes", "tools"],
    names: list[str] | None,
    *,
    none: bool = False,
    unbounded: bool = False,
) -> bool:
    """Set one ceiling; whether anything was asked for."""
    if [bool(names), none, unbounded].count(True) > 1:
        raise ConfigError(f"the ceiling of {kind} is given in two ways")
    if unbounded:
        ceiling.ClearField(kind)
    elif names or none:
        getattr(ceiling, kind).CopyFrom(pb.Ceiling.Names(names=names or ()))
    return bool(names) or none or unbounded


def _credential(
    key: Path | None, algorithm: str, public_key: Path | None, certificate: Path | None
) -> pb.Credential | None:
    if sum(given is not None for given in (key, public_key, certificate)) > 1:
        raise ConfigError("a credential is given in two ways", remedy="give --key, --public-key or --certificate")
    if key is not None:
        return pb.Credential(public_jwk=agent_keys.make(key, algorithm))
    if public_key is not None:
        return pb.Credential(public_jwk=agent_keys.public_jwk(public_key))
    if certificate is not None:
        return pb.Credential(certificate_sha256=agent_keys.certificate_sha256(certificate))
    return None


class _KeptOnSuccess:
    """Removes the key file that was made where the call fails: it would stand in the way of the next try."""

    def __init__(self, key: Path | None) -> None:
        self._key = key

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._key is not None and kind is not None and issubclass(kind, AuthzError):
            self._key.unlink(missing_ok=True)


def _print(agent: pb.Agent, output: Output) -> None:
    document(as_json(agent)) if output is Output.JSON else print_agent(agent)


def _print_use(agent: pb.Agent, key: Path | None, output: Output) -> None:
    """How to use the key that was made."""
    if key is not None and output is Output.TABLE:
        words = ("authz", "token", "--agent", agent.id, "--tenant", agent.tenant, "--key", str(key))
        line(f"{key} holds its private key; a token: {shlex.join(words)}")
