"""The conditions of a rule: questions about fields, times and rates, and what holds all, any or none of them together.

Decides which fields there are (the published schema of the input says) and which a rule can read in its phases. Must
never take a path that does not exist, because a rule that reads it would say nothing. Trusts nothing in the file.
"""

from __future__ import annotations

import difflib
import re
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import orjson

from authz.authoring import language, operators
from authz.authoring.documents import mapping, refuse
from authz.authoring.language import Test
from authz.authoring.operators import OPERATORS, WITHIN
from authz.model import MOST_RATE_S, RATES, Phase
from authz.policy import rates
from authz.resources import shared

if TYPE_CHECKING:
    from authz.authoring.documents import Node
    from authz.authoring.language import Condition, Match
    from authz.model import JsonObject, JsonValue

_GROUPS: Final = ("all", "any", "not", "time", "rate")
_TIME: Final = ("days", "from", "to", "zone", "after", "before")
_BOUNDS: Final = ("above", "at_least", "below", "at_most")
_RATE: Final = ("of", "per", *_BOUNDS, "optional")
_SEGMENT: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_OPEN: Final = ("args", "result")
"""What the schema leaves to the tool."""
_WORDED: Final = {"version": "it is always 1", "phase": "write it below `match`", "time": "write `time:`"}


def conditions(node: Node, match: Match) -> tuple[Condition, ...]:
    """A list of conditions.

    Raises:
        PolicyFileError: one of them is not understood, or asks for what the rule's phases do not have.
    """
    if not isinstance(node.value, list) or not node.value:
        refuse(node, "`when` is not a list of conditions")
    return tuple(_condition(item, match) for item in node.value)


def _condition(node: Node, match: Match) -> Condition:
    fields = mapping(node, "the condition", (*_GROUPS, "field", "optional", *OPERATORS))
    kinds = [name for name in ("field", *_GROUPS) if name in fields]
    if len(kinds) != 1:
        refuse(node, "a condition has one of `field`, `all`, `any`, `not`, `time` and `rate`")
    kind = kinds[0]
    if kind == "field":
        return _test(node, fields, match)
    if len(fields) > 1:
        other = next(name for name in fields if name != kind)
        refuse(node, f"`{other}` does not belong to `{kind}`")
    if kind == "time":
        return _time(fields["time"])
    if kind == "rate":
        return _rate(fields["rate"])
    if kind == "not":
        return language.Not(part=_condition(fields["not"], match), line=node.line)
    parts = conditions(fields[kind], match)
    return language.All(parts=parts, line=node.line) if kind == "all" else language.Any(parts=parts, line=node.line)


def _test(node: Node, fields: dict[str, Node], match: Match) -> Condition:
    asked = [name for name in fields if name in OPERATORS]
    if len(asked) != 1:
        refuse(node, f"a field is asked one thing, one of {', '.join(OPERATORS)}")
    operator = OPERATORS[asked[0]]
    test = Test(
        path=_path(fields["field"], match),
        operator=asked[0],
        operand=operator.operand(fields[asked[0]]),
        line=node.line,
        optional="optional" in fields and operators.truth(fields["optional"]),
    )
    if test.optional and test.operator == "exists":
        refuse(node, "`exists` has an answer for every call: it is not optional")
    return test


def _path(node: Node, match: Match) -> tuple[str, ...]:
    path = tuple(operators.texts(node)) if isinstance(node.value, list) else tuple(operators.text(node).split("."))
    if not isinstance(node.value, list) and not all(map(_SEGMENT.fullmatch, path)):
        refuse(node, f"`{node.value}` is no path: names with dots between, such as args.amount, or a list of names")
    if path[0] in _WORDED:
        refuse(node, f"`{path[0]}` is no field of a condition: {_WORDED[path[0]]}")
    _known_path(node, path)
    if path[0] in _OPEN and Phase.LIST in match.phases:
        refuse(node, f"a listed tool has no {path[0]}: a rule for phase `list` does not read them")
    if path[0] == "result" and match.phases != (Phase.RESULT,):
        refuse(node, "only phase `result` has a result")
    return path


def _known_path(node: Node, path: tuple[str, ...]) -> None:
    schema = _input()
    for number, name in enumerate(path):
        known = schema.get("properties")
        if known is None:
            return
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            written = ".".join((*path[:number], name))
            refuse(node, f"no `{written}` in the input" + (f", did you mean `{near[0]}`?" if near else ""))
        schema = known[name]
    if schema.get("additionalProperties") is False:
        refuse(node, f"`{'.'.join(path)}` is no value: name one of {', '.join(schema['properties'])}")


@cache
def _input() -> dict[str, Any]:
    document: dict[str, Any] = orjson.loads((shared("rego") / "schemas" / "input.json").read_bytes())
    return document


def _time(node: Node) -> Condition:
    fields = mapping(node, "time", _TIME)
    parts: list[Condition] = []
    path = ("time", "unix_ns")
    for key, operator in (("after", "at_least"), ("before", "below")):
        if key in fields:
            operand = operators.instant_ns(fields[key])
            parts.append(Test(path=path, operator=operator, operand=operand, line=node.line))
    if {"days", "from", "to", "zone"} & fields.keys():
        parts.append(Test(path=path, operator=WITHIN, operand=_window(node, fields), line=node.line))
    if not parts:
        refuse(node, "`time` needs `after`, `before`, or `zone` with `days`, or with `from` and `to`")
    return parts[0] if len(parts) == 1 else language.All(parts=tuple(parts), line=node.line)


def _window(node: Node, fields: dict[str, Node]) -> JsonObject:
    if "zone" not in fields:
        refuse(node, "hours and days are those of a `zone`, such as Europe/Berlin or UTC")
    if ("from" in fields) != ("to" in fields):
        refuse(node, "`from` and `to` come together")
    begins = operators.minute(fields["from"]) if "from" in fields else 0
    ends = operators.minute(fields["to"]) if "to" in fields else 24 * 60
    if begins == ends:
        refuse(node, "`from` and `to` are the same time")
    days: JsonValue = [*operators.days(fields["days"])] if "days" in fields else [*operators.DAYS]
    return {"days": days, "from": begins, "to": ends, "zone": operators.zone(fields["zone"])}


def _rate(node: Node) -> Condition:
    fields = mapping(node, "rate", _RATE, needed=("of", "per"))
    asked = [name for name in fields if name in OPERATORS]
    name = operators.text(fields["of"])
    if len(asked) != 1:
        refuse(node, "a rate is `of` a count, `per` a span, and one of above, at_least, below, at_most")
    if name not in RATES:
        near = difflib.get_close_matches(name, RATES, n=1)
        refuse(
            fields["of"],
            f"no `{name}` is counted, " + (f"did you mean `{near[0]}`?" if near else f"but {', '.join(RATES)}"),
        )
    seconds = operators.span_s(fields["per"])
    if seconds > MOST_RATE_S:
        refuse(fields["per"], "nothing is counted for longer than a day")
    path = (*rates.PATH, name, str(seconds))
    return Test(
        path=path,
        operator=asked[0],
        operand=operators.number(fields[asked[0]]),
        line=node.line,
        optional="optional" in fields and operators.truth(fields["optional"]),
    )
