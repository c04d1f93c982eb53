"""An explanation puts first what decided, and says what would have allowed this call and no other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
import pytest

from authz.errors import InvalidRequestError
from authz.explain import Explanation, explain
from authz.native import EngineError, Library
from authz.policy import agent_contract, envoy_contract
from authz.policy.engine import PolicySource
from authz.reasons import JSON_DUP_KEY

if TYPE_CHECKING:
    from pathlib import Path

POLICY = """package authz

import data.library

default decision := {"effect": "deny", "reason": "no_rule"}

decision := {"effect": "allow", "reason": "small"} if {
	input.tool.name == "pay"
	_within
	print("paying", input.args.amount)
}

decision := {"effect": "deny", "reason": "too_large"} if {
	input.tool.name == "pay"
	input.args.amount > 100
}

decision := {"effect": "allow", "reason": "read"} if input.tool.name == "read"

decision := {
	"effect": "approval_needed",
	"reason": "wire",
	"approval": {"approvers": ["finance"]},
} if input.tool.name == "wire"

decision := "yes" if input.tool.name == "typo"

decision := {"effect": "allow", "reason": input.tool.digest} if {
	input.tool.name == "twice"
	library.positive(1)
}

decision := {"effect": "deny", "reason": "other"} if input.tool.name == "twice"

_within if {
	library.positive(input.args.amount)
	input.args.amount <= 100
}
"""
LIBRARY = """package library

positive(number) if number > 0
"""


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    folder = tmp_path / "policy"
    folder.mkdir()
    (folder / "policy.rego").write_text(POLICY)
    return folder


@pytest.fixture
def library(tmp_path: Path) -> Path:
    folder = tmp_path / "library"
    folder.mkdir()
    (folder / "library.rego").write_text(LIBRARY)
    return folder


@pytest.fixture
def ask(policy: Path, library: Path) -> Any:
    def ask(tool: str, amount: int = 5, *, hides: bool = True) -> Explanation:
        asked = orjson.dumps({"tool": {"name": tool, "digest": "d"}, "args": {"amount": amount}})
        source = PolicySource(paths=(policy, library))
        hidden = (library,) if hides else ()
        return explain(Library.load(), source, "authz/decision", agent_contract.interpret, asked, hidden=hidden)

    return ask


def rows(lines: tuple[str, ...]) -> list[int]:
    return [int(line.partition(" ")[0].rpartition(":")[2]) for line in lines]


def test_the_rule_that_names_the_reason_comes_first(ask: Any) -> None:
    explained = ask("pay", 500)
    assert (explained.reason, rows(explained.decided), explained.is_allowed) == ("too_large", [13], False)


def test_what_would_allow_is_the_condition_below_the_rule_that_allows(ask: Any) -> None:
    (way,) = ask("pay", 500).ways
    assert way.endswith("policy.rego:37 input.args.amount <= 100")


def test_what_another_call_would_meet_is_no_way_for_this_one(ask: Any) -> None:
    explained = ask("delete")
    assert explained.reason == "no_rule"
    assert explained.ways == ()
    assert any('input.tool.name == "read"' in condition for condition in explained.failed)


def test_rules_of_hidden_folders_are_not_told_of(ask: Any) -> None:
    told = ask("pay", 5)
    everything = ask("pay", 5, hides=False)
    assert not any("library.rego" in line for line in (*told.held, *told.decided, *told.failed))
    assert any("library.rego" in line for line in everything.held)


def test_an_allowed_call_needs_nothing_more(ask: Any) -> None:
    explained = ask("pay", 5)
    assert (explained.is_allowed, explained.reason, explained.prints) == (True, "small", ("paying 5",))
    assert explained.profile[0][2] >= explained.profile[-1][2]


def test_an_approval_says_by_whom(ask: Any) -> None:
    explained = ask("wire")
    assert not explained.is_allowed
    assert explained.document()["approval"].approvers == ("finance",)


@pytest.mark.parametrize(("tool", "reason"), [("typo", "POLICY_TYPE"), ("twice", "POLICY_ERROR")])
def test_an_answer_that_is_no_decision_is_explained_as_the_denial_it_becomes(ask: Any, tool: str, reason: str) -> None:
    explained = ask(tool)
    assert (explained.verdict, explained.reason, explained.is_allowed) == (None, reason, False)
    assert explained.document()["effect"] == "deny"
    assert explained.message


def test_an_undefined_answer_is_explained(tmp_path: Path) -> None:
    (tmp_path / "p.rego").write_text("package authz\n\nallow if input.who\n")
    source = PolicySource(paths=(tmp_path,), contract="envoy")
    explained = explain(Library.load(), source, "authz/allow", envoy_contract.interpret, b"{}")
    assert explained.reason == "POLICY_UNDEFINED"
    assert [way.rpartition(" ")[2] for way in explained.ways] == ["input.who"]


def test_without_a_reason_the_entrypoint_decided(tmp_path: Path) -> None:
    (tmp_path / "p.rego").write_text("package authz\n\nallow := input.who == _owner\n\n_owner := 1\n")
    source = PolicySource(paths=(tmp_path,), contract="envoy")
    explained = explain(Library.load(), source, "authz/allow", envoy_contract.interpret, b'{"who": 1}')
    assert (rows(explained.decided), rows(explained.held)) == ([3], [5])


def test_a_refused_message_is_explained_without_a_policy() -> None:
    explained = Explanation.refusal(InvalidRequestError(JSON_DUP_KEY))
    assert (explained.reason, explained.is_allowed, explained.document()["effect"]) == ("JSON_DUP_KEY", False, "deny")


def test_a_policy_that_does_not_load_has_no_explanation(tmp_path: Path) -> None:
    (tmp_path / "p.rego").write_text("package authz\n\nallow := nowhere\n")
    with pytest.raises(EngineError):
        explain(Library.load(), PolicySource(paths=(tmp_path,)), "authz/allow", agent_contract.interpret, b"{}")
