"""`authz lift`: end a kill."""

from __future__ import annotations

from typing import Annotated

import typer

from authz._gen.authz.control.v1 import kills_pb2 as pb
from authz.cli.control_client import ControlOption, connect
from authz.cli.duration import span
from authz.cli.kill import WaitOption
from authz.cli.kill_receipts import in_its_tenant, present, waited
from authz.cli.output import Output, OutputOption
from authz.cli.state import StateOption

EXAMPLES = """
Examples:

  authz lift kill-0c1f5b7e9a3d2468 --reason 'fixed in release 12'

  authz kill confirm kill-0c1f5b7e9a3d2468
"""


def lift(
    kill: Annotated[str, typer.Argument(metavar="ID", help="The kill's id: `authz kills list` shows it.")],
    reason: Annotated[str, typer.Option(help="Why, for the record; in words.")],
    tenant: Annotated[str, typer.Option(help="Its tenant; found where it is not given.")] = "",
    wait: WaitOption = "5s",
    control: ControlOption = None,
    state: StateOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """End a kill. Others that cover the same agent stay in force.

    What two people killed, two people lift; until the second one confirms, it stays in force. Exit codes are those of
    `authz kill`.
    """
    request = pb.LiftKillRequest(id=kill, reason=reason, wait=waited(wait))
    receipt = in_its_tenant(connect(control, state), "Kills/LiftKill", request, tenant, pb.KillReceipt, wait)
    present(receipt, output, is_awaited=bool(span(wait)))
