from __future__ import annotations

import re
from base64 import b64encode
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from authz import reasons
from authz.clock import rfc3339
from authz.errors import ConfigError
from authz.model import NO_REVISION, Effect, Mode, Phase, Revision, Status
from tests.decisions import CALL, CHECK, PARENT_ID, TRACE_ID, decision, record_writer, refusal

if TYPE_CHECKING:
    from authz.model import JsonObject


def record(made: Any, **changes: Any) -> dict[str, Any]:
    line = record_writer(**changes).record(CHECK, made)
    assert b"\n" not in line
    read = orjson.loads(line)
    assert isinstance(read, dict)
    return read


GOLDEN = {
    "schema": "authz.decision/v1",
    "labels": {"id": "sidecar-1", "version": "0.1.0", "revocation": "none"},
    "path": "authz/decision",
    "decision_id": "1780d507-aea2-45cc-ae50-fa153c8e4a5a",
    "timestamp": "2026-11-26T10:00:00.000000042Z",
    "status": "allowed",
    "effect": "allow",
    "enforced": "allow",
    "mode": "block",
    "phase": "call",
    "risk": "write",
    "tenant": "acme",
    "agent": "agent-1",
    "subject": "alice@example.com",
    "session": "s-1",
    "jti_sha256": "ab" * 32,
    "parents": ["agent-0"],
    "args_digest": "sha256:1",
    "latency_us": {"identity": 10, "policy": 50, "total": 75},
    "metrics": {"timer_rego_query_eval_ns": 50_000, "timer_server_handler_ns": 75_000},
    "trace_id": TRACE_ID,
    "span_id": "53995c3f42cd8ad8",
    "requested_by": "10.1.2.3:4711",
    "revision": "r7",
    "bundle_id": "starter",
    "change_id": "c-9",
    "rollout": "ro-1",
    "wave": "canary",
    "cohort": "candidate",
    "bundles": {"starter": {"revision": "r7"}},
    "reason": "granted",
    "tool": {"server": "bank", "name": "transfer_payment", "method": "tools/call"},
    "rules": ["grants.payments"],
    "input": {
        "version": 1,
        "agent": {"id": "agent-1", "subject": "alice@example.com"},
        "args": {"amount": 120},
        "time": {"unix_ns": 1_795_687_200_123_456_789},
    },
    "result": {"effect": "allow", "reason": "granted", "message": "ok"},
}


def test_the_tenants_own_bundle_is_named_by_its_tenant_with_all_that_it_is_and_its_answer_is_masked() -> None:
    own = Revision(revision="t7", bundle_id="starter", change_id="c-2", rollout="ro-2", wave="shadow")
    made = decision(
        revision=Revision(revision="r7", bundle_id="starter", tenant=own),
        tenant_result_json=b'{"effect": "allow", "message": "password=hunter22"}',
    )
    read = record(made)
    assert (read["revision"], read["bundle_id"]) == ("r7", "starter")
    assert read["bundles"] == {
        "starter": {"revision": "r7"},
        "acme/starter": {"revision": "t7", "change_id": "c-2", "rollout": "ro-2", "wave": "shadow"},
    }
    assert read["tenant_result"]["effect"] == "allow"
    assert "hunter22" not in str(read)


def test_an_allow_has_exactly_these_fields() -> None:
    assert record(decision()) == GOLDEN


def test_what_was_served_on_stale_knowledge_of_kills_says_so() -> None:
    assert record(replace(decision(), kills_stale=True)) == GOLDEN | {"kills": "stale"}


