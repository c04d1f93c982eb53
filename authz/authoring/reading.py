"""A policy file as rules: every word of it is understood, or the file is refused with the line.

Decides what may be written where. What the language has no word for is an error that says to write Rego, and never
something that is left out; an allow must say whom and what it allows. Each rule is read on its own, so that one run
finds the first problem of every rule. Must never fill in an effect or widen a match. Trusts nothing in the file.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from authz.authoring import operators
from authz.authoring.asking import conditions
from authz.authoring.documents import PolicyFileError, mapping, read, refuse
from authz.authoring.language import ANY, Match, Redactions, Rule, ToolName
from authz.errors import ConfigError
from authz.model import Effect, Mode, Phase, Risk
from authz.policy.agent_contract import MAX_APPROVAL_S

if TYPE_CHECKING:
    from collections.abc import Iterable
    from enum import StrEnum
    from pathlib import Path

    from authz.authoring.documents import Node
    from authz.model import JsonObject, JsonValue

    Choice = TypeVar("Choice", bound=StrEnum)

FOLDER: Final = "policies"
SUFFIXES: Final = (".yaml", ".yml", ".json")
MAX_RULES: Final = 10_000

_FILE: Final = ("version", "rules")
_RULE: Final = (
    "id",
    "effect",
    "match",
    "when",
    "reason",
    "message",
    "mode",
    "redactions",
    "approval",
    "charges",
)
_MATCH: Final = ("tenant", "agent", "tool", "method", "phase", "risk")
_NAMED: Final = ("tenant", "agent", "tool")
_ID: Final = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
_REASON: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")


def files_below(folder: Path) -> list[Path]:
    """The policy files of a policy's folder, in a constant order."""
    return sorted(file for file in (folder / FOLDER).glob("*") if file.suffix in SUFFIXES and file.stem != "data")


def read_rules(folder: Path) -> tuple[Rule, ...]:
    """All rules of a policy's folder.

    Raises:
        ConfigError: there are none, or some are not understood; `problems` has one line for each, "file:line: what".
    """
    files = files_below(folder)
    if not files:
        raise ConfigError(
            f"{folder} has no {FOLDER}/*.yaml", remedy="write one with `authz policy new --template NAME`"
        )
    rules: list[Rule] = []
    problems: list[PolicyProblem] = []
    for file in files:
        found, wrong = read_file(file)
        rules += found
        problems += wrong
    if problems:
        refusal = ConfigError("the policy is not understood", remedy=_remedy(problems))
        refusal.problems = tuple(problems)
        raise refusal
    return tuple(rules)


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyProblem:
    """One place that is not understood."""

    file: Path
    line: int
    message: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.message}"


def read_file(file: Path) -> tuple[list[Rule], list[PolicyProblem]]:
    """The rules of one file, and the first problem of each that is not understood."""
    rules: list[Rule] = []
    problems: list[PolicyProblem] = []
    try:
        entries = _entries(file)
    except PolicyFileError as error:
        return [], [_problem(file, error)]
    seen: dict[str, int] = {}
    for entry in entries:
        try:
            rule = _rule(file, entry)
            if rule.name in seen:
                refuse(entry, f"`{rule.name}` stands on line {seen[rule.name]} already")
            seen[rule.name] = rule.line
            rules.append(rule)
        except PolicyFileError as error:
            problems.append(_problem(file, error))
    return rules, problems


def _problem(file: Path, error: PolicyFileError) -> PolicyProblem:
    return PolicyProblem(file=file, line=error.line, message=str(error), remedy=error.remedy)


def _remedy(problems: Iterable[PolicyProblem]) -> str:
    return next((problem.remedy for problem in problems if problem.remedy), "")


