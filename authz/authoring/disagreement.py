"""What a replay found, added up: which calls would be answered otherwise, by rule, agent and tool, with examples.

Decides what brought a difference about: the rules that one answer names and the other does not. Must never hold more
than a few examples of each kind of change, however many records there are. Trusts the comparisons that it is given.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson

from authz.authoring.replay import Sameness

if TYPE_CHECKING:
    from authz.authoring.replay import Answer, Comparison


@dataclass(slots=True)
class Disagreement:
    """What was found, added up: counts by transition and by rule, agent and tool, and some examples of each.

    Memory is bounded by the number of different groups, which are ids of rules, agents and tools.
    """

    examples_each: int = 5
    total: int = 0
    by_sameness: dict[Sameness, int] = field(default_factory=lambda: dict.fromkeys(Sameness, 0))
    loosened: int = 0
    tightened: int = 0
    transitions: dict[tuple[str, str], int] = field(default_factory=dict)
    groups: dict[str, dict[tuple[str, str, str], int]] = field(
        default_factory=lambda: {"rule": {}, "agent": {}, "tool": {}}
    )
    examples: dict[tuple[str, str, str], list[Comparison]] = field(default_factory=dict)
    undecidable: dict[str, int] = field(default_factory=dict)
    """By place in the input, indices as `*`."""

    def add(self, one: Comparison) -> None:
        """Count one more."""
        self.total += 1
        self.by_sameness[one.sameness] += 1
        self.loosened += one.loosens
        self.tightened += one.tightens
        if one.sameness is Sameness.UNDECIDABLE:
            for place in {
                ".".join("*" if name.isdecimal() else name for name in path) for path in one.recorded.unknown
            }:
                self.undecidable[place] = self.undecidable.get(place, 0) + 1
        elif one.sameness is not Sameness.SAME:
            self._differs(one)

    def _differs(self, one: Comparison) -> None:
        start, end = (_word(answer) for answer in (one.before, one.after))
        self.transitions[start, end] = self.transitions.get((start, end), 0) + 1
        asked = one.recorded
        told = {"rule": _rule(one), "agent": "/".join(filter(None, (asked.tenant, asked.agent))), "tool": asked.tool}
        for kind, name in told.items():
            group = self.groups[kind]
            group[start, end, name] = group.get((start, end, name), 0) + 1
        shown = self.examples.setdefault((start, end, told["rule"]), [])
        if len(shown) < self.examples_each:
            shown.append(one)

    def document(self) -> dict[str, Any]:
        """As JSON; inputs are as the records have them, masked."""
        return {
            "total": self.total,
            **{str(sameness): count for sameness, count in self.by_sameness.items()},
            "loosened": self.loosened,
            "tightened": self.tightened,
            "transitions": [
                {"before": start, "after": end, "calls": count} for (start, end), count in most(self.transitions)
            ],
            "groups": {
                kind: [
                    {"before": start, "after": end, kind: name, "calls": count}
                    for (start, end, name), count in most(group)
                ]
                for kind, group in self.groups.items()
            },
            "undecidable_by_place": dict(most(self.undecidable)),
            "examples": [example(one) for shown in self.examples.values() for one in shown],
        }


def most(counts: dict[Any, int]) -> list[tuple[Any, int]]:
    """Counted things, the commonest first, equals by name."""
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def _word(answer: Answer | None) -> str:
    """How an effect is written: one that is flagged and not enforced is named as such."""
    if answer is None:
        return ""
    return str(answer.effect) if answer.effect is answer.enforced else f"{answer.effect} (flagged)"


def _rule(one: Comparison) -> str:
    """What brought the difference about: the rules that one side names and the other does not, else its reason."""
    before, after = one.before, one.after
    if before is None or after is None:
        return ""
    names = [name for name in (*after.rules, *before.rules) if (name in after.rules) != (name in before.rules)]
    return ", ".join(sorted(names)) or after.reason or before.reason


def example(one: Comparison) -> dict[str, Any]:
    """One call and both answers, as JSON."""
    asked = one.recorded
    return {
        "decision_id": asked.id,
        "timestamp": asked.timestamp,
        "tenant": asked.tenant,
        "agent": asked.agent,
        "tool": asked.tool,
        "before": _told(one.before),
        "after": _told(one.after),
        "rule": _rule(one),
        "input": orjson.loads(asked.input_json),
    }


def _told(answer: Answer | None) -> dict[str, Any]:
    if answer is None:
        return {}
    return {
        "effect": answer.effect,
        "enforced": answer.enforced,
        "reason": answer.reason,
        "rules": list(answer.rules),
    }
