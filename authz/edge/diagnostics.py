"""The diagnostics port: /metrics, /healthz, /readyz, /status, and OPA's /health for probes that know it.

Decides nothing. Must never show configuration, tokens, arguments or anything about a single call, and is
bound to loopback unless told otherwise. Trusts whoever can reach it to read counters.
"""

from __future__ import annotations

import logging
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, Final

import orjson

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Routes = Mapping[str, Callable[[str], tuple[HTTPStatus, str, bytes]]]

NOTHING: Final[Mapping[str, Callable[[], Mapping[str, object]]]] = MappingProxyType({})
log: Final = logging.getLogger(__name__)
IDLE_S: Final = 10.0
"""A client that sends nothing for so long is cut off."""


class Diagnostics:
    """Serves in threads of its own.

    Args:
        address: `host:port`; port 0 takes a free one.
        exposition: (accept) -> (content type, text) of the metrics.
        unready: why the service is not ready, by part; empty means ready.
        degraded: what does not work although the service is ready, by part.
        told: what /status says besides, by part; digests, codes and names.
    """

    def __init__(
        self,
        address: str,
        exposition: Callable[[str], tuple[str, bytes]],
        unready: Callable[[], Mapping[str, str]],
        degraded: Callable[[], Mapping[str, str]],
        told: Mapping[str, Callable[[], Mapping[str, object]]] = NOTHING,
    ) -> None:
        host, _, port = address.rpartition(":")

        class Answers(_Answers):
            routes: Routes = {  # noqa: RUF012 - read only
                "/metrics": lambda accept: (HTTPStatus.OK, *exposition(accept)),
                "/healthz": lambda _: (HTTPStatus.OK, "application/json", b'{"status": "alive"}'),
                "/readyz": lambda _: _readiness(unready(), degraded()),
                "/health": lambda _: _readiness(unready(), degraded()),
                "/status": lambda _: _status(unready(), degraded(), told),
            }

        self._server = ThreadingHTTPServer((host.strip("[]") or "127.0.0.1", int(port)), Answers)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, name="diagnostics", daemon=True)
        self.address = f"{host}:{self._server.server_port}"

    def start(self) -> None:
        """Begin to serve."""
        self._thread.start()

    def stop(self) -> None:
        """Stop serving; returns when the thread has ended."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _readiness(unready: Mapping[str, str], degraded: Mapping[str, str]) -> tuple[HTTPStatus, str, bytes]:
    status = HTTPStatus.SERVICE_UNAVAILABLE if unready else HTTPStatus.OK
    return status, "application/json", orjson.dumps(_words(unready, degraded))


def _status(
    unready: Mapping[str, str],
    degraded: Mapping[str, str],
    told: Mapping[str, Callable[[], Mapping[str, object]]],
) -> tuple[HTTPStatus, str, bytes]:
    """For people and their tools, not for probes: it is OK to be told that one is not ready."""
    return (
        HTTPStatus.OK,
        "application/json",
        orjson.dumps(_words(unready, degraded) | {part: dict(say()) for part, say in told.items()}),
    )


def _words(unready: Mapping[str, str], degraded: Mapping[str, str]) -> dict[str, object]:
    word = "not_ready" if unready else "ready"
    return {"status": word, "waiting_for": dict(unready), "degraded": dict(degraded)}


class _Answers(BaseHTTPRequestHandler):
    """GET and HEAD of a few fixed paths."""

    routes: Routes = {}  # noqa: RUF012 - replaced by each server
    protocol_version = "HTTP/1.1"
    server_version = "authz"
    sys_version = ""
    timeout: ClassVar[float | None] = IDLE_S

    def do_GET(self) -> None:
        """Answer, or 404."""
        route = self.routes.get(self.path.partition("?")[0])
        if route is None:
            self._send(HTTPStatus.NOT_FOUND, "application/json", b'{"error": "not found"}')
        else:
            self._send(*route(self.headers.get("accept", "")))

    do_HEAD = do_GET  # noqa: N815 - its base calls it so

    def _send(self, status: HTTPStatus, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-type", content_type)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its base's name
        """Probes would fill the log; at debug level only."""
        log.debug(format, *args)
