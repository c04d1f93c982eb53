"""Contract `agent`: only a result that is wholly understood is a decision."""

from __future__ import annotations

import contextlib
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz.errors import PolicyError
from authz.model import ApprovalRequest, Charge, Effect, HeaderChanges, Mode, Redaction, Risk, Verdict
from authz.policy.agent_contract import interpret

REDACTION = {"path": "/body", "replacement": "[REDACTED:ssn]"}
APPROVAL = {"approvers": ["finance"], "quorum": 2, "ttl_s": 900}


def read(**result: Any) -> Verdict:
    return interpret(orjson.dumps(result))


def refused(result: Any) -> str:
    with pytest.raises(PolicyError) as raised:
        interpret(result if result is None else orjson.dumps(result))
    return raised.value.reason.code


def test_a_whole_decision_is_read_whole() -> None:
    verdict = read(
        effect="allow",
        reason="granted",
        message="fine",
        rules=["grants"],
        risk="read",
        mode="flag",
        charges=[{"budget": "calls", "amount": 1}],
        headers={"set": {"X-Team": "blue"}, "remove": ["X-Debug"]},
        tags={"anything": [1, {"goes": None}]},
    )
    assert verdict == Verdict(
        effect=Effect.ALLOW,
        reason="granted",
        message="fine",
        rules=("grants",),
        risk=Risk.READ,
        mode=Mode.FLAG,
        charges=(Charge(budget="calls", amount=1),),
        headers=HeaderChanges(upsert={"x-team": ("blue",)}, remove=("x-debug",)),
        tags={"anything": [1, {"goes": None}]},
    )


def test_absent_risk_is_destructive_and_absent_mode_blocks() -> None:
    verdict = read(effect="deny")
    assert (verdict.risk, verdict.mode) == (Risk.DESTRUCTIVE, Mode.BLOCK)


def test_sanitize_takes_pointers_and_patterns() -> None:
    pattern = {**REDACTION, "pattern": "[0-9]+"}
    assert read(effect="sanitize", redactions=[REDACTION, pattern]).redactions == (
        Redaction(path="/body", replacement="[REDACTED:ssn]"),
        Redaction(path="/body", replacement="[REDACTED:ssn]", pattern="[0-9]+"),
    )


def test_an_approval_may_name_its_approvers_or_leave_them_to_the_default() -> None:
    named = read(effect="approval_needed", approval=APPROVAL).approval
    assert named == ApprovalRequest(approvers=("finance",), quorum=2, ttl_s=900)
    assert read(effect="approval_needed").approval is None


def test_g1_an_undefined_decision_denies_with_its_own_reason() -> None:
    assert refused(None) == "POLICY_UNDEFINED"


@pytest.mark.parametrize(
    "result",
    [
        True,
        "allow",
        1,
        [],
        {},
        {"effect": True},
        {"effect": "ALLOW"},
        {"effect": "allowed"},
        {"effect": None},
        {"effect": ["allow"]},
        {"effect": "allow", "reason": 1},
        {"effect": "allow", "message": None},
        {"effect": "allow", "rules": "grants"},
        {"effect": "allow", "rules": [1]},
        {"effect": "allow", "risk": "low"},
        {"effect": "allow", "mode": "log"},
        {"effect": "allow", "tags": []},
        {"effect": "allow", "obligations": {}},
        {"effect": "allow", "Effect": "deny"},
        {"effect": "allow", "allowed": True},
    ],
)
def test_g1_a_wrong_shape_denies(result: Any) -> None:
    assert refused(result) == "POLICY_TYPE"


@pytest.mark.parametrize(
    "redactions",
    [
        [],
        {},
        [{}],
        [{"path": "/a"}],
        [{"replacement": "x"}],
        [{"path": "a", "replacement": "x"}],
        [{"path": 1, "replacement": "x"}],
        [{"path": "/a", "with": "x"}],
        [{**REDACTION, "pattern": 1}],
        [{**REDACTION, "regex": "x"}],
    ],
)
def test_a_redaction_that_could_silently_not_happen_denies(redactions: Any) -> None:
    assert refused({"effect": "sanitize", "redactions": redactions}) == "POLICY_TYPE"


def test_effect_and_obligations_must_agree() -> None:
    assert refused({"effect": "allow", "redactions": [REDACTION]}) == "POLICY_TYPE"
    assert refused({"effect": "sanitize"}) == "POLICY_TYPE"
    assert refused({"effect": "allow", "approval": APPROVAL}) == "POLICY_TYPE"


@pytest.mark.parametrize(
    "change",
    [
        {"quorum": 0},
        {"quorum": True},
        {"quorum": 1.5},
        {"ttl_s": -1},
        {"ttl_s": 10**9},
        {"approvers": "finance"},
        {"x": 1},
    ],
)
def test_an_approval_out_of_bounds_denies(change: dict[str, Any]) -> None:
    assert refused({"effect": "approval_needed", "approval": {**APPROVAL, **change}}) == "POLICY_TYPE"


@pytest.mark.parametrize("amount", [-1, True, "1", None])
def test_i5_a_charge_that_is_no_amount_denies(amount: Any) -> None:
    assert refused({"effect": "allow", "charges": [{"budget": "b", "amount": amount}]}) == "POLICY_TYPE"


@pytest.mark.parametrize(
    "headers",
    [
        {"set": {":path": "/other"}},
        {"set": {"Host": "other"}},
        {"set": {"x y": "z"}},
        {"set": {"": "z"}},
        {"set": {"x": "a\r\nset-cookie: b"}},
        {"set": {"x": 1}},
        {"remove": "x"},
        {"remove": [":authority"]},
        {"add": {"x": "y"}},
        [],
    ],
)
def test_a17_a_policy_cannot_reroute_or_inject_by_headers(headers: Any) -> None:
    assert refused({"effect": "allow", "headers": headers}) == "POLICY_TYPE"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
keys = st.sampled_from(
    ["effect", "reason", "message", "rules", "risk", "mode", "redactions", "approval", "charges", "headers", "tags"]
)


@given(st.dictionaries(keys, json_values, max_size=5), st.sampled_from([e.value for e in Effect]))
def test_any_result_is_a_verdict_with_a_known_effect_or_a_refusal(result: dict[str, Any], effect: str) -> None:
    # Any other exception than a PolicyError fails the test.
    with contextlib.suppress(PolicyError):
        assert interpret(orjson.dumps({"effect": effect} | result)).effect in Effect
