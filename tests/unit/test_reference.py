"""The reference pages say what the code says: `make docs` writes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from authz import config
from authz.cli import COMMANDS
from authz.control import config as control_config
from authz.reasons import CATALOGUE
from tools.reference import FOLDER, PAGES

if TYPE_CHECKING:
    from collections.abc import Callable

GROUPS = [
    each
    for module in (config, control_config)
    for each in vars(module).values()
    if isinstance(each, type) and issubclass(each, config.Group)
]


@pytest.mark.parametrize(("name", "page"), list(PAGES.items()))
def test_a_page_is_as_its_source(name: str, page: Callable[[], str]) -> None:
    assert (FOLDER / name).read_text() == page(), "run `make docs`"


@pytest.mark.parametrize("group", GROUPS)
def test_every_setting_says_what_it_means(group: type[config.Group]) -> None:
    assert [name for name, field in group.model_fields.items() if not field.description] == []


def test_every_command_every_setting_and_every_reason_has_its_place() -> None:
    commands, reasons = PAGES["cli.md"](), PAGES["reason-codes.md"]()
    settings = PAGES["configuration.md"]() + PAGES["control-configuration.md"]()
    assert all(f"## authz {name}" in commands for name in COMMANDS)
    assert all(f"| `{name}` |" in settings for group in GROUPS for name in group.model_fields)
    assert all(f"| `{code}` |" in reasons for code in CATALOGUE)
