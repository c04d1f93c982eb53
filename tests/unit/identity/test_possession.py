"""A token bound to a key is good with that key's proof alone (D14; RFC 9449)."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Any

import pytest

from authz.config import Route
from authz.encoding import decode_base64url, encode_base64url
from authz.errors import InvalidRequestError, UnavailableError
from authz.identity import jwks
from authz.identity.replay import Replay
from authz.model import Check, Confirmation
from tests.identity_fakes import ABSENT, ALGORITHMS, NOW, Prover, signing_key
from tests.possession import OWNER, PEM, ROUTE, THIEF, TOKEN, X5T, Desk

if TYPE_CHECKING:
    from authz.model import JsonObject


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_owner_of_the_key_passes_once(desk: Desk, algorithm: str) -> None:
    prover = Prover(signing_key(algorithm))
    confirmation, headers = Confirmation(key=prover.jkt), {"dpop": prover.proof(TOKEN)}
    assert desk.told(confirmation, headers=headers) == ""
    assert "used before" in desk.told(confirmation, headers=headers)


def test_d14_a_stolen_token_with_another_key_is_refused(desk: Desk) -> None:
    assert "another key" in desk.shows(THIEF.proof(TOKEN))


def test_d14_another_key_that_names_itself_the_owners_is_refused(desk: Desk) -> None:
    forged = THIEF.proof(TOKEN, {"jwk": OWNER.public()})
    assert "does not verify" in desk.shows(forged)


def test_d14_a_stolen_token_without_a_proof_is_refused(desk: Desk) -> None:
    assert "exactly one" in desk.told(Confirmation(key=OWNER.jkt))
    assert "exactly one" in desk.shows(f"{OWNER.proof(TOKEN)},{OWNER.proof(TOKEN, jti='p-2')}")


def test_d14_a_bound_token_is_no_bearer_token_and_a_bearer_token_is_not_bound(desk: Desk) -> None:
    assert "wrong scheme" in desk.shows(OWNER.proof(TOKEN), scheme="Bearer")
    assert "wrong scheme" in desk.told(None, headers={"dpop": OWNER.proof(TOKEN)})
    assert "wrong scheme" in desk.told(Confirmation(certificate=X5T), source_certificate=PEM)


def test_a_bearer_token_needs_nothing_and_a_proof_beside_it_is_not_read(desk: Desk) -> None:
    assert desk.told(None, scheme="Bearer") == ""
    assert desk.told(None, scheme="Bearer", headers={"dpop": "nonsense"}) == ""


@pytest.mark.parametrize("method", ["GET", "post", "POST ", "", 1, None, ABSENT])
def test_d14_a_proof_for_another_method_is_refused(desk: Desk, method: Any) -> None:
    assert desk.shows(OWNER.proof(TOKEN, htm=method))


@pytest.mark.parametrize(
    "uri",
    [
        "https://tools.example/mcp?x=1",
        "https://tools.example/mcp#part",
        "https://tools.example:443/mcp",
        "HTTPS://Tools.Example/mcp",
    ],
)
def test_one_uri_may_be_spelled_as_the_rfc_allows(desk: Desk, uri: str) -> None:
    assert desk.shows(OWNER.proof(TOKEN, htu=uri)) == ""


@pytest.mark.parametrize(
    "uri",
    [
        "http://tools.example/mcp",
        "https://tools.example/mcp/",
        "https://tools.example/MCP",
        "https://tools.example/%6dcp",
        "https://tools.example",
        "https://tools.example:8443/mcp",
        "https://tools.example.evil/mcp",
        "https://evil@tools.example/mcp",
        "https://tools.example:x/mcp",
        "https://inside/mcp",
        "http://inside/mcp",
        "https:///mcp",
        "/mcp",
        "",
        "ftp://tools.example/mcp",
        "https://tools.example/mcp\n",
        7,
        None,
        ABSENT,
    ],
)
def test_d14_a_proof_for_another_resource_is_refused(desk: Desk, uri: Any) -> None:
    assert desk.shows(OWNER.proof(TOKEN, htu=uri))


@pytest.mark.parametrize(
    ("route", "request_path", "uri"),
    [
        (Route(path="/mcp"), "/mcp?a", "http://inside/mcp"),
        (Route(path_prefix="/v1/"), "/v1/pay?a", "http://inside/v1/pay"),
        (Route(path_prefix="/v1/", resource="https://api.example/pay/"), "/v1/x/y", "https://api.example/pay/x/y"),
        (Route(path_prefix="/", resource="https://api.example"), "/x", "https://api.example/x"),
        (None, "/x", "http://inside/x"),
    ],
)
def test_the_uri_is_that_of_the_routes_resource(desk: Desk, route: Route | None, request_path: str, uri: str) -> None:
    assert desk.shows(OWNER.proof(TOKEN, htu=uri), route=route, path=request_path) == ""
    assert desk.shows(OWNER.proof(TOKEN, jti="p-2", htu=f"{uri}/x"), route=route, path=request_path)


def test_without_a_resource_a_host_that_is_none_proves_nothing(desk: Desk) -> None:
    assert desk.shows(OWNER.proof(TOKEN, htu="http://inside/mcp"), route=Route(path="/mcp"), scheme="")


@pytest.mark.parametrize("offset", [-60, 0, 60])
def test_a_proof_of_this_minute_passes(desk: Desk, offset: int) -> None:
    assert desk.shows(OWNER.proof(TOKEN, iat=NOW + offset)) == ""


@pytest.mark.parametrize("instant", [NOW - 61, NOW + 61, 0, -1, 2**60, True, "now", str(NOW), None, ABSENT, [NOW]])
def test_d14_a_proof_of_another_time_is_refused(desk: Desk, instant: Any) -> None:
    assert desk.shows(OWNER.proof(TOKEN, iat=instant))


@pytest.mark.parametrize("token_sha256", ["", "x", encode_base64url(sha256(b"other").digest()), None, ABSENT, 1])
def test_d14_a_proof_for_another_token_is_refused(desk: Desk, token_sha256: Any) -> None:
    assert desk.shows(OWNER.proof(TOKEN, ath=token_sha256))


@pytest.mark.parametrize("jti", ["", "x" * 257, None, ABSENT, 1, ["a"]])
def test_d14_a_proof_without_a_name_of_its_own_is_refused(desk: Desk, jti: Any) -> None:
    assert desk.shows(OWNER.proof(TOKEN, jti=jti))


@pytest.mark.parametrize(
    "header",
    [
        {"typ": "JWT"},
        {"typ": "DPoP+JWT"},
        {"typ": ABSENT},
        {"alg": "none"},
        {"alg": "HS256"},
        {"alg": "RS256"},
        {"alg": "ES384"},
        {"alg": ABSENT},
        {"jwk": ABSENT},
        {"jwk": None},
        {"jwk": []},
        {"jwk": {}},
        {"jwk": {"kty": "oct", "k": "c2VjcmV0"}},
        {"jwk": {**OWNER.public(), "d": "c2VjcmV0"}},
        {"jwk": {**OWNER.public(), "use": "enc"}},
        {"jwk": {**OWNER.public(), "alg": "RS256"}},
        {"jwk": {**OWNER.public(), "crv": "P-384"}},
        {"jwk": {**OWNER.public(), "x": OWNER.public()["y"]}},
        {"kid": "k1"},
        {"crit": ["x"]},
        {"jku": "https://evil.example/keys"},
        {"x5c": ["MII"]},
        {"b64": False},
    ],
)
def test_d14_a_proof_with_any_other_header_is_refused(desk: Desk, header: dict[str, Any]) -> None:
    assert desk.shows(OWNER.proof(TOKEN, header))


def test_d14_the_second_spelling_of_a_signature_is_the_same_proof(desk: Desk) -> None:
    proof = OWNER.proof(TOKEN)
    signed, _, signature = proof.rpartition(".")
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    octets = decode_base64url(signature)
    other = octets[:32] + (order - int.from_bytes(octets[32:], "big")).to_bytes(32, "big")
    assert desk.shows(f"{signed}.{encode_base64url(other)}") == ""
    assert "used before" in desk.shows(proof)


def test_d14_a_replayed_proof_is_refused_for_as_long_as_it_is_of_this_minute(desk: Desk) -> None:
    proof = OWNER.proof(TOKEN, iat=NOW + 60)
    assert desk.shows(proof) == ""
    for _ in range(12):
        assert "used before" in desk.shows(proof)
        desk.clock.advance(10)
    assert "used before" in desk.shows(proof)
    desk.clock.advance(1)
    assert "this minute" in desk.shows(proof)


def test_d14_a_refused_proof_is_not_used_up(desk: Desk) -> None:
    proof = OWNER.proof(TOKEN)
    assert desk.shows(proof, method="GET")
    assert desk.shows(proof) == ""


def test_one_name_is_free_to_each_key() -> None:
    desk = Desk()
    for prover in (OWNER, THIEF):
        assert desk.told(Confirmation(key=prover.jkt), headers={"dpop": prover.proof(TOKEN)}) == ""


def test_d14_a_flood_of_proofs_ends_in_denials_and_not_in_a_replay() -> None:
    desk = Desk(replay=Replay(max_entries=3))
    proofs = [OWNER.proof(TOKEN, jti=f"p-{serial}") for serial in range(4)]
    assert [bool(desk.shows(proof)) for proof in proofs] == [False, False, False, True]
    assert all(desk.shows(proof) for proof in proofs)
    desk.clock.advance(80)
    assert desk.shows(OWNER.proof(TOKEN, jti="later", iat=NOW + 80)) == ""


def test_a_stepped_clock_judges_no_proof(desk: Desk) -> None:
    desk.clock.step(-3600)
    with pytest.raises(UnavailableError):
        desk.shows(OWNER.proof(TOKEN, iat=NOW - 3600))


# --- challenges


def challenge_of(confirmation: Confirmation, authorization: str) -> str:
    check = Check(method="POST", path="/mcp", headers={"authorization": authorization})
    with pytest.raises(InvalidRequestError) as raised:
        Desk().possession.require(confirmation, TOKEN, check, ROUTE)
    return raised.value.challenge


@pytest.mark.parametrize("scheme", ["Bearer", "DPoP"])
def test_who_must_show_a_key_is_told_of_dpop(scheme: str) -> None:
    challenge = challenge_of(Confirmation(key=OWNER.jkt), f"{scheme} {TOKEN}")
    assert challenge.startswith('DPoP error="invalid_dpop_proof", ')
    assert 'algs="ES256 EdDSA PS256 RS256"' in challenge
    assert 'resource_metadata="https://tools.example/.well-known/oauth-protected-resource/mcp"' in challenge


def test_who_must_show_a_certificate_is_told_that_the_token_will_not_do() -> None:
    challenge = challenge_of(Confirmation(certificate=X5T), f"Bearer {TOKEN}")
    assert challenge.startswith('Bearer error="invalid_token", ')
    assert "algs" not in challenge


def test_the_thumbprint_is_that_of_the_rfc() -> None:
    # RFC 7638 section 3.1.
    modulus = (
        "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3okn"
        "jhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6q"
        "MQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awap"
        "JzKnqDKgw"
    )
    entry: JsonObject = {"kty": "RSA", "n": modulus, "e": "AQAB", "alg": "RS256", "kid": "2011-04-29"}
    assert jwks.thumbprint(entry) == "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"


def test_a_key_is_read_strictly_and_used_for_its_own_algorithm() -> None:
    with pytest.raises(ValueError, match="another algorithm"):
        jwks.key(OWNER.public(), "PS256")
    assert jwks.key(OWNER.public(), "ES256").algorithm == "ES256"
