"""Answers of a stream leave after every record they rest on, on both transports."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pytest

from authz._gen.envoy.service.ext_proc.v3.external_processor_pb2 import ProcessingResponse
from authz.edge.ext_proc import Outcome
from authz.edge.streams import GrpcioStreams, NativeStreams, OpenStreams
from authz.model import Check, Effect
from authz.native import NativeError
from tests.fakes import Bench, FakeClaim

if TYPE_CHECKING:
    from authz.pdp import Answered
    from authz.reasons import Reason


@dataclass
class FakeLog:
    written: list[int] = field(default_factory=list)
    voided: list[int] = field(default_factory=list)
    is_broken: bool = False

    def append(self, record: bytes, sequence: int) -> None:  # noqa: ARG002 - the port's shape
        if self.is_broken:
            raise NativeError("the disk is full")
        self.written.append(sequence)

    def void(self, sequence: int) -> None:
        self.voided.append(sequence)


def judged(sequence: int, enforced: Effect = Effect.ALLOW) -> Answered:
    answered = Bench().pdp().decide(Check(), FakeClaim(), lambda *_: b"answer")
    return replace(answered, sequence=sequence, decision=replace(answered.decision, enforced=enforced))


def watching(log: FakeLog | None = None) -> OpenStreams:
    return OpenStreams(lambda: 0, log)


class FakeExtProc:
    """Every message has the outcome that it is told; keeps the legs that were opened and the refusals."""

    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome
        self.opened: list[dict[str, str]] = []
        self.refused: list[str] = []

    def open(self, metadata: dict[str, str]) -> FakeExtProc:
        self.opened.append(metadata)
        return self

    def message(self, _raw: bytes) -> Outcome:
        return self.outcome

    def refuse(self, reason: Reason) -> Outcome:
        self.refused.append(reason.code)
        return Outcome(answers=(b"refused",), judged=(judged(99, Effect.DENY),), end=True)

    failed = refuse


def native(outcome: Outcome, log: FakeLog | None) -> tuple[NativeStreams, FakeExtProc]:
    fake: Any = FakeExtProc(outcome)
    streams = NativeStreams(fake, log, watching(log), lambda *_: None)
    streams.open(1, {"metadata": {"x-leg": ["request"]}, "peer": ""})
    return streams, fake


def test_all_records_but_the_last_are_written_before_the_reply() -> None:
    log = FakeLog()
    streams, _ = native(Outcome(answers=(b"a",), judged=(judged(1), judged(2), judged(3))), log)
    reply = streams.message(1, b"", FakeClaim())  # type: ignore[arg-type]
    assert log.written == [1, 2]
    assert (reply.sequence, reply.allow, reply.answers) == (3, True, (b"a",))


def test_a_refusal_does_not_wait_for_its_record() -> None:
    streams, _ = native(Outcome(answers=(b"a",), judged=(judged(1, Effect.DENY),), end=True), FakeLog())
    reply = streams.message(1, b"", FakeClaim())  # type: ignore[arg-type]
    assert (reply.allow, reply.end) == (False, True)


def test_without_a_log_nothing_is_handed_over() -> None:
    streams, _ = native(Outcome(answers=(b"a",), judged=(judged(1),)), None)
    reply = streams.message(1, b"", FakeClaim())  # type: ignore[arg-type]
    assert (reply.record, reply.answers) == (None, (b"a",))


def test_a3_who_loses_the_claim_voids_what_was_judged_and_leaves_the_record_to_whoever_answered() -> None:
    log = FakeLog()
    streams, fake = native(Outcome(answers=(b"secret",), judged=(judged(1), judged(2))), log)
    reply = streams.message(1, b"", FakeClaim(is_open=False))  # type: ignore[arg-type]
    assert log.voided == [1, 2]
    assert (reply.answers, reply.record, reply.allow) == ((), None, False)
    assert fake.refused == []
    assert streams.refuse(1, "SYS_DEADLINE", b"", None).sequence == 99


@pytest.mark.parametrize("legs", [[], ["request", "duplex"]])
def test_a_stream_that_names_not_one_leg_names_none(legs: list[str]) -> None:
    fake: Any = FakeExtProc(Outcome())
    NativeStreams(fake, None, watching(), lambda *_: None).open(1, {"metadata": {"x-leg": legs}, "peer": ""})
    assert fake.opened == [{}]


def test_a_closed_stream_can_still_be_refused() -> None:
    streams, fake = native(Outcome(), FakeLog())
    streams.close(1)
    assert streams.refuse(1, "SYS_INTERNAL", b"", None).answers == (b"refused",)
    assert fake.refused == ["SYS_INTERNAL"]


def test_grpcio_writes_every_record_before_it_answers() -> None:
    log = FakeLog()
    fake: Any = FakeExtProc(Outcome(answers=(b"a", b"b"), judged=(judged(1), judged(2)), end=True))
    answers = iter(GrpcioStreams(fake, log, watching()).run(iter([b"", b""]), {}, lambda: None))
    assert next(iter(answers)) == b"a"
    assert log.written == [1, 2]
    assert list(answers) == [b"b"]


def test_grpcio_ends_the_request_when_a_record_cannot_be_written() -> None:
    fake: Any = FakeExtProc(Outcome(answers=(b"secret",), judged=(judged(1),)))
    (answer,) = GrpcioStreams(fake, FakeLog(is_broken=True), watching()).run(iter([b"", b""]), {}, lambda: None)
    assert b"AUDIT_UNAVAILABLE" in ProcessingResponse.FromString(answer).immediate_response.body


def test_an_answer_waits_for_its_record_if_anything_in_it_passes() -> None:
    streams, _ = native(Outcome(answers=(b"a",), judged=(judged(1), judged(2, Effect.DENY))), FakeLog())
    assert streams.message(1, b"", FakeClaim()).allow  # type: ignore[arg-type]


def test_a_stream_that_is_gone_is_forgotten() -> None:
    streams, fake = native(Outcome(), FakeLog())
    streams.close(1)
    with pytest.raises(KeyError):
        streams.message(1, b"", FakeClaim())  # type: ignore[arg-type]
    assert streams.refuse(1, "SYS_INTERNAL", b"", None).end
    assert fake.refused == ["SYS_INTERNAL"]


def test_without_a_log_answers_are_sent_all_the_same() -> None:
    fake: Any = FakeExtProc(Outcome(answers=(b"a",), judged=(judged(1),), end=True))
    assert list(GrpcioStreams(fake, None, watching()).run(iter([b"m"]), {}, lambda: None)) == [b"a"]


class Cuttable:
    """A stream that was stopped, or not, or is busy for some time."""

    def __init__(self, *, is_stopped: bool = True, busy: int = 0) -> None:
        self.is_stopped = is_stopped
        self.busy = busy

    def cut(self) -> Outcome:
        if self.busy:
            self.busy -= 1
            raise TimeoutError
        if not self.is_stopped:
            return Outcome()
        self.is_stopped = False
        return Outcome(answers=(b"revoked",), judged=(judged(7, Effect.DENY),), end=True)


class Watch:
    """Open streams, whose kills a test moves."""

    def __init__(self, log: FakeLog | None = None) -> None:
        self.sequence = 0
        self.ended: list[tuple[Any, bytes]] = []
        self.streams = OpenStreams(lambda: self.sequence, log)

    def add(self, stream: Any) -> Any:
        self.streams.add(stream, lambda last: self.ended.append((stream, last)))
        return stream

    def kill(self) -> None:
        self.sequence += 1
        self.streams.cut_stopped()


def test_e12_what_was_stopped_ends_after_its_record_and_the_rest_goes_on() -> None:
    watch = Watch(log := FakeLog())
    stopped = watch.add(Cuttable())
    watch.add(Cuttable(is_stopped=False))
    watch.kill()
    assert watch.ended == [(stopped, b"revoked")]
    assert log.written == [7]


def test_while_no_kill_moves_no_stream_is_asked() -> None:
    watch = Watch()
    watch.add(Cuttable())
    watch.streams.cut_stopped()
    assert watch.ended == []


def test_e12_a_busy_stream_is_asked_again_without_another_kill() -> None:
    watch = Watch()
    busy = watch.add(Cuttable(busy=2))
    watch.kill()
    assert watch.ended == []
    watch.streams.cut_stopped()
    watch.streams.cut_stopped()
    assert watch.ended == [(busy, b"revoked")]


def test_a_stream_that_is_gone_is_not_asked() -> None:
    watch = Watch()
    watch.streams.remove(watch.add(Cuttable()))
    watch.kill()
    assert watch.ended == []


@pytest.mark.parametrize("log", [None, FakeLog(is_broken=True)])
def test_e12_a_cut_stands_even_where_it_cannot_be_recorded(log: FakeLog | None) -> None:
    watch = Watch(log)
    watch.add(Cuttable())
    watch.kill()
    assert len(watch.ended) == 1


def test_e12_the_stream_that_was_stopped_is_ended_by_its_number() -> None:
    watch, ended = Watch(), []
    fake: Any = type("ExtProc", (), {"open": lambda *_: Cuttable()})()
    streams = NativeStreams(fake, None, watch.streams, lambda number, last: ended.append((number, last)))
    for number in (3, 4):
        streams.open(number, {"metadata": {}, "peer": ""})
    streams.close(4)
    watch.kill()
    assert ended == [(3, b"revoked")]
