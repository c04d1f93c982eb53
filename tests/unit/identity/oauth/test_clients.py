from __future__ import annotations

import hmac
import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz.encoding import decode_base64url, encode_base64url
from authz.identity.oauth.clients import (
    ASSERTION_TYPE,
    MAX_ASSERTION_S,
    Assertion,
    Certificate,
    claimed,
    client_id,
    parse_client_id,
    proved_by_assertion,
    proved_by_certificate,
)
from authz.identity.oauth.refusals import OAuthError
from authz.identity.registry import is_identifier
from tests.identity_fakes import ABSENT, ALGORITHMS, NOW, Forge, signing_key
from tests.registry_fakes import SERVER, agent, assertion, certificate_credential, key_credential

OTHER_SERVER = "https://other.example"


def proved(text: str, *, known: Any = None, now: float = NOW) -> tuple[str, str, int]:
    """Which credential proves it, and what of its jti is remembered, until when."""
    claim = claimed({"client_assertion": text, "client_assertion_type": ASSERTION_TYPE}, "")
    assert isinstance(claim, Assertion)
    known = known or agent(credentials=(key_credential(),))
    credential, jti, until = proved_by_assertion(known, claim, issuer=SERVER, now_s=now)
    return credential.id, jti, until


def refused(text: str, **named: Any) -> OAuthError:
    with pytest.raises(OAuthError) as caught:
        proved(text, **named)
    assert caught.value.error == "invalid_client"
    assert caught.value.description == "the client is unknown or did not prove itself"
    return caught.value


# --- names of clients

NAMES = st.text(min_size=1, max_size=20).filter(is_identifier)


@given(NAMES, NAMES)
def test_a_client_has_one_name_and_it_reads_back(tenant: str, identifier: str) -> None:
    name = client_id(tenant, identifier)
    assert parse_client_id(name) == (tenant, identifier)
    assert name.isascii()


@given(NAMES, NAMES, NAMES, NAMES)
def test_d5_no_two_agents_share_a_clients_name(tenant: str, one: str, other_tenant: str, other: str) -> None:
    is_same = (tenant, one) == (other_tenant, other)
    assert (client_id(tenant, one) == client_id(other_tenant, other)) == is_same


def test_a_plain_name_reads_as_it_is_written() -> None:
    assert client_id("acme", "spiffe://x/billing agent") == "acme/spiffe://x/billing agent"


@given(st.text())
def test_any_text_is_a_clients_name_in_its_one_spelling_or_refused(text: str) -> None:
    with suppress(OAuthError):
        assert client_id(*parse_client_id(text)) == text


@pytest.mark.parametrize(
    "text", ["", "acme", "acme/", "/a", "acme/%61", "ac%2fme/a", "acme/é", "acme/%FF", "acme/a%0A"]
)
def test_another_spelling_of_a_clients_name_is_refused(text: str) -> None:
    with pytest.raises(OAuthError):
        parse_client_id(text)


# --- which proof


def test_a_request_without_proof_is_refused() -> None:
    for form in ({}, {"client_id": "acme/planner"}, {"client_id": "acme/planner", "client_secret": "s"}):
        with pytest.raises(OAuthError) as caught:
            claimed(form, "")
        assert caught.value.error == "invalid_client"


@pytest.mark.parametrize(
    "form",
    [
        {"client_assertion": "a.b.c"},
        {"client_assertion_type": ASSERTION_TYPE},
        {
            "client_assertion": "a.b.c",
            "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:saml2-bearer",
        },
    ],
)
def test_half_an_assertion_is_refused(form: dict[str, str]) -> None:
    with pytest.raises(OAuthError) as caught:
        claimed(form, "A" * 43)
    assert caught.value.error == "invalid_request"


def test_a_client_id_beside_an_assertion_names_the_same_client() -> None:
    form = {"client_assertion": assertion(), "client_assertion_type": ASSERTION_TYPE}
    assert claimed(form | {"client_id": "acme/planner"}, "").client_id == "acme/planner"
    with pytest.raises(OAuthError) as caught:
        claimed(form | {"client_id": "acme/other"}, "")
    assert caught.value.error == "invalid_client"


