"""Two verdicts on one call become the one that both can stand behind: the strictest wins, and obligations add up.

Decides by what a verdict lets happen, in this order: a denial, a call that waits for a person, a call that runs
sanitized, one that runs marked for review, one that runs. Where both say the same, the first one's words stand. A flag
lets the call run, so it takes nothing away from what the other blocks. Must never give a verdict that lets more happen
than either of the two: no redaction is lost, no approval is easier, no risk is lower.

Pure. Trusts both verdicts to be consistent, as `agent_contract` reads them. The first is whose words come first: of a
platform and a tenant, the platform's.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from authz.model import NO_HEADER_CHANGES, ApprovalRequest, Effect, HeaderChanges, Mode, Risk
from authz.reasons import POLICY_APPROVERS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from authz.model import Redaction, Verdict

_RANKS: Final[Mapping[Effect, int]] = {
    Effect.ALLOW: 0,
    Effect.SANITIZE: 1,
    Effect.APPROVAL_NEEDED: 2,
    Effect.DENY: 3,
}
_RISKS: Final = tuple(Risk)


def rank(verdict: Verdict) -> tuple[int, int]:
    """How strict: what happens to the call, then what the policy would have had happen. Larger is stricter."""
    meant = _RANKS[verdict.effect]
    return (0 if verdict.mode is Mode.FLAG else meant, meant)


def is_final(verdict: Verdict) -> bool:
    """Whether no other verdict can be stricter: the call is denied."""
    return verdict.effect is Effect.DENY and verdict.mode is Mode.BLOCK


def strictest(first: Verdict, second: Verdict) -> Verdict:
    """What both let happen."""
    leading, other = (second, first) if rank(second) > rank(first) else (first, second)
    united = replace(
        leading,
        rules=_united(leading.rules, other.rules) if rank(leading) == rank(other) else leading.rules,
        risk=max(first.risk, second.risk, key=_RISKS.index),
        redactions=_redactions(first, second) if _is(leading, Effect.SANITIZE) else leading.redactions,
        charges=(*first.charges, *second.charges),
        headers=_headers(first.headers, second.headers),
        tags={**second.tags, **first.tags},
        capabilities=_united(first.capabilities, second.capabilities),
    )
    if _is(first, Effect.APPROVAL_NEEDED) and _is(second, Effect.APPROVAL_NEEDED):
        return _approved_by_both(united, first.approval, second.approval)
    return united


def _is(verdict: Verdict, effect: Effect) -> bool:
    """Whether that happens, and is not only flagged."""
    return verdict.effect is effect and verdict.mode is Mode.BLOCK


def _united(some: tuple[str, ...], more: tuple[str, ...]) -> tuple[str, ...]:
    return (*some, *(each for each in more if each not in some)) if more else some


def _redactions(first: Verdict, second: Verdict) -> tuple[Redaction, ...]:
    """The first's, then what the second's still find: a stage is carried out on what the one before has left."""
    some, more = (each.redactions if _is(each, Effect.SANITIZE) else () for each in (first, second))
    if not some:
        return more
    gone = [redaction.path for redaction in some if not redaction.pattern]
    stage = 1 + max(redaction.stage for redaction in some)
    left = (each for each in more if each not in some and not any(_lies_in(each.path, path) for path in gone))
    return (*some, *(replace(each, stage=stage + each.stage) for each in left))


def _lies_in(path: str, whole: str) -> bool:
    return path == whole or path.startswith(f"{whole}/")


def _approved_by_both(united: Verdict, first: ApprovalRequest | None, second: ApprovalRequest | None) -> Verdict:
    """One approval that is enough for both; a denial where nobody could give it."""
    if first is None or second is None:
        return replace(united, approval=first or second)
    either = first.approvers and second.approvers
    approvers = tuple(each for each in first.approvers or second.approvers if not either or each in second.approvers)
    if either and not approvers:
        return replace(
            united,
            effect=Effect.DENY,
            reason=POLICY_APPROVERS.code,
            message=POLICY_APPROVERS.summary,
            approval=None,
        )
    approval = ApprovalRequest(
        approvers=approvers, quorum=max(first.quorum, second.quorum), ttl_s=min(first.ttl_s, second.ttl_s)
    )
    return replace(united, approval=approval)


def _headers(first: HeaderChanges, second: HeaderChanges) -> HeaderChanges:
    """Both; what the first says of a header stands."""
    if second is NO_HEADER_CHANGES:
        return first
    settled = {name.lower() for name in (*first.upsert, *first.remove)}
    return HeaderChanges(
        upsert={**first.upsert, **{name: second.upsert[name] for name in second.upsert if name.lower() not in settled}},
        remove=(*first.remove, *(name for name in second.remove if name.lower() not in settled)),
        response={**second.response, **first.response},
        query_set=(*second.query_set, *first.query_set),
        query_remove=(*first.query_remove, *second.query_remove),
    )
