from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from authz.audit.detectors import Effort, ExhaustedError, key_traits, luhn, mod97, suspicious
from authz.audit.detectors import find as find_within

if TYPE_CHECKING:
    from authz.audit.detectors import Span

ENOUGH = 100
JWT = "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJhZ2VudC0xIn0.c2lnbmF0dXJl"
PRIVATE_KEY = "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEIB\n-----END EC PRIVATE KEY-----"

FOUND = [
    ("aws_access_key", "AKIAIOSFODNN7EXAMPLE"),
    ("aws_access_key", "ASIAIOSFODNN7EXAMPLE"),
    ("github_token", "ghp_" + "a1B2" * 9),
    ("github_token", "github_pat_" + "a1B2_" * 6),
    ("slack_token", "xoxb-123456789012-abcdefABCDEF"),
    ("slack_webhook", "hooks.slack.com/services/T000/B000/abcdef123456"),
    ("api_key", "AIza" + "Sy0-" * 8 + "abc"),
    ("api_key", "sk_live_" + "4eC39Hq" * 3),
    ("api_key", "glpat-" + "x1Y2" * 5),
    ("jwt", JWT),
    ("private_key", PRIVATE_KEY),
    ("private_key", "-----BEGIN PRIVATE KEY-----\nnever ends"),
    ("payment_card", "4111111111111111"),
    ("payment_card", "4111 1111 1111 1111"),
    ("payment_card", "5500-0000-0000-0004"),
    ("payment_card", "378282246310005"),
    ("payment_card", "2223003122003222"),
    ("iban", "DE89370400440532013000"),
    ("iban", "GB29 NWBK 6016 1331 9268 19"),
    ("us_ssn", "123-45-6789"),
    ("us_ssn", "123 45 6789"),
    ("email", "alice.o+tag@mail.example.com"),
    ("email", "josé@exämple.com"),
]

NOT_FOUND = [
    "1795687200123456789",  # a time in nanoseconds: no brand begins with 1
    "4111111111111112",  # fails Luhn
    "41111111111111111111111111111111",  # too long for a card, whatever its windows say
    "DE88370400440532013000",  # fails mod 97
    "000-12-3456",
    "666-12-3456",
    "123-00-4567",
    "123-45-0000",
    "2026-11-20T10:00:00Z",
    "3f1c0c1e-6a52-4f5e-9d52-1c2d3e4f5a6b",
    "the secret of a good password is length",
    "AKIA",
    "Bearer of bad news",
    "https://example.com:8080/a?b=c",
    "alice at example.com",
]


def find(text: bytes) -> list[Span]:
    return find_within(text, Effort(ENOUGH))


@pytest.mark.parametrize(("kind", "secret"), FOUND)
@pytest.mark.parametrize("frame", ["{}", "see {}, please", "\n{}\n", '"{}"', "x={} now"])
def test_each_class_is_found_whatever_surrounds_it(kind: str, secret: str, frame: str) -> None:
    text = frame.format(secret)
    spans = find(text.encode())
    assert [span.kind for span in spans] == [kind]
    masked = text.encode()[spans[0].start : spans[0].end].decode()
    assert masked == secret or (kind == "private_key" and masked.startswith(secret))


@pytest.mark.parametrize("text", NOT_FOUND)
def test_what_only_looks_like_a_secret_stays(text: str) -> None:
    assert find(text.encode()) == []


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("password=hunter22 rest", "hunter22"),
        ("Password: hunter22, rest", "hunter22"),
        ('{"client_secret": "hunter22"} cut', "hunter22"),
        ("api-key: 'hunter22'", "hunter22"),
        ("Authorization: Basic aHVudGVyMjI=", "aHVudGVyMjI="),
        ("Authorization: Bearer abcdefghijklmnop", "abcdefghijklmnop"),
        ("/callback?access_token=abc.def&x=1", "abc.def"),
        ("postgres://app:hunter22@db/x", "hunter22"),
    ],
)
def test_an_assigned_secret_is_found_without_its_name(text: str, secret: str) -> None:
    spans = find(text.encode())
    assert [text.encode()[span.start : span.end].decode() for span in spans] == [secret]


def test_a_card_is_found_between_other_numbers() -> None:
    text = b"1 4111 1111 1111 1111 12/27"
    assert [text[span.start : span.end] for span in find(text)] == [b"4111 1111 1111 1111"]


def test_two_cards_side_by_side_are_both_found() -> None:
    text = b"4111111111111111 5500000000000004"
    assert [text[span.start : span.end] for span in find(text)] == [b"4111111111111111", b"5500000000000004"]


def test_an_iban_is_found_where_words_follow_or_a_false_one_comes_before() -> None:
    text = b"AB12 BE68 5390 0754 7034 PLEASE"
    assert [text[span.start : span.end] for span in find(text)] == [b"BE68 5390 0754 7034"]


def test_overlapping_findings_become_one() -> None:
    text = b"password=AKIAIOSFODNN7EXAMPLE-and-more"
    assert [(span.start, span.end) for span in find(text)] == [(9, len(text))]


@pytest.mark.parametrize(
    "key",
    [
        "password", "PASSWORD", "dbPassword", "db_passwd", "client_secret", "clientSecret", "token", "access_token",
        "X-Api-Key", "apikey", "api_key", "Authorization", "proxy-authorization", "private_key", "privateKey",
        "credential", "credentials", "set-cookie", "passphrase", "aws_secret_access_key", "cvv",
    ],
)  # fmt: skip
def test_a_key_that_names_a_secret_is_known(key: str) -> None:
    assert key_traits(key).names_secret


@pytest.mark.parametrize("key", ["max_tokens", "tokens", "tokenizer", "secretary", "keyboard", "author", "monkey"])
def test_a_key_that_only_sounds_like_it_is_not(key: str) -> None:
    assert not key_traits(key).names_secret


def test_a_usual_document_is_not_suspicious() -> None:
    document = (
        b'{"agent":{"id":"agent-1"},"tool":{"name":"create_token"},"args":{"amount":120,"memo":"Invoice 4711"},'
        b'"time":{"rfc3339":"2026-11-20T10:00:00.123456789Z","unix_ns":1795687200123456789}}'
    )
    assert not suspicious(document)


@pytest.mark.parametrize("escape", [rb"\u0041KIAIOSFODNN7EXAMPLE", rb"\/", rb"\\u0070assword", b"4.111111111111111e15"])
def test_a_spelling_that_could_hide_a_secret_is_suspicious(escape: bytes) -> None:
    assert suspicious(b'{"a":"' + escape + b'"}')


@pytest.mark.parametrize(("digits", "valid"), [(b"79927398713", True), (b"79927398710", False), (b"0", True)])
def test_luhn_agrees_with_the_standard_example(digits: bytes, valid: bool) -> None:  # noqa: FBT001 - a table
    assert luhn(digits) is valid


def test_mod97_agrees_with_the_standard_example() -> None:
    assert mod97(b"GB82WEST12345698765432") == 1
    assert mod97(b"GB82WEST12345698765431") != 1


@pytest.mark.parametrize("unit", ["4 ", "a@b.co ", "DE89 3704 0044 0532 0130 00 ", "AA11 AA11AA11AA11 ", "pwd=abcd "])
def test_k3_many_candidates_are_not_looked_at_one_by_one(unit: str) -> None:
    with pytest.raises(ExhaustedError):
        find((unit * 200).encode())
