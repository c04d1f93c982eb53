"""Which of two warm revisions answers a call while a rollout is under way.

Decides by the directive of the caller's tenant, else the platform's, and by the agent's place: one lookup, one hash and
one pointer, taken once for each call, so that no call sees two revisions. A revision that is not open, has expired or
was tripped over answers nobody; the baseline does. Where the stricter answer of two counts, that pointer is to both as
one, and nothing answers once either has expired. Must never let a candidate answer without a baseline to go back to,
nor read anything from disk or network: `authz.rollouts` opens revisions and hands them over whole.

`enact` and `trip` replace one entry of a table that readers take whole; both are safe on any thread.
"""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from authz.model import PLATFORM
from authz.policy.cohort import Cohort, cohort
from authz.policy.directive import Mode
from authz.policy.paired import Names, charged_once, joined
from authz.value import value

if TYPE_CHECKING:
    from collections.abc import Mapping

    from authz.model import Principal, Rate, Revision
    from authz.policy.activation import Activation, ActivePolicy, Opened
    from authz.policy.directive import Directive

BOTH: Final = Names(Cohort.BASELINE.value, Cohort.CANDIDATE.value)
"""As the record of a call that both answered has what they said."""


@value
class Enacted:
    """A directive with the revisions it names, as far as they are open.

    `baseline` None is what this service is configured with, where the directive says so. `labelled` are the same
    revisions under the rollout's name, by cohort.
    """

    directive: Directive
    baseline: Opened | None
    candidate: Opened | None
    tripped: str = ""
    """Reason code of what the candidate did here; it answers no more."""

    @property
    def answers(self) -> bool:
        """Whether the candidate answers anybody."""
        mode = self.directive.mode
        return self.candidate is not None and not self.tripped and mode in (Mode.CANARY, Mode.ENFORCED)

    def cohort(self, principal: Principal | None) -> Cohort:
        """Whose policy answers this caller; who is not known by a token has one place together."""
        if not self.answers:
            return Cohort.BASELINE
        told = self.directive
        tenant, agent = (principal.tenant, principal.agent) if principal else ("", "")
        return cohort(told.salt, 1.0 if told.mode is Mode.ENFORCED else told.share, tenant, agent)


class CohortPolicies:
    """The `Policies` of a service that takes part in rollouts."""

    def __init__(self, activation: Activation) -> None:
        self._activation = activation
        self._turn = threading.Lock()
        self._enacted: Mapping[str, Enacted] = {}
        self._rates: frozenset[Rate] = frozenset()
        self._labelled: dict[tuple[str, Cohort], tuple[ActivePolicy, Directive, ActivePolicy]] = {}
        self._pairs: dict[str, tuple[ActivePolicy, ActivePolicy, Directive, ActivePolicy]] = {}

    @property
    def revision(self) -> Revision:
        """What this service is configured with; a decision names what answered it."""
        return self._activation.revision

    @property
    def rates(self) -> tuple[Rate, ...]:
        """What any warm revision asks: a candidate reads the input that is made for the baseline."""
        own, warm = self._activation.rates, self._rates
        return own if warm.issubset(own) else tuple(sorted(warm.union(own)))

    def active(self, principal: Principal | None = None) -> ActivePolicy:
        """The revision that answers this caller.

        Raises:
            UnavailableError: POLICY_UNAVAILABLE where none may.
        """
        enacted = self.of(principal)
        if enacted is None:
            return self._activation.active()
        if enacted.directive.mode is Mode.STRICTER and enacted.candidate is not None:
            return self._stricter(enacted, enacted.candidate)
        mine = enacted.cohort(principal)
        chosen = enacted.candidate if mine is Cohort.CANDIDATE else enacted.baseline
        if chosen is not None and self._activation.has_expired(chosen):
            mine, chosen = Cohort.BASELINE, enacted.baseline
        if chosen is None:
            return self._named(enacted.directive, mine, self._activation.active())
        return self._named(enacted.directive, mine, self._activation.serving(chosen))

    def of(self, principal: Principal | None) -> Enacted | None:
        """What is enacted for a caller, if anything is."""
        table = self._enacted
        if not table:
            return None
        own = table.get(principal.tenant) if principal else None
        if own is None or (own.directive.mode is Mode.BASELINE and not own.directive.baseline):
            return table.get(PLATFORM)
        return own

    def both(self, principal: Principal | None) -> tuple[ActivePolicy, ActivePolicy] | None:
        """Baseline and candidate of what is enacted for a caller; None unless both are open."""
        enacted = self.of(principal)
        if enacted is None or enacted.candidate is None:
            return None
        baseline = enacted.baseline.policy if enacted.baseline else self._activation.active()
        return baseline, enacted.candidate.policy

    @property
    def enacted(self) -> Mapping[str, Enacted]:
        """By scope."""
        return self._enacted

    def enact(self, enacted: Enacted) -> None:
        """Put a directive in force, at once and whole."""
        with self._turn:
            self._enacted = {**self._enacted, enacted.directive.scope: enacted}
            warm = [opened for each in self._enacted.values() for opened in (each.baseline, each.candidate) if opened]
            self._rates = frozenset(rate for opened in warm for rate in opened.policy.rates)

    def trip(self, scope: str, rollout: str, code: str) -> bool:
        """Take a candidate out of service here; whether it was in, and may be taken out by a program."""
        with self._turn:
            now = self._enacted.get(scope)
            if now is None or now.directive.rollout != rollout or not now.answers or not now.directive.guarded:
                return False
            self._enacted = {**self._enacted, scope: replace(now, tripped=code)}
        return True

    def _stricter(self, enacted: Enacted, opened: Opened) -> ActivePolicy:
        """Both as one. Where either has expired nothing answers: going on without it would let more happen."""
        told = enacted.directive
        baseline = self._activation.serving(enacted.baseline) if enacted.baseline else self._activation.active()
        candidate = self._activation.serving(opened)
        known = self._pairs.get(told.scope)
        if known is not None and known[0] is baseline and known[1] is candidate and known[2] is told:
            return known[3]
        revision = replace(
            candidate.revision,
            rollout=told.rollout,
            wave=told.wave,
            cohort=Cohort.CANDIDATE.value,
            beside=baseline.revision.revision,
        )
        pair = joined(baseline, candidate, BOTH, revision, charged_once)
        self._pairs[told.scope] = (baseline, candidate, told, pair)
        return pair

    def _named(self, told: Directive, mine: Cohort, policy: ActivePolicy) -> ActivePolicy:
        """`policy` as decisions name it: made once for each directive, cohort and revision."""
        known = self._labelled.get((told.scope, mine))
        if known is not None and known[0] is policy and known[1] is told:
            return known[2]
        if told.mode is Mode.BASELINE:
            return policy
        named = policy.named(replace(policy.revision, rollout=told.rollout, wave=told.wave, cohort=mine.value))
        self._labelled[told.scope, mine] = (policy, told, named)
        return named
