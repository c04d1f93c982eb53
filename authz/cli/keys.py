"""`authz keys`: the keys that access tokens are signed with."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from authz._gen.authz.control.v1 import keys_pb2 as pb
from authz.cli import VARIABLES, group
from authz.cli.control_client import ControlOption, connect
from authz.cli.messages import as_json, instant
from authz.cli.output import Output, OutputOption, document, line
from authz.cli.state import StateOption

EXAMPLES = """
Examples:

  authz keys list

  authz keys rotate --reason "before the audit"

  authz keys rotate --emergency --reason "the database was copied"
"""

_STATES: Final = {
    pb.KEY_STATE_NEXT: "next",
    pb.KEY_STATE_SIGNING: "signing",
    pb.KEY_STATE_RETIRING: "retiring",
    pb.KEY_STATE_WITHDRAWN: "withdrawn",
}

keys: Final = group("List and rotate the keys that access tokens are signed with.", EXAMPLES)


@keys.command("list", context_settings=VARIABLES)
def list_(control: ControlOption = None, state: StateOption = None, output: OutputOption = Output.TABLE) -> None:
    """List the keys. One signs, one is next, others are published until their last token is dead."""
    _print(connect(control, state).call("Keys/ListKeys", pb.ListKeysRequest(), pb.ListKeysResponse), output)


@keys.command("rotate", context_settings=VARIABLES)
def rotate(
    emergency: Annotated[
        bool, typer.Option("--emergency", help="Also withdraw every key that has signed: its tokens die.")
    ] = False,
    reason: Annotated[str, typer.Option(help="Why, for the record.")] = "",
    control: ControlOption = None,
    state: StateOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Begin to sign with the next key. That begins once every verifier knows it, in an emergency at once."""
    request = pb.RotateKeysRequest(emergency=emergency, reason=reason)
    _print(connect(control, state).call("Keys/RotateKeys", request, pb.ListKeysResponse), output)


def _print(answer: pb.ListKeysResponse, output: Output) -> None:
    if output is Output.JSON:
        document([as_json(key) for key in answer.keys])
        return
    for key in answer.keys:
        until = f"published until {instant(key.published_until)}" if key.HasField("published_until") else ""
        words = (_STATES[key.state], key.algorithm, key.kid, f"signs from {instant(key.signs_from)}", until)
        line("  ".join(filter(None, words)))
