"""The one access token of a request (RFC 6750 section 2.1, RFC 9449 section 7.1).

Decides which header value is the token. Must never choose between two: where a request carries several, in several
headers or several places, each hop could believe another one, so it is refused (A11).
Trusts the edge to have joined repeated headers with a comma, and no other header: identity is not read from
`x-…` names, cookies or metadata (A13, A15).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote_plus

from authz.errors import InvalidRequestError
from authz.reasons import TOKEN_MALFORMED, TOKEN_MISSING, TOKEN_MULTIPLE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

DPOP: Final = "dpop"
_TOKEN_NAMES: Final = frozenset({"access_token", "authorization", "bearer"})
"""Where else tokens are put: RFC 6750 section 2.3's query parameter, and what cookies use for the same."""


def from_headers(headers: Mapping[str, str], path: str) -> str:
    """The token of a request with these lower-case `headers` and this raw `path`, not yet verified.

    Raises:
        InvalidRequestError: `TOKEN_MISSING`, `TOKEN_MULTIPLE`, or `TOKEN_MALFORMED`.
    """
    value = headers.get("authorization", "")
    if "," in value:
        raise InvalidRequestError(TOKEN_MULTIPLE, "the authorization header came more than once")
    scheme, _, credentials = value.partition(" ")
    token = credentials.strip(" ")
    if scheme.lower() not in ("bearer", DPOP) or not token:
        raise InvalidRequestError(TOKEN_MISSING)
    if not _TOKEN_NAMES.isdisjoint(_query_names(path)) or not _TOKEN_NAMES.isdisjoint(_cookie_names(headers)):
        raise InvalidRequestError(TOKEN_MULTIPLE, "a token in the query or a cookie")
    # Its alphabet is the verifier's to judge; a space would make it two tokens to a lenient reader.
    if " " in token:
        raise InvalidRequestError(TOKEN_MALFORMED, "the authorization header is not a scheme and one token")
    return token


def is_dpop(headers: Mapping[str, str]) -> bool:
    """Whether the token comes under the scheme of tokens that are bound to a key."""
    return headers.get("authorization", "")[: len(DPOP) + 1].lower() == f"{DPOP} "


def _query_names(path: str) -> Iterable[str]:
    """Decoded and folded, because the hop that reads the other token may do either."""
    query = path.partition("?")[2].partition("#")[0]
    return (unquote_plus(pair.partition("=")[0]).lower() for pair in re.split("[&;]", query)) if query else ()


def _cookie_names(headers: Mapping[str, str]) -> Iterable[str]:
    cookie = headers.get("cookie")
    return (pair.partition("=")[0].strip().lower() for pair in re.split("[;,]", cookie)) if cookie else ()
