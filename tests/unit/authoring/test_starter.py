"""A new policy grants nothing by itself, is sound at once, and never replaces a file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from authz.authoring.starter import for_tools, template, write
from authz.authoring.tool_server import ListedTool
from authz.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

TOOLS = (ListedTool(name="read", says_read_only=True), ListedTool(name="delete.all"))
NAMES = st.lists(st.from_regex(r"[A-Za-z0-9_.-]{1,128}", fullmatch=True), min_size=1, max_size=20, unique=True)


def parsed(files: dict[str, str], name: str) -> Any:
    return yaml.safe_load(files[name])


def test_a_policy_has_rules_data_tests_and_a_manifest() -> None:
    assert sorted(template()) == [
        ".manifest",
        "README.md",
        "data.yaml",
        "policy.rego",
        "policy_test.rego",
        "tests/decisions.yaml",
    ]


def test_the_tools_of_a_server_are_known_and_not_granted() -> None:
    known = parsed(for_tools(TOOLS), "data.yaml")
    assert known["tenants"] == {"acme": {"grants": {}}}
    assert known["risks"] == {"default": {"read": "destructive", "delete.all": "destructive"}}


def test_a_read_only_hint_is_a_comment_and_lowers_no_risk() -> None:
    hinted = for_tools(TOOLS)["data.yaml"]
    assert '"read": destructive # it says: read-only\n' in hinted
    assert '"delete.all": destructive\n' in hinted


def test_every_tool_has_a_case_that_refuses_it() -> None:
    cases = parsed(for_tools(TOOLS), "tests/decisions.yaml")["cases"]
    assert [(case["call"]["tool"], case["want"]["effect"]) for case in cases] == [
        ("read", "deny"),
        ("delete.all", "deny"),
    ]


@given(NAMES)
def test_any_names_of_tools_stay_names(names: list[str]) -> None:
    files = for_tools([ListedTool(name=name) for name in names])
    assert list(parsed(files, "data.yaml")["risks"]["default"]) == names
    assert [case["call"]["tool"] for case in parsed(files, "tests/decisions.yaml")["cases"]] == names


def test_a_server_without_tools_has_no_policy_to_write() -> None:
    with pytest.raises(ConfigError, match="lists no tools"):
        for_tools(())


def test_files_are_written_below_a_folder_that_is_made(tmp_path: Path) -> None:
    written = write(tmp_path / "new" / "policy", {"a.rego": "x", "tests/b.yaml": "y"})
    assert [path.read_text() for path in written] == ["x", "y"]


def test_a_file_that_exists_stays_and_nothing_else_is_written(tmp_path: Path) -> None:
    (tmp_path / "b.rego").write_text("mine")
    with pytest.raises(ConfigError, match=r"b\.rego exists"):
        write(tmp_path, {"a.rego": "x", "b.rego": "y"})
    assert (tmp_path / "b.rego").read_text() == "mine"
    assert not (tmp_path / "a.rego").exists()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="file"):
        write(tmp_path / "file" / "policy", {"a.rego": "x"})
