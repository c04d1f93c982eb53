"""Headers that repeat parts of the body: `Mcp-Method`, `Mcp-Name` and `Mcp-Param-*` (MCP 2026-07-28).

Decides whether each of them agrees with the body. A load balancer or a limiter may have acted on the header
while the tool acts on the body; where the two differ, one of them was lied to (C13). Must never take a value
from a header: what is judged is the body, always.

Which argument an `Mcp-Param-*` header repeats is said by the tool's schema (`x-mcp-header`), of which a
request shows nothing. So, in this order: the route's `param_headers`; a top-level argument of that name; an
argument of that value. The last serves redaction only. A header that fits none is not ours to know and is
forwarded unread, as the specification asks of intermediaries.

On revisions before 2026-07-28 no header is required, but one that is there must agree all the same.
"""

from __future__ import annotations

import base64
import binascii
import re
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from authz import reasons
from authz.errors import InvalidRequestError
from authz.protocol import pointer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from authz.config import Route
    from authz.model import JsonObject, JsonValue
    from authz.protocol.json_rpc import Message

PARAM_PREFIX: Final = "mcp-param-"
_SENTINEL: Final = ("=?base64?", "?=")
# Bounded, and without exponents: `1e999999999` would be a number of a billion digits.
_DECIMAL: Final = re.compile(r"-?[0-9]{1,20}(?:\.[0-9]{1,20})?")
# What `Mcp-Name` repeats, by method; the tasks are those of the extension's "Routing Headers".
_NAMED_BY: Final = {
    "tools/call": "name",
    "prompts/get": "name",
    "resources/read": "uri",
    "tasks/get": "taskId",
    "tasks/update": "taskId",
    "tasks/cancel": "taskId",
}
_NAME_REQUIRED: Final = frozenset({"tools/call", "prompts/get", "resources/read"})


def agree(
    headers: Mapping[str, str], message: Message, args: JsonObject, route: Route, *, required: bool
) -> Mapping[str, str]:
    """Compare every mirrored header with the body.

    Args:
        headers: lower-case names.
        message: the message of the body.
        args: its arguments.
        route: holds `param_headers`.
        required: the revision demands the headers (2026-07-28).

    Returns:
        Each header that repeats an argument, with the argument's RFC 6901 pointer.

    Raises:
        InvalidRequestError: HEADER_MISMATCH.
    """
    # 2026-07-28 leaves the headers of notifications undefined.
    required = required and message.id is not None
    _agree("mcp-method", headers.get("mcp-method"), message.method, required=required)
    _agree_name(headers.get("mcp-name"), message, required=required)
    if message.method != "tools/call":
        key = _NAMED_BY.get(message.method)
        return {"mcp-name": pointer.join(key)} if key and "mcp-name" in headers else {}
    return _agree_params(headers, message, args, route, required=required)


def decode(header: str) -> str:
    """The value that a header carries, out of its Base64 sentinel if it wears one ("Value Encoding").

    Raises:
        InvalidRequestError: HEADER_MISMATCH; the sentinel holds no canonical Base64 of UTF-8.
    """
    # The markers are case-sensitive; in any other case the text is the value itself and must be in the body.
    prefix, suffix = _SENTINEL
    if not (header.startswith(prefix) and header.endswith(suffix)):
        return header
    encoded = header[len(prefix) : -len(suffix)]
    try:
        raw = base64.b64decode(encoded, validate=True)
        text = raw.decode()
    except (binascii.Error, UnicodeDecodeError):
        raise InvalidRequestError(reasons.HEADER_MISMATCH, "the Base64 sentinel is broken") from None
    if base64.b64encode(raw).decode() != encoded:  # stray bits make a second spelling of one value
        raise InvalidRequestError(reasons.HEADER_MISMATCH, "the Base64 sentinel is not canonical")
    return text


def encode(value: JsonValue) -> str:
    """The header value for an argument: as it is where that is safe, else in the Base64 sentinel."""
    text = str(value).lower() if isinstance(value, bool) else str(value)
    prefix, suffix = _SENTINEL
    # A value that looks like the sentinel is wrapped too, or the server would decode it.
    plain = text.isascii() and text.isprintable() and text == text.strip()
    if plain and not (text.startswith(prefix) and text.endswith(suffix)):
        return text
    return f"{prefix}{base64.b64encode(text.encode()).decode()}{suffix}"


def _agree(name: str, header: str | None, value: JsonValue, *, required: bool) -> None:
    if (header is None and required) or (header is not None and header != value):
        raise InvalidRequestError(reasons.HEADER_MISMATCH, f"{name} differs from the body or is missing")


def _agree_name(header: str | None, message: Message, *, required: bool) -> None:
    # A header for a method that names nothing finds None here, and disagrees.
    value = message.params.get(_NAMED_BY.get(message.method, ""))
    decoded = None if header is None else decode(header)
    _agree("mcp-name", decoded, value, required=required and message.method in _NAME_REQUIRED)


def _agree_params(
    headers: Mapping[str, str], message: Message, args: JsonObject, route: Route, *, required: bool
) -> Mapping[str, str]:
    annotations = route.param_headers.get(str(message.params["name"]), {})
    annotated = {PARAM_PREFIX + suffix.lower(): path for suffix, path in annotations.items()}
    present = {name: decode(headers[name]) for name in headers if name.startswith(PARAM_PREFIX)}
    repeated: dict[str, str] = {}
    # The annotated ones may be missing, the present ones may be unknown: both sets are looked at.
    for name in annotated.keys() | present:
        path = annotated.get(name) or _named_argument(name, args)
        value = pointer.find(args, path) if path else None
        header = present.get(name)
        # Null counts as absent on both sides ("Server Behavior for Custom Headers").
        if path is None:
            path = _equal_argument(present[name], args)
        elif (header is None) is not (value is None) and (header is not None or required):
            raise InvalidRequestError(reasons.HEADER_MISMATCH, f"{name} or its argument is missing")
        elif header is not None and not _is_equal(header, value):
            raise InvalidRequestError(reasons.HEADER_MISMATCH, f"{name} differs from its argument")
        if path is not None and header is not None:
            repeated[name] = path
    return repeated


def _named_argument(header: str, args: JsonObject) -> str | None:
    """The top-level argument of the header's name, where case, `-` and `_` do not count."""
    wanted = _bare(header.removeprefix(PARAM_PREFIX))
    return next((pointer.join(name) for name in args if _bare(name) == wanted), None)


def _bare(name: str) -> str:
    return name.casefold().replace("-", "").replace("_", "")


def _equal_argument(header: str, args: JsonObject) -> str | None:
    return next((path for path, value in pointer.leaves(args) if _is_equal(header, value)), None)


def _is_equal(header: str, value: JsonValue) -> bool:
    """Integers by their number (`42.0` is 42), everything else by its text."""
    if isinstance(value, bool):
        return header == str(value).lower()
    # Exactly, not as doubles: 9007199254740991.1 is not 9007199254740991.
    if isinstance(value, int | float):
        return _DECIMAL.fullmatch(header) is not None and Decimal(header) == Decimal(value)
    return header == value
