"""The key of the marks in masked records: made once for an installation, then read.

Decides where the key comes from. Must never make a second key where one is, which would end the matching of equal
values, and never use one that others can read, which would let them try all card numbers. Trusts the file's owner.
"""

from __future__ import annotations

import os
import secrets
import stat
from typing import TYPE_CHECKING, Final

from authz.audit.masking import KEY_BYTES
from authz.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


def load_or_create(path: Path) -> bytes:
    """The key in `path`, made there first if the file does not exist.

    Raises:
        ConfigError: it cannot be read or made, is too short, or others may read it.
    """
    try:
        _create(path)
    except FileExistsError:
        pass
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}", remedy="give a folder that this user may write") from error
    return _load(path)


def _create(path: Path) -> None:
    """Whole or not at all, whoever else starts now: the finished file gets its name by a link, which fails if taken."""
    if path.exists():
        return
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "wb") as file:  # noqa: PTH123 - opened above, for its mode
            file.write(secrets.token_bytes(KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
        path.hardlink_to(draft)
    finally:
        draft.unlink()


def _load(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            key = file.read()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}", remedy="let this user read it") from error
    if mode & _OTHERS:
        raise ConfigError(f"{path}: others may read the masking key", remedy=f"chmod 600 {path}")
    if len(key) < KEY_BYTES:
        raise ConfigError(f"{path}: under {KEY_BYTES} bytes", remedy="restore it, or remove it to begin a new one")
    return key
