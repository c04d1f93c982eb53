"""`authz test`: a policy's Rego tests, as `opa test` runs them, and its decision tables, as the service decides."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal
from xml.etree import ElementTree as ET

import orjson
import typer

from authz.authoring.compiling import hold_current
from authz.cli.output import document, line, state
from authz.errors import ConfigError
from authz.native import Library
from authz.policy.sources import TABLES, existing, tables_below
from authz.policy.testing import Outcome, Suite, held_by_table, rego_tests, table_tests

if TYPE_CHECKING:
    from authz.policy.testing import Report, Result

EXAMPLES = """
Examples:

  authz test policy/

  authz test --run approval --coverage bundles/starter

  authz test --min-coverage 90 policy/

  authz test --policy bundles/starter tests/cases/starter.yaml

  authz test --output junit policy/ > report.xml
"""


def test(
    paths: Annotated[list[Path] | None, typer.Argument(help="Folders, .rego files and tables; default: here.")] = None,
    policy: Annotated[
        list[Path] | None, typer.Option(help="Policy of the tables, where they do not name or lie in one; repeatable.")
    ] = None,
    run: Annotated[str, typer.Option(help="Only tests with this regular expression in their names.")] = "",
    contract: Annotated[Literal["agent", "envoy"], typer.Option(help="What the policy is written for.")] = "agent",
    entrypoint: Annotated[str, typer.Option(help="Rule that tables ask; default: the contract's.")] = "",
    coverage: Annotated[
        bool,
        typer.Option("--coverage", help="Show which rules held in no test, and which rows no Rego test evaluated."),
    ] = False,
    min_coverage: Annotated[
        float, typer.Option(min=0, max=100, help="Exit 1 where fewer percent of the rules held in a test.")
    ] = 0,
    output: Annotated[Literal["table", "json", "junit"], typer.Option(help="Form of the result.")] = "table",
) -> None:
    """Run all tests below the paths: *_test.rego, and decision tables in tests/*.yaml. Exit 1 if one fails."""
    given = existing(paths or [Path()])
    wanted = _pattern(run)
    sources = tuple(path for path in given if path.suffix not in TABLES)
    hold_current((*sources, *existing(policy or ())))
    suite = Suite(
        library=Library.load(), paths=(*sources, *existing(policy or ())), contract=contract, entrypoint=entrypoint
    )
    report = rego_tests(suite, sources, run)
    for table in tables_below(given):
        report = report.with_tests(table_tests(suite, table, wanted))
        if coverage or min_coverage:
            report = report.with_held(held_by_table(suite, table))
    if not report.tests:
        raise ConfigError("no test was found", remedy="write policy_test.rego or tests/*.yaml, as `authz init` does")
    {"table": _print, "json": _document, "junit": _junit}[output](report, coverage)
    raise typer.Exit(0 if report.passed and report.rules_held_percent >= min_coverage else 1)


def _pattern(run: str) -> re.Pattern[str]:
    try:
        return re.compile(run)
    except re.error as error:
        raise ConfigError(f"--run is not a regular expression: {error}") from None


def _print(report: Report, coverage: bool) -> None:
    for tested in report.tests:
        if not tested.held:
            line(f"{state(tested.outcome)} {tested.name}  {tested.place}")
            for detail in tested.details:
                line(f"    {detail}")
    for covered in report.coverage if coverage else ():
        missed = f", not evaluated: rows {', '.join(map(str, covered.rows))}" if covered.rows else ""
        line(f"{covered.percent:5.1f} %  {covered.file}{missed}")
    if coverage:
        for rule in report.rules:
            if not rule.held:
                line(f"held in no test: {rule.name}  {rule.place}")
        line(f"{report.rules_held_percent:5.1f} %  of {len(report.rules)} rules held in a test")
    count = Counter(tested.outcome for tested in report.tests)
    line(", ".join(f"{count[outcome]} {outcome.past}" for outcome in Outcome if count[outcome]))


def _document(report: Report, _coverage: bool) -> None:
    document({"passed": report.passed, **orjson.loads(orjson.dumps(report))})


def _junit(report: Report, _coverage: bool) -> None:
    """The form that continuous integration reads (Jenkins' junit-10.xsd)."""
    count = Counter(str(tested.outcome) for tested in report.tests)
    totals = {"tests": len(report.tests), "failures": count["fail"], "errors": count["error"], "skipped": count["skip"]}
    root = ET.Element("testsuites")
    suite = ET.SubElement(root, "testsuite", {"name": "authz", **{name: str(total) for name, total in totals.items()}})
    for tested in report.tests:
        suite.append(_junit_case(tested))
    typer.echo(ET.tostring(root, encoding="unicode", xml_declaration=True))


def _junit_case(tested: Result) -> ET.Element:
    case = ET.Element("testcase", classname=tested.suite, name=tested.name, time=f"{tested.seconds:.6f}")
    if tested.outcome is not Outcome.PASS:
        tag = {Outcome.FAIL: "failure", Outcome.SKIP: "skipped"}.get(tested.outcome, "error")
        ET.SubElement(case, tag, message=tested.place).text = "\n".join(tested.details)
    return case
