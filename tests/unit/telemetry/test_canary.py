"""A secret in every place of a call appears in no record, span, metric or log."""

from __future__ import annotations

import io
import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from opentelemetry.sdk.resources import Resource

from authz.audit.record import one_line
from authz.errors import InvalidRequestError
from authz.model import Status
from authz.reasons import MCP_PARAMS
from authz.telemetry.logs import JsonFormatter, TextFormatter
from authz.telemetry.metrics import Metrics
from authz.telemetry.spans import observation, span
from authz.telemetry.trace_file import otlp
from tests.decisions import CALL, CHECK, INPUT, MASKER, RESULT, decision, record_writer

if TYPE_CHECKING:
    from authz.model import Check, Decision, JsonObject

AWS = "AKIAC4N4RYC4N4RY1234"
JWT = "eyJhbGciOiJjNG40cnkifQ.eyJzdWIiOiJjNG40cnkifQ.YzRuNHJ5YzRuNHJ5"
CANARIES = (AWS, JWT, "c4n4ry-plain", "4111 1111 1111 1111", "4111111111111111")


def outputs(check: Check, made: Decision) -> str:
    """Everything that one decision leaves behind, as text."""
    record = record_writer().record(check, made)
    exported = orjson.dumps(otlp(span(observation(check, made), Resource({}), MASKER.text)))
    metrics = Metrics(contract="envoy", revocation="none")
    metrics.observe(made)
    stream = io.StringIO()
    _log(stream, check, made)
    return (record + exported + metrics.exposition()[1]).decode() + stream.getvalue()


def _log(stream: io.StringIO, check: Check, made: Decision) -> None:
    for formatter in (JsonFormatter(MASKER.text), TextFormatter(MASKER.text)):
        try:
            orjson.loads(check.body or b"")
        except orjson.JSONDecodeError as error:
            refused = InvalidRequestError(MCP_PARAMS)
            refused.__cause__ = error
            extra = {"decision_id": made.id, "arguments": made.call and made.call.args, "reason": made.reason}
            entry = logging.getLogger("authz").makeRecord(
                "authz", logging.ERROR, __file__, 1, "refused", (), (type(refused), refused, None), extra=extra
            )
            stream.write(formatter.format(entry))


def in_input(**places: Any) -> Decision:
    return decision(input_json=orjson.dumps(INPUT | places))


@pytest.mark.parametrize("secret", CANARIES[:2])
@pytest.mark.parametrize("status", Status)
def test_j12_no_secret_of_the_arguments_is_left_anywhere(secret: str, status: Status) -> None:
    args: JsonObject = {
        "text": f"use {secret} now",
        "list": [1, {"deep": secret}],
        secret: "as a key",
        "password": "c4n4ry-plain",
        "credentials": {"user": "c4n4ry-plain"},
        "card": 4111111111111111,
        "note": "pay with 4111 1111 1111 1111, please",
        "json": orjson.dumps({"client_secret": "c4n4ry-plain", "x": secret}).decode(),
    }
    made = decision(
        status,
        input_json=orjson.dumps(INPUT | {"args": args}),
        result_json=orjson.dumps(RESULT | {"message": f"refused: {secret}", "tags": {"token": "c4n4ry-plain"}}),
        call=replace(CALL, args=args),
    )
    check = replace(CHECK, body=b"{not json: " + secret.encode())
    left = outputs(check, made)
    assert not [canary for canary in CANARIES if canary in left]


@pytest.mark.parametrize(
    "header", ["authorization", "cookie", "proxy-authorization", "x-api-key", "x-forwarded-for", "mcp-session-id"]
)
@pytest.mark.parametrize("secret", [f"Bearer {JWT}", "c4n4ry-plain"])
def test_j12_no_header_is_left_anywhere(header: str, secret: str) -> None:
    check = replace(CHECK, headers={header: secret})
    left = outputs(check, decision(call=replace(CALL, mcp_session=secret)))
    assert not [canary for canary in CANARIES if canary in left]


@pytest.mark.parametrize("header", ["authorization", "cookie", "x-api-key", "x-auth-token"])
def test_j12_a_credential_header_that_a_policy_is_shown_is_masked(header: str) -> None:
    shown = in_input(attributes={"request": {"http": {"headers": {header: "c4n4ry-plain"}}}})
    assert "c4n4ry-plain" not in outputs(CHECK, shown)


def test_j12_secrets_in_path_query_tool_and_reason_are_left_nowhere() -> None:
    made = decision(
        Status.POLICY_BLOCKED,
        reason=f"saw {AWS}",
        call=replace(
            CALL, tool=replace(CALL.tool, name=f"https://app:c4n4ry-plain@db/{AWS}"), idempotency_key=f"k-{AWS}"
        ),
        input_json=orjson.dumps(INPUT | {"http": {"path": f"/{AWS}/x", "query": "a=1&access_token=c4n4ry-plain"}}),
    )
    check = replace(CHECK, path=f"/{AWS}?access_token=c4n4ry-plain")
    left = outputs(check, made)
    assert not [canary for canary in CANARIES if canary in left]


def test_the_canary_would_be_seen() -> None:
    assert "c4n4ry-plain" in outputs(CHECK, in_input(args={"harmless": "c4n4ry-plain"}))


def test_one_line_changes_nothing_but_controls() -> None:
    document = orjson.dumps({"a": "é\u2028\x7f\x85😀"})
    assert orjson.loads(one_line(document)) == orjson.loads(document)
    assert one_line(document) == b'{"a":"\xc3\xa9\\u2028\\u007f\\u0085\xf0\x9f\x98\x80"}'
