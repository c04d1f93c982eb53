"""Step 1 of a decision: is what Envoy handed over whole, plain and of the right kind?

Decides on method, origin and headers, and on whether the body we hold is the body the tool will get. Nothing
is ever judged on a prefix (A5), on a body that an upgrade hides (A7), or on bytes that a content coding would
turn into others (C23). Must never parse the body, and never read `x-envoy-*` or `x-pdp-*` headers as facts,
but for Envoy's own mark on a partial body, which can only lead to a refusal.

Trusts Envoy for what it says of framing; trusts no header a client can set.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from authz import reasons
from authz.errors import InvalidRequestError
from authz.model import LocalAnswer, Protocol
from authz.protocol.routes import CONNECT

if TYPE_CHECKING:
    from authz.config import Route
    from authz.model import Check

# Whole values, so that `application/json, text/plain` or a second charset is another type. Only UTF-8: the judge
# and the tool must not decode one body in two ways (C23).
_JSON: Final = re.compile(r"application/json(?:[ ]*;[ ]*charset=(?:utf-8|\"utf-8\"))?", re.IGNORECASE)
_FORM: Final = re.compile(r"application/x-www-form-urlencoded(?:[ ]*;[ ]*charset=utf-8)?", re.IGNORECASE)
# POST is MCP's; GET and DELETE are those of legacy sessions, judged as calls of their own (contracts §3).
_MCP_METHODS: Final = frozenset({"POST", "GET", "DELETE"})
_WRITING: Final = frozenset({"POST", "PUT", "PATCH"})
_PREFLIGHT: Final = "access-control-request-method"
# Those that decide here and have no comma in any valid value. The mirrored headers are compared whole instead.
_SINGLE: Final = ("content-length", "mcp-session-id", "idempotency-key", "x-envoy-auth-partial-body")
# Browsers keep a preflight's answer for so long; a route that loses an origin loses it after this at the latest.
_PREFLIGHT_MAX_AGE_S: Final = 600


def admit(check: Check, route: Route) -> LocalAnswer | None:
    """Let the request through to identity and parsing, or answer a CORS preflight here and now.

    Returns:
        None to go on; a `LocalAnswer` for a preflight from a listed origin.

    Raises:
        InvalidRequestError: with the reason of the first rule that fails.
    """
    # The order is part of the contract: what the bytes are comes before what they say, and a refusal that the
    # caller can act on (an origin, an upgrade) before one that only follows from it (an absent body).
    _headers(check)
    if preflight := _preflight(check, route):
        return preflight
    _method(check, route)
    _origin(check, route)
    _framing(check)
    if check.method != CONNECT:
        _body(check, route)
    return None


def is_form(check: Check) -> bool:
    """Whether the body is declared as a URL-encoded form."""
    return _FORM.fullmatch(check.headers.get("content-type", "")) is not None


def _headers(check: Check) -> None:
    # Envoy replaces invalid bytes in the copy that we see, not in what it forwards (A12): every value must be
    # visible ASCII or space, so that both copies are the same.
    values = "".join(check.headers.values())
    if not (values.isascii() and values.isprintable()):
        raise InvalidRequestError(reasons.HEADER_BYTES)
    for name in _SINGLE:
        if "," in check.headers.get(name, ""):  # a repeated header arrives joined by commas (A13)
            raise InvalidRequestError(reasons.HEADER_DUPLICATE, f"`{name}` is repeated")


def _preflight(check: Check, route: Route) -> LocalAnswer | None:
    """Answer a CORS preflight (Fetch §3.3): it carries no token and no body, so nothing behind us may see it."""
    if check.method != "OPTIONS" or _PREFLIGHT not in check.headers or "origin" not in check.headers:
        return None
    _origin(check, route)
    methods = _MCP_METHODS if route.protocol is Protocol.MCP else route.methods or (check.headers[_PREFLIGHT],)
    return LocalAnswer(
        http_status=204,
        headers={
            "access-control-allow-origin": check.headers["origin"],
            "access-control-allow-methods": ", ".join(sorted(methods)),
            "access-control-allow-headers": check.headers.get("access-control-request-headers", ""),
            "access-control-max-age": str(_PREFLIGHT_MAX_AGE_S),
            "vary": "origin",
        },
    )


def _method(check: Check, route: Route) -> None:
    # Methods are case-sensitive (RFC 9110 §9.1): `post` is another method than POST.
    if route.protocol is Protocol.MCP:
        known = check.method in _MCP_METHODS
    elif route.protocol is Protocol.HTTP and route.methods:
        known = check.method in route.methods
    else:
        known = check.method not in ("", "TRACE") and (check.method != CONNECT or route.protocol is Protocol.PROXY)
    if not known:
        raise InvalidRequestError(reasons.METHOD_UNKNOWN)


def _origin(check: Check, route: Route) -> None:
    """A browser names the page that asks: DNS rebinding and drive-by pages stop here (C22, MCP transports)."""
    origin = check.headers.get("origin")
    if origin is not None and origin not in route.origins:
        raise InvalidRequestError(reasons.ORIGIN)


def _framing(check: Check) -> None:
    headers = check.headers
    # Envoy sends no body to ext_authz with an upgrade, whatever the upstream is sent later; extended CONNECT
    # (RFC 8441) is the same over HTTP/2.
    tokens = headers["connection"].split(",") if "connection" in headers else ()
    if "upgrade" in headers or ":protocol" in headers or "upgrade" in map(_folded, tokens):
        raise InvalidRequestError(reasons.MCP_BODY_UPGRADE)
    # Envoy sets this itself when it may cut bodies. Only its plain "false" is believed.
    if headers.get("x-envoy-auth-partial-body", "false") != "false":
        raise InvalidRequestError(reasons.MCP_BODY_PARTIAL)
    # The tool's framework would decode it; we would judge other bytes than it runs (C23).
    if "content-encoding" in headers and headers["content-encoding"].lower() != "identity":
        raise InvalidRequestError(reasons.CONTENT_ENCODING)


def _folded(token: str) -> str:
    return token.strip().lower()


def _body(check: Check, route: Route) -> None:
    body = check.body or b""
    if not body and check.method == "POST" and route.protocol is Protocol.MCP:
        raise InvalidRequestError(reasons.MCP_BODY_MISSING)
    if not body and check.method in _WRITING and _announces_body(check):
        raise InvalidRequestError(reasons.MCP_BODY_MISSING)
    # A GET with a body is dropped by some servers and read by others.
    if body and check.method != "POST" and route.protocol is Protocol.MCP:
        raise InvalidRequestError(reasons.MCP_BODY_UNEXPECTED)
    if body and not _is_taken(check, route):
        raise InvalidRequestError(reasons.CONTENT_TYPE)
    # Over HTTP/2 there may be no length; then the bytes held are the body (A6). Compared as text, so that no
    # second spelling of a number (`+46`, `046`) is left to another parser to read otherwise.
    if check.headers.get("content-length") not in (None, str(len(body))):
        raise InvalidRequestError(reasons.MCP_BODY_LENGTH)
    if len(body) > route.max_body_bytes:
        raise InvalidRequestError(reasons.MCP_BODY_TOO_LARGE, f"the limit is {route.max_body_bytes} bytes")


def _announces_body(check: Check) -> bool:
    """Whether the headers speak of a body, so that none in the check means that Envoy did not send it along."""
    if check.headers.get("content-length") == "0":
        return False
    return "content-type" in check.headers or "transfer-encoding" in check.headers


def _is_taken(check: Check, route: Route) -> bool:
    declared = check.headers.get("content-type", "")
    if declared == "application/json" or _JSON.fullmatch(declared):
        return True
    return route.protocol is not Protocol.MCP and is_form(check)
