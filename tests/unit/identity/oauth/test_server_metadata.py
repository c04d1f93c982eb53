from __future__ import annotations

from authz.identity.oauth.metadata import Server
from authz.identity.oauth.refusals import OAuthError, invalid_client
from tests.registry_fakes import SERVER


def test_rfc8414_2_every_required_member_is_there_and_no_list_is_empty() -> None:
    document = Server(issuer=SERVER).metadata()
    assert {"issuer", "token_endpoint", "response_types_supported"} <= document.keys()
    assert document["issuer"] == SERVER
    assert document["token_endpoint"] == f"{SERVER}/token"
    assert [] not in document.values()


def test_rfc8414_2_no_algorithm_that_is_not_asymmetric_is_announced() -> None:
    document = Server(issuer=SERVER).metadata()
    for name, values in document.items():
        if "signing_alg" in name:
            assert set(values) == {"EdDSA", "ES256", "RS256", "PS256"}  # type: ignore[arg-type]


def test_rfc8705_certificates_are_announced_where_they_are_taken_alone() -> None:
    with_them, without = Server(issuer=SERVER, takes_certificates=True).metadata(), Server(issuer=SERVER).metadata()
    assert with_them["token_endpoint_auth_methods_supported"] == ["private_key_jwt", "tls_client_auth"]
    assert with_them["tls_client_certificate_bound_access_tokens"] is True
    assert without["token_endpoint_auth_methods_supported"] == ["private_key_jwt"]
    assert "tls_client_certificate_bound_access_tokens" not in without


def test_rfc6749_5_2_a_refusal_has_two_members_in_the_rfcs_alphabet() -> None:
    assert OAuthError("invalid_request", 'é "quoted"\n').body() == {
        "error": "invalid_request",
        "error_description": "' 'quoted''",
    }


def test_rfc6749_5_2_a_client_that_is_not_known_is_answered_401() -> None:
    assert invalid_client().http_status == 401
    assert invalid_client("CLIENT_AUDIENCE").body() == invalid_client("CLIENT_MISMATCH").body()
