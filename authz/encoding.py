"""Encodings of what is signed, each read in the one way that leaves no second spelling.

Decides whether text is canonical base64url (RFC 7515 section 2), whether bytes are one strict JSON object, and which
instant a claim names; and the name of a token that may be shown.
Must never be lenient: two spellings of one token would be two cache keys, two log entries and one session (D12).
Trusts nothing. Errors carry no input: `ValueError` says what kind of thing was wrong, never what was read.
"""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from hashlib import sha256
from typing import TYPE_CHECKING, Final

import jiter

if TYPE_CHECKING:
    from authz.model import JsonObject, JsonValue


SHA256_BYTES: Final = 32
MAX_INSTANT: Final = 2**53
"""Beyond it a number of JSON is no longer exact."""


def token_digest(jti: str) -> str:
    """How a token is named in kills, in records and in the store of live tokens: SHA-256 of its `jti`, in hex."""
    return sha256(jti.encode()).hexdigest()


def encode_base64url(octets: bytes) -> str:
    """`octets` in base64url without padding."""
    return urlsafe_b64encode(octets).rstrip(b"=").decode("ascii")


def decode_base64url(text: str) -> bytes:
    """The bytes that `text` is the only spelling of.

    Raises:
        ValueError: padding, another alphabet, whitespace, or trailing bits that are not zero.
    """
    try:
        octets = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        raise ValueError("not base64url") from None
    # The decoder skips foreign characters and ignores loose bits; only the round trip shows them.
    if encode_base64url(octets) != text:
        raise ValueError("not canonical base64url")
    return octets


def is_sha256(text: str) -> bool:
    """Whether `text` is the canonical base64url of 32 bytes."""
    try:
        return len(decode_base64url(text)) == SHA256_BYTES
    except ValueError:
        return False


def decode_json_object(octets: bytes) -> JsonObject:
    """One JSON object: UTF-8, no duplicate keys at any depth, no NaN, nothing after it.

    Raises:
        ValueError: anything else.
    """
    try:
        # Uncached: strings of strangers must not live on in a process-wide cache.
        value = jiter.from_json(octets, allow_inf_nan=False, cache_mode="none", catch_duplicate_keys=True)
    except ValueError:
        raise ValueError("not strict JSON") from None
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004 - one error type, as documented
    return value


def numeric_date(value: JsonValue) -> float:
    """The instant of a claim in Unix seconds (NumericDate, RFC 7519 section 2).

    Raises:
        ValueError: not a number, True, negative, or one that only looks finite.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MAX_INSTANT:
        raise ValueError("not an instant")
    return float(value)
