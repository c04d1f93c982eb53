"""Logs of the service itself: JSON lines on standard error, or plain text on a terminal.

Decides what of a log record is written: its event, the fields in `FIELDS`, and for an exception its types and places.
Must never write a value that a caller chose: other extra fields are left out, an exception's text is kept only where it
is one of ours (`AuthzError` promises to repeat no value), and every text passes through `mask`. One record is one line.

Trusts nobody's text: control characters are escaped, so that no log line can be forged and no terminal driven.
"""

from __future__ import annotations

import logging
import re
import sys
from datetime import UTC, datetime
from pathlib import Path
from traceback import extract_tb
from typing import TYPE_CHECKING, Any, Final, TextIO

import orjson

from authz.errors import AuthzError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FIELDS: Final = (
    "decision_id", "trace_id", "span_id", "reason", "status", "revision", "bundle_id", "issuer", "address", "path",
    "cause", "remedy", "signal", "count", "seconds",
)  # fmt: skip
"""What `extra=` may carry."""

# C0, DEL, C1 and the two line separators that some viewers break lines at.
_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class _Formatter(logging.Formatter):
    def __init__(self, mask: Callable[[str], str]) -> None:
        super().__init__()
        self._mask = mask

    def fields(self, record: logging.LogRecord) -> dict[str, Any]:
        """What is written of a record, in order."""
        written: dict[str, Any] = {
            "timestamp": f"{datetime.fromtimestamp(record.created, UTC):%Y-%m-%dT%H:%M:%S.%f}Z",
            "level": record.levelname.lower(),
            "event": self._mask(record.getMessage()),
            "logger": record.name,
        }
        for name in FIELDS:
            value = getattr(record, name, None)
            if value is not None:
                written[name] = value if isinstance(value, int | float) else self._mask(str(value))
        error = record.exc_info[1] if record.exc_info else None
        return written | ({"exception": list(_chain(error))} if error else {})


class JsonFormatter(_Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        return _CONTROL.sub(lambda match: f"\\u{ord(match[0]):04x}", orjson.dumps(self.fields(record)).decode())


class TextFormatter(_Formatter):
    """For a person at a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        """A line, and one more for each place of an exception."""
        written = self.fields(record)
        exception = written.pop("exception", [])
        head = f"{written.pop('timestamp')[11:19]} {written.pop('level'):<7} {written.pop('event')}"
        rest = [f"{name}={value}" for name, value in written.items() if name != "logger"]
        places = [f"\n    {line}" for error in exception for line in (error["type"], *error["places"])]
        return escaped(" ".join([head, *rest])) + "".join(f"\n    {escaped(place.strip())}" for place in places)


def escaped(text: str) -> str:
    """The text without control characters."""
    return _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", text)


def _chain(error: BaseException | None) -> Iterator[dict[str, Any]]:
    """The error and what it came from, the last first: types and places, and the text where it is ours."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        frames = extract_tb(error.__traceback__)
        places = [f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames]
        text = {"message": str(error)} if isinstance(error, AuthzError) else {}
        yield {"type": type(error).__qualname__, **text, "places": places}
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def configure(level: str, mask: Callable[[str], str], stream: TextIO = sys.stderr) -> None:
    """Log to `stream` from here on; libraries only from `warning` on, whatever `level` is.

    Args:
        level: debug, info, warning or error.
        mask: replaces the secrets in a text.
        stream: JSON is written unless it is a terminal.
    """
    output = logging.StreamHandler(stream)
    output.setFormatter(TextFormatter(mask) if stream.isatty() else JsonFormatter(mask))
    logging.basicConfig(level=logging.WARNING, handlers=[output], force=True)
    logging.getLogger("authz").setLevel(level.upper())
    logging.captureWarnings(capture=True)
