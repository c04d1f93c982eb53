"""Every answer is explicit and complete, and says no more than it should."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from authz._gen.envoy.service.auth.v3.external_auth_pb2 import CheckResponse
from authz.config import Route
from authz.edge.reply import Replies, visible
from authz.model import (
    Check,
    Decision,
    Effect,
    HeaderChanges,
    LocalAnswer,
    Protocol,
    Redaction,
    Revision,
    Status,
    Verdict,
)
from tests.fakes import CALL, PRINCIPAL, ROUTE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from authz._gen.envoy.config.core.v3.base_pb2 import HeaderValueOption

HTTP = Route(path="/pay", protocol=Protocol.HTTP)


def decision(**fields: Any) -> Decision:
    base = Decision(
        id="d1",
        effect=Effect.DENY,
        enforced=Effect.DENY,
        status=Status.POLICY_BLOCKED,
        reason="payment_over_limit",
        message="over the limit",
        next_step="Ask for less.",
        rpc_code=4030,
        principal=PRINCIPAL,
        call=CALL,
        message_id=7,
        revision=Revision(revision="r1"),
        verdict=Verdict(effect=Effect.DENY),
    )
    return replace(base, **fields)


ALLOW = decision(effect=Effect.ALLOW, enforced=Effect.ALLOW, status=Status.ALLOWED, reason="granted")


def answer(
    given: Decision,
    check: Check | None = None,
    route: Route | None = ROUTE,
    credential: tuple[str, str] | None = None,
) -> CheckResponse:
    replies = Replies(lambda *_: credential)
    return CheckResponse.FromString(replies.render(check or Check(), given, route))


def headers(options: Iterable[HeaderValueOption]) -> dict[str, str]:
    return {option.header.key: option.header.value for option in options}


@pytest.mark.parametrize(
    ("effect", "enforced", "status"), list(itertools.product(Effect, Effect, [Status.ALLOWED, Status.ERROR]))
)
@pytest.mark.parametrize("local", [None, LocalAnswer(http_status=200)])
def test_a1_every_answer_is_explicit_and_consistent(
    effect: Effect, enforced: Effect, status: Status, local: LocalAnswer | None
) -> None:
    given = decision(effect=effect, enforced=enforced, status=status, local=local)
    response = answer(given)
    assert response.HasField("status")
    if given.forwards:
        assert response.status.code == 0
        assert response.WhichOneof("http_response") == "ok_response"
    else:
        assert response.status.code == 7
        assert response.WhichOneof("http_response") == "denied_response"
        assert response.denied_response.status.code != 0


def test_a_policy_denial_on_mcp_is_a_json_rpc_error_with_the_echoed_id() -> None:
    response = answer(decision())
    assert response.denied_response.status.code == 200
    body = json.loads(response.denied_response.body)
    assert body == {
        "jsonrpc": "2.0",
        "id": 7,
        "error": {
            "code": 4030,
            "message": "over the limit",
            "data": {"code": "payment_over_limit", "decision_id": "d1", "next_step": "Ask for less."},
        },
    }
    assert headers(response.denied_response.headers)["content-type"] == "application/json"


def test_an_unreadable_id_is_null_and_a_notification_has_none() -> None:
    assert json.loads(answer(decision(message_id=None)).denied_response.body)["id"] is None
    notification = decision(call=replace(CALL, notification=True, message_id=None), message_id=None)
    assert "id" not in json.loads(answer(notification).denied_response.body)


def test_a_denial_on_http_is_a_problem_document_with_its_reason_in_a_header() -> None:
    response = answer(decision(rpc_code=0, http_status=403), route=HTTP)
    assert response.denied_response.status.code == 403
    problem = json.loads(response.denied_response.body)
    assert (problem["status"], problem["code"], problem["decision_id"]) == (403, "payment_over_limit", "d1")
    sent = headers(response.denied_response.headers)
    assert sent["content-type"] == "application/problem+json"
    assert sent["x-authz-reason"] == "payment_over_limit"


def test_a_missing_token_is_unauthenticated_with_its_challenge() -> None:
    response = answer(decision(http_status=401, challenge='Bearer resource_metadata="https://x"'))
    assert response.status.code == 16
    assert headers(response.denied_response.headers)["www-authenticate"] == 'Bearer resource_metadata="https://x"'


@pytest.mark.parametrize("hostile", ["x\r\nset-cookie: a=b", "naïve", "a\x00b", "\u202eabc", "%0d%0a"])
def test_a14_a_reason_cannot_inject_a_header(hostile: str) -> None:
    sent = headers(answer(decision(reason=hostile)).denied_response.headers)["x-authz-reason"]
    assert sent.isascii()
    assert sent.isprintable()


def test_visible_keeps_what_is_plain() -> None:
    assert visible("payment_over_limit") == "payment_over_limit"


def test_the_callers_token_never_goes_upstream() -> None:
    response = answer(ALLOW, Check(headers={"authorization": "Bearer t", "x-authz-override": "t"}))
    assert {"authorization", "x-authz-override"} <= set(response.ok_response.headers_to_remove)


def test_the_tools_own_credential_replaces_the_callers() -> None:
    response = answer(ALLOW, Check(headers={"authorization": "Bearer t"}), credential=("authorization", "Bearer tool"))
    assert headers(response.ok_response.headers) == {"authorization": "Bearer tool"}


def test_a_denial_carries_no_credential() -> None:
    response = answer(decision(), credential=("authorization", "Bearer tool"))
    assert b"Bearer tool" not in response.SerializeToString()


def test_every_answer_names_the_decision_to_the_caller() -> None:
    assert headers(answer(ALLOW).ok_response.response_headers_to_add) == {"x-authz-decision-id": "d1"}
    assert headers(answer(decision()).denied_response.headers)["x-authz-decision-id"] == "d1"


def test_metadata_names_what_access_logs_and_later_phases_need() -> None:
    metadata = dict(answer(ALLOW).dynamic_metadata.items())
    assert metadata == {
        "decision_id": "d1",
        "effect": "allow",
        "enforced": "allow",
        "status": "allowed",
        "reason": "granted",
        "tenant": "acme",
        "agent": "agent-1",
        "tool": "read_document",
        "server": "default",
        "revision": "r1",
        "body_sha256": CALL.body_sha256,
    }


def test_metadata_names_the_tenants_own_revision_too() -> None:
    given = replace(ALLOW, revision=Revision(revision="r1", tenant=Revision(revision="t7")))
    metadata = dict(answer(given).dynamic_metadata.items())
    assert (metadata["revision"], metadata["tenant_revision"]) == ("r1", "t7")


def test_a_sanitize_carries_its_plan_bound_to_the_body() -> None:
    verdict = Verdict(effect=Effect.SANITIZE, redactions=(Redaction(path="/path", replacement="[X]"),))
    given = decision(effect=Effect.SANITIZE, enforced=Effect.SANITIZE, status=Status.SANITIZED, verdict=verdict)
    metadata = dict(answer(given).dynamic_metadata.items())
    assert metadata["sanitize_request"] is True
    assert json.loads(str(metadata["redaction_plan"]))["base"] == "/params/arguments"
    assert metadata["body_sha256"] == CALL.body_sha256


def test_an_allow_plans_nothing() -> None:
    assert "sanitize_request" not in dict(answer(ALLOW).dynamic_metadata.items())


def test_policy_headers_go_to_the_tool_only() -> None:
    verdict = Verdict(effect=Effect.ALLOW, headers=HeaderChanges(upsert={"x-team": ("blue",)}, remove=("x-debug",)))
    response = answer(replace(ALLOW, verdict=verdict))
    assert headers(response.ok_response.headers) == {"x-team": "blue"}
    assert "x-debug" in response.ok_response.headers_to_remove
    assert "x-team" not in headers(response.ok_response.response_headers_to_add)


def test_a_local_answer_is_not_forwarded() -> None:
    local = LocalAnswer(http_status=200, headers={"content-type": "application/json"}, body=b"{}")
    response = answer(replace(ALLOW, local=local))
    assert response.status.code == 7
    assert (response.denied_response.status.code, response.denied_response.body) == (200, "{}")
    assert headers(response.denied_response.headers)["x-authz-decision-id"] == "d1"


def test_a14_a_long_reason_is_cut_where_a_header_still_holds_it() -> None:
    assert visible("x" * 1000) == "x" * 256
