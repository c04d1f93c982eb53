"""Callers that leave in the middle, and more of them than can be served: one record each, no wrong answer."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import grpc
import pytest

from tests.e2e.native_service import NativeService

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.e2e

SHED = "RESOURCE_EXHAUSTED"
LATE = "library: SYS_DEADLINE"


@pytest.fixture
def service(tmp_path: Path) -> Iterator[NativeService]:
    with NativeService(tmp_path, deadline_s=20.0, workers=2) as running:
        yield running


def test_a4_a_caller_that_leaves_in_the_middle_of_a_check_is_recorded_once(service: NativeService) -> None:
    call = service.begin(b"hold:1")
    assert service.line() == {"held": "1"}
    call.cancel()
    assert service.check(b"free") == "allow"
    stats = service.stop()
    # Whether the call was decided before its caller was seen to be gone is the network's choice; the record says which.
    left = [record["answer"] for record in service.records() if record["request"] == "hold:1"]
    assert left == (["SYS_DEADLINE"] if stats["expired"] else ["allow"])
    assert (len(service.records()), stats["unrecorded"], stats["pending"]) == (2, 0, 0)


def test_a_check_that_takes_long_holds_up_only_itself(tmp_path: Path) -> None:
    with NativeService(tmp_path, deadline_s=20.0, workers=1) as service:
        held = service.begin(b"hold:1")
        assert service.line() == {"held": "1"}
        assert [service.check(b"allow") for _ in range(3)] == ["allow"] * 3
        assert service.check(b"free") == "allow"
        assert held.result() == b"allow"
        stats = service.stop()
    assert (stats["expired"], stats["stuck"], stats["unrecorded"], len(service.records())) == (0, 0, 0, 5)


def test_a4_many_that_leave_cost_nobody_else_an_answer(service: NativeService) -> None:
    calls = [service.begin(b"slow:0.001#%d" % number) for number in range(200)]
    for call in calls[::2]:
        call.cancel()
    assert {call.result() for call in calls[1::2]} == {b"allow"}
    stats = service.stop()
    recorded = [record["request"] for record in service.records()]
    assert len(recorded) == len(set(recorded))
    assert {f"slow:0.001#{number}" for number in range(1, 200, 2)} <= set(recorded)
    assert (stats["unrecorded"], stats["pending"]) == (0, 0)


def command(number: int) -> bytes:
    """One of many calls: every third is one to deny."""
    return b"deny:%d" % number if number % 3 == 0 else b"slow:0.02#%d" % number


def outcome(service: NativeService, number: int) -> str:
    try:
        return service.check(command(number))
    except grpc.RpcError as error:
        return str(error.code().name)


def test_k2_three_times_too_many_are_shed_and_no_answer_is_wrong(tmp_path: Path) -> None:
    # Two threads that take 20 ms a call answer 100 a second; 48 callers at once offer that within the deadline thrice.
    with (
        NativeService(tmp_path, workers=2, max_pending=16, deadline_s=0.12) as service,
        ThreadPoolExecutor(48) as callers,
    ):
        told = dict(enumerate(callers.map(lambda number: outcome(service, number), range(480))))
        # The first caller after the storm is served as if there had been none.
        assert [service.check(b"deny:%d" % number) for number in range(480, 540, 3)] == ["deny"] * 20
        stats = service.stop()
    assert {answer for number, answer in told.items() if number % 3 == 0} <= {"deny", SHED, LATE}
    assert {answer for number, answer in told.items() if number % 3} <= {"allow", SHED, LATE}
    answers = list(told.values())
    assert stats["shed"] == answers.count(SHED) > 0
    assert min(answers.count("allow"), answers.count("deny")) > 0
    kept = [*((number, answer) for number, answer in told.items() if answer != SHED)]
    kept += [(number, "deny") for number in range(480, 540, 3)]
    # What was not shed has one record, which agrees; what was shed was never read.
    recorded = {(record["request"], record["answer"]) for record in service.records()}
    assert recorded == {(command(number).decode(), answer.removeprefix("library: ")) for number, answer in kept}
    assert len(service.records()) == len(recorded)
    assert stats["unrecorded"] == 0
