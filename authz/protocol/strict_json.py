"""Strict JSON: one body, one meaning, or a refusal.

Decides whether bytes are JSON that every careful reader understands alike: RFC 8259 in UTF-8, held to the
rules of I-JSON (RFC 7493) and to our bounds. Duplicate keys, lone surrogates, a BOM, NaN, numbers that a
double cannot hold and trailing bytes are all known ways to show the judge one call and the tool another.

Must never repair input, and never repeat any of it in an error. Trusts `jiter` for the grammar (checked
against every class of JSONTestSuite) and judges depth, size, numbers and names itself.
"""

from __future__ import annotations

import math
import re
from itertools import accumulate, chain
from typing import TYPE_CHECKING, Final

import jiter
import orjson

from authz import reasons
from authz.errors import InvalidRequestError
from authz.value import value

if TYPE_CHECKING:
    from collections.abc import Callable

    from authz.config import Limits
    from authz.model import JsonValue
    from authz.reasons import Reason

MAX_INTEGER: Final = 2**53 - 1
"""Largest integer up to which a double holds every one exactly (RFC 7493 §2.2)."""

_NUL: Final = b"\\u0000"
# Finds tokens in text that jiter has taken already; only used to say where a fault is, and for long strings.
_TOKEN: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"(?:\s*:)?|-?[0-9][0-9.eE+-]*|[\[\]{}]')
_STEP: Final = {b"[": 1, b"{": 1, b"]": -1, b"}": -1}
_POSITION: Final = re.compile(r" at line (\d+) column (\d+)$")
# What other parsers take for numbers: JavaScript's and Python's spellings (C4).
_NUMBER_LIKE: Final = re.compile(rb"[-+.]|NaN|Infinity")
_REFUSALS: Final = (
    ("Detected duplicate key", reasons.JSON_DUP_KEY),
    ("control character", reasons.JSON_SYNTAX),
    ("trailing characters", reasons.JSON_TRAILING),
    ("recursion limit", reasons.JSON_DEPTH),
    ("number out of range", reasons.JSON_NUMBER_RANGE),
    ("invalid number", reasons.JSON_NUMBER),
    ("invalid unicode code point", reasons.JSON_TEXT),
    ("lone leading surrogate", reasons.JSON_TEXT),
    ("unexpected end of hex escape", reasons.JSON_TEXT),
)
"""What each of jiter's messages means here; any other one is a syntax error."""


@value
class Parsed:
    """A JSON value that passed every rule.

    `simple` is True when all keys are ASCII and no number is a float; then `orjson` with sorted keys
    writes the bytes that RFC 8785 asks for.
    """

    value: JsonValue
    simple: bool


def parse(body: bytes, limits: Limits, *, max_bytes: int | None = None) -> Parsed:
    """The one value that `body` holds.

    Args:
        body: the whole body; never a prefix.
        limits: depth, keys and string length, and the size where `max_bytes` is not given.
        max_bytes: the size bound of the route.

    Raises:
        InvalidRequestError: with one of the JSON reasons, and the offset at which the fault showed, where it
            is in one place (behind the name, for a name that repeats).
    """
    # The size comes first: a strict parse takes about 24 ms for a mebibyte of small keys (C7).
    if len(body) > (max_bytes or limits.max_body_bytes):
        raise InvalidRequestError(reasons.JSON_SIZE, "the body is over its size limit")
    try:
        # Strings are not cached: the cache is process-wide, and arguments are not ours to keep.
        value = jiter.from_json(
            body, catch_duplicate_keys=True, allow_inf_nan=False, float_mode="lossless-float", cache_mode="keys"
        )
    except ValueError as error:
        raise _refusal(body, str(error)) from None  # jiter's text repeats keys
    escaped = b"\\" in body and b"\\u" in body  # two looks, because the first is nearly free and mostly settles it
    ascii_keys = _examine_containers(value, body, limits, plain=body.isascii() and not escaped)
    _bound_strings(body, limits.json_string_bytes)
    if escaped:
        _refuse_nul_names(body)
    value, floats = _read_numbers(value, body)
    return Parsed(value=value, simple=ascii_keys and not floats)


def _read_numbers(value: JsonValue, body: bytes) -> tuple[JsonValue, bool]:
    """Check every number and make doubles of those with a fraction or exponent; says whether there were any.

    One pass of orjson does it, in a sixth of the time that a walk in Python takes: it refuses integers over
    53 bits by itself and asks `double` about each float.
    """
    floats = False

    def double(number: jiter.LosslessFloat) -> float:
        nonlocal floats
        floats = True
        if math.isinf(result := float(number)):
            raise ValueError
        return result

    try:
        written = orjson.dumps(value, default=double, option=orjson.OPT_STRICT_INTEGER)
    except orjson.JSONEncodeError:
        raise InvalidRequestError(reasons.JSON_NUMBER_RANGE, offset=_find(body, _is_out_of_range)) from None
    return (orjson.loads(written) if floats else value), floats


