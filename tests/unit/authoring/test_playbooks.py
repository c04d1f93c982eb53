"""Every playbook is sound at once: compiled, without a finding, its table held, and each of its rules in the table."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
import yaml

from authz.authoring.advice import folder_findings
from authz.authoring.playbooks import SCHEMA, add, names, summary
from authz.authoring.reading import read_rules
from authz.errors import ConfigError
from authz.native import Library
from authz.policy.lint import policy_findings
from authz.policy.testing import Suite, table_tests
from authz.resources import shared

if TYPE_CHECKING:
    from pathlib import Path

ALL = re.compile("")
PLAYBOOKS = (
    "approval-flood",
    "data-exfiltration",
    "destructive-database-verbs",
    "high-value-payment",
    "memory-poisoning",
    "off-hours-writes",
    "rogue-spawning",
    "secrets-in-arguments",
)


def test_the_playbooks_are_these() -> None:
    assert names() == PLAYBOOKS


@pytest.mark.parametrize("name", PLAYBOOKS)
def test_a_playbook_is_sound_and_its_table_holds(tmp_path: Path, name: str) -> None:
    add(name, tmp_path)
    problems = Library.load().check([tmp_path, shared("rego")], shared("rego") / "schemas")
    assert [*folder_findings(tmp_path), *policy_findings(problems)] == []
    suite = Suite(library=Library.load(), paths=(tmp_path,), contract="agent")
    tested = list(table_tests(suite, tmp_path / "tests" / f"{name}.yaml", ALL))
    assert [each.details for each in tested if not each.held] == []


@pytest.mark.parametrize("name", PLAYBOOKS)
def test_every_refusal_of_a_playbook_is_in_its_table(tmp_path: Path, name: str) -> None:
    add(name, tmp_path)
    cases = yaml.safe_load((tmp_path / "tests" / f"{name}.yaml").read_text())["cases"]
    wanted = {case["want"].get("reason") for case in cases}
    assert {rule.reason for rule in read_rules(tmp_path) if not rule.allows} - wanted == set()


@pytest.mark.parametrize("name", PLAYBOOKS)
def test_a_playbook_says_what_it_is_for_and_an_editor_knows_its_schema(tmp_path: Path, name: str) -> None:
    add(name, tmp_path)
    first, *_ = (tmp_path / "policies" / f"{name}.yaml").read_text().splitlines()
    assert first == f"# yaml-language-server: $schema=../{SCHEMA}"
    assert (tmp_path / SCHEMA).is_file()
    assert summary(name).endswith(".")


def test_playbooks_stand_beside_each_other(tmp_path: Path) -> None:
    for name in PLAYBOOKS:
        add(name, tmp_path)
    suite = Suite(library=Library.load(), paths=(tmp_path,), contract="agent")
    tested = [each for name in PLAYBOOKS for each in table_tests(suite, tmp_path / "tests" / f"{name}.yaml", ALL)]
    assert [each.name for each in tested if not each.held] == []


def test_a_playbook_never_replaces_a_policy(tmp_path: Path) -> None:
    add(PLAYBOOKS[0], tmp_path)
    with pytest.raises(ConfigError, match="exists and stays as it is"):
        add(PLAYBOOKS[0], tmp_path)


def test_a_playbook_that_is_not_there_is_named_with_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no playbook `payments`") as refused:
        add("payments", tmp_path)
    assert "high-value-payment" in refused.value.remedy
