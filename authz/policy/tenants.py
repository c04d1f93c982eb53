"""Tenants' own policies beside the platform's: whose there is, and how far its word goes.

Decides by the caller's verified tenant alone. A tenant without a policy of its own is judged by the platform's; one
whose policy is not here, or has expired, is denied, and no other with it. A tenant's policy narrows what the platform
grants (`strictest` joins the two) and does nothing else: it puts no header on a call, and where it rewrites one, the
platform's policy is asked again about what the tool would then get. Must never let a failure of either pass for an
answer of the other.

Each policy is opened by itself, with rules and data of its own: none reads another's. Pure but for the pointers, which
are read once for each call.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from authz.errors import PolicyError, UnavailableError
from authz.model import NO_HEADER_CHANGES, Effect, Mode, Risk
from authz.policy.strictest import rank
from authz.reasons import POLICY_TENANT_FAILED, POLICY_TENANT_LIMIT, POLICY_TENANT_UNAVAILABLE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from authz.errors import DenialError
    from authz.model import Decision, Principal, Rate, Verdict
    from authz.policy.activation import ActivePolicy, Policies

_RISKS: Final = tuple(Risk)


class TenantPolicies:
    """The pointers, by tenant."""

    def __init__(self, policies: Mapping[str, Policies]) -> None:
        self._policies = policies

    def of(self, principal: Principal) -> ActivePolicy | None:
        """The policy of the caller's tenant; None where it has none of its own.

        Raises:
            UnavailableError: POLICY_TENANT_UNAVAILABLE, it has one, and it cannot answer now.
        """
        policies = self._policies.get(principal.tenant)
        if policies is None:
            return None
        try:
            return policies.active(principal)
        except UnavailableError as error:
            raise UnavailableError(POLICY_TENANT_UNAVAILABLE) from error

    def rates(self, principal: Principal) -> tuple[Rate, ...]:
        """What the policy of the caller's tenant asks how often it happened."""
        policies = self._policies.get(principal.tenant)
        return policies.rates if policies is not None else ()


def of_platform(decision: Decision) -> Decision:
    """A decision as the platform's policy alone had a part in it, for what compares revisions of it."""
    alone = decision.platform_verdict
    return decision if alone is None else replace(decision, verdict=alone)


def of_tenant(decision: Decision) -> Decision | None:
    """A decision as the tenant's own policy alone had a part in it; None where it had none."""
    own, said = decision.revision.tenant, decision.tenant_verdict
    if own is None or (said is None and decision.reason != POLICY_TENANT_FAILED.code):
        return None
    return replace(decision, revision=own, verdict=said, result_json=decision.tenant_result_json)


def read(policy: ActivePolicy, result: bytes | None) -> Verdict:
    """What a tenant's policy says.

    Raises:
        PolicyError: POLICY_TENANT_FAILED, it is no decision; POLICY_TENANT_LIMIT, it changes headers.
    """
    try:
        verdict = policy.interpret(result)
    except PolicyError as error:
        raise failed(error) from error
    # What a tool is told of its caller in headers is the platform's to say.
    if verdict.headers != NO_HEADER_CHANGES:
        raise PolicyError(POLICY_TENANT_LIMIT, f"{POLICY_TENANT_LIMIT.summary}: headers")
    return verdict


def failed(error: DenialError) -> PolicyError:
    """What a tenant's policy is refused with that did not answer."""
    return PolicyError(POLICY_TENANT_FAILED, f"{POLICY_TENANT_FAILED.summary}: {error.reason.code}")


def rewrites(platform: Verdict, both: Verdict) -> bool:
    """Whether the tenant has the call changed beyond what the platform has changed."""
    sanitizes = both.effect is Effect.SANITIZE and both.mode is Mode.BLOCK
    return sanitizes and both.redactions != platform.redactions


def require_covered(platform: Verdict, again: Verdict) -> None:
    """Refuse a call that is rewritten into one of which the platform says more than of the call before.

    Args:
        platform: what it said of the call.
        again: what it says of the call as it would be.

    Raises:
        PolicyError: POLICY_TENANT_LIMIT.
    """
    is_covered = (
        rank(again) <= rank(platform)
        and _RISKS.index(again.risk) <= _RISKS.index(platform.risk)
        and {*again.redactions} <= {*platform.redactions}
        and {*again.capabilities} <= {*platform.capabilities}
        and (again.charges, again.headers) == (platform.charges, platform.headers)
    )
    if not is_covered:
        raise PolicyError(POLICY_TENANT_LIMIT, f"{POLICY_TENANT_LIMIT.summary}: another call")
