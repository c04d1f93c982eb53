"""Strict JSON: the attacks C1-C9, and the classes of JSONTestSuite.

All of its `n_` classes are refused. Of `y_`, all are read but two with duplicate keys and one with NUL in a name.
Of `i_`, underflow to zero is read; the rest is refused.
"""

from __future__ import annotations

import json
import time

import pytest

from authz.config import Limits
from authz.errors import InvalidRequestError
from authz.protocol.strict_json import MAX_INTEGER, parse

LIMITS = Limits()


def refusal(body: bytes, limits: Limits = LIMITS) -> InvalidRequestError:
    with pytest.raises(InvalidRequestError) as caught:
        parse(body, limits)
    return caught.value


@pytest.mark.parametrize(
    "body",
    [
        b"null",
        b"false",
        b"-0",
        b'""',
        b" [ ] ",
        b'{"":0}',
        b'{"a":{"b":[1,2.5,-3e2,true,null]}}',
        b'["\\"\\\\\\/\\b\\f\\n\\r\\t\\u0041"]',
        b'["\\ud83d\\ude39","\xf0\x9d\x84\x9e","\x7f","\xe2\x80\xa8","\\uffff"]',
        b'{"text":"\\u0000 is a value like any other","\\\\u0000":1}',
        b"[9007199254740991,-9007199254740991]",
    ],
)
def test_what_is_json_is_read_as_the_standard_library_reads_it(body: bytes) -> None:
    assert parse(body, LIMITS).value == json.loads(body)


@pytest.mark.parametrize(
    "body", [b"[1e22]", b"[0.1]", b"[5e-324]", b"[1.7976931348623157e308]", b"[123e-10000000]", b"[-0.0]"]
)
def test_floats_in_the_range_of_a_double_are_read_as_doubles(body: bytes) -> None:
    value = parse(body, LIMITS).value
    assert value == json.loads(body)
    assert isinstance(value, list)
    assert type(value[0]) is float


@pytest.mark.parametrize(
    ("body", "offset"),
    [
        (b'{"name":"safe","name":"evil"}', 22),
        (b'{"name":"safe","n\\u0061me":"evil"}', 27),
        (b'{"a":[{"b":{"c":1,"c":1}}]}', 22),
        (b'{"\xc3\xa9":1,"\\u00e9":2}', 17),
    ],
)
def test_c1_a_duplicate_key_is_refused_at_any_depth_and_after_unescaping(body: bytes, offset: int) -> None:
    error = refusal(body)
    assert (error.reason.code, error.offset) == ("JSON_DUP_KEY", offset)


@pytest.mark.parametrize(
    "body",
    [
        '{"a":1}'.encode("utf-16"),
        '{"a":1}'.encode("utf-16-le"),
        '{"a":1}'.encode("utf-16-be"),
        '{"a":1}'.encode("utf-32"),
        '{"a":1}'.encode("utf-32-le"),
        b"\xef\xbb\xbf{}",
        b"\xef\xbb\xbf",
        b"\xe9",
        b"[\xff]",
        b"{\xf0\x9f\x87\xa8}",
        b"[\xe2\x81\xa0]",
    ],
)
def test_c3_another_encoding_is_refused(body: bytes) -> None:
    assert refusal(body).reason.code == "JSON_ENCODING"


@pytest.mark.parametrize(
    "number",
    b"NaN -NaN Infinity -Infinity +1 +Inf .5 -.5 1. 01 -012 1e 0e+ 1.0e- ++1 0.1.2".split(),
)
def test_c4_what_is_no_json_number_is_refused(number: bytes) -> None:
    assert refusal(b"[" + number + b"]").reason.code == "JSON_NUMBER"


@pytest.mark.parametrize("number", [b"1e400", b"-1e400", b"-123123e100000", b"9" * 400 + b".5"])
def test_c4_a_number_that_overflows_a_double_is_refused(number: bytes) -> None:
    error = refusal(b'{"x":1.5,"n":' + number + b"}")
    assert (error.reason.code, error.offset) == ("JSON_NUMBER_RANGE", 13)


@pytest.mark.parametrize(
    "number", [b"9007199254740992", b"-9007199254740992", b"9007199254740993", b"18446744073709551616", b"9" * 400]
)
def test_c5_an_integer_that_a_double_cannot_hold_exactly_is_refused(number: bytes) -> None:
    error = refusal(b'{"s":"9007199254740993","n":' + number + b"}")
    assert (error.reason.code, error.offset) == ("JSON_NUMBER_RANGE", 28)


def test_c5_five_thousand_digits_are_refused() -> None:
    assert refusal(b"[" + b"9" * 5000 + b"]").reason.code == "JSON_NUMBER_RANGE"


def test_c5_the_largest_safe_integers_are_exact() -> None:
    assert parse(b"[%d,%d]" % (MAX_INTEGER, -MAX_INTEGER), LIMITS).value == [MAX_INTEGER, -MAX_INTEGER]


