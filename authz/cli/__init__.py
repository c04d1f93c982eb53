"""The `authz` command: one module for each group of commands, all of them parse, call and print.

It decides nothing but the exit code (contracts §2): 0 done, 1 the answer is no, 2 usage or configuration,
3 something it needs is unavailable, 4 internal. It never prints a traceback's local variables: they hold tokens.
"""

from __future__ import annotations

import sys
import traceback
from typing import Final, NoReturn

import typer

from authz import __version__
from authz.cli import decide, demo, serve, token, up
from authz.errors import AuthzError, BundleError, ConfigError, ProgramError, UnavailableError
from authz.native import NativeError

app: Final = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, help="Policy decisions for AI agents.")


@app.callback()
def _root() -> None:
    """Keeps `version` a command of its own while it is the only one."""


app.command("serve", epilog=serve.EXAMPLES)(serve.serve)
app.command("decide", epilog=decide.EXAMPLES)(decide.decide)
app.command("demo", epilog=demo.EXAMPLES)(demo.demo)
app.command("token", epilog=token.EXAMPLES)(token.token)
app.command("up", epilog=up.EXAMPLES)(up.up)


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(f"authz {__version__}")


def main() -> NoReturn:
    """Run the command line and exit with its code."""
    try:
        app()
    except ConfigError as error:
        _fail(2, f"{error}\n{error.remedy}".rstrip())
    except UnavailableError as error:
        _fail(3, str(error))
    except (NativeError, ProgramError) as error:
        _fail(3, f"{error}\n{error.remedy}".rstrip())
    except BundleError as error:
        _fail(1, "\n  ".join([str(error), *error.problems]))
    except AuthzError as error:
        _fail(1, str(error))
    except Exception:  # noqa: BLE001 - Python's own exit code for a bug, 1, means "the answer is no" here
        _fail(4, traceback.format_exc())
    sys.exit(0)


def _fail(code: int, message: str) -> NoReturn:
    typer.echo(f"authz: {message}", err=True)
    sys.exit(code)
