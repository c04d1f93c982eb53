"""Server-Sent Events, cut into events and put together again (WHATWG HTML §9.2).

Decides where one event ends, however the stream is chunked, so that each can be judged whole before any byte
of it goes on (B2, B4). Must never hold back a keep-alive, never hold more than one event, and never let through
what it did not understand: unknown fields and the text of comments are dropped, as every client drops them.

Trusts nothing in the stream. An event that is not finished when the stream ends is dropped, as the standard says.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from authz import reasons
from authz.errors import UnavailableError

COMMENT: Final = b":\n"
"""What every comment becomes: it keeps the connection alive and carries nothing."""

_BOM: Final = b"\xef\xbb\xbf"
_END_OF_LINE: Final = re.compile(rb"\r\n|\n|\r")
# `id` and `retry` steer reconnection, `event` the dispatch; nothing else means anything to a client. They are not
# judged as data is, so they are held to what such values look like: a tool could write anything into them (B7).
_KEPT: Final = {
    b"event": re.compile(rb" ?[\w.:/-]{0,64}", re.ASCII),
    b"id": re.compile(rb" ?[!-~]{0,256}"),
    b"retry": re.compile(rb" ?[0-9]{0,10}"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One event. `data` joins its data lines with line feeds; None where it had none."""

    data: bytes | None = None
    fields: tuple[bytes, ...] = ()

    def render(self) -> bytes:
        """The event on the wire, with line feeds, ending in its blank line."""
        data = [] if self.data is None else [b"data: " + line for line in self.data.split(b"\n")]
        return b"\n".join([*self.fields, *data, b"", b""])


class EventReader:
    """Cuts a stream of chunks into events; holds at most one unfinished event."""

    def __init__(self, max_event_bytes: int) -> None:
        self._max_event_bytes = max_event_bytes
        self._start: bytes | None = b""
        self._line = bytearray()
        self._fields: list[bytes] = []
        self._data: list[bytes] = []
        self._held = 0
        self._after_cr = False

    def feed(self, chunk: bytes) -> list[Event | bytes]:
        """The events that `chunk` finishes, and `COMMENT` for each comment, in order.

        Raises:
            UnavailableError: REDACT_FAILED; an event is over its limit, so it can be neither judged nor shown.
        """
        chunk = self._without_bom(chunk)
        # A CR ends a line at once, so that no event waits for the LF that may follow in the next chunk.
        if self._after_cr and chunk:
            chunk, self._after_cr = chunk.removeprefix(b"\n"), False
        if not chunk:
            return []
        self._after_cr = chunk.endswith(b"\r")
        first, *rest = _END_OF_LINE.split(chunk)
        self._line += first  # in place: chunks of one byte must not make this quadratic
        finished = []
        for line in rest:
            finished.append(self._take(bytes(self._line)))
            self._line = bytearray(line)
        self._bound(len(self._line))
        return [item for item in finished if item is not None]

    def end(self) -> None:
        """The stream is over: forget what is unfinished."""
        self._line, self._held = bytearray(), 0
        self._fields, self._data = [], []

    def _without_bom(self, chunk: bytes) -> bytes:
        """Hold the first bytes back until it is clear whether they are a byte order mark."""
        if self._start is None:
            return chunk
        head = self._start + chunk
        undecided = len(head) < len(_BOM) and _BOM.startswith(head)
        self._start = head if undecided else None
        return b"" if undecided else head.removeprefix(_BOM)

    def _take(self, line: bytes) -> Event | bytes | None:
        if not line:  # a blank line is the only end of an event
            return self._finish()
        if line.startswith(b":"):
            return COMMENT
        # Every line counts, also those that are dropped, so that no flood of them is free.
        self._held += len(line) + 1
        self._bound(0)
        name, _, value = line.partition(b":")
        if name == b"data":
            # One space after the colon is the format's, more are the value's.
            self._data.append(value.removeprefix(b" "))
        elif name in _KEPT and _KEPT[name].fullmatch(value):
            self._fields.append(line)
        return None

    def _finish(self) -> Event | None:
        event = Event(data=b"\n".join(self._data) if self._data else None, fields=tuple(self._fields))
        self._held = 0
        self._fields, self._data = [], []
        return None if event == Event() else event

    def _bound(self, more: int) -> None:
        if self._held + more > self._max_event_bytes:
            raise UnavailableError(reasons.REDACT_FAILED, f"an event is over {self._max_event_bytes} bytes")
