"""Playbooks: policies to begin with, one for each of the usual ways in which agents do harm, with tests.

Decides which files a playbook brings into a policy's folder: its own, and what every policy has, where that is missing.
Must never write over a file. Trusts the installation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from authz.authoring import starter
from authz.authoring.compiling import MODULE, compile_folder
from authz.errors import ConfigError
from authz.resources import shared

if TYPE_CHECKING:
    from pathlib import Path

SCHEMA: Final = ".schema/policy.json"
_MANIFEST: Final = '{"rego_version": 1, "metadata": {"authz": {"bundle_id": "policy"}}}\n'


def names() -> tuple[str, ...]:
    """The playbooks that there are."""
    return tuple(sorted(folder.name for folder in shared("playbooks").iterdir() if folder.is_dir()))


def summary(name: str) -> str:
    """What a playbook is for, one sentence of its own."""
    _, second, *_ = (shared("playbooks") / name / "policy.yaml").read_text(encoding="utf-8").splitlines()
    return second.removeprefix("# ")


def add(name: str, folder: Path) -> tuple[Path, ...]:
    """Write a playbook into a policy's folder and compile the folder anew; returns the files that are new.

    Raises:
        ConfigError: there is no such playbook, a file of its own exists, or the folder's others are not understood.
    """
    if name not in names():
        raise ConfigError(f"no playbook `{name}`", remedy=f"there are {', '.join(names())}")
    source = shared("playbooks") / name
    files = {
        f"policies/{name}.yaml": (source / "policy.yaml").read_text(encoding="utf-8"),
        f"tests/{name}.yaml": (source / "tests.yaml").read_text(encoding="utf-8"),
    }
    common = {SCHEMA: (shared("schema") / "policy.json").read_text(encoding="utf-8"), ".manifest": _MANIFEST}
    missing = {path: text for path, text in common.items() if not (folder / path).exists()}
    written = starter.write(folder, files | missing)
    (folder / MODULE).write_text(compile_folder(folder), encoding="utf-8")
    return (*written, folder / MODULE)
