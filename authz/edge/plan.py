"""The redaction plan on its way from ext_authz to ext_proc, inside Envoy's dynamic metadata.

Decides its form: JSON text under `redaction_plan`, beside the digest of the body it was made for. Only
ext_authz can write that metadata namespace, so clients and upstreams cannot plan anything. Must never
carry a value that is to be redacted: it names places and patterns only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import orjson

from authz.errors import UnavailableError
from authz.model import Redaction
from authz.reasons import REDACT_FAILED

if TYPE_CHECKING:
    from collections.abc import Mapping

    from authz.model import ToolCall, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Redactions relative to `base` (RFC 6901) in the body; `mirrors` maps header to argument pointer."""

    base: str
    redactions: tuple[Redaction, ...]
    mirrors: Mapping[str, str]


def encode(call: ToolCall, verdict: Verdict) -> str:
    """The plan for this call as JSON text."""
    rows = [{"path": r.path, "replacement": r.replacement, "pattern": r.pattern} for r in verdict.redactions]
    return orjson.dumps({"base": call.args_pointer, "redactions": rows, "mirrors": dict(call.mirrors)}).decode()


def decode(text: str) -> Plan:
    """Read a plan back.

    Raises:
        UnavailableError: REDACT_FAILED when it is not one of ours.
    """
    try:
        document = orjson.loads(text)
        return Plan(
            base=document["base"],
            redactions=tuple(Redaction(**row) for row in document["redactions"]),
            mirrors=document["mirrors"],
        )
    except (ValueError, TypeError, KeyError):
        raise UnavailableError(REDACT_FAILED, "the redaction plan cannot be read") from None
