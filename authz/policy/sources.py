"""Which files belong to a policy: its folders and files, the library they import, and the tables that test it.

Decides nothing about what is in them. Must never take a hidden folder's files, which the engine does not either.
Trusts the operator's paths.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from authz.errors import ConfigError
from authz.resources import shared

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

TABLES: Final = (".yaml", ".yml")


def existing(paths: Iterable[Path]) -> tuple[Path, ...]:
    """The paths, absolute.

    Raises:
        ConfigError: one of them is not there.
    """
    found = tuple(path.resolve() for path in paths)
    missing = next((given for given, path in zip(paths, found, strict=True) if not path.exists()), None)
    if missing is not None:
        raise ConfigError(
            f"no policy at `{missing}`", remedy="give a folder, a .rego file or a bundle archive, or run `authz init`"
        )
    return found


def library_beside(paths: Iterable[Path], contract: Literal["agent", "envoy"]) -> tuple[Path, ...]:
    """The policy library, where the contract has it and the paths do not hold it themselves."""
    library = shared("rego").resolve()
    within = any(library == path or library in path.parents or path in library.parents for path in paths)
    return (library,) if contract == "agent" and not within else ()


def tables_below(paths: Iterable[Path]) -> Iterator[Path]:
    """Decision tables: YAML files in folders named `tests`, and those given themselves."""
    for path in paths:
        if path.is_file() and path.suffix in TABLES:
            yield path
        elif path.is_dir():
            yield from (
                found for found in sorted(path.rglob("tests/*")) if found.suffix in TABLES and not _hidden(found, path)
            )


def _hidden(found: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in found.relative_to(root).parts)
