"""Rules as Rego that a person can read and the engine can index.

Decides what a rule means. An allow holds where its conditions are surely true; a rule that narrows holds unless one of
its conditions is surely false, so that a field which is missing or mistyped opens nothing (G1, G4). Both are written
without a `not` over anything but a rule. Whom a rule speaks of stands in its body as plain equalities, which OPA's rule
index looks up: a thousand rules cost what the few that match cost. Must never leave a part of a rule out. Trusts
`reading` to have checked the values.
"""

from __future__ import annotations

import json
import re
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

from authz.authoring import language
from authz.authoring.language import ANY, Test
from authz.authoring.operators import OPERATORS, WITHIN
from authz.model import Effect, Mode, Phase

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from authz.authoring.language import Condition, Rule, ToolName
    from authz.model import JsonValue

LIBRARY: Final = ("combining", "conditions", "grants", "redaction")
NOTE: Final = "Compiled from policies/ by `authz policy compile`. Edit those, and compile again."

_WORD: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_KEYWORDS: Final = frozenset(
    (
        "as",
        "contains",
        "default",
        "else",
        "every",
        "false",
        "if",
        "import",
        "in",
        "input",
        "data",
        "not",
        "null",
        "package",
        "some",
        "true",
        "with",
    )
)
_CALL: Final = """
_yaml_call if input.tool.method == "tools/call"

_yaml_call if input.tool.protocol == "http"
"""
_RISK: Final = """
_yaml_risk := risk if {
	risk := data.risks[input.tool.server][input.tool.name]
} else := "read" if {
	_yaml_names_only
} else := "destructive"
"""
_NAMES_ONLY: Final = """
# Methods that show names and change nothing.
_yaml_names_only if {
	input.tool.method in {
		"tools/list",
		"resources/list",
		"resources/templates/list",
		"prompts/list",
		"stream/open",
		"session/delete",
	}
}
"""
_PACKAGE: Final = """\
# METADATA
# title: Policy
# description: |
#   Each rule adds one outcome, and the library makes the decision of them: deny beats approval_needed beats sanitize
#   beats allow, and what no rule allows is denied.
# scope: package
# schemas:
#   - input: schema.input
"""
_DECISION: Final = """
# METADATA
# title: The decision on a call, a listed tool or a result
# entrypoint: true
decision := combining.decide(outcomes, _yaml_risk)
"""
_DESCRIBED: Final = """\
# METADATA
# title: What the rules have to say
# scope: document
"""


def write(rules: Sequence[Rule], *, decides: bool) -> str:
    """One module of package `authz`.

    Args:
        rules: of all files.
        decides: whether the module makes the decision too; else Rego beside it does, of the same `outcomes`.
    """
    of_results = [rule for rule in rules if Phase.RESULT in rule.match.phases]
    # Where rules say themselves which results pass, a judged call is no reason.
    follows = bool(of_results) and not any(rule.allows for rule in of_results)
    texts = [_Writer(rule, results_follow=follows).text() for rule in rules]
    if decides:
        texts[0] = texts[0].replace("\n", "\n\n" + _DESCRIBED, 1)
        texts = [_DECISION.lstrip("\n"), *texts, *_methods(rules, of_results=bool(of_results))]
    written = "".join(f"\n{text}" for text in texts)
    needed = written
    for name, text in (("_yaml_risk", _RISK), ("_yaml_names_only", _NAMES_ONLY), ("_yaml_call", _CALL)):
        if name in needed:
            written += text
            needed += text
    imports = "".join(f"import data.authzlib.{name}\n" for name in LIBRARY if f"{name}." in written)
    return f"# {NOTE}\n\n{_PACKAGE if decides else ''}package authz\n\n{imports}{written}"


def _methods(rules: Sequence[Rule], *, of_results: bool) -> Iterator[str]:
    """Who may call something may ask what there is."""
    allowing = [rule.match.tenants for rule in rules if rule.allows]
    if not allowing:
        return
    tenants = () if () in allowing else tuple(dict.fromkeys(name for names in allowing for name in names))
    phases = (Phase.CALL, Phase.RESULT) if of_results else (Phase.CALL,)
    head = {"effect": "allow", "rule": "methods", "reason": "method_allowed"}
    lines = [*_one("input.phase", phases), "_yaml_names_only", *_named("input.agent.tenant", tenants)]
    yield f"# Who may call something may ask what there is.\noutcomes contains {_inline(head)} if {_body(lines)}\n"


