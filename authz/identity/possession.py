"""Whether the caller holds what its token is bound to: a client certificate, a DPoP key, or both (D14).

Decides that a token with `cnf` is used by its owner. In order: the scheme that the token came under; the certificate
that Envoy verified (RFC 8705); one proof, for this method, this resource, this token and this minute, by the key that
the token names, and never seen before (RFC 9449 section 4.3). Must never take a bound token without what it is bound
to, and must never read a certificate from a header that a caller can write.

Trusts Envoy's word on the peer's certificate, the header `x-forwarded-client-cert` only where `listen.trusted_peer`
says so, and the clock guard for what a minute is. Bearer tokens cost nothing here.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Final

from authz.encoding import encode_base64url
from authz.errors import InvalidRequestError
from authz.identity import bearer, dpop, metadata, trusted_peer
from authz.identity.replay import Replay
from authz.reasons import TOKEN_BINDING

if TYPE_CHECKING:
    from authz.config import Route, TrustedPeer
    from authz.identity.clock_guard import ClockGuard
    from authz.model import Check, Confirmation

HEADER: Final = "dpop"
WINDOW_S: Final = 60
"""How far a proof's `iat` may lie from now, either way; a clock of an agent's is less kept than an issuer's."""
_NS: Final = 1_000_000_000


class Possession:
    """Checks bound tokens for one service. Thread-safe.

    Args:
        clock: what "now" is.
        trust: where a forwarded certificate may be read from; None reads Envoy's own attribute alone.
        replay: proofs that were seen.
    """

    def __init__(self, clock: ClockGuard, trust: TrustedPeer | None = None, replay: Replay | None = None) -> None:
        self._now_ns = clock.now_ns
        self._trust = trust
        self._replay = replay or Replay()

    def require(self, confirmation: Confirmation | None, token: str, check: Check, route: Route | None) -> None:
        """That the caller shows everything its token is bound to, under the scheme that says so.

        Raises:
            InvalidRequestError: TOKEN_BINDING, with its challenge.
            UnavailableError: CLOCK_STEP.
        """
        wanted = confirmation.key if confirmation else ""
        if bool(wanted) is not bearer.is_dpop(check.headers):
            # RFC 9449 section 7.1: a bound token must not pass as a bearer's, nor a bearer's as a bound one.
            raise _refused("the token came under the wrong scheme", check, route, is_dpop=bool(wanted))
        if confirmation and confirmation.certificate:
            shown = trusted_peer.certificate_sha256(check, self._trust)
            if shown != confirmation.certificate:
                raise _refused("the client certificate is not the token's", check, route, is_dpop=bool(wanted))
        if wanted:
            try:
                self._require_proof(wanted, token, check, route)
            except ValueError as error:
                raise _refused(str(error), check, route, is_dpop=True) from None
            except InvalidRequestError as error:
                detail = f"the DPoP proof is refused: {error.reason.summary}"
                raise _refused(detail, check, route, is_dpop=True) from None

    def _require_proof(self, jkt: str, token: str, check: Check, route: Route | None) -> None:
        """RFC 9449 section 4.3, the signature last but for the memory: a thief's proofs must cost little."""
        text = check.headers.get(HEADER, "")
        if not text or "," in text:
            raise ValueError("there is not exactly one DPoP proof")
        proof = dpop.parse(text)
        if proof.jkt != jkt:
            raise ValueError("the DPoP proof is by another key than the token's")
        if proof.method != check.method or proof.uri != _target(check, route):
            raise ValueError("the DPoP proof is for another request")
        if proof.token_sha256 != encode_base64url(sha256(token.encode("ascii")).digest()):
            raise ValueError("the DPoP proof is for another token")
        now_s = self._now_ns() / _NS
        if not abs(now_s - proof.issued_at) <= WINDOW_S:
            raise ValueError("the DPoP proof is not of this minute")
        if not proof.is_signed():
            raise ValueError("the DPoP proof's signature does not verify")
        # By key and jti, since an ECDSA signature has a second spelling that anyone can make.
        digest = sha256(f"{jkt}\n{proof.jti}".encode()).digest()[:16]
        if not self._replay.is_new(digest, proof.issued_at + WINDOW_S, now_s):
            raise ValueError("the DPoP proof was used before")


def _target(check: Check, route: Route | None) -> str:
    """The URI that a proof for this request names: the route's resource, and below it what follows a prefix."""
    path = check.path.partition("?")[0]
    resource = route.resource if route else ""
    if not resource:
        return dpop.target(f"{check.scheme}://{check.host}{path}")
    below = path.removeprefix(route.path_prefix.rstrip("/")) if route and route.path_prefix else ""
    return dpop.target(resource.rstrip("/") + below if below else resource)


def _refused(detail: str, check: Check, route: Route | None, *, is_dpop: bool) -> InvalidRequestError:
    challenge = metadata.challenge(TOKEN_BINDING, check, route, is_dpop=is_dpop)
    return InvalidRequestError(TOKEN_BINDING, detail, challenge=challenge)
