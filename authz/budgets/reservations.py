"""The port through which a decision reads and reserves budgets, and the honest absence of budgets.

Decides whether the charges that a policy asks for can be met. `NoBudgets` can meet none: a policy that
charges is denied, because a limit that nobody counts is no limit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from authz.errors import UnavailableError
from authz.reasons import BUDGET_UNAVAILABLE

if TYPE_CHECKING:
    from authz.model import Charge, JsonObject, Principal


class Budgets(Protocol):
    """Reserves amounts so that concurrent calls cannot overshoot."""

    def left(self, principal: Principal) -> JsonObject:
        """What remains, as policy input `facts.budgets`."""
        ...

    def plan(self, principal: Principal, charges: tuple[Charge, ...]) -> None:
        """Find out, without taking anything, whether the charges can be met.

        Raises:
            UnavailableError: BUDGET_UNAVAILABLE when a budget is unknown or cannot be counted.
        """
        ...

    def reserve(self, principal: Principal, charges: tuple[Charge, ...]) -> None:
        """Take the amounts now, all or none.

        Raises:
            UnavailableError: BUDGET_UNAVAILABLE when they cannot be counted.
        """
        ...


class NoBudgets:
    """No budgets are configured."""

    def left(self, principal: Principal) -> JsonObject:  # noqa: ARG002 - the port's shape
        """Nothing is known."""
        return {}

    def plan(self, principal: Principal, charges: tuple[Charge, ...]) -> None:  # noqa: ARG002 - the port's shape
        """Meet no charge.

        Raises:
            UnavailableError: BUDGET_UNAVAILABLE when there is any charge.
        """
        if charges:
            raise UnavailableError(BUDGET_UNAVAILABLE, f"no budget `{charges[0].budget}` is configured")

    def reserve(self, principal: Principal, charges: tuple[Charge, ...]) -> None:
        """Meet no charge.

        Raises:
            UnavailableError: BUDGET_UNAVAILABLE when there is any charge.
        """
        self.plan(principal, charges)
