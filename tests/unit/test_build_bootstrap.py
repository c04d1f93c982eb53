"""What tools/bootstrap.py and tools/find-python promise to someone with a fresh clone."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tools.bootstrap import ROOT, UV_VARIABLES, Step, run, uv_settings

if TYPE_CHECKING:
    from pathlib import Path


class Interrupted(Exception):  # noqa: N818 - it stands for Ctrl-C in the middle of a step
    pass


class Kitchen:
    """A step whose product is a file, with a count of how often it was made."""

    def __init__(self, folder: Path) -> None:
        self.made = 0
        self.source = folder / "source"
        self.source.write_text("1")
        self.step = Step(
            title="soup",
            stamp=folder / "stamps" / "soup",
            product=folder / "product",
            sources=("3.11", self.source),
            make=self.make,
        )

    def make(self) -> None:
        self.made += 1
        self.step.product.write_text("soup")

    def fail(self) -> None:
        self.step.product.write_text("half a soup")
        raise Interrupted


@pytest.fixture
def kitchen(tmp_path: Path) -> Kitchen:
    kitchen = Kitchen(tmp_path)
    kitchen.step.ensure()
    return kitchen


def test_a_step_is_made_once_for_the_same_sources(kitchen: Kitchen) -> None:
    kitchen.step.ensure()
    assert kitchen.made == 1


def test_a_step_is_announced_only_when_it_is_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kitchen = Kitchen(tmp_path)
    kitchen.step.ensure()
    assert capsys.readouterr().out == "-- soup\n"
    kitchen.step.ensure()
    assert capsys.readouterr().out == ""


def test_a_file_touched_without_a_change_makes_nothing_again(kitchen: Kitchen) -> None:
    kitchen.source.touch()
    kitchen.step.ensure()
    assert kitchen.made == 1


def test_a_changed_file_makes_the_step_again(kitchen: Kitchen) -> None:
    kitchen.source.write_text("2")
    kitchen.step.ensure()
    assert kitchen.made == 2


@pytest.mark.parametrize("sources", [("3.12",), (), ("3.1", "1")])
def test_another_python_or_place_makes_the_step_again(kitchen: Kitchen, sources: tuple[str, ...]) -> None:
    replace(kitchen.step, sources=(*sources, kitchen.source)).ensure()
    assert kitchen.made == 2


def test_a_removed_product_is_made_again(kitchen: Kitchen) -> None:
    kitchen.step.product.unlink()
    kitchen.step.ensure()
    assert kitchen.made == 2


def test_an_interrupted_step_is_not_taken_for_done(kitchen: Kitchen) -> None:
    kitchen.source.write_text("2")
    with pytest.raises(Interrupted):
        replace(kitchen.step, make=kitchen.fail).ensure()
    kitchen.source.write_text("1")  # even if the sources go back to what the old stamp said
    kitchen.step.ensure()
    assert kitchen.made == 2


def test_a_failed_command_says_what_it_said(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match=r"(?s)no such index.*this failed: sh -c"):
        run("sh", "-c", "echo no such index >&2; exit 3")
    assert capfd.readouterr().out == ""


def test_a_command_that_succeeds_is_silent(capfd: pytest.CaptureFixture[str]) -> None:
    run("sh", "-c", "echo hundreds of lines")
    assert capfd.readouterr() == ("", "")


def test_pips_index_reaches_uv() -> None:
    said = "global.index-url='https://mirror.example/simple'\nglobal.cert='/etc/ca.pem'\nglobal.timeout='60'\n"
    assert uv_settings(said) == {"UV_DEFAULT_INDEX": "https://mirror.example/simple", "SSL_CERT_FILE": "/etc/ca.pem"}


def test_pips_environment_wins_over_its_files() -> None:
    said = ":env:.index-url='https://near.example'\nglobal.index-url='https://far.example'\n"
    assert uv_settings(said) == {UV_VARIABLES["index-url"]: "https://near.example"}


def test_several_extra_indexes_reach_uv_as_one_list() -> None:
    said = r"global.extra-index-url='\nhttps://a.example\nhttps://b.example'"
    assert uv_settings(said) == {"UV_INDEX": "https://a.example https://b.example"}


@pytest.mark.parametrize("said", ["", "nonsense", "install.user='true'", "global.index-url"])
def test_pip_without_an_index_leaves_uv_its_own(said: str) -> None:
    assert uv_settings(said) == {}


def python(folder: Path, name: str, *, version: str, venv: bool = True) -> str:
    """A stand-in interpreter that answers the two questions of find-python."""
    script = folder / name
    script.write_text(f'#!/bin/sh\ncase "$2" in *version*) echo {version} ;; *) exit {int(not venv)} ;; esac\n')
    script.chmod(0o755)
    return str(script)


def find_python(*candidates: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ROOT / "tools/find-python", *candidates], capture_output=True, text=True, check=False, timeout=10
    )


@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13"])
def test_a_supported_python_is_taken(tmp_path: Path, version: str) -> None:
    found = python(tmp_path, "python3", version=version)
    assert find_python(found).stdout == f"{found}\n"


def test_a_newer_name_is_taken_where_python3_is_old(tmp_path: Path) -> None:
    old = python(tmp_path, "python3", version="3.9")
    new = python(tmp_path, "python3.12", version="3.12")
    assert find_python(old, new).stdout == f"{new}\n"


@pytest.mark.parametrize("version", ["2.7", "3.8", "3.10", "3.14", "3.110"])
def test_an_unsupported_python_is_refused_by_name_and_version(tmp_path: Path, version: str) -> None:
    result = find_python(python(tmp_path, "python3", version=version))
    assert (result.returncode, result.stdout) == (1, "")
    assert f"python3 is Python {version}" in result.stderr
    assert "make PYTHON=" in result.stderr


def test_a_python_without_venv_is_refused_with_the_package_to_install(tmp_path: Path) -> None:
    result = find_python(python(tmp_path, "python3", version="3.12", venv=False))
    assert (result.returncode, result.stdout) == (1, "")
    assert "apt-get install python3.12-venv" in result.stderr


def test_no_python_at_all_is_said_with_the_names_looked_for(tmp_path: Path) -> None:
    result = find_python(str(tmp_path / "python3"))
    assert result.returncode == 1
    assert f"Seen: none of {tmp_path}/python3" in result.stderr


def test_the_python_chosen_for_the_environment_stays_chosen(tmp_path: Path) -> None:
    chosen = python(tmp_path, "python3.12", version="3.12")
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/python").symlink_to(chosen)
    result = subprocess.run([ROOT / "tools/find-python"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert result.stdout == f"{chosen}\n"
