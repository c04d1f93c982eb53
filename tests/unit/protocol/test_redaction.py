"""Redaction: everywhere the value is, or not at all."""

from __future__ import annotations

import base64
import copy
import json
from typing import TYPE_CHECKING, Any

import pytest

from authz.config import Limits
from authz.errors import UnavailableError
from authz.model import Protocol, Redaction, Tool, ToolCall
from authz.protocol import redaction

if TYPE_CHECKING:
    from collections.abc import Mapping

    from authz.model import JsonValue

KEY = "AKIA1234567890ABCDEF"
AWS = Redaction(path="", pattern=r"AKIA[0-9A-Z]{16}", replacement="[key]")
LIMITS = Limits()


def whole(path: str, replacement: str = "[x]") -> Redaction:
    return Redaction(path=path, replacement=replacement)


def call(mirrors: Mapping[str, str] | None = None, protocol: Protocol = Protocol.MCP) -> ToolCall:
    tool = Tool(server="s", name="t", protocol=protocol, method="tools/call")
    return ToolCall(tool=tool, args_pointer="/params/arguments", mirrors=mirrors or {})


def test_a_whole_value_is_replaced_and_the_original_is_untouched() -> None:
    value: JsonValue = {"a": {"b": [1, {"c": "secret"}]}, "d": 2}
    before = copy.deepcopy(value)
    redacted = redaction.apply(value, [whole("/a/b/1/c"), whole("/d")])
    assert redacted.value == {"a": {"b": [1, {"c": "[x]"}]}, "d": "[x]"}
    assert redacted.count == 2
    assert value == before


def test_a_pattern_replaces_what_it_matches_and_nothing_else() -> None:
    redacted = redaction.apply({"note": f"key {KEY}, {KEY}."}, [AWS])
    assert (redacted.value, redacted.count) == ({"note": "key [key], [key]."}, 2)


def test_a_replacement_is_text_and_no_template() -> None:
    plan = [Redaction(path="/a", pattern="(b)", replacement=r"\1 \0 $1")]
    assert redaction.apply({"a": "abc"}, plan).value == {"a": r"a\1 \0 $1c"}


def test_the_order_of_the_plan_does_not_matter() -> None:
    value: JsonValue = {"a": {"b": KEY, "c": 1}}
    plan = [whole("/a"), whole("/a/b"), Redaction(path="/a/b", pattern="A", replacement=""), AWS]
    assert redaction.apply(value, plan).value == redaction.apply(value, plan[::-1]).value == {"a": "[x]"}


def test_nothing_planned_changes_nothing() -> None:
    redacted = redaction.apply({"a": 1}, [])
    assert (redacted.value, redacted.count) == ({"a": 1}, 0)


@pytest.mark.parametrize("path", ["/absent", "/list/2", "/list/-", "/list/01", "/text/0", "/a/b/c", "nopointer", "/~2"])
@pytest.mark.parametrize("pattern", ["", "x"])
def test_b1_a_redaction_that_points_at_nothing_is_an_error(path: str, pattern: str) -> None:
    value: JsonValue = {"list": [1, 2], "text": "x", "a": {"b": None}}
    with pytest.raises(UnavailableError) as caught:
        redaction.apply(value, [Redaction(path=path, pattern=pattern, replacement="")])
    assert (caught.value.reason.code, caught.value.reason.http_status) == ("REDACT_FAILED", 502)


@pytest.mark.parametrize("pattern", ["(", "a{2000}", r"(?=x)", r"(a)\1", "[z-a]"])
def test_b1_a_pattern_that_is_not_re2_is_an_error_that_does_not_repeat_it(pattern: str) -> None:
    with pytest.raises(UnavailableError, match="REDACT_FAILED") as caught:
        redaction.apply({"a": "x"}, [Redaction(path="", pattern=pattern, replacement="")])
    assert pattern not in str(caught.value)


