"""Why a policy answers as it does: one evaluation with everything that was seen on the way.

Decides nothing that a caller is told: it asks the same engine the same question as `pdp.py`, slowly, for a
person. Must never be reached from the decision path, and its output, which quotes the policy, never goes to
an agent. Trusts the input it is given.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from authz.errors import PolicyError
from authz.model import Effect
from authz.native import PolicyOptions

if TYPE_CHECKING:
    from collections.abc import Callable

    from authz.model import Verdict
    from authz.native import Library
    from authz.policy.engine import PolicySource

EVALUATION_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """What was answered and why.

    Attributes:
        verdict: None when the answer is no decision.
        reason: the policy's reason, or ours when it gave no decision.
        rules: rules that gave a value, "file:row name", in the order in which they did.
        failed: conditions that did not hold, "file:row text": each is one way to another answer.
        profile: (rule, evaluations, microseconds), the slowest first.
    """

    verdict: Verdict | None
    reason: str
    message: str
    rules: tuple[str, ...]
    failed: tuple[str, ...]
    prints: tuple[str, ...]
    profile: tuple[tuple[str, int, int], ...]

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
            "redactions": orjson.loads(orjson.dumps(verdict.redactions)) if verdict else [],
            "rules": self.rules,
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
) -> Explanation:
    """Load the policy, ask once, and tell.

    Raises:
        EngineError: the policy does not load or has no such entrypoint.
    """
    options = PolicyOptions(paths=source.paths, archive=source.archive, contract=source.contract)
    with library.open_policy(options) as policy:
        seen = policy.prepare(entrypoint).explain(input_json, EVALUATION_S)
    verdict, reason, message = _verdict(seen, interpret)
    return Explanation(
        verdict=verdict,
        reason=reason,
        message=message,
        rules=tuple(f"{_place(rule)} {rule['name']}" for rule in seen.get("rules") or ()),
        failed=tuple(f"{_place(condition)} {condition['text']}" for condition in seen.get("failed") or ()),
        prints=tuple(
            str(line.get("text", line)) if isinstance(line, dict) else line for line in seen.get("prints") or ()
        ),
        profile=tuple(
            (f"{_place(rule)} {rule.get('rule', '')}", rule["evaluations"], rule["ns"] // 1000)
            for rule in seen.get("profile") or ()
        ),
    )


def _verdict(seen: dict[str, Any], interpret: Callable[[bytes | None], Verdict]) -> tuple[Verdict | None, str, str]:
    if error := seen.get("error"):
        return None, "POLICY_ERROR", str(error.get("message", error))
    try:
        verdict = interpret(orjson.dumps(seen["result"]) if "result" in seen else None)
    except PolicyError as error:
        return None, error.reason.code, error.detail or error.reason.summary
    return verdict, verdict.reason or verdict.effect.value, verdict.message


def _place(part: dict[str, Any]) -> str:
    place = part.get("location")
    return f"{place['file']}:{place['row']}" if place else "(engine)"
