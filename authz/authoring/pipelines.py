"""The checks that a policy's repository runs by itself: a GitHub Actions workflow and pre-commit hooks.

Decides where they stand and for which folder and which version of this program they are written. Must never write over
a file. Trusts the installation.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from authz import __version__
from authz.authoring import starter
from authz.authoring.reading import files_below
from authz.errors import ConfigError
from authz.resources import shared

if TYPE_CHECKING:
    from pathlib import Path

_FILES: Final = {".github/workflows/policy.yaml": "github.yaml", ".pre-commit-config.yaml": "pre-commit.yaml"}
_FOLDER: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_./-]*")
_COMPILE_HOOK: Final = re.compile(r"      - id: authz-compile\n(?:        .*\n)+")


def add(repository: Path, policy: str) -> tuple[Path, ...]:
    """Write both into a repository, for the policy in the folder of this name in it.

    Raises:
        ConfigError: the folder is not there or has a name that a shell would take for more, or a file exists.
    """
    folder = repository / policy
    if not _FOLDER.fullmatch(policy) or ".." in policy or not folder.is_dir():
        raise ConfigError(f"`{policy}` is no folder of {repository}", remedy="name the policy's folder with --folder")
    texts = {place: (shared("pipelines") / name).read_text(encoding="utf-8") for place, name in _FILES.items()}
    written = {place: _filled(text, policy.rstrip("/"), folder) for place, text in texts.items()}
    return starter.write(repository, written)


def _filled(text: str, policy: str, folder: Path) -> str:
    kept = text if files_below(folder) else _COMPILE_HOOK.sub("", text)
    return kept.replace("@POLICY@", policy).replace("@VERSION@", __version__)