def test_a_certificate_needs_a_client_id_and_is_compared_whole() -> None:
    claim = claimed({"client_id": "acme/planner"}, "A" * 43)
    assert claim == Certificate(client_id="acme/planner", sha256="A" * 43)
    assert isinstance(claim, Certificate)
    known = agent(credentials=(key_credential(), certificate_credential()))
    assert proved_by_certificate(known, claim).id == "c-2"
    for other in (agent(credentials=(key_credential(),)), agent(credentials=(certificate_credential("B" * 42 + "A"),))):
        with pytest.raises(OAuthError):
            proved_by_certificate(other, claim)


def test_a_key_is_not_proved_by_the_empty_digest_of_its_certificate() -> None:
    with pytest.raises(OAuthError):
        claimed({"client_id": "acme/planner"}, "")
    revoked = agent(credentials=(certificate_credential().revoked(1),))
    with pytest.raises(OAuthError):
        proved_by_certificate(revoked, Certificate(client_id="acme/planner", sha256="A" * 43))


# --- assertions


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_an_assertion_by_a_registered_key_proves_its_client(algorithm: str) -> None:
    key = signing_key(algorithm)
    assert proved(assertion(key=key), known=agent(credentials=(key_credential(key),)))[0] == "c-1"


def test_rfc7523_3_the_claims_of_the_rfcs_example_are_what_is_read() -> None:
    """RFC 7523 section 4: iss, sub, aud, exp and jti; there nbf and iat may be missing."""
    assert proved(assertion(iat=ABSENT))[0] == "c-1"
    assert proved(assertion(nbf=NOW - 5))[0] == "c-1"


@pytest.mark.parametrize("claim", ["iss", "sub", "aud", "exp", "jti"])
def test_a_missing_claim_is_refused(claim: str) -> None:
    refused(assertion(**{claim: ABSENT}))


@pytest.mark.parametrize(
    "audience",
    [OTHER_SERVER, f"{SERVER}/", f"{SERVER}/token", [SERVER, OTHER_SERVER], [], SERVER.upper(), 1, None, [[SERVER]]],
)
def test_d9_an_assertion_for_anybody_but_this_server_alone_is_refused(audience: Any) -> None:
    refused(assertion(aud=audience))


def test_an_audience_may_be_a_list_of_one() -> None:
    assert proved(assertion(aud=[SERVER]))


@pytest.mark.parametrize(
    "claims",
    [
        {"exp": NOW - 31},
        {"exp": NOW + MAX_ASSERTION_S + 31},
        {"exp": "1"},
        {"exp": True},
        {"exp": 1e300},
        {"nbf": NOW + 31},
        {"iat": NOW + 31, "exp": NOW + 90},
        {"iat": "x"},
        {"exp": NOW + 10, "nbf": NOW + 60},
    ],
)
def test_d8_an_assertion_out_of_its_time_is_refused(claims: dict[str, Any]) -> None:
    refused(assertion(**claims))


@pytest.mark.parametrize(
    "claims", [{"exp": NOW - 29}, {"exp": NOW + MAX_ASSERTION_S}, {"iat": NOW + 29, "exp": NOW + 60}]
)
def test_d8_an_assertion_within_the_leeway_is_taken(claims: dict[str, Any]) -> None:
    assert proved(assertion(**claims))


def test_the_jti_is_remembered_for_as_long_as_the_assertion_is_good() -> None:
    _, digest, until = proved(assertion(exp=NOW + 60))
    refused(assertion(exp=NOW + 60), now=until)
    assert until > NOW + 60 + 29
    assert proved(assertion(jti="another"))[1] != digest


def test_one_clients_jti_is_not_anothers() -> None:
    other = agent("other", credentials=(key_credential(),))
    assert proved(assertion("other", jti="j"), known=other)[1] != proved(assertion(jti="j"))[1]


@pytest.mark.parametrize("jti", ["", 1, None, "a\nb", "x" * 257])
def test_a_jti_that_is_no_name_is_refused(jti: Any) -> None:
    refused(assertion(jti=jti))


def test_the_issuer_is_the_client() -> None:
    refused(assertion(iss="acme/other"))


