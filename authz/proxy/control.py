"""The control plane of `authz up`: its addresses, its configuration, and what the other programs are told of it.

Decides that addresses are kept from one run to the next, as far as they are still free: tokens name their issuer by
one. Must never put the password of Valkey on a command line, nor let the operator's credential reach a log: each stands
in a file of the owner alone.

Trusts the state folder, which is its owner's alone.
"""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import urlsplit

from authz.config import Control
from authz.errors import ProgramError
from authz.proxy.programs import answers
from authz.proxy.valkey import Valkey

if TYPE_CHECKING:
    from pathlib import Path

ADDRESSES: Final = "control.json"
"""Written by the control plane when it listens."""
AUDIENCE: Final = Control().audience
METADATA: Final = "/.well-known/oauth-authorization-server"
LISTENERS: Final = ("http", "grpc", "replication")
FREE: Final = "127.0.0.1:0"
CREDENTIAL_S: Final = 30 * 86_400.0
"""Life of the operator's credential in the state folder; a later start makes another."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlPlan:
    """One control plane with its Valkey.

    Attributes:
        state: its folder.
        valkey: whose streams it publishes on.
        listen: HOST:PORT of each listener; port 0 takes a free one.
        resources: URLs that tokens may be asked for (RFC 8707): where agents call.
    """

    state: Path
    valkey: Valkey
    listen: dict[str, str]
    resources: tuple[str, ...] = ()

    @classmethod
    def of(cls, state: Path, sockets: Path) -> Self:
        """The plan for this folder: where it listened before, where that is free."""
        valkey = Valkey(folder=state / "valkey", socket=sockets / "valkey.sock")
        known = _addresses(state / ADDRESSES)
        listen = {name: known[name] if _is_free(known.get(name, "")) else FREE for name in LISTENERS}
        return cls(state=state, valkey=valkey, listen=listen)

    @property
    def is_settled(self) -> bool:
        """Whether it will listen where it did before."""
        return FREE not in self.listen.values()

    @property
    def url(self) -> str:
        """Of its HTTP listener, once it listens."""
        return f"http://{self.listen['http']}"

    def found(self) -> Self:
        """The same with the ports that were given; they are kept when it is started again."""
        return replace(self, listen=_addresses(self.state / ADDRESSES))

    def tokens(self) -> dict[str, str]:
        """The issuer of its tokens, and where its keys are (RFC 8414).

        Raises:
            ProgramError: it does not say.
        """
        try:
            told = json.loads(answers(METADATA, self.listen["http"]) or b"")
            return {"issuer": str(told["issuer"]), "jwks": str(told["jwks_uri"])}
        except (ValueError, KeyError):
            raise ProgramError("the control plane does not say whose tokens it issues") from None

    def forget(self) -> None:
        """Remove what an earlier run said of its addresses."""
        (self.state / ADDRESSES).unlink(missing_ok=True)

    def document(self) -> dict[str, Any]:
        """Its configuration."""
        return {
            "version": 1,
            "control": {**self.listen, "redis": self.valkey.url, "state": str(self.state)},
            "operators": {"bootstrap_s": CREDENTIAL_S, "show_bootstrap": False},
            "tokens": {"resources": dict.fromkeys(self.resources, AUDIENCE)},
        }


def _addresses(path: Path) -> dict[str, str]:
    """HOST:PORT of each listener that is named; none where the file is missing or damaged."""
    try:
        told = json.loads(path.read_bytes())
        return {name: urlsplit(told[name]).netloc if name == "http" else str(told[name]) for name in LISTENERS}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _is_free(address: str) -> bool:
    host, _, port = address.rpartition(":")
    if not port.isdecimal():
        return False
    try:
        with socket.create_server((host, int(port))):
            return True
    except OSError:
        return False
