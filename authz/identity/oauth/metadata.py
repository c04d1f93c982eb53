"""The authorization server metadata document (RFC 8414), and where its endpoints are.

Decides what is announced: what is served, and nothing else. Trusts configuration for the issuer's URL; a request's
host never reaches the document.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from authz.identity.keys import ALGORITHMS
from authz.identity.oauth.requests import GRANT_TYPES

if TYPE_CHECKING:
    from authz.model import JsonObject

WELL_KNOWN: Final = "/.well-known/oauth-authorization-server"
TOKEN: Final = "/token"  # noqa: S105 - a path
JWKS: Final = "/jwks"
INTROSPECT: Final = "/introspect"
REVOKE: Final = "/revoke"
AUTHORIZE: Final = "/authorize"
"""Refuses everything, as no grant needs it; the MCP SDK for Python reads no metadata that names none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """The authorization server by its issuer URL, without a slash at its end."""

    issuer: str
    takes_certificates: bool = False

    @property
    def token_endpoint(self) -> str:
        """What a DPoP proof names in `htu`."""
        return self.issuer + TOKEN

    def metadata(self) -> JsonObject:
        """The document."""
        certificate = ["tls_client_auth"] if self.takes_certificates else []
        methods: JsonObject = {
            f"{endpoint}_endpoint_auth_{name}": [*values]
            for endpoint in ("token", "introspection", "revocation")
            for name, values in (
                ("methods_supported", ("private_key_jwt", *certificate)),
                ("signing_alg_values_supported", sorted(ALGORITHMS)),
            )
        }
        document: JsonObject = {
            "issuer": self.issuer,
            "token_endpoint": self.token_endpoint,
            "jwks_uri": self.issuer + JWKS,
            "introspection_endpoint": self.issuer + INTROSPECT,
            "revocation_endpoint": self.issuer + REVOKE,
            "grant_types_supported": [*GRANT_TYPES],
            "authorization_endpoint": self.issuer + AUTHORIZE,
            # The member is required, and an empty list is forbidden (sections 2 and 3.2).
            "response_types_supported": ["none"],
            "dpop_signing_alg_values_supported": [*sorted(ALGORITHMS)],
        }
        if self.takes_certificates:
            document["tls_client_certificate_bound_access_tokens"] = True
        return document | methods
