"""Which tools an MCP server has, asked of the server itself (Streamable HTTP, 2026-07-28 and the revisions before it).

Decides which names are taken: what MCP allows as a name, and nothing else of what the server says but one hint, because
the answer comes from whoever listens there and ends in files that people read. Must never follow a redirect, read more
than MAX_BYTES, or run a tool. Trusts nothing in an answer.

Sources: MCP 2026-07-28 "Streamable HTTP" and "Tools"; MCP 2025-11-25 "Lifecycle".
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import orjson
import urllib3

from authz import __version__
from authz.config import KIB, Limits
from authz.errors import DenialError, ProgramError
from authz.protocol import strict_json
from authz.protocol.mcp import LEGACY, MODERN
from authz.protocol.sse import Event, EventReader

if TYPE_CHECKING:
    from collections.abc import Iterator

    from authz.model import JsonObject

MAX_BYTES: Final = 4 * KIB * KIB
"""Of one answer. A schema for each of a thousand tools fits."""
MAX_PAGES: Final = 50
TIMEOUT_S: Final = 10.0

_LIMITS: Final = Limits(max_body_bytes=MAX_BYTES, json_depth=64, json_keys=200_000)
_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,128}")
_SESSION: Final = re.compile(r"[\x21-\x7e]{1,1024}")
_HTTP_OK: Final = 200
_CLIENT: Final = {"name": "authz", "version": __version__}
_META: Final = "io.modelcontextprotocol/"


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedTool:
    """One tool. `says_read_only` is the server's word, which proves nothing."""

    name: str
    says_read_only: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """What a server lists, in its order, and how many entries had no name that a tool can have."""

    tools: tuple[ListedTool, ...]
    skipped: int


class _RefusedError(Exception):
    """The server answered, but not with a result."""


def list_tools(url: str) -> Listing:
    """Ask the server at `url`, in the newest revision that it speaks.

    Raises:
        ProgramError: it cannot be reached, or does not answer as an MCP server.
    """
    try:
        with urllib3.PoolManager(retries=False, timeout=TIMEOUT_S) as pool:
            return _listing(_Server(pool, url))
    except (urllib3.exceptions.HTTPError, _RefusedError, DenialError) as error:
        raise ProgramError(
            f"{url} does not list its tools: {error}",
            remedy="give the URL of its MCP endpoint, such as http://127.0.0.1:3000/mcp",
        ) from error


def _listing(server: _Server) -> Listing:
    try:
        entries = list(server.entries())
    except _RefusedError:
        server.shake_hands()
        entries = list(server.entries())
    named = {name: entry for entry in entries if (name := _name(entry))}
    tools = tuple(ListedTool(name=name, says_read_only=_hint(entry)) for name, entry in named.items())
    return Listing(tools=tools, skipped=len(entries) - len(tools))


def _name(entry: JsonObject) -> str:
    name = entry.get("name")
    return name if isinstance(name, str) and _NAME.fullmatch(name) else ""


def _hint(entry: JsonObject) -> bool:
    annotations = entry.get("annotations")
    return isinstance(annotations, dict) and annotations.get("readOnlyHint") is True


class _Server:
    """One conversation; modern until `shake_hands`."""

    def __init__(self, pool: urllib3.PoolManager, url: str) -> None:
        self._pool = pool
        self._url = url
        self._version = MODERN
        self._session = ""
        self._last_id = 0

    def entries(self) -> Iterator[JsonObject]:
        """All entries of `tools/list`, page by page."""
        cursor: dict[str, str] = {}
        for _ in range(MAX_PAGES):
            result = self._ask("tools/list", cursor)
            tools = result.get("tools")
            if not isinstance(tools, list):
                raise _RefusedError("its list of tools is no list")
            yield from (entry for entry in tools if isinstance(entry, dict))
            following = result.get("nextCursor")
            if not isinstance(following, str):
                return
            cursor = {"cursor": following}
        raise _RefusedError(f"its list of tools has more than {MAX_PAGES} pages")

    def shake_hands(self) -> None:
        """Agree on a revision before 2026-07-28."""
        self._version = LEGACY[-1]
        proposal = {"protocolVersion": self._version, "capabilities": {}, "clientInfo": _CLIENT}
        agreed = self._ask("initialize", proposal).get("protocolVersion")
        if not isinstance(agreed, str) or not re.fullmatch(r"\d{4}-\d\d-\d\d", agreed):
            raise _RefusedError("it names no protocol version")
        self._version = agreed
        self._send({"jsonrpc": "2.0", "method": "notifications/initialized"}).drain_conn()

    def _ask(self, method: str, params: dict[str, Any]) -> JsonObject:
        self._last_id += 1
        if self._version == MODERN:
            params = params | {"_meta": self._meta()}
        response = self._send({"jsonrpc": "2.0", "id": self._last_id, "method": method, "params": params})
        try:
            if response.status != _HTTP_OK:
                raise _RefusedError(f"HTTP status {response.status}")
            self._keep_session(response.headers.get("mcp-session-id", ""))
            return self._result(response)
        finally:
            response.close()

    def _meta(self) -> dict[str, object]:
        return {f"{_META}protocolVersion": MODERN, f"{_META}clientCapabilities": {}, f"{_META}clientInfo": _CLIENT}

    def _keep_session(self, session: str) -> None:
        if _SESSION.fullmatch(session):
            self._session = session

    def _send(self, message: dict[str, Any]) -> urllib3.BaseHTTPResponse:
        headers = {
            "content-type": "application/json",
            "accept": "application/json, text/event-stream",
            "accept-encoding": "identity",
            "mcp-protocol-version": self._version,
            "mcp-method": message["method"],
        }
        if self._session:
            headers["mcp-session-id"] = self._session
        return self._pool.request(
            "POST", self._url, body=orjson.dumps(message), headers=headers, redirect=False, preload_content=False
        )

    def _result(self, response: urllib3.BaseHTTPResponse) -> JsonObject:
        for body in _messages(response):
            message = strict_json.parse(body, _LIMITS).value
            if isinstance(message, dict) and message.get("id") == self._last_id:
                result = message.get("result")
                if isinstance(result, dict):
                    return result
                raise _RefusedError("it answers with an error")
        raise _RefusedError("it does not answer")


def _messages(response: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
    """The JSON-RPC messages of an answer: its body, or the events of its stream as they come."""
    if not response.headers.get("content-type", "").lower().startswith("text/event-stream"):
        yield b"".join(_chunks(response))
        return
    events = EventReader(MAX_BYTES)
    for chunk in _chunks(response):
        yield from (item.data for item in events.feed(chunk) if isinstance(item, Event) and item.data)


def _chunks(response: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
    """What arrives, as it arrives: a stream may stay open after its answer."""
    total = 0
    while chunk := response.read1(64 * KIB):
        total += len(chunk)
        if total > MAX_BYTES:
            raise _RefusedError(f"its answer is over {MAX_BYTES} bytes")
        yield chunk
