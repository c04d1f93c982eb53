"""Which configured route a request is on.

Decides by the raw `:path` without its query, byte for byte: no decoding, no case folding, no dot segments,
because every normalisation that the tool's server does not share is a way around the policy (A16,
CVE-2021-29492). Must never look at a body or a token, and never fall back to a default route.

Trusts the operator's list, in its order: the first route that fits is the route.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from authz import reasons
from authz.errors import InvalidRequestError
from authz.model import Protocol
from authz.protocol import uri

if TYPE_CHECKING:
    from collections.abc import Iterable

    from authz.config import Route
    from authz.model import Check

CONNECT: Final = "CONNECT"


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
