"""Multipart form bodies (RFC 2046 §5.1, RFC 7578) as Go's `mime/multipart` reads them.

Decides where each part begins and ends. Python's `email` parser mends broken bodies and opens nested ones,
so a policy would judge what the tool never sees; here a body that is not exactly delimited is refused.
Must never look past the closing delimiter, whatever follows it.

Trusts nothing; every byte is the caller's.
"""

from __future__ import annotations

import quopri
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from authz.edge.plugin_url import replace_invalid
from authz.errors import InvalidRequestError
from authz.reasons import BODY_MULTIPART

if TYPE_CHECKING:
    from collections.abc import Iterator

_TOKEN: Final = r"[!#$%&'*+\-.0-9A-Z^_`a-z|~]+"  # noqa: S105 - RFC 2045 §5.1
_MEDIA_TYPE: Final = re.compile(rf"\s*({_TOKEN}(?:/{_TOKEN})?)\s*(?=;|\Z)")
_PARAMETER: Final = re.compile(rf'\s*;\s*({_TOKEN})\s*=\s*(?:({_TOKEN})|"((?:[^"\\\r\n]|\\[^\r\n])*)")')
# Only these are escaped: browsers send a file's path with plain backslashes.
_QUOTED_PAIR: Final = re.compile(r'\\([()<>@,;:\\"/\[\]?=])')
# A header ends at a blank line; the end of the body in its place is a cut body, never a part without content.
_FIELDS: Final = re.compile(rb"((?:[^\r\n][^\n]*\n)*)\r?\n")
_FIELD: Final = re.compile(rb"([!#$%&'*+\-.0-9A-Z^_`a-z|~]+):[ \t]*(.*?)[ \t]*\Z", re.DOTALL)
_FOLD: Final = re.compile(rb"\r?\n[ \t]+")
_LINE: Final = re.compile(rb"[^\r\n]+")
_AFTER_DASH: Final = re.compile(rb"(--)?[ \t]*(\r?\n|\Z)")
_MAY_FOLLOW: Final = re.compile(rb"[ \t\r\n]|--|\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One part: its form name, empty when it has none, and its bytes."""

    name: str
    content_type: str
    content: bytes


def boundary_of(content_type: str) -> str | None:
    """The `boundary` of a content type, or None where it names none.

    Raises:
        InvalidRequestError: BODY_MULTIPART on a content type that does not parse.
    """
    media_type = _media_type(content_type)
    if media_type is None:
        raise InvalidRequestError(BODY_MULTIPART, "the content type does not parse")
    return media_type[1].get("boundary")


def parts(body: bytes, boundary: str) -> Iterator[Part]:
    """The parts in order.

    Raises:
        InvalidRequestError: BODY_MULTIPART on a delimiter or header out of place, or no closing delimiter.
    """
    dash = b"--" + boundary.encode()
    position, newline = _first_delimiter(body, dash) if boundary else (len(body), b"")
    while body.startswith(dash, position) and (found := _AFTER_DASH.match(body, position + len(dash))):
        closing, end = found.groups()
        if closing and end in (newline, b""):
            return
        if closing or end != newline:
            break
        start, fields = _fields(body, found.end())
        finish = _end_of_content(body, start, newline, dash)
        yield _part(fields, body[start:finish])
        position = finish + (len(newline) if body.startswith(newline, finish) else 0)
    raise InvalidRequestError(BODY_MULTIPART, f"no delimiter at byte {position}")


def _first_delimiter(body: bytes, dash: bytes) -> tuple[int, bytes]:
    """Where it stands, and the line ending that it sets for the whole body. Lines before it count for nothing."""
    position = body.find(dash)
    while position >= 0:
        found = _AFTER_DASH.match(body, position + len(dash))
        if found and (position == 0 or body[position - 1 : position] == b"\n"):
            closing, end = found.groups()
            if not closing and end:
                return position, end
            if closing and end != b"\n":
                return position, b"\r\n"
        position = body.find(dash, position + 1)
    return len(body), b""


def _fields(body: bytes, position: int) -> tuple[int, dict[str, str]]:
    """Where the content of a part starts, and its header fields, names in lower case; the first of a name counts."""
    block = _FIELDS.match(body, position)
    found = [_FIELD.match(line) for line in _LINE.findall(_FOLD.sub(b" ", block[1]))] if block else [None]
    fields: dict[str, str] = {}
    for field in found:
        if field is None:
            raise InvalidRequestError(BODY_MULTIPART, f"the header of the part at byte {position} is broken")
        fields.setdefault(field[1].decode().lower(), replace_invalid(field[2]))
    return block.end() if block else position, fields


def _end_of_content(body: bytes, start: int, newline: bytes, dash: bytes) -> int:
    """Where a part's content stops: before the line break that belongs to the next delimiter."""
    if body.startswith(dash, start) and _MAY_FOLLOW.match(body, start + len(dash)):
        return start
    end = body.find(newline + dash, start)
    while end >= 0 and not _MAY_FOLLOW.match(body, end + len(newline + dash)):
        end = body.find(newline + dash, end + 1)
    if end < 0:
        raise InvalidRequestError(BODY_MULTIPART, f"the part at byte {start} has no end")
    return end


def _part(fields: dict[str, str], content: bytes) -> Part:
    if fields.get("content-transfer-encoding", "").lower() == "quoted-printable":
        content = quopri.decodestring(content)
    # A part whose disposition does not parse has no name, and so does not count; its neighbours do.
    disposition = _media_type(fields.get("content-disposition", ""))
    name = disposition[1].get("name", "") if disposition and disposition[0] == "form-data" else ""
    return Part(name=name, content_type=fields.get("content-type", ""), content=content)


def _media_type(text: str) -> tuple[str, dict[str, str]] | None:
    """A media type or disposition and its parameters (RFC 2045 §5.1); None when it does not parse."""
    head = _MEDIA_TYPE.match(text)
    if head is None:
        return None
    parameters: dict[str, str] = {}
    position = head.end()
    while found := _PARAMETER.match(text, position):
        name, token, quoted = found.groups()
        value = token if token is not None else _QUOTED_PAIR.sub(r"\1", quoted)
        if parameters.setdefault(name.lower(), value) != value:
            return None
        position = found.end()
    return (head[1].lower(), parameters) if not text[position:].strip("; \t\r\n") else None
