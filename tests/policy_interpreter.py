"""What a policy in YAML means, said a second time: three-valued logic over the document as it was written.

It shares nothing with the compiler but the words of the language, so that where both agree, neither has slipped.
"""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass
from typing import Any
from zoneinfo import ZoneInfo

RANK = {"allow": 0, "sanitize": 1, "approval_needed": 2, "deny": 3}
NAMES_ONLY = {
    "tools/list",
    "resources/list",
    "resources/templates/list",
    "prompts/list",
    "stream/open",
    "session/delete",
}
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
MISSING = object()

Truth = bool | None


@dataclass(frozen=True)
class Decided:
    """The parts of a decision that the rules make."""

    effect: str
    mode: str
    reason: str
    rules: frozenset[str]


def decide(rules: dict[str, dict[str, Any]], document: dict[str, Any], risks: dict[str, dict[str, str]]) -> Decided:
    """The decision of rules, by their names, on one input."""
    outcomes = [found for name, rule in rules.items() for found in outcomes_of(name, rule, rules, document, risks)]
    outcomes += methods(rules, document)
    return combine({frozenset(found.items()) for found in outcomes})


def combine(found: set[frozenset[tuple[str, str]]]) -> Decided:
    outcomes = [dict(each) for each in found]
    blocking = [each for each in outcomes if each["mode"] == "block"]
    denials = [each for each in blocking if each["effect"] == "deny"]
    if denials:
        return decided("block", denials)
    if not any(each["effect"] == "allow" for each in outcomes):
        return Decided("deny", "block", "no_rule_allows", frozenset({"authzlib.combining"}))
    if {each["effect"] for each in blocking} == {"allow"} and len(blocking) < len(outcomes):
        return decided("flag", outcomes)
    return decided("block", blocking)


def decided(mode: str, outcomes: list[dict[str, str]]) -> Decided:
    strongest = max(RANK[each["effect"]] for each in outcomes)
    those = [each for each in outcomes if RANK[each["effect"]] == strongest]
    return Decided(
        those[0]["effect"], mode, min(each["reason"] for each in those), frozenset(each["rule"] for each in those)
    )


def outcomes_of(
    name: str,
    rule: dict[str, Any],
    rules: dict[str, dict[str, Any]],
    document: dict[str, Any],
    risks: dict[str, dict[str, str]],
) -> list[dict[str, str]]:
    phase = document["phase"]
    asked = phase in listed(rule["match"].get("phase", "call"))
    follows = rule["effect"] == "allow" and "call" in listed(rule["match"].get("phase", "call"))
    shown = follows and not asked and (phase == "list" or (phase == "result" and results_follow(rules)))
    if not (asked or shown) or not speaks_of(rule["match"], document, risks):
        return []
    if asked and not holds(rule, document):
        return []
    reason = rule.get("reason", rule["id"]).replace("-", "_")
    return [{"effect": rule["effect"], "mode": rule.get("mode", "block"), "rule": name, "reason": reason}]


def results_follow(rules: dict[str, dict[str, Any]]) -> bool:
    effects = {rule["effect"] for rule in rules.values() if "result" in listed(rule["match"].get("phase", "call"))}
    return bool(effects) and "allow" not in effects


def methods(rules: dict[str, dict[str, Any]], document: dict[str, Any]) -> list[dict[str, str]]:
    judged = any("result" in listed(rule["match"].get("phase", "call")) for rule in rules.values())
    asked = document["phase"] == "call" or (document["phase"] == "result" and judged)
    tenants = [rule["match"]["tenant"] for rule in rules.values() if rule["effect"] == "allow"]
    known = any(named(tenant, document["agent"]["tenant"]) for tenant in tenants)
    if asked and known and document["tool"]["method"] in NAMES_ONLY:
        return [{"effect": "allow", "mode": "block", "rule": "methods", "reason": "method_allowed"}]
    return []


def speaks_of(match: dict[str, Any], document: dict[str, Any], risks: dict[str, dict[str, str]]) -> bool:
    tool = document["tool"]
    risk = risks.get(tool["server"], {}).get(tool["name"]) or (
        "read" if tool["method"] in NAMES_ONLY else "destructive"
    )
    return (
        named(match.get("tenant", "*"), document["agent"]["tenant"])
        and named(match.get("agent", "*"), document["agent"]["id"])
        and any(is_tool(written, tool) for written in listed(match.get("tool", "*")))
        and (document["phase"] == "list" or has_method(match, tool))
        and ("risk" not in match or risk in listed(match["risk"]))
    )


def has_method(match: dict[str, Any], tool: dict[str, Any]) -> bool:
    if "method" in match:
        return named(match["method"], tool["method"])
    names = [server_and_name(written)[1] for written in listed(match.get("tool", "*"))]
    if all(re.match(r"[A-Z]+ /", name) for name in names):
        return bool(tool["protocol"] == "http")
    return bool(tool["method"] == "tools/call" or tool["protocol"] == "http")


def is_tool(written: str, tool: dict[str, Any]) -> bool:
    if written == "*":
        return True
    server, name = server_and_name(written)
    return server in ("*", tool["server"]) and named(name, tool["name"])


def server_and_name(written: str) -> tuple[str, str]:
    """`server/name`; what stands before the slash of `GET /path` is no server."""
    parts = re.fullmatch(r"([^/ ]+)/(.+)", written)
    return (parts[1], parts[2]) if parts else ("*", written)


