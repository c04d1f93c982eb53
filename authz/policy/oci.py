"""A bundle in an OCI registry, as OPA and `oras` keep one: read and published with the client library `oras`.

Decides the form, which is OPA's: an image manifest with one gzip layer, the archive; further signatures and statements
are layers of media types of our own, which OPA passes over. Every connection is TLS, or on loopback: redirects and
token services too (F18). Time and bytes are bounded; the library's own retries, which sleep for minutes, never begin.

Must never take a blob whose digest is not the manifest's. `trust` judges what comes. Loaded by those alone who name an
`oci://` reference: the library is an extra.
"""

from __future__ import annotations

import hashlib
import tempfile
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import requests

from authz.errors import BundleError, ConfigError, ProgramError
from authz.loopback import is_loopback
from authz.policy.origin import Offer
from authz.policy.sources import KINDS, MAX_STATEMENT_BYTES, what_lies_beside

try:
    from oras.provider import Registry
except ImportError:  # pragma: no cover - an installation without the extra
    Registry = None

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from authz.clock import Clock
    from authz.policy.sources import Beside
    from authz.policy.trust import Candidate

SCHEME: Final = "oci://"
CALL_S: Final = 10.0
FETCH_S: Final = 60.0
MANIFEST_TYPE: Final = "application/vnd.oci.image.manifest.v1+json"
CONFIG_TYPE: Final = "application/vnd.oci.image.config.v1+json"
ARCHIVE_TYPE: Final = "application/vnd.oci.image.layer.v1.tar+gzip"
"""By which OPA finds the archive among the layers."""
BESIDE_TYPES: Final[dict[Beside, str]] = {kind: f"application/vnd.authz.bundle.{kind}.v1+json" for kind in KINDS}
_CONFIG: Final = b"{}"
_CHUNK: Final = 256 * 1024
_NS: Final = 1_000_000_000
_OK: Final = (200, 201, 202)


class _RefusedError(requests.exceptions.SSLError):
    """Any failure: the one kind that the library does not retry. Who asked tries again at a pace of its own."""


class _Guarded(requests.Session):
    """Every request of the library, redirects and token services included."""

    def __init__(self) -> None:
        super().__init__()
        self.trust_env = False  # no proxy and no .netrc of whoever starts this
        self.max_redirects = 3

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:  # noqa: ANN401 - as its base has it
        """See its base; called for each hop."""
        parts = urlsplit(request.url or "")
        if parts.scheme != "https" and not is_loopback(str(parts.hostname or "")):
            raise _RefusedError(f"it leads to `{parts.hostname}` without TLS")
        try:
            response = super().send(request, **(options | {"timeout": CALL_S}))
        except requests.RequestException as error:
            raise _RefusedError(type(error).__name__) from None
        if response.status_code >= 500:  # noqa: PLR2004 - HTTP's failures of servers
            raise _RefusedError(f"HTTP status {response.status_code}")
        return response


class OciOrigin:
    """One reference: `oci://HOST/REPOSITORY:TAG`, or with `@sha256:…` for one that never changes.

    Args:
        token: gives `USER:PASSWORD`, or a bearer token; None asks as nobody.
        archive_bytes: the largest archive.

    Raises:
        ConfigError: not a reference, or the extra is not installed.
    """

    def __init__(
        self,
        reference: str,
        clock: Clock,
        *,
        token: Callable[[], str] | None = None,
        roots: Path | None = None,
        archive_bytes: int,
        fetch_s: float = FETCH_S,
    ) -> None:
        self.path: Final = reference
        self._host, self._name = _parsed(reference)
        self._monotonic_ns = clock.monotonic_ns
        self._token = token
        self._roots = roots
        self._archive_bytes = archive_bytes
        self._fetch_s = fetch_s

    @staticmethod
    def tag(archive: bytes) -> str:
        """See `Origin`."""
        return _digest(archive)

    def read(self, known: str, *, base: bytes = b"", wait_s: float = 0.0) -> Offer:  # noqa: ARG002 - registries hold no questions
        """See `Origin`."""
        try:
            registry = _registry(self._host, self._token() if self._token else "", self._roots)
            layers = _layers(registry.get_manifest(self._name, allowed_media_type=[MANIFEST_TYPE]))
            archives = [layer for layer in layers if layer["mediaType"] == ARCHIVE_TYPE]
            if len(archives) != 1:
                raise _failed(f"it has {len(archives)} layers that could be the archive")
            digest = str(archives[0]["digest"])
            archive = None if digest == known else self._blob(registry, digest, self._archive_bytes)
            beside: dict[Beside, bytes] = {}
            for kind, media_type in BESIDE_TYPES.items():
                for layer in layers:
                    if layer["mediaType"] == media_type:
                        beside[kind] = self._blob(registry, str(layer["digest"]), MAX_STATEMENT_BYTES)
        except (requests.RequestException, OSError, ValueError, KeyError, TypeError) as error:
            # Of the library's own words only the kind: they may repeat what a header said.
            raise _failed(str(error) if isinstance(error, _RefusedError) else type(error).__name__) from None
        return Offer(tag=digest, archive=archive, beside=beside)

    def _blob(self, registry: Any, digest: str, most_bytes: int) -> bytes:  # noqa: ANN401 - the library has no types
        until_ns, content = self._monotonic_ns() + int(self._fetch_s * _NS), bytearray()
        with registry.get_blob(registry.get_container(self._name), digest, stream=True) as response:
            if response.status_code not in _OK:
                raise _failed(f"HTTP status {response.status_code}")
            for chunk in response.iter_content(_CHUNK):
                content += chunk
                if len(content) > most_bytes:
                    raise BundleError(f"a layer is over {most_bytes} bytes", code="BUNDLE_SIZE")
                if self._monotonic_ns() > until_ns:
                    raise _failed(f"it took over {self._fetch_s:.0f} s")
        if _digest(bytes(content)) != digest:
            raise _failed("a layer is not what the manifest says")
        return bytes(content)


