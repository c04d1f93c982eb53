"""What was written is read again, whatever the last crash cut off."""

from __future__ import annotations

import resource
import signal
import stat
from typing import TYPE_CHECKING

import pytest

from authz.revocation import journal
from authz.revocation.entries import Signed
from authz.revocation.journal import Journal, folder_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def signed(text: str) -> Signed:
    return Signed(body=text.encode(), signature=b"s" * 64, kid="k")


def bodies(kept: Journal) -> list[list[bytes]]:
    return [[batch.body for batch in chapter.batches] for chapter in kept.chapters()]


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(tmp_path / "j")
    yield journal
    journal.close()


def test_batches_are_read_in_the_order_in_which_they_were_written(kept: Journal) -> None:
    for text in ("a", "b", "c"):
        kept.append(1, signed(text))
    assert bodies(kept) == [[b"a", b"b", b"c"]]


def test_nothing_kept_is_nothing_read(kept: Journal) -> None:
    assert bodies(kept) == []
    assert kept.heartbeat() is None


@pytest.mark.parametrize("lost", [1, 10, 75])
def test_what_a_crash_cut_off_is_left_out_and_overwritten(kept: Journal, tmp_path: Path, lost: int) -> None:
    kept.append(1, signed("a"))
    kept.append(1, signed("b" * 10))
    kept.close()
    path = tmp_path / "j" / "entries-1"
    path.write_bytes(path.read_bytes()[:-lost])
    assert bodies(kept) == [[b"a"]]
    kept.append(1, signed("c"))
    assert bodies(kept) == [[b"a", b"c"]]


def test_a_snapshot_replaces_the_batches_of_its_epoch_alone(kept: Journal) -> None:
    kept.append(1, signed("a"))
    kept.append(2, signed("b"))
    kept.replace(2, signed("described"), b"content")
    kept.append(2, signed("c"))
    first, second = kept.chapters()
    assert (first.epoch, [batch.body for batch in first.batches]) == (1, [b"a"])
    assert second.snapshot is not None
    assert (second.snapshot.body, second.content) == (b"described", b"content")
    assert [batch.body for batch in second.batches] == [b"c"]


def test_a_write_that_fails_is_said_and_leaves_nothing_behind(kept: Journal) -> None:
    kept.append(1, signed("a"))
    limit = kept.size_bytes + 30
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        with pytest.raises(OSError):  # noqa: PT011 - whichever the system says
            kept.append(1, signed("b"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    kept.append(1, signed("c"))
    assert bodies(kept) == [[b"a", b"c"]]


def test_the_last_heartbeat_is_kept(kept: Journal, tmp_path: Path) -> None:
    kept.beat(signed("1"))
    kept.beat(signed("2"))
    last = kept.heartbeat()
    assert last is not None
    assert last.body == b"2"
    (tmp_path / "j" / "heartbeat").write_bytes(b"torn")
    assert kept.heartbeat() is None


def test_a_journal_is_its_owners_alone(kept: Journal, tmp_path: Path) -> None:
    kept.append(1, signed("a"))
    assert stat.S_IMODE((tmp_path / "j").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "j" / "entries-1").stat().st_mode) == 0o600


@pytest.mark.parametrize("stream", ["", "..", "../x", "a/b", "A", "a", "é" * 128])
def test_e10_no_name_of_a_tenant_is_a_path(tmp_path: Path, stream: str) -> None:
    folder = folder_of(tmp_path, stream)
    assert folder.parent == tmp_path
    assert len(folder.name) == 32
    assert folder != folder_of(tmp_path, stream + " ")


def test_keys_that_are_damaged_are_none(tmp_path: Path) -> None:
    assert journal.kept_keys(tmp_path) == {}
    for text in ("{", "[]", '{"acme": []}', '{"acme": {"k": "AA"}}', '{"acme": {"k": 1}}'):
        (tmp_path / "keys.json").write_text(text)
        assert journal.kept_keys(tmp_path) == {}
