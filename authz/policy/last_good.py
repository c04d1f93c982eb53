"""What outlives a crash: the last policy that answered, and which candidates brought the process down.

Decides when a candidate counts as poison: it ended the process twice while it was opened and probed (F15). A mark is
made before a candidate is opened and cleared after its probe, so that only a crash leaves one behind. Poison is never
opened again; the copy of what answered last stands in for it at the next start. Must never call a policy good before
its probe, keep other bytes than those that were probed, or open a copy that changed on disk.

Trusts the owner of its folder, which belongs to one service: a policy for something else must never stand in.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import secrets
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from authz.errors import BundleError, ConfigError
from authz.policy import durable
from authz.policy.sources import beside, files_below, stored_archive, what_lies_beside

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from authz.policy.engine import PolicySource

log: Final = logging.getLogger(__name__)

CRASHES: Final = 2
"""One may be chance: somebody's kill, or a machine out of memory. Two on the same bytes are not."""

_GOOD: Final = "good"
_ATTEMPT: Final = "attempt"
_POISON: Final = "poison"
_ARCHIVE: Final = "bundle.tar.gz"


class LastGood:
    """A folder of one service's state. Not thread-safe: activations take turns.

    Layout: `good` names the digest of the copy beside it, `attempt` the candidate that is open and how often it was,
    `poison` the digests that are never opened again, one a line.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def folder(self) -> Path:
        """Where the state of this service lies."""
        return self._folder

    @contextlib.contextmanager
    def attempt(self, source: PolicySource) -> Iterator[None]:
        """Open and probe a candidate inside this block; when it ends well, the candidate is the last good one.

        Raises:
            BundleError: BUNDLE_POISON when it crashed before, BUNDLE_STATE when the folder cannot be used.
        """
        with self.marked(source) as digest:
            yield
        try:
            self._keep(source, digest)
        except OSError as error:
            log.error("the policy serves, but no copy of it could be kept: %s", error.strerror)  # noqa: TRY400

    @contextlib.contextmanager
    def marked(self, source: PolicySource) -> Iterator[str]:
        """Open and probe a candidate inside this block, and keep no copy of it; gives its digest.

        Raises:
            BundleError: as for `attempt`.
        """
        digest = self._mark(source)
        try:
            yield digest
        finally:
            (self._folder / _ATTEMPT).unlink(missing_ok=True)

    def is_poison(self, source: PolicySource) -> bool:
        """Whether this candidate is never opened again. Changes nothing."""
        return source_digest(source) in self._lines(_POISON)

    def recall(self, source: PolicySource) -> PolicySource | None:
        """The copy to open instead of `source`; None where nothing was good yet.

        Raises:
            BundleError: BUNDLE_STATE when the copy is not what was probed.
        """
        names = self._lines(_GOOD)
        if not names:
            return None
        changed = BundleError("the copy of the last good policy changed on disk", code="BUNDLE_STATE")
        try:
            found = _stored(self._folder / names[0], source)
            if source_digest(found) == names[0]:
                return found
        except (OSError, ValueError, ConfigError) as error:
            raise changed from error
        raise changed

    def _mark(self, source: PolicySource) -> str:
        """Count this opening before it happens; the count is read again only if the process dies."""
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            digest = source_digest(source)
            candidate, _, opened = "".join(self._lines(_ATTEMPT)).partition(" ")
            crashes = int(opened or 0) if candidate == digest else 0
            if crashes >= CRASHES:
                durable.write(self._folder / _POISON, "\n".join({*self._lines(_POISON), digest}))
                (self._folder / _ATTEMPT).unlink()
            if self.is_poison(source):
                raise BundleError(
                    f"the policy sha256:{digest[:12]} ended the service {CRASHES} times and is not opened again; "
                    f"change it, or remove {self._folder / _POISON}",
                    code="BUNDLE_POISON",
                )
            durable.write(self._folder / _ATTEMPT, f"{digest} {crashes + 1}")
        except OSError as error:
            raise BundleError(f"{self._folder}: {error.strerror}", code="BUNDLE_STATE") from error
        return digest

    def _keep(self, source: PolicySource, digest: str) -> None:
        """Copy whole or not at all; `good` moves on only when the copy is on the disk."""
        if self._lines(_GOOD) == [digest]:
            return
        draft = self._folder / f"draft.{secrets.token_hex(8)}"
        try:
            _store(source, draft)
            # Files that changed while they were probed are no policy that was probed; the next look sees them.
            if source_digest(_stored(draft, source)) != digest:
                return
            if not (self._folder / digest).exists():
                draft.rename(self._folder / digest)
            durable.write(self._folder / _GOOD, digest)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        for other in self._folder.iterdir():
            if other.is_dir() and other.name != digest:
                shutil.rmtree(other)

    def _lines(self, name: str) -> list[str]:
        try:
            return (self._folder / name).read_text(encoding="ascii").splitlines()
        except FileNotFoundError:
            return []


def source_digest(source: PolicySource) -> str:
    """SHA-256 in hex, over the archive or over each file's place and content, in memory of one block.

    Raises:
        OSError: a file cannot be read.
    """
    if source.archive is not None:
        return hashlib.sha256(source.archive).hexdigest()
    total = hashlib.sha256()
    for place, path in _files(source):
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256")
        total.update(hashlib.sha256(place.encode()).digest() + content.digest())
    return total.hexdigest()


def _files(source: PolicySource) -> Iterator[tuple[str, Path]]:
    """The engine's files with their places: the number of their root, and the path below it."""
    for number, root in enumerate(source.paths):
        for path in files_below(root):
            yield f"{number}/{path.name if path == root else path.relative_to(root)}", path


def _store(source: PolicySource, folder: Path) -> None:
    folder.mkdir(mode=0o700)
    if source.archive is not None:
        durable.write(folder / _ARCHIVE, source.archive)
        for kind, content in what_lies_beside(source.candidate).items():
            durable.write(beside(folder / _ARCHIVE, source.archive, kind), content)
    for number in range(len(source.paths)):
        (folder / str(number)).mkdir()
    for place, path in _files(source):
        target = folder / place
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
        durable.sync(target)
    for path in (*filter(lambda path: path.is_dir(), folder.rglob("*")), folder):
        durable.sync(path)


def _stored(folder: Path, like: PolicySource) -> PolicySource:
    if (folder / _ARCHIVE).exists():
        return stored_archive(folder / _ARCHIVE, like)
    return replace(like, paths=tuple(sorted(folder.iterdir(), key=lambda path: int(path.name))), archive=None)