@pytest.mark.parametrize(
    ("status", "effect", "enforced"),
    [
        (Status.SANITIZED, "sanitize", "sanitize"),
        (Status.POLICY_BLOCKED, "deny", "deny"),
        (Status.FLAGGED_FOR_REVIEW, "deny", "allow"),
        (Status.APPROVAL_PENDING, "approval_needed", "approval_needed"),
        (Status.LIMIT_EXCEEDED, "deny", "deny"),
    ],
)
def test_a_policy_outcome_differs_from_an_allow_by_its_outcome_alone(
    status: Status, effect: str, enforced: str
) -> None:
    assert record(decision(status)) == GOLDEN | {"status": status, "effect": effect, "enforced": enforced}


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (Status.MALFORMED, reasons.PATH_UNKNOWN),
        (Status.UNAUTHENTICATED, reasons.TOKEN_EXPIRED),
        (Status.ERROR, reasons.SYS_DEADLINE),
    ],
)
def test_a_refusal_before_policy_has_no_input_and_nothing_null(status: Status, reason: reasons.Reason) -> None:
    read = record(refusal(status, reason.code))
    outcome = {"status": status, "effect": "deny", "enforced": "deny", "reason": reason.code}
    timed = {"latency_us": {"total": 20}, "metrics": {"timer_server_handler_ns": 20_000}}
    unknown = {
        "risk", "tenant", "agent", "subject", "session", "jti_sha256", "parents", "args_digest", "tool", "rules",
        "input", "result",
    }  # fmt: skip
    assert read == {key: value for key, value in GOLDEN.items() if key not in unknown} | outcome | timed


def test_a_killed_caller_is_named() -> None:
    read = record(refusal(Status.REVOKED, "REVOKED", principal=decision().principal, call=CALL))
    assert (read["status"], read["agent"], read["tool"]["name"]) == ("revoked", "agent-1", "transfer_payment")
    assert "input" not in read


def test_before_the_first_policy_there_is_no_revision() -> None:
    read = record(decision(revision=NO_REVISION))
    assert not {"revision", "bundle_id", "change_id", "rollout", "wave", "cohort", "bundles"} & read.keys()


def test_flag_mode_later_phase_hidden_tools_and_idempotency_key_are_recorded() -> None:
    call = replace(CALL, idempotency_key="k-1")
    made = decision(mode=Mode.FLAG, phase=Phase.LIST, hidden=("delete_records",), call=call, effect=Effect.DENY)
    read = record(made)
    assert (read["mode"], read["phase"], read["hidden"], read["idempotency_key"], read["effect"]) == (
        "flag",
        "list",
        ["delete_records"],
        "k-1",
        "deny",
    )


def test_inputs_off_leaves_the_input_out_and_keeps_its_digest() -> None:
    assert record(decision(), inputs="off") == {key: value for key, value in GOLDEN.items() if key != "input"}


def test_secrets_are_masked_and_pointed_to_in_input_result_and_tool() -> None:
    made = decision(
        input_json=b'{"args":{"memo":"4111 1111 1111 1111"},"http":{"path":"/a","query":"token=hunter22"}}',
        result_json=b'{"message":"card 4111 1111 1111 1111 refused"}',
        call=replace(CALL, tool=replace(CALL.tool, name="https://app:hunter22@db/x", method="resources/read")),
    )
    line = record_writer().record(CHECK, made)
    assert b"4111 1111" not in line
    assert b"hunter22" not in line
    read = orjson.loads(line)
    assert read["masked"] == ["/input/args/memo", "/input/http/query", "/tool/name", "/result/message"]
    for pointer in read["masked"]:
        value = read
        for part in pointer.split("/")[1:]:
            value = value[part]
        assert "[MASKED:" in value


def test_the_verified_identity_is_not_masked() -> None:
    made = decision(input_json=b'{"agent":{"subject":"alice@example.com"},"args":{"to":"bob@example.com"}}')
    read = record(made)
    assert read["input"]["agent"]["subject"] == read["subject"] == "alice@example.com"
    assert read["masked"] == ["/input/args/to"]


TOKEN = "Bearer eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJhZ2VudC0xIn0.c2lnbmF0dXJl"


