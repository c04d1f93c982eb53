"""The threads that answer for the program, and the wrapper that makes every outcome an explicit answer.

Each thread takes turns with the library: it says what came of the calls it had, and hears what is next, many calls at
once. One thread runs all checks, so that no two contend for the interpreter; the engine works beside it, and a check
that waits for the engine is put aside. What a stuck thread leaves, the library has another go on with.

Decides who answers when something goes wrong: an exception, no value, a value of the wrong type, a lost claim. Each
ends in the program's own refusal, with its record; where even that fails, the call is said to be unanswered and the
library sends the bytes it was given at the start. Must never let two records be made for one call, or a record
disagree with what was sent. Trusts the library to give a call's events one after another.
"""

from __future__ import annotations

import json
import logging
import struct
import threading
import time
from collections import deque
from dataclasses import dataclass
from types import GeneratorType
from typing import TYPE_CHECKING, Final

from authz.native.boundary import NativeError, nanoseconds
from authz.native.engine import Evaluation
from authz.native.program import NOTHING, Claim, Reply, StreamReply

if TYPE_CHECKING:
    from authz.native.boundary import Boundary
    from authz.native.log import Log
    from authz.native.program import Program, Steps

log: Final = logging.getLogger(__name__)

INTERNAL: Final = "SYS_INTERNAL"
DEADLINE: Final = "SYS_DEADLINE"

# The same as transport.Kind and the shapes in native/program.go.
_CHECK, _OPEN, _MESSAGE, _CLOSE, _REFUSAL, _EVALUATED = range(6)
_EVENT: Final = struct.Struct("<QQQIIIII")
"""number, stream, address of the claim, kind, status, sizes of request or result, reason and record"""
_WORD: Final = struct.Struct("<QIIIIQQ")
"""number, what is said, flags, sizes of two contents, sequence or query, deadline"""
_SIZE: Final = struct.Struct("<I")
_NOTHING, _REPLY, _QUESTION = range(3)
_ALLOW, _END = 1, 2

CROWD: Final = 8
"""So many events in one turn, half of what fits, come of calls that had to wait for each other."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A check that waits for the engine."""

    request: bytes
    claim: Claim
    steps: Steps


