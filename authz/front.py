"""Steps 1 to 3 of a decision: what was sent, by whom, and what it asks for.

Decides nothing of its own: it asks `protocol/` and `identity/`, in the order of design §4, and adds to a
refused token the challenge that tells a client where to get a better one. Routes, tokens and messages are
checked where they are configured: always under contract `agent`, on request under contract `envoy`.
Must never read a body before the caller is known. Used by `pdp.py` through its `Front` port.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from authz.config import DESTRUCTIVE_KEYS_S
from authz.errors import DenialError, InvalidRequestError
from authz.identity import bearer, metadata, trusted_peer
from authz.model import Protocol, Tool, ToolCall
from authz.protocol import envelope, http_api, mcp, routes
from authz.reasons import CATALOGUE, JWKS_UNAVAILABLE, SCOPE, TOKEN_BINDING

if TYPE_CHECKING:
    from authz.config import Config, Route
    from authz.identity.possession import Possession
    from authz.identity.tokens import TokenVerifier
    from authz.model import Check, LocalAnswer, Principal

SERVER: Final = "authz.server"
"""Envoy's context extension that names the tool server (contracts §3)."""


class ConfiguredFront:
    """The checks that the configuration asks for.

    Args:
        verifier: None checks no tokens; only contract `envoy` may do without.
        possession: checks tokens that are bound; None takes none of those.
    """

    def __init__(self, config: Config, verifier: TokenVerifier | None, possession: Possession | None = None) -> None:
        self._config = config
        self._routes = config.routes
        self._verifier = verifier
        self._possession = possession

    def route(self, check: Check) -> Route | None:
        """Step 1: which route this is; None where none are checked, and for a metadata document.

        Raises:
            InvalidRequestError: Envoy's message is unusable, or no route has this path.
        """
        if check.fault:
            raise InvalidRequestError(CATALOGUE[check.fault])
        if not self._routes or metadata.answer(check, self._config) is not None:
            return None
        return routes.match(check, self._routes)

    def admit(self, check: Check, route: Route | None) -> LocalAnswer | None:
        """Step 1, continued: the envelope is whole, or the answer that needs no identity.

        Raises:
            InvalidRequestError: the envelope is refused.
        """
        if route is not None:
            return envelope.admit(check, route)
        return metadata.answer(check, self._config) if self._routes else None

    def principal(self, check: Check, route: Route | None) -> Principal | None:
        """Step 2: who calls.

        Raises:
            InvalidRequestError: with its challenge (RFC 6750, RFC 9728).
        """
        if self._verifier is None:
            return None
        try:
            principal = self._known(check, route, self._verifier)
        except DenialError as error:
            told = error.challenge if isinstance(error, InvalidRequestError) else ""
            challenge = told or metadata.challenge(error.reason, check, route)
            raise InvalidRequestError(error.reason, error.detail, challenge=challenge) from None
        if route is not None and not set(route.scopes) <= set(principal.scopes):
            raise InvalidRequestError(SCOPE, challenge=metadata.challenge(SCOPE, check, route))
        return principal

    def _known(self, check: Check, route: Route | None, verifier: TokenVerifier) -> Principal:
        """By its token; by Envoy's verified peer only where no token came and an operator asked for it."""
        trust = self._config.listen.trusted_peer
        if trust is not None and "authorization" not in check.headers:
            return trusted_peer.from_peer(check, trust)
        token = bearer.from_headers(check.headers, check.path)
        principal = verifier.verify(token)
        if principal.confirmation is not None or bearer.is_dpop(check.headers):
            self._require_possession(principal, token, check, route)
        return principal

    def _require_possession(self, principal: Principal, token: str, check: Check, route: Route | None) -> None:
        if self._possession is None:
            raise InvalidRequestError(TOKEN_BINDING)
        self._possession.require(principal.confirmation, token, check, route)

    def vouch(self, check: Check, route: Route | None, principal: Principal) -> None:
        """Step 9: the keys behind this principal are fresh enough for a destructive call (failure matrix, JWKS).

        Raises:
            InvalidRequestError: JWKS_UNAVAILABLE, with its challenge.
        """
        if self._verifier is None or not principal.jti_sha256:
            return  # known by its certificate, or not at all: no published keys stand behind it
        if self._verifier.keys_age_s(principal.issuer) > DESTRUCTIVE_KEYS_S:
            challenge = metadata.challenge(JWKS_UNAVAILABLE, check, route)
            raise InvalidRequestError(JWKS_UNAVAILABLE, "the keys are too old for what this does", challenge=challenge)

    def call(self, check: Check, route: Route | None) -> ToolCall:
        """Step 3: the call, parsed strictly.

        Raises:
            InvalidRequestError: with the message id where it could be read.
        """
        server = check.context.get(SERVER) or (route.server if route else "") or self._config.policy.server
        if route is None:
            return ToolCall(tool=Tool(server=server, name="", protocol=Protocol.HTTP, method=check.method))
        parse = mcp.parse if route.protocol is Protocol.MCP else http_api.parse
        return parse(check, route, server, self._config.limits)
