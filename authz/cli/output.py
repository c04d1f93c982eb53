"""How commands print: results on stdout, as a table for people or one JSON document for programs.

Decides that colour is for terminals only, and for none where NO_COLOR is set (https://no-color.org). Never decides what
is printed.
"""

from __future__ import annotations

import os
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer

if TYPE_CHECKING:
    from collections.abc import Mapping


class Output(StrEnum):
    """Forms of a result."""

    TABLE = "table"
    JSON = "json"


OutputOption = Annotated[Output, typer.Option(help="Form of the result.")]

COLOURS = {"ok": "green", "pass": "green", "warning": "yellow", "skip": "yellow"}
"""Any other state is bad news."""


def document(value: Any) -> None:  # noqa: ANN401 - anything that JSON can say
    """Print one JSON document, and nothing else should be."""
    typer.echo(orjson.dumps(value, option=orjson.OPT_INDENT_2, default=str).decode())


def line(text: str = "") -> None:
    """Print a line of a table; colour goes where it is not wanted."""
    typer.echo(text, color=False if os.environ.get("NO_COLOR") else None)


def state(word: str, width: int = 0) -> str:
    """A state such as `ok` or `error`, in its colour."""
    return typer.style(f"{word:<{width}}", fg=COLOURS.get(word, "red"))


def pairs(values: Mapping[str, object], indent: str = "") -> None:
    """Names and values in two columns; empty values are left out."""
    shown = {name: str(value) for name, value in values.items() if value not in (None, "", [], {})}
    width = max(map(len, shown), default=0)
    for name, value in shown.items():
        line(f"{indent}{name:<{width}}  {value}")