class _Writer:
    """One rule: its outcomes, and the rules that they rest on."""

    def __init__(self, rule: Rule, *, results_follow: bool) -> None:
        self._rule = rule
        self._results_follow = results_follow
        self._prefix = "_yaml_" + rule.name.replace("-", "_").replace("/", "__")
        self._beside: list[str] = []

    def text(self) -> str:
        rule = self._rule
        conditions = self._conditions()
        outcomes = [
            text for lines in _matches(rule, rule.match.phases) for text in self._outcomes([*lines, *conditions])
        ]
        outcomes += [self._outcome(self._head(), lines) for lines in self._shown()]
        return f"# {rule.place}\n" + "\n".join((*outcomes, *self._beside))

    def _shown(self) -> Iterator[list[str]]:
        """A tool that may be called is listed, and what a call that was judged returned is its result."""
        rule = self._rule
        follow = {Phase.LIST: True, Phase.RESULT: self._results_follow}
        if rule.allows and Phase.CALL in rule.match.phases:
            wanted = tuple(phase for phase, shown in follow.items() if shown and phase not in rule.match.phases)
            yield from _matches(rule, wanted)

    def _conditions(self) -> list[str]:
        rule = self._rule
        if rule.allows:
            return [line for condition in rule.when for line in self._goal(condition, holds=True)]
        if not rule.when:
            return []
        spared = [self._goal(condition, holds=False) for condition in rule.when]
        return [f"not {self._either(spared, 'spared')}"]

    def _outcomes(self, lines: list[str]) -> Iterator[str]:
        redactions = self._rule.redactions
        if redactions is None:
            yield self._outcome(self._head(), lines)
            return
        document = "input.result" if Phase.RESULT in self._rule.match.phases else "input.args"
        planned = _planned(document, redactions)
        head = self._head() | {"obligations": {**self._rule.obligations, "redactions": _Code("redactions")}}
        yield self._outcome(head, [*lines, f"redactions := {planned}", "count(redactions) > 0"])
        if redactions.classes:
            head = self._head() | {"effect": Effect.DENY.value, "reason": "secret_in_key", "message": _IN_KEY}
            sought = f"redaction.unredactable({document}, {_set(redactions.classes)})"
            yield self._outcome(head, [*lines, sought])

    def _head(self) -> dict[str, Any]:
        rule = self._rule
        head: dict[str, Any] = {"effect": rule.effect.value}
        if rule.mode is Mode.FLAG:
            head["mode"] = rule.mode.value
        head |= {"rule": rule.name, "source": rule.place, "reason": rule.reason}
        if rule.message:
            head["message"] = rule.message
        return head | ({"obligations": rule.obligations} if rule.obligations else {})

    def _outcome(self, head: dict[str, Any], lines: list[str]) -> str:
        members = "".join(f"\t{_json(key)}: {_value(value)},\n" for key, value in head.items())
        return f"outcomes contains {{\n{members}}} if {_body(lines)}\n"

    def _goal(self, condition: Condition, *, holds: bool) -> list[str]:
        """Lines that are all true where it is known that the condition holds, or that it does not."""
        if isinstance(condition, Test):
            asked = _asked(condition, holds=holds)
            if not condition.optional:
                return [asked]
            absent = f"conditions.present(input, {_value(list(condition.path))}) == false"
            return [self._either([[asked], [absent]])]
        if isinstance(condition, language.Not):
            return self._goal(condition.part, holds=not holds)
        parts = [self._goal(part, holds=holds) for part in condition.parts]
        if isinstance(condition, language.All) is holds:
            return [line for part in parts for line in part]
        return parts[0] if len(parts) == 1 else [self._either(parts)]

    def _either(self, alternatives: list[list[str]], name: str = "") -> str:
        head = f"{self._prefix}__{name or len(self._beside) + 1}"
        self._beside.append("")
        place = len(self._beside) - 1
        self._beside[place] = "\n".join(f"{head} if {_body(lines)}\n" for lines in alternatives)
        return head


_IN_KEY: Final = "A sensitive value stands in the name of a field, where it cannot be redacted."


class _Code(str):
    """Rego, not a text."""

    __slots__ = ()


