"""One issuer's keys, kept fresh from a file or a URL.

Decides which key set is in force: the last document that was one, for at most `stale_s` after it was last read. A
failed read changes nothing until then; after that there are no keys and every token of the issuer is refused.
Must never fetch on the caller's thread, nor more often than the timing allows, however many unknown `kid`s
strangers invent (D5); must never follow a redirect or leave https, except to loopback.
Trusts the file's owner, or the web's certificate authorities for the configured host.
"""

from __future__ import annotations

import logging
import math
import os
import random
import stat
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import urllib3

from authz.errors import ConfigError, UnavailableError
from authz.identity import development_issuer, jwks
from authz.loopback import is_loopback
from authz.reasons import JWKS_UNAVAILABLE

if TYPE_CHECKING:
    from collections.abc import Callable

    from authz.clock import Clock
    from authz.config import Issuer, Limits
    from authz.identity.keys import KeySet, RejectedKey

_LOG: Final = logging.getLogger(__name__)
_NS: Final = 1_000_000_000
_HTTP_OK: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class JwksTiming:
    """How often keys are read and how long they last, in seconds."""

    refresh_s: float = 300.0
    """Between reads. An issuer must publish a key this long before it signs with it."""
    stale_s: float = 3600.0
    """Keys are used this long after the last good read."""
    unknown_kid_s: float = 30.0
    """At most one read in this time is made because a token named a key that is not known."""
    unknown_kid_wait_s: float = 0.05
    """How long the one call that asked for that read waits for it; all others are refused at once."""
    retry_s: float = 1.0
    """After a failure; doubles up to `refresh_s`."""


