"""What is wrong or unwise in a policy's source, each with a stable id, a severity and a remedy.

Decides what a finding is called and whether it is an error: the engine and the tables only say where something is. An
error is what keeps the policy from being served or lets a call run that nobody allowed; the rest warns. Must never
drop a problem whose code it does not know: that is an error too.

Trusts the engine to have found everything.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from authz.errors import ConfigError
from authz.policy.decision_table import read_table

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from authz.native import Location, Problem


class Severity(StrEnum):
    """Whether a finding fails the lint."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Rule:
    """What a finding of one id means to its reader."""

    id: str
    severity: Severity
    remedy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One place where a rule is broken; row and column count from one, and are 0 where there is none."""

    rule: Rule
    message: str
    file: str = ""
    row: int = 0
    col: int = 0


UNKNOWN_INPUT: Final = Rule(
    "unknown-input",
    Severity.ERROR,
    "a rule that reads it is undefined and never holds; rego/schemas/input.json lists what there is",
)
UNKNOWN_NAME: Final = Rule(
    "unknown-name",
    Severity.ERROR,
    "no such rule, function or builtin; under contract `agent`, none that leaves the engine",
)
DECISION_TABLE: Final = Rule("decision-table", Severity.ERROR, "a case that is not understood tests nothing")
POLICY_FILE: Final = Rule(
    "policy-file", Severity.ERROR, "what the language has no word for is written in Rego beside it"
)
NOT_COMPILED: Final = Rule(
    "not-compiled", Severity.ERROR, "run `authz policy compile`: what is served is compiled.rego"
)
OTHER: Final = Rule("opa", Severity.ERROR, "the engine refuses the policy as it is")

_BY_CODE: Final = {
    "rego_parse_error": Rule("parse", Severity.ERROR, "write it as Rego v1: `if` before bodies, `contains` for sets"),
    "rego_compile_error": Rule(
        "compile", Severity.ERROR, "the policy is compiled strictly: nothing unused, nothing shadowed"
    ),
    "rego_type_error": Rule("type", Severity.ERROR, "compare and call with values of the types that are expected"),
    "rego_unsafe_var_error": Rule(
        "unsafe-variable", Severity.ERROR, "give it a value, declare it with `some`, or import it"
    ),
    "rego_recursion_error": Rule("recursion", Severity.ERROR, "a rule may not rest on itself"),
    "load_error": Rule("load", Severity.ERROR, "every file must be readable, and no two may set the same data"),
    "default_allow": Rule("default-allow", Severity.ERROR, "let the default deny, and prove each allow"),
    "allow_by_absence": Rule("allow-by-absence", Severity.ERROR, "prove the allow by a condition of its own"),
    "unequal_to_some": Rule(
        "unequal-to-some", Severity.ERROR, "write `not x in xs` for none of them, `some y in xs` and `x != y` for one"
    ),
    "vacuous_every": Rule("vacuous-every", Severity.ERROR, "ask for an element too, such as count(xs) > 0"),
    "negated_set": Rule("negated-set", Severity.ERROR, "write count(xs) == 0, or ask for one element"),
    "unreachable_rule": Rule("unreachable-rule", Severity.WARNING, "remove it, or what keeps it from holding"),
    "shadowed_deny": Rule("shadowed-deny", Severity.WARNING, "let denials be asked first, or remove this one"),
    "deny_can_fail": Rule(
        "deny-can-fail",
        Severity.WARNING,
        "check the value before, or the call is denied as POLICY_ERROR and not by this rule",
    ),
    "unindexed_rule": Rule(
        "unindexed-rule",
        Severity.WARNING,
        "compare input.tool.name, input.tool.server, input.agent.id or .tenant with ==",
    ),
    "undecidable_builtin": Rule("undecidable-builtin", Severity.WARNING, "take what it tells from the input"),
    "not_formatted": Rule("not-formatted", Severity.WARNING, "run `opa fmt --write` on it"),
    "missing_metadata": Rule(
        "missing-metadata", Severity.WARNING, "say what it decides in a METADATA block, or begin its name with _"
    ),
}

UNREACHABLE: Final = _BY_CODE["unreachable_rule"]
SHADOWED_DENY: Final = _BY_CODE["shadowed_deny"]

RULES: Final = (UNKNOWN_INPUT, UNKNOWN_NAME, DECISION_TABLE, POLICY_FILE, NOT_COMPILED, OTHER, *_BY_CODE.values())


def policy_findings(problems: Iterable[Problem]) -> list[Finding]:
    """The engine's problems, named."""
    return [_finding(problem.code, problem.message, problem.location) for problem in problems]


def table_findings(tables: Iterable[Path]) -> list[Finding]:
    """Tables that could not be run."""
    found = []
    for table in tables:
        try:
            read_table(table)
        except ConfigError as error:
            message = str(error).removeprefix(f"{table}: ")
            found.append(Finding(rule=DECISION_TABLE, message=message, file=str(table)))
    return found


def _finding(code: str, message: str, place: Location | None) -> Finding:
    rule = _BY_CODE.get(code, OTHER)
    if code == "rego_type_error" and message.startswith("undefined ref: input"):
        rule = UNKNOWN_INPUT
    elif code == "rego_type_error" and message.startswith(("undefined ref", "undefined function")):
        rule = UNKNOWN_NAME
    if place is None:
        return Finding(rule=rule, message=message)
    return Finding(rule=rule, message=message, file=place.file, row=place.row, col=place.col)