@pytest.mark.parametrize(
    "body",
    [
        b'["\\ud800"]',
        b'["\\uDFAA"]',
        b'["\\ud800\\u0041"]',
        b'["\\ud800\\ud800\\n"]',
        b'["\xed\xa0\x80"]',
        b'["\xc0\xaf"]',
        b'["\xf4\xbf\xbf\xbf"]',
        b'["\xff"]',
        b'{"\\uDFAA":0}',
        b'{"a\\u0000b":1}',
        b'{"x":{"\\u0000" : 1}}',
        b'{"\\\\\\u0000":1}',
    ],
)
def test_c6_text_that_is_not_unicode_and_nul_in_a_name_are_refused(body: bytes) -> None:
    assert refusal(body).reason.code == "JSON_TEXT"


def test_c7_thirty_two_levels_are_read_and_the_thirty_third_is_refused() -> None:
    def nested(levels: int) -> bytes:
        return b'{"a":[' * (levels // 2) + b"[" * (levels % 2) + b"1" + b"]" * (levels % 2) + b"]}" * (levels // 2)

    assert parse(nested(32), LIMITS).simple
    error = refusal(nested(33))
    assert (error.reason.code, error.offset) == ("JSON_DEPTH", 96)


@pytest.mark.parametrize("body", [b"[" * 100_000, b'[{"":' * 50_000, b"[" * 150 + b"]" * 150])
def test_c7_deep_nesting_is_refused_without_recursion_and_quickly(body: bytes) -> None:
    started = time.thread_time()
    assert refusal(body).reason.code == "JSON_DEPTH"
    assert time.thread_time() - started < 0.025


def test_c7_a_body_over_its_size_is_refused_before_it_is_parsed() -> None:
    error = refusal(b"\xff" * (LIMITS.max_body_bytes + 1))
    assert (error.reason.code, error.offset) == ("JSON_SIZE", None)


def test_c7_a_route_may_take_larger_bodies() -> None:
    body = b'["' + b"x" * 100 + b'"]'
    limits = Limits(max_body_bytes=50)
    assert refusal(body, limits).reason.code == "JSON_SIZE"
    assert parse(body, limits, max_bytes=len(body)).value == ["x" * 100]


@pytest.mark.parametrize(
    "body",
    [
        b"[" + b"1," * 100 + b"1]",
        b"[" + b"{}," * 100 + b"{}]",
        b"{" + b",".join(b'"%d":0' % n for n in range(101)) + b"}",
        b'["\xc3\xa9",' + b"[1,2,3]," * 26 + b"0]",
    ],
)
def test_c7_too_many_keys_and_items_are_refused(body: bytes) -> None:
    assert refusal(body, Limits(json_keys=100)).reason.code == "JSON_SIZE"


def test_c7_commas_and_brackets_in_text_are_not_counted_as_items() -> None:
    text = ",[{" * 100
    assert parse(json.dumps({"text": text}).encode(), Limits(json_keys=16)).value == {"text": text}


def test_c7_a_string_over_its_bound_is_refused_where_it_begins() -> None:
    error = refusal(b'{"a":"' + b"x" * 60 + b'"}', Limits(json_string_bytes=50))
    assert (error.reason.code, error.offset) == ("JSON_SIZE", 5)
    assert parse(b'["' + b'x","' * 40 + b'"]', Limits(json_string_bytes=50)).simple


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"{}{}", "JSON_TRAILING"),
        (b"{}\0", "JSON_TRAILING"),
        (b'{"a":1}\n{"a":2}', "JSON_TRAILING"),
        (b"[1]]", "JSON_TRAILING"),
        (b'{"a":"b"}/**/', "JSON_TRAILING"),
        (b'{"a":"b"}#', "JSON_TRAILING"),
        (b"\x0c{}", "JSON_SYNTAX"),
        (b"[\x0b1]", "JSON_SYNTAX"),
        (b'["a\nb"]', "JSON_SYNTAX"),
        (b'["a\x00b"]', "JSON_SYNTAX"),
        (b"", "JSON_SYNTAX"),
        (b" ", "JSON_SYNTAX"),
        (b"{'a':1}", "JSON_SYNTAX"),
        (b"{a:1}", "JSON_SYNTAX"),
        (b'{"a":1,}', "JSON_SYNTAX"),
        (b"[1,]", "JSON_SYNTAX"),
        (b"[1 2]", "JSON_SYNTAX"),
        (b"[tru]", "JSON_SYNTAX"),
        (b"[True]", "JSON_SYNTAX"),
        (b'["\\x41"]', "JSON_SYNTAX"),
        (b'["\\u12"]', "JSON_SYNTAX"),
        (b'{"a":/*c*/1}', "JSON_SYNTAX"),
        (b'["a', "JSON_SYNTAX"),
        (b'{"a"', "JSON_SYNTAX"),
        (b"[0x1]", "JSON_SYNTAX"),
    ],
)
def test_c8_trailing_bytes_and_bad_syntax_are_refused(body: bytes, reason: str) -> None:
    assert refusal(body).reason.code == reason


