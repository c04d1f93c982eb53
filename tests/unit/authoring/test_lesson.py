"""A recorded call becomes a case of a decision table (P5)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz.authoring.lesson import HEAD, extended, find, lesson
from authz.authoring.replay import Recorded
from authz.errors import ConfigError
from authz.policy.decision_table import Case, read_table

if TYPE_CHECKING:
    from pathlib import Path

DENY: dict[str, Any] = {"effect": "deny"}


def recorded(asked: dict[str, Any], *unknown: tuple[str, ...]) -> Recorded:
    return Recorded(
        id="d", timestamp="", tenant="", agent="", tool="", input_json=orjson.dumps(asked), unknown=tuple(unknown)
    )


def case(name: str = "one", **asked: Any) -> Case:
    return Case(name=name, input=asked, want=DENY)


def test_the_record_of_a_decision_is_found_among_others_and_broken_lines() -> None:
    lines = [b"{ d7", b'{"decision_id":"d70","input":{}}', b'{"decision_id":"d7","input":{"a":1}}']
    assert find(lines, "d7").input_json == b'{"a":1}'


def test_a_record_without_its_input_is_told_from_one_that_is_not_there() -> None:
    with pytest.raises(ConfigError, match="has no input"):
        find([b'{"decision_id":"d7"}'], "d7")
    with pytest.raises(ConfigError, match="no record"):
        find([b'{"decision_id":"d7"}'], "d8")


def test_values_are_put_in_the_places_that_were_masked_and_the_rest_is_left_unknown() -> None:
    asked = {"args": {"iban": "[MASKED]", "list": ["[MASKED]", 1]}}
    made = lesson(
        recorded(asked, ("args", "iban"), ("args", "list", "0")), "n", DENY, {("args", "list", "0"): {"x": 1}}
    )
    assert made.case.input == {"args": {"iban": "[MASKED]", "list": [{"x": 1}, 1]}}
    assert made.unknown == (("args", "iban"),)


@pytest.mark.parametrize("path", ["args.other", "args.list.7", "args.list.x", "args.iban.x", "gone.x"])
def test_a_value_for_a_place_that_is_not_there_is_refused(path: str) -> None:
    with pytest.raises(ConfigError, match="has no"):
        lesson(recorded({"args": {"iban": "x", "list": [1]}}), "n", DENY, {tuple(path.split(".")): 1})


@given(
    st.dictionaries(
        st.text(max_size=5),
        st.recursive(
            st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8),
            lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
        ),
        max_size=4,
    ),
    st.text(min_size=1, max_size=10),
)
def test_any_input_is_read_back_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, asked: dict[str, Any], name: str
) -> None:
    file = tmp_path_factory.mktemp("t") / "lessons.yaml"
    for number in range(2):
        file.write_text(extended(file, Case(name=f"{name}{number}", input=asked, want=DENY)), encoding="utf-8")
    assert [known.input for known in read_table(file).cases] == [asked, asked]
    assert [known.name for known in read_table(file).cases] == [f"{name}0", f"{name}1"]


@pytest.mark.parametrize("indent", ["", "  ", "    "])
def test_what_stands_in_a_table_stays_as_it_is(tmp_path: Path, indent: str) -> None:
    file = tmp_path / "t.yaml"
    text = f"# ours\ncases: # all\n\n{indent}# first\n{indent}- {{name: a, input: {{}}, want: {{effect: deny}}}}"
    file.write_text(text)
    made = extended(file, case(x=1))
    assert made.startswith(text)
    file.write_text(made)
    assert [known.name for known in read_table(file).cases] == ["a", "one"]


def test_a_case_is_written_once_and_at_the_end_of_cases_alone(tmp_path: Path) -> None:
    file = tmp_path / "t.yaml"
    file.write_text(extended(file, case()))
    assert file.read_text().startswith(HEAD)
    with pytest.raises(ConfigError, match="already"):
        extended(file, case())
    file.write_text(file.read_text() + "defaults: {}\n")
    with pytest.raises(ConfigError, match="does not end in its cases"):
        extended(file, case("two"))
