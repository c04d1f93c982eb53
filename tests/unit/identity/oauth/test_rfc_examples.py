"""The RFCs' own examples, as they stand there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from authz.identity import jwks
from authz.identity.oauth.access_token import Audiences, Binding, Subject, for_child
from authz.identity.oauth.clients import claimed
from authz.identity.oauth.refusals import OAuthError, invalid_request
from authz.identity.oauth.requests import FORM, Wanted, grant, parameters
from tests.registry_fakes import SERVER, agent

if TYPE_CHECKING:
    from authz.model import JsonObject

ASSERTION = (
    "eyJhbGciOiJSUzI1NiIsImtpZCI6IjIyIn0.eyJpc3MiOiJjMSIsInN1YiI6ImMxIiwiYXVkIjoiaHR0cHM6Ly9hcyIsImV4cCI6MX0.c2lnbmVk"
)


def test_rfc7638_3_1_the_thumbprint_of_the_example_key() -> None:
    public: JsonObject = {
        "kty": "RSA",
        "n": (
            "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWK"
            "RXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMic"
            "AtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3"
            "XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"
        ),
        "e": "AQAB",
        "alg": "RS256",
        "kid": "2011-04-29",
    }
    assert jwks.thumbprint(public) == "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"


def test_rfc8037_a_3_the_thumbprint_of_the_example_key() -> None:
    public: JsonObject = {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}
    assert jwks.thumbprint(public) == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


def test_rfc7523_2_2_the_example_of_client_authentication_is_read() -> None:
    body = (
        "grant_type=authorization_code&code=n0esc3NRze7LTCu7iYzS6a5acc3f0ogp4"
        "&client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer"
        f"&client_assertion={ASSERTION}"
    )
    form = parameters(body.encode(), FORM)
    assert claimed(form, "").client_id == "c1"
    with pytest.raises(OAuthError) as caught:
        grant(form)
    assert caught.value.error == "unsupported_grant_type"


def test_rfc7662_2_1_the_example_request_is_read() -> None:
    form = parameters(b"token=mF_9.B5f-4.1JqM&token_type_hint=access_token", FORM)
    assert form == {"token": "mF_9.B5f-4.1JqM", "token_type_hint": "access_token"}


def test_rfc7009_2_1_the_example_request_is_read() -> None:
    form = parameters(b"token=45ghiukldjahdnhzdauz&token_type_hint=refresh_token", FORM)
    assert form["token"] == "45ghiukldjahdnhzdauz"


def test_rfc6749_5_2_the_example_error() -> None:
    assert invalid_request("x").body()["error"] == "invalid_request"
    assert invalid_request("x").http_status == 400


def test_rfc8707_2_2_the_example_resource_is_the_audience() -> None:
    audiences = Audiences(default="authz", by_resource={"https://cal.example.com/": "https://cal.example.com/"})
    assert audiences.of(Wanted(resource="https://cal.example.com/")) == "https://cal.example.com/"


def test_rfc8693_4_1_the_example_of_a_delegation_chain() -> None:
    """Its figure 6: service26 acts for user@example.com, and service77 did before."""
    chain = (agent("user@example.com"), agent("service77", parents=("user@example.com",)))
    actor = agent("service26", parents=("user@example.com", "service77"))
    subject = Subject.of(
        {
            "sub": "user@example.com",
            "agent_id": "service77",
            "tenant": "acme",
            "parents": ["user@example.com"],
            "act": {"sub": "service77"},
            "aud": "https://service26.example.com",
            "jti": "j",
            "exp": 1443904177,
        }
    )
    granted = for_child(
        (*chain, actor),
        Wanted(),
        Audiences(default="authz"),
        subject=subject,
        client="acme/service26",
        binding=Binding(),
        now_s=1443904077,
    )
    claims = granted.claims(issuer=SERVER, jti="k", now_s=1443904077)
    assert claims["sub"] == "user@example.com"
    assert claims["act"] == {"sub": "service26", "act": {"sub": "service77"}}
    assert claims["exp"] == 1443904177
