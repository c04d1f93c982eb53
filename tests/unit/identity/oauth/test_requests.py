from __future__ import annotations

from typing import Any

import pytest

from authz.identity.oauth import requests
from authz.identity.oauth.refusals import OAuthError
from authz.identity.oauth.requests import (
    ACCESS_TOKEN_TYPE,
    FORM,
    TOKEN_EXCHANGE,
    ClientCredentials,
    TokenExchange,
    Wanted,
    grant,
    parameters,
)
from tests.registry_fakes import form


def error(body: bytes, content_type: str = FORM) -> str:
    with pytest.raises(OAuthError) as caught:
        grant(parameters(body, content_type))
    return caught.value.error


def test_rfc6749_4_4_2_the_client_credentials_request() -> None:
    assert grant(parameters(b"grant_type=client_credentials", FORM)) == ClientCredentials(wanted=Wanted())


def test_rfc8693_2_3_the_token_exchange_request() -> None:
    """The RFC's example but for the client's authentication; it asks for the resource's own type of token."""
    body = (
        b"grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange"
        b"&resource=https%3A%2F%2Fbackend.example.com%2Fapi"
        b"&subject_token=accVkjcJyb4BWCxGsndESCJQbdFMogUC5PbRDqceLTC"
        b"&subject_token_type=urn%3Aietf%3Aparams%3Aoauth%3Atoken-type%3Aaccess_token"
    )
    assert grant(parameters(body, FORM)) == TokenExchange(
        wanted=Wanted(resource="https://backend.example.com/api"),
        subject_token="accVkjcJyb4BWCxGsndESCJQbdFMogUC5PbRDqceLTC",
    )


@pytest.mark.parametrize("name", ["grant_type", "client_id", "client_assertion", "scope", "session"])
def test_a_parameter_that_comes_twice_is_refused(name: str) -> None:
    assert error(form(**({"grant_type": "client_credentials"} | {name: ["a", "b"]}))) == "invalid_request"


@pytest.mark.parametrize("name", ["resource", "audience"])
def test_rfc8707_a_second_target_is_refused_by_its_own_error(name: str) -> None:
    assert error(form(grant_type="client_credentials", **{name: ["https://a", "https://b"]})) == "invalid_target"


def test_a_parameter_without_a_value_is_as_if_omitted() -> None:
    assert grant(parameters(b"grant_type=client_credentials&scope=&scope=&session=", FORM)) == ClientCredentials(
        wanted=Wanted()
    )


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"grant_type=",
        b"{}",
        b"grant_type=client_credentials&x=%FF",
        b"grant_type=client_credentials&x=%zz",
        b"grant_type=client_credentials&x=%",
        b"grant_type=client_credentials&x=\xff",
        b"&".join(b"a%d=b" % number for number in range(40)),
        b"grant_type=client_credentials&session=a%0Ab",
        b"grant_type=client_credentials&session=" + b"x" * 257,
    ],
)
def test_what_is_not_one_form_is_refused(body: bytes) -> None:
    assert error(body) == "invalid_request"


@pytest.mark.parametrize("content_type", ["", "application/json", "text/plain", "application/x-www-form-urlencodedx"])
def test_another_content_type_is_refused(content_type: str) -> None:
    assert error(b"grant_type=client_credentials", content_type) == "invalid_request"


def test_the_content_type_may_name_a_charset() -> None:
    assert parameters(b"a=b", "Application/X-WWW-form-urlencoded; charset=UTF-8") == {"a": "b"}


def test_a_body_over_the_limit_is_refused() -> None:
    with pytest.raises(OAuthError) as caught:
        parameters(b"a=" + b"x" * requests.MAX_BODY_BYTES, FORM)
    assert (caught.value.error, caught.value.http_status) == ("invalid_request", 413)


@pytest.mark.parametrize("kind", ["authorization_code", "password", "implicit", "refresh_token", "Client_Credentials"])
def test_another_grant_is_unsupported(kind: str) -> None:
    assert error(form(grant_type=kind)) == "unsupported_grant_type"


@pytest.mark.parametrize("scope", [" ", "a  b", " a", "a ", "a\tb", "a\xa0b", 'a"b', "a\\b", "é"])
def test_d11_a_scope_with_another_separator_is_refused(scope: str) -> None:
    assert error(form(grant_type="client_credentials", scope=scope)) == "invalid_scope"


def test_scopes_are_a_set() -> None:
    read = grant(parameters(form(grant_type="client_credentials", scope="a b a"), FORM))
    assert read.wanted.scopes == ("a", "b")
    many = " ".join(map(str, range(129)))
    assert error(form(grant_type="client_credentials", scope=many)) == "invalid_scope"


@pytest.mark.parametrize("seconds", ["0", "-1", "1.5", "1e3", "x", "٣", "9" * 7])
def test_a_life_that_is_not_a_number_of_seconds_is_refused(seconds: str) -> None:
    assert error(form(grant_type="client_credentials", expires_in=seconds)) == "invalid_request"


EXCHANGE: dict[str, Any] = {
    "grant_type": TOKEN_EXCHANGE,
    "subject_token": "a.b.c",
    "subject_token_type": ACCESS_TOKEN_TYPE,
}


@pytest.mark.parametrize(
    "changes",
    [
        {"subject_token": ""},
        {"subject_token_type": ""},
        {"subject_token_type": "urn:ietf:params:oauth:token-type:refresh_token"},
        {"subject_token_type": "urn:ietf:params:oauth:token-type:saml2"},
        {"requested_token_type": "urn:ietf:params:oauth:token-type:refresh_token"},
        {"actor_token": "a.b.c"},
        {"actor_token_type": ACCESS_TOKEN_TYPE},
        {"agent_id": "a\nb"},
    ],
)
def test_an_exchange_of_anything_but_an_access_token_of_ours_is_refused(changes: dict[str, Any]) -> None:
    assert error(form(**(EXCHANGE | changes))) == "invalid_request"


def test_an_exchange_may_name_the_agent_that_it_spawns() -> None:
    read = grant(parameters(form(**EXCHANGE, agent_id="reader", requested_token_type=ACCESS_TOKEN_TYPE), FORM))
    assert isinstance(read, TokenExchange)
    assert read.agent == "reader"
