"""The port through which a decision asks whether a kill covers it and who its agent is, and the honest absence of both.

Decides nothing yet: `NoKills` serves without revocation, and its `source` says so in `doctor`, the
metrics and every record. Must never block or do network I/O: a real replica answers from memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from authz.model import AgentFacts, Principal, Risk, ToolCall

MEMORY_WRITES: Final = "memory-writes"
"""The kind of scope that stops an agent's calls with the capability `memory_write`, and no other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """One kill in force: its id, its scope in words, and the scope's kind, for the record and the caller."""

    id: str
    scope: str
    kind: str = ""


class Kills(Protocol):
    """A local replica of the ledger of kills and of the registry's facts, which come by the same stream."""

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
            UnavailableError: KILL_TENANT, the tenant's kills are not followed here.
        """
        ...

    def facts(self, principal: Principal) -> AgentFacts | None:
        """What the registry says of this principal's agent; None of one that it does not know."""
        ...

    def admit(self, principal: Principal, risk: Risk) -> bool:
        """Whether what is known is new enough for a call of this risk (failure matrix §3).

        Returns:
            True where the decision must be flagged: a kill of the last seconds may be missing.

        Raises:
            UnavailableError: KILL_STALE.
        """
        ...


class NoKills:
    """`revocation: none`: nothing can be killed here."""

    source = "none"
    sequence = 0

    def covering(self, principal: Principal, call: ToolCall | None) -> Kill | None:  # noqa: ARG002 - the port's shape
        """Nothing is covered, because nothing is known."""
        return None

    def facts(self, principal: Principal) -> AgentFacts | None:  # noqa: ARG002 - the port's shape
        """No registry is known either."""
        return None

    def admit(self, principal: Principal, risk: Risk) -> bool:  # noqa: ARG002 - the port's shape
        """Nothing known is never too old; that nothing is known, every record says."""
        return False
