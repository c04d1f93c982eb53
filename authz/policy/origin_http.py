"""A bundle at a URL: OPA's bundle service, or any server of files, such as an object store (F18).

Decides how it is read: https, or http on loopback; no redirect; a bound on the bytes and on the whole time, however
slowly they come; unpacked by nobody here. What lies beside the archive is read from the same folder, named by the
archive's digest. Must never send its token anywhere else, nor show it. Trusts the web's authorities, or a root that is
configured, for the host; and nothing of what comes.
"""

from __future__ import annotations

import hashlib
import logging
from typing import TYPE_CHECKING, Final

import urllib3

from authz.errors import BundleError, ConfigError
from authz.loopback import is_loopback
from authz.policy import delta
from authz.policy.archive import bounds
from authz.policy.origin import Offer
from authz.policy.sources import KINDS, MAX_STATEMENT_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from authz.clock import Clock
    from authz.policy.sources import Beside

log: Final = logging.getLogger(__name__)
CONNECT_S: Final = 5.0
FETCH_S: Final = 60.0
"""For the whole archive, from the first byte of the answer to the last."""
LONG_POLL: Final = "application/vnd.openpolicyagent.bundles"
"""The content type by which a server says that it understood a wait."""
_CHUNK: Final = 256 * 1024
_NS: Final = 1_000_000_000
_OK: Final = 200
_NOT_MODIFIED: Final = 304
_NOT_FOUND: Final = (403, 404)
"""Object stores say 403 of what is not there to whoever may not list."""


class HttpOrigin:
    """One URL.

    Args:
        token: gives a bearer token, asked for each request; None sends none. An OSError or ValueError of it is told.
        sign: instead, gives headers for a method and a URL; the same holds for it.
        client: certificate and private key that are shown to the server, in PEM.
        roots: PEM of who signs the server's certificate; None means the web's authorities.
        archive_bytes: the largest archive.

    Raises:
        ConfigError: another scheme, plaintext to another machine, or a URL with credentials or a query.
    """

    def __init__(
        self,
        url: str,
        clock: Clock,
        *,
        token: Callable[[], str] | None = None,
        sign: Callable[[str, str], Mapping[str, str]] | None = None,
        client: tuple[Path, Path] | None = None,
        roots: Path | None = None,
        archive_bytes: int,
        fetch_s: float = FETCH_S,
    ) -> None:
        self.path: Final = checked(url)
        self._monotonic_ns = clock.monotonic_ns
        self._token = token
        self._sign = sign
        self._archive_bytes = archive_bytes
        self._fetch_s = fetch_s
        certificate, key = map(str, client) if client else (None, None)
        self._pool = urllib3.PoolManager(
            num_pools=1,
            maxsize=1,
            ca_certs=str(roots) if roots else None,
            cert_file=certificate,
            key_file=key,
        )
        self._sha256 = ""

    @staticmethod
    def tag(_archive: bytes) -> str:
        """See `Origin`."""
        return ""

    def read(self, known: str, *, base: bytes = b"", wait_s: float = 0.0) -> Offer:
        """See `Origin`."""
        headers = {"if-none-match": known} if known else {}
        if base or wait_s:
            wait = f";wait={wait_s:.0f}" if wait_s else ""
            headers["prefer"] = f"modes=snapshot{',delta' if base else ''}{wait}"
        status, told, content = self._get(self.path, headers, self._archive_bytes, wait_s)
        if status == _OK and base and delta.is_delta(content):
            try:
                sent, content = len(content), delta.apply(base, content, bounds(self._archive_bytes))
            except BundleError as error:
                log.warning("a delta of %s is not used, the whole archive is fetched: %s", self.path, error)
                return self.read("")
            log.info("the newest archive of %s came as a delta of %d bytes", self.path, sent)
        is_held = bool(wait_s) and told.get("content-type", "") == LONG_POLL
        if status == _NOT_MODIFIED and known:
            return Offer(tag=known, archive=None, beside=self._beside(), is_held=is_held)
        if status != _OK:
            raise _failed(f"HTTP status {status}")
        self._sha256 = hashlib.sha256(content).hexdigest()
        tag = told.get("etag") or self._sha256
        # A server without ETags sends the whole archive each time; it is the same all the same.
        return Offer(tag=tag, archive=None if tag == known else content, beside=self._beside(), is_held=is_held)

    def _beside(self) -> dict[Beside, bytes]:
        folder, found = self.path.rpartition("/")[0], {}
        for kind in KINDS:
            status, _, content = self._get(f"{folder}/{self._sha256}.{kind}.json", {}, MAX_STATEMENT_BYTES)
            if status == _OK:
                found[kind] = content
            elif status not in _NOT_FOUND:
                raise _failed(f"HTTP status {status} of what lies beside it")
        return found

    def _get(
        self, url: str, headers: dict[str, str], most_bytes: int, wait_s: float = 0.0
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Status, headers and content."""
        sent = {"accept-encoding": "identity", **headers, **self._authorization(url)}
        try:
            response = self._pool.request(
                "GET",
                url,
                headers=sent,
                redirect=False,
                retries=False,
                timeout=urllib3.Timeout(connect=CONNECT_S, read=wait_s + self._fetch_s),
                preload_content=False,
            )
            try:
                content = self._content(response, most_bytes) if response.status == _OK else b""
            finally:
                # Not released for reuse: what was not read to its end must not answer the next request.
                response.close()
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise _failed(type(error).__name__) from None
        return response.status, response.headers, content

    def _content(self, response: urllib3.BaseHTTPResponse, most_bytes: int) -> bytes:
        until_ns, content = self._monotonic_ns() + int(self._fetch_s * _NS), bytearray()
        # Not decoded: a compressed answer was not asked for, and could be a bomb.
        while chunk := response.read1(_CHUNK, decode_content=False):
            content += chunk
            if len(content) > most_bytes:
                raise BundleError(f"the answer is over {most_bytes} bytes", code="BUNDLE_SIZE")
            if self._monotonic_ns() > until_ns:
                raise _failed(f"it took over {self._fetch_s:.0f} s")
        return bytes(content)

    def _authorization(self, url: str) -> Mapping[str, str]:
        try:
            if self._sign is not None:
                return self._sign("GET", url)
            if self._token is None:
                return {}
            return {"authorization": f"Bearer {self._token()}"}
        except (OSError, ValueError):
            raise _failed("its credentials cannot be read") from None


def checked(url: str) -> str:
    """A URL that a bundle may be read at.

    Raises:
        ConfigError: see `HttpOrigin`.
    """
    try:
        parsed = urllib3.util.parse_url(url)
    except urllib3.exceptions.LocationParseError:
        parsed = urllib3.util.Url()
    if parsed.scheme not in ("http", "https") or not parsed.host or not parsed.path:
        raise ConfigError("a bundle's source is not a URL", remedy="such as https://host/bundles/acme/payments")
    if parsed.auth is not None or parsed.query or parsed.fragment:
        raise ConfigError(
            f"the bundle's URL on `{parsed.host}` holds credentials or a query", remedy="give a token in a file"
        )
    if parsed.scheme == "http" and not is_loopback(parsed.host):
        raise ConfigError(f"the bundle's URL on `{parsed.host}` must be https", remedy="use https")
    return url


def _failed(how: str) -> BundleError:
    return BundleError(f"the bundle cannot be read: {how}", code="BUNDLE_FETCH")