def _matches(rule: Rule, phases: tuple[Phase, ...]) -> Iterator[list[str]]:
    """The bodies that together say whom and what a rule speaks of."""
    # A listed tool is asked about whatever the method is.
    listed = tuple(phase for phase in phases if phase is Phase.LIST)
    others = tuple(phase for phase in phases if phase is not Phase.LIST)
    match = rule.match
    common = [
        *_named("input.agent.tenant", match.tenants),
        *_named("input.agent.id", match.agents),
        *_one("_yaml_risk", match.risks),
    ]
    for tool in _tools(match.tools):
        for asked, methods in ((others, _methods_of(rule)), (listed, [])):
            if asked:
                yield [*_one("input.phase", asked), *tool, *methods, *common]


def _methods_of(rule: Rule) -> list[str]:
    methods, tools = rule.match.methods, rule.match.tools
    if methods == (ANY,):
        return []
    if methods:
        return _named("input.tool.method", methods)
    if tools and all(tool.is_http for tool in tools):
        return ['input.tool.protocol == "http"']
    return ["_yaml_call"]


def _tools(tools: tuple[ToolName, ...]) -> Iterator[list[str]]:
    """One body for each server, so that both names are equalities."""
    if not tools:
        yield []
    for server, group in groupby(sorted(tools), key=lambda tool: tool.server):
        names = tuple(tool.name for tool in group)
        named = [] if ANY in names else _named("input.tool.name", names)
        yield [*(_named("input.tool.server", (server,)) if server else []), *named]


def _named(reference: str, names: tuple[str, ...]) -> list[str]:
    if any(name.endswith(ANY) for name in names):
        return [f"{_set(names)} & grants.patterns({reference}) != set()"]
    return _one(reference, names)


def _one(reference: str, values: Iterable[str]) -> list[str]:
    wanted = [str(value) for value in values]
    if not wanted:
        return []
    if len(wanted) == 1:
        return [f"{reference} == {_json(wanted[0])}"]
    return [f"{reference} in {_set(wanted)}"]


def _asked(test: Test, *, holds: bool) -> str:
    if test.operator == WITHIN:
        question = f"conditions.within_hours(input.time.unix_ns, {_window(test.operand)})"
    elif test.operator == "exists":
        question = f"conditions.present(input, {_value(list(test.path))})"
        holds = holds is bool(test.operand)
    else:
        operator = OPERATORS[test.operator]
        operand = test.operand
        holds = holds is not operator.negated
        arguments = [_reference(test.path)]
        if test.operator != "sql":
            arguments.append(_set(operand) if operator.as_set and isinstance(operand, list) else _value(operand))
        question = f"conditions.{operator.function}({', '.join(arguments)})"
    return question if holds else f"{question} == false"


def _window(operand: JsonValue) -> str:
    if not isinstance(operand, dict) or not isinstance(operand["days"], list):
        raise TypeError("a window is a mapping")
    return _inline({key: _Code(_set(value)) if isinstance(value, list) else value for key, value in operand.items()})


def _planned(document: str, redactions: language.Redactions) -> str:
    plans = []
    if redactions.places:
        plans.append(f"conditions.redactions_in({document}, {_value(list(redactions.places))})")
    if redactions.classes:
        plans.append(f"redaction.plan({document}, {_set(redactions.classes)})")
    return plans[0] if len(plans) == 1 else f"array.concat({plans[0]}, {plans[1]})"


def _reference(path: tuple[str, ...]) -> str:
    steps = (f".{name}" if _WORD.fullmatch(name) and name not in _KEYWORDS else f"[{_json(name)}]" for name in path)
    return "input" + "".join(steps)


def _body(lines: list[str]) -> str:
    if not lines:
        return "true"
    return lines[0] if len(lines) == 1 else "{\n" + "".join(f"\t{line}\n" for line in lines) + "}"


def _set(values: Iterable[JsonValue]) -> str:
    return "{" + ", ".join(map(_value, values)) + "}"


def _inline(members: dict[str, Any]) -> str:
    return "{" + ", ".join(f"{_json(key)}: {_value(value)}" for key, value in members.items()) + "}"


def _value(value: Any) -> str:  # noqa: ANN401 - anything that JSON can say, and Rego
    if isinstance(value, _Code):
        return str(value)
    if isinstance(value, dict):
        return _inline(value)
    if isinstance(value, list):
        return "[" + ", ".join(map(_value, value)) + "]"
    return _json(value)


def _json(value: Any) -> str:  # noqa: ANN401 - anything that JSON can say
    # A pattern is read more easily as it was written.
    if isinstance(value, str) and "\\" in value and value.isprintable() and "`" not in value:
        return f"`{value}`"
    return json.dumps(value, ensure_ascii=False)