def named(patterns: str | list[str], name: str) -> bool:
    return any(
        pattern in ("*", name)
        or (pattern.endswith(("/*", ".*")) and name.startswith(pattern[:-1]) and len(name) > len(pattern) - 1)
        for pattern in listed(patterns)
    )


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def holds(rule: dict[str, Any], document: dict[str, Any]) -> bool:
    allows = rule["effect"] == "allow"
    truths = [truth(condition, document, absent=allows) for condition in rule.get("when", [])]
    return all(each is True for each in truths) if allows else all(each is not False for each in truths)


def truth(condition: dict[str, Any], document: dict[str, Any], *, absent: bool) -> Truth:
    """Whether a condition holds; None where that is not known. `absent` is what spares the call."""
    if "all" in condition:
        return both([truth(part, document, absent=absent) for part in condition["all"]])
    if "any" in condition:
        return opposite(both([opposite(truth(part, document, absent=absent)) for part in condition["any"]]))
    if "not" in condition:
        return opposite(truth(condition["not"], document, absent=not absent))
    if "time" in condition:
        return in_time(condition["time"], document["time"]["unix_ns"])
    if "rate" in condition:
        return rate(condition["rate"], document, absent=absent)
    return test(condition, document, absent=absent)


def both(truths: list[Truth]) -> Truth:
    if False in truths:
        return False
    return None if None in truths else True


def opposite(value: Truth) -> Truth:
    return None if value is None else not value


def test(condition: dict[str, Any], document: dict[str, Any], *, absent: bool) -> Truth:
    value = lookup(document, condition["field"].split("."))
    if "exists" in condition:
        return (value is not MISSING and value is not None) is condition["exists"]
    if condition.get("optional") and (value is MISSING or value is None):
        return absent
    operator, operand = next(
        (name, operand) for name, operand in condition.items() if name not in ("field", "optional")
    )
    return None if value is MISSING else ask(operator, value, operand)


def lookup(document: Any, path: list[str]) -> Any:
    for name in path:
        if not isinstance(document, dict) or name not in document:
            return MISSING
        document = document[name]
    return document


def kind(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    names = {"str": "string", "list": "array", "dict": "object"}
    return names.get(type(value).__name__, "null")


def ask(operator: str, value: Any, operand: Any) -> Truth:  # noqa: PLR0911 - one for each kind of question
    if operator.startswith(("not_", "none_")):
        opposed = {"not_equals": "equals", "not_in": "in", "none_in": "any_in"}[operator]
        return opposite(ask(opposed, value, operand))
    if operator in ("above", "at_least", "below", "at_most"):
        return compare(operator, value, operand)
    if operator in ("in", "all_in", "any_in"):
        return among(operator, value, listed(operand))
    if operator in ("starts_with", "ends_with", "contains", "matches"):
        return texts(operator, value, listed(operand))
    understood = {"equals": [kind(operand)], "longer_than": ["string", "array", "object"], "only": ["object"]}
    if kind(value) not in understood[operator]:
        return None
    if operator == "equals":
        return bool(value == operand)
    return len(value) > operand if operator == "longer_than" else {*value} <= {*listed(operand)}


def compare(operator: str, value: Any, bound: float) -> Truth:
    if kind(value) != "number":
        return None
    met = {"above": value > bound, "at_least": value >= bound, "below": value < bound, "at_most": value <= bound}
    return bool(met[operator])


def among(operator: str, value: Any, known: list[Any]) -> Truth:
    items = value if kind(value) == "array" and operator != "in" else [value]
    if any(kind(item) not in {kind(each) for each in known} for item in items):
        return None
    inside = [item in known for item in items]
    return any(inside) if operator != "all_in" else bool(inside) and all(inside)


def texts(operator: str, value: Any, parts: list[str]) -> Truth:
    if kind(value) != "string":
        return None
    asked = {
        "starts_with": value.startswith,
        "ends_with": value.endswith,
        "contains": value.__contains__,
        "matches": lambda pattern: re.search(pattern, value) is not None,
    }[operator]
    return any(map(asked, parts))


def rate(written: dict[str, Any], document: dict[str, Any], *, absent: bool) -> Truth:
    seconds = int(written["per"][:-1]) * SECONDS[written["per"][-1]]
    value = lookup(document, ["facts", "session", "rates", written["of"], str(seconds)])
    operator = next(name for name in written if name not in ("of", "per", "optional"))
    if value is MISSING and written.get("optional"):
        return absent
    return None if value is MISSING else compare(operator, value, written[operator])


def in_time(window: dict[str, Any], unix_ns: int) -> bool:
    moment = dt.datetime.fromtimestamp(unix_ns // 10**9, dt.UTC)
    if "after" in window and moment < dt.datetime.fromisoformat(window["after"]):
        return False
    if "before" in window and moment >= dt.datetime.fromisoformat(window["before"]):
        return False
    if "zone" not in window:
        return True
    local = moment.astimezone(ZoneInfo(window["zone"]))
    days = [day for written in listed(window.get("days", "mon-sun")) for day in span(written)]
    begins, ends = (minutes(window.get(name, other)) for name, other in (("from", "00:00"), ("to", "24:00")))
    now, today = local.hour * 60 + local.minute, DAYS[local.weekday()]
    if begins < ends:
        return today in days and begins <= now < ends
    return (today in days and now >= begins) or (DAYS[local.weekday() - 1] in days and now < ends)


def span(written: str) -> list[str]:
    first, _, last = written.partition("-")
    begin, end = DAYS.index(first), DAYS.index(last or first)
    return [DAYS[day % 7] for day in range(begin, end + 1 + (7 if end < begin else 0))]


def minutes(clock: str) -> int:
    hour, _, minute = clock.partition(":")
    return int(hour) * 60 + int(minute)
