"""One form of signature, one algorithm, pinned keys: everything else is refused (F3)."""

from __future__ import annotations

import base64
import json
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256K1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from authz.errors import BundleError, ConfigError
from authz.policy.signature import canonical, parse, read_private_key, read_public_key, sign, signed_form, verify
from tests.publisher import RELEASE, SECURITY, STRANGER, pem, public_pem

if TYPE_CHECKING:
    from collections.abc import Callable

TOKEN = RELEASE.token({"files": []})


def b64(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


def with_header(token: str = TOKEN, **changes: Any) -> str:
    """The token with another header and the signature it had."""
    header, payload, signature = token.split(".")
    read = json.loads(base64.urlsafe_b64decode(header + "==")) | changes
    return ".".join((b64(json.dumps(read).encode()), payload, signature))


def code(call: Callable[[], object]) -> str:
    with pytest.raises(BundleError) as refused:
        call()
    return refused.value.code


def test_a_signature_verifies_with_its_key() -> None:
    assert verify(parse(TOKEN), [SECURITY.key, RELEASE.key]) == RELEASE.key


def test_signing_again_changes_nothing() -> None:
    assert RELEASE.token({"files": []}) == TOKEN


def test_a_token_that_names_no_key_is_tried_on_all() -> None:
    assert verify(parse(RELEASE.token({}, kid="")), [SECURITY.key, RELEASE.key]) == RELEASE.key


def test_opas_keyid_counts_as_a_name() -> None:
    assert verify(parse(RELEASE.token({"keyid": "release"}, kid="")), [RELEASE.key]) == RELEASE.key
    assert code(lambda: verify(parse(RELEASE.token({"keyid": "other"}, kid="")), [RELEASE.key])) == "BUNDLE_KEY"


def test_f3_a_token_that_names_another_key_is_held_to_that_one() -> None:
    token = parse(RELEASE.token({}, kid="security"))
    assert code(lambda: verify(token, [SECURITY.key, RELEASE.key])) == "BUNDLE_SIGNATURE"


def test_f3_a_key_that_is_not_pinned_verifies_nothing() -> None:
    assert code(lambda: verify(parse(STRANGER.token({})), [RELEASE.key])) == "BUNDLE_KEY"
    assert code(lambda: verify(parse(STRANGER.token({}, kid="release")), [RELEASE.key])) == "BUNDLE_SIGNATURE"


@pytest.mark.parametrize("algorithm", ["none", "HS256", "RS256", "ES384", "EdDSA", "es256", ""])
def test_f3_another_algorithm_is_refused(algorithm: str) -> None:
    assert code(lambda: parse(with_header(alg=algorithm))) == "BUNDLE_ALGORITHM"


def test_f3_the_public_key_is_no_secret_to_sign_with() -> None:
    header, payload, _ = with_header(alg="HS256").split(".")
    mac = HMAC(public_pem(RELEASE.private), SHA256())
    mac.update(f"{header}.{payload}".encode())
    assert code(lambda: parse(f"{header}.{payload}.{b64(mac.finalize())}")) == "BUNDLE_ALGORITHM"


@pytest.mark.parametrize("name", ["jwk", "jku", "x5c", "x5u", "crit", "b64", "zip"])
def test_f3_a_header_that_brings_a_key_or_asks_for_more_is_refused(name: str) -> None:
    assert code(lambda: parse(with_header(**{name: "x"}))) == "BUNDLE_SIGNATURE"


@pytest.mark.parametrize(
    "bent",
    [
        lambda _: "",
        lambda token: token + ".x",
        lambda token: token.rpartition(".")[0],
        lambda token: token + "=",
        lambda token: token + "\n",
        lambda token: token.replace(".", "..", 1),
        lambda _: with_header(alg=1),
        lambda _: with_header(kid=None),
        lambda token: ".".join((b64(b'{"alg":"none","alg":"ES256"}'), *token.split(".")[1:])),
        lambda token: ".".join((token.split(".")[0], b64(b"[]"), token.split(".")[2])),
        lambda token: ".".join((token.split(".")[0], b64(b'{"a": NaN}'), token.split(".")[2])),
    ],
)
def test_f3_another_spelling_is_refused(bent: Callable[[str], str]) -> None:
    assert code(lambda: parse(bent(TOKEN))) == "BUNDLE_SIGNATURE"


def test_f3_a_signature_in_der_or_of_another_length_does_not_verify() -> None:
    signed = TOKEN.rpartition(".")[0]
    der = RELEASE.private.sign(signed.encode(), ECDSA(SHA256()))
    for signature in (der, b"", bytes(64), bytes(65), b"\xff" * 64):
        bent = parse(f"{signed}.{b64(signature)}")
        assert code(partial(verify, bent, [RELEASE.key])) == "BUNDLE_SIGNATURE"


def test_a_key_to_pin_is_public_and_on_p256() -> None:
    public = (Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    for bad in (
        b"",
        pem(RELEASE.private),
        pem(generate_private_key(SECP256K1())),
        generate_private_key(SECP256K1()).public_key().public_bytes(*public),
        Ed25519PrivateKey.generate().public_key().public_bytes(*public),
    ):
        with pytest.raises(ConfigError, match="release"):
            read_public_key("release", bad)


def test_a_key_to_sign_with_is_private_and_on_p256() -> None:
    private = (Encoding.PEM, PrivateFormat.PKCS8)
    locked = RELEASE.private.private_bytes(*private, BestAvailableEncryption(b"secret"))
    other = Ed25519PrivateKey.generate().private_bytes(*private, NoEncryption())
    for bad in (b"", public_pem(RELEASE.private), pem(generate_private_key(SECP256K1())), other, locked):
        with pytest.raises(ConfigError):
            read_private_key(bad)
    again = read_private_key(pem(RELEASE.private))
    assert sign({}, again, kid="release") == RELEASE.token({})


def test_one_key_is_known_by_what_it_is_and_not_by_its_name() -> None:
    again = read_public_key("other", public_pem(RELEASE.private))
    assert again.fingerprint == RELEASE.key.fingerprint
    assert again.fingerprint != SECURITY.key.fingerprint


def test_data_and_manifest_are_signed_as_values_and_everything_else_as_bytes() -> None:
    text = b'{ "b": 1.50, "a": "\\u2028<\\u00e9" }'
    value = b'{"a":"\\u2028<\xc3\xa9","b":1.50}'
    assert {signed_form(path, text) for path in ("data.json", "a/b/data.json", ".manifest")} == {value}
    assert signed_form("golden/deny.json", text) == text


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"{",
        b'{"a": 1, "a": 2}',
        b"NaN",
        b"{} {}",
        b"\xef\xbb\xbf{}",
        b'"\\ud800"',
        b"\xff",
        b"[" * 300 + b"]" * 300,
        b"123456789012345678901234567890",
        b"a: 1\n",
    ],
)
def test_f2_a_document_with_two_readings_is_refused(document: bytes) -> None:
    assert code(lambda: canonical(document)) == "BUNDLE_JSON"
