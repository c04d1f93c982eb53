"""Contract `agent`: the strict reading of what a policy answers.

Decides which results count as a decision. Anything a policy says
that is not exactly understood is refused as `POLICY_TYPE`, so that a typing slip in Rego denies instead
of being guessed at (G1). Must never fill in an effect, and never do I/O.

Trusts that the bytes are JSON the engine wrote, and nothing in them. Source: contracts §4, design §7.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Final

import orjson

from authz.errors import PolicyError
from authz.model import (
    ApprovalRequest,
    Charge,
    Effect,
    HeaderChanges,
    Mode,
    Redaction,
    Risk,
    Verdict,
)
from authz.reasons import POLICY_TYPE, POLICY_UNDEFINED

if TYPE_CHECKING:
    from collections.abc import Callable

    from authz.model import (
        JsonObject,
        JsonValue,
    )


DEFAULT_APPROVAL: Final = ApprovalRequest(approvers=(), quorum=1, ttl_s=900)
LONGEST_KNOWN: Final = 1024
"""Bytes; a longer result, such as one with redactions of a long text, is read anew each time."""
MAX_APPROVAL_S: Final = 86_400
"""One day: an approval that outlives its shift is approved by nobody who remembers it."""


def interpret(result_json: bytes | None) -> Verdict:
    """Read the engine's result strictly.

    Raises:
        PolicyError: POLICY_UNDEFINED when there is none, POLICY_TYPE when any part is not as contracts §4 says.
    """
    if result_json is None:
        raise PolicyError(POLICY_UNDEFINED)
    return _known(result_json) if len(result_json) <= LONGEST_KNOWN else _read(result_json)


def _read(result_json: bytes) -> Verdict:
    result = orjson.loads(result_json)
    if not isinstance(result, dict):
        raise _wrong("the decision", "an object")
    if unknown := result.keys() - _READERS.keys():
        raise PolicyError(POLICY_TYPE, f"unknown key `{min(unknown)}` in the decision")
    if "effect" not in result:
        raise _wrong("effect", "given")
    fields = {key: _READERS[key](value, key) for key, value in result.items()}
    if "capabilities" in (tags := result.get("tags") or {}):
        fields["capabilities"] = _strings(tags["capabilities"], "tags.capabilities")
    return _consistent(Verdict(**fields))  # type: ignore[arg-type]


# A policy answers most calls in few ways, and equal bytes are an equal verdict. Refusals are not kept.
_known: Final = functools.lru_cache(maxsize=1024)(_read)


def _consistent(verdict: Verdict) -> Verdict:
    """An effect and its obligations must agree: a redaction on an allow would silently not happen."""
    if (verdict.effect is Effect.SANITIZE) != bool(verdict.redactions):
        raise PolicyError(POLICY_TYPE, "redactions and effect `sanitize` come together or not at all")
    if verdict.approval and verdict.effect is not Effect.APPROVAL_NEEDED:
        raise PolicyError(POLICY_TYPE, "approval is given without effect `approval_needed`")
    return verdict


def _wrong(where: str, expected: str) -> PolicyError:
    return PolicyError(POLICY_TYPE, f"`{where}` is not {expected}")


def _string(value: JsonValue, where: str) -> str:
    if not isinstance(value, str):
        raise _wrong(where, "a string")
    return value


def _strings(value: JsonValue, where: str) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise _wrong(where, "a list of strings")
    return tuple(_string(item, where) for item in value)


def _object(value: JsonValue, where: str, allowed: frozenset[str] | None = None) -> JsonObject:
    if not isinstance(value, dict):
        raise _wrong(where, "an object")
    if allowed is not None and not value.keys() <= allowed:
        raise PolicyError(POLICY_TYPE, f"unknown key in `{where}`")
    return value


def _positive(value: JsonValue, where: str, most: int) -> int:
    # bool is an int in Python; `true` is no quorum.
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
        raise _wrong(where, f"an integer from 1 to {most}")
    return value


def _effect(value: JsonValue, where: str) -> Effect:
    try:
        return Effect(_string(value, where))
    except ValueError:
        raise _wrong(where, "allow, deny, sanitize or approval_needed") from None


def _mode(value: JsonValue, where: str) -> Mode:
    try:
        return Mode(_string(value, where))
    except ValueError:
        raise _wrong(where, "block or flag") from None


def _risk(value: JsonValue, where: str) -> Risk:
    try:
        return Risk(_string(value, where))
    except ValueError:
        raise _wrong(where, "read, write or destructive") from None


_REDACTION: Final = frozenset({"path", "replacement", "pattern"})
_APPROVAL: Final = frozenset({"approvers", "quorum", "ttl_s"})
_CHARGE: Final = frozenset({"budget", "amount"})
_HEADERS: Final = frozenset({"set", "remove"})


def _redactions(value: JsonValue, where: str) -> tuple[Redaction, ...]:
    if not isinstance(value, list):
        raise _wrong(where, "a list")
    redactions = []
    for item in value:
        entry = _object(item, where, _REDACTION)
        path = _string(entry.get("path"), "redactions.path")
        if path and not path.startswith("/"):
            raise _wrong("redactions.path", "an RFC 6901 pointer")
        pattern = _string(entry.get("pattern", ""), "redactions.pattern")
        replacement = _string(entry.get("replacement"), "redactions.replacement")
        redactions.append(Redaction(path=path, replacement=replacement, pattern=pattern))
    return tuple(redactions)


def _approval(value: JsonValue, where: str) -> ApprovalRequest:
    entry = _object(value, where, _APPROVAL)
    return ApprovalRequest(
        approvers=_strings(entry.get("approvers", []), "approval.approvers"),
        quorum=_positive(entry.get("quorum", DEFAULT_APPROVAL.quorum), "approval.quorum", 100),
        ttl_s=_positive(entry.get("ttl_s", DEFAULT_APPROVAL.ttl_s), "approval.ttl_s", MAX_APPROVAL_S),
    )


def _charges(value: JsonValue, where: str) -> tuple[Charge, ...]:
    if not isinstance(value, list):
        raise _wrong(where, "a list")
    charges = []
    for item in value:
        entry = _object(item, where, _CHARGE)
        amount = entry.get("amount")
        if isinstance(amount, bool) or not isinstance(amount, int | float) or amount < 0:
            raise _wrong("charges.amount", "a number that is not negative")
        charges.append(Charge(budget=_string(entry.get("budget"), "charges.budget"), amount=amount))
    return tuple(charges)


def _headers(value: JsonValue, where: str) -> HeaderChanges:
    entry = _object(value, where, _HEADERS)
    upsert = {
        _header_name(name): (_header_value(_string(text, "headers.set")),)
        for name, text in _object(entry.get("set", {}), "headers.set").items()
    }
    remove = tuple(_header_name(name) for name in _strings(entry.get("remove", []), "headers.remove"))
    return HeaderChanges(upsert=upsert, remove=remove)


def _header_name(name: str) -> str:
    # A pseudo-header or a host would re-route the call after it was judged (A17).
    lowered = name.lower()
    if not lowered or lowered.startswith(":") or lowered == "host" or not _is_token(lowered):
        raise _wrong("headers", "a header that a policy may change")
    return lowered


def _is_token(name: str) -> bool:
    return name.isascii() and all(c.isalnum() or c in "!#$%&'*+-.^_`|~" for c in name)


def _header_value(text: str) -> str:
    if any(c < " " or c == "\x7f" for c in text):
        raise _wrong("headers.set", "free of control characters")
    return text


_READERS: Final[dict[str, Callable[[JsonValue, str], object]]] = {
    "effect": _effect,
    "reason": _string,
    "message": _string,
    "rules": _strings,
    "risk": _risk,
    "mode": _mode,
    "redactions": _redactions,
    "approval": _approval,
    "charges": _charges,
    "headers": _headers,
    "tags": _object,
}
