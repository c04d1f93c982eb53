"""W3C Trace Context: which trace a decision belongs to.

Decides from a `traceparent` header, parsed strictly, whether to join the caller's trace or to begin one. Must never
repeat what it could not parse. Trusts the header for correlation only, never for a decision.

Source: W3C Trace Context level 1 (https://www.w3.org/TR/trace-context/), section 3.2.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from authz.clock import random_hex

# Lower-case hex only; a version above 00 may append fields after another dash (section 3.2.4).
_TRACEPARENT: Final = re.compile(
    r"(?!ff)(?P<version>[0-9a-f]{2})-(?!0{32})(?P<trace_id>[0-9a-f]{32})-(?!0{16})(?P<span_id>[0-9a-f]{16})"
    r"-(?P<flags>[0-9a-f]{2})(?P<more>-.*)?",
    re.ASCII,
)
_LONGEST: Final = 512
_SAMPLED: Final = 0x01


@dataclass(frozen=True, slots=True)
class TraceContext:
    """The trace to record in. `span_id` is the parent's, empty where this decision begins the trace."""

    trace_id: str
    span_id: str = ""
    sampled: bool = True


def parse(traceparent: str) -> TraceContext:
    """The context that a header names; a new, sampled trace where it is absent or malformed (section 3.2.1)."""
    match = _TRACEPARENT.fullmatch(traceparent) if 0 < len(traceparent) <= _LONGEST else None
    if match is None or (match["version"] == "00" and match["more"]):
        return TraceContext(random_hex())
    return TraceContext(match["trace_id"], match["span_id"], bool(int(match["flags"], 16) & _SAMPLED))
