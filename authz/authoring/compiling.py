"""A policy's YAML files as one Rego module beside them, `compiled.rego`, which is what is reviewed, tested and served.

Decides whether the module makes the decision or adds its outcomes to Rego that does, and whether it still says what the
YAML says: a module that is older than its source must never be tested, built or linted as if it were not. Trusts the
author's folder.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from authz.authoring import reading, writing
from authz.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from authz.authoring.language import Rule

MODULE: Final = "compiled.rego"

_PACKAGE: Final = re.compile(r"^package authz\s*(?:#.*)?$", re.MULTILINE)
_DECISION: Final = re.compile(r"^(?:default )?decision\b", re.MULTILINE)


def compile_folder(folder: Path) -> str:
    """The module of a folder's YAML files.

    Raises:
        ConfigError: some of them are not understood, see `reading.read_rules`.
    """
    return compile_rules(folder, reading.read_rules(folder))


def compile_rules(folder: Path, rules: tuple[Rule, ...]) -> str:
    """The module of rules that were read from the folder."""
    return writing.write(rules, decides=deciding_module(folder) is None)


def deciding_module(folder: Path) -> Path | None:
    """The author's own Rego that makes the decision, if there is any."""
    modules = (file for file in sorted(folder.rglob("*.rego")) if not file.name.endswith("_test.rego"))
    return next((file for file in modules if file != folder / MODULE and _decides(file)), None)


def _decides(module: Path) -> bool:
    text = module.read_text(encoding="utf-8", errors="replace")
    return bool(_PACKAGE.search(text) and _DECISION.search(text))


def is_current(folder: Path) -> bool:
    """Whether the folder's module is what its YAML files compile to; a folder without any is.

    Raises:
        ConfigError: some of the files are not understood.
    """
    module = folder / MODULE
    written = module.read_text(encoding="utf-8") if module.is_file() else None
    if not reading.files_below(folder):
        return written is None or writing.NOTE not in written
    return written == compile_folder(folder)


def hold_current(paths: Iterable[Path]) -> None:
    """Refuse folders whose module is not what their YAML files say.

    Raises:
        ConfigError: one is not, or its files are not understood.
    """
    for folder in paths:
        if folder.is_dir() and not is_current(folder):
            raise ConfigError(
                f"{folder / MODULE} is not what {folder / reading.FOLDER} says",
                remedy=f"run `authz policy compile {folder}`",
            )
