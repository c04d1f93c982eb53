"""Where local state lies: the development issuer, records and traces of `authz up`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

StateOption = Annotated[
    Path | None,
    typer.Option("--state", envvar="AUTHZ_STATE", help="Folder of local state; default: the user's state folder."),
]


def state_folder(given: Path | None) -> Path:
    """The folder to use, by the XDG base directory rules; not made here."""
    if given is not None:
        return given
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "authz"
