"""The JSON-RPC 2.0 envelope as MCP narrows it (MCP "Messages", JSON-RPC 2.0 §4).

Decides whether a parsed body is exactly one request, notification or response, and reads its id. Members
outside the specification are never read. Must never accept a batch: they left MCP with 2025-06-18, and have
been used to get calls past scope checks and audit (C10).

Trusts `strict_json` for the uniqueness of names, and nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from authz import reasons
from authz.errors import InvalidRequestError
from authz.value import value

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from authz.model import JsonObject, JsonValue

MAX_ID_BYTES: Final = 256
"""Longest string id; it is echoed in answers and kept in records."""

# Folded form to exact form; all of JSON-RPC's own members are in lower case.
_MEMBERS: Final = {name: name for name in ("jsonrpc", "id", "method", "params", "result", "error")}


@value
class Message:
    """One message. `method` is empty for a response; `params` is empty where there are none."""

    method: str
    params: JsonObject
    id: str | int | None = None

    @property
    def is_response(self) -> bool:
        """A result or an error, sent by the client in answer to the server's own request."""
        return not self.method

    @property
    def is_notification(self) -> bool:
        """A request that wants no answer."""
        return self.id is None


def read(value: JsonValue) -> Message:
    """The one message that `value` is.

    Raises:
        InvalidRequestError: MCP_BATCH, MCP_ENVELOPE, MCP_PARAMS or JSON_KEY_FOLD, with `message_id` set as
            soon as the id could be read.
    """
    if isinstance(value, list):
        raise InvalidRequestError(reasons.MCP_BATCH)
    if not isinstance(value, dict):
        raise InvalidRequestError(reasons.MCP_ENVELOPE, "the message is not an object")
    # The id comes first, so that whatever is wrong with the rest is answered to the right request.
    message_id = _id(value)
    try:
        return _message(value, message_id)
    except InvalidRequestError as error:
        error.message_id = message_id
        raise


def refuse_folded(names: Iterable[str], known: Mapping[str, str]) -> None:
    """Refuse a name that equals a known one (a value of `known`, keyed by its folded form) only after folding (C2).

    Some decoders match names without regard to case, by Unicode folding (U+017F is `s`, U+212A is `k`); to
    them `METHOD` beside `method` is a second method, and the last one wins.

    Raises:
        InvalidRequestError: JSON_KEY_FOLD.
    """
    for name in names:
        # A known name in lower case is itself when folded; only the others need the costly look.
        if known.get(name) != name and known.get(name.casefold(), name) != name:
            raise InvalidRequestError(reasons.JSON_KEY_FOLD)


def _id(message: JsonObject) -> str | int | None:
    """The id, or None where it is absent. MCP forbids null; fractions do not survive every reader (C11)."""
    if "id" not in message:
        return None
    message_id = message["id"]
    if isinstance(message_id, str) and len(message_id.encode()) <= MAX_ID_BYTES:
        return message_id
    # A bool is an int to Python and not to JSON.
    if isinstance(message_id, int) and not isinstance(message_id, bool):
        return message_id
    raise InvalidRequestError(reasons.MCP_ENVELOPE, "the id is neither an integer nor a string of at most 256 bytes")


def _message(message: JsonObject, message_id: str | int | None) -> Message:
    refuse_folded(message, _MEMBERS)
    if message.get("jsonrpc") != "2.0":
        raise InvalidRequestError(reasons.MCP_ENVELOPE, 'jsonrpc is not "2.0"')
    # By the presence of the member, not by its value: `"result": null` is a result all the same.
    if "result" in message or "error" in message:
        return _response(message, message_id)
    method = message.get("method")
    if not isinstance(method, str) or not method:
        raise InvalidRequestError(reasons.MCP_ENVELOPE, "method is not a string")
    params = message.get("params", {})
    if not isinstance(params, dict):  # JSON-RPC allows positional parameters, MCP does not
        raise InvalidRequestError(reasons.MCP_PARAMS, "params is not an object")
    return Message(method=method, params=params, id=message_id)


def _response(message: JsonObject, message_id: str | int | None) -> Message:
    # A server may dispatch on `method` first and another on `result`: one of them runs what we took for an answer.
    if "method" in message or "params" in message or ("result" in message and "error" in message):
        raise InvalidRequestError(reasons.MCP_ENVELOPE, "both a request and a response")
    if message_id is None:
        raise InvalidRequestError(reasons.MCP_ENVELOPE, "a response without an id")
    return Message(method="", params={}, id=message_id)
