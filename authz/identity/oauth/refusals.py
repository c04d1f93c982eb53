"""The refusals of the token endpoint, as the RFCs word them.

Decides which error codes exist and their HTTP status: RFC 6749 section 5.2, RFC 8693 section 2.2.2, RFC 8707 section 2,
RFC 9449 section 5. A description is for the developer of a client; it must never tell a stranger whether an agent
exists, nor repeat what was sent.
"""

from __future__ import annotations

import re
from typing import Final

from authz.errors import AuthzError

_STATUS: Final = {
    "invalid_request": 400,
    "invalid_client": 401,
    "unauthorized_client": 400,
    "unsupported_grant_type": 400,
    "invalid_scope": 400,
    "invalid_target": 400,
    "invalid_dpop_proof": 400,
    "unsupported_token_type": 400,
    "server_error": 500,
    "temporarily_unavailable": 503,
}
_UNSAYABLE: Final = re.compile(r"[^ !#-\[\]-~]")


class OAuthError(AuthzError):
    """One refusal.

    Attributes:
        error: the RFC's code.
        description: for the client's developer, in the characters that RFC 6749 allows there.
        reason: a stable code of ours for records and metrics.
        http_status: by the code, unless said otherwise.
        client: the proved client whose request it was; empty for a stranger's.
    """

    def __init__(self, error: str, description: str, *, reason: str = "", http_status: int | None = None) -> None:
        super().__init__(f"{error}: {description}")
        self.error = error
        self.description = _UNSAYABLE.sub("'", description)
        self.reason = reason or f"OAUTH_{error.upper()}"
        self.http_status = http_status or _STATUS[error]
        self.client = ""

    def body(self) -> dict[str, str]:
        """The JSON object of RFC 6749 section 5.2."""
        return {"error": self.error, "error_description": self.description}


def invalid_request(description: str, reason: str = "") -> OAuthError:
    """A parameter is missing, repeated or malformed, or a token to exchange is not taken (RFC 8693 section 2.2.2)."""
    return OAuthError("invalid_request", description, reason=reason)


def invalid_client(reason: str = "") -> OAuthError:
    """The client is not known, or did not prove itself. One description for all: it must not say which (RFC 6749)."""
    return OAuthError("invalid_client", "the client is unknown or did not prove itself", reason=reason)


def invalid_scope(description: str) -> OAuthError:
    """More was asked for than may be granted."""
    return OAuthError("invalid_scope", description)


def invalid_target(description: str) -> OAuthError:
    """The resource or audience is not one this server issues tokens for (RFC 8707)."""
    return OAuthError("invalid_target", description)
