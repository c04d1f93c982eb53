"""The lint of policies in YAML names rules that can never matter, and no other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from authz.authoring.advice import folder_findings
from authz.authoring.compiling import MODULE, compile_folder

if TYPE_CHECKING:
    from pathlib import Path

DENY = "{id: wall, effect: deny, match: {tool: [default/t, 'default/files.*']}}"
CASES = {
    "an allow behind a denial": (
        "{id: x, effect: allow, match: {tenant: a, agent: b, tool: default/t}}",
        "unreachable-rule",
    ),
    "a denial behind a wider one": (
        "{id: x, effect: deny, match: {tool: default/files.read, tenant: a}}",
        "shadowed-deny",
    ),
    "the same denial again": ("{id: x, effect: deny, match: {tool: [default/files.*, default/t]}}", "shadowed-deny"),
    "a denial of more": ("{id: x, effect: deny, match: {tool: t}}", ""),
    "a denial of another tool": ("{id: x, effect: deny, match: {tool: default/u}}", ""),
    "an allow of another method": (
        "{id: x, effect: allow, match: {tenant: a, agent: b, tool: default/t, method: prompts/get}}",
        "",
    ),
    "an allow of another phase": (
        "{id: x, effect: allow, match: {tenant: a, agent: b, tool: default/t, phase: list}}",
        "",
    ),
    "bounds that cross": (
        "{id: x, effect: deny, match: {}, when: [{field: args.a, above: 5}, {field: args.a, below: 5}]}",
        "unreachable-rule",
    ),
    "bounds that meet": (
        "{id: x, effect: deny, match: {}, when: [{field: args.a, at_least: 5}, {field: args.a, at_most: 5}]}",
        "",
    ),
    "sets without a common value": (
        "{id: x, effect: deny, match: {}, when: [{field: args.a, in: [p, q]}, {field: args.a, equals: r}]}",
        "unreachable-rule",
    ),
    "sets with one": (
        "{id: x, effect: deny, match: {}, when: [{field: args.a, in: [p, q]}, {field: args.a, equals: q}]}",
        "",
    ),
    "bounds of two fields": (
        "{id: x, effect: deny, match: {}, when: [{field: args.a, above: 5}, {field: args.b, below: 5}]}",
        "",
    ),
}


@pytest.mark.parametrize(("rule", "finding"), CASES.values(), ids=CASES.keys())
def test_rules_that_never_matter_are_named(tmp_path: Path, rule: str, finding: str) -> None:
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "p.yaml").write_text(f"version: 1\nrules:\n  - {DENY}\n  - {rule}\n")
    (tmp_path / MODULE).write_text(compile_folder(tmp_path))
    found = [(each.rule.id, each.row) for each in folder_findings(tmp_path)]
    assert found == ([(finding, 4)] if finding else [])


def test_a_watched_denial_shadows_nothing(tmp_path: Path) -> None:
    (tmp_path / "policies").mkdir()
    watched = DENY.replace("deny,", "deny, mode: flag,")
    (tmp_path / "policies" / "p.yaml").write_text(
        f"version: 1\nrules:\n  - {watched}\n  - {{id: x, effect: deny, match: {{tool: default/t}}}}\n"
    )
    (tmp_path / MODULE).write_text(compile_folder(tmp_path))
    assert list(folder_findings(tmp_path)) == []