@pytest.mark.parametrize(
    ("suite_class", "body", "outcome"),
    [
        ("number_real_underflow, number_double_huge_neg_exp", b"[4e-4000]", "read as 0.0"),
        ("number_huge_exp, number_pos_double_huge_exp", b"[0.7e00100000000000000000]", "JSON_NUMBER_RANGE"),
        ("number_real_pos_overflow", b"[77e9999]", "JSON_NUMBER_RANGE"),
        ("number_real_neg_overflow, number_neg_int_huge_exp", b"[-7e9999]", "JSON_NUMBER_RANGE"),
        ("number_too_big_pos_int", b"[700000000000000000000]", "JSON_NUMBER_RANGE"),
        ("number_too_big_neg_int, number_very_big_negative_int", b"[-700000000000000000000]", "JSON_NUMBER_RANGE"),
        ("object_key_lone_2nd_surrogate", b'{"\\udc01":1}', "JSON_TEXT"),
        ("string_1st_surrogate_but_2nd_missing, string_invalid_lonely_surrogate", b'["\\ud801"]', "JSON_TEXT"),
        ("string_1st_valid_surrogate_2nd_invalid", b'["\\ud801\\u4321"]', "JSON_TEXT"),
        ("string_incomplete_surrogate_and_escape_valid", b'["\\ud801\\t"]', "JSON_TEXT"),
        ("string_incomplete_surrogates_escape_valid", b'["\\ud801\\ud801\\t"]', "JSON_TEXT"),
        ("string_incomplete_surrogate_pair, string_invalid_surrogate", b'["\\ud801xyz"]', "JSON_TEXT"),
        ("string_inverted_surrogates", b'["\\udc01\\ud801"]', "JSON_TEXT"),
        ("string_lone_second_surrogate", b'["\\udc01"]', "JSON_TEXT"),
        ("string_UTF-8_invalid_sequence, string_invalid_utf-8", b'["x\xfe"]', "JSON_TEXT"),
        ("string_UTF8_surrogate", b'["\xed\xb0\x81"]', "JSON_TEXT"),
        ("string_iso_latin_1", b'["\xe8"]', "JSON_TEXT"),
        ("string_lone_utf8_continuation_byte", b'["\x82"]', "JSON_TEXT"),
        ("string_not_in_unicode_range", b'["\xf4\x90\x80\x80"]', "JSON_TEXT"),
        ("string_overlong_sequence_2_bytes", b'["\xc1\xaf"]', "JSON_TEXT"),
        ("string_overlong_sequence_6_bytes", b'["\xfc\x80\x80\x80\x81\xaf"]', "JSON_TEXT"),
        ("string_truncated-utf-8", b'["\xe1\x80"]', "JSON_TEXT"),
        ("string_UTF-16LE_with_BOM", b"\xff\xfe" + '["x"]'.encode("utf-16-le"), "JSON_ENCODING"),
        ("string_utf16LE_no_BOM", '["x"]'.encode("utf-16-le"), "JSON_ENCODING"),
        ("string_utf16BE_no_BOM", '["x"]'.encode("utf-16-be"), "JSON_ENCODING"),
        ("structure_UTF-8_BOM_empty_object", b"\xef\xbb\xbf{}", "JSON_ENCODING"),
        ("structure_500_nested_arrays", b"[" * 499 + b"]" * 499, "JSON_DEPTH"),
    ],
)
def test_c9_each_class_that_the_suite_leaves_open_has_our_choice(suite_class: str, body: bytes, outcome: str) -> None:
    if outcome == "read as 0.0":
        assert parse(body, LIMITS).value == [0.0], suite_class
    else:
        assert refusal(body).reason.code == outcome, suite_class


def test_c9_an_error_names_its_offset_over_lines_and_repeats_nothing_of_the_body() -> None:
    error = refusal(b'{\n"secret-name": 1,\n"secret-name": 2}')
    assert error.offset == 34
    assert "secret-name" not in str(error)
    assert error.__cause__ is None
    assert error.__suppress_context__


@pytest.mark.parametrize(
    ("body", "simple"),
    [
        (b'{"a":[1,"\xc3\xa9",{"b":null}]}', True),
        (b'{"a":"\\u00e9"}', True),
        (b'{"\\u00e9":1}', False),
        (b'{"a":[{"\xc3\xa9":1}]}', False),
        (b'{"a":1.5}', False),
        (b'{"a":1e2}', False),
    ],
)
def test_simple_means_ascii_names_and_no_floats(body: bytes, *, simple: bool) -> None:
    assert parse(body, LIMITS).simple is simple
