"""A rule in sentences: whom it speaks of, what it asks, and what comes of a field that is not known.

Decides nothing; it says what `writing` writes, for people who review a policy without reading Rego. Must never leave
out a part of a rule.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from authz.authoring import language
from authz.authoring.language import ANY, Test
from authz.authoring.operators import OPERATORS, WITHIN
from authz.model import Mode, Phase

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from authz.authoring.language import Condition, Match, Rule


def explain(rule: Rule) -> Iterator[str]:
    """The lines that tell a rule; the first one names it."""
    watched = ", only watched" if rule.mode is Mode.FLAG else ""
    yield f"{rule.name} ({rule.place}): {rule.effect}{watched}, reason {rule.reason}"
    yield f"  speaks of {_whom(rule.match)}"
    if rule.when and rule.allows:
        yield "  where all of this is known to hold; a field that is missing or of another type does not allow:"
    elif rule.when:
        yield "  unless one of these is known not to hold; a field that is missing or of another type does not spare:"
    yield from (f"  - {_told(condition)}" for condition in rule.when)
    if rule.redactions:
        places = [str(place["path"]) for place in rule.redactions.places]
        yield f"  replaces {', '.join([*places, *rule.redactions.classes])}"
    for name, value in rule.obligations.items():
        yield f"  {name}: {json.dumps(value)}"
    if rule.message:
        yield f"  says: {rule.message}"


def _whom(match: Match) -> str:
    subjects = {Phase.CALL: "calls of", Phase.LIST: "the listing of", Phase.RESULT: "results of"}
    tools = [f"{tool.server or 'any server'}/{tool.name}" for tool in match.tools] or ["every tool"]
    parts = [
        f"{' and '.join(subjects[phase] for phase in match.phases)} {_or(tools)}",
        f"by {_or(match.agents) or 'every agent'} of {_or(match.tenants) or 'every tenant'}",
    ]
    if match.methods:
        parts.append("by every method" if match.methods == (ANY,) else f"by method {_or(match.methods)}")
    if match.risks:
        parts.append(f"of risk {_or(match.risks)}")
    return ", ".join(parts)


def _or(names: Iterable[Any]) -> str:
    return " or ".join(map(str, names))


def _told(condition: Condition) -> str:
    if isinstance(condition, Test):
        return _asked(condition) + (" (left out, it stops nothing)" if condition.optional else "")
    if isinstance(condition, language.Not):
        return f"not ({_told(condition.part)})"
    joint = " and " if isinstance(condition, language.All) else " or "
    return f"({joint.join(map(_told, condition.parts))})"


def _asked(test: Test) -> str:
    if test.operator == WITHIN and isinstance(test.operand, dict):
        window = test.operand
        begins, ends = (f"{int(str(window[key])) // 60:02}:{int(str(window[key])) % 60:02}" for key in ("from", "to"))
        days = [str(day) for day in window["days"]] if isinstance(window["days"], list) else []
        return f"the time is within {begins} to {ends} of {', '.join(days)} in {window['zone']}"
    path = ".".join(test.path)
    if test.operator == "exists":
        return f"{path} is {'there' if test.operand else 'not there'}"
    return f"{path} {OPERATORS[test.operator].words} {json.dumps(test.operand, ensure_ascii=False)}"
