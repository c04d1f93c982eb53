"""How commands read and write whole files: at once or not at all, and a key never over another."""

from __future__ import annotations

import os
from pathlib import Path

from authz.errors import ConfigError


def read(file: Path) -> bytes:
    """A whole file.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        return file.read_bytes()
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror}") from error


def create(file: Path, made: bytes, mode: int) -> None:
    """Write a file that must not be there yet: a key is never replaced."""
    try:
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode), "wb") as opened:
            opened.write(made)
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror}") from error


def replace(file: Path, made: bytes) -> None:
    """Write a file whole or not at all: a sidecar may be reading it."""
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        draft.write_bytes(made)
        draft.replace(file)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise ConfigError(f"{file}: {error.strerror}") from error