def _examine_containers(value: JsonValue, body: bytes, limits: Limits, *, plain: bool) -> bool:
    """Hold depth and width to their bounds; returns whether all names are ASCII.

    Counting bytes settles nearly every call. Only where it does not is the value walked, level by level: no
    recursion, so no depth exhausts the stack.
    """
    # Each level has a bracket and each item a comma or a bracket, so these counts are upper bounds; brackets inside
    # text only make them larger.
    opened = body.count(b"[") + body.count(b"{")
    if plain and opened <= limits.json_depth and _is_narrow(body, opened, limits.json_keys):
        return True
    depth = seen = 0
    ascii_keys = True
    level = [value]
    while level := [node for node in level if isinstance(node, dict | list)]:
        depth += 1
        seen += sum(map(len, level))
        if depth > limits.json_depth:
            raise InvalidRequestError(reasons.JSON_DEPTH, offset=_deeper_than(body, limits.json_depth))
        if seen > limits.json_keys:
            raise InvalidRequestError(reasons.JSON_SIZE, "too many keys and items")
        ascii_keys = ascii_keys and all(map(str.isascii, chain.from_iterable(n for n in level if isinstance(n, dict))))
        level = list(chain.from_iterable(node.values() if isinstance(node, dict) else node for node in level))
    return ascii_keys


def _is_narrow(body: bytes, opened: int, limit: int) -> bool:
    """Whether the body is too short, or has too few commas and brackets, for more than `limit` keys and items."""
    return len(body) <= limit or opened + body.count(b",") <= limit


def _refusal(body: bytes, message: str) -> InvalidRequestError:
    position = _POSITION.search(message)
    offset = _offset(body, int(position[1]), int(position[2])) if position else 0
    reason = next((reason for prefix, reason in _REFUSALS if message.startswith(prefix)), None)
    return InvalidRequestError(reason or _syntax_reason(body[offset : offset + 8]), offset=offset)


def _syntax_reason(rest: bytes) -> Reason:
    """Tell another encoding and a foreign number apart from plain bad syntax."""
    if rest[:1] == b"\0" or rest[:1] >= b"\x80":  # UTF-16, UTF-32, a BOM, Latin-1 (C3)
        return reasons.JSON_ENCODING
    return reasons.JSON_NUMBER if _NUMBER_LIKE.match(rest) else reasons.JSON_SYNTAX


def _offset(body: bytes, line: int, column: int) -> int:
    start = 0
    for _ in range(line - 1):
        start = body.index(b"\n", start) + 1
    return min(start + max(column - 1, 0), len(body))


def _find(body: bytes, fault: Callable[[bytes], bool]) -> int | None:
    return next((token.start() for token in _TOKEN.finditer(body) if fault(token[0])), None)


def _refuse_nul_names(body: bytes) -> None:
    """A NUL would end the name for a reader written in C (C6); in a value it is text like any other."""
    # Raw control characters are no JSON, so this escape is a NUL's only spelling.
    if _NUL in body and (offset := _find(body, _is_name_with_nul)) is not None:
        raise InvalidRequestError(reasons.JSON_TEXT, "a name holds U+0000", offset=offset)


def _is_name_with_nul(token: bytes) -> bool:
    # `\\u0000` is a backslash and five characters: pairs of backslashes go before the escape is looked for.
    return token.endswith(b":") and _NUL in token.replace(b"\\\\", b"")


def _is_out_of_range(token: bytes) -> bool:
    if token[:1] not in b"-0123456789":
        return False
    # As a double: any length of digits is judged in constant time, and 2^53 is the first that is too large.
    size = abs(float(token))
    return math.isinf(size) or (size > MAX_INTEGER and token.lstrip(b"-").isdigit())


def _deeper_than(body: bytes, limit: int) -> int | None:
    depths = accumulate(_STEP.get(token[0], 0) for token in _TOKEN.finditer(body))
    tokens = zip(_TOKEN.finditer(body), depths, strict=True)
    return next((token.start() for token, depth in tokens if depth > limit), None)


def _bound_strings(body: bytes, limit: int) -> None:
    """Bound strings by their bytes as written, escapes and quotes included: what the tool will have to read."""
    if len(body) > limit:
        for token in _TOKEN.finditer(body):
            if token.end() - token.start() > limit:
                raise InvalidRequestError(reasons.JSON_SIZE, "a string is too long", offset=token.start())
