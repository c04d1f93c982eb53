"""F13: an update of data alone that lost its content is refused, and one that only changed is not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz.errors import BundleError
from authz.policy.data_guard import PARSED_BYTES, hold_data
from tests.unit.policy.test_fetching import Service, bundle

if TYPE_CHECKING:
    from pathlib import Path

GRANTS = {f"agent-{number}": {"tools": ["read", "write"], "limit": number} for number in range(40)}
DATA = {"grants": GRANTS, "owner": "payments", "hosts": ["a", "b"], "on": True}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=12,
)


def files(data: Any, policy: bytes = b"package authz\n") -> dict[str, bytes]:
    return {"policy.rego": policy, "data.json": orjson.dumps(data)}


def code(before: Any, after: Any, share: float = 0.5) -> str:
    try:
        hold_data(files(before), files(after), share=share)
    except BundleError as refused:
        return refused.code if refused.problems else "no place is named"
    return ""


@pytest.mark.parametrize(
    ("changed", "wanted"),
    [
        ({}, "BUNDLE_SHRINK"),
        (None, "BUNDLE_SHRINK"),
        ({**DATA, "grants": {}}, "BUNDLE_SHRINK"),
        ({**DATA, "grants": None}, "BUNDLE_SHRINK"),
        ({**DATA, "grants": dict(list(GRANTS.items())[:9])}, "BUNDLE_SHRINK"),
        ({**DATA, "grants": {**GRANTS, "agent-1": None}}, "BUNDLE_SHAPE"),
        ({**DATA, "grants": {**GRANTS, "agent-1": {"tools": [], "limit": 1}}}, "BUNDLE_SHAPE"),
        ({**DATA, "grants": {**GRANTS, "agent-1": {"tools": ["read", None], "limit": 1}}}, "BUNDLE_SHAPE"),
        ({**DATA, "grants": {**GRANTS, "agent-1": {"tools": "read", "limit": 1}}}, "BUNDLE_SHAPE"),
        ({**DATA, "owner": ""}, "BUNDLE_SHAPE"),
        ({**DATA, "owner": None}, "BUNDLE_SHAPE"),
        ({**DATA, "hosts": []}, "BUNDLE_SHAPE"),
        ({**DATA, "on": 1}, "BUNDLE_SHAPE"),
    ],
)
def test_f13_data_that_lost_its_content_is_refused(changed: Any, wanted: str) -> None:
    assert code(DATA, changed) == wanted
    assert code(DATA, changed, share=1.0) == ""


@pytest.mark.parametrize(
    "changed",
    [
        DATA,
        {**DATA, "more": {}},
        {**DATA, "on": False},
        {**DATA, "hosts": ["c"]},
        {**DATA, "grants": dict(list(GRANTS.items())[1:])},
        {**DATA, "grants": {**GRANTS, "agent-1": {"tools": ["read"], "limit": 0}}},
        {name: DATA[name] for name in ("grants", "owner")},
    ],
)
def test_f13_data_that_only_changed_is_taken(changed: Any) -> None:
    assert code(DATA, changed) == ""


def test_f13_a_change_of_modules_is_a_change_of_mind() -> None:
    hold_data(files(DATA), files({}, b"package authz\n\nx := 1\n"), share=0.5)


def test_f13_a_file_that_is_gone_has_lost_everything() -> None:
    with pytest.raises(BundleError, match="BUNDLE_SHRINK"):
        hold_data(files(DATA), {"policy.rego": b"package authz\n"}, share=0.5)
    with pytest.raises(BundleError, match="BUNDLE_SHAPE"):
        hold_data(files({"a": 1}), {"policy.rego": b"package authz\n"}, share=0.5)


def test_f13_what_is_too_large_to_parse_beside_decisions_is_judged_by_its_size() -> None:
    large = {"pad": ["x" * 1024] * (PARSED_BYTES // 1000)}
    assert code(large, {}) == "BUNDLE_SHRINK"
    assert code(large, {"pad": None, "other": large["pad"]}) == ""


@given(JSON)
def test_f13_the_same_data_is_never_refused(data: Any) -> None:
    assert code(data, data, share=0.01) == ""


@given(JSON, JSON)
def test_f13_any_data_is_judged_and_no_value_is_shown(before: Any, after: Any) -> None:
    assert code({"secret": before}, {"secret": after}) in {"", "BUNDLE_SHRINK", "BUNDLE_SHAPE"}


def test_f13_blank_data_that_is_published_changes_nothing_and_a_correction_is_taken(tmp_path: Path) -> None:
    service = Service(tmp_path)
    policy = {"policy.rego": b'package authz\n\ndecision := {"effect": "deny", "reason": "n"}\n'}

    def data(sequence: int, content: Any) -> str:
        published = bundle(sequence, **policy, **{"authz/data/data.json": orjson.dumps(content)})
        return service.publish(published)

    assert data(1, DATA) == ""
    assert data(2, {}) == "BUNDLE_SHRINK"
    assert service.activation.revision.revision == "payments-1"
    assert service.activation.quarantined == {}
    service.start()
    assert data(3, {**DATA, "owner": ""}) == "BUNDLE_SHAPE"
    assert data(4, {**DATA, "owner": "ann"}) == ""
    assert service.activation.revision.revision == "payments-4"
