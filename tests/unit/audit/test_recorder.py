from __future__ import annotations

import threading

import pytest

from authz.audit.recorder import Recorder
from tests.decisions import CHECK, decision, record_writer


def test_records_are_numbered_from_one_without_gaps_on_many_threads() -> None:
    recorder, numbers = Recorder(record_writer().record), list[int]()

    def seal_many() -> None:
        for _ in range(200):
            numbers.append(recorder.seal(CHECK, decision())[1])

    threads = [threading.Thread(target=seal_many) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(numbers) == list(range(1, 801))


def test_a_record_that_could_not_be_written_takes_no_number() -> None:
    made = decision(input_json=b"not json")
    lines = iter([b"", b"{}"])

    def write(*_: object) -> bytes:
        line = next(lines)
        if not line:
            raise ValueError
        return line

    recorder = Recorder(write)
    with pytest.raises(ValueError, match=r"^$"):
        recorder.seal(CHECK, made)
    assert recorder.seal(CHECK, made) == (b"{}", 1)
