"""What a caller without a good token is told: the RFC 9728 document, and the challenge that points at it.

Decides the exact text of `WWW-Authenticate` (RFC 6750 section 3, RFC 9449 section 7.1, RFC 9728 section 5.1, MCP
authorization) and where the document lies. Must never echo what a caller sent except a host that is a plain authority,
and never lets a value leave its quotes: what cannot be quoted is left out (A14).

A route's `resource` should be configured. Without it the URL is put together from the scheme and host of the request,
which the caller chose: it then misleads only itself, because the answer is its own, but a proxy in front that
rewrites the host makes a name that clients must refuse (RFC 9728 section 3.3).
"""

from __future__ import annotations

import json
import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from authz.errors import InvalidRequestError
from authz.identity import bearer
from authz.identity.keys import ALGORITHMS
from authz.model import LocalAnswer, Protocol
from authz.reasons import (
    CLOCK_STEP,
    JWKS_UNAVAILABLE,
    METHOD_UNKNOWN,
    SCOPE,
    TOKEN_BINDING,
    TOKEN_MISSING,
    TOKEN_MULTIPLE,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from authz.config import Config, Route
    from authz.model import Check, JsonObject
    from authz.reasons import Reason

WELL_KNOWN: Final = "/.well-known/oauth-protected-resource"
_PROOF_ALGORITHMS: Final = sorted(ALGORITHMS)
_QUOTABLE: Final = re.compile(r"[ !#-\[\]-~]+")
_AUTHORITY: Final = re.compile(r"(?:[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?")
# The document is public and browsers' clients read it from anywhere; it is made for each request's host.
_HEADERS: Final = {
    "content-type": "application/json",
    "cache-control": "no-store",
    "access-control-allow-origin": "*",
}


def answer(check: Check, config: Config) -> LocalAnswer | None:
    """The metadata document, where `check` asks for that of a route; None for any other request.

    Raises:
        InvalidRequestError: `METHOD_UNKNOWN`, the document is only read.
    """
    path = resource_path(check.path)
    route = None if path is None else _route_at(path, check.host, config.routes)
    if route is None:
        return None
    if check.method not in ("GET", "HEAD"):
        raise InvalidRequestError(METHOD_UNKNOWN)
    servers = [issuer.issuer for issuer in config.issuers]
    document = resource_metadata(resource_of(route, check), authorization_servers=servers, scopes=route.scopes)
    body = json.dumps(document).encode() if check.method == "GET" else b""
    return LocalAnswer(http_status=HTTPStatus.OK, headers=_HEADERS, body=body)


def challenge(reason: Reason, check: Check, route: Route | None, *, is_dpop: bool | None = None) -> str:
    """The value of `WWW-Authenticate` for a 401, or for a 403 that more scopes would cure; empty for any other.

    Its scheme is the one that was used, or as `is_dpop` says (RFC 9449 section 7.1).
    """
    scopes = route.scopes if route else ()
    parameters = _error(reason, scopes)
    if parameters is None:
        return ""
    dpop = bearer.is_dpop(check.headers) if is_dpop is None else is_dpop
    if dpop and reason is TOKEN_BINDING:
        parameters[0] = ("error", "invalid_dpop_proof")
    if dpop:
        parameters.append(("algs", " ".join(_PROOF_ALGORITHMS)))
    location = metadata_url(resource_of(route, check)) if route else ""
    parameters += [("scope", " ".join(scopes)), ("resource_metadata", location)]
    written = ", ".join(f'{name}="{value}"' for name, value in parameters if _QUOTABLE.fullmatch(value))
    return f"{'DPoP' if dpop else 'Bearer'} {written}".rstrip()


def resource_metadata(resource: str, *, authorization_servers: list[str], scopes: Sequence[str] = ()) -> JsonObject:
    """The protected resource metadata document (RFC 9728 section 2)."""
    document: JsonObject = {
        "resource": resource,
        "authorization_servers": [*authorization_servers],
        "bearer_methods_supported": ["header"],
        "dpop_signing_alg_values_supported": [*_PROOF_ALGORITHMS],
    }
    return document | {"scopes_supported": [*scopes]} if scopes else document


def resource_path(path: str) -> str | None:
    """The path whose metadata a request for the raw `path` asks for, `/` for the root's; None if it asks for none."""
    bare = path.partition("?")[0]
    if bare != WELL_KNOWN and not bare.startswith(f"{WELL_KNOWN}/"):
        return None
    return bare.removeprefix(WELL_KNOWN) or "/"


def metadata_url(resource: str) -> str:
    """Where the document of `resource` lies: well-known goes between host and path (RFC 9728 section 3.1)."""
    if not resource:
        return ""
    parts = urlsplit(resource)
    query = f"?{parts.query}" if parts.query else ""
    return f"{parts.scheme}://{parts.netloc}{WELL_KNOWN}{parts.path.rstrip('/')}{query}"


def resource_of(route: Route, check: Check) -> str:
    """The route's resource identifier; empty if none is configured and the request's host is no plain authority."""
    authority = check.host.lower()
    if route.resource or check.scheme not in ("http", "https") or not _AUTHORITY.fullmatch(authority):
        return route.resource
    return f"{check.scheme}://{authority}{_path(route).rstrip('/')}"


def _path(route: Route) -> str:
    return route.path or route.path_prefix or "/"


def _route_at(path: str, host: str, routes: Sequence[Route]) -> Route | None:
    """The first route at `path`; clients that know no path ask at the root, and are told of the first route."""
    here = [
        route
        for route in routes
        if route.protocol is not Protocol.PROXY and (route.host is None or route.host.lower() == host.lower())
    ]
    exact = (route for route in here if path in {_path(route), _path(route).rstrip("/")})
    return next(exact, here[0] if here and path == "/" else None)


def _error(reason: Reason, scopes: Sequence[str]) -> list[tuple[str, str]] | None:
    """RFC 6750 section 3.1's error, none where no token came; None where no challenge belongs."""
    if reason is SCOPE and scopes:
        return [("error", "insufficient_scope"), ("error_description", reason.summary)]
    if reason.http_status != HTTPStatus.UNAUTHORIZED:
        return None
    # Without keys or a clock the token may be good: a client must not throw it away.
    if reason in (TOKEN_MISSING, JWKS_UNAVAILABLE, CLOCK_STEP):
        return []
    error = "invalid_request" if reason is TOKEN_MULTIPLE else "invalid_token"
    return [("error", error), ("error_description", reason.summary)]
