from __future__ import annotations

import json
import math
from typing import Any

import pytest

from authz.identity import jwks
from tests.identity_fakes import ABSENT, ALGORITHMS, document, key_set, number, signing_key

RSA = signing_key("RS256").jwk("k")
EC = signing_key("ES256").jwk("k")
OKP = signing_key("EdDSA").jwk("k")


def bent(jwk: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {name: value for name, value in (jwk | changes).items() if value is not ABSENT}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_published_key_is_bound_to_its_algorithm(algorithm: str) -> None:
    keys = key_set(signing_key(algorithm).jwk("k1"))
    assert [(key.kid, key.algorithm) for key in keys.keys] == [("k1", algorithm)]
    assert keys.rejected == ()


@pytest.mark.parametrize(("jwk", "algorithm"), [(OKP, "EdDSA"), (EC, "ES256"), (RSA, "RS256")])
def test_d2_a_key_without_alg_gets_exactly_one(jwk: dict[str, Any], algorithm: str) -> None:
    assert key_set(bent(jwk, alg=ABSENT)).keys[0].algorithm == algorithm


def test_d2_an_rsa_key_without_alg_gets_the_configured_one() -> None:
    keys = jwks.parse(document(bent(RSA, alg=ABSENT)), rsa_algorithm="PS256")
    assert keys.keys[0].algorithm == "PS256"


REJECTED: dict[str, Any] = {
    "d2 symmetric": {"kty": "oct", "k": "c2VjcmV0", "kid": "k"},
    "d2 symmetric, empty": {"kty": "oct", "k": "", "kid": "k", "alg": "HS256"},
    "d2 oct without its secret": {"kty": "oct", "kid": "k"},
    "d2 HMAC on an RSA key": bent(RSA, alg="HS256"),
    "d1 none": bent(RSA, alg="none"),
    "d3 another kind's algorithm": bent(RSA, alg="EdDSA"),
    "d3 ES256 on Ed25519": bent(OKP, alg="ES256"),
    "stronger but not served": bent(RSA, alg="RS512"),
    "alg null": bent(RSA, alg=None),
    "d13 private RSA": bent(RSA, d="AQAB"),
    "d13 private RSA by a factor": bent(RSA, p="AQAB"),
    "d13 private Ed25519": bent(OKP, d="AA"),
    "d13 private EC": bent(EC, d="AA"),
    "for encryption": bent(RSA, use="enc"),
    "use null": bent(RSA, use=None),
    "key_ops sign": bent(RSA, key_ops=["sign"]),
    "key_ops a string": bent(RSA, key_ops="verify"),
    "d13 even exponent": bent(RSA, e=number(65538)),
    "d13 exponent 1": bent(RSA, e="AQ"),
    "d13 exponent 3": bent(RSA, e="Aw"),
    "d13 exponent 0": bent(RSA, e="AA"),
    "d13 huge exponent": bent(RSA, e=number(2**64 + 1)),
    "d13 1024 bits": bent(RSA, n=number(2**1023 + 1)),
    "d13 2047 bits": bent(RSA, n=number(2**2046 + 1)),
    "d13 16384 bits": bent(RSA, n=number(2**16383 + 1)),
    "d13 even modulus": bent(RSA, n=number(2**2047)),
    "d13 modulus 0": bent(RSA, n="AA"),
    "d13 no modulus": bent(RSA, n=ABSENT),
    "d13 modulus a number": bent(RSA, n=65537),
    "d12 padded modulus": bent(RSA, n=RSA["n"] + "=="),
    "not on the curve": bent(EC, y=EC["x"]),
    "short coordinate": bent(EC, x="AA"),
    "long coordinate": bent(EC, x="A" * 44),
    "another curve": bent(EC, crv="P-384"),
    "secp256k1": bent(EC, crv="secp256k1"),
    "X25519": bent(OKP, crv="X25519"),
    "Ed448": bent(OKP, crv="Ed448"),
    "short Ed25519": bent(OKP, x="AAAA"),
    "no kty": bent(OKP, kty=ABSENT),
    "kty a list": bent(OKP, kty=["OKP"]),
    "kty in small letters": bent(OKP, kty="okp"),
    "d5 kid a number": bent(OKP, kid=1),
    "d5 kid empty": bent(OKP, kid=""),
    "d5 kid of 10 kB": bent(OKP, kid="k" * 10_000),
    "d5 kid with a newline": bent(OKP, kid="k\nINFO all is well"),
    "a string": "key",
    "null": None,
    "a list": [],
}


@pytest.mark.parametrize("entry", REJECTED.values(), ids=REJECTED.keys())
def test_d13_a_bad_key_is_left_out_and_the_good_one_stays(entry: Any) -> None:
    keys = key_set(entry, signing_key("EdDSA", 1).jwk("good"))
    assert [key.kid for key in keys.keys] == ["good"]
    assert [rejected.position for rejected in keys.rejected] == [0]


def test_d13_the_report_of_a_private_key_does_not_repeat_it() -> None:
    secret = "c2VjcmV0LXNlY3JldC1zZWNyZXQ"
    (rejected,) = key_set(bent(RSA, d=secret)).rejected
    assert rejected.kid == "k"
    assert "private" in rejected.why
    assert secret not in repr(rejected)


def test_d5_keys_that_share_a_kid_are_all_left_out() -> None:
    keys = key_set(OKP, EC, signing_key("EdDSA", 1).jwk("other"))
    assert [key.kid for key in keys.keys] == ["other"]
    assert {rejected.why for rejected in keys.rejected} == {"the kid is published more than once"}


def test_d5_a_bad_key_cannot_hide_that_its_kid_is_shared() -> None:
    assert key_set({"kty": "oct", "k": "AA", "kid": "k"}, OKP).keys == ()


def test_two_keys_without_kid_do_not_collide() -> None:
    assert len(key_set(bent(OKP, kid=ABSENT), bent(EC, kid=ABSENT)).keys) == 2


def test_an_empty_set_is_a_set() -> None:
    assert key_set().keys == ()


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"<html>sign in</html>",
        b"[]",
        b"{}",
        b'{"keys": null}',
        b'{"keys": {}}',
        b'{"keys": [], "keys": []}',
        json.dumps({"keys": [OKP]}).encode()[:-5],
        json.dumps({"keys": [OKP]}).encode("utf-16"),
        document(*[signing_key("EdDSA").jwk(str(serial)) for serial in range(101)]),
        b'{"keys": [], "padding": "' + b"x" * jwks.MAX_DOCUMENT_BYTES + b'"}',
    ],
    ids=lambda octets: repr(octets[:24]),
)
def test_d13_what_is_not_a_key_set_is_refused_whole(octets: bytes) -> None:
    with pytest.raises(ValueError, match=r"key set|JWK Set|JSON"):
        jwks.parse(octets)


def test_a_hundred_keys_are_taken() -> None:
    assert len(key_set(*[signing_key("EdDSA").jwk(str(serial)) for serial in range(100)]).keys) == 100


def test_d13_a_modulus_that_can_be_factored_is_refused() -> None:
    # A power of 65537 modulo each small prime, as that generator's are: made by the Chinese remainder theorem alone.
    product = math.prod(jwks.ROCA_PRIMES)
    factorable = pow(65537, 5, product) + product * ((1 << 2047) // product + 1)
    factorable += product * (1 - factorable % 2)
    (rejected,) = key_set(bent(RSA, n=number(factorable))).rejected
    assert "CVE-2017-15361" in rejected.why
    (neighbour,) = key_set(bent(RSA, n=number(factorable + 2))).keys
    assert neighbour.algorithm == "RS256"
