"""Why a policy answers as it does: one evaluation with everything that was seen on the way.

Decides nothing that a caller is told: it asks the same engine the same question as `pdp.py`, slowly, for a person.
Which rules decided and what would allow the call is read off the source: a rule decided if it names the reason, and a
call is allowed by a rule that says "allow". Must never be reached from the decision path, and its output, which quotes
the policy, never goes to an agent. Trusts the input it is given.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import orjson

from authz.errors import PolicyError
from authz.model import Effect
from authz.native import PolicyOptions
from authz.policy import rule_names

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator
    from pathlib import Path

    from authz.errors import DenialError
    from authz.model import Verdict
    from authz.native import Library
    from authz.policy.engine import PolicySource

EVALUATION_S: Final = 5.0

_ALLOWS: Final = re.compile(r'^allow\b|"allow"|"allowed"\s*:\s*true', re.MULTILINE)
_OTHER_CALL: Final = re.compile(r"input\.(?:phase|tool\.\w+)\s*(?:==|in\b)")
"""A condition that another call would meet: no way for this one."""
_WORD: Final = re.compile(r"\w+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """What was answered and why. Places are written "file:row".

    Attributes:
        verdict: None when the answer is no decision.
        reason: the policy's reason, or ours when it gave no decision.
        decided: rules that name the reason, "place name".
        held: the other rules that gave a value, in the order in which they did.
        ways: conditions of which each kept a rule from allowing this call, "place text".
        failed: all conditions that did not hold.
        profile: (rule, evaluations, microseconds), the slowest first.
    """

    verdict: Verdict | None
    reason: str
    message: str = ""
    decided: tuple[str, ...] = ()
    held: tuple[str, ...] = ()
    ways: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    prints: tuple[str, ...] = ()
    profile: tuple[tuple[str, int, int], ...] = ()

    @classmethod
    def refusal(cls, error: DenialError) -> Explanation:
        """A call that no policy is asked about."""
        return cls(verdict=None, reason=error.reason.code, message=error.detail or error.reason.summary)

    @property
    def is_allowed(self) -> bool:
        """Whether the call would run, whole or sanitized."""
        return self.verdict is not None and self.verdict.effect in (Effect.ALLOW, Effect.SANITIZE)

    def document(self) -> dict[str, Any]:
        """As JSON, for `--output json`."""
        verdict = self.verdict
        return {
            "effect": verdict.effect if verdict else Effect.DENY,
            "reason": self.reason,
            "message": self.message,
            "mode": verdict.mode if verdict else "block",
            "risk": verdict.risk if verdict else "destructive",
            "redactions": verdict.redactions if verdict else (),
            "approval": verdict.approval if verdict else None,
            "charges": verdict.charges if verdict else (),
            "rules": verdict.rules if verdict else (),
            "decided": self.decided,
            "ways": self.ways,
            "held": self.held,
            "failed": self.failed,
            "prints": self.prints,
            "profile": [{"rule": rule, "evaluations": n, "us": us} for rule, n, us in self.profile],
        }


def explain(
    library: Library,
    source: PolicySource,
    entrypoint: str,
    interpret: Callable[[bytes | None], Verdict],
    input_json: bytes,
    *,
    hidden: Collection[Path] = (),
) -> Explanation:
    """Load the policy, ask once, and tell, but not of the rules in `hidden` folders, such as the policy library's.

    Raises:
        EngineError: the policy does not load or has no such entrypoint.
    """
    options = PolicyOptions(paths=source.paths, archive=source.archive, contract=source.contract)
    with library.open_policy(options) as policy:
        seen = policy.prepare(entrypoint).explain(input_json, EVALUATION_S)
    verdict, reason, message = _verdict(seen, interpret)
    shown = {part: list(_shown(seen.get(part) or (), hidden)) for part in ("rules", "failed", "profile")}
    decided = _deciding(shown["rules"], reason, "data." + entrypoint.replace("/", "."))
    return Explanation(
        verdict=verdict,
        reason=reason,
        message=message,
        decided=tuple(dict.fromkeys(_told(rule) for rule in decided)),
        held=tuple(f"{_place(rule)} {rule['name']}" for rule in shown["rules"] if rule not in decided),
        ways=_lines(_ways(shown["failed"])),
        failed=_lines(shown["failed"]),
        prints=tuple(str(line["text"]) for line in seen.get("prints") or ()),
        profile=tuple(
            (f"{_place(rule)} {rule['rule']}", rule["evaluations"], rule["ns"] // 1000) for rule in shown["profile"]
        ),
    )


def _verdict(seen: dict[str, Any], interpret: Callable[[bytes | None], Verdict]) -> tuple[Verdict | None, str, str]:
    if error := seen.get("error"):
        code = "POLICY_TIMEOUT" if error["code"] == "timeout" else "POLICY_ERROR"
        place = f"{_place(error)}: " if error.get("location") else ""
        return None, code, f"{place}{error['message']}"
    try:
        verdict = interpret(orjson.dumps(seen["result"]) if "result" in seen else None)
    except PolicyError as error:
        return None, error.reason.code, error.detail or error.reason.summary
    return verdict, verdict.reason or verdict.effect.value, verdict.message


def _shown(parts: Iterable[dict[str, Any]], hidden: Collection[Path]) -> Iterator[dict[str, Any]]:
    prefixes = tuple(f"{folder}/" for folder in hidden)
    return (part for part in parts if not _place(part).startswith(prefixes))


def _deciding(rules: list[dict[str, Any]], reason: str, entrypoint: str) -> list[dict[str, Any]]:
    naming = [rule for rule in rules if f'"{reason}"' in rule["source"]]
    return naming or [rule for rule in rules if rule["name"] == entrypoint]


def _ways(failed: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The failed conditions of rules that would allow; where one is a rule itself, the conditions that it failed at."""
    by_rule: dict[str, list[dict[str, Any]]] = {}
    for condition in failed:
        by_rule.setdefault(condition["rule"].rpartition(".")[2], []).append(condition)
    pending = [condition for condition in failed if _ALLOWS.search(condition["source"])]
    found, followed = [], set[str]()
    while pending:
        condition = pending.pop(0)
        names = [name for name in _WORD.findall(condition["text"]) if name in by_rule]
        for name in names:
            pending += by_rule[name] if name not in followed else ()
            followed.add(name)
        if not names and not _OTHER_CALL.search(condition["text"]) and condition not in found:
            found.append(condition)
    return found


def _told(rule: dict[str, Any]) -> str:
    """A rule in YAML by the place and the name that its author knows."""
    source = rule_names.written(rule) if rule.get("location") else ""
    return f"{source} {rule_names.named(rule)}" if source else f"{_place(rule)} {rule['name']}"


def _lines(conditions: Iterable[dict[str, Any]]) -> tuple[str, ...]:
    return tuple(f"{_place(condition)} {' '.join(condition['text'].split())}" for condition in conditions)


def _place(part: dict[str, Any]) -> str:
    place = part.get("location")
    return f"{place['file']}:{place['row']}" if place else "(engine)"
