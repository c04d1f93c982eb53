"""TCP ports that are kept for programs which begin to listen on them later, and again after they died.

A port that was merely found to be free may be gone a moment later: any other program is given it for a listener or an
outgoing connection. So it stays bound here, by a socket that never listens: the system gives it to nobody else, and who
asks for it by its number with SO_REUSEADDR, as servers do, gets it. Nothing connects to it until then.
"""

from __future__ import annotations

import socket
from typing import Self

from authz.errors import ConfigError


class HeldPort:
    """A port of `host`, held until closed: `port`, or one that is free where it is 0.

    Raises:
        ConfigError: it is taken, or `host` is not an address of this machine.
    """

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        self._socket = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._socket.bind((host, port))
        except OSError as error:
            self._socket.close()
            raise ConfigError(
                f"cannot listen on {host}:{port}: {error.strerror}",
                remedy="give another --listen; port 0 takes a free one",
            ) from None
        self.number: int = self._socket.getsockname()[1]
        self.address = f"[{host}]:{self.number}" if ":" in host else f"{host}:{self.number}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()
