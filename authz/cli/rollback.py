"""`authz rollback`: the policy before answers again, everywhere at once."""

from __future__ import annotations

from typing import Annotated

import typer

from authz._gen.authz.control.v1 import rollouts_pb2 as pb
from authz.cli.control_client import ControlOption, connect
from authz.cli.output import Output, OutputOption
from authz.cli.rollout_messages import present, revision, scope
from authz.cli.state import StateOption

EXAMPLES = """
Examples:

  authz rollback --tenant acme --reason 'refuses every refund'

  authz rollback --tenant acme --to sha256:4be1c0a97d35 --reason 'the one of last week'

  authz rollback --tenant acme --to configured --reason 'back to what is on disk'
"""


def rollback(
    reason: Annotated[str, typer.Option(help="Why, for the record; in words.")],
    tenant: Annotated[
        str,
        typer.Option(help="Whose; '*' for every tenant without one of its own. Default: the one that you may see."),
    ] = "",
    to: Annotated[
        str,
        typer.Option(help="A revision that was here before: its SHA-256 or the beginning of it, or `configured`."),
    ] = "",
    control: ControlOption = None,
    state: StateOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Have the policy before answer again, everywhere at once.

    Said twice it changes nothing more. Where no control plane can be reached, start one sidecar with
    `authz serve --pin`.
    """
    client = connect(control, state)
    request = pb.RollBackRequest(tenant=scope(client, tenant), reason=reason, to=revision(to))
    present(client.call("Rollouts/RollBack", request, pb.Rollout), output)
