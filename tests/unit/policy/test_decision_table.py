"""A table asks what it says, and refuses to be run where it could not mean it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from authz.errors import ConfigError, PolicyError
from authz.policy import agent_contract, envoy_contract
from authz.policy.decision_table import EVERY_CALL, Case, Difference, differences, read_table
from authz.reasons import POLICY_TIMEOUT
from tests.fakes import FakeQuery

if TYPE_CHECKING:
    from pathlib import Path

    from authz.policy.decision_table import Table

APPROVAL: dict[str, Any] = {
    "effect": "approval_needed",
    "reason": "large",
    "approval": {"approvers": ["finance"], "quorum": 1, "ttl_s": 900},
}
SANITIZE: dict[str, Any] = {
    "effect": "sanitize",
    "redactions": [{"path": "/a", "replacement": "[X]", "pattern": "[0-9]+"}, {"path": "/b", "replacement": "[Y]"}],
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "decisions.yaml"


def read(file: Path, text: str) -> Table:
    file.write_text(text)
    return read_table(file)


def one(file: Path, fields: str) -> Case:
    return read(file, f"cases:\n  - {{name: a case, {fields}}}\n").cases[0]


def unlike(answer: dict[str, Any] | Exception | None, want: dict[str, Any]) -> list[str]:
    found = differences(Case(name="a case", input={}, want=want), FakeQuery(answer), agent_contract.interpret)
    return [each.part for each in found]


def test_a_call_has_what_every_call_has_and_says_the_rest(file: Path) -> None:
    case = one(
        file, "call: {agent: {id: ann, tenant: acme}, tool: {name: pay}, args: {amount: 5}}, want: {effect: allow}"
    )
    assert case.input == EVERY_CALL | {
        "agent": {"id": "ann", "tenant": "acme", "subject": "", "session": "", "scopes": [], "parents": []},
        "tool": {"name": "pay", "server": "default", "protocol": "mcp", "method": "tools/call"},
        "args": {"amount": 5},
    }


def test_agent_and_tool_may_be_named_alone(file: Path) -> None:
    case = one(file, "call: {agent: ann, tool: pay}, want: {effect: allow}")
    assert (case.input["agent"]["id"], case.input["tool"]["name"]) == ("ann", "pay")  # type: ignore[index,call-overload]


def test_defaults_lie_between_what_every_call_has_and_what_the_case_says(file: Path) -> None:
    table = read(
        file,
        """
defaults: {agent: {id: ann, tenant: acme}, tool: {server: bank}}
cases:
  - {name: one, call: {tool: pay, agent: {tenant: umbrella}}, want: {effect: deny}}
