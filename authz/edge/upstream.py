"""The tool's own credential, read from the file that a route names (requirement D9).

Decides nothing. Must never log a credential, keep one that the file no longer holds for longer than a
second, or send a header that the file does not fill. Trusts the file's permissions, which it checks.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

from authz.config import UpstreamAuth
from authz.errors import ConfigError

if TYPE_CHECKING:
    from authz.clock import Clock
    from authz.config import Route

RECHECK_NS: Final = 1_000_000_000
OTHERS_READ: Final = 0o004


class UpstreamCredentials:
    """(header, value) for each route that has one. Thread-safe.

    Raises:
        ConfigError: a file that is missing, empty, readable by everyone, or not one line of visible text.
    """

    def __init__(self, routes: tuple[Route, ...], clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        wanted = [route.upstream_auth for route in routes if isinstance(route.upstream_auth, UpstreamAuth)]
        self._values = {auth: (0, _read(auth)) for auth in wanted}

    def of(self, route: Route) -> tuple[str, str] | None:
        """What to set towards this route's tool.

        Raises:
            ConfigError: the file became unusable; the call must be refused.
        """
        auth = route.upstream_auth
        if not isinstance(auth, UpstreamAuth):
            return None
        now = self._clock.monotonic_ns()
        read_ns, value = self._values[auth]
        if now - read_ns > RECHECK_NS:
            value = _read(auth)
            with self._lock:
                self._values[auth] = (now, value)
        return auth.header.lower(), value


def _read(auth: UpstreamAuth) -> str:
    try:
        mode, text = auth.file.stat().st_mode, auth.file.read_text(encoding="ascii").strip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"credential `{auth.file}` cannot be read: {type(error).__name__}") from None
    if mode & OTHERS_READ:
        raise ConfigError(f"credential `{auth.file}` is readable by everyone", remedy=f"chmod 600 {auth.file}")
    if not text or not text.isprintable():
        raise ConfigError(f"credential `{auth.file}` is not one line of visible text")
    return text
