"""The port through which a decision asks whether a kill covers it, and the honest absence of kills.

Decides nothing yet: `NoKills` serves without revocation, and its `source` says so in `doctor`, the
metrics and every record. Must never block or do network I/O: a real replica answers from memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from authz.model import Principal, ToolCall


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """One kill in force: its id and its scope in words, for the record and the caller."""

    id: str
    scope: str


class Kills(Protocol):
    """A local replica of the ledger of kills."""

    @property
    def source(self) -> str:
        """Where kills come from, or `none`."""
        ...

    @property
    def sequence(self) -> int:
        """Grows with every applied entry; unchanged means that nothing need be looked up again."""
        ...

    def covering(self, principal: Principal, call: ToolCall | None) -> Kill | None:
        """The kill that covers this principal or call, if any.

        Raises:
            UnavailableError: KILL_STALE when the replica is too old to answer.
        """
        ...


class NoKills:
    """`revocation: none`: nothing can be killed here."""

    source = "none"
    sequence = 0

    def covering(self, principal: Principal, call: ToolCall | None) -> Kill | None:  # noqa: ARG002 - the port's shape
        """Nothing is covered, because nothing is known."""
        return None
