"""What the transport asks of Python, and the wrapper that makes every outcome an explicit answer.

Decides who answers when something goes wrong: an exception, no value, a value of the wrong type, a lost
claim. Each ends in the program's own refusal, with its record; where even that fails, the call is marked
unanswered and the library sends the bytes it was given at the start. Must never let two records be made
for one call, or a record disagree with what was sent. Trusts the program's records.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from authz.native.boundary import Boundary, CData, Json
    from authz.native.log import Log

log: Final = logging.getLogger(__name__)

INTERNAL: Final = "SYS_INTERNAL"
DEADLINE: Final = "SYS_DEADLINE"

# The same as transport.Kind in native/.
_CHECK, _OPEN, _MESSAGE, _CLOSE, _REFUSAL = range(5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An answer to a check, and the record that must be durable before it is sent.

    An empty answer is refused: to Envoy it is a CheckResponse without a status, which allows (attack A2).
    """

    answer: bytes
    allow: bool
    record: bytes | None = None
    sequence: int = 0

    def __post_init__(self) -> None:
        _verify((self.answer,), self.record, self.sequence)


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamReply:
    """What one event of a stream leads to: any number of answers, in order."""

    answers: tuple[bytes, ...] = ()
    allow: bool = False
    """Whether the answers let something pass, and so must wait for the record."""
    record: bytes | None = None
    sequence: int = 0
    end: bool = False
    """Close the stream after the answers."""

    def __post_init__(self) -> None:
        _verify(self.answers, self.record, self.sequence)


def _verify(answers: tuple[object, ...], record: object, sequence: int) -> None:
    for answer in answers:
        if not isinstance(answer, bytes) or not answer:
            raise TypeError("answers are bytes, and not empty")
    if record is not None and not (isinstance(record, bytes) and record and sequence > 0):
        raise TypeError("a record is bytes, and has a sequence number")


NOTHING: Final = StreamReply()


class Claim:
    """The right to answer one call, shared with the watchdog. Good until the callback returns."""

    __slots__ = ("_state", "_swap", "committed", "lost")

    def __init__(self, swap: Callable[[int], int], state: int) -> None:
        self._swap = swap
        self._state = state
        self.committed = False
        self.lost = False

    def commit(self) -> bool:
        """Take the answer. False, for good, when the deadline's watchdog was first. Asking again is harmless."""
        if not self.committed and not self.lost:
            self.committed = bool(self._swap(self._state))
            self.lost = not self.committed
        return self.committed

    def end(self) -> None:
        """Forget the library's memory; an uncommitted claim is lost from here on."""
        self.lost = not self.committed


class StreamProgram(Protocol):
    """Decides the events of ext_proc streams. Events of one stream never overlap, except `refuse`."""

    def open(self, stream: int, opening: Json, /) -> StreamReply:
        """A stream opened; `opening` has the gRPC `metadata` (name -> values) and the `peer` address."""
        ...

    def message(self, stream: int, message: bytes, claim: Claim, /) -> StreamReply:
        """A message arrived. The claim is as in Program.check."""
        ...

    def close(self, stream: int, /) -> None:
        """The stream is gone, whoever ended it. Nothing can be sent any more."""
        ...

    def refuse(self, stream: int, reason: str, message: bytes, written: bytes | None, /) -> StreamReply:
        """Like Program.refuse, for one message of a stream."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """What answers. Its functions run on the library's threads, side by side."""

    check: Callable[[bytes, Claim], Reply]
    """Answer a check. Commit the claim just before making the record; a claim that is lost means that SYS_DEADLINE was
    sent, and the record must say so."""
    refuse: Callable[[str, bytes, bytes | None], Reply]
    """The refusal of a call that `check` did not answer: (reason, request, record). The record is given where the log
    already holds one for this call that says allow although a refusal was sent; the new one must amend it."""
    streams: StreamProgram


class Callback:
    """The one function that the library calls, for a program."""

    def __init__(self, boundary: Boundary, program: Program, records: Log | None) -> None:
        self._boundary = boundary
        self._program = program
        self._records = records
        self.pointer = boundary.ffi.callback("authz_callback", self._called)

    def _called(self, call: CData) -> None:
        try:
            self._reply(call, self._ask(call))
        except Exception:
            # `call.replied` is still 0: the library answers with its own bytes.
            log.exception("the program could not even refuse")

    def _ask(self, call: CData) -> Reply | StreamReply:
        request = self._bytes(call.request, call.request_size)
        if call.kind == _REFUSAL:
            reason = self._bytes(call.reason, call.reason_size).decode()
            return self._refuse(call.stream, reason, request, self._bytes(call.record, call.record_size) or None)
        if call.kind == _CLOSE:
            self._program.streams.close(call.stream)
            return NOTHING
        claim = Claim(self._boundary.claim, call.claim)
        try:
            reply = self._decide(call, request, claim)
        except Exception:
            log.exception("a call failed")
            reply = None
        try:
            return self._settle(call.stream, request, claim, reply)
        finally:
            claim.end()

    def _decide(self, call: CData, request: bytes, claim: Claim) -> Reply | StreamReply:
        if call.kind == _CHECK:
            return self._program.check(request, claim)
        if call.kind == _OPEN:
            return self._program.streams.open(call.stream, json.loads(request))
        return self._program.streams.message(call.stream, request, claim)

    def _settle(self, stream: int, request: bytes, claim: Claim, reply: object) -> Reply | StreamReply:
        """The reply that agrees with what is or will be on the wire."""
        known = claim.lost
        claim.commit()
        usable = isinstance(reply, StreamReply if stream else Reply)
        # The program's own reply stands if it won, or if it knew that it had lost and refused.
        if usable and (claim.committed or (known and not reply.allow)):  # type: ignore[attr-defined]
            return reply  # type: ignore[return-value]
        if usable and self._records is not None and reply.record is not None:  # type: ignore[attr-defined]
            self._records.void(reply.sequence)  # type: ignore[attr-defined]
        return self._refuse(stream, INTERNAL if claim.committed else DEADLINE, request, None)

    def _refuse(self, stream: int, reason: str, request: bytes, written: bytes | None) -> Reply | StreamReply:
        if stream:
            return self._program.streams.refuse(stream, reason, request, written)
        return self._program.refuse(reason, request, written)

    def _reply(self, call: CData, reply: Reply | StreamReply) -> None:
        answers = (reply.answer,) if isinstance(reply, Reply) else reply.answers
        framed = b"".join([part for answer in answers for part in (len(answer).to_bytes(4, "little"), answer)])
        record = reply.record or b""
        size = len(framed) + len(record)
        if size > call.capacity and not self._boundary.lib.AuthzGrow(call, size):
            raise MemoryError
        self._boundary.ffi.memmove(call.buffer, framed + record, size)
        call.answers_size, call.reply_record_size = len(framed), len(record)
        call.sequence, call.allow = reply.sequence, reply.allow
        call.end = isinstance(reply, StreamReply) and reply.end
        call.replied = 1

    def _bytes(self, pointer: CData, size: int) -> bytes:
        return self._boundary.ffi.buffer(pointer, size)[:] if size else b""
