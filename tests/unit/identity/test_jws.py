from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from authz.encoding import encode_base64url
from authz.identity import jws
from authz.reasons import TOKEN_ALG, TOKEN_CLAIMS, TOKEN_HEADER, TOKEN_MALFORMED
from tests.identity_fakes import ABSENT, Forge, reason_of, signing_key

if TYPE_CHECKING:
    from authz.reasons import Reason

FORGE = Forge(signing_key("EdDSA"))
TOKEN = FORGE.token()
HEADER, PAYLOAD, SIGNATURE = TOKEN.split(".")


def test_a_token_is_taken_apart() -> None:
    parsed = jws.parse(TOKEN)
    assert (parsed.algorithm, parsed.kid, parsed.typ) == ("EdDSA", "k1", "at+jwt")
    assert parsed.claims == FORGE.claims()
    assert parsed.signed == f"{HEADER}.{PAYLOAD}".encode()
    assert parsed.signature == FORGE.key.sign(parsed.signed)


def test_kid_and_typ_may_be_absent() -> None:
    parsed = jws.parse(FORGE.token({"kid": ABSENT, "typ": ABSENT}))
    assert (parsed.kid, parsed.typ) == (None, "")


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        ("", TOKEN_MALFORMED),
        ("x", TOKEN_MALFORMED),
        (f"{HEADER}.{PAYLOAD}", TOKEN_MALFORMED),
        (f"{TOKEN}.", TOKEN_HEADER),
        (f"{TOKEN}.{SIGNATURE}", TOKEN_HEADER),
        (f"{HEADER}.{PAYLOAD}.x.y.z", TOKEN_HEADER),
        (f".{PAYLOAD}.{SIGNATURE}", TOKEN_HEADER),
        (f"{HEADER}..{SIGNATURE}", TOKEN_CLAIMS),
    ],
)
def test_d6_any_other_number_of_parts_is_refused(token: str, reason: Reason) -> None:
    assert reason_of(lambda: jws.parse(token)) is reason


@pytest.mark.parametrize("algorithm", ["none", "None", "nOnE", "NONE", "", "HS256", "HS512", "ES256K", "RS1", "eddsa"])
def test_d1_an_algorithm_off_the_list_is_refused(algorithm: str) -> None:
    assert reason_of(lambda: jws.parse(FORGE.token({"alg": algorithm}))) is TOKEN_ALG


@pytest.mark.parametrize("algorithm", [ABSENT, None, 1, ["EdDSA"], {"EdDSA": 1}, True])
def test_d1_an_algorithm_that_is_no_string_is_refused(algorithm: Any) -> None:
    assert reason_of(lambda: jws.parse(FORGE.token({"alg": algorithm}))) is TOKEN_ALG


def test_d1_an_empty_signature_is_refused() -> None:
    assert reason_of(lambda: jws.parse(f"{HEADER}.{PAYLOAD}.")) is TOKEN_ALG


@pytest.mark.parametrize(
    "parameter",
    [
        {"jku": "https://evil.example/keys"},
        {"x5u": "https://evil.example/certificate"},
        {"jwk": signing_key("EdDSA", 1).jwk()},
        {"x5c": ["MIIB"]},
        {"x5t": "AA"},
        {"x5t#S256": "AA"},
    ],
)
def test_d4_a_header_that_brings_its_own_key_is_refused(parameter: dict[str, Any]) -> None:
    assert reason_of(lambda: jws.parse(FORGE.token(parameter))) is TOKEN_HEADER


@pytest.mark.parametrize(
    "parameter",
    [
        {"crit": ["exp"]},
        {"crit": []},
        {"b64": False},
        {"b64": True, "crit": ["b64"]},
        {"zip": "DEF"},
        {"enc": "A256GCM"},
        {"cty": "JWT"},
        {"epk": {}},
        {"unknown": None},
        {"Alg": "none"},
    ],
)
def test_d6_any_other_header_parameter_is_refused(parameter: dict[str, Any]) -> None:
    assert reason_of(lambda: jws.parse(FORGE.token(parameter))) is TOKEN_HEADER


@pytest.mark.parametrize("kid", [1, None, "", ["k1"], True, {}, "k" * 257])
def test_d5_a_kid_that_is_no_short_string_is_refused(kid: Any) -> None:
    assert reason_of(lambda: jws.parse(FORGE.token({"kid": kid}))) is TOKEN_HEADER


@pytest.mark.parametrize("typ", [1, None, ["at+jwt"]])
def test_a_typ_that_is_no_string_is_refused(typ: Any) -> None:
    assert reason_of(lambda: jws.parse(FORGE.token({"typ": typ}))) is TOKEN_HEADER


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"[]",
        b"null",
        b"{",
        b'{"alg":"EdDSA","alg":"EdDSA"}',
        b'{"alg":"none","al\\u0067":"EdDSA"}',
        b'{"alg":"EdDSA"}x',
        b"\xef\xbb\xbf" + b'{"alg":"EdDSA"}',
        b'{"alg":"EdDSA","kid":"\xff"}',
    ],
)
def test_d6_a_header_that_is_not_one_strict_object_is_refused(header: bytes) -> None:
    assert reason_of(lambda: jws.parse(FORGE.sealed(header, b"{}"))) is TOKEN_HEADER


def test_d7_a_repeated_claim_is_refused() -> None:
    payload = b'{"scope":"read","sub":"alice","scope":"admin"}'
    assert reason_of(lambda: jws.parse(FORGE.sealed(None, payload))) is TOKEN_CLAIMS


@pytest.mark.parametrize("part", range(3))
@pytest.mark.parametrize("change", ["{}=", "{}==", "{}\n", " {}", "{} ", "{}+", "{}/", "{}%3D", "{}\x00"])
def test_d12_a_part_spelled_otherwise_is_refused(part: int, change: str) -> None:
    parts = [HEADER, PAYLOAD, SIGNATURE]
    parts[part] = change.format(parts[part])
    assert reason_of(lambda: jws.parse(".".join(parts))) is TOKEN_MALFORMED


def test_d12_loose_bits_at_the_end_of_a_signature_are_refused() -> None:
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    position = alphabet.index(SIGNATURE[-1])
    for bit in range(1, 16):
        other = f"{HEADER}.{PAYLOAD}.{SIGNATURE[:-1]}{alphabet[position ^ bit]}"
        assert reason_of(lambda other=other: jws.parse(other)) is TOKEN_MALFORMED  # type: ignore[misc]


def test_no_part_of_a_token_is_in_the_refusal() -> None:
    secret = encode_base64url(b'{"alg":"EdDSA","secret-canary":1}')
    with pytest.raises(Exception, match="TOKEN_HEADER") as refusal:
        jws.parse(f"{secret}.{PAYLOAD}.{SIGNATURE}")
    shown = f"{refusal.value!r} {refusal.value.__cause__!r} {refusal.value.__context__!r}"
    assert "canary" not in shown
    assert secret not in shown
