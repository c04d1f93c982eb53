"""What the documents promise: links that resolve, names that exist, attacks that have tests."""

from __future__ import annotations

import re
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import yaml

from authz.config import Config, Group, load, read_settings
from authz.control.config import ControlConfig
from authz.demo.rows import ROWS
from authz.reasons import BUNDLE_CODES, CATALOGUE
from authz.telemetry import names
from tools import attacks

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("bundles/*/README.md")])
IN_SCOPE = "A1-A18 A20 A21 B1-B9 C1-C16 C19 C21 C22 C23 D1-D15 F1-F9 F11-F15 G1-G7 G9 J12 K1-K5"
SUFFIXES = {"counter": "_total", "info": "_info"}
# Words of Envoy, gRPC and the environment.
FOREIGN = {
    "NOT_SERVING",
    "RESOURCE_EXHAUSTED",
    "PERMISSION_DENIED",
    "UPPER_SNAKE",
    "AUDIT_DIR",
    "NO_COLOR",
    "AUTHZ_X_Y",
    "OPA_ENVOY_PLUGIN",
}

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())


def prose(page: Path) -> str:
    """The page without its code blocks."""
    return re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\b[^\n]*\n(.*?)^```$", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """The anchors of the headings, as repository hosts make them."""
    headings = re.findall(r"^#+ (.+)$", prose(page), flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(page: Path) -> set[tuple[Path, str]]:
    """The page's links into the repository: file and anchor."""
    targets = re.findall(r"\]\(([^)\s]+)\)", prose(page))
    local = [target.partition("#") for target in targets if "://" not in target]
    return {((page.parent / file).resolve() if file else page, anchor) for file, _, anchor in local}


def quoted(pattern: str) -> set[tuple[str, str]]:
    """(page, name) of everything in backticks that looks like `pattern`."""
    found = (
        (page.relative_to(ROOT).as_posix(), name)
        for page in PAGES
        for name in re.findall(rf"`({pattern})", prose(page))
    )
    return set(found)


def settings(model: type[Group], prefix: str = "") -> set[str]:
    nested = {name: field.annotation for name, field in model.model_fields.items()}
    below = (
        settings(kind, f"{prefix}{name}.")
        for name, annotation in nested.items()
        for kind in (annotation, *getattr(annotation, "__args__", ()))
        if isinstance(kind, type) and issubclass(kind, Group)
    )
    return {f"{prefix}{name}" for name in nested} | set(chain.from_iterable(below))


def in_scope() -> list[str]:
    ranges = (re.fullmatch(r"([A-K])(\d+)(?:-[A-K](\d+))?", part) for part in IN_SCOPE.split())
    return [f"{m[1]}{n}" for m in ranges if m for n in range(int(m[2]), int(m[3] or m[2]) + 1)]


def cells(page: Path, header: str) -> list[list[str]]:
    """The rows of the table whose header begins so."""
    _, _, rest = page.read_text().partition(f"\n{header}")
    table = rest.split("\n\n", 1)[0].splitlines()[2:]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in table]


@each_page
def test_every_link_resolves(page: Path) -> None:
    broken = [
        f"{file}#{anchor}"
        for file, anchor in links(page)
        if not file.exists() or (anchor and anchor not in anchors(file))
    ]
    assert broken == []


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached, found = set(), {ROOT / "README.md"}
    while found:
        page = found.pop()
        reached.add(page)
        found |= {file for file, _ in links(page) if file.suffix == ".md" and file.exists()} - reached
    assert [page.relative_to(ROOT).as_posix() for page in PAGES if "docs" in page.parts and page not in reached] == []


def test_every_reason_that_a_page_names_is_in_the_catalogue() -> None:
    named = quoted(r"[A-Z]+(?:_[A-Z]+)+(?=`)")
    assert {(page, code) for page, code in named if code not in {*CATALOGUE, *BUNDLE_CODES, *FOREIGN}} == set()
    assert named


