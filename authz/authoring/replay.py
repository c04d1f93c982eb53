"""Replay: what two policies make of calls that were recorded, and where they disagree (requirement P6).

Decides which recorded decisions can be asked again, when two answers differ, and when nobody can tell: a rule that
reads what the record masks may have answered anything, so such a call is `undecidable` and never counted as the same.
Must never unmask, and must never take a record that it cannot read for one that agrees. Trusts that records were
written by authz or by OPA; says nothing of calls that were refused before a policy was asked, for they have no input.
"""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Protocol

import orjson

from authz.errors import PolicyError
from authz.model import Effect, Mode, Verdict
from authz.policy.engine import Query as WholeQuery
from authz.policy.engine import UndecidableError
from authz.policy.strictest import rank

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from authz.model import JsonValue
    from authz.policy.engine import Unknown

EVALUATION_S: Final = 5.0
BATCH: Final = 64
"""Records that a thread takes at a time."""
_MASK: Final = "[MASKED:"
_STOPPED: Final = frozenset({Effect.DENY, Effect.APPROVAL_NEEDED})


class Sameness(StrEnum):
    """How two answers to one call compare."""

    SAME = "same"
    FLIP = "flip"
    """Another effect, or one that is enforced where the other only flags."""
    DUTY = "duty"
    """The same effect with another redaction, approval, charge, risk or header."""
    UNDECIDABLE = "undecidable"
    """At least one policy reads what is masked in the record."""


class UnreadableError(Exception):
    """A line is no record of a decision."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """A decision that can be asked again.

    Attributes:
        unknown: paths, below the input, of what was masked or erased.
    """

    id: str
    timestamp: str
    tenant: str
    agent: str
    tool: str
    input_json: bytes = field(repr=False)
    unknown: tuple[Unknown, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a policy answered; a failure is a denial by its reason code, as it is in service."""

    effect: Effect
    enforced: Effect
    reason: str
    rules: tuple[str, ...] = ()
    duties: tuple[object, ...] = ()

    @property
    def runs(self) -> bool:
        """Whether the call would have run."""
        return self.enforced not in _STOPPED


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One recorded call and what became of it; the answers are None where it is undecidable."""

    recorded: Recorded
    sameness: Sameness
    before: Answer | None = None
    after: Answer | None = None

    @property
    def loosens(self) -> bool:
        """Whether the call was stopped before and would run now."""
        return bool(self.before and self.after and self.after.runs and not self.before.runs)

    @property
    def is_looser(self) -> bool:
        """Whether less is done about it than before: allow, sanitize, approval_needed, deny."""
        return bool(self.before and self.after and _strictness(self.after) < _strictness(self.before))

    @property
    def is_stricter(self) -> bool:
        """Whether more is done about it than before."""
        return bool(self.before and self.after and _strictness(self.after) > _strictness(self.before))

    @property
    def tightens(self) -> bool:
        """Whether the call ran before and would be stopped now."""
        return bool(self.before and self.after and self.before.runs and not self.after.runs)


def _strictness(answer: Answer) -> tuple[int, int]:
    return rank(Verdict(effect=answer.enforced))


class Query(WholeQuery, Protocol):
    """An entrypoint that can be asked about inputs of which a part is not known."""

    def evaluate_unknown(self, input_json: bytes, unknown: Sequence[Unknown], deadline_s: float) -> bytes | None:
        """The result, or None where it is undefined; see `NativeQuery.evaluate_unknown`."""
        ...


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two policies, and how its contract reads a result."""

    query: Query
    interpret: Callable[[bytes | None], Verdict]

    def answer(self, recorded: Recorded) -> Answer | None:
        """What it says of a recorded call; None where that may depend on what is masked."""
        try:
            verdict = self.interpret(self.query.evaluate_unknown(recorded.input_json, recorded.unknown, EVALUATION_S))
        except UndecidableError:
            return None
        except PolicyError as error:
            return Answer(effect=Effect.DENY, enforced=Effect.DENY, reason=error.reason.code)
        return Answer(
            effect=verdict.effect,
            enforced=Effect.ALLOW if verdict.mode is Mode.FLAG else verdict.effect,
            reason=verdict.reason,
            rules=verdict.rules,
            duties=(verdict.risk, verdict.redactions, verdict.approval, verdict.charges, verdict.headers),
        )


