"""Which configured route a request is on.

Decides by the raw `:path` without its query, byte for byte: no decoding, no case folding, no dot segments,
because every normalisation that the tool's server does not share is a way around the policy (A16,
CVE-2021-29492). Must never look at a body or a token, and never fall back to a default route.

Trusts the operator's list, in its order: the first route that fits is the route.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from authz import destination, reasons
from authz.destination import Destination
from authz.errors import InvalidRequestError
from authz.model import Protocol
from authz.protocol import uri

if TYPE_CHECKING:
    from collections.abc import Iterable

    from authz.config import Route
    from authz.model import Check

CONNECT: Final = "CONNECT"
_PORTS: Final = {"http": 80, "https": 443}


def match(check: Check, routes: Iterable[Route]) -> Route:
    """The first route whose host and path are the request's.

    Raises:
        InvalidRequestError: PATH_UNKNOWN; HTTP_PATH where a prefix fits but the rest is ambiguous.
    """
    # `:path` is never given to a URL parser: `//host/x` would become an authority (CVE-2026-26205).
    path = check.path.partition("?")[0]
    for route in routes:
        if route.host is not None and route.host.lower() != check.host.lower():
            continue
        if check.method == CONNECT:
            # A CONNECT names a host and may have no path at all (CVE-2026-73547); only a proxy takes one.
            if route.protocol is Protocol.PROXY:
                return route
        elif route.path is not None:
            if path == route.path:
                return route
        elif path.startswith(route.path_prefix or "/"):
            # What the operator did not write out must at least have one meaning, or `/api/..;/admin` is in `/api/`.
            uri.path_segments(path, reasons.HTTP_PATH)
            return route
    raise InvalidRequestError(reasons.PATH_UNKNOWN)


def destination_of(check: Check, route: Route) -> Destination | None:
    """Where the call leads: what the operator says of the route, or what the request asks of a proxy.

    Raises:
        InvalidRequestError: HTTP_HOST, a proxy is asked for a host that can be read in two ways, and so could slip by a
            kill (E10).
    """
    if route.protocol is not Protocol.PROXY:
        return destination.parse(route.destination) if route.destination else None
    try:
        asked = destination.parse(check.host)
    except ValueError as error:
        raise InvalidRequestError(reasons.HTTP_HOST, str(error)) from None
    port = asked.port or _PORTS.get(check.scheme, 0)
    if check.method == CONNECT and not asked.port:
        raise InvalidRequestError(reasons.HTTP_HOST, "CONNECT names no port")  # RFC 9110 section 9.3.6
    return Destination(asked.host, port)
