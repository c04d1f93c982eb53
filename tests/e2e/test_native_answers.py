"""Every outcome of the program ends in an explicit answer on the wire, with one record that agrees (contracts §8)."""

from __future__ import annotations

import signal
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import grpc
import pytest

from tests.e2e.native_service import PROCESS, NativeService

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.e2e

DEADLINE_S = 0.5
"""Longer than in production, so that a busy machine does not expire calls that are to be answered."""


@pytest.fixture
def service(tmp_path: Path) -> Iterator[NativeService]:
    with NativeService(tmp_path, deadline_s=DEADLINE_S, commit_grace_s=DEADLINE_S) as running:
        yield running


def test_an_allow_is_answered_with_its_record(service: NativeService) -> None:
    assert service.check(b"allow") == "allow"
    assert service.stop()["unrecorded"] == 0
    assert service.answers() == ["allow"]


@pytest.mark.parametrize("request_bytes", [b"raise", b"none", b"text", b"empty"])
def test_a2_what_is_no_answer_is_a_denial_with_one_record(service: NativeService, request_bytes: bytes) -> None:
    assert service.check(request_bytes) == "SYS_INTERNAL"
    assert service.stop()["unrecorded"] == 0
    assert service.answers() == ["SYS_INTERNAL"]


@pytest.mark.parametrize("request_bytes", [b"raise:twice", b"exit"])
def test_a_program_that_cannot_even_refuse_is_answered_for(service: NativeService, request_bytes: bytes) -> None:
    assert service.check(request_bytes) == "library: SYS_INTERNAL"
    assert service.check(b"allow") == "allow"
    assert service.stop()["unrecorded"] == 1
    assert service.answers() == ["allow"]


@pytest.mark.parametrize("request_bytes", [b"slow:1.0", b"unaware"])
def test_a_program_that_is_too_slow_is_answered_for_and_its_loser_records_once(
    service: NativeService, request_bytes: bytes
) -> None:
    began = time.monotonic()
    assert service.check(request_bytes) == "library: SYS_DEADLINE"
    assert DEADLINE_S <= time.monotonic() - began < 0.95
    assert service.stop()["expired"] == 1
    assert service.answers() == ["SYS_DEADLINE"]


@pytest.mark.parametrize("place", ["handler", "before_program", "after_program", "barrier"])
def test_a_panic_in_the_library_is_a_denial_with_one_record(service: NativeService, place: str) -> None:
    assert service.check(b"deny") == "deny"
    assert service.check(b"arm:" + place.encode()) in {"allow", "library: SYS_INTERNAL"}
    answers = [service.check(b"allow") for _ in range(3)]
    stats = service.stop()
    assert (stats["panics"], stats["unrecorded"]) == (1, 0)
    refused = sum(answer == "library: SYS_INTERNAL" for answer in answers)
    assert service.answers().count("SYS_INTERNAL") >= refused
    assert len(service.records()) == 5


def test_a_record_that_would_be_two_lines_is_a_denial(service: NativeService) -> None:
    assert service.check(b"broken") == "library: AUDIT_UNAVAILABLE"
    service.stop()
    assert service.answers() == ["AUDIT_UNAVAILABLE"]


def test_records_lie_in_the_order_of_their_numbers(service: NativeService) -> None:
    with ThreadPoolExecutor(16) as callers:
        assert set(callers.map(service.check, [b"allow", b"deny"] * 200)) == {"allow", "deny"}
    service.stop()
    assert [record["sequence"] for record in service.records()] == list(range(1, 401))


def test_sigterm_drains_and_exits_zero(service: NativeService) -> None:
    slow = service.begin(b"slow:0.2")
    service.check(b"allow")
    stats = service.stop(signal.SIGTERM)
    assert slow.result() == b"allow"
    assert (service.process.returncode, stats["drained"], stats["pending"]) == (0, True, 0)
    assert sorted(service.answers()) == ["allow", "allow"]


def test_sigint_reaches_python(service: NativeService) -> None:
    service.check(b"allow")
    service.stop(signal.SIGINT)
    assert service.process.returncode == 130


def test_signals_reach_python_under_load(service: NativeService) -> None:
    with ThreadPoolExecutor(4) as callers:
        load = [callers.submit(service.check, b"allow") for _ in range(200)]
        stats = service.stop(signal.SIGTERM)
        answered = [call.exception() is None and call.result() for call in load]
    assert (service.process.returncode, stats["drained"]) == (0, True)
    assert service.answers().count("allow") >= answered.count("allow")


def test_after_sigkill_every_answered_allow_is_on_disk(service: NativeService) -> None:
    with ThreadPoolExecutor(8) as callers:
        load = [callers.submit(service.check, b"allow:%d" % number, 2.0) for number in range(2000)]
        while sum(call.done() for call in load) < 300:
            time.sleep(0.001)
        service.process.kill()
        service.channel.close()
        answered = {
            f"allow:{n}" for n, call in enumerate(load) if call.exception() is None and call.result() == "allow"
        }
    assert len(answered) >= 300
    whole = [line for file in service.directory.glob("*.jsonl") for line in file.read_text().split("\n")[:-1]]
    assert answered <= {line.split('"request": "')[1].split('"')[0] for line in whole}


def test_a_full_disk_denies_and_leaves_no_allow_that_was_denied(tmp_path: Path) -> None:
    with NativeService(tmp_path, file_bytes=2000, deadline_s=DEADLINE_S, commit_grace_s=DEADLINE_S) as service:
        answers = [service.check(b"allow:%d" % number) for number in range(40)]
        stats = service.stop()
    assert stats["audit_refused"] == answers.count("library: AUDIT_UNAVAILABLE") > 0
    # A fresh segment takes over after the failed one, so that both answers are there; each record agrees with its own.
    told = {f"allow:{number}": answer.removeprefix("library: ") for number, answer in enumerate(answers)}
    recorded = {record["request"]: record["answer"] for record in service.records()}
    assert recorded == told
    assert len(service.records()) == len(answers)


def test_a_stream_is_opened_answered_in_order_and_closed(service: NativeService) -> None:
    process = service.channel.stream_stream(PROCESS, bytes, bytes)
    answers = list(process(iter([b"a", b"end"]), metadata=(("x-note", "seen"),), timeout=5))
    assert answers == [b"opened 1 seen", b"echo a", b"echo a", b"echo end", b"echo end"]
    assert service.line() == {"closed": 1}


def test_a_stream_whose_program_raises_is_refused_and_ended(service: NativeService) -> None:
    process = service.channel.stream_stream(PROCESS, bytes, bytes)
    assert list(process(iter([b"raise", b"a"]), timeout=5)) == [b"opened 1 ", b"SYS_INTERNAL"]


def test_what_is_not_envoys_is_unimplemented(service: NativeService) -> None:
    with pytest.raises(grpc.RpcError) as failure:
        service.channel.unary_unary("/envoy.service.auth.v2.Authorization/Check", bytes, bytes)(b"a", timeout=5)
    assert failure.value.code() is grpc.StatusCode.UNIMPLEMENTED