def read_record(line: bytes) -> Recorded | None:
    """A line of a file of records; None for a decision that no policy made or whose input was not recorded.

    Raises:
        UnreadableError: it is no record.
    """
    try:
        record = orjson.loads(line)
    except orjson.JSONDecodeError:
        raise UnreadableError from None
    if not isinstance(record, dict) or not isinstance(record.get("decision_id"), str):
        raise UnreadableError
    asked = record.get("input")
    if not isinstance(asked, dict):
        return None
    tool, agent = record.get("tool") or {}, record.get("agent", "")
    return Recorded(
        id=record["decision_id"],
        timestamp=str(record.get("timestamp", "")),
        tenant=str(record.get("tenant", "")),
        agent=str(agent),
        tool="/".join(filter(None, (tool.get("server"), tool.get("name")))) if isinstance(tool, dict) else "",
        input_json=orjson.dumps(asked),
        unknown=tuple(_unknown(record.get("masked", ()), record.get("erased", ()))),
    )


def _unknown(masked: Iterable[JsonValue], erased: Iterable[JsonValue]) -> Iterator[Unknown]:
    for pointer in masked:
        top, *path = _tokens(pointer)
        if top == "input":
            # Where a name is masked, nobody knows what a rule that asks for the true name would find.
            yield tuple(path[:-1] if path and _MASK in path[-1] else path)
    for pointer in erased:
        top, *path = _tokens(pointer)
        if top == "input":
            yield tuple(path[:-1])


def _tokens(pointer: JsonValue) -> list[str]:
    """RFC 6901 section 3."""
    if not isinstance(pointer, str) or not pointer.startswith("/"):
        raise UnreadableError
    return [token.replace("~1", "/").replace("~0", "~") for token in pointer[1:].split("/")]


def compare(before: Side, after: Side, recorded: Recorded) -> Comparison:
    """Ask both."""
    first, second = before.answer(recorded), after.answer(recorded)
    if first is None or second is None:
        return Comparison(recorded=recorded, sameness=Sameness.UNDECIDABLE)
    if (first.effect, first.enforced) != (second.effect, second.enforced):
        sameness = Sameness.FLIP
    else:
        sameness = Sameness.SAME if first.duties == second.duties else Sameness.DUTY
    return Comparison(recorded=recorded, sameness=sameness, before=first, after=second)


@dataclass(slots=True)
class Passed:
    """Lines that were no question, by why."""

    unreadable: int = 0
    without_input: int = 0


def replay(before: Side, after: Side, lines: Iterable[bytes], passed: Passed, *, threads: int) -> Iterator[Comparison]:
    """Ask both policies about every line, in order, on several threads: the engine needs no lock of Python's.

    Args:
        before: the policy that is compared with.
        after: the policy that may come.
        lines: of files of records; read as far ahead as the threads have work.
        passed: counts what could not be asked, as it is met.
        threads: how many ask at once.
    """

    def work(batch: tuple[bytes, ...]) -> list[Comparison | UnreadableError | None]:
        found: list[Comparison | UnreadableError | None] = []
        for line in batch:
            try:
                recorded = read_record(line)
            except UnreadableError as error:
                found.append(error)
            else:
                found.append(compare(before, after, recorded) if recorded else None)
        return found

    with ThreadPoolExecutor(threads) as pool:
        batches = _batched(lines, BATCH)
        waiting = [pool.submit(work, batch) for batch in itertools.islice(batches, threads * 4)]
        while waiting:
            ended = waiting.pop(0).result()
            waiting += [pool.submit(work, batch) for batch in itertools.islice(batches, 1)]
            for one in ended:
                if isinstance(one, Comparison):
                    yield one
                elif one is None:
                    passed.without_input += 1
                else:
                    passed.unreadable += 1


def _batched(lines: Iterable[bytes], size: int) -> Iterator[tuple[bytes, ...]]:
    rest = iter(lines)
    while batch := tuple(itertools.islice(rest, size)):
        yield batch
