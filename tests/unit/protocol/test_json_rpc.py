"""One message, of one kind, with an id that can be echoed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from authz.errors import InvalidRequestError
from authz.protocol import json_rpc

if TYPE_CHECKING:
    from authz.model import JsonValue


def refusal(value: JsonValue) -> InvalidRequestError:
    with pytest.raises(InvalidRequestError) as caught:
        json_rpc.read(value)
    return caught.value


def request(**members: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": "tools/list"} | members


@pytest.mark.parametrize("message_id", [0, 1, -7, 2**53 - 1, "", "a", "\N{SNOWMAN}", "x" * 256])
def test_a_request_has_a_string_or_integer_id(message_id: str | int) -> None:
    message = json_rpc.read(request(id=message_id, params={"a": 1}))
    assert (message.id, message.method, message.params) == (message_id, "tools/list", {"a": 1})
    assert not message.is_notification
    assert not message.is_response


def test_without_an_id_it_is_a_notification() -> None:
    message = json_rpc.read({"jsonrpc": "2.0", "method": "notifications/initialized"})
    assert message.is_notification
    assert message.params == {}


@pytest.mark.parametrize("batch", [[], [request()], [request(), request(method="tools/call")], [[]], [1]])
def test_c10_every_batch_is_refused(batch: JsonValue) -> None:
    error = refusal(batch)
    assert (error.reason.code, error.reason.rpc_code, error.message_id) == ("MCP_BATCH", -32600, None)


@pytest.mark.parametrize("value", [None, True, 1, 1.5, "x"])
def test_c11_what_is_no_object_is_refused(value: JsonValue) -> None:
    assert refusal(value).reason.code == "MCP_ENVELOPE"


@pytest.mark.parametrize("message_id", [None, 1.5, 1.0, True, {}, [], "x" * 257, "\N{SNOWMAN}" * 86, "x" * 10_000])
def test_c11_an_id_of_another_type_or_length_is_refused_and_not_echoed(message_id: JsonValue) -> None:
    error = refusal(request(id=message_id))
    assert (error.reason.code, error.message_id) == ("MCP_ENVELOPE", None)


@pytest.mark.parametrize("version", ["1.0", "2", 2.0, 2, None, "2.0 ", ["2.0"]])
def test_c11_another_json_rpc_version_is_refused_with_the_id_echoed(version: JsonValue) -> None:
    error = refusal(request(jsonrpc=version, id="seven"))
    assert (error.reason.code, error.message_id) == ("MCP_ENVELOPE", "seven")


@pytest.mark.parametrize("member", ["jsonrpc", "method"])
def test_c11_an_absent_member_is_refused_with_the_id_echoed(member: str) -> None:
    message = request(id=7)
    del message[member]
    error = refusal(message)
    assert (error.reason.code, error.message_id) == ("MCP_ENVELOPE", 7)


@pytest.mark.parametrize("method", [None, 1, "", ["tools/list"], {"name": "tools/list"}])
def test_c11_a_method_that_is_no_text_is_refused(method: JsonValue) -> None:
    assert refusal(request(method=method)).reason.code == "MCP_ENVELOPE"


@pytest.mark.parametrize("params", [None, [], [1], "x", 1])
def test_c16_params_are_an_object(params: JsonValue) -> None:
    error = refusal(request(params=params, id=7))
    assert (error.reason.code, error.reason.rpc_code, error.message_id) == ("MCP_PARAMS", -32602, 7)


@pytest.mark.parametrize("answer", [{"result": {}}, {"result": None}, {"error": {"code": 1, "message": ""}}])
def test_a_response_is_told_from_a_request(answer: dict[str, Any]) -> None:
    response: dict[str, Any] = {"jsonrpc": "2.0", "id": 3, **answer}
    message = json_rpc.read(response)
    assert message.is_response
    assert (message.id, message.method, message.params) == (3, "", {})


@pytest.mark.parametrize(
    "members",
    [
        {"result": {}, "id": 1, "method": "tools/call"},
        {"result": {}, "id": 1, "params": {}},
        {"result": {}, "error": {}, "id": 1},
        {"result": {}},
        {"error": {"code": 1, "message": ""}},
    ],
)
def test_c11_a_message_of_two_kinds_and_an_answer_to_nothing_are_refused(members: dict[str, Any]) -> None:
    assert refusal({"jsonrpc": "2.0"} | members).reason.code == "MCP_ENVELOPE"


@pytest.mark.parametrize(
    "name", ["Method", "METHOD", "PARAMS", "param\u017f", "ID", "Id", "jsonRPC", "re\u017fult", "Error"]
)
def test_c2_a_member_that_is_known_only_after_folding_is_refused(name: str) -> None:
    error = refusal(request(id=7) | {name: "tools/call"})
    assert (error.reason.code, error.message_id) == ("JSON_KEY_FOLD", 7)


def test_c2_the_kelvin_sign_folds_to_k() -> None:
    with pytest.raises(InvalidRequestError):
        json_rpc.refuse_folded(["to\u212aen"], {"token": "token"})
    json_rpc.refuse_folded(["token", "\u212a"], {"token": "token"})


def test_c16_members_that_the_protocol_does_not_know_are_not_read() -> None:
    assert json_rpc.read(request(tool="evil", approved=True)) == json_rpc.read(request())