@pytest.mark.parametrize(
    "hidden",
    [
        {KEY: 1},
        {"a": [[{"b": KEY}]]},
        json.dumps({"k": KEY}),
        json.dumps({"k": KEY}, indent=2),
        json.dumps(json.dumps({"k": KEY})),
        '{"k":"' + KEY.replace("A", "\\u0041") + '"}',
        'the result is {"k": "' + KEY.replace("A", "\\u0041") + '"} as asked',
        json.dumps({KEY: 1}),
        base64.b64encode(f"key={KEY}".encode()).decode(),
        base64.urlsafe_b64encode(f"key={KEY}??>".encode()).decode().rstrip("="),
        "data:text/plain;base64," + base64.b64encode(KEY.encode()).decode(),
        f"https://files.test/{KEY}?x",
    ],
)
def test_b7_a_pattern_finds_what_is_hidden(hidden: Any) -> None:
    value: JsonValue = {"content": [{"type": "text", "text": "ok"}], "_meta": {"x": hidden}, "note": "stays"}
    redacted = redaction.apply(value, [AWS])
    written = json.dumps(redacted.value)
    assert redacted.count >= 1
    for trace in (KEY, "\\u0041KIA", KEY.replace("A", "\\\\u0041"), base64.b64encode(KEY.encode()).decode()[:12]):
        assert trace not in written
    assert isinstance(redacted.value, dict)
    assert redacted.value["note"] == "stays"


def test_b7_a_number_is_searched_as_text() -> None:
    plan = [Redaction(path="", pattern=r"4[0-9]{15}", replacement="[card]")]
    assert redaction.apply({"n": 4111111111111111, "m": 41, "b": True, "z": None}, plan).value == {
        "n": "[card]",
        "m": 41,
        "b": True,
        "z": None,
    }


def test_b7_json_in_text_keeps_its_bytes_where_nothing_is_found() -> None:
    text = '{ "b": 1.50,\n  "a": [] }'
    assert redaction.apply({"t": text}, [AWS]).value == {"t": text}


def test_b7_names_that_would_become_one_are_an_error() -> None:
    with pytest.raises(UnavailableError, match="two names"):
        redaction.apply({KEY: 1, KEY[::-1].replace("AIKA", "") + "x": 2, "AKIA" + "0" * 16: 3}, [AWS])


def test_b7_json_nested_in_text_beyond_bounds_is_an_error() -> None:
    text = KEY
    for _ in range(7):
        text = json.dumps([text])
    with pytest.raises(UnavailableError, match="nested"):
        redaction.apply({"t": text}, [AWS])


def result(structured: Any, *texts: str) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": text} for text in texts], "structuredContent": structured}


def test_b7_a_value_cut_from_structured_content_leaves_its_text_copy_too() -> None:
    structured = {"ssn": "078-05-1120", "name": "Ada"}
    redacted = redaction.apply_to_result(
        result(structured, json.dumps(structured), json.dumps(structured, indent=4), "unrelated"),
        [whole("/structuredContent/ssn")],
    )
    assert isinstance(redacted.value, dict)
    content: Any = redacted.value["content"]
    assert json.loads(content[0]["text"]) == json.loads(content[1]["text"]) == {"ssn": "[x]", "name": "Ada"}
    assert content[2]["text"] == "unrelated"
    assert "078-05" not in json.dumps(redacted.value)


@pytest.mark.parametrize("length", [5, 256, 257, 5000])
def test_b7_a_value_cut_from_one_form_leaves_prose_in_the_other(length: int) -> None:
    secret = ("7.(*q" * length)[:length]
    mixed = result({"k": secret, "n": 1}, f"The key is {secret}, keep it.", json.dumps({"also": [secret]}), "fine")
    redacted = redaction.apply_to_result(mixed, [whole("/structuredContent/k")])
    assert secret not in json.dumps(redacted.value)
    assert isinstance(redacted.value, dict)
    content: Any = redacted.value["content"]
    assert [item["text"] for item in content[1:]] == ['{"also":["[x]"]}', "fine"]
    assert redacted.value["structuredContent"] == {"k": "[x]", "n": 1}


def test_b7_a_value_cut_from_the_text_leaves_the_structure_too() -> None:
    mixed = result({"deep": [{"k": f"<{KEY}>"}]}, KEY)
    redacted = redaction.apply_to_result(mixed, [whole("/content/0/text")])
    assert redacted.value == result({"deep": [{"k": "<[x]>"}]}, "[x]")


@pytest.mark.parametrize("path", ["/structuredContent", "/structuredContent/k", "/content", "/content/0/text"])
def test_b7_a_pattern_for_one_form_of_a_result_is_one_for_both(path: str) -> None:
    structured = {"k": KEY}
    plan = [Redaction(path=path, pattern=AWS.pattern, replacement="[key]")]
    redacted = redaction.apply_to_result(result(structured, f"your key is {KEY}"), plan)
    assert KEY not in json.dumps(redacted.value)


