"""`authz kills`: what is stopped, by whom and why."""

from __future__ import annotations

from typing import Annotated, Final

import orjson
import typer

from authz._gen.authz.control.v1 import kills_pb2 as pb
from authz.cli import VARIABLES, group
from authz.cli.control_client import ControlOption, connect
from authz.cli.kill_receipts import described, in_its_tenant, scope_in_words, state_word, tenants
from authz.cli.messages import instant
from authz.cli.output import Output, OutputOption, document, line, pairs, state
from authz.cli.state import StateOption

EXAMPLES = """
Examples:

  authz kills

  authz kills list --tenant acme --all --output json

  authz kills show kill-0c1f5b7e9a3d2468

  authz kills watch --tenant acme
"""

kills: Final = group("Show what is stopped, by whom and why.", EXAMPLES, lists=True)
TenantOption = Annotated[str, typer.Option(help="One tenant; default: all that you may see.")]
_WIDTH: Final = 21
PAGE: Final = 500


@kills.command("list", context_settings=VARIABLES)
def list_(
    tenant: TenantOption = "",
    everything: Annotated[
        bool, typer.Option("--all", envvar="AUTHZ_ALL", help="Also what is lifted, has expired or lapsed.")
    ] = False,
    limit: Annotated[int, typer.Option(min=1, help="How many of a tenant, newest first.")] = 100,
    control: ControlOption = None,
    state: StateOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """List the kills in force, and those that await a second signer."""
    client = connect(control, state)
    found: list[pb.Kill] = []
    for each in tenants(client, tenant):
        request = pb.ListKillsRequest(tenant=each, all=everything, page_size=min(limit, PAGE))
        taken = 0
        while taken < limit:
            page = client.call("Kills/ListKills", request, pb.ListKillsResponse)
            found += page.kills[: limit - taken]
            taken += len(page.kills)
            request.page_token = page.next_page_token
            if not page.next_page_token:
                break
    if output is Output.JSON:
        document([described(kill) for kill in found])
        return
    for kill in found:
        _print(kill)
    if not found:
        line("nothing is killed")


@kills.command("show", context_settings=VARIABLES)
def show(
    kill: Annotated[str, typer.Argument(metavar="ID", help="The kill's id.")],
    tenant: Annotated[str, typer.Option(help="Its tenant; found where it is not given.")] = "",
    control: ControlOption = None,
    state: StateOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show one kill with all that was done to it."""
    found = in_its_tenant(connect(control, state), "Kills/ReadKill", pb.ReadKillRequest(id=kill), tenant, pb.Kill)
    shown = described(found)
    if output is Output.JSON:
        document(shown)
        return
    pairs(shown | {"scope": scope_in_words(found.scope)})


@kills.command("watch", context_settings=VARIABLES)
def watch(
    tenant: TenantOption = "",
    control: ControlOption = None,
    state: StateOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Print each kill and each lift from now on. Ends when interrupted; JSON lines with --output json."""
    client = connect(control, state)
    of, *others = tenants(client, tenant)
    if others:
        raise typer.BadParameter(f"name one of {', '.join((of, *others))}", param_hint="--tenant")
    request = pb.WatchKillsRequest(tenant=of, sequence=-1)
    for kill in client.stream("Kills/WatchKills", request, pb.Kill):
        typer.echo(orjson.dumps(described(kill)).decode()) if output is Output.JSON else _print(kill)


def _print(kill: pb.Kill) -> None:
    """One line that can be read at a glance: what, where it stands, since when, by whom, why, and its id."""
    word = state_word(kill)
    ends = f" until {instant(kill.expires_at)}" if kill.HasField("expires_at") else ""
    why = " ".join(filter(None, (kill.reason, kill.incident and f"[{kill.incident}]")))
    line(f"{kill.id}  {state(word, _WIDTH)}  {scope_in_words(kill.scope)}")
    line(f"    {instant(kill.created_at)}{ends} by {kill.created_by}: {why}")
