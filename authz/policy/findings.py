"""What a sidecar found in one window of a stage, as it is counted, sent and added up.

Decides what is kept beside the figures of `gates`: how often the revisions disagreed by rule, agent and tool, and a few
examples. Neither arguments nor results are in it: an example names its decision, whose record is masked. Must never
grow with what callers send: names and examples are bounded, and what does not fit counts as `others`. Pure.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any, Final, TypeVar

import orjson

from authz.encoding import decode_json_object
from authz.policy.gates import EDGES_US, Answers, Pairs, Window, total
from authz.value import value

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from authz.model import JsonValue

MAX_NAMES: Final = 50
MAX_NAME_CHARACTERS: Final = 256
MAX_EXAMPLES: Final = 5
MAX_RULES: Final = 16
MAX_BYTES: Final = 128 * 1024
MAX_COUNT: Final = 1 << 53
OTHERS: Final = "others"
KINDS: Final = ("rule", "agent", "tool")
_C = TypeVar("_C", Answers, Pairs)


@value
class Example:
    """A call on which the revisions disagree: effects as `authz.model.Effect`, or `error`."""

    decision_id: str
    agent: str
    tool: str
    baseline: str
    candidate: str
    rules: tuple[str, ...] = ()


@value
class Findings:
    """Figures, rankings of disagreements by `KINDS`, and examples."""

    window: Window
    rankings: Mapping[str, Mapping[str, int]]
    examples: tuple[Example, ...] = ()


NOTHING: Final = Findings(window=Window(), rankings={})


def together(found: Iterable[Findings]) -> Findings:
    """Findings of several windows or sidecars as one."""
    parts = list(found)
    examples = [example for part in parts for example in part.examples]
    return Findings(
        window=total([part.window for part in parts]),
        rankings={kind: _added(part.rankings.get(kind, {}) for part in parts) for kind in KINDS},
        examples=tuple(examples[-MAX_EXAMPLES:]),
    )


def encode(found: Findings) -> bytes:
    """One JSON document."""
    return orjson.dumps(asdict(found))


def decode(document: bytes) -> Findings:
    """What `encode` wrote, and nothing else.

    Raises:
        ValueError: it is too large, or a member is missing, unknown, ill-typed or out of its range.
    """
    if len(document) > MAX_BYTES:
        raise ValueError("too large")
    told = decode_json_object(document)
    window, rankings, examples = _members(told, ("window", "rankings", "examples"))
    counted = _members(window, ("baseline", "candidate", "pairs"))
    if not isinstance(rankings, dict) or not isinstance(examples, list) or len(examples) > MAX_EXAMPLES:
        raise ValueError("not findings")
    return Findings(
        window=Window(
            baseline=_counts(Answers, counted[0]),
            candidate=_counts(Answers, counted[1]),
            pairs=_counts(Pairs, counted[2]),
        ),
        rankings={kind: _ranking(rankings.get(kind, {})) for kind in KINDS},
        examples=tuple(map(_example, examples)),
    )


def _added(rankings: Iterable[Mapping[str, int]]) -> dict[str, int]:
    added: Counter[str] = Counter()
    for ranking in rankings:
        added.update(ranking)
    kept = dict(added.most_common(MAX_NAMES))
    if left := added.total() - sum(kept.values()):
        kept[OTHERS] = kept.get(OTHERS, 0) + left
    return kept


def _members(told: JsonValue, names: Sequence[str]) -> list[JsonValue]:
    if not isinstance(told, dict) or told.keys() != {*names}:
        raise ValueError("not findings")
    return [told[name] for name in names]


def _counts(of: type[_C], told: JsonValue) -> _C:
    names = [field.name for field in fields(of)]
    values = dict(zip(names, _members(told, names), strict=True))
    bins = values.pop("latency", None)
    if bins is not None and (not isinstance(bins, list) or len(bins) != len(EDGES_US) + 1):
        raise ValueError("not bins")
    counted: dict[str, Any] = {name: _count(each) for name, each in values.items()}
    if bins is not None:
        counted["latency"] = tuple(map(_count, bins))
    return of(**counted)


def _ranking(told: JsonValue) -> dict[str, int]:
    if not isinstance(told, dict) or len(told) > MAX_NAMES + 1:
        raise ValueError("not a ranking")
    return {_text(name): _count(calls) for name, calls in told.items()}


def _count(told: JsonValue) -> int:
    if not isinstance(told, int) or isinstance(told, bool) or not 0 <= told <= MAX_COUNT:
        raise ValueError("not a count")
    return told


def _example(told: JsonValue) -> Example:
    names = [field.name for field in fields(Example)]
    values = dict(zip(names, _members(told, names), strict=True))
    rules = values.pop("rules")
    if not isinstance(rules, list) or len(rules) > MAX_RULES:
        raise ValueError("not rules")
    return Example(**{name: _text(each) for name, each in values.items()}, rules=tuple(map(_text, rules)))


def _text(told: JsonValue) -> str:
    if not isinstance(told, str) or len(told) > MAX_NAME_CHARACTERS:
        raise ValueError("not a name")
    return told