def test_every_setting_that_a_page_names_exists() -> None:
    known = settings(Config) | settings(ControlConfig)
    named = quoted(r"(?:listen|policy|revocation|audit|telemetry|limits|control|operators)\.[a-z_]+(?=`)")
    assert {
        (page, name)
        for page, name in named
        if name not in known and not name.endswith((".rego", ".sock", ".json", ".db", ".yaml"))
    } == set()
    assert named


def test_every_metric_that_a_page_names_exists() -> None:
    known = {metric.name + SUFFIXES.get(metric.kind, "") for metric in names.METRICS}
    named = quoted(r"authz_[a-z_]+")
    assert {(page, name) for page, name in named if name not in known} == set()
    assert named


def test_every_configuration_that_a_page_shows_is_one(tmp_path: Path) -> None:
    file = tmp_path / "authz.yaml"
    shown = [text for page in PAGES for text in blocks(page, "yaml") if {"listen", "control"} & {*yaml.safe_load(text)}]
    for text in shown:
        file.write_text(text)
        if "listen" in yaml.safe_load(text):
            load(file)
        else:
            read_settings(ControlConfig, file).verify()
    assert len(shown) >= 3


def test_the_demonstration_in_the_readme_is_the_one_that_runs() -> None:
    shown = [row[:4] for row in cells(ROOT / "README.md", "| call | agent |")]
    reasons: list[Any] = [row.reason and f"`{row.reason}`" for row in ROWS]
    assert shown == [
        [row.call, f"{row.agent}, {row.tenant}", row.outcome, reason] for row, reason in zip(ROWS, reasons, strict=True)
    ]


def test_the_first_policy_in_the_readme_has_ten_lines() -> None:
    first, *_ = blocks(ROOT / "README.md", "rego")
    assert len([line for line in first.splitlines() if line]) == 10


@pytest.fixture(scope="module")
def proofs() -> dict[str, list[attacks.Proof]]:
    return attacks.proofs()


@pytest.mark.parametrize("attack", list(attacks.ATTACKS))
def test_every_attack_of_the_threat_model_has_a_test(attack: str, proofs: dict[str, list[attacks.Proof]]) -> None:
    assert attack in proofs


def test_every_attack_in_scope_and_every_one_that_a_test_names_is_in_the_threat_model(
    proofs: dict[str, list[attacks.Proof]],
) -> None:
    assert {*in_scope(), *proofs} - attacks.ATTACKS.keys() == set()


def test_the_threat_model_names_tests_that_exist_for_each_attack(proofs: dict[str, list[attacks.Proof]]) -> None:
    _, table, _ = attacks.parts(attacks.PAGE.read_text())
    for attack, _, _, tests in re.findall(r"^\| (\w+) \| (.*?) \| (.*?) \| (.*) \|$", table, flags=re.MULTILINE):
        shown = {attacks.Proof(file, name) for name, file in re.findall(r"\[`(\w+)`\]\(\.\./([^)]+)\)", tests)}
        assert (attack, shown - set(proofs.get(attack, ()))) == (attack, set())
        assert bool(shown) == bool(proofs.get(attack)), f"{attack}: run `python -m tools.attacks`"
    assert re.findall(r"^\| ([A-K]\d+) ", table, flags=re.MULTILINE) == sorted(attacks.ATTACKS, key=attacks.order)


def test_every_row_of_what_fails_names_a_test_that_exists() -> None:
    page = ROOT / "docs" / "failure-behaviour.md"
    rows = re.findall(r"^\| (?!what \|)([^|]+) \| [^|]+ \| ([^|]+) \|$", page.read_text(), flags=re.MULTILINE)
    assert len(rows) == 25
    for row, tests in rows:
        named = re.findall(r"\[`(\w+)`\]\(\.\./([^)]+)\)", tests)
        assert named, row
        missing = [name for name, file in named if f"def {name}(" not in (ROOT / file).read_text()]
        assert (row, missing) == (row, [])
