"""Request bodies as opa-envoy-plugin reads them: `parsed_body` and `truncated_body`.

Decides by content type which reading applies: JSON, form, multipart, gRPC with a descriptor, or none
(null). A body that Envoy cut short is null and truncated, whatever is in it: nothing is ever read off a
prefix. Must never guess: a body that does not read as its content type says is refused.

Trusts nothing but the descriptor file that the operator gave. Stricter than the plugin in one way: JSON
that repeats a key is refused, because the tool behind may keep the other value (C1).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, Self

import jiter
import orjson
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory
from google.protobuf.message import DecodeError

from authz.edge.plugin_multipart import boundary_of, parts
from authz.edge.plugin_url import parsed_query, replace_invalid
from authz.errors import ConfigError, InvalidRequestError
from authz.reasons import (
    BODY_GRPC,
    HTTP_FORM,
    JSON_DEPTH,
    JSON_DUP_KEY,
    JSON_SYNTAX,
    MCP_BODY_LENGTH,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from google.protobuf.message import Message

    from authz.model import JsonValue

TRUNCATED: Final = (None, True)
UNREAD: Final = (None, False)

_GRPC: Final = "application/grpc"
_INTEGER: Final = re.compile(r"[+-]?[0-9]{1,40}")
_INT64: Final = range(-(2**63), 2**63)
_LONE_SURROGATE: Final = re.compile(
    r"(\\[^u]|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})|\\u[dD][89a-fA-F][0-9a-fA-F]{2}"
)
_FRAME: Final = 5
"""Bytes before a gRPC message: one compression flag, four of length (gRPC over HTTP/2)."""


def parsed_body(
    headers: Mapping[str, str], content: bytes, raw: bytes, segments: list[str], grpc_methods: GrpcMethods | None
) -> tuple[JsonValue, bool]:
    """`parsed_body` and `truncated_body` of one request.

    Args:
        headers: as Envoy sent them, names in lower case.
        content: the body, from `body` or else from `raw_body`.
        raw: `raw_body` alone; a gRPC message is read from nothing else.
        segments: `parsed_path`, which names a gRPC method.
        grpc_methods: None leaves gRPC bodies unread.

    Raises:
        InvalidRequestError: the body or its length header cannot be read.
    """
    # Envoy's own word, right also where there is no content-length (HTTP/2, chunks).
    if headers.get("x-envoy-auth-partial-body") == "true":
        return TRUNCATED
    content_type = headers.get("content-type", "")
    kind = next((kind for kind in _KINDS if kind in content_type), None)
    if kind == _GRPC:
        return grpc_methods.read(raw, segments) if grpc_methods and raw else UNREAD
    if kind is None or not content:
        return UNREAD
    if _is_cut(headers.get("content-length"), len(content)):
        return TRUNCATED
    return _READERS[kind](content, content_type), False


def _is_cut(content_length: str | None, received: int) -> bool:
    if content_length is None:
        return False
    if not _INTEGER.fullmatch(content_length) or (announced := int(content_length)) not in _INT64:
        raise InvalidRequestError(MCP_BODY_LENGTH, "content-length is not an integer")
    return announced > received


def _json(content: bytes, _content_type: str = "") -> JsonValue:
    """The caller's own JSON, checked and passed on byte for byte, so that no digit of a number is lost."""
    try:
        _check_json(content)
    except ValueError as error:
        if "duplicate key" in str(error):  # jiter's text goes no further: it repeats the key
            raise InvalidRequestError(JSON_DUP_KEY) from None
        if "recursion limit" in str(error):
            raise InvalidRequestError(JSON_DEPTH) from None
        content = _repaired(content)
    return orjson.Fragment(content)  # type: ignore[return-value]  # written as the JSON that it holds


def _check_json(content: bytes) -> None:
    jiter.from_json(
        content, catch_duplicate_keys=True, allow_inf_nan=False, float_mode="lossless-float", cache_mode="none"
    )


def _repaired(content: bytes) -> bytes:
    """U+FFFD for what is not Unicode, as Go's encoding/json reads it; any other fault stands."""
    text = _LONE_SURROGATE.sub(lambda found: found[1] or r"\ufffd", replace_invalid(content)).encode()
    try:
        _check_json(text)
    except ValueError:
        raise InvalidRequestError(JSON_SYNTAX) from None
    return text


def _form(content: bytes, _content_type: str) -> JsonValue:
    return parsed_query(replace_invalid(content), HTTP_FORM)


def _multipart(content: bytes, content_type: str) -> JsonValue:
    boundary = boundary_of(content_type)
    if boundary is None:
        return None
    values: dict[str, list[JsonValue]] = {}
    for part in parts(content, boundary):
        if part.name:
            value = _json(part.content) if "application/json" in part.content_type else replace_invalid(part.content)
            values.setdefault(part.name, []).append(value)
    return dict(values)


_READERS: Final = {
    "application/json": _json,
    "application/x-www-form-urlencoded": _form,
    "multipart/form-data": _multipart,
}
_KINDS: Final = ("application/json", _GRPC, "application/x-www-form-urlencoded", "multipart/form-data")
"""Looked for in a content type in the plugin's order, and in its case."""


class GrpcMethods:
    """The unary request messages of a `FileDescriptorSet`, as `protoc --include_imports` writes it.

    Raises:
        ConfigError: the bytes are no such set, or a file in it lacks an import.
    """

    def __init__(self, descriptor_set: bytes) -> None:
        self._pool = descriptor_pool.DescriptorPool()
        try:
            for file in descriptor_pb2.FileDescriptorSet.FromString(descriptor_set).file:
                self._pool.Add(file)
        except (DecodeError, TypeError) as error:
            raise ConfigError(
                "proto-descriptor is not a complete FileDescriptorSet",
                remedy="write it with `protoc --include_imports --descriptor_set_out=FILE`",
            ) from error

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read the set from a file.

        Raises:
            ConfigError: it cannot be read, or is no set.
        """
        try:
            return cls(path.read_bytes())
        except OSError as error:
            raise ConfigError(f"{path}: {error.strerror}") from error

    def read(self, raw: bytes, segments: list[str]) -> tuple[JsonValue, bool]:
        """The first message of a gRPC body; null for a method that is not known and for compressed messages.

        Raises:
            InvalidRequestError: BODY_GRPC where the frame, the path or the message is broken.
        """
        if len(segments) != 2:  # noqa: PLR2004 - service and method
            raise InvalidRequestError(BODY_GRPC, "the path is not /service/method")
        if len(raw) < _FRAME:
            raise InvalidRequestError(BODY_GRPC, "the frame is shorter than its header")
        size = int.from_bytes(raw[1:_FRAME])
        if raw[0]:
            return UNREAD
        if size > len(raw) - _FRAME:
            return TRUNCATED
        message = self._request_of(*segments)
        return UNREAD if message is None else (_decoded(message, raw[_FRAME : _FRAME + size]), False)

    def _request_of(self, service: str, method: str) -> Message | None:
        try:
            found = self._pool.FindServiceByName(service).methods_by_name[method]
        except KeyError:
            return None
        if found.client_streaming:
            return None
        return message_factory.GetMessageClass(found.input_type)()


def _decoded(message: Message, content: bytes) -> JsonValue:
    try:
        message.ParseFromString(content)
        document: JsonValue = json_format.MessageToDict(message)
    except (DecodeError, json_format.Error, ValueError):
        raise InvalidRequestError(BODY_GRPC, "the message does not decode") from None
    return document
