from __future__ import annotations

from typing import Any

import orjson
import pytest

from authz.audit.detectors import Effort
from authz.audit.masking import DEEPEST, MOST_CANDIDATES, MOST_MASKS, Masker
from authz.errors import ConfigError
from tests.decisions import KEY, MASKER

CARD = "4111111111111111"


def mask(document: dict[str, Any], **options: Any) -> tuple[Any, tuple[str, ...]]:
    masked, pointers = MASKER.mask(orjson.dumps(document), **options)
    return orjson.loads(masked), pointers


def test_a_document_without_secrets_is_returned_as_it_is() -> None:
    document = b'{"b" : 1, "a":"plain"}'
    masked, pointers = MASKER.mask(document)
    assert masked is document
    assert pointers == ()


def test_only_the_matched_stretch_is_replaced_and_named_with_its_class() -> None:
    masked, pointers = mask({"args": {"memo": f"pay {CARD} now"}})
    assert masked["args"]["memo"] == f"pay {MASKER.marker('payment_card', CARD.encode())} now"
    assert pointers == ("/args/memo",)


def test_equal_values_have_equal_marks_and_another_key_has_others() -> None:
    masked, _ = mask({"a": CARD, "b": CARD, "c": "5500000000000004"})
    assert masked["a"] == masked["b"] != masked["c"]
    assert Masker(key=b"another key of 32 bytes .........").marker("x", b"v") != MASKER.marker("x", b"v")


def test_everything_under_a_secret_key_is_masked() -> None:
    masked, pointers = mask({"args": {"credentials": {"user": "bob", "pins": [1234, None, True]}}})
    inside = masked["args"]["credentials"]
    assert inside["user"].startswith("[MASKED:secret:")
    assert inside["pins"][0].startswith("[MASKED:secret:")
    assert inside["pins"][1:] == [None, True]
    assert pointers == ("/args/credentials/user", "/args/credentials/pins/0")


@pytest.mark.parametrize("number", [4111111111111111, 4111111111111111.0])
def test_a_card_as_a_number_is_masked(number: float) -> None:
    masked, pointers = mask({"args": {"card": number, "amount": 12.5}})
    assert masked["args"] == {"card": MASKER.marker("payment_card", CARD.encode()), "amount": 12.5}
    assert pointers == ("/args/card",)


def test_a_fraction_with_the_digits_of_a_card_stays() -> None:
    assert mask({"ratio": 0.4111111111111111})[1] == ()


def test_a_key_that_is_a_secret_is_masked_also_in_the_list_of_masks() -> None:
    masked, pointers = mask({"args": {"AKIAIOSFODNN7EXAMPLE": 1}})
    (key,) = masked["args"]
    assert key == MASKER.marker("aws_access_key", b"AKIAIOSFODNN7EXAMPLE")
    assert pointers == (f"/args/{key}",)


def test_pointers_escape_what_rfc_6901_escapes() -> None:
    assert mask({"a/b~c": {"password": "hunter22"}})[1] == ("/a~1b~0c/password",)


def test_what_is_kept_stays_and_its_siblings_do_not() -> None:
    document = {"input": {"agent": {"subject": "a@example.com"}, "args": {"to": "a@example.com"}}}
    masked, pointers = mask(document, keep=(("input", "agent"),))
    assert masked["input"]["agent"]["subject"] == "a@example.com"
    assert pointers == ("/input/args/to",)


def test_json_inside_a_text_is_masked_by_its_own_keys_and_without_its_escapes() -> None:
    body = '{"password":"hunter22","id":"\\u0041KIAIOSFODNN7EXAMPLE","n":1}'
    masked, pointers = mask({"attributes": {"body": body}})
    inner = orjson.loads(masked["attributes"]["body"])
    assert inner["password"].startswith("[MASKED:secret:")
    assert inner["id"].startswith("[MASKED:aws_access_key:")
    assert inner["n"] == 1
    assert pointers == ("/attributes/body",)


def test_broken_json_inside_a_text_is_masked_as_text() -> None:
    masked, _ = mask({"body": '{"password":"hunter22","cut'})
    assert "hunter22" not in masked["body"]


def test_a_body_in_base64_is_replaced_whole() -> None:
    masked, pointers = mask({"http": {"rawBody": "eyJhIjoxfQ=="}})
    assert masked["http"]["rawBody"].startswith("[MASKED:encoded_body:")
    assert pointers == ("/http/rawBody",)


def test_past_the_limit_of_marks_the_member_is_replaced_and_the_others_stay() -> None:
    masked, pointers = mask({"reason": "r", "input": {"password": ["x"] * (MOST_MASKS + 2)}})
    assert masked["reason"] == "r"
    assert masked["input"].startswith("[MASKED:document:")
    assert pointers == ("/input",)


def test_past_the_limit_of_candidates_suspicious_texts_are_replaced_whole_and_others_stay() -> None:
    masked, pointers = mask({"input": {"to": ["a@example.com"] * MOST_CANDIDATES, "memo": f"pay {CARD}", "n": "plain"}})
    assert masked["input"]["to"][-1] == MASKER.marker("email", b"a@example.com")
    assert masked["input"]["memo"] == MASKER.marker("text", f"pay {CARD}".encode())
    assert masked["input"]["n"] == "plain"
    assert pointers[-1] == "/input/memo"


@pytest.mark.parametrize("unit", ["4 ", "a@b.co ", "DE89 3704 0044 0532 0130 00 ", "AA11 AA11 ", "pwd=abcd ", '{"'])
def test_k3_a_large_hostile_text_buys_no_more_looks_than_the_limit(unit: str) -> None:
    class Counted(Effort):
        looks = 0

        def spend(self, candidates: int = 1) -> None:
            self.looks += 1
            super().spend(candidates)

    effort = Counted(MOST_CANDIDATES)
    MASKER.text((unit * 200_000)[: 256 * 1024], effort)
    assert effort.looks <= MOST_CANDIDATES + 1


def test_past_the_limit_of_levels_the_member_is_replaced() -> None:
    nested: Any = CARD
    for _ in range(DEEPEST + 1):
        nested = [nested]
    masked, pointers = mask({"reason": "r", "input": nested})
    assert masked == {"reason": "r", "input": masked["input"]}
    assert masked["input"].startswith("[MASKED:document:")
    assert pointers == ("/input",)


def test_documents_within_documents_do_not_add_up_to_a_deep_recursion() -> None:
    text = CARD
    for _ in range(6):
        text = orjson.dumps({"body": "[" * 20 + orjson.dumps(text).decode() + "]" * 20}).decode()
    masked, _ = MASKER.mask(orjson.dumps({"input": text}))
    assert CARD.encode() not in masked


@pytest.mark.parametrize("document", [b'{"a":' + b"[" * 2000 + b'"token="' + b"]" * 2000 + b"}", rb'{"a":"\ud800"}'])
def test_what_cannot_be_walked_is_not_kept(document: bytes) -> None:
    masked, pointers = MASKER.mask(document)
    assert orjson.loads(masked)["unreadable"].startswith("[MASKED:document:")
    assert pointers == ("/unreadable",)


def test_a_masked_text_is_not_masked_again() -> None:
    once = MASKER.text("api_key: hunter22hunter22, secret=hunter22")
    assert MASKER.text(once) == once


def test_a_short_key_is_refused_and_no_key_is_shown() -> None:
    with pytest.raises(ConfigError, match="32 bytes"):
        Masker(key=b"short")
    assert KEY.decode() not in repr(MASKER)
