"""Policies in YAML become Rego that a person can read, and what is served is what the YAML says."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import orjson
import pytest

from authz.authoring.compiling import MODULE, compile_folder, deciding_module, hold_current, is_current
from authz.authoring.operators import CLASSES, OPERATORS, SECRETS
from authz.errors import ConfigError
from authz.native import Library
from authz.policy import agent_contract
from authz.policy.decision_table import EVERY_CALL
from authz.policy.engine import PolicySource
from authz.policy.opa_native import NativeEngine
from authz.resources import shared
from tests.contracts.programs import opa

GOLDEN = Path(__file__).parent / "golden"
ALLOW = """version: 1
rules:
  - id: open
    effect: allow
    match: {tenant: "*", agent: "*", tool: default/t}
"""


def written(folder: Path, text: str = ALLOW, name: str = "first.yaml") -> Path:
    (folder / "policies").mkdir(exist_ok=True)
    (folder / "policies" / name).write_text(text)
    (folder / MODULE).write_text(compile_folder(folder))
    return folder


def ask(folder: Path, **changes: Any) -> Any:
    document = EVERY_CALL | {"agent": {"id": "ann", "tenant": "acme", "subject": "s"}} | changes
    document["tool"] = {"server": "default", "name": "t", "protocol": "mcp", "method": "tools/call"} | changes.get(
        "tool", {}
    )
    with NativeEngine(Library.load()).open(PolicySource(paths=(folder, shared("rego")))) as policy:
        return agent_contract.interpret(policy.query("authz/decision").evaluate(orjson.dumps(document), 5.0))


def test_the_compiled_form_is_the_golden_one() -> None:
    """`authz policy compile tests/unit/authoring/golden` writes it anew; read the difference."""
    assert compile_folder(GOLDEN) == (GOLDEN / MODULE).read_text()


def test_what_is_compiled_is_formatted_checked_and_without_a_finding() -> None:
    module = str(GOLDEN / MODULE)
    assert subprocess.run([opa(), "fmt", "--list", module], capture_output=True, text=True, check=True).stdout == ""
    found = Library.load().check([GOLDEN, shared("rego")], shared("rego") / "schemas")
    assert [str(problem) for problem in found] == []


def test_a_decision_names_the_yaml_rule_and_its_line(tmp_path: Path) -> None:
    verdict = ask(written(tmp_path))
    assert (verdict.effect, verdict.rules) == ("allow", ("first/open",))
    assert verdict.tags["sources"] == {"first/open": "policies/first.yaml:3"}


def test_a_denial_names_the_yaml_rule_and_its_line(tmp_path: Path) -> None:
    denial = '  - id: closed\n    effect: deny\n    match: {tool: t}\n    message: "Closed: \\"today\\"."\n'
    verdict = ask(written(tmp_path, ALLOW + denial))
    assert (verdict.effect, verdict.reason, verdict.message) == ("deny", "closed", 'Closed: "today".')
    assert verdict.tags["sources"] == {"first/closed": "policies/first.yaml:6"}


def test_c19_a_namesake_on_another_server_is_not_allowed(tmp_path: Path) -> None:
    assert ask(written(tmp_path), tool={"server": "evil"}).effect == "deny"


def test_an_allowed_tool_is_listed_and_asking_what_there_is_passes(tmp_path: Path) -> None:
    folder = written(tmp_path)
    assert ask(folder, phase="list").effect == "allow"
    assert ask(folder, tool={"name": "", "method": "tools/list"}).reason == "method_allowed"
    assert ask(folder, tool={"method": "prompts/get"}).effect == "deny"


def test_rego_beside_it_makes_the_decision_and_adds_its_own_outcomes(tmp_path: Path) -> None:
    (tmp_path / "policy.rego").write_text(
        "package authz\n\nimport data.authzlib.combining\n\n"
        'decision := combining.decide(outcomes, "read")\n\n'
        'outcomes contains {"effect": "deny", "rule": "mine", "reason": "mine"} if input.args.x == 1\n'
    )
    folder = written(tmp_path)
    assert deciding_module(folder) == folder / "policy.rego"
    assert "decision :=" not in (folder / MODULE).read_text()
    assert (ask(folder).effect, ask(folder).risk) == ("allow", "read")
    assert ask(folder, args={"x": 1}).rules == ("mine",)


def test_a_sanitize_redacts_what_is_there_and_refuses_what_stands_in_a_key(tmp_path: Path) -> None:
    sanitize = (
        "  - id: clean\n    effect: sanitize\n    match: {tool: t}\n"
        "    redactions: [{classes: ssn}, {path: /memo, replacement: '[memo]'}]\n"
    )
    folder = written(tmp_path, ALLOW + sanitize)
    cleaned = ask(folder, args={"memo": "x", "body": "SSN 123-45-6789"})
    assert (cleaned.effect, sorted(each.path for each in cleaned.redactions)) == ("sanitize", ["/body", "/memo"])
    assert ask(folder, args={"body": "hello"}).effect == "allow"
    assert ask(folder, args={"123-45-6789": "x"}).reason == "secret_in_key"


def test_results_pass_where_their_call_did_unless_a_rule_says_which(tmp_path: Path) -> None:
    asked = {"phase": "result", "result": {"secret": "x"}}
    narrowing = (
        "  - id: r\n    effect: deny\n    match: {phase: result}\n    when: [{field: result.%s, exists: true}]\n"
    )
    assert ask(written(tmp_path, ALLOW + narrowing % "other"), **asked).effect == "allow"
    assert ask(written(tmp_path, ALLOW + narrowing % "secret"), **asked).effect == "deny"
    opening = (
        "  - id: r\n    effect: allow\n    match: {phase: result, tenant: '*', agent: '*', tool: default/t}\n"
        "    when: [{field: result.public, equals: true}]\n"
    )
    assert ask(written(tmp_path, ALLOW + opening), **asked).effect == "deny"


def test_a_module_that_is_not_what_the_files_say_is_refused(tmp_path: Path) -> None:
    folder = written(tmp_path)
    hold_current([folder])
    (folder / "policies" / "first.yaml").write_text(ALLOW.replace("default/t", "default/*"))
    assert not is_current(folder)
    with pytest.raises(ConfigError, match="is not what") as refused:
        hold_current([folder])
    assert "authz policy compile" in refused.value.remedy


def test_a_module_whose_files_are_gone_is_refused(tmp_path: Path) -> None:
    folder = written(tmp_path)
    (folder / "policies" / "first.yaml").unlink()
    assert not is_current(folder)


def test_a_folder_without_policies_has_nothing_to_hold(tmp_path: Path) -> None:
    assert is_current(tmp_path)


def test_every_operator_is_a_function_of_the_library() -> None:
    source = (shared("rego") / "authzlib" / "conditions" / "conditions.rego").read_text()
    assert [name for name, operator in OPERATORS.items() if f"\n{operator.function}(" not in source] == []


def test_the_classes_are_those_of_the_library(tmp_path: Path) -> None:
    (tmp_path / "p.rego").write_text(
        "package authz\n\nimport data.authzlib.detectors\n\n"
        "classes := [object.keys(detectors.patterns), detectors.secrets]\n"
    )
    with NativeEngine(Library.load()).open(PolicySource(paths=(tmp_path, shared("rego")))) as policy:
        known, secrets = orjson.loads(policy.query("authz/classes").evaluate(b"{}", 5.0) or b"null")
    assert (sorted(known), sorted(secrets)) == (sorted(CLASSES), sorted(SECRETS))
