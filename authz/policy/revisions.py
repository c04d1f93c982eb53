"""Bundle archives on a sidecar's disk, by the SHA-256 of their bytes: what rollouts name.

Decides where an archive may be found (kept from before, in the operator's folder of candidates, the configured archive
itself) and that only bytes with the digest that was asked for are taken. Archives are kept so that going back needs no
network. Must never believe more of an archive than its digest: the activation verifies it.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Protocol

from authz.errors import BundleError, ConfigError
from authz.policy import durable
from authz.policy.engine import PolicySource
from authz.policy.sources import beside, read_archive, read_candidate, what_lies_beside

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import Literal

    from authz.policy.trust import Candidate

log: Final = logging.getLogger(__name__)
KEPT: Final = 8
"""Archives; the one that was not read for longest goes first."""
ARCHIVE: Final = ".tar.gz"
LEAST: Final = 12
"""Digits that name an archive."""


class Blobs(Protocol):
    """Archives by digest, wherever they come from."""

    def read(self, scope: str, digest: str) -> Candidate | None:
        """An archive with what lies beside it; None where it is not to be had now."""
        ...


class Revisions:
    """The archives of one service.

    Args:
        folder: of those that are kept; None keeps none.
        candidates: the operator's folder.
        configured: the archive that this service is configured with, if it is one.
        most_bytes: of an archive.
        remote: asked for what is not on this disk; None asks nobody.
    """

    def __init__(
        self,
        folder: Path | None,
        *,
        candidates: Path | None,
        configured: Path | None,
        contract: Literal["agent", "envoy"],
        most_bytes: int,
        remote: Blobs | None = None,
    ) -> None:
        self._folder = folder
        self._candidates = candidates
        self._configured = configured
        self._contract = contract
        self._most_bytes = most_bytes
        self._remote = remote

    def source(self, scope: str, digest: str) -> PolicySource | None:
        """The archive, to be opened; None where it is not to be had now."""
        found = self._on_disk(digest)
        if found is None and self._remote is not None:
            found = self._remote.read(scope, digest)
        if found is None or hashlib.sha256(found.archive).hexdigest() != digest:
            return None
        self._keep(digest, found)
        if self._configured is not None:  # which keys may sign depends on the place that was configured
            found = replace(found, path=self._configured.as_posix())
        return PolicySource(
            archive=found.archive, candidate=found, contract=self._contract, most_bytes=self._most_bytes
        )

    def named(self, beginning: str) -> str:
        """The digest of the one archive on this disk that begins so.

        Raises:
            ConfigError: none or several do.
        """
        told = beginning.removeprefix("sha256:")
        found = {digest for digest, _ in self._archives() if len(told) >= LEAST and digest.startswith(told)}
        if len(found) != 1:
            raise ConfigError(
                f"{len(found)} archives on this disk are named `{beginning}`",
                remedy=f"give `configured`, or at least {LEAST} digits of an archive's SHA-256",
            )
        return found.pop()

    def _on_disk(self, digest: str) -> Candidate | None:
        for known, path in self._archives(digest):
            if known == digest:
                try:
                    return read_candidate(path, self._most_bytes)
                except (BundleError, ConfigError) as error:
                    log.warning("%s is passed over: %s", path, error)
        return None

    def _archives(self, digest: str = "") -> Iterator[tuple[str, Path]]:
        """Archives with their digests, the one of that name first, so that the others need not be read."""
        if self._folder is not None and digest and (kept := self._folder / f"{digest}{ARCHIVE}").exists():
            yield digest, kept
        places = [place for place in (self._folder, self._candidates) if place is not None and place.is_dir()]
        paths = [path for place in places for path in sorted(place.glob(f"*{ARCHIVE}"))]
        if self._configured is not None and self._configured.exists():
            paths.append(self._configured)
        for path in paths:
            try:
                yield hashlib.sha256(read_archive(path, self._most_bytes)).hexdigest(), path
            except (BundleError, ConfigError) as error:
                log.debug("%s is passed over: %s", path, error)

    def _keep(self, digest: str, found: Candidate) -> None:
        """A copy that outlives the network, and whatever happens to the operator's folder."""
        if self._folder is None:
            return
        path = self._folder / f"{digest}{ARCHIVE}"
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if path.exists():
                path.touch()
                return
            for kind, content in what_lies_beside(found).items():
                durable.write(beside(path, found.archive, kind), content)
            durable.write(path, found.archive)
            by_age = sorted(self._folder.glob(f"*{ARCHIVE}"), key=lambda each: each.stat().st_mtime_ns)
            for old in by_age[:-KEPT]:
                for part in self._folder.glob(f"{old.name.removesuffix(ARCHIVE)}.*"):
                    part.unlink()
        except OSError as error:
            log.error("no copy of sha256:%s could be kept: %s", digest[:LEAST], error.strerror)  # noqa: TRY400
