"""`authz sidecars`: who may join the control plane, and who has."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from authz._gen.authz.control.v1 import sidecars_pb2 as pb
from authz.cli import VARIABLES, group
from authz.cli.control_client import ControlOption, connect
from authz.cli.duration import span
from authz.cli.messages import as_json, instant
from authz.cli.output import Output, OutputOption, document, line
from authz.cli.state import StateOption
from authz.errors import ConfigError

EXAMPLES = """
Examples:

  authz sidecars invite --tenant acme --tenant globex --name edge

  authz sidecars list

  authz sidecars remove edge-3f9a1c2b7d04 --reason "the host was replaced"
"""

sidecars: Final = group("Invite sidecars to the control plane, list those that have joined, and remove one.", EXAMPLES)


@sidecars.command("invite", context_settings=VARIABLES)
def invite(
    tenant: Annotated[list[str] | None, typer.Option(help="Tenant whose calls it judges; repeatable.")] = None,
    every_tenant: Annotated[
        bool, typer.Option("--every-tenant", help="Instead: all tenants, also later ones.")
    ] = False,
    name: Annotated[str, typer.Option(help="What its id begins with; lower-case letters, digits and -.")] = "",
    expires: Annotated[str, typer.Option(help="How long the token is good, at most 24h.")] = "1h",
    control: ControlOption = None,
    state: StateOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Print an enrolment token, good once. `authz serve --control URL --enrol TOKEN --state DIR` uses it."""
    if bool(tenant) == every_tenant:
        raise ConfigError("a sidecar is for certain tenants, or for all", remedy="give --tenant, or --every-tenant")
    request = pb.InviteSidecarRequest(tenants=tenant or (), name=name)
    request.expires_in.FromTimedelta(span(expires))
    answer = connect(control, state).call("Sidecars/InviteSidecar", request, pb.InviteSidecarResponse)
    document(as_json(answer)) if output is Output.JSON else line(answer.token)


@sidecars.command("list", context_settings=VARIABLES)
def list_(
    tenant: Annotated[str, typer.Option(help="Those of one tenant; without it all, for who may see all.")] = "",
    control: ControlOption = None,
    state: StateOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """List the sidecars that have joined, and what each has applied."""
    request = pb.ListSidecarsRequest(tenant=tenant)
    answer = connect(control, state).call("Sidecars/ListSidecars", request, pb.ListSidecarsResponse)
    if output is Output.JSON:
        document([as_json(each) for each in answer.sidecars])
        return
    for each in answer.sidecars:
        applied = " ".join(f"{at.stream or 'platform'}:{at.epoch}-{at.sequence}" for at in each.applied)
        heard = f"heard {instant(each.last_report_at)}" if each.HasField("last_report_at") else "never heard"
        line("  ".join(filter(None, (each.id, ",".join(each.tenants) or "every tenant", heard, applied))))


@sidecars.command("remove", context_settings=VARIABLES)
def remove(
    sidecar: Annotated[str, typer.Argument(metavar="ID", help="The sidecar's id.")],
    reason: Annotated[str, typer.Option(help="Why, for the record.")] = "",
    control: ControlOption = None,
    state: StateOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Refuse a sidecar from now on. Its account at Redis is gone too."""
    request = pb.RemoveSidecarRequest(id=sidecar, reason=reason)
    removed = connect(control, state).call("Sidecars/RemoveSidecar", request, pb.Sidecar)
    document(as_json(removed)) if output is Output.JSON else line(f"{removed.id} is refused from now on")
