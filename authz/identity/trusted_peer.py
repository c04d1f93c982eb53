"""Identity that Envoy vouches for, and identity that agents only claim.

Decides when a peer certificate that Envoy verified stands for an agent: only where an operator configured it, only
for one SPIFFE trust domain, and only into the tenant named there. Decides also which headers never reach a tool,
because a tool might believe them: who calls, or that something else is called than was judged.
Must never read an identity from a header that the caller could have set. Trusts `source.principal` as Envoy's own
word; trusts `x-forwarded-client-cert` only if configured, which needs Envoy's `forward_client_cert_details:
SANITIZE_SET` on a listener with mutual TLS.
"""

from __future__ import annotations

import functools
import re
from base64 import b64decode
from hashlib import sha256
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

from authz.encoding import encode_base64url
from authz.errors import InvalidRequestError
from authz.model import Principal
from authz.reasons import TOKEN_MALFORMED, TOKEN_MISSING, TOKEN_MULTIPLE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from authz.config import TrustedPeer
    from authz.model import Check

_SPIFFE_PATH: Final = re.compile(r"(?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9._-]+)+")
"""SPIFFE-ID section 2.2: no empty, `.` or `..` segments, no escapes, so two spellings are two identities."""
_PEM: Final = re.compile(r"-----BEGIN CERTIFICATE-----\n([A-Za-z0-9+/=\n]+)\n-----END CERTIFICATE-----\n?")
_HEX_SHA256: Final = re.compile(r"[0-9a-fA-F]{64}")
_MAX_SPIFFE_ID: Final = 2048
_MAX_AGENT: Final = 256

IDENTITY_HEADERS: Final = frozenset(
    {
        "authorization",
        "dpop",
        "forwarded-user",
        "jwt-payload",
        "jwt_payload",
        "proxy-authorization",
        "remote-user",
        "x-agent",
        "x-agent-id",
        "x-client-cert",
        "x-forwarded-access-token",
        "x-forwarded-client-cert",
        "x-forwarded-email",
        "x-forwarded-groups",
        "x-forwarded-preferred-username",
        "x-forwarded-user",
        "x-jwt-payload",
        "x-remote-user",
        "x-spiffe-id",
        "x-tenant",
        "x-tenant-id",
        "x-user",
        "x-user-id",
    }
)
"""Names by which tools are told who calls. The caller's `authorization` is meant for us alone (D15)."""
REROUTING_HEADERS: Final = frozenset(
    {
        "forwarded",
        "x-forwarded-host",
        "x-host",
        "x-http-method",
        "x-http-method-override",
        "x-method-override",
        "x-original-method",
        "x-original-uri",
        "x-original-url",
        "x-rewrite-url",
    }
)
"""Names by which frameworks take another method, path or host than those that were judged (A17)."""
_REMOVED: Final = IDENTITY_HEADERS | REROUTING_HEADERS
IDENTITY_PREFIXES: Final = ("x-auth-request-", "x-authz-", "x-envoy-", "x-pdp-")


def from_peer(check: Check, trust: TrustedPeer) -> Principal:
    """The agent that Envoy's verified peer stands for; its id is the path of its SPIFFE id without the first slash.

    Raises:
        InvalidRequestError: `TOKEN_MISSING` if no peer of the trust domain is there, `TOKEN_MULTIPLE` or
            `TOKEN_MALFORMED` if the header names several or none.
    """
    if trust.source == "principal":
        identity = check.source_principal
    else:
        identity = _forwarded(check.headers.get(trust.source, ""), "uri")
    issuer = f"spiffe://{trust.trust_domain}"
    path = identity.removeprefix(issuer)
    if path == identity or len(identity) > _MAX_SPIFFE_ID or len(path) > _MAX_AGENT or not _SPIFFE_PATH.fullmatch(path):
        raise InvalidRequestError(TOKEN_MISSING, "the peer has no identity in the trusted domain")
    return Principal(issuer=issuer, tenant=trust.tenant, agent=path[1:], subject=identity)


def certificate_sha256(check: Check, trust: TrustedPeer | None) -> str:
    """The digest of the client certificate that Envoy verified, as `x5t#S256` has it; empty if it showed none.

    The attribute is Envoy's own word. The header is read only where `listen.trusted_peer` says that Envoy writes it.

    Raises:
        InvalidRequestError: `TOKEN_MULTIPLE` or `TOKEN_MALFORMED` if the header names several or none.
    """
    if check.source_certificate:
        return _pem_sha256(check.source_certificate)
    if trust is None or trust.source == "principal":
        return ""
    digest = _forwarded(check.headers.get(trust.source, ""), "hash")
    return encode_base64url(bytes.fromhex(digest)) if _HEX_SHA256.fullmatch(digest) else ""


@functools.lru_cache(maxsize=1024)  # a connection's certificate comes with each of its requests
def _pem_sha256(encoded: str) -> str:
    """Of the one certificate that Envoy wrote; it percent-encodes PEM."""
    found = _PEM.fullmatch(unquote(encoded))
    try:
        return encode_base64url(sha256(b64decode(found[1].replace("\n", ""), validate=True)).digest()) if found else ""
    except ValueError:
        return ""


def headers_to_remove(names: Iterable[str], *, keep: frozenset[str] = frozenset()) -> tuple[str, ...]:
    """Those of the request's lower-case header `names` that must not reach the tool.

    `keep` holds what the route passes or sets itself: Envoy removes after it sets, so a credential that is
    injected under one of these names would be lost.
    """
    return tuple(
        name for name in names if (name in _REMOVED or name.startswith(IDENTITY_PREFIXES)) and name not in keep
    )


def _forwarded(header: str, name: str) -> str:
    """The one `name` of the one element of XFCC; several elements are several hops, and no hop but ours is known."""
    if not header:
        return ""
    unquoted = re.sub(r'"(?:[^"\\]|\\.)*"', "", header)
    if "," in unquoted:
        raise InvalidRequestError(TOKEN_MULTIPLE, "x-forwarded-client-cert has several elements")
    found = [value for key, _, value in (pair.partition("=") for pair in unquoted.split(";")) if key.lower() == name]
    if len(found) != 1 or '"' in unquoted:
        raise InvalidRequestError(TOKEN_MALFORMED, f"x-forwarded-client-cert does not name one {name}")
    return found[0]