class Turns:
    """Answers a server's calls.

    Args:
        boundary: the library.
        program: what decides.
        records: takes back the numbers of records that will not be written.
    """

    def __init__(self, boundary: Boundary, program: Program, records: Log | None) -> None:
        self._boundary = boundary
        self._program = program
        self._records = records
        # Shared by all threads, so that what a stuck one has left is another's to do or to say.
        self._events: deque[tuple[int, int, int, int, int, bytes, bytes, bytes]] = deque()
        self._words: deque[bytes] = deque()
        self._waiting: dict[int, _Waiting] = {}
        self.crowded_ns = 0
        """When the last turn began that had a crowd of events, on the monotonic clock."""

    def begin(self, server: int, seats: int) -> None:
        """Send a thread to each seat of a server; they end when it is drained."""
        for seat in range(seats):
            # Daemons: one that is stuck must not keep the process from ending.
            threading.Thread(target=self._take, args=(server, seat), name=f"authz-{seat}", daemon=True).start()

    def _take(self, server: int, seat: int) -> None:
        boundary, turn = self._boundary, self._boundary.lib.AuthzTurn
        while True:
            words = self.said()
            try:
                batch = boundary.call(turn, server, seat, words, len(words))
            except NativeError:
                # What was said may be lost; the watchdog answers for it.
                log.exception("a turn failed")
                continue
            if batch is None:
                return
            self.hear(batch)

    def hear(self, batch: bytes) -> None:
        """Deal with a batch of events, and with those that another thread left."""
        events = _events(batch)
        if len(events) >= CROWD:
            self.crowded_ns = time.monotonic_ns()
        self._events += events
        while self._events:
            try:
                event = self._events.popleft()
            except IndexError:
                return  # another thread was faster
            self._words.append(self._word(*event))

    def said(self) -> bytes:
        """What is to be told to the library; telling it once is the caller's."""
        words = []
        while self._words:
            words.append(self._words.popleft())
        return b"".join(words)

    def _word(
        self, number: int, stream: int, claim: int, kind: int, status: int, content: bytes, reason: bytes, record: bytes
    ) -> bytes:
        try:
            if kind == _EVALUATED:
                waiting = self._waiting.pop(number)
                return self._go_on(number, waiting.request, waiting.claim, waiting.steps, (status, content))
            if kind == _CHECK:
                return self._check(number, content, Claim(self._boundary.claim, claim))
            if kind == _REFUSAL:
                return _reply(number, self._refuse(stream, reason.decode(), content, record or None))
            return _reply(number, self._streamed(stream, claim, kind, content))
        except BaseException:  # a thread that ended would leave its calls to the watchdog
            log.exception("the program could not even refuse")
            return _WORD.pack(number, _NOTHING, 0, 0, 0, 0, 0)

    def _check(self, number: int, request: bytes, claim: Claim) -> bytes:
        try:
            reply = self._program.check(request, claim)
        except Exception:
            log.exception("a check failed")
            return self._settled(number, 0, request, claim, None)
        if isinstance(reply, GeneratorType):
            return self._go_on(number, request, claim, reply, None)
        return self._settled(number, 0, request, claim, reply)

    def _go_on(
        self, number: int, request: bytes, claim: Claim, steps: Steps, evaluated: tuple[int, bytes] | None
    ) -> bytes:
        """The next step of a check: another question, or its reply."""
        try:
            if evaluated is None:
                question = next(steps)
            else:
                try:
                    result = self._boundary.answer(*evaluated)
                except NativeError as error:
                    question = steps.throw(error)
                else:
                    question = steps.send(result)
        except StopIteration as ended:
            return self._settled(number, 0, request, claim, ended.value)
        except Exception:
            log.exception("a check failed")
            return self._settled(number, 0, request, claim, None)
        if not isinstance(question, Evaluation):
            log.error("a check asked for what is no evaluation")
            return self._settled(number, 0, request, claim, None)
        self._waiting[number] = _Waiting(request, claim, steps)
        asked, deadline = question.input_json, nanoseconds(question.deadline_s)
        return _WORD.pack(number, _QUESTION, 0, len(asked), 0, question.query.handle, deadline) + asked

    def _streamed(self, stream: int, claim: int, kind: int, content: bytes) -> Reply | StreamReply:
        if kind == _CLOSE:
            self._program.streams.close(stream)
            return NOTHING
        held = Claim(self._boundary.claim, claim)
        reply = None
        try:
            if kind == _OPEN:
                reply = self._program.streams.open(stream, json.loads(content))
            else:
                reply = self._program.streams.message(stream, content, held)
        except Exception:
            log.exception("a stream's message failed")
        return self._settle(stream, content, held, reply)

    def _settled(self, number: int, stream: int, request: bytes, claim: Claim, reply: object) -> bytes:
        return _reply(number, self._settle(stream, request, claim, reply))

    def _settle(self, stream: int, request: bytes, claim: Claim, reply: object) -> Reply | StreamReply:
        """The reply that agrees with what is or will be on the wire."""
        known = claim.lost
        claim.commit()
        committed = claim.committed
        claim.end()
        usable = isinstance(reply, StreamReply if stream else Reply)
        # The program's own reply stands if it won, or if it knew that it had lost and refused.
        if usable and (committed or (known and not reply.allow)):  # type: ignore[attr-defined]
            return reply  # type: ignore[return-value]
        if usable and self._records is not None and reply.record is not None:  # type: ignore[attr-defined]
            self._records.void(reply.sequence)  # type: ignore[attr-defined]
        return self._refuse(stream, INTERNAL if committed else DEADLINE, request, None)

    def _refuse(self, stream: int, reason: str, request: bytes, written: bytes | None) -> Reply | StreamReply:
        if stream:
            return self._program.streams.refuse(stream, reason, request, written)
        return self._program.refuse(reason, request, written)


def _events(batch: bytes) -> list[tuple[int, int, int, int, int, bytes, bytes, bytes]]:
    events, at = [], 0
    while at < len(batch):
        number, stream, claim, kind, status, first, second, third = _EVENT.unpack_from(batch, at)
        begin = at + _EVENT.size
        middle, last = begin + first, begin + first + second
        at = last + third
        events.append((number, stream, claim, kind, status, batch[begin:middle], batch[middle:last], batch[last:at]))
    return events


def _reply(number: int, reply: Reply | StreamReply) -> bytes:
    answers = (reply.answer,) if isinstance(reply, Reply) else reply.answers
    framed = b"".join([part for answer in answers for part in (_SIZE.pack(len(answer)), answer)])
    record = reply.record or b""
    flags = (_ALLOW if reply.allow else 0) | (_END if isinstance(reply, StreamReply) and reply.end else 0)
    head = _WORD.pack(number, _REPLY, flags, len(framed), len(record), reply.sequence, 0)
    return b"".join((head, framed, record))
