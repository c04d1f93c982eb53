from __future__ import annotations

import pytest

from authz.errors import InvalidRequestError
from authz.identity import jose, jwks, jws
from authz.reasons import TOKEN_ALG, TOKEN_SIGNATURE
from tests.identity_fakes import document, signing_key


@pytest.mark.parametrize("algorithm", jose.SIGNING_ALGORITHMS)
def test_what_is_signed_verifies_with_the_published_half_alone(algorithm: str) -> None:
    key = jose.generate(algorithm)
    text = jose.sign(key, typ="at+jwt", claims={"sub": "é", "exp": 1})
    parsed = jws.parse(text)
    assert (parsed.algorithm, parsed.kid, parsed.typ, parsed.claims) == (
        algorithm,
        key.kid,
        "at+jwt",
        {"sub": "é", "exp": 1},
    )
    jose.verify(parsed, jose.public_jwk(key))
    with pytest.raises(InvalidRequestError) as caught:
        jose.verify(parsed, jose.public_jwk(jose.generate(algorithm)))
    assert caught.value.reason is TOKEN_SIGNATURE


@pytest.mark.parametrize("algorithm", jose.SIGNING_ALGORITHMS)
def test_the_decision_services_own_verifier_takes_what_is_signed(algorithm: str) -> None:
    key = jose.generate(algorithm)
    parsed = jws.parse(jose.sign(key, typ="at+jwt", claims={}))
    [published] = jwks.parse(document(jose.public_jwk(key))).keys
    assert published.verifies(parsed.signature, parsed.signed)
    assert published.kid == jwks.thumbprint(jose.public_jwk(key))


def test_d3_a_key_verifies_its_own_algorithm_alone() -> None:
    rsa = signing_key("RS256")
    signed = f"{jws.parse(jose.sign(jose.generate('ES256'), typ='x', claims={})).signed.decode()}"
    for algorithm, other in (("RS256", "PS256"), ("EdDSA", "ES256")):
        parsed = jws.Jws(
            algorithm=other, kid=None, typ="x", claims={}, signed=signed.encode(), signature=rsa.sign(signed.encode())
        )
        with pytest.raises(InvalidRequestError) as caught:
            jose.verify(parsed, signing_key(algorithm).jwk())
        assert caught.value.reason is TOKEN_ALG


@pytest.mark.parametrize("algorithm", jose.SIGNING_ALGORITHMS)
def test_a_private_key_reads_back_and_its_public_half_has_no_private_member(algorithm: str) -> None:
    key = jose.generate(algorithm)
    again = jose.read_private(jose.private_text(key))
    assert again.as_dict(private=True) == key.as_dict(private=True)
    assert "d" not in jose.public_jwk(key)
