"""What the tool answered: the parts of a JSON-RPC response that a later phase judges or changes.

Decides where in a message the judged part is, and makes a tool list without the hidden tools. Must never let
through a message it could not read: an answer that cannot be judged is an error. Pure; the judging itself is the
caller's.

Trusts nothing in a response: a tool's server is no more trusted than its caller.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from authz import reasons
from authz.errors import InvalidRequestError, UnavailableError
from authz.protocol import strict_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from authz.config import Limits
    from authz.model import JsonObject, JsonValue


@dataclass(frozen=True, slots=True, kw_only=True)
class Filtered:
    """A list response without the tools named in `hidden`."""

    message: JsonObject
    hidden: tuple[str, ...]


def read(body: bytes, limits: Limits, max_bytes: int) -> JsonObject:
    """The one message that the tool's server sent.

    Raises:
        UnavailableError: REDACT_FAILED; it cannot be read strictly, so it can be neither judged nor shown.
    """
    try:
        value = strict_json.parse(body, limits, max_bytes=max_bytes).value
    except InvalidRequestError as error:
        raise _unreadable(error.reason.code) from None
    if not isinstance(value, dict):
        raise _unreadable("not an object")
    return value


def judged_part(message: JsonObject) -> str | None:
    """The RFC 6901 pointer of what a policy judges: the result, an error, or what the server asks or tells.

    None for a request or notification without parameters. Redaction pointers are relative to it (contracts §4).

    Raises:
        UnavailableError: REDACT_FAILED; it is not one JSON-RPC message.
    """
    parts = [part for part in ("result", "error", "params") if part in message]
    # A client that dispatches on `method` and one that dispatches on `result` must not see two messages.
    asks, answers = isinstance(message.get("method"), str), parts in (["result"], ["error"])
    if asks is answers or len(parts) > 1:
        raise _unreadable("not one JSON-RPC message")
    return f"/{parts[0]}" if parts else None


def filter_tools(message: JsonObject, visible: Callable[[JsonObject], bool], *, modern: bool) -> Filtered:
    """The response to `tools/list` with those tools only for which `visible` is true.

    An error response has no list and stays as it is.

    Args:
        message: the response.
        visible: asked once for each tool, with the tool's object as listed.
        modern: on 2026-07-28 results carry `cacheScope`, and a list made for one caller is theirs alone.

    Raises:
        UnavailableError: REDACT_FAILED; there is a result and it holds no list of named tools.
    """
    result = message.get("result")
    if result is None and isinstance(message.get("error"), dict):
        return Filtered(message=message, hidden=())
    # Anything but a list of named tools could hold a tool that nobody judged.
    tools = result.get("tools") if isinstance(result, dict) else None
    if not isinstance(result, dict) or not isinstance(tools, list):
        raise _unreadable("not a list of tools")
    shown: list[JsonValue] = []
    hidden: list[str] = []
    for tool in tools:
        if not isinstance(tool, dict) or not isinstance(name := tool.get("name"), str):
            raise _unreadable("a listed tool has no name")
        if visible(tool):
            shown.append(tool)
        else:
            hidden.append(name)
    # A shared cache would show one caller's tools to the next (2026-07-28, "Caching").
    scope: JsonObject = {"cacheScope": "private"} if modern else {}
    return Filtered(message={**message, "result": {**result, "tools": shown, **scope}}, hidden=tuple(hidden))


def _unreadable(detail: str) -> UnavailableError:
    return UnavailableError(reasons.REDACT_FAILED, f"the tool's answer is unreadable: {detail}")
