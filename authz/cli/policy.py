"""`authz policy`: policies in YAML, and the Rego that they compile to."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from authz.authoring import reading
from authz.authoring.compiling import MODULE, compile_rules, deciding_module
from authz.cli import VARIABLES, as_written, group
from authz.cli.files import read, replace
from authz.cli.output import Output, OutputOption, document, line
from authz.resources import shared

EXAMPLES = """
Examples:

  authz policy compile policy/

  authz policy compile --check policy/

  authz policy schema > policy.schema.json
"""

policy: Final = group("Write policies in YAML and compile them to Rego.", EXAMPLES)

FolderArgument = Annotated[Path, typer.Argument(help="The policy's folder, with policies/*.yaml; default: here.")]


@policy.command(
    "compile",
    epilog=as_written("Examples:\n\n  authz policy compile policy/\n\n  authz policy compile --check policy/"),
    context_settings=VARIABLES,
)
def compile_(
    folder: FolderArgument = Path(),
    check: Annotated[bool, typer.Option("--check", help="Write nothing; exit 1 if the module is another.")] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Write compiled.rego from policies/*.yaml. Whatever is not understood is an error with file and line."""
    rules = reading.read_rules(folder)
    module = folder / MODULE
    made = compile_rules(folder, rules).encode()
    current = module.is_file() and read(module) == made
    if not check and not current:
        replace(module, made)
    beside = deciding_module(folder)
    if output is Output.JSON:
        listed = [{"rule": rule.name, "source": rule.place, "effect": rule.effect} for rule in rules]
        document({"module": module, "current": current or not check, "decided_by": beside or module, "rules": listed})
    else:
        said = "is current" if current else "is not what the files say" if check else "is written"
        line(f"{module} {said}: {len(rules)} rules" + (f", for the decision in {beside}" if beside else ""))
    raise typer.Exit(1 if check and not current else 0)


@policy.command("schema", epilog=as_written("Examples:\n\n  authz policy schema"), context_settings=VARIABLES)
def schema() -> None:
    """Print the JSON Schema of policies in YAML, for editors."""
    typer.echo(read(shared("schema") / "policy.json").decode(), nl=False)
