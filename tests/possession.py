"""A request with a bound token, and whether what it shows will do."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Any

from authz.config import Route
from authz.encoding import encode_base64url
from authz.errors import InvalidRequestError
from authz.identity.clock_guard import ClockGuard
from authz.identity.possession import Possession
from authz.model import Check, Confirmation
from authz.reasons import TOKEN_BINDING, TOKEN_MALFORMED, TOKEN_MULTIPLE
from tests.identity_fakes import NOW, Prover, SteppingClock, signing_key

if TYPE_CHECKING:
    from authz.config import TrustedPeer
    from authz.identity.replay import Replay

TOKEN = "a.b.c"
OWNER = Prover(signing_key("ES256"))
THIEF = Prover(signing_key("ES256", 1))
ROUTE = Route(path="/mcp", resource="https://tools.example/mcp")
CERTIFICATE = b"the DER of a certificate, or any other bytes"
PEM = """-----BEGIN CERTIFICATE-----
dGhlIERFUiBvZiBhIGNlcnRpZmljYXRlLCBvciBhbnkgb3RoZXIgYnl0ZXM=
-----END CERTIFICATE-----
"""
X5T = encode_base64url(sha256(CERTIFICATE).digest())
KNOWN = (TOKEN_BINDING, TOKEN_MULTIPLE, TOKEN_MALFORMED)


class Desk:
    """What a request shows, and whether that will do."""

    def __init__(self, trust: TrustedPeer | None = None, replay: Replay | None = None) -> None:
        self.clock = SteppingClock()
        self.clock.wall_ns = NOW * 10**9
        self.possession = Possession(ClockGuard(self.clock), trust, replay)

    def told(
        self, confirmation: Confirmation | None, *, scheme: str = "DPoP", route: Route | None = ROUTE, **changes: Any
    ) -> str:
        """Why the request is refused; empty if it is not."""
        headers = {"authorization": f"{scheme} {TOKEN}"} | changes.pop("headers", {})
        base = {"method": "POST", "path": "/mcp?q=1", "scheme": "http", "host": "inside"}
        check = Check(**(base | changes), headers=headers)
        try:
            self.possession.require(confirmation, TOKEN, check, route)
        except InvalidRequestError as error:
            return error.detail if error.reason in KNOWN else f"not a reason for this: {error.reason.code}"
        return ""

    def shows(self, proof: str, **changes: Any) -> str:
        return self.told(Confirmation(key=OWNER.jkt), headers={"dpop": proof}, **changes)
