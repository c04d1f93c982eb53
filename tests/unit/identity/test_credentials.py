from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz.errors import InvalidRequestError
from authz.identity import credentials
from tests.identity_fakes import ALGORITHMS, signing_key
from tests.registry_fakes import certificate_credential, key_credential


def refused(text: str) -> str:
    with pytest.raises(InvalidRequestError) as caught:
        credentials.of_key(text, identifier="c", now_ns=1)
    return str(caught.value)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_public_key_is_kept_with_its_algorithm_and_without_what_came_beside_it(algorithm: str) -> None:
    kept = json.loads(key_credential(signing_key(algorithm), kid="mine", x5u="https://evil", note="x").public_jwk)
    assert kept["alg"] == algorithm
    assert kept["kid"] == "mine"
    assert not {"x5u", "note", "use"} & kept.keys()


def test_the_algorithm_follows_from_the_key_where_it_is_not_said() -> None:
    members = {name: value for name, value in signing_key("ES256").jwk().items() if name != "alg"}
    assert json.loads(credentials.of_key(json.dumps(members), identifier="c", now_ns=1).public_jwk)["alg"] == "ES256"


@pytest.mark.parametrize(
    "members",
    [
        {"kty": "oct", "k": "c2VjcmV0"},
        signing_key("EdDSA").jwk(d="AA"),
        signing_key("EdDSA").jwk(alg="ES256"),
        signing_key("EdDSA").jwk(alg="none"),
        signing_key("EdDSA").jwk(use="enc"),
        {"kty": "EC", "crv": "P-384", "x": "AA", "y": "AA"},
        {},
    ],
)
def test_d2_a_key_that_is_symmetric_private_weak_or_for_another_use_is_refused(members: dict[str, Any]) -> None:
    assert refused(json.dumps(members))


def test_a_private_key_is_never_repeated() -> None:
    assert "top-secret" not in refused(json.dumps(signing_key("EdDSA").jwk(d="top-secret")))


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"kty":"OKP","kty":"OKP"}', "\ud800", "[" * 1000, "x" * 9000])
def test_what_is_not_one_jwk_is_refused(text: str) -> None:
    assert refused(text)


@given(st.text())
def test_any_text_is_a_key_or_a_refusal(text: str) -> None:
    with suppress(InvalidRequestError):
        credentials.of_key(text, identifier="c", now_ns=1)


@pytest.mark.parametrize("digest", ["", "A", "A" * 42, "A" * 44, "A" * 42 + "B", "+" * 43, "é" * 43])
def test_a_certificate_is_named_by_its_sha256_in_one_spelling(digest: str) -> None:
    with pytest.raises(InvalidRequestError):
        credentials.of_certificate(digest, identifier="c", now_ns=1)


def test_the_same_key_under_another_name_is_the_same_proof() -> None:
    assert key_credential(kid="a").proof == key_credential(kid="b", identifier="c-2").proof
    assert key_credential(signing_key("EdDSA", 1)).proof != key_credential().proof
    assert certificate_credential().proof != certificate_credential("B" * 42 + "A").proof
