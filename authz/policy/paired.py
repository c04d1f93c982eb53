"""Two revisions that answer each call together, as one that a decision can hold.

Decides nothing of its own: both are asked in turn, and `strictest` makes one answer of what they say. A revision that
fails, or says nothing, has the call refused as it would alone. What both said stands in the record under their names.
Two revisions of one policy charge a call once, by whichever charges more. Must never answer on one of them alone, but
for results where only one of them reads results.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import orjson

from authz.errors import PolicyError
from authz.model import Charge
from authz.policy.engine import complete
from authz.policy.strictest import strictest
from authz.reasons import POLICY_TYPE, POLICY_UNDEFINED

if TYPE_CHECKING:
    from collections.abc import Callable

    from authz.model import Revision, Verdict
    from authz.policy.activation import ActivePolicy
    from authz.policy.engine import Query, Steps

SHAKEN: Final = b'{"effect":"allow","reason":"handshake","risk":"read"}'
"""What a revision that does not speak of handshakes says of one (contracts §4)."""


@dataclass(frozen=True, slots=True)
class Told:
    """What the two said of one call, each the bytes that its contract reads; None where it is undefined."""

    first: bytes | None
    second: bytes | None


@dataclass(frozen=True, slots=True)
class Names:
    """Under which names the two stand in a result."""

    first: str
    second: str

    def join(self, told: Told) -> bytes:
        """Both as one JSON object; what is undefined is not in it."""
        both = {self.first: told.first, self.second: told.second}
        return orjson.dumps({name: orjson.Fragment(said) for name, said in both.items() if said is not None})

    def split(self, result: bytes) -> Told:
        """What was joined.

        Raises:
            PolicyError: POLICY_TYPE, a number in it is out of range.
        """
        try:
            both = orjson.loads(result)
        except orjson.JSONDecodeError:
            raise PolicyError(POLICY_TYPE, "the decision holds a number that is out of range") from None
        first, second = (orjson.dumps(both[name]) if name in both else None for name in (self.first, self.second))
        return Told(first, second)


@dataclass(frozen=True, slots=True)
class BothQueries:
    """One entrypoint of both. It keeps the revisions alive: what the engine holds is freed with them."""

    first: ActivePolicy
    second: ActivePolicy
    names: Names
    is_handshake: bool = False

    def ask(self, input_json: bytes, deadline_s: float) -> Steps[bytes | None]:
        """Ask both; see `Query.ask`."""
        first = yield from self._ask(self.first, input_json, deadline_s)
        second = yield from self._ask(self.second, input_json, deadline_s)
        return self.names.join(Told(first, second))

    def evaluate(self, input_json: bytes, deadline_s: float) -> bytes | None:
        """Ask both; see `Query.evaluate`."""
        return complete(self.ask(input_json, deadline_s))

    def _ask(self, policy: ActivePolicy, input_json: bytes, deadline_s: float) -> Steps[bytes | None]:
        if not self.is_handshake:
            return (yield from policy.decision.ask(input_json, deadline_s))
        if policy.handshake is None:
            return SHAKEN
        return (yield from policy.handshake.ask(input_json, deadline_s)) or SHAKEN


def charged_once(first: Verdict, second: Verdict) -> Verdict:
    """The strictest of what two revisions of one policy say: each budget is charged what one of them charges."""
    one, two = _by_budget(first), _by_budget(second)
    larger = tuple(Charge(budget=name, amount=max(one.get(name, 0), two.get(name, 0))) for name in {**one, **two})
    return replace(strictest(first, second), charges=larger)


def _by_budget(verdict: Verdict) -> dict[str, float]:
    totals: dict[str, float] = {}
    for charge in verdict.charges:
        totals[charge.budget] = totals.get(charge.budget, 0) + charge.amount
    return totals


def joined(
    first: ActivePolicy,
    second: ActivePolicy,
    names: Names,
    revision: Revision,
    combine: Callable[[Verdict, Verdict], Verdict] = strictest,
) -> ActivePolicy:
    """Both as one, which decisions name `revision`."""

    def interpret(result: bytes | None) -> Verdict:
        if result is None:
            raise PolicyError(POLICY_UNDEFINED)
        told = names.split(result)
        return combine(first.interpret(told.first), second.interpret(told.second))

    def shake() -> Query | None:
        speaks = first.handshake is not None or second.handshake is not None
        return BothQueries(first, second, names, is_handshake=True) if speaks else None

    readers = [policy for policy in (first, second) if policy.reads_results]
    return replace(
        first,
        revision=revision,
        decision=BothQueries(first, second, names),
        handshake=shake(),
        interpret=interpret,
        reads_results=bool(readers),
        reads_truncated_body=first.reads_truncated_body and second.reads_truncated_body,
        rates=tuple(sorted({*first.rates, *second.rates})),
        result_judge=readers[0].named(revision) if len(readers) == 1 else None,
        origin=first.origin or first,
    )
