from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from authz.native import Claim, Program, Reply, StreamReply
from authz.native.boundary import Boundary, library_name
from authz.native.library import _PACKAGE
from authz.native.program import Callback

if TYPE_CHECKING:
    from collections.abc import Callable

    Refuse = Callable[[str, bytes, bytes | None], Reply]

OPEN, COMMITTED, EXPIRED = range(3)
CHECK, STREAM_MESSAGE, REFUSAL = 0, 2, 4


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


class Crossing:
    """One call as the library makes it."""

    def __init__(
        self,
        boundary: Boundary,
        check: Callable[[bytes, Claim], Any],
        kind: int = CHECK,
        *,
        refuse: Refuse | None = None,
    ) -> None:
        self.voided = Voided()
        self._ffi = boundary.ffi
        self._callback = Callback(
            boundary,
            Program(check=check, refuse=refuse or _refuse, streams=Streams()),
            self.voided,  # type: ignore[arg-type]
        )
        self.state = self._ffi.new("int32_t *")
        self._request = self._ffi.new("uint8_t[]", b"request")
        call: Any = self._ffi.new("authz_call *")
        call.kind, call.stream = kind, int(kind == STREAM_MESSAGE)
        call.request, call.request_size = self._request, len(b"request")
        call.claim = int(self._ffi.cast("uintptr_t", self.state))
        self.call = call

    def run(self) -> tuple[bytes, bytes]:
        """The framed answers and the record."""
        self._callback.pointer(self.call)
        written = self._ffi.buffer(self.call.buffer, self.call.answers_size + self.call.reply_record_size)[:]
        return written[: self.call.answers_size], written[self.call.answers_size :]


def _refuse(reason: str, request: bytes, written: bytes | None) -> Reply:
    return Reply(answer=f"{reason} {request.decode()} {written!r}".encode(), allow=False, record=b"refused", sequence=9)


def framed(*answers: bytes) -> bytes:
    return b"".join(len(answer).to_bytes(4, "little") + answer for answer in answers)


def test_a_reply_crosses_whole(boundary: Boundary) -> None:
    crossing = Crossing(boundary, lambda *_: Reply(answer=b"a" * 10_000, allow=True, record=b"{}", sequence=3))
    assert crossing.run() == (framed(b"a" * 10_000), b"{}")
    assert (crossing.call.allow, crossing.call.sequence, crossing.call.replied) == (1, 3, 1)
    assert crossing.state[0] == COMMITTED


@pytest.mark.parametrize("returned", [None, b"bytes", "text", 1, StreamReply()])
def test_what_is_no_reply_is_the_programs_refusal(boundary: Boundary, returned: object) -> None:
    crossing = Crossing(boundary, lambda *_: returned)
    assert crossing.run() == (framed(b"SYS_INTERNAL request None"), b"refused")
    assert crossing.call.allow == 0


def test_an_exception_is_the_programs_refusal(boundary: Boundary) -> None:
    def check(_: bytes, claim: Claim) -> Reply:
        claim.commit()
        raise ValueError("scripted")

    assert Crossing(boundary, check).run() == (framed(b"SYS_INTERNAL request None"), b"refused")


def test_a_program_that_did_not_see_the_deadline_is_refused_and_gives_its_number_back(boundary: Boundary) -> None:
    crossing = Crossing(boundary, lambda *_: Reply(answer=b"a", allow=True, record=b"{}", sequence=3))
    crossing.state[0] = EXPIRED
    assert crossing.run() == (framed(b"SYS_DEADLINE request None"), b"refused")
    assert crossing.voided.numbers == [3]


@pytest.mark.parametrize(("allow", "record"), [(False, b"late"), (True, b"refused")])
def test_a_loser_that_knows_keeps_its_record_unless_it_allows(boundary: Boundary, allow: bool, record: bytes) -> None:  # noqa: FBT001
    def check(_: bytes, claim: Claim) -> Reply:
        assert not claim.commit()
        assert not claim.commit()
        return Reply(answer=b"late", allow=allow, record=b"late", sequence=3)

    crossing = Crossing(boundary, check)
    crossing.state[0] = EXPIRED
    assert crossing.run()[1] == record
    assert crossing.voided.numbers == ([3] if allow else [])


def test_a_claim_is_committed_once_and_worthless_after_the_call(boundary: Boundary) -> None:
    claims: list[Claim] = []

    def check(_: bytes, claim: Claim) -> Reply:
        claims.append(claim)
        assert claim.commit()
        assert claim.commit()
        return Reply(answer=b"a", allow=True)

    Crossing(boundary, check).run()
    assert claims[0].commit()
    late = Claim(boundary.claim, 0)
    late.end()
    assert not late.commit()


def test_a_refusal_asks_for_a_record_only(boundary: Boundary) -> None:
    crossing = Crossing(boundary, lambda *_: pytest.fail("decided again"), REFUSAL)
    reason = crossing._ffi.new("uint8_t[]", b"AUDIT_UNAVAILABLE")
    crossing.call.reason, crossing.call.reason_size = reason, 17
    assert crossing.run() == (framed(b"AUDIT_UNAVAILABLE request None"), b"refused")


def test_a_streams_answers_are_framed_one_by_one(boundary: Boundary) -> None:
    crossing = Crossing(boundary, lambda *_: pytest.fail("not a check"), STREAM_MESSAGE)
    assert crossing.run() == (framed(b"request", b"request"), b"")
    assert crossing.call.end == 1


def test_a_program_that_cannot_even_refuse_leaves_the_call_unanswered(boundary: Boundary) -> None:
    crossing = Crossing(boundary, lambda *_: None, refuse=_broken)
    crossing.run()
    assert crossing.call.replied == 0


def _broken(reason: str, _request: bytes, _written: bytes | None) -> Reply:
    raise ValueError(reason)


@pytest.mark.parametrize(
    "arguments",
    [
        {"answer": b"", "allow": True},
        {"answer": "text", "allow": True},
        {"answer": None, "allow": False},
        {"answer": b"a", "allow": True, "record": "text", "sequence": 1},
        {"answer": b"a", "allow": True, "record": b"", "sequence": 1},
        {"answer": b"a", "allow": True, "record": b"{}"},
    ],
)
def test_a2_a_reply_that_would_be_no_answer_cannot_be_made(arguments: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        Reply(**arguments)


@pytest.mark.parametrize("answers", [(b"",), ("text",), (b"a", None)])
def test_a_stream_reply_that_would_be_no_answer_cannot_be_made(answers: Any) -> None:
    with pytest.raises(TypeError):
        StreamReply(answers=answers)
