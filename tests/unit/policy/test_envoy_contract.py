"""Contract `envoy`: results that the parity suite cannot send, and the reasons of refusals."""

from __future__ import annotations

import orjson
import pytest

from authz.errors import PolicyError
from authz.model import Effect, Mode
from authz.policy.envoy_contract import STATUS_CODES, input_json, interpret
from authz.reasons import POLICY_BODY_TRUNCATED, POLICY_TYPE, POLICY_UNDEFINED


def test_g1_only_a_literal_true_allows() -> None:
    assert interpret(b"true").effect is Effect.ALLOW
    assert interpret(b'{"allowed": true}').effect is Effect.ALLOW
    assert interpret(b"false").effect is Effect.DENY
    assert interpret(b'{"allowed": false}').effect is Effect.DENY


@pytest.mark.parametrize("result", [b"1", b'"true"', b"null", b"[]", b"{}", b'{"allowed": 1}', b'{"result": true}'])
def test_g1_anything_else_is_refused_with_a_reason(result: bytes) -> None:
    with pytest.raises(PolicyError) as caught:
        interpret(result)
    assert caught.value.reason is POLICY_TYPE


def test_g1_undefined_is_not_a_denial_of_the_policys() -> None:
    with pytest.raises(PolicyError) as caught:
        interpret(None)
    assert caught.value.reason is POLICY_UNDEFINED


def test_a_number_that_no_double_holds_is_refused() -> None:
    with pytest.raises(PolicyError) as caught:
        interpret(b'{"allowed": true, "dynamic_metadata": {"n": 1e999}}')
    assert caught.value.reason is POLICY_TYPE


def test_a_refusal_names_the_key_and_never_its_value() -> None:
    with pytest.raises(PolicyError) as caught:
        interpret(b'{"allowed": true, "headers": {"authorization": ["secret-7f3a", 1]}}')
    assert "headers" in str(caught.value)
    assert "secret-7f3a" not in str(caught.value)


def test_a_denial_has_a_status_and_a_body_of_its_own() -> None:
    verdict = interpret(b"false")
    assert (verdict.http_status, verdict.body) == (403, "")
    assert interpret(b'{"allowed": false, "http_status": 302, "body": "x"}').http_status == 302


def test_an_allow_has_neither() -> None:
    verdict = interpret(b'{"allowed": true, "http_status": 500, "body": "x"}')
    assert (verdict.http_status, verdict.body) == (None, None)


@pytest.mark.parametrize("code", [0, 101, 306, 418, 425, 451, 600])
def test_a_status_that_envoy_does_not_know_is_refused(code: int) -> None:
    assert code not in STATUS_CODES
    with pytest.raises(PolicyError):
        interpret(orjson.dumps({"allowed": False, "http_status": code}))


def test_a_dry_run_flags_denials_and_drops_what_they_would_send() -> None:
    verdict = interpret(b'{"allowed": false, "headers": {"a": "1"}, "body": "x"}', dry_run=True)
    assert (verdict.effect, verdict.mode) == (Effect.DENY, Mode.FLAG)
    assert (verdict.headers.upsert, verdict.body) == ({}, None)


def test_a_dry_run_does_not_excuse_a_broken_result() -> None:
    with pytest.raises(PolicyError):
        interpret(b'{"allowed": "false"}', dry_run=True)


def test_a5_truncated_body_is_refused() -> None:
    with pytest.raises(PolicyError) as caught:
        input_json({"parsed_body": None, "truncated_body": True}, reads_truncated_body=False)
    assert caught.value.reason is POLICY_BODY_TRUNCATED


def test_a5_truncated_body_is_judged_by_a_policy_that_asks_for_it() -> None:
    assert orjson.loads(input_json({"truncated_body": True}, reads_truncated_body=True)) == {"truncated_body": True}


@pytest.mark.parametrize("document", [{"truncated_body": False}, {}])
def test_a_whole_or_skipped_body_is_judged_by_any_policy(document: dict[str, bool]) -> None:
    assert orjson.loads(input_json({**document}, reads_truncated_body=False)) == document
