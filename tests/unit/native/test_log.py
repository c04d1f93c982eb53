from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from authz.native import Library, LogOptions, NativeError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from authz.native import Log


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    with Library.load().open_log(LogOptions(directory=tmp_path, gap_s=0.02)) as opened:
        yield opened


def lines(directory: Path) -> list[bytes]:
    return [line for file in sorted(directory.glob("decisions-*.jsonl")) for line in file.read_bytes().splitlines()]


def test_records_are_on_disk_when_append_returns(log: Log, tmp_path: Path) -> None:
    log.append(b'{"n": 1}', 1)
    assert lines(tmp_path) == [b'{"n": 1}']


def test_records_lie_in_the_order_of_their_numbers(log: Log, tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda n: log.append(b"%d" % n, n), range(1, 201), timeout=30))
    assert list(map(int, lines(tmp_path))) == list(range(1, 201))
    assert log.stats()["failed"] is False


def test_a_voided_number_holds_nobody_up(log: Log, tmp_path: Path) -> None:
    log.void(1)
    log.append(b"2", 2)
    assert (lines(tmp_path), log.stats()["gaps"]) == ([b"2"], 0)


def test_a_missing_number_holds_others_up_for_the_gap_only(log: Log) -> None:
    log.append(b"2", 2)
    assert log.stats()["gaps"] == 1


@pytest.mark.parametrize("record", [b"{}\n{}", b""])
def test_j12_a_record_that_is_not_one_line_is_refused(log: Log, record: bytes) -> None:
    with pytest.raises(NativeError, match="not one line"):
        log.append(record, 1)
    log.append(b"2", 2)


def test_a_number_is_taken_once(log: Log) -> None:
    log.append(b"1", 1)
    with pytest.raises(NativeError, match="new number"):
        log.append(b"1", 1)


def test_segments_rotate_and_only_the_owner_and_group_may_read_them(tmp_path: Path) -> None:
    with Library.load().open_log(LogOptions(directory=tmp_path, segment_bytes=10)) as log:
        for number in range(1, 5):
            log.append(b"0123456789", number)
    files = list(tmp_path.glob("decisions-*.jsonl"))
    assert len(files) == 4
    assert {stat.S_IMODE(file.stat().st_mode) & 0o137 for file in files} == {0}


def test_a_closed_log_refuses(log: Log) -> None:
    log.close()
    log.close()
    with pytest.raises(NativeError):
        log.append(b"1", 1)


def test_a_directory_that_cannot_be_written_to_is_found_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(NativeError, match="no such file or directory"):
        Library.load().open_log(LogOptions(directory=tmp_path / "absent"))
