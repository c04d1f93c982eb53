r"""Carry out a redaction plan on a body, and on every copy of what it takes out.

Decides nothing about what is sensitive: the policy did, in pointers and RE2 patterns. Must never leave a planned
redaction undone and report success: a pointer that leads nowhere, a pattern that does not compile or a body that
cannot be rewritten is an error, and the body then goes nowhere. Values passed in are never changed in place.

A pattern looks where secrets hide (B7): in names, in numbers, in JSON inside text, behind `\u` escapes and
Base64. Patterns run on RE2, in time linear in the text: neither a policy nor a tool can stall us with one.

Trusts `strict_json` for the value and the policy for the plan.
"""

from __future__ import annotations

import base64
import binascii
import functools
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

import orjson
import re2

from authz import reasons
from authz.config import Limits
from authz.errors import InvalidRequestError, UnavailableError
from authz.model import EMPTY, Protocol
from authz.protocol import mirrors, pointer, strict_json, uri

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from authz.model import JsonObject, JsonValue, Redaction, ToolCall

_PATTERN_MEMORY: Final = 1 << 20
"""Bytes of memory for one compiled pattern; RE2's own default is 8 MiB."""
_MAX_NESTING: Final = 4
"""JSON in text in JSON in text: deeper than this is not read but refused."""
_TEXT_LIMITS: Final = Limits()
_ESCAPED: Final = re.compile(r"\\u([0-9A-Fa-f]{4})")
# Both alphabets, padded or not, and short ones too: a key of 16 characters has 22.
_BASE64: Final = re.compile(r"[A-Za-z0-9+/_-]{8,}={0,2}")
_MIN_COPY: Final = 5
_MAX_LITERAL: Final = 256
_BODY: Final = "/body"
_RESULT_COPIES: Final = ("/structuredContent", "/content")


@dataclass(frozen=True, slots=True, kw_only=True)
class Redacted:
    """A value with the plan carried out, and how many replacements that took."""

    value: JsonValue
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RedactedBody:
    """The new body, the headers that must change with it, and how many replacements were made."""

    body: bytes
    headers: Mapping[str, str] = field(default_factory=lambda: EMPTY)
    count: int


def apply(value: JsonValue, plan: Sequence[Redaction], base: str = "") -> Redacted:
    """Carry out `plan`, whose pointers are relative to `base`.

    Raises:
        UnavailableError: REDACT_FAILED.
    """
    count = 0
    # By stage; within one, children before parents, patterns before whole values: then no step removes what a later
    # one points at.
    for redaction in sorted(plan, key=lambda item: (item.stage, -item.path.count("/"), not item.pattern)):
        value, replaced = _apply_one(value, redaction, base)
        count += replaced
    return Redacted(value=value, count=count)


def apply_to_result(result: JsonValue, plan: Sequence[Redaction]) -> Redacted:
    """Carry out `plan` on a tool's result, in both of its forms.

    A server repeats `structuredContent` as JSON text in `content` (MCP "Structured Content"), so what is taken out
    of one is taken out of the other.

    Raises:
        UnavailableError: REDACT_FAILED.
    """
    redacted = apply(result, _with_copies(result, plan))
    if not (isinstance(result, dict) and isinstance(redacted.value, dict) and "structuredContent" in result):
        return redacted
    # Copies are found by their meaning: servers write them with other spaces and other orders of keys.
    before, after = result["structuredContent"], redacted.value.get("structuredContent")
    if before == after:
        return redacted
    value: JsonValue = redacted.value
    for path, text in pointer.leaves(result.get("content"), "/content"):
        is_copy = isinstance(text, str) and _as_json(text) == before
        if is_copy and isinstance(pointer.find(value, path), str):
            value = _change(value, pointer.tokens(path), lambda _: orjson.dumps(after).decode())
    return replace(redacted, value=value)


