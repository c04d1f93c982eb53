"""The port through which a decision redeems an approval, and the honest absence of approvals.

Decides whether a presented override token may replace `approval_needed`. `NoOverrides` redeems none and
refuses any that is presented, since ignoring one would hide from its bearer that it did nothing.
Must never spend a token before the answer is claimed (design §4, step 10).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from authz.errors import InvalidRequestError
from authz.reasons import APPROVAL_INVALID, HEADER_DUPLICATE

if TYPE_CHECKING:
    from authz.model import Check, JsonObject, Principal, ToolCall

OVERRIDE_HEADER: Final = "x-authz-override"


class Overrides(Protocol):
    """Verifies override tokens against the very call they were minted for."""

    def presented(self, check: Check, principal: Principal, call: ToolCall) -> JsonObject:
        """Facts about the override that came with this call; empty when none did.

        Raises:
            InvalidRequestError: a token is presented that cannot be redeemed for this call.
        """
        ...


class NoOverrides:
    """No approvals are configured."""

    def presented(self, check: Check, principal: Principal, call: ToolCall) -> JsonObject:  # noqa: ARG002 - the port's shape
        """Refuse whatever is presented.

        Raises:
            InvalidRequestError: HEADER_DUPLICATE or APPROVAL_INVALID.
        """
        token = check.headers.get(OVERRIDE_HEADER)
        if token is None:
            return {}
        raise InvalidRequestError(HEADER_DUPLICATE if "," in token else APPROVAL_INVALID)
