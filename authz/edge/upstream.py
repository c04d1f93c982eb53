"""The tool's own credential: read from the file that a route names, or got by token exchange (requirement D9).

Decides nothing but which of the two. Must never log a credential, keep one that the file no longer holds for longer
than a second, or send a header that is not filled. Trusts the file's permissions, which it checks.
"""

from __future__ import annotations

import threading
from concurrent import futures
from typing import TYPE_CHECKING, Final

from authz.config import ExchangedAuth, UpstreamAuth
from authz.edge.exchanged import WORKERS, ExchangedTokens
from authz.errors import ConfigError, UnavailableError
from authz.identity import bearer
from authz.identity.token_exchange import TokenEndpoint
from authz.reasons import UPSTREAM_CREDENTIAL

if TYPE_CHECKING:
    from pathlib import Path

    from authz.clock import Clock
    from authz.config import Route
    from authz.model import Check, Principal

RECHECK_NS: Final = 1_000_000_000
OTHERS_READ: Final = 0o004


class UpstreamCredentials:
    """(header, value) for each route that has one. Thread-safe.

    Raises:
        ConfigError: a file that is missing, empty, readable by everyone, or not one line of visible text; an endpoint
            that must not be used.
    """

    def __init__(self, routes: tuple[Route, ...], clock: Clock) -> None:
        self._files = _Files(clock)
        self._pool = futures.ThreadPoolExecutor(WORKERS, "token-exchange")
        self._exchanged: dict[ExchangedAuth, ExchangedTokens] = {}
        for auth in (route.upstream_auth for route in routes):
            if isinstance(auth, UpstreamAuth):
                self._files.read(auth.file)
            elif isinstance(auth, ExchangedAuth):
                self._exchanged[auth] = self._tokens(auth, clock)

    def start(self) -> None:
        """Fetch what does not depend on a caller."""
        for tokens in self._exchanged.values():
            tokens.start()

    def stop(self) -> None:
        """Wait for no exchange any more."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def of(self, check: Check, route: Route, principal: Principal | None) -> tuple[str, str] | None:
        """What to set towards this route's tool; never waits.

        Raises:
            UnavailableError: UPSTREAM_CREDENTIAL; the file became unusable, or the token is not at hand yet.
        """
        auth = route.upstream_auth
        if isinstance(auth, UpstreamAuth):
            try:
                return auth.header.lower(), self._files.read(auth.file)
            except ConfigError:
                raise UnavailableError(UPSTREAM_CREDENTIAL, "the credential's file cannot be used") from None
        if not isinstance(auth, ExchangedAuth):
            return None
        if principal is None:
            raise UnavailableError(UPSTREAM_CREDENTIAL, "nobody is known whose token could be exchanged")
        token = bearer.from_headers(check.headers, check.path) if "authorization" in check.headers else ""
        return "authorization", self._exchanged[auth].of(principal, token)

    def _tokens(self, auth: ExchangedAuth, clock: Clock) -> ExchangedTokens:
        settings = auth.token_exchange
        secret = _read(settings.client_secret_file) if settings.client_secret_file else ""
        own = settings.subject_token_file
        if own is not None:
            self._files.read(own)
        endpoint = TokenEndpoint(settings, secret)
        return ExchangedTokens(endpoint.exchange, clock, self._pool, None if own is None else lambda: self._own(own))

    def _own(self, file: Path) -> str:
        try:
            return self._files.read(file)
        except ConfigError:
            raise UnavailableError(UPSTREAM_CREDENTIAL, "the file of the token to exchange cannot be used") from None


class _Files:
    """Files of one line, looked at again after a second."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._values: dict[Path, tuple[int, str]] = {}

    def read(self, file: Path) -> str:
        """The line.

        Raises:
            ConfigError: the file cannot be used.
        """
        now = self._clock.monotonic_ns()
        read_ns, value = self._values.get(file, (0, ""))
        if not value or now - read_ns > RECHECK_NS:
            value = _read(file)
            with self._lock:
                self._values[file] = (now, value)
        return value


def _read(file: Path) -> str:
    try:
        mode, text = file.stat().st_mode, file.read_text(encoding="ascii").strip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"credential `{file}` cannot be read: {type(error).__name__}") from None
    if mode & OTHERS_READ:
        raise ConfigError(f"credential `{file}` is readable by everyone", remedy=f"chmod 600 {file}")
    if not text or not text.isprintable():
        raise ConfigError(f"credential `{file}` is not one line of visible text")
    return text
