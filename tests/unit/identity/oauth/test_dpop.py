from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz.encoding import encode_base64url
from authz.identity.oauth.dpop import WINDOW_S, prove
from authz.identity.oauth.refusals import OAuthError
from tests.identity_fakes import ABSENT, ALGORITHMS, NOW, signing_key
from tests.registry_fakes import DPOP_URL as URL
from tests.registry_fakes import dpop_proof as proof

if TYPE_CHECKING:
    from authz.identity.oauth.dpop import Possession

RFC_PROOF = (
    "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0RscEJo"
    "RjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6IlAtMjU2In19.eyJq"
    "dGkiOiItQndDM0VTYzZhY2MybFRjIiwiaHRtIjoiUE9TVCIsImh0dSI6Imh0dHBzOi8vc2VydmVyLmV4YW1wbGUuY29tL3Rva2VuIiwiaWF0Ijox"
    "NTYyMjYyNjE2fQ.2-GxA6T8lP4vfrg8v-FdWP0A0zdrj8igiMLvqRMUvwnQg4PtFLbdLXiOSsX0x7NVY-FNyJK70nfbV37xRZT3Lg"
)
"""RFC 9449 section 4.1, figure 2."""
RFC_THUMBPRINT = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"
"""RFC 9449 section 6.1: `jkt` of the token that the RFC issues for that key."""


def read(text: str) -> Possession:
    return prove(text, method="POST", url=URL, now_s=NOW)


def refused(text: str) -> None:
    with pytest.raises(OAuthError) as caught:
        read(text)
    assert (caught.value.error, caught.value.http_status) == ("invalid_dpop_proof", 400)


def test_rfc9449_the_rfcs_own_proof_is_taken_and_names_the_rfcs_key() -> None:
    found = prove(RFC_PROOF, method="POST", url=URL, now_s=1562262616)
    assert found.jkt == RFC_THUMBPRINT


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_proof_by_any_key_that_tokens_may_be_bound_to_is_taken(algorithm: str) -> None:
    assert read(proof(algorithm)).jkt


@pytest.mark.parametrize("iat", [NOW - WINDOW_S, NOW + WINDOW_S])
def test_a_proof_within_the_window_is_taken_and_remembered_past_it(iat: int) -> None:
    assert read(proof(iat=iat)).remember_until > iat + WINDOW_S


@pytest.mark.parametrize(
    "claims",
    [
        {"iat": NOW - WINDOW_S - 1},
        {"iat": NOW + WINDOW_S + 1},
        {"iat": ABSENT},
        {"iat": str(NOW)},
        {"iat": True},
        {"htm": "GET"},
        {"htm": "post"},
        {"htm": ABSENT},
        {"htu": f"{URL}/"},
        {"htu": "https://evil.example/token"},
        {"htu": ABSENT},
        {"jti": ABSENT},
        {"jti": ""},
        {"jti": 1},
    ],
)
def test_d14_a_proof_for_another_request_or_time_is_refused(claims: dict[str, Any]) -> None:
    refused(proof(**claims))


@pytest.mark.parametrize(
    "header",
    [
        {"typ": "JWT"},
        {"typ": ABSENT},
        {"alg": "none"},
        {"alg": "HS256"},
        {"alg": "EdDSA"},
        {"jwk": ABSENT},
        {"jwk": {"kty": "oct", "k": "c2VjcmV0"}},
        {"jwk": signing_key("ES256").jwk(d="AA")},
        {"jwk": signing_key("ES256", 5).jwk()},
        {"jwk": "x"},
        {"kid": "x"},
        {"x5c": []},
        {"crit": []},
    ],
)
def test_a_proof_whose_header_is_not_plain_is_refused(header: dict[str, Any]) -> None:
    refused(proof(header=header))


def test_a_bent_proof_is_refused() -> None:
    head, payload, signature = proof().split(".")
    for text in (
        "",
        "a.b.c",
        head,
        f"{head}.{payload}.",
        f"{head}.{payload}.{signature}=",
        f"{payload}.{payload}.{signature}",
        "x" * 9000,
    ):
        refused(text)


def test_two_keys_may_use_one_jti() -> None:
    assert read(proof("ES256")).jti_sha256 != read(proof("EdDSA")).jti_sha256


@given(st.text() | st.builds("{}.{}.{}".format, *[st.binary(max_size=40).map(encode_base64url)] * 3))
def test_any_text_is_a_proof_or_a_refusal(text: str) -> None:
    refused(text)
