"""Whose answer a stream is, carried from the decision to ext_proc in ext_authz's own dynamic metadata.

Decides nothing. Whoever called what is all that must be known to cut an answer, and many answers are open at once and
for long: so it travels with the request and is kept nowhere. Must hold nothing secret: access logs can show metadata.
Trusts Envoy that neither client nor tool can write that namespace.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import Final

import orjson
from pydantic import TypeAdapter, ValidationError

from authz.destination import Destination  # noqa: TC001 - read back by its annotation
from authz.errors import UnavailableError
from authz.model import Principal, Tool, ToolCall  # noqa: TC001 - read back by their annotations
from authz.reasons import SYS_CALLER

METADATA: Final = "watched"


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """Who called what."""

    principal: Principal
    tool: Tool
    destination: Destination | None = None

    @property
    def call(self) -> ToolCall:
        """As kills are asked about it; its arguments are not known any more."""
        return ToolCall(tool=self.tool, destination=self.destination)


_READER: Final = TypeAdapter(Watched)


@functools.lru_cache(maxsize=1024)  # an agent that calls a tool calls it again
def write(principal: Principal, tool: Tool, destination: Destination | None) -> str:
    """As text; what the token was bound to is of no use any more."""
    bare = replace(principal, confirmation=None)
    return orjson.dumps(Watched(principal=bare, tool=tool, destination=destination)).decode()


def read(text: str) -> Watched:
    """What `write` wrote.

    Raises:
        UnavailableError: SYS_CALLER, it is something else.
    """
    try:
        return _READER.validate_json(text)
    except ValidationError:
        raise UnavailableError(SYS_CALLER, "the metadata names no caller") from None
