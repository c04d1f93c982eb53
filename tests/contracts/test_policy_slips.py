"""Slips that policy authors make: each allows what it seems to deny, is an error of the lint, and has a right form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from authz.native import Library
from authz.policy import agent_contract
from authz.policy.engine import PolicySource
from authz.policy.lint import Severity, policy_findings
from authz.policy.opa_native import NativeEngine

if TYPE_CHECKING:
    from pathlib import Path

ALLOW, DENY = '{"effect": "allow"}', '{"effect": "deny"}'


@dataclass(frozen=True, kw_only=True)
class Slip:
    """Rules that were meant to deny `denied` and allow `allowed`, and what was meant."""

    rules: str
    meant: str
    denied: dict[str, Any]
    allowed: dict[str, Any]
    finding: str


SLIPS = {
    "not equal to any": Slip(
        rules=f'default decision := {DENY}\ndecision := {ALLOW} if "guest" != input.agent.scopes[_]',
        meant=f"default decision := {DENY}\n"
        f'decision := {ALLOW} if {{\n\tcount(input.agent.scopes) > 0\n\tnot "guest" in input.agent.scopes\n}}',
        denied={"agent": {"scopes": ["guest", "tools"]}},
        allowed={"agent": {"scopes": ["tools"]}},
        finding="unequal-to-some",
    ),
    "every of none": Slip(
        rules=f'default decision := {DENY}\ndecision := {ALLOW} if every s in input.agent.scopes {{ s == "tools" }}',
        meant=f"default decision := {DENY}\n"
        f"decision := {ALLOW} if {{\n\tcount(input.agent.scopes) > 0\n"
        '\tevery s in input.agent.scopes { s == "tools" }\n}',
        denied={"agent": {"scopes": []}},
        allowed={"agent": {"scopes": ["tools"]}},
        finding="vacuous-every",
    ),
    "negated set": Slip(
        rules='_granted contains name if {\n\tsome name in ["read"]\n\tname == input.tool.name\n}\n\n'
        f"decision := {DENY} if not _granted\n\nelse := {ALLOW} if input.tool.name",
        meant='_granted contains name if {\n\tsome name in ["read"]\n\tname == input.tool.name\n}\n\n'
        f"decision := {DENY} if count(_granted) == 0\n\nelse := {ALLOW} if input.tool.name",
        denied={"tool": {"name": "delete"}},
        allowed={"tool": {"name": "read"}},
        finding="negated-set",
    ),
    "subset of nothing": Slip(
        rules=f"default decision := {DENY}\n"
        f'decision := {ALLOW} if {{\n\tasked := {{s | some s in input.args.tables}}\n\tcount(asked - {{"a"}}) == 0\n}}',
        meant=f"default decision := {DENY}\n"
        f"decision := {ALLOW} if {{\n\tasked := {{s | some s in input.args.tables}}\n"
        '\tcount(asked) > 0\n\tcount(asked - {"a"}) == 0\n}',
        denied={"args": {}},
        allowed={"args": {"tables": ["a"]}},
        finding="allow-by-absence",
    ),
    "negation over what is missing": Slip(
        rules=f"default decision := {DENY}\ndecision := {ALLOW} if not input.agent.blocked",
        meant=f"default decision := {DENY}\ndecision := {ALLOW} if input.agent.blocked == false",
        denied={"agent": {}},
        allowed={"agent": {"blocked": False}},
        finding="allow-by-absence",
    ),
    "allowed by default": Slip(
        rules=f'default decision := {ALLOW}\ndecision := {DENY} if input.tool.name == "delete"',
        meant=f'default decision := {DENY}\ndecision := {ALLOW} if input.tool.name in {{"read"}}',
        denied={"tool": {"name": "Delete"}},
        allowed={"tool": {"name": "read"}},
        finding="default-allow",
    ),
}
slips = pytest.mark.parametrize("slip", SLIPS.values(), ids=SLIPS.keys())


def effect(folder: Path, rules: str, document: dict[str, Any]) -> str:
    (folder / "policy.rego").write_text(f"package authz\n\n{rules}\n")
    with NativeEngine(Library.load()).open(PolicySource(paths=(folder,))) as policy:
        answer = policy.query("authz/decision").evaluate(orjson.dumps(document), 5.0)
    return agent_contract.interpret(answer).effect


def errors(folder: Path) -> set[str]:
    found = policy_findings(Library.load().check([folder]))
    return {finding.rule.id for finding in found if finding.rule.severity is Severity.ERROR}


@slips
def test_g5_a_slip_allows_what_it_seems_to_deny_and_the_lint_says_so(tmp_path: Path, slip: Slip) -> None:
    assert effect(tmp_path, slip.rules, slip.denied) == "allow"
    assert errors(tmp_path) == {slip.finding}


@slips
def test_g5_the_right_form_denies_it_and_the_lint_is_content(tmp_path: Path, slip: Slip) -> None:
    assert effect(tmp_path, slip.meant, slip.denied) == "deny"
    assert effect(tmp_path, slip.meant, slip.allowed) == "allow"
    assert errors(tmp_path) == set()
