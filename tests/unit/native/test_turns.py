from __future__ import annotations

import struct
import time
from typing import TYPE_CHECKING, Any

import pytest

from authz.native import Claim, EngineError, Evaluation, Program, Query, Reply, StreamReply
from authz.native.boundary import Boundary, library_name
from authz.native.library import _PACKAGE
from authz.native.turns import CROWD, Turns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from authz.native import Steps

    Refuse = Callable[[str, bytes, bytes | None], Reply]

OPEN, COMMITTED, EXPIRED = range(3)
CHECK, STREAM_MESSAGE, REFUSAL, EVALUATED = 0, 2, 4, 5
NOTHING, REPLY, QUESTION = range(3)
OK, UNDEFINED, ERROR = range(3)
ALLOW, END = 1, 2
QUERY = 77


@pytest.fixture(scope="module")
def boundary() -> Boundary:
    return Boundary(_PACKAGE / library_name())


class Streams:
    def open(self, _stream: int, _opening: Any) -> StreamReply:
        raise AssertionError

    def message(self, _stream: int, message: bytes, _claim: Claim) -> StreamReply:
        return StreamReply(answers=(message, message), end=True)

    def close(self, _stream: int) -> None:
        raise AssertionError

    def refuse(self, _stream: int, _reason: str, _message: bytes, _written: bytes | None) -> StreamReply:
        raise AssertionError


class Voided:
    """A log that only remembers which numbers were given back."""

    def __init__(self) -> None:
        self.numbers: list[int] = []

    def void(self, sequence: int) -> None:
        self.numbers.append(sequence)


class Word:
    """What was said of one call."""

    def __init__(self, said: bytes) -> None:
        head = struct.Struct("<QIIIIQQ")
        self.number, self.says, self.flags, first, second, self.value, self.deadline = head.unpack_from(said)
        self.first, self.second = said[head.size : head.size + first], said[head.size + first :]
        assert len(self.second) == second


class Table:
    """The library's side of a turn: it tells of calls and hears the words."""

    def __init__(
        self, boundary: Boundary, check: Callable[[bytes, Claim], Any], *, refuse: Refuse | None = None
    ) -> None:
        self.voided = Voided()
        self.boundary = boundary
        program = Program(check=check, refuse=refuse or _refuse, streams=Streams())
        self.turns = Turns(boundary, program, self.voided)  # type: ignore[arg-type]
        self.state = boundary.ffi.new("int32_t *")

    def tell(
        self,
        content: bytes = b"request",
        kind: int = CHECK,
        *,
        number: int = 1,
        status: int = OK,
        reason: bytes = b"",
        record: bytes = b"",
    ) -> bytes:
        claim = int(self.boundary.ffi.cast("uintptr_t", self.state))
        sizes = (len(content), len(reason), len(record))
        head = struct.pack("<QQQIIIII", number, int(kind == STREAM_MESSAGE), claim, kind, status, *sizes)
        return head + content + reason + record

    def ask(self, *arguments: Any, **options: Any) -> Word:
        self.turns.hear(self.tell(*arguments, **options))
        return Word(self.turns.said())

    def query(self) -> Query:
        return Query(self.boundary, QUERY)


def _refuse(reason: str, request: bytes, written: bytes | None) -> Reply:
    return Reply(answer=f"{reason} {request.decode()} {written!r}".encode(), allow=False, record=b"refused", sequence=9)


def _broken(reason: str, _request: bytes, _written: bytes | None) -> Reply:
    raise ValueError(reason)


def framed(*answers: bytes) -> bytes:
    return b"".join(len(answer).to_bytes(4, "little") + answer for answer in answers)


def allowed(answer: bytes = b"a") -> Reply:
    return Reply(answer=answer, allow=True, record=b"{}", sequence=3)