def apply_to_call(
    body: bytes, call: ToolCall, plan: Sequence[Redaction], limits: Limits, *, is_form: bool = False
) -> RedactedBody:
    """Carry out `plan`, whose pointers are relative to the call's arguments, on the body that was judged.

    Args:
        body: the bytes whose digest is `call.body_sha256`.
        call: what they were read as.
        plan: the policy's redactions.
        limits: those the body was read with.
        is_form: the body is a URL-encoded form (plain HTTP).

    Raises:
        UnavailableError: REDACT_FAILED; also where a pointer is not into the body (a path or query of plain HTTP).
    """
    # The bytes are parsed again, and not kept from the first phase: a plan is rare, memory for each call is not.
    if call.tool.protocol is Protocol.MCP:
        redacted = apply(_parsed(body, limits), plan, call.args_pointer)
        headers = _mirrored(redacted.value, call)
        return RedactedBody(body=orjson.dumps(redacted.value), headers=headers, count=redacted.count)
    wrapped = apply({_BODY[1:]: _parsed(body, limits, is_form=is_form)}, plan)
    changed = pointer.find(wrapped.value, _BODY)
    return RedactedBody(body=_written(changed, is_form=is_form), count=wrapped.count)


def _failed(detail: str) -> UnavailableError:
    return UnavailableError(reasons.REDACT_FAILED, detail)


def _parsed(body: bytes, limits: Limits, *, is_form: bool = False) -> JsonValue:
    try:
        if is_form:
            return uri.read_form(body, reasons.HTTP_FORM)
        return strict_json.parse(body, limits, max_bytes=len(body) + 1).value
    except InvalidRequestError as error:
        raise _failed(f"the body is not readable: {error.reason.code}") from None


def _written(value: JsonValue, *, is_form: bool) -> bytes:
    if is_form and isinstance(value, dict):
        return urlencode(value, doseq=True).encode()
    return orjson.dumps(value)


def _mirrored(message: JsonValue, call: ToolCall) -> dict[str, str]:
    """The headers that repeat an argument, as they must read now; the server compares them with the body."""
    return {
        header: mirrors.encode(pointer.find(message, call.args_pointer + path)) for header, path in call.mirrors.items()
    }


def _with_copies(result: JsonValue, plan: Sequence[Redaction]) -> list[Redaction]:
    """`plan`, and with it what takes the same things out of the result's other form."""
    present = [path for path in _RESULT_COPIES if isinstance(result, dict) and path[1:] in result]
    widened = [
        replace(redaction, path=path, pattern=pattern)
        for redaction in plan
        if redaction.path.startswith(_RESULT_COPIES)
        for pattern in _patterns(result, redaction)
        for path in present
        if redaction.pattern or not redaction.path.startswith(path)
    ]
    return [*plan, *widened]


def _patterns(result: JsonValue, redaction: Redaction) -> list[str]:
    """What to look for in the other form: the pattern itself, or each value that is taken out whole."""
    if redaction.pattern:
        return [redaction.pattern]
    try:
        removed = pointer.find(result, redaction.path)
    except pointer.PointerError:
        return []  # `apply` refuses it
    # Values of a few characters would be found everywhere; they are safe in copies that are the same JSON.
    return [_literal(str(leaf)) for _, leaf in pointer.leaves(removed) if len(str(leaf)) >= _MIN_COPY]


def _literal(text: str) -> str:
    """A pattern for `text`. One too long to compile is known by its beginning and takes all around it with it."""
    if len(text) <= _MAX_LITERAL:
        return str(re2.escape(text))
    return f"(?s).*{re2.escape(text[:_MAX_LITERAL])}.*"


def _apply_one(value: JsonValue, redaction: Redaction, base: str) -> tuple[JsonValue, int]:
    try:
        tokens = pointer.tokens(base + redaction.path)
        if not redaction.pattern:
            return _change(value, tokens, lambda _: redaction.replacement), 1
        # A pattern may match nothing: it says what must not be there, and it is not.
        substitution = _Substitution(redaction)
        return _change(value, tokens, substitution.within), substitution.count
    except (LookupError, pointer.PointerError):
        raise _failed("a redaction points at nothing") from None


