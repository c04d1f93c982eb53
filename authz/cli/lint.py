"""`authz lint PATH…` judges a policy's source, `authz lint envoy FILE` an Envoy configuration."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import typer
from typer.core import TyperGroup

from authz.authoring.advice import folder_findings
from authz.cli import as_written
from authz.cli.output import Output, OutputOption, document, line, state
from authz.native import Library
from authz.policy.lint import Severity, policy_findings, table_findings
from authz.policy.sources import existing, library_beside, tables_below
from authz.proxy.lint import lint as lint_envoy
from authz.resources import shared

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typer._click import Context

    from authz.policy.lint import Finding

EXAMPLES = """
Examples:

  authz lint policy/

  authz lint --output json bundles/starter

  authz lint --contract envoy bundles/envoy-compat
"""


ENVOY_EXAMPLES = """
Examples:

  authz lint envoy envoy/sidecar.yaml

  authz lint envoy --output json bootstrap.yaml
"""


class _PathByDefault(TyperGroup):
    """`authz lint envoy FILE` is a command; all else is a path, whatever its name. A folder `envoy` is `./envoy`."""

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        if args and args[0] not in {"envoy", "--help"}:
            args = ["PATH", *args]
        return super().parse_args(ctx, args)


lint: Final = typer.Typer(
    cls=_PathByDefault,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    help="Find what is wrong or unwise in a policy (`authz lint PATH…`) or in an Envoy configuration.",
    epilog=as_written(EXAMPLES),
    context_settings={"auto_envvar_prefix": "AUTHZ"},
)


@lint.callback()
def _group() -> None:
    """Two commands under one name."""


@lint.command("PATH", epilog=as_written(EXAMPLES), context_settings={"auto_envvar_prefix": "AUTHZ"})
def policy(
    paths: Annotated[list[Path], typer.Argument(help="Folders and .rego files.")],
    contract: Annotated[Literal["agent", "envoy"], typer.Option(help="What the policy is written for.")] = "agent",
    output: OutputOption = Output.TABLE,
) -> None:
    """Check a policy and its decision tables. Exit 1 when there is an error; warnings are only shown."""
    given = existing(paths)
    schemas = shared("rego") / "schemas" if contract == "agent" else None
    problems = Library.load().check([*given, *library_beside(given, contract)], schemas, contract)
    authored = [finding for path in given if path.is_dir() for finding in folder_findings(path)]
    found = [*authored, *policy_findings(problems), *table_findings(tables_below(given))]
    report([finding for finding in found if _is_ours(finding, given)], output)


@lint.command("envoy", epilog=as_written(ENVOY_EXAMPLES), context_settings={"auto_envvar_prefix": "AUTHZ"})
def envoy(
    file: Annotated[Path, typer.Argument(help="Envoy's bootstrap, YAML or JSON.", show_default=False)],
    output: OutputOption = Output.TABLE,
) -> None:
    """Look for ways around the decision in an Envoy configuration. Exit 1 when there is an error."""
    report(lint_envoy(file), output)


def report(findings: Sequence[Finding], output: Output) -> None:
    """Print what was found, and exit 1 if there is an error among it."""
    count = Counter(finding.rule.severity for finding in findings)
    summary = {"errors": count[Severity.ERROR], "warnings": count[Severity.WARNING]}
    if output is Output.JSON:
        document({**summary, "findings": [_row(finding) for finding in findings]})
    else:
        for finding in findings:
            line(f"{_place(finding)}{state(finding.rule.severity)} {finding.rule.id}: {finding.message}")
            line(f"    {finding.rule.remedy}")
        line(f"{summary['errors']} errors, {summary['warnings']} warnings")
    raise typer.Exit(1 if summary["errors"] else 0)


def _is_ours(finding: Finding, given: Sequence[Path]) -> bool:
    """What the library itself lacks is no concern of a policy's author."""
    file = Path(finding.file)
    return not finding.file or any(path == file or path in file.parents for path in given)


def _row(finding: Finding) -> dict[str, Any]:
    rule = finding.rule
    place = {"file": finding.file, "row": finding.row, "col": finding.col}
    return {"id": rule.id, "severity": rule.severity, **place, "message": finding.message, "remedy": rule.remedy}


def _place(finding: Finding) -> str:
    file = Path(finding.file)
    shown = file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file
    return f"{shown}:{finding.row}:{finding.col}: " if finding.row else f"{shown}: " if finding.file else ""