def _entries(file: Path) -> list[Node]:
    if not _ID.fullmatch(file.stem):
        raise PolicyFileError(1, "a policy's file is named in lower case, digits and hyphens: its name is in decisions")
    document = read(file)
    top = mapping(document, "the file", _FILE, needed=_FILE)
    if top["version"].value != 1:
        refuse(top["version"], "the version of this language is 1")
    rules = top["rules"]
    if not isinstance(rules.value, list) or not rules.value:
        refuse(rules, "`rules` is not a list of rules")
    if len(rules.value) > MAX_RULES:
        refuse(rules, f"over {MAX_RULES} rules in a file")
    return rules.value


def _rule(file: Path, entry: Node) -> Rule:
    fields = mapping(entry, "the rule", _RULE, needed=("id", "effect", "match"))
    identifier = operators.text(fields["id"])
    if not _ID.fullmatch(identifier):
        refuse(fields["id"], f"`{identifier}` is no id: lower case, digits and hyphens")
    effect = _choice(fields["effect"], Effect)
    match = _match(fields["match"], effect)
    rule = Rule(
        name=f"{file.stem}/{identifier}",
        place=f"{FOLDER}/{file.name}:{entry.line}",
        line=entry.line,
        effect=effect,
        reason=_reason(fields.get("reason", fields["id"])),
        message=operators.text(fields["message"]) if "message" in fields else "",
        mode=_choice(fields["mode"], Mode) if "mode" in fields else Mode.BLOCK,
        match=match,
        when=conditions(fields["when"], match) if "when" in fields else (),
        redactions=_redactions(fields["redactions"]) if "redactions" in fields else None,
        obligations=_obligations(fields),
    )
    _consistent(rule, fields, entry)
    return rule


def _consistent(rule: Rule, fields: dict[str, Node], entry: Node) -> None:
    """What an effect needs, and what it cannot carry: an obligation that nobody meets would only seem to be one."""
    belongs = {"redactions": Effect.SANITIZE, "approval": Effect.APPROVAL_NEEDED}
    for key, effect in belongs.items():
        if key in fields and rule.effect is not effect:
            refuse(fields[key], f"`{key}` belongs to effect `{effect}`")
        if key not in fields and rule.effect is effect:
            refuse(entry, f"effect `{effect}` needs `{key}`")
    if "charges" in fields and rule.effect is Effect.DENY:
        refuse(fields["charges"], "a denied call is charged nothing")
    if rule.mode is Mode.FLAG and rule.allows:
        refuse(fields["mode"], "an allow is not watched: mode `flag` is for what narrows")
    if rule.effect is Effect.SANITIZE and (Phase.LIST in rule.match.phases or len(rule.match.phases) > 1):
        refuse(entry, "a sanitize speaks of one phase, `call` or `result`")


def _reason(node: Node) -> str:
    """A rule's reason, or its id with underscores."""
    reason = operators.text(node).replace("-", "_")
    if not _REASON.fullmatch(reason):
        refuse(node, f"`{reason}` is no reason: lower case letters, digits and underscores, a letter first")
    return reason


def _match(node: Node, effect: Effect) -> Match:
    fields = mapping(node, "match", _MATCH)
    if effect is Effect.ALLOW:
        for name in _NAMED:
            if name not in fields:
                refuse(node, f"an allow says whom and what it allows: `{name}` is missing, and `{ANY}` is every one")
    return Match(
        tenants=_names(fields.get("tenant")),
        agents=_names(fields.get("agent")),
        tools=_tools(fields.get("tool"), effect),
        methods=_names(fields.get("method")) or ((ANY,) if "method" in fields else ()),
        phases=_choices(fields["phase"], Phase) if "phase" in fields else (Phase.CALL,),
        risks=_choices(fields["risk"], Risk) if "risk" in fields else (),
    )


def _names(node: Node | None) -> tuple[str, ...]:
    if node is None:
        return ()
    names = operators.texts(node)
    for name in names:
        _pattern(node, name)
    return () if ANY in names else tuple(names)


def _pattern(node: Node, name: str) -> None:
    """A star that is no wildcard would match nothing but itself (`authzlib.grants`)."""
    if ANY in name and not re.fullmatch(r"(?:[^*]+[./])?\*", name):
        refuse(node, f"`{name}` is no pattern: a name, `*`, or all below a prefix, as `billing/*` or `files.*`")


