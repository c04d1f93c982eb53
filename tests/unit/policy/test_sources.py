from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from authz.errors import ConfigError
from authz.policy.sources import existing, files_below, library_beside, tables_below
from authz.resources import shared

if TYPE_CHECKING:
    from pathlib import Path


def test_a_policy_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert existing([tmp_path]) == (tmp_path.resolve(),)
    with pytest.raises(ConfigError, match="nowhere") as refused:
        existing([tmp_path, tmp_path / "nowhere"])
    assert "authz init" in refused.value.remedy


def test_the_library_stands_beside_a_policy_of_our_own_contract(tmp_path: Path) -> None:
    assert library_beside([tmp_path], "agent") == (shared("rego").resolve(),)
    assert library_beside([tmp_path], "envoy") == ()


def test_the_library_is_not_loaded_twice() -> None:
    library = shared("rego").resolve()
    for path in (library, library / "authzlib", library.parent):
        assert library_beside([path], "agent") == ()


def test_tables_are_yaml_in_folders_named_tests(tmp_path: Path) -> None:
    for name in ("tests/a.yaml", "sub/tests/b.yml", "data.yaml", "tests/c.json", ".hidden/tests/d.yaml", "tests.yaml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert [path.relative_to(tmp_path).as_posix() for path in tables_below([tmp_path])] == [
        "sub/tests/b.yml",
        "tests/a.yaml",
    ]


def test_a_table_may_be_given_itself(tmp_path: Path) -> None:
    table, module = tmp_path / "cases.yaml", tmp_path / "policy.rego"
    table.touch()
    module.touch()
    assert list(tables_below([table, module])) == [table]


def test_the_files_of_a_policy_are_those_that_the_engine_reads(tmp_path: Path) -> None:
    read = {".manifest", "a.rego", "b/.manifest", "b/data.yaml", "b/c.json", "f.yml"}
    for name in (*read, ".git/d.rego", ".git/.manifest", ".e.rego", "README.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("{}")
    assert {str(path.relative_to(tmp_path)) for path in files_below(tmp_path)} == read
    assert list(files_below(tmp_path / "README.md")) == [tmp_path / "README.md"]
