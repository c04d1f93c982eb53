"""What the transport asks of Python, and what it takes for an answer.

Decides which values are answers at all. Must never let one through that Envoy would read as an allow although nobody
said so. Trusts the program's records.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

from authz.value import value

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from authz.native.boundary import Json


@value
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


@value
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

Steps: TypeAlias = "Generator[object, bytes | None, Reply]"
"""An answer in the making: it yields each `Evaluation` that it needs, is sent the result or thrown the EngineError, and
returns the reply. Between two steps it holds no thread."""


class Claim:
    """The right to answer one call, shared with the watchdog. Good until the call is answered."""

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
    """What answers. Its functions run side by side on as many threads as the server's options say."""

    check: Callable[[bytes, Claim], Reply | Steps]
    """Answer a check, at once or in steps. Commit the claim just before making the record; a claim that is lost means
    that SYS_DEADLINE was sent, and the record must say so."""
    refuse: Callable[[str, bytes, bytes | None], Reply]
    """The refusal of a call that `check` did not answer: (reason, request, record). The record is given where the log
    already holds one for this call that says allow although a refusal was sent; the new one must amend it."""
    streams: StreamProgram