def _tools(node: Node | None, effect: Effect) -> tuple[ToolName, ...]:
    if node is None:
        return ()
    written = operators.texts(node)
    return () if ANY in written else tuple(_tool(node, name, effect) for name in written)


def _tool(node: Node, written: str, effect: Effect) -> ToolName:
    server, slash, name = written.partition("/")
    if " " in server or not slash:
        server, name = "", written
    if slash and not name:
        refuse(node, f"`{written}` names no tool")
    if effect is Effect.ALLOW and not server:
        refuse(node, f"an allow names the tool's server: `default/{written}`, or `*/{written}` for every server")
    if ANY in server and server != ANY:
        refuse(node, f"`{server}` is no server: a name, or `*`")
    _pattern(node, name)
    return ToolName("" if server == ANY else server, name)


def _redactions(node: Node) -> Redactions:
    if not isinstance(node.value, list) or not node.value:
        refuse(node, "`redactions` is not a list")
    places: list[JsonObject] = []
    found: set[str] = set()
    for item in node.value:
        fields = mapping(item, "the redaction", ("path", "pattern", "replacement", "classes"))
        if "classes" in fields:
            if len(fields) > 1:
                refuse(item, "`classes` stands alone: what is found is replaced by its class")
            found |= {*operators.classes(fields["classes"])}
        else:
            places.append(_place(item, fields))
    return Redactions(places=tuple(places), classes=tuple(sorted(found)))


def _place(node: Node, fields: dict[str, Node]) -> JsonObject:
    if "path" not in fields or "replacement" not in fields:
        refuse(node, "a redaction has `path` and `replacement`, or `classes`")
    path = operators.text(fields["path"])
    if not re.fullmatch(r"(?:/(?:[^~/]|~[01])+)+", path):
        refuse(fields["path"], f"`{path}` is no pointer to an argument (RFC 6901), such as /body")
    place: JsonObject = {"path": path, "replacement": operators.text(fields["replacement"])}
    if "pattern" in fields:
        place["pattern"] = operators.patterns(fields["pattern"])[0]
    return place


def _obligations(fields: dict[str, Node]) -> JsonObject:
    found: JsonObject = {}
    if "approval" in fields:
        found["approval"] = _approval(fields["approval"])
    if "charges" in fields:
        found["charges"] = _charges(fields["charges"])
    return found


def _approval(node: Node) -> JsonObject:
    fields = mapping(node, "approval", ("approvers", "quorum", "ttl_s"), needed=("approvers",))
    bounds = {"quorum": (1, 100), "ttl_s": (900, MAX_APPROVAL_S)}
    found: JsonObject = {"approvers": [*operators.texts(fields["approvers"])]}
    for name, (default, most) in bounds.items():
        given = operators.count(fields[name]) if name in fields else default
        if not 1 <= given <= most:
            refuse(fields[name], f"`{name}` is a whole number from 1 to {most}")
        found[name] = given
    return found


def _charges(node: Node) -> list[JsonValue]:
    if not isinstance(node.value, list) or not node.value:
        refuse(node, "`charges` is not a list")
    charges: list[JsonValue] = []
    for item in node.value:
        fields = mapping(item, "the charge", ("budget", "amount"), needed=("budget", "amount"))
        amount = operators.number(fields["amount"])
        if amount < 0:
            refuse(fields["amount"], "a charge is not negative")
        charges.append({"budget": operators.text(fields["budget"]), "amount": amount})
    return charges


def _choice(node: Node, kind: type[Choice]) -> Choice:
    try:
        return kind(operators.text(node))
    except ValueError:
        known = ", ".join(kind)
        raise PolicyFileError(node.line, f"`{node.value}` is none of {known}") from None


def _choices(node: Node, kind: type[Choice]) -> tuple[Choice, ...]:
    items = node.value if isinstance(node.value, list) else [node]
    if not items:
        refuse(node, "the list is empty")
    return tuple(dict.fromkeys(_choice(item, kind) for item in items))
