"""Contract `envoy`: what opa-envoy-plugin's result object means, read as the plugin reads it.

Decides which results allow: the literal `true`, or an object whose `allowed` is. Keys that the plugin does
not know are left alone, as it leaves them; a known key of the wrong type refuses. Where the plugin answers
with a gRPC error, and Envoy's `failure_mode_allow` would choose, this refuses with a reason of its own:
POLICY_UNDEFINED, POLICY_TYPE, POLICY_ERROR. Must never default `allowed`, and never do I/O.

Trusts that the bytes are JSON the engine wrote, and nothing in them. Source: contracts §5, opa-envoy-plugin
`envoyauth/response.go`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import orjson

from authz.errors import PolicyError
from authz.model import Effect, HeaderChanges, Mode, Verdict
from authz.reasons import POLICY_BODY_TRUNCATED, POLICY_TYPE, POLICY_UNDEFINED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from authz.model import JsonObject, JsonValue

FORBIDDEN: Final = 403
_TRUE: Final = Verdict(effect=Effect.ALLOW)
_FALSE: Final = Verdict(effect=Effect.DENY, http_status=FORBIDDEN, body="")

_RUNS: Final = (range(200, 209), range(300, 306), range(307, 309), range(400, 418), range(421, 425), range(500, 509))
STATUS_CODES: Final = frozenset({100, 226, 426, 428, 429, 431, 510, 511}.union(*_RUNS))
"""What `http_status` may be: `envoy.type.v3.StatusCode` without `Empty`. All are registered (RFC 9110 §15)."""


def input_json(document: JsonObject, *, reads_truncated_body: bool) -> bytes:
    """The bytes that the engine reads.

    Raises:
        PolicyError: POLICY_BODY_TRUNCATED when only a part of the body is here and no rule asks whether it
            is: `parsed_body` is null then, and a rule that only forbids what it finds there would allow (A5).
    """
    if document.get("truncated_body") is True and not reads_truncated_body:
        raise PolicyError(POLICY_BODY_TRUNCATED)
    return orjson.dumps(document)


def interpret(result_json: bytes | None, *, dry_run: bool = False) -> Verdict:
    """Read the engine's result.

    Args:
        result_json: the value of the entrypoint, None where it is undefined.
        dry_run: the plugin's `dry-run`: a denial is flagged and runs, without any of its headers.

    Raises:
        PolicyError: POLICY_UNDEFINED when there is none, POLICY_TYPE when the plugin would answer with an error.
    """
    if result_json is None:
        raise PolicyError(POLICY_UNDEFINED)
    try:
        result = orjson.loads(result_json)
    except orjson.JSONDecodeError:
        raise PolicyError(POLICY_TYPE, "the decision holds a number that is out of range") from None
    verdict = _object(result) if isinstance(result, dict) else _boolean(result)
    # After the result was read: a dry run must not make an allow of what could not be understood.
    if dry_run and verdict.effect is Effect.DENY:
        return Verdict(effect=Effect.DENY, mode=Mode.FLAG, metadata=verdict.metadata)
    return verdict


def _boolean(result: JsonValue) -> Verdict:
    if not isinstance(result, bool):
        raise _wrong("the decision", "a boolean or an object")
    return _TRUE if result else _FALSE


def _object(result: JsonObject) -> Verdict:
    allowed = result.get("allowed")
    if not isinstance(allowed, bool):
        raise _wrong("allowed", "a boolean")
    headers = _headers(result, "headers")
    metadata = _given(result, "dynamic_metadata", {})
    if not isinstance(metadata, dict):
        raise _wrong("dynamic_metadata", "an object")
    return _allowed(result, headers, metadata) if allowed else _denied(result, headers, metadata)


def _allowed(result: JsonObject, headers: dict[str, tuple[str, ...]], metadata: JsonObject) -> Verdict:
    # Read only here: a denial with a broken list of them is still a denial to the plugin.
    changes = HeaderChanges(
        upsert=headers,
        remove=_strings(result, "request_headers_to_remove"),
        response=_headers(result, "response_headers_to_add"),
        query_set=tuple(_pairs(_given(result, "query_parameters_to_set", {}), "query_parameters_to_set")),
        query_remove=_strings(result, "query_parameters_to_remove"),
    )
    return Verdict(effect=Effect.ALLOW, headers=changes, metadata=metadata)


def _denied(result: JsonObject, headers: dict[str, tuple[str, ...]], metadata: JsonObject) -> Verdict:
    body = _given(result, "body", "")
    if not isinstance(body, str):
        raise _wrong("body", "a string")
    return Verdict(
        effect=Effect.DENY,
        http_status=_status(_given(result, "http_status", FORBIDDEN)),
        body=body,
        headers=HeaderChanges(upsert=headers),
        metadata=metadata,
    )


def _given(result: JsonObject, key: str, absent: JsonValue) -> JsonValue:
    # A key that is null was given, and null has the wrong type for all of them.
    return result.get(key, absent)


def _status(value: JsonValue) -> int:
    # bool is an int in Python; `true` is no status.
    if isinstance(value, bool) or not isinstance(value, int) or value not in STATUS_CODES:
        raise _wrong("http_status", "an HTTP status code that Envoy knows")
    return value


def _strings(result: JsonObject, key: str) -> tuple[str, ...]:
    value = _given(result, key, [])
    if not isinstance(value, list):
        raise _wrong(key, "a list of strings")
    return tuple(_string(item, key) for item in value)


def _headers(result: JsonObject, key: str) -> dict[str, tuple[str, ...]]:
    """A map of headers, or a list of such maps; the values of equal names stay in their order."""
    value = _given(result, key, {})
    headers: dict[str, list[str]] = {}
    for entry in value if isinstance(value, list) else [value]:
        for name, text in _pairs(entry, key):
            headers.setdefault(name, []).append(text)
    return {name: tuple(values) for name, values in headers.items()}


def _pairs(value: JsonValue, key: str) -> Iterator[tuple[str, str]]:
    """The entries of a map whose values are strings or lists of strings."""
    if not isinstance(value, dict):
        raise _wrong(key, "a map of names to values")
    for name, entry in value.items():
        for text in entry if isinstance(entry, list) else [entry]:
            yield name, _string(text, key)


def _string(value: JsonValue, key: str) -> str:
    if not isinstance(value, str):
        raise _wrong(key, "made of strings")
    return value


def _wrong(where: str, expected: str) -> PolicyError:
    return PolicyError(POLICY_TYPE, f"`{where}` is not {expected}")
