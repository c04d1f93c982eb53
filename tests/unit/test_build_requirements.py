"""What requirements/ promises: pinned, hashed, free of addresses, in step with pyproject.toml and the documents."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
GROUPS = PROJECT["dependency-groups"]
RUNTIME = PROJECT["project"]["dependencies"]
DEV = PROJECT["project"]["optional-dependencies"]["dev"]
FILES = sorted((ROOT / "requirements").glob("*.txt"))
DECLARED = {
    "runtime": RUNTIME,
    "dev": [*RUNTIME, *DEV, *GROUPS["build"]],
    **GROUPS,
}


def entries(text: str) -> list[str]:
    """The requirements of a file, each with its continuation lines, without comments."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    return "\n".join(lines).replace("\\\n", " ").splitlines()


def pins(name: str) -> dict[str, str]:
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    return dict(re.findall(r"^([a-z0-9.-]+)==(\S+)", text, flags=re.MULTILINE))


def test_every_declared_set_of_dependencies_has_its_file() -> None:
    assert [file.stem for file in FILES] == sorted(DECLARED)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_no_file_names_an_index_or_a_path(file: Path) -> None:
    assert not re.search(r"://|--(extra-)?index|--find-links|@ |file:|(^|\s)/", file.read_text())


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_requirement_is_pinned_and_hashed(file: Path) -> None:
    hashed = re.compile(r"[a-z0-9.-]+==\S+( ; [^\\]+?)?(\s+--hash=sha256:[0-9a-f]{64})+\s*")
    assert [entry for entry in entries(file.read_text()) if not hashed.fullmatch(entry)] == []
    assert entries(file.read_text())


@pytest.mark.parametrize("name", sorted(DECLARED))
def test_pins_satisfy_what_pyproject_declares(name: str) -> None:
    pinned = pins(name)
    declared = [Requirement(requirement) for requirement in DECLARED[name]]
    unmet = [
        str(requirement)
        for requirement in declared
        if not requirement.specifier.contains(pinned.get(canonicalize_name(requirement.name), "0"))
    ]
    assert unmet == []


@pytest.mark.parametrize("name", ["runtime", "build"])
def test_the_development_environment_runs_the_versions_that_ship(name: str) -> None:
    assert pins(name).items() <= pins("dev").items()


def test_the_project_never_asks_an_index_for_its_own_name() -> None:
    assert all(canonicalize_name("authz") not in pins(name) for name in DECLARED)


def test_every_runtime_dependency_has_its_reason_in_the_documents() -> None:
    rows = re.findall(r"^\| `([a-z0-9-]+)` \|", (ROOT / "docs/dependencies.md").read_text(), flags=re.MULTILINE)
    assert sorted(rows) == sorted(Requirement(requirement).name for requirement in RUNTIME)
