"""The generated message classes are those of `protos/`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tools.protos import GENERATED, generate

if TYPE_CHECKING:
    from pathlib import Path


def sources(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.py*") if path.suffix != ".pyc"}


def test_generated_code_is_that_of_the_protos(tmp_path: Path) -> None:
    generate(tmp_path)
    assert sources(GENERATED) == sources(tmp_path), "run `make protos`"