def test_a_reply_crosses_whole(boundary: Boundary) -> None:
    table = Table(boundary, lambda *_: allowed(b"a" * 10_000))
    word = table.ask(number=8)
    assert (word.number, word.says, word.flags, word.value) == (8, REPLY, ALLOW, 3)
    assert (word.first, word.second) == (framed(b"a" * 10_000), b"{}")
    assert table.state[0] == COMMITTED


@pytest.mark.parametrize("returned", [None, b"bytes", "text", 1, StreamReply()])
def test_what_is_no_reply_is_the_programs_refusal(boundary: Boundary, returned: object) -> None:
    word = Table(boundary, lambda *_: returned).ask()
    assert (word.first, word.second) == (framed(b"SYS_INTERNAL request None"), b"refused")
    assert word.flags == 0


def test_an_exception_is_the_programs_refusal(boundary: Boundary) -> None:
    def check(_: bytes, claim: Claim) -> Reply:
        claim.commit()
        raise ValueError("scripted")

    assert Table(boundary, check).ask().first == framed(b"SYS_INTERNAL request None")


def test_a_program_that_did_not_see_the_deadline_is_refused_and_gives_its_number_back(boundary: Boundary) -> None:
    table = Table(boundary, lambda *_: allowed())
    table.state[0] = EXPIRED
    assert table.ask().first == framed(b"SYS_DEADLINE request None")
    assert table.voided.numbers == [3]


@pytest.mark.parametrize(("allow", "record"), [(False, b"late"), (True, b"refused")])
def test_a_loser_that_knows_keeps_its_record_unless_it_allows(boundary: Boundary, allow: bool, record: bytes) -> None:  # noqa: FBT001
    def check(_: bytes, claim: Claim) -> Reply:
        assert not claim.commit()
        assert not claim.commit()
        return Reply(answer=b"late", allow=allow, record=b"late", sequence=3)

    table = Table(boundary, check)
    table.state[0] = EXPIRED
    assert table.ask().second == record
    assert table.voided.numbers == ([3] if allow else [])


def test_a_claim_is_committed_once_and_worthless_after_the_call(boundary: Boundary) -> None:
    claims: list[Claim] = []

    def check(_: bytes, claim: Claim) -> Reply:
        claims.append(claim)
        assert claim.commit()
        assert claim.commit()
        return Reply(answer=b"a", allow=True)

    Table(boundary, check).ask()
    assert claims[0].commit()
    late = Claim(boundary.claim, 0)
    late.end()
    assert not late.commit()


def test_a_refusal_asks_for_a_record_only(boundary: Boundary) -> None:
    table = Table(boundary, lambda *_: pytest.fail("decided again"))
    word = table.ask(kind=REFUSAL, reason=b"AUDIT_UNAVAILABLE", record=b"{}")
    assert (word.first, word.second) == (framed(b"AUDIT_UNAVAILABLE request b'{}'"), b"refused")


def test_a_streams_answers_are_framed_one_by_one(boundary: Boundary) -> None:
    word = Table(boundary, lambda *_: pytest.fail("not a check")).ask(kind=STREAM_MESSAGE)
    assert (word.first, word.second) == (framed(b"request", b"request"), b"")
    assert word.flags == END


@pytest.mark.parametrize("error", [ValueError("scripted"), SystemExit(1)])
def test_a_program_that_cannot_even_refuse_leaves_the_call_unanswered(boundary: Boundary, error: BaseException) -> None:
    def check(*_: object) -> Reply:
        raise error

    table = Table(boundary, check, refuse=_broken)
    assert table.ask().says == NOTHING
    assert table.ask(kind=REFUSAL, number=2, reason=b"SYS_INTERNAL").says == NOTHING


class Stepwise:
    """A check that asks the engine twice, and keeps what it was told."""

    def __init__(self, table: Callable[[], Table]) -> None:
        self._table = table
        self.told: list[bytes | str | None] = []

    def check(self, request: bytes, _claim: Claim) -> Steps:
        for number in range(2):
            try:
                self.told.append((yield Evaluation(self._table().query(), b"%s %d" % (request, number), 0.5)))
            except EngineError as error:
                self.told.append(error.code)
        return allowed()


