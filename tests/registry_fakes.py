"""Agents, their keys and what they send, for tests: every part can be bent."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

from authz.encoding import encode_base64url
from authz.identity import credentials
from authz.identity.oauth.clients import ASSERTION_TYPE, client_id
from authz.identity.registry import Agent
from tests.identity_fakes import NOW, Forge, present, signing_key

if TYPE_CHECKING:
    from collections.abc import Mapping

    from authz.identity.credentials import Credential
    from tests.identity_fakes import SigningKey

SERVER: Final = "https://control.example"
NS: Final = 1_000_000_000


def agent(identifier: str = "planner", **changes: Any) -> Agent:
    return Agent(**({"tenant": "acme", "id": identifier, "owner": "alice"} | changes))


def key_credential(key: SigningKey | None = None, identifier: str = "c-1", **members: Any) -> Credential:
    jwk = json.dumps((key or signing_key("EdDSA")).jwk(**members))
    return credentials.of_key(jwk, identifier=identifier, now_ns=NOW * NS)


def certificate_credential(digest: str = "A" * 43, identifier: str = "c-2") -> Credential:
    return credentials.of_certificate(digest, identifier=identifier, now_ns=NOW * NS)


def assertion(
    agent_id: str = "planner",
    *,
    key: SigningKey | None = None,
    header: Mapping[str, Any] | None = None,
    tenant: str = "acme",
    now: float = NOW,
    **claims: Any,
) -> str:
    """A client assertion that is good but for what a test changes."""
    name = client_id(tenant, agent_id)
    base = {"iss": name, "sub": name, "aud": SERVER, "iat": now, "exp": now + 60, "jti": f"jti-{now}"}
    signer = key or signing_key("EdDSA")
    forge = Forge(signer)
    head = {"typ": "JWT", "kid": None} | dict(header or {})
    kept = {name: value for name, value in head.items() if value is not None}
    raw = json.dumps({"alg": signer.algorithm} | present(kept)).encode()
    return forge.sealed(raw, json.dumps(present(base | claims)).encode())


def form(**parameters: Any) -> bytes:
    """The body of a request; a list of values repeats the parameter."""
    return urlencode(present(parameters), doseq=True).encode()


def credentials_form(**changes: Any) -> dict[str, Any]:
    """The parameters of a client_credentials request by private_key_jwt."""
    base = {"grant_type": "client_credentials", "client_assertion_type": ASSERTION_TYPE}
    return present(base | ({} if "client_assertion" in changes else {"client_assertion": assertion()}) | changes)


DPOP_URL: Final = "https://server.example.com/token"


def dpop_proof(algorithm: str = "ES256", header: dict[str, Any] | None = None, **claims: Any) -> str:
    """A DPoP proof that is good but for what a test changes."""
    key = signing_key(algorithm)
    public = {name: value for name, value in key.jwk().items() if name not in ("alg", "use")}
    head = present({"typ": "dpop+jwt", "alg": algorithm, "jwk": public} | (header or {}))
    body = present({"jti": "p-1", "htm": "POST", "htu": DPOP_URL, "iat": NOW} | claims)
    signed = ".".join(encode_base64url(json.dumps(part).encode()) for part in (head, body))
    return f"{signed}.{encode_base64url(key.sign(signed.encode()))}"
