"""Secrets in files: made once for an installation, then read.

Decides where a secret of ours comes from. Must never make a second one where one is, which would orphan all that was
made with the first, and never use one that others can read. Trusts the file's owner.
"""

from __future__ import annotations

import os
import secrets
import stat
from typing import TYPE_CHECKING, Final

from authz.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


def load_or_create(path: Path, *, size_bytes: int) -> bytes:
    """The secret in `path`, made there first, from random bytes, if the file does not exist.

    Raises:
        ConfigError: it cannot be read or made, is shorter than `size_bytes`, or others may read it.
    """
    try:
        _create(path, size_bytes)
    except FileExistsError:
        pass
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}", remedy="give a folder that this user may write") from error
    return load(path, size_bytes=size_bytes)


def load(path: Path, *, size_bytes: int) -> bytes:
    """The secret in `path`, which must be there.

    Raises:
        ConfigError: see `load_or_create`.
    """
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            secret = file.read()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}", remedy="let this user read it") from error
    if mode & _OTHERS:
        raise ConfigError(f"{path}: others may read this secret", remedy=f"chmod 600 {path}")
    if len(secret) < size_bytes:
        raise ConfigError(f"{path}: under {size_bytes} bytes", remedy="restore it, or remove it to begin a new one")
    return secret


def replace(path: Path, secret: bytes) -> None:
    """Put `secret` into `path`, whole or not at all, in the place of what may be there.

    Raises:
        ConfigError: it cannot be written.
    """
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    try:
        _write(draft, secret)
        draft.replace(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise ConfigError(f"{path}: {error.strerror}", remedy="give a folder that this user may write") from error


def _create(path: Path, size_bytes: int) -> None:
    """Whole or not at all, whoever else starts now: the finished file gets its name by a link, which fails if taken."""
    if path.exists():
        return
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    try:
        _write(draft, secrets.token_bytes(size_bytes))
        path.hardlink_to(draft)
    finally:
        draft.unlink(missing_ok=True)


def _write(path: Path, secret: bytes) -> None:
    """A new file that only its owner may read, on the disk."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:  # noqa: PTH123 - opened above, for its mode
        file.write(secret)
        file.flush()
        os.fsync(file.fileno())