FILE_TIMING: Final = JwksTiming(refresh_s=1.0, unknown_kid_s=1.0)
"""A file costs nothing to read, so its changes are seen within a second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JwksState:
    """What readiness and metrics show."""

    age_s: float
    """Since the last good read; infinite before it."""
    keys: int
    rejected: tuple[RejectedKey, ...]
    failures: int
    """Reads failed since the last good one."""
    last_error: str
    """Why the last read failed; empty after a good one."""


class JwksSource:
    """A `KeySource` over anything that can be read as bytes.

    Args:
        read: returns the document. Raises `OSError` or `ValueError`, with a message safe to log.
        jitter: returns a factor up to 1 for each delay, so that sidecars do not ask in step (F16).
    """

    def __init__(
        self,
        read: Callable[[], bytes],
        *,
        clock: Clock,
        timing: JwksTiming,
        rsa_algorithm: str = "RS256",
        jitter: Callable[[], float] = lambda: random.uniform(0.8, 1.0),  # noqa: S311 - spreads load, guards nothing
    ) -> None:
        self._read = read
        self._monotonic_ns = clock.monotonic_ns
        self._timing = timing
        self._stale_ns = int(timing.stale_s * _NS)
        self._rsa_algorithm = rsa_algorithm
        self._jitter = jitter
        # One tuple, replaced whole: readers on other threads see the keys and their time together.
        self._loaded: tuple[KeySet, int] | None = None
        self._document = b""
        self._failures = 0
        self._last_error = ""
        self._attempts = 0
        self._attempted = threading.Condition()
        self._asked_ns: int | None = None
        self._wake = threading.Event()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="jwks-refresh", daemon=True)

    def start(self) -> None:
        """Read now and then again and again, on a thread of its own."""
        self._thread.start()

    def restore(self, document: bytes, age_s: float) -> None:
        """Begin with what an earlier run read, `age_s` ago: those keys end when they would have ended then.

        Raises:
            ValueError: not a key set.
        """
        if age_s <= self._timing.stale_s:
            self._loaded = (self._parsed(document), self._monotonic_ns() - int(age_s * _NS))
            self._document = document

    def close(self) -> None:
        """Stop the thread; the keys stay until they are stale."""
        self._closed = True
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join()

    def key_set(self) -> KeySet:
        """See `KeySource`."""
        loaded = self._loaded
        if loaded is None or self._monotonic_ns() - loaded[1] > self._stale_ns:
            raise UnavailableError(JWKS_UNAVAILABLE)
        return loaded[0]

    def refreshed_key_set(self) -> KeySet:
        """See `KeySource`."""
        with self._attempted:
            seen = self._attempts
            if self._may_ask():
                self._wake.set()
                self._attempted.wait_for(lambda: self._attempts > seen, self._timing.unknown_kid_wait_s)
        return self.key_set()

    def age_s(self) -> float:
        """See `KeySource`."""
        loaded = self._loaded
        return math.inf if loaded is None else (self._monotonic_ns() - loaded[1]) / _NS

    def state(self) -> JwksState:
        """For readiness and metrics."""
        loaded = self._loaded
        return JwksState(
            age_s=self.age_s(),
            keys=len(loaded[0].keys) if loaded else 0,
            rejected=loaded[0].rejected if loaded else (),
            failures=self._failures,
            last_error=self._last_error,
        )

    def refresh(self) -> None:
        """Read once, on the calling thread.

        Raises:
            UnavailableError: `JWKS_UNAVAILABLE`, with why; the keys in force stay.
        """
        started_ns = self._monotonic_ns()
        try:
            document = self._read()
            if self._loaded is None or document != self._document:
                self._loaded = (self._parsed(document), started_ns)
                self._document = document
            else:
                # The same object, so that verified tokens stay cached while nothing changed.
                self._loaded = (self._loaded[0], started_ns)
        except (OSError, ValueError) as error:
            self._failures += 1
            self._last_error = str(error)
            raise UnavailableError(JWKS_UNAVAILABLE, str(error)) from None
        else:
            self._failures, self._last_error = 0, ""
        finally:
            with self._attempted:
                self._attempts += 1
                self._attempted.notify_all()

    def _parsed(self, document: bytes) -> KeySet:
        key_set = jwks.parse(document, rsa_algorithm=self._rsa_algorithm)
        for key in key_set.rejected:
            _LOG.warning("published key %d (kid %r) is not used: %s", key.position, key.kid, key.why)
        return key_set

    def _may_ask(self) -> bool:
        """Whether an unknown kid may cause a read now. One clock for all kids: a list of them could be flooded."""
        now_ns = self._monotonic_ns()
        if self._asked_ns is not None and now_ns - self._asked_ns < self._timing.unknown_kid_s * _NS:
            return False
        self._asked_ns = now_ns
        return True

    def _run(self) -> None:
        while not self._closed:
            self._wake.clear()
            self._wake.wait(self._attempt())

    def _attempt(self) -> float:
        """Read once; seconds until the next time."""
        failed_before = self._failures
        try:
            self.refresh()
        except UnavailableError as error:
            if not failed_before:
                _LOG.warning("keys could not be read; the last good ones stay for a while: %s", error.detail)
            doubled = self._timing.retry_s * 2.0 ** min(self._failures - 1, 16)
            return min(doubled, self._timing.refresh_s) * self._jitter()
        return self._timing.refresh_s * self._jitter()


@dataclass(frozen=True, slots=True, kw_only=True)
class JwksFile:
    """A JWK Set on disk."""

    path: Path

    def __call__(self) -> bytes:
        """The file's bytes, one over the limit at most.

        Raises:
            OSError: unreadable.
            ValueError: writable by everyone, so anyone here could add a key of their own.
        """
        with self.path.open("rb") as file:
            if os.fstat(file.fileno()).st_mode & stat.S_IWOTH:
                raise ValueError(f"{self.path} is writable by everyone")
            return file.read(jwks.MAX_DOCUMENT_BYTES + 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class JwksUrl:
    """A JWK Set behind https (http on loopback only).

    Raises:
        ConfigError: another scheme, plaintext to another machine, or credentials in the URL.
    """

    url: str
    clock: Clock
    deadline_s: float = 5.0
    """For the whole fetch: a server that drips bytes is cut off (F18)."""
    pool: urllib3.PoolManager

    def __post_init__(self) -> None:
        """Refuse what could not be trusted."""
        parsed = urllib3.util.parse_url(self.url)
        if parsed.auth is not None or not parsed.host:
            raise ConfigError("the JWKS URL must name a host and hold no credentials")
        if parsed.scheme != "https" and not (parsed.scheme == "http" and is_loopback(parsed.host or "")):
            raise ConfigError(f"the JWKS URL on `{parsed.host}` must be https", remedy="use https, or a file")

    def __call__(self) -> bytes:
        """The response's bytes, one chunk over the limit at most.

        Raises:
            OSError: unreachable, not 200, a redirect, or past the deadline.
        """
        until_ns = self.clock.monotonic_ns() + int(self.deadline_s * _NS)
        try:
            response = self.pool.request(
                "GET",
                self.url,
                headers={"accept": "application/jwk-set+json, application/json", "accept-encoding": "identity"},
                redirect=False,
                retries=False,
                timeout=urllib3.Timeout(total=self.deadline_s),
                preload_content=False,
            )
            try:
                return self._body(response, until_ns)
            finally:
                # Not released for reuse: a response that was not read to its end must not answer the next request.
                response.close()
        except urllib3.exceptions.HTTPError as error:
            raise ConnectionError(type(error).__name__) from None

    def _body(self, response: urllib3.BaseHTTPResponse, until_ns: int) -> bytes:
        if response.status != _HTTP_OK:
            raise ConnectionError(f"HTTP status {response.status}")
        body = b""
        while len(body) <= jwks.MAX_DOCUMENT_BYTES:
            # Not decoded: a compressed answer was not asked for, and could be a bomb.
            chunk = response.read1(64 * 1024, decode_content=False)
            if not chunk:
                break
            if self.clock.monotonic_ns() > until_ns:
                raise TimeoutError("the answer took too long")
            body += chunk
        return body


def open_jwks(issuer: Issuer, *, clock: Clock, limits: Limits) -> JwksSource:
    """The keys of `issuer`, from its `jwks` file or URL; call `start` on the result.

    Raises:
        ConfigError: a file that cannot be used now, or a URL that must not be. A URL that is down now is not one.
    """
    if issuer.issuer == development_issuer.ISSUER:
        _LOG.warning("tokens of the development issuer are trusted: not for production")
    if "://" in issuer.jwks:
        pool = urllib3.PoolManager(num_pools=1, maxsize=1)
        read: Callable[[], bytes] = JwksUrl(url=issuer.jwks, clock=clock, pool=pool)
        timing = JwksTiming(refresh_s=limits.jwks_refresh_s, stale_s=limits.jwks_stale_s)
        return JwksSource(read, clock=clock, timing=timing, rsa_algorithm=issuer.rsa_algorithm)
    timing = replace(FILE_TIMING, stale_s=limits.jwks_stale_s)
    source = JwksSource(
        JwksFile(path=Path(issuer.jwks)), clock=clock, timing=timing, rsa_algorithm=issuer.rsa_algorithm
    )
    try:
        source.refresh()
    except UnavailableError as error:
        raise ConfigError(f"keys of `{issuer.issuer}`: {error.detail}", remedy="give a JWK Set in --jwks") from None
    return source