def test_a_result_without_structured_content_is_redacted_where_it_is() -> None:
    redacted = redaction.apply_to_result({"content": [{"text": KEY}]}, [whole("/content/0/text")])
    assert redacted.value == {"content": [{"text": "[x]"}]}
    redacted = redaction.apply_to_result(
        result({"a": 1}, '{"a":1}'), [whole("/content/0"), whole("/structuredContent")]
    )
    assert redacted.value == {"content": ["[x]"], "structuredContent": "[x]"}


@pytest.mark.parametrize("path", ["/structuredContent/absent", "/structuredContent/~2", "/content/9"])
def test_b1_a_redaction_that_points_at_nothing_in_a_result_is_an_error(path: str) -> None:
    with pytest.raises(UnavailableError, match="REDACT_FAILED"):
        redaction.apply_to_result(result({"a": 1}, "text"), [whole(path)])


def test_a_result_with_nothing_to_find_stays_as_it_is() -> None:
    untouched = result({"a": 1}, '{ "a": 1 }')
    redacted = redaction.apply_to_result(untouched, [Redaction(path="/content", pattern="AKIA", replacement="")])
    assert (redacted.value, redacted.count) == (untouched, 0)


def body(arguments: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"arguments": arguments}}).encode()


def test_a_plan_is_carried_out_on_the_body_of_a_call() -> None:
    redacted = redaction.apply_to_call(body({"note": KEY, "n": 1.5}), call(), [whole("/note")], LIMITS)
    assert json.loads(redacted.body)["params"]["arguments"] == {"note": "[x]", "n": 1.5}
    assert (redacted.headers, redacted.count) == ({}, 1)


def test_a_header_that_repeats_a_redacted_argument_is_rewritten() -> None:
    mirrored = call({"mcp-param-note": "/note", "mcp-param-to": "/to", "mcp-param-b": "/b"})
    plan = [whole("/note", "\N{FULL BLOCK}")]
    redacted = redaction.apply_to_call(body({"note": KEY, "to": "DE", "b": True}), mirrored, plan, LIMITS)
    assert redacted.headers == {"mcp-param-note": "=?base64?4paI?=", "mcp-param-to": "DE", "mcp-param-b": "true"}


@pytest.mark.parametrize(("path", "form"), [("/body/note", False), ("/body/note", True)])
def test_a_plan_is_carried_out_on_the_body_of_an_api_call(path: str, *, form: bool) -> None:
    raw = b"note=a+b&to=x&to=y%26" if form else b'{"note":"a b","to":["x","y&"]}'
    redacted = redaction.apply_to_call(raw, call(protocol=Protocol.HTTP), [whole(path, "[&]")], LIMITS, is_form=form)
    assert redacted.body == (b"note=%5B%26%5D&to=x&to=y%26" if form else b'{"note":"[&]","to":["x","y&"]}')


@pytest.mark.parametrize("path", ["/path/id", "/query/q"])
def test_a_plan_for_a_path_or_query_cannot_be_carried_out(path: str) -> None:
    with pytest.raises(UnavailableError, match="REDACT_FAILED"):
        redaction.apply_to_call(b"{}", call(protocol=Protocol.HTTP), [whole(path)], LIMITS)


def test_b1_a_form_that_cannot_be_read_is_an_error() -> None:
    for raw in (b"a=\xff", b"a=%ff"):
        with pytest.raises(UnavailableError, match="REDACT_FAILED"):
            redaction.apply_to_call(raw, call(protocol=Protocol.HTTP), [whole("/body/a")], LIMITS, is_form=True)


@pytest.mark.parametrize("raw", [b"", b"not json", b'{"a":1,"a":2}', b"\x1f\x8b\x08\x00"])
def test_b1_a_body_that_cannot_be_read_is_an_error_and_not_forwarded(raw: bytes) -> None:
    with pytest.raises(UnavailableError, match="REDACT_FAILED"):
        redaction.apply_to_call(raw, call(), [AWS], LIMITS)


def test_b1_absent_arguments_cannot_be_redacted() -> None:
    with pytest.raises(UnavailableError, match="REDACT_FAILED"):
        redaction.apply_to_call(b'{"params":{}}', call(), [whole("/note")], LIMITS)
