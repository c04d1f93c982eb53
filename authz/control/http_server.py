"""uvicorn in a thread of its own, on a socket that is bound before it starts.

Decides how long a connection may idle and how large a head may be. Signals are the program's, not uvicorn's: outside of
the main thread it leaves them alone. Plaintext only on loopback.
"""

from __future__ import annotations

import logging
import socket
import ssl
import threading
from typing import TYPE_CHECKING, Final

import anyio.to_thread
import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from authz.control.dispatcher import ROOM
from authz.errors import ConfigError, ProgramError
from authz.loopback import is_local

if TYPE_CHECKING:
    import asyncio
    from pathlib import Path

    from starlette.types import ASGIApp, Receive, Scope, Send

    from authz.control.config import ServerTls

HEAD_BYTES: Final = 64 * 1024
"""Of a head that is not whole yet; the app bounds whole ones."""
IDLE_S: Final = 10
"""Between requests, and from the first byte of a request's head to its last."""
CONNECTIONS: Final = 512
STARTED_S: Final = 10.0
CLIENT_CERTIFICATE: Final = "authz.client_certificate"
"""Where the DER of a connection's client certificate stands in the ASGI scope."""


class HttpServer:
    """One listener.

    Args:
        client_ca: PEM roots of client certificates, which are then asked for and not demanded.

    Raises:
        ConfigError: plaintext on an address that is not loopback.
        ProgramError: the address cannot be listened on.
    """

    def __init__(
        self,
        address: str,
        app: ASGIApp,
        tls: ServerTls | None = None,
        *,
        client_ca: Path | None = None,
        idle_s: int = IDLE_S,
    ) -> None:
        if tls is None and not is_local(address):
            raise ConfigError(
                f"plaintext on `{address}` would show operators' credentials to that network",
                remedy="set control.tls, or listen on 127.0.0.1",
            )
        self._socket = _bound(address)
        host = address.rpartition(":")[0]
        self.address: Final = f"{host}:{self._socket.getsockname()[1]}"
        self.url: Final = f"{'https' if tls else 'http'}://{self.address}"
        # Its log speaks of each client; ours is enough.
        logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
        self._server = _Server(
            uvicorn.Config(
                app,
                http=_Protocol,
                ws="none",
                lifespan="off",
                interface="asgi3",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                limit_concurrency=CONNECTIONS,
                timeout_keep_alive=idle_s,
                timeout_graceful_shutdown=5,
                h11_max_incomplete_event_size=HEAD_BYTES,
                ssl_certfile=tls.certificate if tls else None,
                ssl_keyfile=tls.key if tls else None,
                ssl_ca_certs=str(client_ca) if client_ca else None,
                ssl_cert_reqs=ssl.CERT_OPTIONAL if client_ca else ssl.CERT_NONE,
            )
        )
        self._thread = threading.Thread(target=self._run, name="http", daemon=True)

    def start(self) -> None:
        """Begin to answer; returns once it does."""
        self._thread.start()
        pause = threading.Event()
        for _ in range(int(STARTED_S / 0.01)):
            if self._server.started:
                return
            if not self._thread.is_alive():
                break
            pause.wait(0.01)
        raise ProgramError(f"the HTTP listener on {self.address} did not start")

    def stop(self) -> None:
        """No new calls; those under way may finish. Returns when the thread has ended."""
        self._server.should_exit = True
        self._thread.join()
        self._socket.close()

    def _run(self) -> None:
        self._server.run(sockets=[self._socket])


class _Server(uvicorn.Server):
    """Has as many threads for calls as may be under way: the 40 of its framework would let some wait for others."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """See `uvicorn.Server`."""
        anyio.to_thread.current_default_thread_limiter().total_tokens = ROOM
        await super().startup(sockets)


class _Protocol(H11Protocol):
    """Hangs up on a connection whose request's head does not come whole: its base waits for it for ever.

    Tells the app of the client certificate that the connection has shown.
    """

    _awaiting_head: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as its base does
        """See `asyncio.Protocol`."""
        super().connection_made(transport)
        tls = transport.get_extra_info("ssl_object")
        if tls is not None and (certificate := tls.getpeercert(binary_form=True)):
            self.app = _shown(self.app, certificate)
        self._await_head()

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        super().data_received(data)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        super().connection_lost(exc)
        self._stop_awaiting()

    def _await_head(self) -> None:
        if self.conn.their_state is not h11.IDLE:
            self._stop_awaiting()
        elif self._awaiting_head is None:
            self._awaiting_head = self.loop.call_later(self.timeout_keep_alive, self.transport.close)

    def _stop_awaiting(self) -> None:
        if self._awaiting_head is not None:
            self._awaiting_head.cancel()
            self._awaiting_head = None


def _shown(app: ASGIApp, certificate: bytes) -> ASGIApp:
    """`app` with the certificate that TLS verified for this connection; nothing in a request can set it."""

    async def shown(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, CLIENT_CERTIFICATE: certificate}, receive, send)

    return shown


def _bound(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    try:
        family, *_, place = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)[0]
        return socket.create_server(place[:2], family=family)
    except (OSError, ValueError) as error:
        raise ProgramError(f"cannot listen on {address}", remedy=str(error)) from None
