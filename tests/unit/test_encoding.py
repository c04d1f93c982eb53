from __future__ import annotations

import pytest

from authz.encoding import decode_base64url, decode_json_object, encode_base64url


@pytest.mark.parametrize(
    ("octets", "text"), [(b"", ""), (b"f", "Zg"), (b"fo", "Zm8"), (b"foo", "Zm9v"), (b"\xfb\xff", "-_8")]
)
def test_base64url_has_one_spelling(octets: bytes, text: str) -> None:
    assert encode_base64url(octets) == text
    assert decode_base64url(text) == octets


@pytest.mark.parametrize(
    "text",
    ["Zg==", "Zm8=", "+/8", "Zm9v\n", " Zm9v", "Zm 9v", "Zm9v!", "Z", "Zh", "Zm9", "é", "Zm9v\x00", "Zm9v=", "A=A="],
)
def test_d12_another_spelling_of_base64url_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="base64url") as error:
        decode_base64url(text)
    assert error.value.__cause__ is None


def test_one_json_object_is_read() -> None:
    assert decode_json_object(b'{"a": [1, "\xc3\xa9", {"b": null}]}') == {"a": [1, "é", {"b": None}]}


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"[]",
        b"null",
        b'"text"',
        b'{"a": 1, "a": 1}',
        b'{"a": 1, "\\u0061": 2}',
        b'{"a": {"b": 1, "b": 2}}',
        b'{"a": NaN}',
        b'{"a": Infinity}',
        b"{} {}",
        b"{}\x00",
        b"\xef\xbb\xbf{}",
        b'{"a": "\xff"}',
        b'{"a": "\\ud800"}',
        '{"a": 1}'.encode("utf-16"),
        b'{"a": 01}',
        b"{'a': 1}",
        b'{"a": 1,}',
        b'{"a": ' + b"[" * 300 + b"]" * 300 + b"}",
        b'{"a": ' + b"9" * 5000 + b"}",
    ],
)
def test_d7_what_is_not_one_strict_json_object_is_refused(octets: bytes) -> None:
    with pytest.raises(ValueError, match="JSON") as error:
        decode_json_object(octets)
    assert error.value.__cause__ is None
