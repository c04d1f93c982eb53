"""Decode paths and queries so that no second reader decodes them otherwise (RFC 3986).

Decides whether a raw path or query has one meaning. Dot segments, empty segments, encoded separators, path
parameters and double encoding are each read differently by some proxy or framework, so they are refused
rather than normalised (A16). Must never be used to decide which route matches: that is done on raw bytes.

Trusts nothing; every character outside visible ASCII is refused before it is decoded.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote_to_bytes

from authz.errors import InvalidRequestError

if TYPE_CHECKING:
    from authz.model import JsonObject
    from authz.reasons import Reason

_VISIBLE: Final = re.compile(r"(?:[!-$&-~]|%[0-9A-Fa-f]{2})*")
"""Visible ASCII in which every percent sign begins an escape."""
# `;` begins path parameters for some servers, `\\` is a slash for others, `#` and `?` cannot be in a path at all.
_UNDECODED: Final = re.compile(r"[;\\#?]")
# Decoded from an escape these are separators or terminators to whoever decodes once more; `%` is what makes that
# possible (double encoding).
_DECODED: Final = re.compile(r"[/\\;%\x00-\x1f\x7f]")
# Line breaks and tabs are text in a form field; the other controls are nobody's text.
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


def path_segments(path: str, reason: Reason) -> list[str]:
    """The decoded segments of an absolute path; a trailing slash gives an empty last one.

    Raises:
        InvalidRequestError: `reason`; the path can be read in two ways.
    """
    if not path.startswith("/") or _UNDECODED.search(path):
        raise InvalidRequestError(reason)
    *parents, last = [_decode(segment, reason) for segment in path[1:].split("/")]
    for segment in (*parents, last):
        if segment in (".", "..") or _DECODED.search(segment):
            raise InvalidRequestError(reason)
    # `//` is one separator to some and an empty name to others.
    if "" in parents:
        raise InvalidRequestError(reason, "an empty path segment")
    return [*parents, last]


def form_fields(text: str, reason: Reason) -> JsonObject:
    """Fields of a query or form (WHATWG URL §5.1): name to value, or to the list of all values if it repeats.

    Raises:
        InvalidRequestError: `reason`; a `;` that some readers split at, a broken escape, bytes that are not UTF-8.
    """
    fields: JsonObject = {}
    # Pairs are split before they are decoded, so that an escaped `&` or `=` stays text.
    for pair in filter(None, text.split("&")):
        name, _, value = (_decode(part.replace("+", "%20"), reason) for part in pair.partition("="))
        if ";" in pair or "#" in pair or _CONTROL.search(name + value):
            raise InvalidRequestError(reason)
        # All values of a repeated name are shown: which one a framework takes is not ours to guess.
        if name not in fields:
            fields[name] = value
        elif isinstance(values := fields[name], list):
            values.append(value)
        else:
            fields[name] = [values, value]
    return fields


def read_form(body: bytes, reason: Reason) -> JsonObject:
    """The fields of a URL-encoded body, which is ASCII.

    Raises:
        InvalidRequestError: `reason`, as `form_fields`.
    """
    try:
        return form_fields(body.decode("ascii"), reason)
    except UnicodeDecodeError as error:
        raise InvalidRequestError(reason, offset=error.start) from None


def _decode(text: str, reason: Reason) -> str:
    if not _VISIBLE.fullmatch(text):
        raise InvalidRequestError(reason)
    try:
        return unquote_to_bytes(text).decode()  # strict: overlong forms and surrogates are refused
    except UnicodeDecodeError:
        raise InvalidRequestError(reason) from None
