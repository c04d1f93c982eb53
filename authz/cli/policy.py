"""`authz policy`: policies in YAML, the Rego that they compile to, and what another policy would answer otherwise."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from authz.authoring import explaining, pipelines, playbooks, reading
from authz.authoring.compiling import MODULE, compile_rules, deciding_module
from authz.cli import VARIABLES, as_written, group
from authz.cli.activate import EXAMPLES as ACTIVATE_EXAMPLES
from authz.cli.activate import activate
from authz.cli.files import read, replace
from authz.cli.lint import policy as lint
from authz.cli.output import Output, OutputOption, document, line, pairs
from authz.cli.policy_diff import EXAMPLES as DIFF_EXAMPLES
from authz.cli.policy_diff import diff
from authz.resources import shared

EXAMPLES = """
Examples:

  authz policy new --template high-value-payment policy/

  authz policy compile policy/

  authz policy compile --check policy/

  authz policy explain policy/

  authz policy lint policy/

  authz policy ci --folder policy

  authz policy schema > policy.schema.json

  authz policy diff --from bundles/starter --to candidate --records records

  authz policy activate --stricter --baseline now.tar.gz --candidate new.tar.gz --records records --reason INC-7
"""

policy: Final = group("Write policies in YAML, compile them, and compare two on recorded calls.", EXAMPLES)

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


@policy.command(
    "new",
    epilog=as_written("Examples:\n\n  authz policy new\n\n  authz policy new --template high-value-payment policy/"),
    context_settings=VARIABLES,
)
def new(
    folder: Annotated[Path, typer.Argument(help="The policy's folder; made if need be.")] = Path("policy"),
    template: Annotated[str, typer.Option(help="Playbook to begin with; lists them where it is not given.")] = "",
    output: OutputOption = Output.TABLE,
) -> None:
    """Add a playbook to a policy. Rules in YAML, the table that tests them, and compiled.rego anew."""
    if not template:
        _list_playbooks(output)
        return
    written = playbooks.add(template, folder)
    if output is Output.JSON:
        document({"template": template, "files": written})
        return
    for path in written:
        line(f"wrote {path}")
    line(
        f"next: put your tenants, agents and tools into {written[0]}, then authz policy compile and authz test {folder}"
    )


def _list_playbooks(output: Output) -> None:
    summaries = {name: playbooks.summary(name) for name in playbooks.names()}
    if output is Output.JSON:
        document(summaries)
    else:
        pairs(summaries)


@policy.command("explain", epilog=as_written("Examples:\n\n  authz policy explain policy/"), context_settings=VARIABLES)
def explain(
    folder: FolderArgument = Path(),
    rule: Annotated[str, typer.Option(help="Only rules with this in their names.")] = "",
    output: OutputOption = Output.TABLE,
) -> None:
    """Tell in sentences what the rules in YAML do. For one call, ask `authz decide`."""
    chosen = [each for each in reading.read_rules(folder) if rule in each.name]
    if output is Output.JSON:
        document([{"rule": each.name, "source": each.place, "told": list(explaining.explain(each))} for each in chosen])
    else:
        for each in chosen:
            for text in explaining.explain(each):
                line(text)
            line()
    raise typer.Exit(0 if chosen else 1)


@policy.command("ci", epilog=as_written("Examples:\n\n  authz policy ci --folder policy"), context_settings=VARIABLES)
def ci(
    repository: Annotated[Path, typer.Argument(help="The repository; default: here.")] = Path(),
    folder: Annotated[str, typer.Option(help="The policy's folder in it.")] = "policy",
    output: OutputOption = Output.TABLE,
) -> None:
    """Write a GitHub Actions workflow and pre-commit hooks. They hold the policy to its tests."""
    written = pipelines.add(repository, folder)
    if output is Output.JSON:
        document({"files": written})
        return
    for path in written:
        line(f"wrote {path}")


policy.command("lint", epilog=as_written("Examples:\n\n  authz policy lint policy/"), context_settings=VARIABLES)(lint)


@policy.command("schema", epilog=as_written("Examples:\n\n  authz policy schema"), context_settings=VARIABLES)
def schema() -> None:
    """Print the JSON Schema of policies in YAML, for editors."""
    typer.echo(read(shared("schema") / "policy.json").decode(), nl=False)


policy.command("activate", epilog=as_written(ACTIVATE_EXAMPLES), context_settings=VARIABLES)(activate)
policy.command("diff", epilog=as_written(DIFF_EXAMPLES), context_settings=VARIABLES)(diff)
