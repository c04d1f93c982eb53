"""Whatever arrives, a token that was not issued is refused, and with one kind of error."""

from __future__ import annotations

import string
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from authz.config import Route, TrustedPeer
from authz.encoding import decode_base64url, encode_base64url
from authz.errors import InvalidRequestError
from authz.identity import bearer, jwks, metadata
from authz.identity.trusted_peer import from_peer
from authz.model import Check
from authz.reasons import TOKEN_MISSING
from tests.identity_fakes import ALGORITHMS, Bench, Forge, document, reason_of, signing_key

BENCHES = [Bench(forge=Forge(signing_key(algorithm))) for algorithm in ALGORITHMS]
TOKENS = [bench.forge.token() for bench in BENCHES]
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
JSON = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3))
CLAIMS = ["iss", "aud", "sub", "exp", "iat", "nbf", "jti", "tenant", "agent_id", "session", "scope", "parents", "act"]


def is_refused(bench: Bench, token: str) -> bool:
    try:
        bench.verifier.verify(token)
    except InvalidRequestError:
        return True
    return False


@given(st.integers(0, 3), st.data())
def test_d12_any_other_character_anywhere_refuses_a_token(which: int, data: st.DataObject) -> None:
    token = TOKENS[which]
    position = data.draw(st.integers(0, len(token) - 1))
    other = data.draw(st.sampled_from(string.ascii_letters + string.digits + "-_.=+/ \n\t\0é"))
    mutated = token[:position] + other + token[position + 1 :]
    assert mutated == token or is_refused(BENCHES[which], mutated)


@given(st.integers(0, 3), st.data())
def test_d12_cutting_or_lengthening_refuses_a_token(which: int, data: st.DataObject) -> None:
    token = TOKENS[which]
    start, stop = sorted(data.draw(st.tuples(st.integers(0, len(token)), st.integers(0, len(token)))))
    inserted = data.draw(st.text(max_size=4))
    mutated = token[:start] + inserted + token[stop:]
    assert mutated == token or is_refused(BENCHES[which], mutated)


@given(st.integers(0, 3), st.data())
def test_d12_flipping_a_bit_of_a_decoded_part_refuses_a_token(which: int, data: st.DataObject) -> None:
    parts = TOKENS[which].split(".")
    index = data.draw(st.integers(0, 2))
    octets = bytearray(decode_base64url(parts[index]))
    bit = data.draw(st.integers(0, len(octets) * 8 - 1))
    octets[bit // 8] ^= 1 << bit % 8
    parts[index] = encode_base64url(bytes(octets))
    assert is_refused(BENCHES[which], ".".join(parts))


@given(st.text(max_size=300) | st.text(alphabet=string.ascii_letters + "-_.=", max_size=300))
def test_any_text_is_refused_with_one_kind_of_error(text: str) -> None:
    assert is_refused(BENCHES[0], text)


@given(st.binary(max_size=200), st.binary(max_size=200), st.binary(max_size=80))
def test_any_three_parts_are_refused_with_one_kind_of_error(header: bytes, payload: bytes, signature: bytes) -> None:
    assert is_refused(BENCHES[0], ".".join(map(encode_base64url, (header, payload, signature))))


@given(st.dictionaries(st.sampled_from(["alg", "kid", "typ", "crit", "jwk"]) | st.text(), JSON, min_size=1, max_size=3))
def test_any_signed_header_is_accepted_or_refused_with_one_kind_of_error(header: dict[str, Any]) -> None:
    bench = BENCHES[0]
    changed = bench.forge.header(**header) != bench.forge.header()
    assert is_refused(bench, bench.forge.token(header)) or not changed


@given(st.dictionaries(st.sampled_from(CLAIMS), JSON, min_size=1, max_size=3))
def test_any_signed_claims_give_a_whole_principal_or_one_kind_of_error(claims: dict[str, Any]) -> None:
    bench = BENCHES[0]
    try:
        principal = bench.verifier.verify(bench.forge.token(**claims))
    except InvalidRequestError:
        return
    assert principal.issuer == bench.forge.issuer
    names = (principal.tenant, principal.agent, principal.subject, *principal.parents)
    assert all(name and name.isprintable() and len(name.encode()) <= 256 for name in names)
    assert principal.expires_at - 900 <= bench.clock.unix_ns() / 1e9 + 30


@given(st.binary(max_size=400))
def test_any_signed_payload_is_refused_with_one_kind_of_error(payload: bytes) -> None:
    assert is_refused(BENCHES[0], BENCHES[0].forge.sealed(None, payload))


@given(st.binary(max_size=400))
def test_any_document_is_a_key_set_or_a_value_error(octets: bytes) -> None:
    try:
        keys = jwks.parse(octets)
    except ValueError:
        return
    assert keys.keys == ()


@given(
    st.lists(
        st.dictionaries(st.sampled_from(["kty", "kid", "alg", "use", "key_ops", "crv", "x", "y", "n", "e", "d"]), JSON),
        max_size=3,
    ),
    st.sampled_from(ALGORITHMS),
)
def test_any_bent_key_is_used_or_reported_and_never_raises(bends: list[dict[str, Any]], algorithm: str) -> None:
    entries = [signing_key(algorithm).jwk(str(serial)) | bend for serial, bend in enumerate(bends)]
    keys = jwks.parse(document(*entries))
    assert len(keys.keys) + len(keys.rejected) == len(entries)


@given(st.text(max_size=60), st.text(max_size=60), st.text(max_size=60))
def test_a11_any_headers_give_one_token_or_one_kind_of_error(value: str, cookie: str, path: str) -> None:
    try:
        token = bearer.from_headers({"authorization": f"Bearer {value}", "cookie": cookie}, path)
    except InvalidRequestError:
        return
    assert token
    assert " " not in token
    assert "," not in token


@given(st.text(max_size=60), st.text(max_size=10))
def test_a14_any_host_leaves_a_challenge_of_one_line(host: str, scheme: str) -> None:
    challenge = metadata.challenge(TOKEN_MISSING, Check(host=host, scheme=scheme), Route(path="/mcp"))
    assert challenge.startswith("Bearer")
    assert challenge.isprintable()
    assert challenge.isascii()


@given(st.text(max_size=80) | st.text(alphabet='uri=;,"\\spiffe:/example.org', max_size=80))
def test_a13_any_forwarded_certificate_is_an_agent_of_the_domain_or_refused(header: str) -> None:
    trust = TrustedPeer(trust_domain="example.org", tenant="acme", source="x-forwarded-client-cert")
    check = Check(headers={"x-forwarded-client-cert": header})
    if reason_of(lambda: from_peer(check, trust)) is None:
        assert from_peer(check, trust).subject.startswith("spiffe://example.org/")
