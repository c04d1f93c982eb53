"""Running a policy's tests: those written in Rego, and its decision tables.

Decides what counts as held: a passed test, or one that is marked to be written later. Tables are asked of the engine
that serves, and their answers are read by the strict interpretation of the contract, so that a table which holds here
holds in service. Must never take a test that could not run for one that passed.

Trusts the engine's own runner for Rego tests.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, Literal

import orjson

from authz.config import Policy
from authz.errors import ConfigError
from authz.native import PolicyOptions
from authz.policy import agent_contract, envoy_contract, rule_names
from authz.policy.decision_table import DEADLINE_S, differences, read_table
from authz.policy.engine import PolicySource
from authz.policy.opa_native import NativeEngine
from authz.policy.sources import existing, library_beside

if TYPE_CHECKING:
    import re
    from collections.abc import Callable, Collection, Iterable, Iterator
    from pathlib import Path

    from authz.model import Verdict
    from authz.native import Library
    from authz.policy.decision_table import Case, Table
    from authz.policy.engine import Query


_COMPILED: Final = "/compiled.rego"
"""Of this module only the rules with a source are their author's."""


class Outcome(StrEnum):
    """How a test ended."""

    PASS = "pass"  # noqa: S105 - no password
    FAIL = "fail"
    ERROR = "error"
    SKIP = "skip"

    @property
    def past(self) -> str:
        """As a summary says it."""
        return {"pass": "passed", "fail": "failed", "error": "broken", "skip": "skipped"}[self]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What became of one test. Details are lines for a person: what was expected and what came."""

    suite: str
    name: str
    place: str
    outcome: Outcome
    details: tuple[str, ...] = ()
    seconds: float = 0.0

    @property
    def held(self) -> bool:
        """Whether it fails nobody."""
        return self.outcome in (Outcome.PASS, Outcome.SKIP)


@dataclass(frozen=True, slots=True, kw_only=True)
class Covered:
    """How much of a file the Rego tests evaluated, and the first rows of what they did not."""

    file: str
    percent: float
    rows: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Exercised:
    """A rule of the policy, and whether it held in some test; `places` are those of its definitions, "file:row".

    One that was written in YAML has that name and that place.
    """

    name: str
    place: str
    held: bool
    places: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A whole run."""

    tests: tuple[Result, ...] = ()
    coverage: tuple[Covered, ...] = ()
    rules: tuple[Exercised, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether there was something to prove, and all of it held."""
        return any(tested.outcome is Outcome.PASS for tested in self.tests) and all(
            tested.held for tested in self.tests
        )

    @property
    def rules_held_percent(self) -> float:
        """How many of the rules held in some test; all of none."""
        return 100 * sum(rule.held for rule in self.rules) / len(self.rules) if self.rules else 100.0

    def with_held(self, places: Collection[str]) -> Report:
        """The same report with the rules held whose definitions stand at these places."""
        return replace(
            self,
            rules=tuple(replace(rule, held=rule.held or not {*places}.isdisjoint(rule.places)) for rule in self.rules),
        )

    def with_tests(self, more: Iterator[Result]) -> Report:
        """The same report with more tests at its end."""
        return replace(self, tests=(*self.tests, *more))


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """What the tests are of: a policy and its contract. An empty entrypoint is the contract's own."""

    library: Library
    paths: tuple[Path, ...]
    contract: Literal["agent", "envoy"]
    entrypoint: str = ""


def rego_tests(suite: Suite, paths: tuple[Path, ...], run: str = "") -> Report:
    """The Rego tests below `paths` with `run` in their names.

    Raises:
        EngineError: the policy or a test does not compile; all problems are in it.
    """
    if not paths:
        return Report()
    beside = library_beside(suite.paths, suite.contract)
    ran = suite.library.test(paths, beside=beside, contract=suite.contract, run=run)
    return Report(
        tests=tuple(_rego_test(result) for result in ran["results"]),
        coverage=tuple(
            Covered(file=each["file"], percent=each["percent"], rows=tuple(each["rows"]))
            for each in ran["coverage"]
            if not each["file"].endswith(_COMPILED)
        ),
        rules=exercised(ran["rules"]),
    )


def table_tests(suite: Suite, file: Path, wanted: re.Pattern[str]) -> Iterator[Result]:
    """The cases of one table whose names match.

    Raises:
        ConfigError: the table cannot be understood, or no policy is named for it.
        BundleError: its policy does not load.
    """
    table = read_table(file)
    cases = [case for case in table.cases if wanted.search(case.name)]
    if not cases:
        return
    contract, interpret = _contract(table, suite)
    paths = existing([table.policy]) if table.policy else suite.paths
    if not paths:
        raise ConfigError(f"{file}: no policy is named", remedy="give --policy PATH, or `policy:` in the table")
    entrypoint = Policy(contract=contract, entrypoint=table.entrypoint or suite.entrypoint).rule
    source = PolicySource(paths=(*paths, *library_beside(paths, contract)), contract=contract)
    with NativeEngine(suite.library).open(source) as policy:
        query = policy.query(entrypoint)
        for case in cases:
            yield _table_test(file, case, query, interpret)


def held_by_table(suite: Suite, file: Path) -> set[str]:
    """The places of all rules that gave a value in some case of a table, asked slowly; see `table_tests`."""
    table = read_table(file)
    contract, _ = _contract(table, suite)
    paths = existing([table.policy]) if table.policy else suite.paths
    entrypoint = Policy(contract=contract, entrypoint=table.entrypoint or suite.entrypoint).rule
    options = PolicyOptions(paths=(*paths, *library_beside(paths, contract)), contract=contract)
    with suite.library.open_policy(options) as policy:
        query = policy.prepare(entrypoint)
        seen = (query.explain(orjson.dumps(case.input), DEADLINE_S) for case in table.cases)
        return {rule_names.place(rule) for each in seen for rule in each["rules"] if rule.get("location")}


def exercised(rules: Iterable[dict[str, Any]]) -> tuple[Exercised, ...]:
    """Rules by the names that decisions have for them, each once, with all of its definitions."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for rule in rules:
        source = rule_names.written(rule)
        if source or not rule["location"]["file"].endswith(_COMPILED):
            groups.setdefault((rule_names.named(rule), source or rule_names.place(rule)), []).append(rule)
    return tuple(_exercised(name, place, group) for (name, place), group in groups.items())


def _exercised(name: str, place: str, group: list[dict[str, Any]]) -> Exercised:
    # A tool that is listed because it may be called says nothing of the rule on calls.
    of_calls = [rule for rule in group if '"call"' in rule["source"]] or group
    return Exercised(
        name=name,
        place=place,
        held=any(rule["held"] for rule in of_calls),
        places=tuple(map(rule_names.place, of_calls)),
    )


def _contract(table: Table, suite: Suite) -> tuple[Literal["agent", "envoy"], Callable[[bytes | None], Verdict]]:
    contract = table.contract or suite.contract
    if contract == "agent":
        return "agent", agent_contract.interpret
    if contract == "envoy":
        return "envoy", envoy_contract.interpret
    raise ConfigError(f"{table.file}: `contract` is neither `agent` nor `envoy`")


def _rego_test(result: dict[str, Any]) -> Result:
    package, _, name = result["name"].rpartition(".")
    place = result["location"]
    failed = [f"case `{case}` failed" for case in result["cases"]] or [result["message"]]
    return Result(
        suite=package,
        name=name,
        place=f"{place['file']}:{place['row']}",
        outcome=Outcome(result["outcome"]),
        details=tuple(detail for detail in (*failed, *result["output"].splitlines()) if detail),
        seconds=result["ns"] / 1e9,
    )


def _table_test(file: Path, case: Case, query: Query, interpret: Callable[[bytes | None], Verdict]) -> Result:
    started = time.perf_counter()
    differing = differences(case, query, interpret)
    return Result(
        suite=file.stem,
        name=case.name,
        place=str(file),
        outcome=Outcome.FAIL if differing else Outcome.PASS,
        details=tuple(f"{each.part}: want {_json(each.want)}, got {_json(each.got)}" for each in differing),
        seconds=time.perf_counter() - started,
    )


def _json(value: object) -> str:
    return orjson.dumps(value).decode()
