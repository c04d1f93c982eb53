"""Whatever a policy file says that is not understood is an error of its own, with the line."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import jsonschema
import orjson
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from authz.authoring.documents import PolicyFileError, parse
from authz.authoring.reading import read_file, read_rules
from authz.errors import ConfigError
from authz.resources import shared

if TYPE_CHECKING:
    from pathlib import Path

SCHEMA = orjson.loads((shared("schema") / "policy.json").read_bytes())
RULE = """version: 1
rules:
  - id: one
    effect: {effect}
    match: {match}
{rest}"""
WHOM = "{tenant: acme, agent: a, tool: default/t}"


def rule(rest: str = "", effect: str = "deny", match: str = "{tool: t}") -> str:
    return RULE.replace("{effect}", effect).replace("{match}", match).replace("{rest}", rest)


def when(condition: str, match: str = "{tool: t}") -> str:
    return rule(f"    when:\n      - {condition}\n", match=match)


def problems(folder: Path, text: str, name: str = "policy.yaml") -> list[str]:
    file = folder / name
    file.write_text(text, encoding="utf-8")
    _, found = read_file(file)
    return [str(problem).removeprefix(f"{file}:") for problem in found]


REFUSED = {
    "an empty file": ("", "1: the file is empty"),
    "no YAML": ("version: ]", "1: not YAML"),
    "a list": ("[]", "1: the file is not a mapping"),
    "two documents": (rule() + "---\n" + rule(), "6: a second document begins here"),
    "a repeated key": (rule("    effect: allow\n"), "6: `effect` is set twice, first on line 4"),
    "an anchor": (rule(match="&m {tool: t}"), "5: anchors and aliases are not taken"),
    "a tag": (rule(effect="!!str deny"), "4: tags are not taken"),
    "a merge": (rule('    "<<": {mode: flag}\n'), "6: the rule has no `<<`"),
    "a key that is no name": (rule("    ? [a]\n    : b\n"), "6: a key is a name"),
    "deep nesting": ("[" * 40 + "]" * 40, "1: nested deeper than 32 levels"),
    "another version": (rule().replace("version: 1", "version: 2"), "1: the version of this language is 1"),
    "no rules": ("version: 1\nrules: []\n", "2: `rules` is not a list of rules"),
    "a rule without a match": ("version: 1\nrules: [{id: a, effect: deny}]", "2: the rule needs `match`"),
    "an unknown effect": (rule(effect="block"), "4: `block` is none of allow, deny, sanitize, approval_needed"),
    "an unknown key": (rule("    efect: allow\n"), "6: the rule has no `efect`, did you mean `effect`?"),
    "an id in capitals": (rule().replace("id: one", "id: One"), "3: `One` is no id"),
    "an id twice": (rule("  - id: one\n    effect: deny\n    match: {}\n"), "6: `policy/one` stands on line 3 already"),
    "a reason of ours": (rule("    reason: PAYMENT\n"), "6: `PAYMENT` is no reason"),
    "a mode that is none": (rule("    mode: watch\n"), "6: `watch` is none of block, flag"),
    "a watched allow": (rule("    mode: flag\n", "allow", WHOM), "6: an allow is not watched"),
    "an allow for whom": (
        rule("", "allow", "{agent: a, tool: d/t}"),
        "5: an allow says whom and what it allows: `tenant`",
    ),
    "an allow of a namesake": (rule("", "allow", WHOM.replace("default/", "")), "5: an allow names the tool's server"),
    "a star within a name": (rule(match="{tool: 'read_*'}"), "5: `read_*` is no pattern"),
    "a star for part of a server": (rule(match="{tool: 'a*/t'}"), "5: `a*` is no server"),
    "a tool without a name": (rule(match="{tool: default/}"), "5: `default/` names no tool"),
    "a term that is none": (rule(match="{user: a}"), "5: match has no `user`"),
    "a phase that is none": (rule(match="{phase: before}"), "5: `before` is none of call, list, result"),
    "a risk that is none": (rule(match="{risk: high}"), "5: `high` is none of read, write, destructive"),
    "no conditions": (rule("    when: []\n"), "6: `when` is not a list of conditions"),
    "a condition of nothing": (when("{}"), "7: a condition has one of"),
    "a condition of two kinds": (when("{field: args.a, equals: 1, not: {}}"), "7: a condition has one of"),
    "a question about two things": (when("{field: args.a, above: 1, below: 3}"), "7: a field is asked one thing"),
    "an unknown operator": (when("{field: args.a, sum_of: args.b}"), "7: the condition has no `sum_of`"),
    "an optional group": (
        when("{any: [{field: args.a, equals: 1}], optional: true}"),
        "7: `optional` does not belong to `any`",
    ),
    "an unknown field": (
        when("{field: agent.tenannt, equals: x}"),
        "7: no `agent.tenannt` in the input, did you mean `tenant`",
    ),
    "a field that is a whole": (when("{field: agent, equals: x}"), "7: `agent` is no value"),
    "a field with another word": (when("{field: phase, equals: call}"), "7: `phase` is no field of a condition"),
    "a field that is computed": (when("{field: 'args.a + args.b', above: 1}"), "7: `args.a + args.b` is no path"),
    "a field of every item": (when("{field: 'args.items[*].price', above: 1}"), "7: `args.items[*].price` is no path"),
    "a result of a call": (when("{field: result.a, equals: 1}"), "7: only phase `result` has a result"),
    "arguments of a list": (when("{field: args.a, equals: 1}", "{phase: list}"), "7: a listed tool has no args"),
    "a text for a number": (when("{field: args.a, above: '1'}"), "7: `1` is not a number"),
    "a truth for a number": (when("{field: args.a, above: true}"), "7: `true` is not a number"),
    "a mapping for a value": (when("{field: args.a, equals: {}}"), "7: a mapping is not a text, a number"),
    "an empty set": (when("{field: args.a, in: []}"), "7: the list is empty"),
    "a set of two kinds": (when("{field: args.a, in: [a, 1]}"), "7: the list mixes texts, numbers or truths"),
    "a number beyond 2^53": (when("{field: args.a, above: 9007199254740993}"), "7: a number beyond 2^53"),
    "a pattern that is none": (when("{field: args.a, matches: '('}"), "7: `(` is no RE2 pattern"),
    "a pattern that looks around": (when("{field: args.a, matches: '(?=a)'}"), "7: `(?=a)` is no RE2 pattern"),
    "a class that is none": (when("{field: args, holds: password}"), "7: no class `password`"),
    "a folder that climbs": (when("{field: args.a, path_below: /docs/../etc}"), "7: `/docs/../etc` is no plain folder"),
    "a destination that is none": (when("{field: args.a, url_to: 'https://a@b'}"), "7: `https://a@b` is no host"),
    "a domain that is none": (when("{field: args.a, email_to: '@x'}"), "7: `@x` is no domain"),
    "SQL that does else": (when("{field: args.a, sql: writes}"), "7: the only thing to ask of an SQL text is `reads`"),
    "an optional exists": (
        when("{field: args.a, exists: true, optional: true}"),
        "7: `exists` has an answer for every call",
    ),
    "hours of no zone": (when("{time: {from: '08:00', to: '18:00'}}"), "7: hours and days are those of a `zone`"),
    "half a window": (when("{time: {zone: UTC, from: '08:00'}}"), "7: `from` and `to` come together"),
    "an hour that is none": (when("{time: {zone: UTC, from: '8', to: '24:00'}}"), "7: `8` is no time of day"),
    "a day that is none": (when("{time: {zone: UTC, days: [monday]}}"), "7: `monday` is no day"),
    "a zone that is none": (when("{time: {zone: Europe/Atlantis, days: mon}}"), "7: `Europe/Atlantis` is no time zone"),
    "no time": (when("{time: {}}"), "7: `time` needs"),
    "an instant without offset": (
        when("{time: {after: '2026-01-01T00:00:00'}}"),
        "7: `2026-01-01T00:00:00` is no instant",
    ),
    "a rate of no span": (when("{rate: {of: calls, per: often, above: 1}}"), "7: `often` is no span of time"),
    "a rate of what nobody counts": (
        when("{rate: {of: spawns, per: 1m, above: 1}}"),
        "7: no `spawns` is counted, but calls, ",
    ),
    "a rate of a misspelled count": (
        when("{rate: {of: call, per: 1m, above: 1}}"),
        "7: no `call` is counted, did you mean `calls`?",
    ),
    "a rate over two days": (
        when("{rate: {of: calls, per: 2d, above: 1}}"),
        "7: nothing is counted for longer than a day",
    ),
    "a rate without a bound": (when("{rate: {of: calls, per: 1m}}"), "7: a rate is `of` a count"),
    "a sanitize of nothing": (rule(effect="sanitize"), "3: effect `sanitize` needs `redactions`"),
    "redactions of a deny": (
        rule("    redactions: [{classes: secrets}]\n"),
        "6: `redactions` belongs to effect `sanitize`",
    ),
    "a redaction of nowhere": (
        rule("    redactions: [{path: body, replacement: x}]\n", "sanitize"),
        "6: `body` is no pointer",
    ),
    "a redaction by nothing": (
        rule("    redactions: [{path: /body}]\n", "sanitize"),
        "6: a redaction has `path` and `replacement`",
    ),
    "an approval by nobody": (rule(effect="approval_needed"), "3: effect `approval_needed` needs `approval`"),
    "an approval of none": (
        rule("    approval: {approvers: [a], quorum: 0}\n", "approval_needed"),
        "6: `quorum` is a whole number from 1 to 100",
    ),
    "a charge of a deny": (rule("    charges: [{budget: b, amount: 1}]\n"), "6: a denied call is charged nothing"),
    "a negative charge": (
        rule("    charges: [{budget: b, amount: -1}]\n", "allow", WHOM),
        "6: a charge is not negative",
    ),
}


@pytest.mark.parametrize(("text", "problem"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_not_understood_is_refused_with_its_line(tmp_path: Path, text: str, problem: str) -> None:
    found = problems(tmp_path, text)
    assert len(found) == 1
    assert found[0].startswith(problem)


def test_each_refusal_has_an_error_of_its_own(tmp_path: Path) -> None:
    messages = {re.sub(r"^\d+: |`[^`]*`", "", problems(tmp_path, text)[0]) for text, _ in REFUSED.values()}
    assert len(messages) > 0.75 * len(REFUSED)


# What only a reader of Rego's needs, and what JSON Schema has no words for.
BEYOND_SCHEMA = re.compile(
    "twice|second document|not YAML|empty$|stands on line|names the tool's|no pattern|no server|names no tool|RE2|"
    "no `agent|no value|is no path|no field of|only phase|a listed tool|nothing, |mixes|2\\^53|plain folder|no host|"
    "no domain|time zone|no instant|same time|one phase|asked one thing|optional|exists|anchors|tags|a key is|"
    "nested deeper|longer than a day"
)


@pytest.mark.parametrize("text", [text for text, problem in REFUSED.values() if not BEYOND_SCHEMA.search(problem)])
def test_the_schema_refuses_what_an_editor_can_know(text: str) -> None:
    document = yaml.safe_load(text)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, SCHEMA)


def test_the_first_problem_of_each_rule_is_told(tmp_path: Path) -> None:
    text = rule("    x: 1\n    y: 1\n") + "  - id: two\n    effect: nothing\n    match: {}\n"
    assert [found.partition(":")[0] for found in problems(tmp_path, text)] == ["6", "9"]


def test_a_file_s_name_is_in_decisions_and_has_a_form(tmp_path: Path) -> None:
    assert problems(tmp_path, rule(), "My Policy.yaml")[0].startswith("1: a policy's file is named in lower case")


def test_a_folder_s_problems_come_together_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "a.yaml").write_text(when("{field: args.a, plus: 1}"))
    (tmp_path / "policies" / "b.yaml").write_text(rule(effect="maybe"))
    with pytest.raises(ConfigError) as refused:
        read_rules(tmp_path)
    assert [str(problem).rpartition("/")[2].split(" ")[0] for problem in refused.value.problems] == [
        "a.yaml:7:",
        "b.yaml:4:",
    ]
    assert "written in Rego" in refused.value.remedy


def test_a_folder_without_policies_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"has no policies/\*\.yaml"):
        read_rules(tmp_path)


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("no", "no"),
        ("on", "on"),
        ("010", "010"),
        ("18:00", "18:00"),
        ("1_000", "1_000"),
        ("0x1f", "0x1f"),
        (".5", ".5"),
        ("2026-01-01", "2026-01-01"),
        ("12", 12),
        ("-1.5e3", -1500.0),
        ("true", True),
        ("True", "True"),
        ("~", None),
        ("'12'", "12"),
        ('"true"', "true"),
    ],
)
def test_a_scalar_is_what_it_looks_like(written: str, value: object) -> None:
    node = parse(f"[{written}]").value
    assert isinstance(node, list)
    assert (node[0].value, type(node[0].value)) == (value, type(value))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(st.characters(codec="ascii")),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec="ascii")), inner),
    max_leaves=10,
)


def plain(node: object) -> object:
    value = getattr(node, "value", None)
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    return [plain(inner) for inner in value] if isinstance(value, list) else value


@given(JSON)
def test_json_is_read_as_it_is(document: object) -> None:
    assert plain(parse(json.dumps(document))) == document


@given(st.text() | st.binary().map(lambda content: content.decode("utf-8", "replace")))
def test_any_text_is_a_document_or_an_error_with_its_line(text: str) -> None:
    try:
        line = parse(text).line
    except PolicyFileError as error:
        line = error.line
    assert line >= 1
