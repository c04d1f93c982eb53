"""`authz kill`: stop an agent, or whatever else does harm, everywhere at once."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Final

import typer

from authz._gen.authz.control.v1 import agents_pb2
from authz._gen.authz.control.v1 import kills_pb2 as pb
from authz.cli.control_client import ControlOption, RefusedCallError, connect
from authz.cli.duration import span
from authz.cli.kill_receipts import ANY_TENANT, in_its_tenant, kind_name, present, waited
from authz.cli.output import Output, OutputOption
from authz.cli.state import StateOption
from authz.errors import AuthzError, ConfigError

if TYPE_CHECKING:
    from authz.cli.control_client import ControlClient

EXAMPLES = """
Examples:

  authz kill agent billing-agent --tenant acme --reason 'sends invoices to strangers'

  authz kill subtree planner --tenant acme --reason 'and all that it spawned' --expires 1h --incident INC-7

  authz kill session 4f1c --tenant acme --reason 'prompt injection in this session'

  authz kill tool payments/transfer --tenant acme --reason 'wrong amounts'

  authz kill destination paste.example --tenant '*' --reason 'exfiltration, all tenants'

  authz kill tenant --tenant acme --reason 'credentials of the orchestrator leaked'

  authz kill confirm kill-0c1f5b7e9a3d2468
"""


class What(StrEnum):
    """What can be killed, and the second signer's word."""

    AGENT = "agent"
    SESSION = "session"
    TOKEN = "token"  # noqa: S105 - a word of the command line
    SUBTREE = "subtree"
    OVERRIDE = "override"
    TOOL = "tool"
    CAPABILITY = "capability"
    CONNECTOR = "connector"
    DESTINATION = "destination"
    MEMORY_WRITES = "memory-writes"
    TENANT = "tenant"
    GLOBAL = "global"
    CONFIRM = "confirm"


WaitOption = Annotated[str, typer.Option(help="How long to wait for the sidecars to confirm it; 0s for not at all.")]
_WHOLE: Final = (What.TENANT, What.GLOBAL)
_OF_AGENTS: Final = (pb.SCOPE_KIND_AGENT, pb.SCOPE_KIND_SUBTREE, pb.SCOPE_KIND_MEMORY_WRITES)


def kill(
    what: Annotated[What, typer.Argument(help="What to stop; `confirm` is the word of a second signer.")],
    name: Annotated[
        str,
        typer.Argument(
            help="Id, jti, SERVER/NAME or HOST[:PORT]; none for tenant and global; a kill's id for confirm."
        ),
    ] = "",
    tenant: Annotated[
        str,
        typer.Option(help="Its tenant; '*' for a tool, capability, connector or destination of every tenant."),
    ] = "",
    reason: Annotated[str, typer.Option(help="Why, for the record; in words.")] = "",
    expires: Annotated[str | None, typer.Option(help="When it ends by itself, such as 30m; default: never.")] = None,
    incident: Annotated[str, typer.Option(help="Id of the incident.")] = "",
    wait: WaitOption = "5s",
    control: ControlOption = None,
    state: StateOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Stop an agent, or whatever else does harm, everywhere at once.

    A whole tenant and everything are stopped by two people: the second one confirms within ten minutes.

    Exit 0 when it is in force and every sidecar confirmed it, or with --wait 0s; 1 when it was refused, or waits for a
    second person; 3 when it is in force, but a sidecar that is named has not confirmed it within --wait.
    """
    client = connect(control, state)
    if what is What.CONFIRM:
        confirm = pb.ConfirmKillRequest(id=_required(name, "the id of the kill"), wait=waited(wait))
        receipt = in_its_tenant(client, "Kills/ConfirmKill", confirm, tenant, pb.KillReceipt, wait)
    else:
        scope = pb.Scope(kind=kind_name(what), tenant=_tenant(what, tenant), value=name)
        request = pb.CreateKillRequest(
            scope=scope, reason=_required(reason, "--reason"), incident=incident, wait=waited(wait)
        )
        if expires is not None:
            request.expires_in.FromTimedelta(span(expires))
        receipt = client.call("Kills/CreateKill", request, pb.KillReceipt, wait_s=span(wait).total_seconds())
    present(receipt, output, is_awaited=bool(span(wait)), note=_stranger(client, receipt.kill.scope))


def _stranger(client: ControlClient, scope: pb.Scope) -> str:
    """What to say where no agent of that name is registered: a kill of a misspelt name looks done, and stops nobody."""
    if scope.kind not in _OF_AGENTS:
        return ""
    try:
        client.call(
            "Agents/ReadAgent", agents_pb2.ReadAgentRequest(tenant=scope.tenant, id=scope.value), agents_pb2.Agent
        )
    except RefusedCallError as error:
        if error.code == "not_found":
            who = f"no agent `{scope.value}` is registered in {scope.tenant}"
            return f"{who}: look at the name, unless an issuer of your own knows it"
    except AuthzError:
        pass  # the kill is in force all the same
    return ""


def _tenant(what: What, tenant: str) -> str:
    """The API's word for it: a forgotten option must not reach every tenant."""
    if what is What.GLOBAL:
        return ""
    return "" if tenant == ANY_TENANT and what not in _WHOLE else _required(tenant, "--tenant")


def _required(value: str, name: str) -> str:
    if not value.strip():
        raise ConfigError(f"{name} is missing", remedy="see `authz kill --help`")
    return value
