"""Requests and answers in their two forms: protobuf's bytes, and proto3 JSON (https://protobuf.dev/programming-guides/json).

Decides which messages are well-formed: JSON without unknown or repeated fields, text without control characters, spans
of time that fit. What passes can be stored by both databases. Must never repeat what a caller wrote in a refusal.
Pure. Trusts nothing.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

import orjson
from google.protobuf import json_format
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError, Message
from google.protobuf.timestamp_pb2 import Timestamp

from authz.config import KIB, Limits
from authz.control.callers import ALL_TENANTS
from authz.control.refusals import Code, RefusedError, malformed
from authz.errors import InvalidRequestError
from authz.protocol import strict_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from google.protobuf.descriptor import FieldDescriptor

MAX_TENANT_BYTES: Final = 256
MAX_SPAN_S: Final = 10 * 366 * 24 * 3600
MAX_INSTANT_S: Final = 2**33
"""In the year 2242: nanoseconds still fit 64 bits."""
MAX_BODY_BYTES: Final = 1024 * KIB

# NUL is no text in PostgreSQL, and none of these is one in a name; a sentence or a document may have lines.
_CONTROL: Final = re.compile("[\x00-\x1f\x7f]")
_WITH_LINES: Final = frozenset({"reason", "purpose", "public_jwk"})
_LINES: Final = str.maketrans("\t\r\n", "   ")
_LIMITS: Final = Limits(max_body_bytes=MAX_BODY_BYTES)
_NS: Final = 1_000_000_000
_M = TypeVar("_M", bound=Message)


class Form(Protocol):
    """How messages are written."""

    def read(self, body: bytes, message: type[_M]) -> _M:
        """A request.

        Raises:
            RefusedError: INVALID_ARGUMENT.
        """
        ...

    def write(self, message: Message) -> bytes:
        """An answer."""
        ...


class Binary:
    """Protobuf's own."""

    @staticmethod
    def read(body: bytes, message: type[_M]) -> _M:
        """See `Form`."""
        try:
            parsed = message.FromString(body)
        except DecodeError:
            raise malformed("not a message of this type") from None
        _require_plain(parsed)
        return parsed

    @staticmethod
    def write(message: Message) -> bytes:
        """See `Form`."""
        return message.SerializeToString()


class Json:
    """Proto3 JSON: names in lowerCamelCase, or as in the proto where read."""

    @staticmethod
    def read(body: bytes, message: type[_M]) -> _M:
        """See `Form`."""
        try:
            document = strict_json.parse(body, _LIMITS).value
        except InvalidRequestError as error:
            raise RefusedError(Code.INVALID_ARGUMENT, error.reason) from None
        if not isinstance(document, dict):
            raise malformed("not a JSON object")
        parsed = message()
        try:
            json_format.ParseDict(document, parsed)
        except (json_format.ParseError, ValueError, TypeError, OverflowError, AttributeError):
            # Its messages repeat the caller's values.
            raise malformed("fields that are unknown, ill-typed or given twice") from None
        _require_plain(parsed)
        return parsed

    @staticmethod
    def write(message: Message) -> bytes:
        """See `Form`."""
        return orjson.dumps(json_format.MessageToDict(message))


def _require_plain(message: Message, path: str = "") -> None:
    """Refuse what a database could not hold, or what would read as something else.

    Raises:
        RefusedError: INVALID_ARGUMENT, naming the field.
    """
    for field, value in _values(message):
        where = f"{path}{field.name}"
        if isinstance(value, str):
            _require_text(value, field.name, where)
        elif isinstance(value, Duration):
            if not 0 <= value.seconds <= MAX_SPAN_S or value.nanos < 0:
                raise malformed(f"`{where}` is negative or over ten years")
        elif isinstance(value, Timestamp):
            if not 0 <= value.seconds <= MAX_INSTANT_S or not 0 <= value.nanos < _NS:
                raise malformed(f"`{where}` is not a time of this age")
        elif isinstance(value, Message):
            _require_plain(value, f"{where}.")


def _values(message: Message) -> Iterator[tuple[FieldDescriptor, Any]]:
    """Every value that is set, those of lists one by one."""
    for field, value in message.ListFields():
        if field.is_repeated:
            yield from ((field, item) for item in value)
        else:
            yield field, value


def _require_text(value: str, name: str, where: str) -> None:
    if _CONTROL.search(value.translate(_LINES) if name in _WITH_LINES else value):
        raise malformed(f"`{where}` holds a control character")
    # `*` in a request would be taken for every tenant by whoever compares it with a grant; grants alone may say it.
    is_tenant = name in {"tenant", "tenants", "stream"} and not where.endswith("grants.tenant")
    if is_tenant and (value == ALL_TENANTS or len(value.encode()) > MAX_TENANT_BYTES):
        raise malformed(f"`{where}` is not the name of one tenant")
