"""Whatever is shown as a DPoP proof: it is the owner's, for this request, or it is refused with one kind of error."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz.encoding import encode_base64url
from authz.errors import InvalidRequestError
from authz.identity import dpop
from tests.possession import OWNER, TOKEN, Desk

PROOF_CLAIMS = ["jti", "htm", "htu", "iat", "ath", "nonce"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@given(st.text(max_size=300) | st.text(alphabet="abcXYZ019-_.=", max_size=300))
def test_d14_any_text_is_no_proof(text: str) -> None:
    assert Desk().shows(text)


@given(st.dictionaries(st.sampled_from(["typ", "alg", "jwk", "kid"]) | st.text(max_size=6), JSON, min_size=1))
def test_d14_any_other_header_is_refused(header: dict[str, Any]) -> None:
    whole = {"typ": "dpop+jwt", "alg": "ES256", "jwk": OWNER.public()}
    assert Desk().shows(OWNER.proof(TOKEN, header)) or whole | header == whole


@given(st.dictionaries(st.sampled_from(PROOF_CLAIMS), JSON, min_size=1))
def test_d14_any_other_claims_are_refused_but_for_another_name_or_instant(claims: dict[str, Any]) -> None:
    changed = claims.keys() & {"htm", "htu", "ath"}
    assert Desk().shows(OWNER.proof(TOKEN, **claims)) or not changed


@given(st.binary(max_size=120), st.binary(max_size=200), st.binary(max_size=80))
def test_d14_any_three_parts_raise_one_of_two_errors(header: bytes, payload: bytes, signature: bytes) -> None:
    text = ".".join(map(encode_base64url, (header, payload, signature)))
    with pytest.raises((ValueError, InvalidRequestError)):
        dpop.parse(text)


@given(st.integers(min_value=0), st.integers(min_value=1, max_value=255))
def test_d14_any_other_byte_in_a_proof_is_refused(place: int, change: int) -> None:
    octets = bytearray(OWNER.proof(TOKEN).encode())
    octets[place % len(octets)] ^= change
    assert Desk().shows(octets.decode("latin-1"))


@given(st.text(max_size=60))
def test_a_target_has_one_spelling(text: str) -> None:
    for uri in (text, f"https://{text}", f"https://tools.example/{text}"):
        try:
            known = dpop.target(uri)
        except ValueError:
            continue
        assert dpop.target(known) == known
