"""`authz policy diff`: which recorded calls another policy would answer otherwise."""

from __future__ import annotations

import os
import sys
import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import typer

from authz.authoring.disagreement import Disagreement
from authz.authoring.replay import Passed, Sameness, Side, replay
from authz.authoring.replay_page import page
from authz.cli.files import replace
from authz.cli.output import Output, OutputOption, document, line, pairs
from authz.config import Policy, load
from authz.errors import ConfigError
from authz.native import Library
from authz.policy.contracts import INTERPRET
from authz.policy.opa_native import NativeEngine
from authz.wiring import GARBAGE_PERCENT, policy_source

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from authz.policy.opa_native import NativePolicy

MOST_ROWS: Final = 20
NEWS_S: Final = 2.0
THREADS: Final = os.cpu_count() or 1


class FailOn(StrEnum):
    """What makes the answer a no."""

    FLIP = "flip"
    LOOSENED = "loosened"
    NOTHING = "nothing"


EXAMPLES: Final = """
Examples:

  authz policy diff --from bundles/starter --to candidate --records records

  authz policy diff --from live.tar.gz --to candidate.tar.gz --records records --html report.html --fail-on loosened
"""


def diff(
    before: Annotated[Path, typer.Option("--from", envvar="AUTHZ_FROM", help="The policy of now.")],
    after: Annotated[
        Path, typer.Option("--to", envvar="AUTHZ_TO", help="The policy that may come: folder, .rego or archive.")
    ],
    records: Annotated[list[Path], typer.Option(help="File or folder of decision records (.jsonl); repeatable.")],
    contract: Annotated[Literal["agent", "envoy"], typer.Option(help="What the policies are written for.")] = "agent",
    entrypoint: Annotated[str, typer.Option(help="Rule to ask; default: the contract's.")] = "",
    examples: Annotated[int, typer.Option(min=0, help="Calls that are shown of each kind of change.")] = 5,
    html: Annotated[Path | None, typer.Option(help="Write the report as a page too.", show_default=False)] = None,
    fail_on: Annotated[FailOn, typer.Option(help="What ends with exit code 1.")] = FailOn.NOTHING,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show which recorded calls two policies answer otherwise. By rule, agent and tool.

    Records are masked. Where a rule reads what was masked, nobody can tell: such calls count as undecidable.
    """
    files = record_files(records)
    library = replaying()
    found, passed = Disagreement(examples_each=examples), Passed()
    with opened(library, before, contract) as first, opened(library, after, contract) as second:
        sides = (side(first, contract, entrypoint), side(second, contract, entrypoint))
        lines = Lines(files)
        for one in replay(*sides, lines, passed, threads=THREADS):
            found.add(one)
        lines.end()
    report = {
        "before": str(before),
        "after": str(after),
        **found.document(),
        "unreadable": passed.unreadable,
        "without_input": passed.without_input,
    }
    if html:
        replace(html, page(report).encode())
    if output is Output.JSON:
        document(report)
    else:
        _print(report)
    no = {FailOn.FLIP: found.by_sameness[Sameness.FLIP], FailOn.LOOSENED: found.loosened, FailOn.NOTHING: 0}[fail_on]
    raise typer.Exit(1 if no else 0)


def record_files(records: Sequence[Path]) -> list[Path]:
    """Files of records: those given, and those in the folders given.

    Raises:
        ConfigError: there is none.
    """
    found: list[Path] = []
    for path in records:
        if not path.exists():
            raise ConfigError(f"there is no {path}", remedy="give a file of records, or the service's --audit-dir")
        found += sorted(path.glob("*.jsonl")) if path.is_dir() else [path]
    if not found:
        raise ConfigError("there are no records", remedy="records are files that end in .jsonl")
    return found


def replaying() -> Library:
    """The engine, for as many threads as ask it all the time and a process that ends when they do."""
    library = Library.load()
    library.configure(program_threads=THREADS, gc_percent=GARBAGE_PERCENT)
    return library


def opened(library: Library, path: Path, contract: Literal["agent", "envoy"]) -> NativePolicy:
    """A policy as the service would load it, with the policy library beside it."""
    settings: dict[str, Any] = {"policy.paths": (path,), "policy.contract": contract}
    return NativeEngine(library).open(policy_source(load(None, settings)))


def side(policy: NativePolicy, contract: Literal["agent", "envoy"], entrypoint: str) -> Side:
    """A policy that can be asked about recorded calls, and how its contract reads the answers."""
    rule = Policy(contract=contract, entrypoint=entrypoint).rule
    return Side(policy.query(rule), INTERPRET[contract])


class Lines:
    """Lines of files, with a word to whoever waits about how far it is."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = files
        self._size = sum(path.stat().st_size for path in files) or 1
        self._read = self._count = 0
        self._began = self._told = time.monotonic()

    def __iter__(self) -> Iterator[bytes]:
        for path in self._files:
            with path.open("rb") as file:
                for text in file:
                    self._read += len(text)
                    self._count += 1
                    self._tell()
                    if text.strip():
                        yield text

    def _tell(self) -> None:
        now = time.monotonic()
        if now - self._told >= NEWS_S:
            self._told = now
            rate = self._count / (now - self._began)
            self._say(f"{self._read * 100 // self._size} %  {self._count:,} records, {rate:,.0f}/s")

    def end(self) -> None:
        """Leave the terminal's line as it was found."""
        if sys.stderr.isatty():
            self._say("")

    def _say(self, text: str) -> None:
        start, end = ("\r\x1b[K", "") if sys.stderr.isatty() else ("", "\n")
        sys.stderr.write(f"{start}{text}{end}")
        sys.stderr.flush()


def _print(report: dict[str, Any]) -> None:
    pairs(
        {
            "compared": report["total"],
            "answered otherwise": report["flip"],
            "stopped before, would run": report["loosened"],
            "ran before, would be stopped": report["tightened"],
            "other obligations": report["duty"] or "",
            "undecidable": report["undecidable"] or "",
            "without input": report["without_input"] or "",
            "unreadable": report["unreadable"] or "",
        }
    )
    for kind, groups in report["groups"].items():
        if groups:
            line()
            line(f"by {kind}")
        for group in groups[:MOST_ROWS]:
            line(f"{group['calls']:>9}  {group['before']} -> {group['after']:<16}  {group[kind] or 'none'}")
        if len(groups) > MOST_ROWS:
            line(f"           and {len(groups) - MOST_ROWS} more; --output json has all")
    if report["undecidable_by_place"]:
        line()
        line("undecidable, by the masked place that a rule reads")
        for place, count in list(report["undecidable_by_place"].items())[:MOST_ROWS]:
            line(f"{count:>9}  input.{place}")