def test_a_check_is_put_aside_while_the_engine_evaluates(boundary: Boundary) -> None:
    steps = Stepwise(lambda: table)
    table = Table(boundary, steps.check)
    first = table.ask()
    assert (first.says, first.first, first.value, first.deadline) == (QUESTION, b"request 0", QUERY, 500_000_000)
    assert table.ask(b"other", number=2).first == b"other 0"
    assert table.ask(b"true", EVALUATED, status=OK).first == b"request 1"
    assert table.state[0] == OPEN
    last = table.ask(kind=EVALUATED, content=b"", status=UNDEFINED)
    assert (last.says, last.flags, steps.told) == (REPLY, ALLOW, [b"true", None])
    assert table.state[0] == COMMITTED


def test_an_engines_error_is_thrown_where_it_was_asked(boundary: Boundary) -> None:
    steps = Stepwise(lambda: table)
    table = Table(boundary, steps.check)
    table.ask()
    table.ask(b'{"code": "timeout", "message": "m"}', EVALUATED, status=ERROR)
    assert steps.told == ["timeout"]


def test_a_deadline_that_passed_meanwhile_is_the_programs_refusal(boundary: Boundary) -> None:
    steps = Stepwise(lambda: table)
    table = Table(boundary, steps.check)
    table.ask()
    table.ask(b"1", EVALUATED)
    table.state[0] = EXPIRED
    assert table.ask(b"1", EVALUATED).first == framed(b"SYS_DEADLINE request None")
    assert table.voided.numbers == [3]


@pytest.mark.parametrize("yielded", [None, b"input", object()])
def test_a_check_that_asks_for_what_is_no_evaluation_is_refused(boundary: Boundary, yielded: object) -> None:
    def check(*_: object) -> Iterator[object]:
        yield yielded

    assert Table(boundary, check).ask().first == framed(b"SYS_INTERNAL request None")


def test_a_check_that_breaks_between_two_steps_is_refused(boundary: Boundary) -> None:
    def check(*_: object) -> Iterator[object]:
        yield Evaluation(Query(boundary, QUERY), b"{}", 1.0)
        raise ValueError("scripted")

    table = Table(boundary, check)
    assert table.ask().says == QUESTION
    assert table.ask(b"1", EVALUATED).first == framed(b"SYS_INTERNAL request None")


def test_an_evaluation_that_nobody_waits_for_is_a_failure_and_not_the_end(boundary: Boundary) -> None:
    table = Table(boundary, lambda *_: allowed())
    assert table.ask(b"1", EVALUATED, number=5).says == NOTHING
    assert table.ask(number=6).says == REPLY


def test_a_batch_is_answered_in_order(boundary: Boundary) -> None:
    table = Table(boundary, lambda *_: pytest.fail("decided again"))
    table.turns.hear(b"".join(table.tell(b"%d" % n, REFUSAL, number=n, reason=b"R") for n in range(1, 4)))
    said = table.turns.said()
    one = len(said) // 3
    words = [Word(said[at : at + one]) for at in range(0, len(said), one)]
    assert [(word.number, word.first) for word in words] == [(n, framed(b"R %d None" % n)) for n in range(1, 4)]
    assert table.turns.said() == b""


def test_a_turn_of_many_events_is_a_crowd_and_one_of_few_is_none(boundary: Boundary) -> None:
    table = Table(boundary, lambda *_: pytest.fail("decided again"))

    def take(number: int) -> None:
        table.turns.hear(b"".join(table.tell(b"%d" % n, REFUSAL, number=n, reason=b"R") for n in range(number)))

    take(CROWD - 1)
    assert table.turns.crowded_ns == 0
    take(CROWD)
    assert 0 < table.turns.crowded_ns <= time.monotonic_ns()