def publish_oci(candidate: Candidate, reference: str, *, token: str = "", roots: Path | None = None) -> None:
    """Put an archive and what lies beside it under a tag, layers first.

    Raises:
        ConfigError: not a reference, or the extra is not installed.
        ProgramError: it was refused, or nobody answers.
    """
    host, name = _parsed(reference)
    try:
        registry = _registry(host, token, roots)
        container = registry.get_container(name)
        layers = [_uploaded(registry, container, content, media_type) for content, media_type in _contents(candidate)]
        manifest = {"schemaVersion": 2, "mediaType": MANIFEST_TYPE, "config": layers[0], "layers": layers[1:]}
        _require_taken(registry.upload_manifest(manifest, container))
    except (requests.RequestException, OSError, ValueError) as error:
        told = str(error) if isinstance(error, _RefusedError) else type(error).__name__
        raise ProgramError(f"{reference}: {told}", remedy="may you push there? see --token-file") from None


def _contents(candidate: Candidate) -> Iterator[tuple[bytes, str]]:
    yield _CONFIG, CONFIG_TYPE
    yield candidate.archive, ARCHIVE_TYPE
    for kind, content in what_lies_beside(candidate).items():
        yield content, BESIDE_TYPES[kind]


def _uploaded(registry: Any, container: Any, content: bytes, media_type: str) -> dict[str, Any]:  # noqa: ANN401
    """The descriptor of what is in the registry then."""
    descriptor = {"mediaType": media_type, "digest": _digest(content), "size": len(content)}
    with tempfile.NamedTemporaryFile() as file:  # the library uploads files alone
        file.write(content)
        file.flush()
        _require_taken(registry.upload_blob(file.name, container, descriptor))
    return descriptor


def _require_taken(response: requests.Response) -> None:
    if response.status_code not in _OK:
        raise _RefusedError(f"HTTP status {response.status_code}")


def _registry(host: str, token: str, roots: Path | None) -> Any:  # noqa: ANN401 - the library has no types
    """A client that has the one credential that it was given: no configuration of Docker's is read."""
    user, colon, password = token.partition(":")
    is_local = is_loopback(urlsplit(f"//{host}").hostname or "")
    verified, session = str(roots) if roots else True, _Guarded()
    url = f"{'http' if is_local else 'https'}://{host}/v2/"
    # A registry that knows passwords alone names no service of tokens.
    challenge = session.get(url, verify=verified).headers.get("www-authenticate", "") if colon else ""
    backend = "basic" if challenge.lower().startswith("basic") else "token"
    registry = Registry(insecure=is_local, tls_verify=verified, auth_backend=backend)
    registry.session = registry.auth.session = session
    registry.auth.load_configs = lambda *_, **__: None
    if colon:
        registry.auth.set_basic_auth(user, password)
    elif token:
        registry.auth.set_token_auth(token)
    return registry


def _layers(manifest: Any) -> list[dict[str, Any]]:  # noqa: ANN401 - whatever the far end says
    layers = manifest["layers"]
    if not isinstance(layers, list) or len(layers) > 2 + len(KINDS):
        raise _failed("its manifest has layers that are not a bundle's")
    return layers


def _parsed(reference: str) -> tuple[str, str]:
    """The host, and the reference as the library has it."""
    name = reference.removeprefix(SCHEME)
    host, slash, rest = name.partition("/")
    if Registry is None:
        raise ConfigError("the client of OCI registries is not installed", remedy="install authz[oci]")
    if not reference.startswith(SCHEME) or not (host and slash and rest) or "@" in host:
        raise ConfigError("not an OCI reference", remedy="such as oci://registry.example/policies/payments:prod")
    return host, name


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _failed(how: str) -> BundleError:
    return BundleError(f"the bundle cannot be read: {how}", code="BUNDLE_FETCH")
