"""The `authz` command: `authz NAME` is NAME in the module `authz.cli.NAME`. Each parses, calls and prints.

This module decides which commands there are, that a command's module is imported when it runs and no earlier, so that
help and completion stay quick, and the exit code (contracts §2): 0 done, 1 the answer is no, 2 usage or configuration,
3 something it needs is unavailable, 4 internal. It never prints a traceback's local variables: they hold tokens.
"""

from __future__ import annotations

import sys
import traceback
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any, Final, NoReturn

import typer
from typer.core import TyperGroup

import authz
from authz.errors import AuthzError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from typer._click import Context

COMMANDS: Final = {
    "init": "Write a policy to begin with.",
    "policy": "Write policies in YAML, compile and compare them.",
    "lint": "Find what is wrong in a policy or for Envoy.",
    "test": "Run a policy's tests and decision tables.",
    "test add": "Make a recorded call a case of a decision table.",
    "bundle": "Build, sign, verify, compare and publish policy bundles.",
    "rollout": "Let a candidate policy replace another, stage by stage.",
    "rollback": "Have the policy before answer again, everywhere at once.",
    "decide": "Judge one call offline, and say why.",
    "up": "Run Envoy and the service before a tool server.",
    "token": "Print a token for an agent.",
    "serve": "Run the decision service beside an Envoy.",
    "control": "Run the control plane.",
    "sidecars": "Invite, list and remove the sidecars of the control plane.",
    "agents": "Register, change, pause and retire agents.",
    "keys": "List and rotate the keys that access tokens are signed with.",
    "operators": "Say who may operate the control plane, and read what was done.",
    "kill": "Stop an agent, or whatever else does harm, everywhere at once.",
    "lift": "End a kill.",
    "kills": "Show what is stopped, by whom and why.",
    "status": "Say what a running sidecar serves, and what it refused.",
    "doctor": "Say what would keep this installation from serving.",
    "demo": "Run the whole stack and show what is decided.",
    "version": "Print the version, and those of what is inside.",
}


VARIABLES: Final = {"auto_envvar_prefix": "AUTHZ"}
"""Context settings by which each option `--x-y` also has the environment variable AUTHZ_X_Y."""


class _Commands(TyperGroup):
    """Commands that are known by name and summary until one of them runs."""

    def resolve_command(self, ctx: Context, args: list[str]) -> tuple[str | None, Any, list[str]]:
        if (two := " ".join(args[:2])) in COMMANDS:
            return two, load(two), args[2:]
        name, _, rest = super().resolve_command(ctx, args)
        return name, load(str(name)), rest


app: Final = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    epilog="Exit codes: 0 done, 1 the answer is no, 2 usage or configuration, 3 something is unavailable, 4 internal.",
)


def _unloaded() -> None:
    """Stands for a command in the list."""


for _name, _summary in COMMANDS.items():
    app.command(_name, help=_summary)(_unloaded)


def load(name: str) -> Any:  # noqa: ANN401 - typer has no public type for what it makes of a function
    """The command itself, `add_test` for `test add`. Each option `--x-y` also has the variable AUTHZ_X_Y."""
    attribute = "_".join(reversed(name.split()))
    module = import_module(f"authz.cli.{attribute}")
    found = getattr(module, attribute)
    if isinstance(found, typer.Typer):
        return typer.main.get_command(found)
    single = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    settings = {**VARIABLES, **getattr(module, "CONTEXT", {})}
    single.command(name, epilog=as_written(module.EXAMPLES), context_settings=settings)(found)
    return typer.main.get_command(single)


class _Listing(TyperGroup):
    """Commands of which `list` is meant where none is named."""

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        is_named = args and (args[0] == "--help" or not args[0].startswith("-"))
        return super().parse_args(ctx, args if is_named else ["list", *args])


def group(summary: str, examples: str, *, lists: bool = False) -> typer.Typer:
    """A command with commands inside; each of them is declared with `context_settings=VARIABLES`.

    Args:
        summary: one sentence.
        examples: for the end of its help page.
        lists: whether `list` is meant where no command is named.
    """
    return typer.Typer(
        cls=_Listing if lists else TyperGroup,
        help=summary,
        epilog=as_written(examples),
        no_args_is_help=not lists,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )


def as_written(examples: str) -> str:
    r"""Examples for the end of a help page; `\b` keeps a paragraph's lines from being joined."""
    return "\n\n".join(f"\b\n{paragraph}" for paragraph in examples.strip("\n").split("\n\n"))


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"authz {authz.__version__}")
        raise typer.Exit


@app.callback(help="Policy decisions for the tool calls of AI agents.")
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None: ...


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line, by default this program's, and exit with its code."""
    try:
        app(arguments, prog_name="authz")
    except AuthzError as error:
        _fail(error.exit_code, [str(error), *(f"  {problem}" for problem in error.problems), error.remedy])
    except Exception:  # noqa: BLE001 - Python's own exit code for a bug, 1, means "the answer is no" here
        _fail(4, [traceback.format_exc()])
    sys.exit(0)


def _fail(code: int, lines: Iterable[str]) -> NoReturn:
    typer.echo("authz: " + "\n".join(filter(None, lines)), err=True)
    sys.exit(code)