@pytest.mark.parametrize("algorithm", ["none", "None", "HS256", "", "EdDSA "])
def test_d1_no_algorithm_is_no_proof(algorithm: str) -> None:
    refused(assertion(header={"alg": algorithm}))
    head, payload, _ = assertion(header={"alg": algorithm}).split(".")
    refused(f"{head}.{payload}.")


def test_d2_a_public_key_is_no_secret() -> None:
    claims = {"iss": "acme/planner", "sub": "acme/planner", "aud": SERVER, "exp": NOW + 60, "jti": "j"}
    signed = ".".join(encode_base64url(json.dumps(part).encode()) for part in ({"alg": "HS256"}, claims))
    jwk = signing_key("EdDSA").jwk()
    for secret in (signing_key("EdDSA").pem(), json.dumps(jwk).encode(), decode_base64url(jwk["x"]), b""):
        refused(f"{signed}.{encode_base64url(hmac.digest(secret, signed.encode(), 'sha256'))}")


@pytest.mark.parametrize("algorithm", [each for each in ALGORITHMS if each != "EdDSA"])
def test_d3_the_algorithm_is_the_keys(algorithm: str) -> None:
    refused(assertion(header={"alg": algorithm}))
    refused(assertion(key=signing_key(algorithm)))
    same_key = agent(credentials=(key_credential(signing_key("RS256"), alg="PS256"),))
    refused(assertion(key=signing_key("RS256")), known=same_key)


@pytest.mark.parametrize("parameter", ["jwk", "jku", "x5u", "x5c", "crit", "b64"])
def test_d4_a_key_that_the_assertion_brings_is_not_looked_at(parameter: str) -> None:
    refused(assertion(key=signing_key("EdDSA", 7), header={parameter: "https://evil.example"}))


@pytest.mark.parametrize("typ", ["at+jwt", "dpop+jwt", "application/at+jwt", "token-introspection+jwt"])
def test_d10_a_token_of_another_kind_is_no_assertion(typ: str) -> None:
    refused(assertion(header={"typ": typ}))


@pytest.mark.parametrize(
    "typ", [None, "JWT", "jwt", "client-authentication+jwt", "application/client-authentication+jwt"]
)
def test_the_kinds_that_clients_send_are_taken(typ: str | None) -> None:
    assert proved(assertion(header={"typ": typ}))


def test_a_revoked_key_proves_nothing() -> None:
    refused(assertion(), known=agent(credentials=(key_credential().revoked(1),)))


def test_another_agents_key_proves_nothing() -> None:
    refused(assertion(key=signing_key("EdDSA", 3)))


def test_of_several_keys_the_one_that_signed_is_found() -> None:
    known = agent(
        credentials=(
            certificate_credential(),
            key_credential(signing_key("ES256"), "c-es", kid="one"),
            key_credential(signing_key("EdDSA", 4), "c-4", kid="two"),
            key_credential(signing_key("EdDSA"), "c-ed"),
        )
    )
    assert proved(assertion(key=signing_key("EdDSA", 4)), known=known)[0] == "c-4"
    assert proved(assertion(key=signing_key("ES256"), header={"kid": "one"}), known=known)[0] == "c-es"
    assert proved(assertion(header={"kid": "unregistered"}), known=known)[0] == "c-ed"
    refused(assertion(key=signing_key("ES256"), header={"kid": "two"}), known=known)


@pytest.mark.parametrize("text", ["", "a", "a.b", "a.b.c.d", "a.b.c.d.e", "é.é.é", "x" * 8193])
def test_d6_what_is_no_compact_jws_is_refused(text: str) -> None:
    refused(text)


def test_d12_each_other_spelling_of_an_assertion_is_refused() -> None:
    text = assertion()
    for other in (text + "=", text.replace(".", ". ", 1), text + "\n", text[:-1]):
        refused(other)


def test_claims_that_repeat_a_name_are_refused() -> None:
    forge = Forge(signing_key("EdDSA"))
    good = json.dumps({"iss": "acme/planner", "aud": SERVER, "exp": NOW + 60, "jti": "j"})[:-1]
    refused(forge.sealed(b'{"alg":"EdDSA"}', f'{good}, "sub": "acme/planner", "sub": "acme/planner"}}'.encode()))
