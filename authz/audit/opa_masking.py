"""OPA's own masking rules: what a `data.system.log` policy says is to be erased or replaced in a record.

Decides how the results of `mask` and `drop` apply to a record's `input` and `result`. Must never leave a rule silently
unapplied because it is malformed: that is an error, and the caller must then record neither input nor result. A rule
whose path is not there is no error, as in OPA.

Trusts the policy. Pure. Source: OPA's documentation, "Decision Logs: Masking Sensitive Data", and its behaviour: an
upsert makes missing objects, a removed item of an array closes the gap.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from authz.errors import PolicyError
from authz.reasons import POLICY_TYPE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from authz.model import JsonObject, JsonValue

# Records have no cache of non-deterministic builtins, so a rule for it finds nothing.
_ROOTS: Final = ("input", "result", "nd_builtin_cache")

LONGEST_INDEX: Final = 10
"""Digits; Python refuses to read very long numbers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskRule:
    """One element of the `mask` set: `"/input/x"` erases, `{"op": "upsert", "path": …, "value": …}` replaces."""

    operation: Literal["remove", "upsert"]
    path: tuple[str, ...]
    value: Any = None

    @property
    def pointer(self) -> str:
        """RFC 6901, as the record lists it."""
        return "".join("/" + part.replace("~", "~0").replace("/", "~1") for part in self.path)


def parse_rules(result: JsonValue) -> tuple[MaskRule, ...]:
    """The rules in what `data.system.log.mask` gave; none where it is undefined.

    Raises:
        PolicyError: not a set of rules, or a path outside `/input` and `/result`.
    """
    if result is None:
        return ()
    if not isinstance(result, list):
        raise PolicyError(POLICY_TYPE, "data.system.log.mask is not a set")
    return tuple(_rule(element, position) for position, element in enumerate(result))


def _rule(element: JsonValue, position: int) -> MaskRule:
    match element:
        case str():
            return MaskRule(operation="remove", path=_path(element, position))
        case {"op": "remove", "path": str(path)}:
            return MaskRule(operation="remove", path=_path(path, position))
        case {"op": "upsert", "path": str(path), **rest}:
            return MaskRule(operation="upsert", path=_path(path, position), value=rest.get("value"))
        case _:
            raise PolicyError(POLICY_TYPE, f"mask rule {position} needs a path, and an op that is remove or upsert")


def _path(pointer: str, position: int) -> tuple[str, ...]:
    start, *parts = pointer.split("/")
    if start or not parts or parts[0] not in _ROOTS:
        raise PolicyError(POLICY_TYPE, f"mask rule {position} has a path outside /input and /result")
    return tuple(part.replace("~1", "/").replace("~0", "~") for part in parts)


def drops(result: JsonValue) -> bool:
    """Whether what `data.system.log.drop` gave leaves the record out: true only, so that a mistake keeps it."""
    return result is True


def apply_rules(record: JsonObject, rules: Sequence[MaskRule]) -> JsonObject:
    """The record with the rules applied in order, and `erased` and `masked` listing those that changed something.

    `record` is left as it was.
    """
    erased: list[JsonValue] = []
    masked = record.get("masked", [])
    masked = list(masked) if isinstance(masked, list) else []
    for rule in rules:
        try:
            record = _changed(record, rule.path, rule, created=False)
        except LookupError:
            continue
        (erased if rule.operation == "remove" else masked).append(rule.pointer)
    return record | ({"erased": erased} if erased else {}) | ({"masked": masked} if masked else {})


def _changed(value: Any, path: tuple[str, ...], rule: MaskRule, *, created: bool = True) -> Any:  # noqa: ANN401
    """A copy of any JSON value with the rule applied; only what lies on the path is copied.

    Args:
        value: where `path` begins.
        path: what is left of the rule's.
        rule: what to do at its end.
        created: whether an upsert may make what is missing, as OPA does below `input` and `result`.

    Raises:
        LookupError: the path is not there.
    """
    key, rest = path[0], path[1:]
    if isinstance(value, list) and key.isdecimal() and len(key) < LONGEST_INDEX:
        return _changed_item(value, int(key), rest, rule)
    if not isinstance(value, dict) or (key not in value and not (created and rule.operation == "upsert")):
        raise LookupError(key)
    if rest:
        return value | {key: _changed(value.get(key, {}), rest, rule)}
    if rule.operation == "upsert":
        return value | {key: rule.value}
    return {name: kept for name, kept in value.items() if name != key}


def _changed_item(items: list[Any], index: int, rest: tuple[str, ...], rule: MaskRule) -> list[Any]:
    changed: list[Any] = []
    if rest:
        changed = [_changed(items[index], rest, rule)]
    elif rule.operation == "upsert":
        changed = [rule.value]
    if index >= len(items):
        raise LookupError(index)
    return [*items[:index], *changed, *items[index + 1 :]]
