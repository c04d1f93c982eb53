"""The build hook: compiles the Go extension and adds to a wheel the folders that commands need at run time.

It never builds a pure wheel and never fetches a compiler by itself: where one is missing it names the wheel that holds
one, and the installer fetches that. It trusts the source tree it stands in.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.builders.wheel import WheelBuilderConfig
from packaging.tags import platform_tags

sys.path.insert(0, str(Path(__file__).parent))  # a build front end runs this file alone, outside the source tree

from tools.toolchain import build_library, missing_groups


class NativeBuildHook(BuildHookInterface[WheelBuilderConfig]):
    """Makes wheels platform wheels with the extension in them; an editable install runs what `make` builds."""

    def dependencies(self) -> list[str]:
        """The requirements for the wheels that stand in for missing compilers."""
        groups = tomllib.loads(Path(self.root, "pyproject.toml").read_text())["dependency-groups"]
        return [requirement for group in missing_groups() for requirement in groups[group]]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and describe the wheel; `version` is hatchling's `standard` or `editable`.

        Raises:
            SystemExit: a compiler or the Go source is missing, or Go refused the source.
        """
        if version == "editable":
            return
        root = Path(self.root)
        library = build_library(root)
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{_platform()}"
        build_data["artifacts"].append(library.relative_to(root).as_posix())
        build_data["force_include"].update({folder: f"authz/_share/{folder}" for folder in self.config["share"]})


def _platform() -> str:
    """The tag of this platform with its C library: cffi's ABI mode depends on that, not on a version of CPython.

    The plain `linux_*` tag would also be installed where the C library is older than the one linked here.
    """
    tags = list(platform_tags())
    return next((tag for tag in tags if not tag.startswith("linux_")), tags[0])
