from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric.padding import MGF1, PSS
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA256

from authz.encoding import decode_base64url
from tests.identity_fakes import ALGORITHMS, key_set, signing_key

if TYPE_CHECKING:
    from authz.identity.keys import VerificationKey

P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def only_key(algorithm: str, serial: int = 0) -> VerificationKey:
    return key_set(signing_key(algorithm, serial).jwk("k")).keys[0]


def test_the_ed25519_example_of_rfc_8037_verifies() -> None:
    jwk = {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}
    signed = b"eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc"
    signature = "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"
    assert key_set(jwk).keys[0].verifies(decode_base64url(signature), signed)


def test_the_p256_example_of_rfc_7515_verifies() -> None:
    jwk = {
        "kty": "EC",
        "crv": "P-256",
        "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
        "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
    }
    signed = (
        b"eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFt"
        b"cGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
    )
    signature = "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"
    assert key_set(jwk).keys[0].verifies(decode_base64url(signature), signed)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_key_verifies_what_its_owner_signed(algorithm: str) -> None:
    assert only_key(algorithm).verifies(signing_key(algorithm).sign(b"signed"), b"signed")


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_key_refuses_other_bytes_other_keys_and_other_lengths(algorithm: str) -> None:
    key, signature = only_key(algorithm), signing_key(algorithm).sign(b"signed")
    assert not key.verifies(signature, b"Signed")
    assert not key.verifies(signing_key(algorithm, 1).sign(b"signed"), b"signed")
    for other in (b"", signature[:-1], signature + b"\0", b"\0" + signature, bytes(len(signature))):
        assert not key.verifies(other, b"signed")


def test_d3_one_rsa_key_does_not_verify_the_other_padding() -> None:
    assert not only_key("RS256").verifies(signing_key("PS256").sign(b"signed"), b"signed")
    assert not only_key("PS256").verifies(signing_key("RS256").sign(b"signed"), b"signed")


def test_d12_a_pss_salt_of_another_length_is_refused() -> None:
    private = signing_key("PS256").private
    assert isinstance(private, RSAPrivateKey)
    signature = private.sign(b"signed", PSS(MGF1(SHA256()), 20), SHA256())
    assert not only_key("PS256").verifies(signature, b"signed")


@pytest.mark.parametrize(
    ("r", "s"),
    [(0, 0), (0, 1), (1, 0), (1, 1), (P256_ORDER, P256_ORDER), (P256_ORDER, 0), (0, P256_ORDER), (2**256 - 1, 1)],
)
def test_d12_degenerate_ecdsa_values_are_refused(r: int, s: int) -> None:
    assert not only_key("ES256").verifies(r.to_bytes(32, "big") + s.to_bytes(32, "big"), b"signed")


def test_d12_an_ecdsa_signature_in_der_is_refused() -> None:
    private = signing_key("ES256")
    raw = private.sign(b"signed")
    der = bytes([0x30, 68, 2, 32, *raw[:32], 2, 32, *raw[32:]])
    assert not only_key("ES256").verifies(der, b"signed")


def test_d12_an_ecdsa_signature_with_a_leading_zero_is_another_spelling_and_refused() -> None:
    raw = signing_key("ES256").sign(b"signed")
    assert only_key("ES256").verifies(raw, b"signed")
    assert not only_key("ES256").verifies(raw[:32] + b"\0" + raw[32:], b"signed")


def test_d12_an_ed25519_scalar_out_of_range_is_refused() -> None:
    order = 2**252 + 27742317777372353535851937790883648493
    signature = signing_key("EdDSA").sign(b"signed")
    shifted = int.from_bytes(signature[32:], "little") + order
    assert not only_key("EdDSA").verifies(signature[:32] + shifted.to_bytes(32, "little"), b"signed")


def test_d5_without_a_kid_only_a_lone_key_is_found() -> None:
    one, two = signing_key("EdDSA").jwk("a"), signing_key("EdDSA", 1).jwk("b")
    assert key_set(one).find(None) is not None
    assert key_set(one, two).find(None) is None
    assert key_set().find(None) is None


def test_d5_a_kid_is_compared_exactly() -> None:
    keys = key_set(signing_key("EdDSA").jwk("key-1"), signing_key("EdDSA", 1).jwk())
    assert keys.find("key-1") is keys.keys[0]
    assert [keys.find(kid) for kid in ("", "KEY-1", "key-1 ", "key", "../../dev/null", "' OR 1")] == [None] * 6
