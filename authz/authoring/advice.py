"""What is wrong or unwise in a policy's YAML files, in the words of `authz lint`.

Decides which rules of a folder can never matter: shadowed by a denial that asks for nothing more, or asking for what
excludes itself. The engine judges the module that they compile to; this judges what their author wrote. Must never be
silent about a file that is not understood, or a module that is not what the files say. Trusts nothing in them.
"""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING, Any, Final

from authz.authoring.compiling import MODULE, is_current
from authz.authoring.language import ANY, Test
from authz.authoring.reading import FOLDER, files_below, read_file
from authz.model import Effect, Mode
from authz.policy.lint import NOT_COMPILED, POLICY_FILE, SHADOWED_DENY, UNREACHABLE, Finding

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from pathlib import Path

    from authz.authoring.language import Match, Rule, ToolName

_ABOVE: Final = {"above": False, "at_least": True}
_BELOW: Final = {"below": False, "at_most": True}


def folder_findings(folder: Path) -> Iterator[Finding]:
    """Everything that is wrong below a policy's folder, but for its Rego."""
    files = files_below(folder)
    rules: list[Rule] = []
    wrong = False
    for file in files:
        found, problems = read_file(file)
        rules += found
        wrong = wrong or bool(problems)
        for problem in problems:
            yield Finding(rule=POLICY_FILE, message=problem.message, file=str(problem.file), row=problem.line, col=1)
    if not wrong and not is_current(folder):
        yield Finding(rule=NOT_COMPILED, message=f"it is not what {FOLDER}/ says", file=str(folder / MODULE))
    yield from _unheard(folder, rules)


def _unheard(folder: Path, rules: Sequence[Rule]) -> Iterator[Finding]:
    for rule in rules:
        if _excludes_itself(rule):
            yield _finding(folder, rule, "its conditions exclude each other: no value meets them all")
    walls = [rule for rule in rules if rule.effect is Effect.DENY and rule.mode is Mode.BLOCK and not rule.when]
    for rule in rules:
        wall = next((wall for wall in walls if _stands_before(wall, rule)), None)
        if wall is not None:
            yield _finding(folder, rule, f"`{wall.name}` ({wall.place}) denies all that it speaks of")


def _finding(folder: Path, rule: Rule, message: str) -> Finding:
    kind = SHADOWED_DENY if rule.effect is Effect.DENY and "denies all" in message else UNREACHABLE
    file, _, line = rule.place.rpartition(":")
    return Finding(rule=kind, message=f"`{rule.name}`: {message}", file=str(folder / file), row=int(line), col=1)


def _stands_before(wall: Rule, rule: Rule) -> bool:
    if wall is rule or not _covers(wall.match, rule.match):
        return False
    # Of two that cover each other, the first one stays.
    same = rule.effect is Effect.DENY and not rule.when and rule.mode is Mode.BLOCK and _covers(rule.match, wall.match)
    return not same or (wall.place.rpartition(":")[0], wall.line) < (rule.place.rpartition(":")[0], rule.line)


def _covers(wide: Match, narrow: Match) -> bool:
    return (
        _names_cover(wide.tenants, narrow.tenants)
        and _names_cover(wide.agents, narrow.agents)
        and (not wide.tools or _tools_cover(wide.tools, narrow.tools))
        and wide.methods in {(ANY,), narrow.methods}
        and {*narrow.phases} <= {*wide.phases}
        and (not wide.risks or (bool(narrow.risks) and {*narrow.risks} <= {*wide.risks}))
    )


def _names_cover(wide: Collection[str], narrow: Collection[str]) -> bool:
    return not wide or (bool(narrow) and all(any(_covers_name(each, name) for each in wide) for name in narrow))


def _covers_name(pattern: str, name: str) -> bool:
    return pattern in (ANY, name) or (pattern.endswith(ANY) and name.startswith(pattern[:-1]) and name != pattern[:-1])


def _tools_cover(wide: Collection[ToolName], narrow: Collection[ToolName]) -> bool:
    return bool(narrow) and all(
        any(each.server in ("", tool.server) and _covers_name(each.name, tool.name) for each in wide) for tool in narrow
    )


def _excludes_itself(rule: Rule) -> bool:
    asked = [condition for condition in rule.when if isinstance(condition, Test) and not condition.optional]
    return any(one.path == other.path and _exclude(one, other) for one, other in combinations(asked, 2))


def _exclude(one: Test, other: Test) -> bool:
    for low, high in ((one, other), (other, one)):
        if low.operator in _ABOVE and high.operator in _BELOW:
            inclusive = _ABOVE[low.operator] and _BELOW[high.operator]
            floor, ceiling = _number(low), _number(high)
            return floor > ceiling or (floor == ceiling and not inclusive)
    values = [_values(test) for test in (one, other)]
    return None not in values and not any(value in (values[1] or ()) for value in values[0] or ())


def _values(test: Test) -> list[Any] | None:
    if test.operator == "equals":
        return [test.operand]
    return test.operand if test.operator == "in" and isinstance(test.operand, list) else None


def _number(test: Test) -> float:
    return float(test.operand) if isinstance(test.operand, int | float) else 0.0
