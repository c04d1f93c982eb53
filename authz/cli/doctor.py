"""`authz doctor`: what would keep this installation from serving."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from authz.cli import load
from authz.cli.output import Output, OutputOption, document, line, state
from authz.cli.serve import configuration
from authz.cli.state import state_folder
from authz.clock import SystemClock
from authz.errors import ConfigError
from authz.identity.development_issuer import AUDIENCE, ISSUER, JWKS_FILE
from authz.readiness import State, Subject, examine

if TYPE_CHECKING:
    from collections.abc import Sequence

    from authz.config import Config
    from authz.readiness import Part

EXAMPLES = """
Examples:

  authz doctor

  authz doctor --config authz.yaml

  authz doctor --state ~/.local/state/authz

  authz token --agent a --tenant acme | authz doctor --config authz.yaml --token-file -
"""
CONFIGURATION: Final = "authz.yaml"
POLICIES: Final = ("config", "policy", "opa_config", "opa_url")
"""Flags of which one at least says what would be served; with none, it is the `authz up` of this user."""
CONTEXT = {"allow_extra_args": True, "ignore_unknown_options": True}


def doctor(
    ctx: typer.Context,
    folder: Annotated[
        Path | None,
        typer.Option("--state", envvar="AUTHZ_STATE", help="Folder of an `authz up`: its configuration, issuer."),
    ] = None,
    token_file: Annotated[str, typer.Option(help="File with a token to try on the issuers; - reads stdin.")] = "",
    envoy: Annotated[Path | None, typer.Option(help="The Envoy program.")] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Look at every part that serving needs, without serving. Takes the flags of `authz serve` besides these.

    Without any, it looks at the `authz up` of this user.

    Exit 1 when a part would keep it from serving, 3 when one is unavailable; warnings are only shown.
    """
    logging.disable(logging.WARNING)  # each part says it in its place
    subject = Subject(config=_configuration(ctx, folder), clock=SystemClock(), token=_token(token_file), envoy=envoy)
    parts = list(examine(subject))
    if output is Output.JSON:
        document({"ready": _exit_code(parts) == 0, "parts": parts})
    else:
        _print(parts)
    raise typer.Exit(_exit_code(parts))


def _configuration(ctx: typer.Context, folder: Path | None) -> Config:
    """What `authz serve` would make of the flags and of what `authz up` wrote or trusts in its folder."""
    flags = load("serve").make_context("doctor", list(ctx.args), parent=ctx.parent).params
    if folder is None and not any(flags[flag] for flag in POLICIES) and (state_folder(None) / CONFIGURATION).exists():
        folder = state_folder(None)
    ours = {} if folder is None else _ours(folder)
    return configuration(flags | {flag: value for flag, value in ours.items() if not flags[flag]})


def _ours(folder: Path) -> dict[str, Path | str]:
    """The flags that a state folder stands for: the file of its first sidecar, else the development issuer's."""
    if (written := folder / CONFIGURATION).exists():
        return {"config": written}
    trusted = {"issuer": ISSUER, "audience": AUDIENCE, "jwks": str(folder / JWKS_FILE)}
    return {"audit_dir": folder / "records", "state": folder, **trusted}


def _token(source: str) -> str:
    try:
        text = sys.stdin.read() if source == "-" else Path(source).read_text(encoding="ascii") if source else ""
    except (OSError, UnicodeDecodeError) as error:
        # Not the name: somebody may have given the token itself.
        raise ConfigError("--token-file cannot be read", remedy="give the name of a file, or - for stdin") from error
    return text.strip()


def _exit_code(parts: Sequence[Part]) -> int:
    states = {part.state for part in parts}
    return 1 if State.FAILED in states else 3 if State.UNAVAILABLE in states else 0


def _print(parts: Sequence[Part]) -> None:
    width = max(len(part.name) for part in parts)
    for part in parts:
        line(f"{state(part.state, 11)} {part.name:<{width}}  {part.found}")
        if part.remedy and part.state is not State.OK:
            line(f"{'':<11} {'':<{width}}  {part.remedy}")