""",
    )
    asked = table.cases[0].input
    assert asked["agent"] == {**EVERY_CALL["agent"], "id": "ann", "tenant": "umbrella"}  # type: ignore[dict-item]
    assert asked["tool"] == {**EVERY_CALL["tool"], "server": "bank", "name": "pay"}  # type: ignore[dict-item]


def test_an_input_is_whole_but_for_the_defaults(file: Path) -> None:
    table = read(
        file,
        "defaults: {attributes: {a: 1}}\ncases:\n  - {name: one, input: {attributes: {b: 2}}, want: {effect: deny}}\n",
    )
    assert table.cases[0].input == {"attributes": {"a": 1, "b": 2}}


def test_a_table_may_name_its_policy_beside_itself(file: Path) -> None:
    table = read(file, "policy: ../policy\nentrypoint: a/b\ncases:\n  - {name: one, input: {}, want: {effect: deny}}\n")
    assert (table.policy, table.entrypoint) == (file.parent / "../policy", "a/b")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[]", "not a mapping"),
        ("cases: []", "not a list of cases"),
        ("cases: {}", "not a list of cases"),
        ("casses: []", "did you mean `cases`?"),
        ("cases: [x]", "case 1 is not a mapping"),
        ("cases: [{call: {}, want: {effect: deny}}]", "`name` is missing"),
        ("cases: [{name: n, call: {}, wnat: {effect: deny}}]", "unknown key `wnat`, did you mean `want`?"),
        ("cases: [{name: n, call: {}, want: {efect: deny}}]", "want: unknown key `efect`, did you mean `effect`?"),
        ("cases: [{name: n, call: {agnet: ann}, want: {effect: deny}}]", "call: unknown key `agnet`"),
        ("cases: [{name: n, call: {phase: list}, want: {effect: deny}}]", "call: unknown key `phase`"),
        ("cases: [{name: n, want: {effect: deny}}]", "`call` or `input`, one of them"),
        ("cases: [{name: n, call: {}, input: {}, want: {effect: deny}}]", "`call` or `input`, one of them"),
        ("cases: [{name: n, call: {}}]", "nothing is tested"),
        ("cases: [{name: n, call: [], want: {effect: deny}}]", "call is not a mapping"),
        ("cases: [{name: n, call: {}, want: {effect: deny, effect: allow}}]", "set twice"),
        ("cases: [", "not YAML"),
    ],
)
def test_a_table_that_is_not_understood_is_refused(file: Path, text: str, complaint: str) -> None:
    with pytest.raises(ConfigError) as refused:
        read(file, text)
    assert complaint in str(refused.value)
    assert str(refused.value).startswith(str(file))


@pytest.mark.parametrize(
    "want",
    [
        {"effect": "approval_needed"},
        {"effect": "approval_needed", "reason": "large", "mode": "block", "risk": "destructive"},
        {"approval": {"quorum": 1}},
        {"approval": {"approvers": ["finance"]}},
        {"redactions": [], "charges": [], "tags": {}},
        {"headers": {"set": {}, "remove": []}},
    ],
)
def test_a_want_asks_for_the_parts_it_names(want: dict[str, Any]) -> None:
    assert unlike(APPROVAL, want) == []


@pytest.mark.parametrize(
    ("answer", "want"),
    [
        (APPROVAL, {"effect": "allow"}),
        (APPROVAL, {"reason": "small"}),
        (APPROVAL, {"approval": {"quorum": 2}}),
        (APPROVAL, {"approval": {"quorum": True}}),
        (APPROVAL, {"approval": {"approvers": []}}),
        (APPROVAL, {"approval": {"approver": "finance"}}),
        (APPROVAL, {"approval": None}),
        (SANITIZE, {"redactions": [{"path": "/a"}]}),
        (SANITIZE, {"redactions": [{"path": "/b"}, {"path": "/a"}]}),
        (SANITIZE, {"redactions": [{"path": "/a", "pattern": "x"}, {"path": "/b"}]}),
        (SANITIZE, {"redactions": [{"path": "/a"}, {"path": "/b", "pattern": ""}]}),
        ({"effect": "allow", "tags": {"a": 1}}, {"tags": {"a": 1, "b": 2}}),
    ],
)
def test_an_answer_that_is_not_as_wanted_differs_in_that_part(answer: dict[str, Any], want: dict[str, Any]) -> None:
    assert unlike(answer, want) == list(want)


def test_redactions_are_compared_one_by_one_in_their_order() -> None:
    assert unlike(SANITIZE, {"redactions": [{"path": "/a"}, {"path": "/b", "replacement": "[Y]"}]}) == []


@pytest.mark.parametrize(
    ("answer", "reason"),
    [(None, "POLICY_UNDEFINED"), ({"effect": "maybe"}, "POLICY_TYPE"), (PolicyError(POLICY_TIMEOUT), "POLICY_TIMEOUT")],
)
def test_an_answer_that_is_no_decision_is_the_denial_that_the_service_makes_of_it(
    answer: dict[str, Any] | Exception | None, reason: str
) -> None:
    assert unlike(answer, {"effect": "deny", "reason": reason}) == []
    assert unlike(answer, {"effect": "allow"}) == ["effect"]


def test_contract_envoy_speaks_of_status_and_headers() -> None:
    case = Case(name="a case", input={}, want={"effect": "deny", "http_status": 401, "headers": {"set": {"a": "b"}}})
    answer = FakeQuery({"allowed": False, "http_status": 403, "headers": {"a": "b"}})
    assert differences(case, answer, envoy_contract.interpret) == (Difference(part="http_status", want=401, got=403),)


def test_the_policy_is_asked_the_whole_input(file: Path) -> None:
    query = FakeQuery({"effect": "allow"})
    case = one(file, "call: {agent: ann, tool: pay}, want: {effect: allow}")
    differences(case, query, agent_contract.interpret)
    assert query.asked == [case.input]
