from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from authz.native import Location, Problem
from authz.policy.lint import RULES, Severity, policy_findings, table_findings

if TYPE_CHECKING:
    from pathlib import Path

PLACE = Location(file="/policy/p.rego", row=7, col=3)


def found(code: str, message: str = "", place: Location | None = PLACE) -> tuple[str, str]:
    (finding,) = policy_findings([Problem(code=code, message=message, location=place)])
    return finding.rule.id, finding.rule.severity


@pytest.mark.parametrize(
    ("code", "message", "rule"),
    [
        ("rego_type_error", "undefined ref: input.agent.tenannt", "unknown-input"),
        ("rego_type_error", "undefined ref: data.authzlib.nothing", "unknown-name"),
        ("rego_type_error", "undefined function http.send", "unknown-name"),
        ("rego_type_error", "match error", "type"),
        ("rego_parse_error", "", "parse"),
        ("rego_unsafe_var_error", "", "unsafe-variable"),
        ("default_allow", "", "default-allow"),
        ("allow_by_absence", "", "allow-by-absence"),
        ("a code of a later engine", "", "opa"),
    ],
)
def test_what_keeps_a_policy_from_serving_or_opens_it_is_an_error(code: str, message: str, rule: str) -> None:
    assert found(code, message) == (rule, Severity.ERROR)


@pytest.mark.parametrize("code", ["missing_metadata", "undecidable_builtin"])
def test_what_is_only_unwise_warns(code: str) -> None:
    assert found(code) == (code.replace("_", "-"), Severity.WARNING)


def test_a_finding_has_its_place_where_there_is_one() -> None:
    placed, placeless = policy_findings(
        [
            Problem(code="load_error", message="m", location=PLACE),
            Problem(code="load_error", message="m", location=None),
        ]
    )
    assert (placed.file, placed.row, placed.col) == ("/policy/p.rego", 7, 3)
    assert (placeless.file, placeless.row) == ("", 0)


def test_ids_are_unique_and_every_rule_has_a_remedy() -> None:
    assert len({rule.id for rule in RULES}) == len(RULES)
    assert all(rule.remedy for rule in RULES)


def test_a_table_that_could_not_be_run_is_an_error(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    good.write_text("cases: [{name: n, call: {}, want: {effect: deny}}]")
    bad.write_text("cases: [{name: n, call: {}, want: {}}]")
    (finding,) = table_findings([good, bad])
    assert (finding.rule.id, finding.file) == ("decision-table", str(bad))
    assert finding.message.startswith("case 1 `n`")
