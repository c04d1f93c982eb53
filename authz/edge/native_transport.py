"""The default transport: grpc-go in the native library, which asks these functions for every answer.

Decides nothing: it turns what was answered into the library's `Reply`, and puts aside what a later phase
will need. Must never return without an answer and its record; the library's own wrapper sees to what is
left. Trusts the library to send an allow only once its record is as durable as configured.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from authz.native import Reply
from authz.reasons import CATALOGUE

if TYPE_CHECKING:
    from authz.edge.exchanges import Exchanges
    from authz.edge.ext_authz import ExtAuthz
    from authz.native import Claim, Steps
    from authz.pdp import Answered


class NativeProgram:
    """What the library asks for checks.

    Args:
        ext_authz: answers.
        exchanges: keeps what later phases need.
        recorded: whether there is a log; without one, records are made but not handed over.
    """

    def __init__(self, ext_authz: ExtAuthz, exchanges: Exchanges, *, recorded: bool) -> None:
        self._ext_authz = ext_authz
        self._exchanges = exchanges
        self._recorded = recorded

    def check(self, request: bytes, claim: Claim) -> Steps:
        """Answer one check."""
        answered = yield from self._ext_authz.answer(request, claim)
        if answered.exchange is not None:
            self._exchanges.put(answered.exchange)
        return self._reply(answered)

    def refuse(self, reason: str, request: bytes, written: bytes | None) -> Reply:
        """Refuse what `check` did not answer."""
        return self._reply(self._ext_authz.refuse(CATALOGUE[reason], request, written))

    def _reply(self, answered: Answered) -> Reply:
        return Reply(
            answer=answered.answer,
            allow=answered.decision.forwards,
            record=answered.record if self._recorded else None,
            sequence=answered.sequence,
        )
