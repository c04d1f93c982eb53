from __future__ import annotations

from typing import Any

import pytest

from authz.audit.opa_masking import apply_rules, drops, parse_rules
from authz.errors import PolicyError

RECORD: dict[str, Any] = {
    "decision_id": "d",
    "input": {"user": {"password": "x", "name": "bob"}, "list": [{"ssn": "1"}, {"ssn": "2"}]},
    "result": {"allowed": True, "body": "no"},
}


def applied(*rules: Any) -> Any:
    return apply_rules(RECORD, parse_rules(list(rules)))


def test_a_pointer_erases_and_is_listed() -> None:
    record = applied("/input/user/password")
    assert record["input"]["user"] == {"name": "bob"}
    assert record["erased"] == ["/input/user/password"]
    assert "masked" not in record


def test_an_upsert_replaces_and_is_listed() -> None:
    record = applied({"op": "upsert", "path": "/input/user/password", "value": "**"})
    assert record["input"]["user"]["password"] == "**"
    assert record["masked"] == ["/input/user/password"]
    assert "erased" not in record


def test_an_upsert_makes_what_is_missing_as_opa_does() -> None:
    record = applied({"op": "upsert", "path": "/input/a/b", "value": 1})
    assert record["input"]["a"] == {"b": 1}


def test_rules_reach_into_arrays() -> None:
    record = applied("/input/list/0/ssn", {"op": "upsert", "path": "/input/list/1/ssn", "value": None})
    assert record["input"]["list"] == [{}, {"ssn": None}]


def test_a_removed_item_closes_the_gap() -> None:
    assert applied("/input/list/0")["input"]["list"] == [{"ssn": "2"}]
    assert applied({"op": "upsert", "path": "/input/list/0", "value": 0})["input"]["list"] == [0, {"ssn": "2"}]


def test_whole_documents_can_be_erased_or_replaced() -> None:
    record = applied("/input", {"op": "upsert", "path": "/result", "value": "hidden"})
    assert "input" not in record
    assert record["result"] == "hidden"
    assert (record["erased"], record["masked"]) == (["/input"], ["/result"])


def test_marks_that_are_there_stay_listed() -> None:
    record = apply_rules(RECORD | {"masked": ["/input/x"]}, parse_rules([{"op": "upsert", "path": "/result/body"}]))
    assert record["masked"] == ["/input/x", "/result/body"]


def test_the_record_itself_is_left_as_it_was() -> None:
    before = repr(RECORD)
    applied("/input/user/password", "/input/list/0", {"op": "upsert", "path": "/input/user/name", "value": 1})
    assert repr(RECORD) == before


@pytest.mark.parametrize(
    "rule",
    [
        "/input/nobody",
        "/input/user/password/deeper",
        "/input/list/2",
        "/input/list/x",
        "/input/list/-1",
        "/input/list/" + "9" * 5000,
        "/nd_builtin_cache/http.send",
        {"op": "upsert", "path": "/nd_builtin_cache/x", "value": 1},
        {"op": "upsert", "path": "/input/list/7/ssn", "value": 1},
        {"op": "upsert", "path": "/input/user/name/deeper", "value": 1},
    ],
)
def test_a_rule_whose_place_is_not_there_changes_nothing(rule: Any) -> None:
    assert applied(rule) == RECORD


@pytest.mark.parametrize(
    "result",
    [
        "/input/x",
        {"op": "remove", "path": "/input/x"},
        [1],
        [None],
        ["input/x"],
        [""],
        ["/"],
        ["/labels/id"],
        ["/inputs"],
        [{"path": "/input/x"}],
        [{"op": "delete", "path": "/input/x"}],
        [{"op": "remove"}],
        [{"op": "remove", "path": 1}],
    ],
)
def test_a_malformed_rule_is_an_error_and_never_silently_unapplied(result: Any) -> None:
    with pytest.raises(PolicyError):
        parse_rules(result)


def test_an_undefined_mask_has_no_rules() -> None:
    assert parse_rules(None) == ()


@pytest.mark.parametrize(
    ("result", "dropped"), [(True, True), (False, False), (None, False), ("true", False), ({}, False)]
)
def test_only_true_drops_a_record(result: Any, dropped: bool) -> None:  # noqa: FBT001 - a table
    assert drops(result) is dropped