def _change(value: JsonValue, tokens: list[str], change: Callable[[JsonValue], JsonValue]) -> JsonValue:
    """`value` with `change` made at `tokens`; only the containers on the way are new.

    Raises:
        LookupError: there is nothing at `tokens`.
    """
    if not tokens:
        return change(value)
    child = _change(pointer.step(value, tokens[0]), tokens[1:], change)
    if isinstance(value, dict):
        return {**value, tokens[0]: child}
    elements = list(value) if isinstance(value, list) else []
    elements[int(tokens[0])] = child
    return elements


class _Substitution:
    """Puts one replacement wherever one pattern matches, and counts."""

    def __init__(self, redaction: Redaction) -> None:
        self._replacement = redaction.replacement
        self._pattern = _compiled(redaction.pattern)
        self.count = 0

    def within(self, value: JsonValue, nesting: int = 0) -> JsonValue:
        if isinstance(value, str):
            return self._text(value, nesting)
        if isinstance(value, dict):
            return self._object(value, nesting)
        if isinstance(value, list):
            return [self.within(element, nesting) for element in value]
        if isinstance(value, bool) or value is None:
            return value
        # A card number may come as a number; what is replaced in it is text from then on.
        written = str(value)
        redacted = self._substitute(written)
        return value if redacted == written else redacted

    def _object(self, value: JsonObject, nesting: int) -> JsonObject:
        # Names carry secrets as values do. Two that became one would silently drop a member.
        redacted = {self._substitute(name): self.within(member, nesting) for name, member in value.items()}
        if len(redacted) != len(value):
            raise _failed("two names become one")
        return redacted

    def _text(self, text: str, nesting: int) -> str:
        inner = _as_json(text)
        if inner is not None:
            if nesting == _MAX_NESTING:
                raise _failed("JSON in text is nested too deeply")
            redacted = self.within(inner, nesting + 1)
            # Untouched JSON keeps its bytes: a tool may compare or sign them.
            text = text if redacted == inner else orjson.dumps(redacted).decode()
        text = self._substitute(text)
        if any(self._pattern.search(reading) for reading in _readings(text)):
            self.count += 1
            return self._replacement  # what cannot be cut out of an encoded text goes with all of it
        return text

    def _substitute(self, text: str) -> str:
        redacted: str
        # A function, because a replacement given as text would be read as a template (`\\1`).
        redacted, count = self._pattern.subn(lambda _: self._replacement, text)
        self.count += count
        return redacted


@functools.lru_cache(maxsize=256)
def _compiled(pattern: str) -> re2._Regexp:
    options = re2.Options()
    options.max_mem = _PATTERN_MEMORY
    options.log_errors = False  # RE2 would write the pattern to stderr
    try:
        return re2.compile(pattern, options)
    except re2.error:
        raise _failed("a pattern is not RE2") from None


def _as_json(text: str) -> JsonValue:
    """The object, array or string that `text` is the JSON of, or None."""
    if not text.lstrip().startswith(("{", "[", '"')):
        return None
    # Strictly: of two equal names we would redact one and the reader may show the other. Text that fails is
    # searched as it stands and unescaped.
    body = text.encode()
    try:
        return strict_json.parse(body, _TEXT_LIMITS, max_bytes=len(body) + 1).value
    except InvalidRequestError:
        return None


def _readings(text: str) -> list[str]:
    """What `text` says once its escapes, or its Base64, are undone."""
    readings = []
    # Unescaped by UTF-16 units, as JSON does it: a pair of escapes is one character.
    if _ESCAPED.search(text):
        units = _ESCAPED.sub(lambda match: chr(int(match[1], 16)), text)
        readings.append(units.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace"))
    for run in _BASE64.findall(text):
        try:
            encoded = run.rstrip("=").replace("-", "+").replace("_", "/")
            readings.append(base64.b64decode(encoded + "=" * (-len(encoded) % 4)).decode())
        except (binascii.Error, UnicodeDecodeError):
            continue
    return readings
