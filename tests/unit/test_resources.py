"""Where authz.resources finds the folders that ship with the package."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

import authz
from authz.resources import Folder, shared

ROOT = Path(authz.__file__).parents[1]


@pytest.mark.parametrize("folder", get_args(Folder))
def test_a_checkout_reads_its_own_folders(folder: Folder) -> None:
    assert shared(folder) == ROOT / folder


def test_an_installed_copy_comes_before_a_folder_that_happens_to_lie_beside_it(tmp_path: Path) -> None:
    package = tmp_path / "site-packages/authz"
    for folder in (package / "_share/rego", package.parent / "rego"):
        folder.mkdir(parents=True)
    assert shared("rego", package=package) == package / "_share/rego"


def test_a_broken_installation_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="`rego` is missing"):
        shared("rego", package=tmp_path / "authz")


def test_a_file_in_a_folders_place_is_not_taken_for_it(tmp_path: Path) -> None:
    (tmp_path / "rego").touch()
    with pytest.raises(FileNotFoundError):
        shared("rego", package=tmp_path / "authz")
