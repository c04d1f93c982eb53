"""Messages of the control plane's API, as every command prints them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from google.protobuf import json_format

if TYPE_CHECKING:
    from google.protobuf.message import Message
    from google.protobuf.timestamp_pb2 import Timestamp


def as_json(message: Message) -> dict[str, Any]:
    """`message` as a JSON object, with the field names of the `.proto` files."""
    return json_format.MessageToDict(message, preserving_proto_field_name=True)


def instant(timestamp: Timestamp) -> str:
    """UTC to the second (RFC 3339)."""
    return datetime.fromtimestamp(timestamp.ToSeconds(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
