"""`CheckRequest` -> the input document of opa-envoy-plugin, exactly (contract `envoy`).

Decides what a policy written for the plugin sees: every field that is set, under its lowerCamelCase name,
enums and 64-bit integers as numbers, bytes as base64, timestamps as `{seconds, nanos}`; beside them
`parsed_path`, `parsed_query`, `parsed_body`, `truncated_body`, `version` and `source_principal`. A field
that is not set is absent, never null. Must never judge: what cannot be read is refused with a reason, and
everything else is the policy's to weigh.

Trusts that Envoy made the request; what is inside it is the caller's.
"""

from __future__ import annotations

import math
from base64 import b64encode
from typing import TYPE_CHECKING, Any, Final

from authz.edge.plugin_body import parsed_body
from authz.edge.plugin_url import parsed_path, parsed_query

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from google.protobuf.descriptor import FieldDescriptor
    from google.protobuf.message import Message
    from google.protobuf.struct_pb2 import Struct, Value

    from authz.edge.plugin_body import GrpcMethods
    from authz.model import JsonObject, JsonValue

_VERSION: Final = {"ext_authz": "v3", "encoding": "protojson"}
_WHOLE: Final = 1e6
"""Go writes a double below this without an exponent, so a whole one is an integer to Rego; above, a float."""


def plugin_input(request: Message, *, parse_body: bool = True, grpc_methods: GrpcMethods | None = None) -> JsonObject:
    """The input document of one `envoy.service.auth.v3.CheckRequest`.

    `parsed_body` may hold an `orjson.Fragment` of the caller's own JSON, so that numbers reach the policy
    digit for digit; the document is for `orjson.dumps`.

    Args:
        request: the parsed message.
        parse_body: False is the plugin's `skip-request-body-parse`.
        grpc_methods: how to read gRPC bodies, from the plugin's `proto-descriptor`.

    Raises:
        InvalidRequestError: the path, the query or the body cannot be read (HTTP 400, as the plugin answers).
    """
    document = _message(request)
    attributes: Any = document.get("attributes", {})
    http = attributes.get("request", {}).get("http", {})
    path, _, query = http.get("path", "").partition("?")
    document["version"] = dict(_VERSION)
    segments = parsed_path(path)
    document["parsed_path"] = [*segments]
    document["parsed_query"] = parsed_query(query)
    if parse_body:
        raw: bytes = request.attributes.request.http.raw_body  # type: ignore[attr-defined]  # no stubs exist
        content = http["body"].encode() if "body" in http else raw
        document["parsed_body"], document["truncated_body"] = parsed_body(
            http.get("headers", {}), content, raw, segments, grpc_methods
        )
    if principal := attributes.get("source", {}).get("principal"):
        document["source_principal"] = principal
    return document


def _message(message: Message) -> JsonObject:
    # `ListFields` gives what is set and nothing else, with presence where the field has it: Go's `Range` does too.
    document: JsonObject = {}
    for field, value in message.ListFields():
        name, write = _FIELDS.get(field) or _learn(field)
        document[name] = write(value) if write else value
    return document


_FIELDS: Final[dict[FieldDescriptor, tuple[str, Callable[[Any], JsonValue] | None]]] = {}
"""JSON name and writer of each field met so far; None leaves the value as it is."""


def _learn(field: FieldDescriptor) -> tuple[str, Callable[[Any], JsonValue] | None]:
    write = _writer(field)
    kind = field.message_type
    if kind is not None and kind.GetOptions().map_entry:
        write = _each(_writer(kind.fields_by_name["value"]))
    elif field.is_repeated:
        write = _every(write)
    _FIELDS[field] = field.json_name, write
    return _FIELDS[field]


def _writer(field: FieldDescriptor) -> Callable[[Any], JsonValue] | None:
    if field.message_type is not None:
        return _struct if field.message_type.full_name == "google.protobuf.Struct" else _message
    if field.type == field.TYPE_BYTES:
        return _base64
    return None


def _each(write: Callable[[Any], JsonValue] | None) -> Callable[[Mapping[str, Any]], JsonValue]:
    # `dict` copies a map of plain values in C; headers are most of a request.
    return dict if write is None else lambda entries: {key: write(value) for key, value in entries.items()}


def _every(write: Callable[[Any], JsonValue] | None) -> Callable[[Sequence[Any]], JsonValue]:
    return list if write is None else lambda items: [write(item) for item in items]


def _base64(value: bytes) -> str:
    return b64encode(value).decode()


def _struct(struct: Struct) -> JsonObject:
    return {key: _value(value) for key, value in struct.fields.items()}


def _value(value: Value) -> JsonValue:
    match value.WhichOneof("kind"):
        case "struct_value":
            return _struct(value.struct_value)
        case "list_value":
            return [_value(item) for item in value.list_value.values]
        case "string_value":
            return value.string_value
        case "bool_value":
            return value.bool_value
        case "number_value":
            return _number(value.number_value)
        case _:
            return None


def _number(number: float) -> JsonValue:
    # JSON has no such numbers; Go writes their names as strings.
    if not math.isfinite(number):
        return {math.inf: "Infinity", -math.inf: "-Infinity"}.get(number, "NaN")
    return int(number) if abs(number) < _WHOLE and number.is_integer() else number
