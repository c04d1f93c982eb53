"""Tests of policies are run by the engine that serves, and a test that could not run never counts as passed."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from authz.errors import BundleError, ConfigError
from authz.native import EngineError, Library
from authz.policy.testing import Outcome, Report, Result, Suite, rego_tests, table_tests

if TYPE_CHECKING:
    from pathlib import Path

ALL = re.compile("")
POLICY = """package authz

import data.authzlib.combining

decision := combining.decide(outcomes, "read")

outcomes contains {"effect": "allow", "rule": "r", "reason": "known"} if input.agent.id == data.known
"""
TESTS = """package authz_test

import data.authz

test_known if authz.decision.effect == "allow" with input as {"agent": {"id": "ann"}}

test_wrong if authz.decision.effect == "allow" with input as {"agent": {"id": "eve"}}

todo_test_later if false
"""
TABLE = """
cases:
  - {name: known agent, call: {agent: ann}, want: {effect: allow, reason: known}}
  - {name: stranger, call: {agent: eve}, want: {effect: allow}}
"""


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    (tmp_path / "tests").mkdir()
    (tmp_path / "policy.rego").write_text(POLICY)
    (tmp_path / "policy_test.rego").write_text(TESTS)
    (tmp_path / "data.yaml").write_text("known: ann\n")
    (tmp_path / "tests" / "table.yaml").write_text(TABLE)
    (tmp_path / "tests" / "other.yaml").write_text(TABLE)
    return tmp_path


@pytest.fixture
def suite(policy: Path) -> Suite:
    return Suite(library=Library.load(), paths=(policy,), contract="agent")


def outcomes(report: Report) -> dict[str, str]:
    return {tested.name: tested.outcome.value for tested in report.tests}


def test_rego_tests_are_run_without_the_library_s_own(suite: Suite) -> None:
    report = rego_tests(suite, suite.paths)
    assert outcomes(report) == {"test_known": "pass", "test_wrong": "fail", "todo_test_later": "skip"}
    assert not report.passed


def test_a_failed_test_is_placed_and_says_where_it_failed(suite: Suite, policy: Path) -> None:
    wrong = rego_tests(suite, suite.paths).tests[1]
    assert wrong.place == f"{policy}/policy_test.rego:7"
    assert wrong.details[0].startswith('row 7 did not hold: authz.decision.effect == "allow"')


def test_coverage_is_of_the_policy_alone(suite: Suite, policy: Path) -> None:
    (covered,) = rego_tests(suite, suite.paths).coverage
    assert (covered.file, covered.percent, covered.rows) == (f"{policy}/policy.rego", 100, ())


def test_a_pattern_chooses_tests(suite: Suite, policy: Path) -> None:
    assert outcomes(rego_tests(suite, suite.paths, "known")) == {"test_known": "pass"}
    assert [each.name for each in table_tests(suite, policy / "tests/table.yaml", re.compile("known"))] == [
        "known agent"
    ]


def test_a_table_is_asked_of_the_policy_with_its_data(suite: Suite, policy: Path) -> None:
    known, stranger = table_tests(suite, policy / "tests/table.yaml", ALL)
    assert (known.outcome, stranger.outcome) == (Outcome.PASS, Outcome.FAIL)
    assert stranger.details == ('effect: want "allow", got "deny"',)


def test_a_table_may_name_policy_entrypoint_and_contract(suite: Suite, tmp_path: Path) -> None:
    (tmp_path / "plugin.rego").write_text("package shop\n\nopen := input.door == 1\n")
    table = tmp_path / "table.yaml"
    table.write_text(
        "policy: plugin.rego\ncontract: envoy\nentrypoint: shop/open\n"
        "cases: [{name: n, input: {door: 1}, want: {effect: allow}}]\n"
    )
    assert [each.outcome for each in table_tests(suite, table, ALL)] == [Outcome.PASS]


def test_tests_that_do_not_compile_are_an_error_with_all_problems(suite: Suite, policy: Path) -> None:
    (policy / "policy_test.rego").write_text("package authz_test\n\ntest_a if nowhere\n\ntest_b if nothing\n")
    with pytest.raises(EngineError) as refused:
        rego_tests(suite, suite.paths)
    assert [problem.location.row for problem in refused.value.problems if problem.location] == [3, 5]


def test_a_table_whose_policy_does_not_load_is_refused(suite: Suite, policy: Path) -> None:
    (policy / "policy.rego").write_text("package authz\n\ndecision := nowhere\n")
    with pytest.raises(BundleError):
        list(table_tests(suite, policy / "tests/table.yaml", ALL))


@pytest.mark.parametrize(
    ("head", "complaint"),
    [("contract: other\n", "neither `agent` nor `envoy`"), ("policy: nowhere\n", "no policy at")],
)
def test_a_table_that_names_what_is_not_there_is_refused(
    suite: Suite, tmp_path: Path, head: str, complaint: str
) -> None:
    (tmp_path / "t.yaml").write_text(head + TABLE)
    with pytest.raises(ConfigError, match=complaint):
        list(table_tests(suite, tmp_path / "t.yaml", ALL))


def test_a_table_without_a_policy_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.yaml").write_text(TABLE)
    nothing = Suite(library=Library.load(), paths=(), contract="agent")
    with pytest.raises(ConfigError, match="no policy is named"):
        list(table_tests(nothing, tmp_path / "t.yaml", ALL))


@pytest.mark.parametrize(
    ("ended", "passed"),
    [
        ([], False),
        ([Outcome.SKIP], False),
        ([Outcome.PASS], True),
        ([Outcome.PASS, Outcome.SKIP], True),
        ([Outcome.PASS, Outcome.FAIL], False),
        ([Outcome.PASS, Outcome.ERROR], False),
    ],
)
def test_a_run_passes_if_something_was_proved_and_nothing_was_not(ended: list[Outcome], passed: bool) -> None:  # noqa: FBT001 - the expected value
    tests = tuple(Result(suite="s", name=outcome, place="", outcome=outcome) for outcome in ended)
    assert Report(tests=tests).passed is passed
