"""Plain HTTP APIs: one request -> one `ToolCall`.

Decides how a request reads as a tool call: the tool is `METHOD path-template`, the arguments are
`{path, query, body}`. Whatever a framework behind us could decode in another way is refused (`uri`), and a body
is JSON under our rules or a form, never raw bytes. Must never fall back to a looser reading.

Trusts the route for its templates, in their order: the first that fits names the tool.
"""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from authz import reasons
from authz.model import Tool, ToolCall
from authz.protocol import envelope, routes, strict_json, uri
from authz.protocol.strict_json import Parsed

if TYPE_CHECKING:
    from authz.config import Limits, Route
    from authz.model import Check, JsonObject


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """A path of literal segments and `{variables}`; a variable takes exactly one segment, not empty."""

    text: str
    segments: tuple[str, ...]

    def fit(self, segments: list[str]) -> dict[str, str] | None:
        """The variables' values, or None where the path is another."""
        if len(segments) != len(self.segments):
            return None
        values: dict[str, str] = {}
        for wanted, segment in zip(self.segments, segments, strict=True):
            # A variable takes a whole segment: with part of one, `/a/{x}-{y}` would fit one path in two ways.
            if wanted.startswith("{") and wanted.endswith("}") and segment:
                values[wanted[1:-1]] = segment
            elif wanted != segment:
                return None
        return values


@functools.lru_cache(maxsize=1024)
def template(text: str) -> Template:
    """The template that `text` spells."""
    return Template(text=text, segments=tuple(text.removeprefix("/").split("/")))


def parse(check: Check, route: Route, server: str, limits: Limits) -> ToolCall:
    """What the request asks for.

    Args:
        check: an admitted request (`envelope.admit`).
        route: the route it matched.
        server: `tool.server`, which no caller can choose.
        limits: bounds of the JSON.

    Raises:
        InvalidRequestError: HTTP_PATH, HTTP_QUERY, HTTP_FORM or one of the JSON reasons.
    """
    # At the first `?`: a later one is part of the query (RFC 3986 §3.4), whatever a router behind us thinks.
    raw_path, _, raw_query = check.path.partition("?")
    name, variables = _tool_name(check, route, raw_path)
    query = uri.form_fields(raw_query, reasons.HTTP_QUERY)
    body = _body(check, route, limits)
    return ToolCall(
        tool=Tool(
            server=server,
            name=f"{check.method} {name}",
            protocol=route.protocol,
            method=check.method,
            capabilities=route.capabilities,
            connector=route.connector,
        ),
        args={"path": variables, "query": query, "body": body.value},
        idempotency_key=check.headers.get("idempotency-key", ""),
        body_sha256=hashlib.sha256(check.body or b"").hexdigest(),
        simple_json=body.simple and all(map(str.isascii, query)),
        destination=routes.destination_of(check, route),
    )


def _tool_name(check: Check, route: Route, raw_path: str) -> tuple[str, JsonObject]:
    if check.method == routes.CONNECT:  # a tunnel has a destination and no path
        return check.host, {}
    segments = uri.path_segments(raw_path, reasons.HTTP_PATH)
    # Templates are fitted to decoded segments, because that is what the framework behind us fits its own to.
    for text in route.templates:
        if (values := template(text).fit(segments)) is not None:
            return text, {**values}
    # Decoded, so that `/%61dmin` is not another tool than `/admin`.
    return "/" + "/".join(segments), {}


def _body(check: Check, route: Route, limits: Limits) -> Parsed:
    if not check.body:
        return Parsed(value=None, simple=True)
    # The envelope took JSON and forms only, so what is no form is JSON.
    if not envelope.is_form(check):
        return strict_json.parse(check.body, limits, max_bytes=route.max_body_bytes)
    fields = uri.read_form(check.body, reasons.HTTP_FORM)
    return Parsed(value=fields, simple=all(map(str.isascii, fields)))
