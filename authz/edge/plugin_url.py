"""URLs as Go's `net/url` reads them, since policies for opa-envoy-plugin were written against its reading.

Decides what a raw path and a raw query mean: percent-decoding once, before the path is split, so that
`%2F` separates. Must never repair: an escape that is not two hex digits refuses the request, and so does
a `;` in a query, which some servers read as a separator and others do not.

Trusts nothing; every byte is the caller's. Source: Go `net/url` (`PathUnescape`, `ParseQuery`), RFC 3986 §2.1.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote_to_bytes

from authz.errors import InvalidRequestError
from authz.reasons import HTTP_PATH, HTTP_QUERY

if TYPE_CHECKING:
    from authz.model import JsonObject, JsonValue
    from authz.reasons import Reason

MAX_PARAMETERS: Final = 10_000
"""Go's own bound since its 2025 fix for memory exhaustion by tiny parameters."""

_BAD_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")


def parsed_path(path: str) -> list[str]:
    """The decoded segments of a raw path without its query.

    Raises:
        InvalidRequestError: HTTP_PATH on a broken escape.
    """
    # Decoded before it is split: the policy sees the segments that a server which decodes first will serve.
    return _unescape(path, HTTP_PATH).lstrip("/").split("/")


def parsed_query(query: str, reason: Reason = HTTP_QUERY) -> JsonObject:
    """Each parameter's values in order; also a form body, whose grammar is the same.

    Raises:
        InvalidRequestError: `reason` on a broken escape, a `;`, or too many parameters.
    """
    values: dict[str, list[JsonValue]] = {}
    if not query:
        return {}
    # Go refuses it since servers that split at it and servers that do not were played off against each other.
    if ";" in query:
        raise InvalidRequestError(reason, "a semicolon separates nothing in a query")
    pairs = query.split("&")
    if len(pairs) > MAX_PARAMETERS:
        raise InvalidRequestError(reason, f"more than {MAX_PARAMETERS} parameters")
    for pair in filter(None, pairs):
        name, _, value = pair.replace("+", " ").partition("=")
        values.setdefault(_unescape(name, reason), []).append(_unescape(value, reason))
    return dict(values)


def replace_invalid(text: bytes) -> str:
    """UTF-8 with one U+FFFD for each byte that is not, as Go's encoding/json writes such strings."""
    try:
        return text.decode()
    except UnicodeDecodeError:
        # A byte that is not UTF-8 becomes one low surrogate, which UTF-8 itself can never hold.
        return _NOT_UTF8.sub("\ufffd", text.decode(errors="surrogateescape"))


_NOT_UTF8: Final = re.compile("[\udc80-\udcff]")


def _unescape(text: str, reason: Reason) -> str:
    if "%" not in text:
        return text
    if broken := _BAD_ESCAPE.search(text):
        raise InvalidRequestError(reason, f"a broken percent escape at character {broken.start()}")
    return replace_invalid(unquote_to_bytes(text))
