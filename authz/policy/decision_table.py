"""Decision tables: what a policy must decide, case by case, in YAML beside it (contracts §10).

    defaults: {agent: {tenant: acme}}
    cases:
      - name: a payment above the limit is refused
        call: {agent: billing-agent, tool: transfer_payment, args: {amount: 25000}}
        want: {effect: deny, reason: payment_over_limit}

Decides what a case asks, and whether an answer is the one that is wanted. `call` is the short form of an `input` in
phase `call`, laid over what every call has; both are laid over the table's `defaults`, object by object. A `want` asks
for the parts it names, in lists for every item. An answer that is no decision counts as the denial that the service
would make of it. Must never pass a case it does not understand: an unknown key refuses the table, since a case with a
slip in `want` would test nothing.

Trusts the table's owner.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import orjson

from authz.config import read_mapping
from authz.errors import ConfigError, DenialError
from authz.model import Effect

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from pathlib import Path

    from authz.model import JsonObject, JsonValue, Verdict
    from authz.policy.engine import Query

DEADLINE_S: Final = 5.0
"""For one case: a test machine may be slow, and a policy that is too slow in service shows in its profile."""

WANTS: Final = (
    "effect",
    "reason",
    "message",
    "rules",
    "risk",
    "mode",
    "redactions",
    "approval",
    "charges",
    "headers",
    "tags",
    "http_status",
    "body",
)
"""What a case may want of a decision. The last two are contract `envoy`'s."""

_TABLE: Final = ("policy", "entrypoint", "contract", "defaults", "cases")
_CASE: Final = ("name", "call", "input", "want")
_CALL: Final = ("agent", "tool", "args", "facts", "destination", "http", "source", "call", "time")
_SHORT: Final = {"agent": "id", "tool": "name"}
"""A string where an object is meant, in a `call`: the object with this key."""

EVERY_CALL: Final[JsonObject] = {
    "version": 1,
    "phase": "call",
    "agent": {"subject": "", "session": "", "scopes": [], "parents": []},
    "tool": {"server": "default", "protocol": "mcp", "method": "tools/call"},
    "args": {},
    "facts": {"budgets": {}, "session": {}, "approval": {}},
    "time": {"rfc3339": "2026-01-01T12:00:00Z", "unix_ns": 1_767_268_800_000_000_000},
}
"""What a `call` has without saying so. Time stands still, or a case would pass today only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One question and the parts of the answer that matter."""

    name: str
    input: JsonObject
    want: JsonObject


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """The cases of one file. `policy` and `entrypoint` are empty where the file leaves them to its reader."""

    file: Path
    cases: tuple[Case, ...]
    policy: Path | None
    contract: str
    entrypoint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A part of the answer that is not as wanted; `got` is None where the answer has no such part."""

    part: str
    want: JsonValue
    got: JsonValue


def read_table(file: Path) -> Table:
    """Read and check a whole table.

    Raises:
        ConfigError: not YAML, or a case that could not mean what it says; file and case are named.
    """
    document = read_mapping(file)
    _known(document, _TABLE, f"{file}")
    cases = document.get("cases")
    if not isinstance(cases, list) or not cases:
        raise ConfigError(f"{file}: `cases` is not a list of cases")
    defaults = _object(document.get("defaults", {}), f"{file}: defaults")
    policy = document.get("policy")
    return Table(
        file=file,
        cases=tuple(_case(case, f"{file}: case {number}", defaults) for number, case in enumerate(cases, 1)),
        policy=file.parent / policy if policy else None,
        contract=document.get("contract", ""),
        entrypoint=document.get("entrypoint", ""),
    )


def differences(case: Case, query: Query, interpret: Callable[[bytes | None], Verdict]) -> tuple[Difference, ...]:
    """Ask the policy as the service would, and compare. None at all means that the case holds."""
    try:
        answer = decided(interpret(query.evaluate(orjson.dumps(case.input), DEADLINE_S)))
    except DenialError as error:
        answer = {"effect": Effect.DENY, "reason": error.reason.code, "message": error.detail}
    return tuple(
        Difference(part=part, want=want, got=answer.get(part))
        for part, want in case.want.items()
        if not _meets(answer.get(part), want)
    )


def _meets(got: JsonValue, want: JsonValue) -> bool:
    if isinstance(want, dict) and isinstance(got, dict):
        return all(key in got and _meets(got[key], part) for key, part in want.items())
    if isinstance(want, list) and isinstance(got, list):
        return len(want) == len(got) and all(map(_meets, got, want))
    # `true` is no 1, though Python says so.
    return got == want and isinstance(got, bool) is isinstance(want, bool)


def decided(verdict: Verdict) -> JsonObject:
    """A verdict as a policy writes it, without what it leaves unsaid."""
    given: dict[str, Any] = orjson.loads(orjson.dumps(verdict))
    given["redactions"] = [
        {key: text for key, text in item.items() if text or key == "path"} for item in given["redactions"]
    ]
    changes = verdict.headers
    upsert = {name: values[0] if len(values) == 1 else [*values] for name, values in changes.upsert.items()}
    return given | {"headers": {"set": upsert, "remove": [*changes.remove]}}


def _case(case: Any, where: str, defaults: JsonObject) -> Case:  # noqa: ANN401 - anything that YAML can say
    fields = _object(case, where)
    name = fields.get("name")
    if not isinstance(name, str) or not name:
        raise ConfigError(f"{where}: `name` is missing")
    where = f"{where} `{name}`"
    _known(fields, _CASE, where)
    want = _object(fields.get("want", {}), f"{where}: want")
    _known(want, WANTS, f"{where}: want")
    if not want:
        raise ConfigError(f"{where}: `want` is empty, so that nothing is tested")
    return Case(name=name, input=_question(fields, where, defaults), want=want)


def _question(fields: JsonObject, where: str, defaults: JsonObject) -> JsonObject:
    if ("call" in fields) == ("input" in fields):
        raise ConfigError(f"{where}: give `call` or `input`, one of them")
    if "input" in fields:
        return _over(defaults, _object(fields["input"], f"{where}: input"))
    call = _object(fields["call"], f"{where}: call")
    _known(call, _CALL, f"{where}: call")
    return _over(_over(EVERY_CALL, _whole(defaults)), _whole(call))


def _whole(call: JsonObject) -> JsonObject:
    return {key: {_SHORT[key]: part} if key in _SHORT and isinstance(part, str) else part for key, part in call.items()}


def _over(below: JsonObject, above: JsonObject) -> JsonObject:
    merged = dict(below)
    for key, value in above.items():
        under = merged.get(key)
        merged[key] = _over(under, value) if isinstance(under, dict) and isinstance(value, dict) else value
    return merged


def _object(value: Any, where: str) -> JsonObject:  # noqa: ANN401 - anything that YAML can say
    if not isinstance(value, dict):
        raise ConfigError(f"{where} is not a mapping")
    return value


def _known(fields: JsonObject, known: Collection[str], where: str) -> None:
    for key in _strangers(fields, known):
        near = difflib.get_close_matches(key, known, n=1)
        raise ConfigError(f"{where}: unknown key `{key}`" + (f", did you mean `{near[0]}`?" if near else ""))


def _strangers(fields: JsonObject, known: Collection[str]) -> Iterator[str]:
    return (str(key) for key in fields if key not in known)
