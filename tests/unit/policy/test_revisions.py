"""Archives by digest: found wherever they lie, and taken for nothing else."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest

from authz.errors import ConfigError
from authz.policy.revisions import KEPT, Revisions
from authz.policy.trust import Candidate

if TYPE_CHECKING:
    from pathlib import Path

ARCHIVE = b"the bytes of an archive"
DIGEST = hashlib.sha256(ARCHIVE).hexdigest()


class Remote:
    """Somebody who answers every question with the same bytes."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.asked = 0

    def read(self, _scope: str, _digest: str) -> Candidate:
        self.asked += 1
        return Candidate(path="", archive=self.content, cosignatures=b"{}")


def revisions(folder: Path, remote: Remote | None = None, configured: Path | None = None) -> Revisions:
    return Revisions(
        folder / "kept",
        candidates=folder / "candidates",
        configured=configured,
        contract="agent",
        most_bytes=1 << 20,
        remote=remote,
    )


def test_an_archive_is_found_by_its_bytes_and_kept_for_when_it_is_gone(tmp_path: Path) -> None:
    (tmp_path / "candidates").mkdir()
    placed = tmp_path / "candidates" / "any-name.tar.gz"
    placed.write_bytes(ARCHIVE)
    found = revisions(tmp_path).source("acme", DIGEST)
    assert found is not None
    assert found.archive == ARCHIVE
    placed.unlink()
    again = revisions(tmp_path).source("acme", DIGEST)
    assert again is not None
    assert again.archive == ARCHIVE


def test_bytes_of_another_digest_are_not_taken_from_anybody(tmp_path: Path) -> None:
    assert revisions(tmp_path, Remote(b"other bytes")).source("acme", DIGEST) is None
    kept = tmp_path / "kept" / f"{DIGEST}.tar.gz"
    kept.parent.mkdir()
    kept.write_bytes(b"changed on disk")
    assert revisions(tmp_path).source("acme", DIGEST) is None


def test_what_was_fetched_once_is_not_fetched_again_and_keeps_its_further_signatures(tmp_path: Path) -> None:
    remote = Remote(ARCHIVE)
    for _ in range(3):
        found = revisions(tmp_path, remote).source("acme", DIGEST)
        assert found is not None
        assert found.candidate is not None
        assert found.candidate.cosignatures == b"{}"
    assert remote.asked == 1


def test_what_is_kept_has_a_bound(tmp_path: Path) -> None:
    for number in range(KEPT + 3):
        content = str(number).encode()
        assert revisions(tmp_path, Remote(content)).source("", hashlib.sha256(content).hexdigest()) is not None
    assert len(list((tmp_path / "kept").iterdir())) == 2 * KEPT  # each with its further signatures


def test_the_signers_of_the_configured_place_are_those_of_a_candidate(tmp_path: Path) -> None:
    configured = tmp_path / "bundle.tar.gz"
    configured.write_bytes(b"something else")
    found = revisions(tmp_path, Remote(ARCHIVE), configured).source("acme", DIGEST)
    assert found is not None
    assert found.candidate is not None
    assert found.candidate.path == configured.as_posix()


def test_an_archive_on_this_disk_is_named_by_the_beginning_of_its_digest(tmp_path: Path) -> None:
    configured = tmp_path / "bundle.tar.gz"
    configured.write_bytes(ARCHIVE)
    found = revisions(tmp_path, configured=configured)
    assert found.named(DIGEST[:12]) == found.named(f"sha256:{DIGEST}") == DIGEST
    for told in (DIGEST[:11], "0" * 12, "", "../bundle"):
        with pytest.raises(ConfigError, match="named"):
            found.named(told)
