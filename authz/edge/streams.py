"""ext_proc streams on both transports: who keeps them, in what order records and answers leave, and when they are cut.

Decides nothing but when to look: a kill may stop a call whose answer is still streaming, so each open stream is asked
whenever kills moved (E12). Must never send an answer before every record that it rests on is durable. One message of a
stream may judge several events of an answer; all records but the last are written here, the last goes through the
transport's own commit barrier.

Trusts the transport to deliver the messages of one stream one after another.
"""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING, Any, Final, Protocol

from authz.edge.ext_proc import LEG
from authz.edge.reply import stream_fallback
from authz.native import NativeError, StreamReply
from authz.reasons import AUDIT_UNAVAILABLE, CATALOGUE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from authz.edge.ext_proc import ExtProc, Outcome, Stream
    from authz.native import Claim

log: Final = logging.getLogger(__name__)


class RecordLog(Protocol):
    """Where records go."""

    def append(self, record: bytes, sequence: int) -> None:
        """Return once it is durable. Raises NativeError when it is not."""
        ...

    def void(self, sequence: int) -> None:
        """Give up a number that was taken."""
        ...


class OpenStreams:
    """The streams that are open now, each with how it is ended from this side. Thread-safe.

    Args:
        sequence: grows whenever a call may have been stopped.
        records: None keeps no records.
    """

    def __init__(self, sequence: Callable[[], int], records: RecordLog | None) -> None:
        self._sequence = sequence
        self._records = records
        self._seen = sequence()
        self._open: dict[Stream, Callable[[bytes], None]] = {}

    def add(self, stream: Stream, end: Callable[[bytes], None]) -> None:
        """Watch a stream; `end` sends a last message and closes it."""
        self._open[stream] = end

    def remove(self, stream: Stream) -> None:
        """It is gone."""
        self._open.pop(stream, None)

    def cut_stopped(self) -> None:
        """End every stream whose call was stopped since this was last asked; costs nothing while no kill moves."""
        sequence = self._sequence()
        if sequence == self._seen:
            return
        busy = [stream for stream, end in [*self._open.items()] if not self._is_settled(stream, end)]
        if not busy:
            self._seen = sequence

    def _is_settled(self, stream: Stream, end: Callable[[bytes], None]) -> bool:
        try:
            outcome = stream.cut()
        except TimeoutError:
            return False
        if outcome.end:
            self._keep(outcome)
            end(outcome.answers[0])
        return True

    def _keep(self, outcome: Outcome) -> None:
        """A cut stands whether or not its record can be written."""
        if self._records is None:
            return
        for answered in outcome.judged:
            try:
                self._records.append(answered.record, answered.sequence)
            except NativeError:
                log.exception("a cut could not be recorded")


class NativeStreams:
    """What the native transport asks for ext_proc streams.

    Args:
        ext_proc: makes the streams.
        records: None keeps no records.
        watch: where open streams are watched.
        end: ends the stream of a number from this side, after a last message.
    """

    def __init__(
        self, ext_proc: ExtProc, records: RecordLog | None, watch: OpenStreams, end: Callable[[int, bytes], None]
    ) -> None:
        self._ext_proc = ext_proc
        self._records = records
        self._watch = watch
        self._end = end
        self._open: dict[int, Stream] = {}

    def open(self, stream: int, opening: dict[str, Any]) -> StreamReply:
        """Begin a stream; Envoy's initial metadata says which leg it is."""
        legs = opening["metadata"].get(LEG, [])
        opened = self._open[stream] = self._ext_proc.open({LEG: legs[0]} if len(legs) == 1 else {})
        self._watch.add(opened, lambda last: self._cut(stream, last))
        return StreamReply()

    def message(self, stream: int, message: bytes, claim: Claim) -> StreamReply:
        """Answer one message."""
        outcome = self._open[stream].message(message)
        if not claim.commit():
            # What was judged was not seen. The library asks for the record of what was sent instead, if anything was:
            # nothing is to a client that has left.
            self._void(outcome)
            return StreamReply()
        return self._reply(outcome)

    def close(self, stream: int) -> None:
        """Forget the stream."""
        if (gone := self._open.pop(stream, None)) is not None:
            self._watch.remove(gone)

    def _cut(self, stream: int, last: bytes) -> None:
        with contextlib.suppress(NativeError):  # it ended by itself in the meantime
            self._end(stream, last)

    def refuse(self, stream: int, reason: str, message: bytes, written: bytes | None) -> StreamReply:  # noqa: ARG002
        """Refuse what `message` did not answer."""
        found = self._open.get(stream)
        cause = CATALOGUE[reason]
        return self._reply(found.refuse(cause) if found else self._ext_proc.failed(cause))

    def _reply(self, outcome: Outcome) -> StreamReply:
        if self._records is None or not outcome.judged:
            return StreamReply(answers=outcome.answers, end=outcome.end)
        *earlier, last = outcome.judged
        for answered in earlier:
            self._records.append(answered.record, answered.sequence)
        allow = any(answered.decision.forwards for answered in outcome.judged)
        return StreamReply(
            answers=outcome.answers, allow=allow, record=last.record, sequence=last.sequence, end=outcome.end
        )

    def _void(self, outcome: Outcome) -> None:
        if self._records is not None:
            for answered in outcome.judged:
                self._records.void(answered.sequence)


class GrpcioStreams:
    """The same under `grpc.server`, where the stream's own thread waits for the disk."""

    def __init__(self, ext_proc: ExtProc, records: RecordLog | None, watch: OpenStreams) -> None:
        self._ext_proc = ext_proc
        self._records = records
        self._watch = watch

    def run(
        self, requests: Iterator[bytes], metadata: Mapping[str, str], cancel: Callable[[], None]
    ) -> Iterable[bytes]:
        """The answers of one stream; `cancel` breaks it off, which makes Envoy reset the answer."""
        stream = self._ext_proc.open(metadata)
        self._watch.add(stream, lambda _last: cancel())
        try:
            yield from self._answers(stream, requests)
        finally:
            self._watch.remove(stream)

    def _answers(self, stream: Stream, requests: Iterator[bytes]) -> Iterable[bytes]:
        for request in requests:
            outcome = stream.message(request)
            if not self._is_recorded(outcome):
                yield stream_fallback(AUDIT_UNAVAILABLE)
                return
            yield from outcome.answers
            if outcome.end:
                return

    def _is_recorded(self, outcome: Outcome) -> bool:
        if self._records is None:
            return True
        try:
            for answered in outcome.judged:
                self._records.append(answered.record, answered.sequence)
        except NativeError:
            log.exception("a record could not be written")
            return False
        return True
