"""ext_proc streams on both transports: who keeps them, and in what order records and answers leave.

Decides nothing. Must never send an answer before every record that it rests on is durable. One message of a stream may
judge several events of an answer; all records but the last are written here, the last goes through the transport's own
commit barrier.

Trusts the transport to deliver the messages of one stream one after another.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final, Protocol

from authz.edge.ext_proc import LEG
from authz.edge.reply import stream_fallback
from authz.native import NativeError, StreamReply
from authz.reasons import AUDIT_UNAVAILABLE, CATALOGUE, SYS_DEADLINE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

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


class NativeStreams:
    """What the native transport asks for ext_proc streams.

    Args:
        ext_proc: makes the streams.
        records: None keeps no records.
    """

    def __init__(self, ext_proc: ExtProc, records: RecordLog | None) -> None:
        self._ext_proc = ext_proc
        self._records = records
        self._open: dict[int, Stream] = {}

    def open(self, stream: int, opening: dict[str, Any]) -> StreamReply:
        """Begin a stream; Envoy's initial metadata says which leg it is."""
        legs = opening["metadata"].get(LEG, [])
        self._open[stream] = self._ext_proc.open({LEG: legs[0]} if len(legs) == 1 else {})
        return StreamReply()

    def message(self, stream: int, message: bytes, claim: Claim) -> StreamReply:
        """Answer one message."""
        outcome = self._open[stream].message(message)
        if not claim.commit():
            # The watchdog answered: what was judged was not seen, and one record says so.
            self._void(outcome)
            outcome = self._open[stream].refuse(SYS_DEADLINE)
        return self._reply(outcome)

    def close(self, stream: int) -> None:
        """Forget the stream."""
        self._open.pop(stream, None)

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

    def __init__(self, ext_proc: ExtProc, records: RecordLog | None) -> None:
        self._ext_proc = ext_proc
        self._records = records

    def run(self, requests: Iterator[bytes], metadata: Mapping[str, str]) -> Iterable[bytes]:
        """The answers of one stream."""
        stream = self._ext_proc.open(metadata)
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