def plugin_record(http: dict[str, Any], body: bytes | None = None, **more: Any) -> dict[str, Any]:
    """A record of contract `envoy`."""
    document: JsonObject = {"attributes": {"request": {"http": http}}, **more}
    check = replace(CHECK, headers=http["headers"], body=body, document=document)
    made = decision(call=None, input_json=orjson.dumps(document))
    line = record_writer().record(check, made)
    assert TOKEN.encode() not in line
    # The way past the walk must end where the walk does.
    walked = record_writer().record(replace(check, document=None), made)
    assert orjson.loads(line) == orjson.loads(walked)
    read = orjson.loads(line)
    assert isinstance(read, dict)
    return read


@pytest.mark.parametrize("body", [b'{"a":1}', b"\xff\x00"])
def test_the_plugins_input_is_masked_where_its_credentials_stand(body: bytes) -> None:
    http = {"headers": {"authorization": TOKEN, "accept": "*/*"}, "rawBody": b64encode(body).decode()}
    read = plugin_record(http, body, parsed_body={"a": 1})
    shown = read["input"]["attributes"]["request"]["http"]
    assert shown["headers"]["authorization"].startswith("[MASKED:secret:")
    assert shown["headers"]["accept"] == "*/*"
    assert shown["rawBody"].startswith("[MASKED:encoded_body:")
    place = "/input/attributes/request/http"
    assert sorted(read["masked"]) == [f"{place}/headers/authorization", f"{place}/rawBody"]


@pytest.mark.parametrize(
    "more",
    [
        {"parsed_body": {"authorization": TOKEN}},
        {"parsed_body": {"copy": TOKEN}},
        {"parsed_body": {"card": "4111 1111 1111 1111"}},
        {"parsed_body": {"text": '"authorization":"' + TOKEN + '"'}},
    ],
)
def test_a_credential_that_the_caller_repeats_is_masked_there_too(more: dict[str, Any]) -> None:
    read = plugin_record({"headers": {"authorization": TOKEN}}, **more)
    assert len(read["masked"]) == 2
    assert "4111" not in str(read)


def test_j12_newlines_and_terminal_sequences_in_a_tool_name_stay_escaped() -> None:
    name = 'x\n{"status":"allowed"}\r\x1b[2J\x7f\x9b1m\x85\u2028'
    line = record_writer().record(CHECK, decision(call=replace(CALL, tool=replace(CALL.tool, name=name))))
    assert not re.search("[\x00-\x1f\x7f-\x9f]", line.decode())
    assert len(line.decode().splitlines()) == 1
    assert orjson.loads(line)["tool"]["name"] == name


def test_j12_a_megabyte_of_arguments_is_one_line() -> None:
    line = record_writer().record(CHECK, decision(input_json=orjson.dumps({"args": {"text": "a\n" * 500_000}})))
    assert b"\n" not in line
    assert len(orjson.loads(line)["input"]["args"]["text"]) == 1_000_000


def test_headers_of_the_check_are_never_recorded() -> None:
    headers = {"authorization": "Bearer k4n4ry-k4n4ry-k4n4ry", "cookie": "sid=k4n4ry", "x-api-key": "k4n4ry"}
    assert b"k4n4ry" not in record_writer().record(replace(CHECK, headers=headers), decision())


def test_the_parent_of_the_span_is_the_traces_business() -> None:
    assert PARENT_ID.encode() not in record_writer().record(CHECK, decision())


@pytest.mark.parametrize("label", ["id", "version", "revocation"])
def test_a_writer_without_its_labels_is_not_made(label: str) -> None:
    labels = {name: value for name, value in {"id": "a", "version": "1", "revocation": "none"}.items() if name != label}
    with pytest.raises(ConfigError, match=label):
        record_writer(labels=labels)


@pytest.mark.parametrize(
    ("unix_ns", "text"),
    [
        (0, "1970-01-01T00:00:00.000000000Z"),
        (999_999_999, "1970-01-01T00:00:00.999999999Z"),
        (1_795_687_200_123_456_789, "2026-11-26T10:00:00.123456789Z"),
    ],
)
def test_timestamps_keep_their_nanoseconds(unix_ns: int, text: str) -> None:
    assert rfc3339(unix_ns) == text
