"""A TCP link between two programs that a test can break as networks do: cut, blackholed, half open, slow."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

BLOCK_BYTES = 65_536


class Fault(Enum):
    """What is wrong with a link."""

    NONE = "none"
    CUT = "cut"
    """Connections are reset, and new ones too."""
    BLACKHOLE = "blackhole"
    """Nothing arrives in either direction, and nobody is told; what was sent arrives once the link is whole again."""
    HALF_OPEN = "half-open"
    """What the client says arrives; no answer comes back."""


class FaultyLink:
    """Listens on loopback and passes everything on to `target`, asked anew for each connection, unless it is broken.

    Args:
        target: HOST:PORT, or the path of a Unix socket.
    """

    def __init__(self, target: Callable[[], str]) -> None:
        self._target = target
        self._fault = Fault.NONE
        self._delay_s = 0.0
        self._changed = threading.Condition()
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:{1}".format(*self._listener.getsockname())
        threading.Thread(target=self._accept, daemon=True).start()

    def break_by(self, fault: Fault) -> None:
        """Have this fault from now on."""
        with self._changed:
            self._fault = fault
            self._changed.notify_all()
        if fault is Fault.CUT:
            self._reset()

    def delay(self, seconds: float) -> None:
        """Let everything take so much longer, in each direction."""
        self._delay_s = seconds

    def mend(self) -> None:
        """Have no fault any more."""
        self._delay_s = 0.0
        self.break_by(Fault.NONE)

    def close(self) -> None:
        """End the link with all of its connections."""
        self.break_by(Fault.CUT)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                if self._fault is Fault.CUT:
                    near.close()
                else:
                    threading.Thread(target=self._join, args=(near,), daemon=True).start()

    def _join(self, near: socket.socket) -> None:
        try:
            far = _connected(self._target())
        except OSError:
            near.close()
            return
        with self._changed:
            self._open |= {near, far}
        threading.Thread(target=self._pass_on, args=(near, far, (Fault.BLACKHOLE,)), daemon=True).start()
        self._pass_on(far, near, (Fault.BLACKHOLE, Fault.HALF_OPEN))

    def _pass_on(self, source: socket.socket, sink: socket.socket, stopped_by: tuple[Fault, ...]) -> None:
        with contextlib.suppress(OSError):
            while block := source.recv(BLOCK_BYTES):
                time.sleep(self._delay_s)
                with self._changed:
                    self._changed.wait_for(lambda: self._fault not in stopped_by)
                sink.sendall(block)
        self._end(source, sink)

    def _reset(self) -> None:
        with self._changed:
            ended, self._open = self._open, set()
        self._end(*ended)

    def _end(self, *sockets: socket.socket) -> None:
        with self._changed:
            self._open -= set(sockets)
        for each in sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()


def _connected(address: str) -> socket.socket:
    if Path(address).is_absolute():
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.connect(address)
        except OSError:
            connection.close()
            raise
        return connection
    host, _, port = address.rpartition(":")
    return socket.create_connection((host, int(port)))
