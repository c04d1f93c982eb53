"""Two verdicts become one that never lets more happen than either, whoever says what."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import strategies as st

from authz.errors import UnavailableError
from authz.model import ApprovalRequest, Charge, Effect, HeaderChanges, Mode, Redaction, Risk, Verdict
from authz.policy.strictest import is_final, rank, strictest
from authz.protocol import redaction

if TYPE_CHECKING:
    from collections.abc import Sequence

RISKS = list(Risk)
LEAVES = st.sampled_from(["secret", "4111 1111", "plain", "x secret 4111", ""])
ARGUMENTS = st.fixed_dictionaries({"a": st.fixed_dictionaries({"b": LEAVES, "c": LEAVES}), "d": LEAVES})
REDACTIONS = st.builds(
    Redaction,
    path=st.sampled_from(["", "/a", "/a/b", "/a/c", "/d"]),
    replacement=st.sampled_from(["[x]", "-", ""]),
    pattern=st.sampled_from(["", "secret", " ", "4111", "s"]),
)
APPROVALS = st.none() | st.builds(
    ApprovalRequest,
    approvers=st.lists(st.sampled_from(["finance", "security", "ops"]), unique=True).map(tuple),
    quorum=st.integers(1, 3),
    ttl_s=st.integers(1, 900),
)


@st.composite
def verdicts(draw: st.DrawFn) -> Verdict:
    effect = draw(st.sampled_from(Effect))
    name = draw(st.sampled_from(["one", "two", "three"]))
    return Verdict(
        effect=effect,
        reason=name,
        rules=(name,),
        risk=draw(st.sampled_from(Risk)),
        mode=draw(st.sampled_from(Mode)),
        redactions=tuple(draw(st.lists(REDACTIONS, min_size=1, max_size=3))) if effect is Effect.SANITIZE else (),
        approval=draw(APPROVALS) if effect is Effect.APPROVAL_NEEDED else None,
        charges=tuple(draw(st.lists(st.builds(Charge, budget=st.sampled_from(["eur", "calls"]), amount=st.just(1))))),
        headers=HeaderChanges(upsert={"x-team": (name,)}) if draw(st.booleans()) else HeaderChanges(),
        capabilities=(name,),
    )


def happens(verdict: Verdict) -> int:
    """0 the call runs, 1 it runs sanitized, 2 it waits for a person, 3 it is denied."""
    if verdict.mode is Mode.FLAG:
        return 0
    return [Effect.ALLOW, Effect.SANITIZE, Effect.APPROVAL_NEEDED, Effect.DENY].index(verdict.effect)


def carried_out(arguments: Any, plan: Sequence[Redaction]) -> Any:
    """The arguments after a plan; None where it fails, and the call goes nowhere."""
    try:
        return None if arguments is None else redaction.apply(arguments, plan).value
    except UnavailableError:
        return None


@given(verdicts(), verdicts())
def test_no_verdict_is_looser_for_being_joined_by_another(first: Verdict, second: Verdict) -> None:
    both = strictest(first, second)
    assert happens(both) >= max(happens(first), happens(second))
    assert rank(both) >= max(rank(first), rank(second))
    assert RISKS.index(both.risk) >= max(RISKS.index(first.risk), RISKS.index(second.risk))
    assert both.charges == (*first.charges, *second.charges)
    assert {*both.capabilities} == {*first.capabilities, *second.capabilities}


@given(verdicts(), verdicts())
def test_what_happens_does_not_depend_on_who_comes_first(first: Verdict, second: Verdict) -> None:
    one, other = strictest(first, second), strictest(second, first)
    assert (happens(one), one.risk) == (happens(other), other.risk)
    assert one.effect is other.effect
    assert one.mode is other.mode or one.effect is Effect.ALLOW


@given(verdicts())
def test_a_verdict_joined_by_itself_stays_what_it_is_but_for_its_charges(verdict: Verdict) -> None:
    assert replace(strictest(verdict, verdict), charges=verdict.charges) == verdict


@given(verdicts(), verdicts())
def test_the_first_ones_words_stand_unless_the_second_is_stricter(first: Verdict, second: Verdict) -> None:
    both = strictest(first, second)
    if rank(second) <= rank(first) and both.effect is first.effect:
        assert (both.reason, both.message, both.mode) == (first.reason, first.message, first.mode)
    if first.headers.upsert:
        assert both.headers.upsert["x-team"] == first.headers.upsert["x-team"]


@given(verdicts(), verdicts())
def test_a_flag_takes_nothing_from_what_the_other_blocks(first: Verdict, second: Verdict) -> None:
    flagged = replace(second, effect=Effect.DENY, mode=Mode.FLAG, redactions=(), approval=None)
    both = strictest(first, flagged)
    if is_final(first):
        assert is_final(both)
        assert both.reason == first.reason
    assert happens(both) == happens(first)


@given(APPROVALS, APPROVALS)
def test_an_approval_of_both_satisfies_each_and_is_denied_where_nobody_could_give_it(
    first: ApprovalRequest | None, second: ApprovalRequest | None
) -> None:
    one, other = (Verdict(effect=Effect.APPROVAL_NEEDED, approval=each) for each in (first, second))
    both = strictest(one, other)
    asked = [each for each in (first, second) if each]
    groups = [{*each.approvers} for each in asked if each.approvers]
    if len(groups) == 2 and not groups[0] & groups[1]:
        assert (both.effect, both.reason, both.approval) == (Effect.DENY, "POLICY_APPROVERS", None)
        return
    assert both.effect is Effect.APPROVAL_NEEDED
    for each in asked:
        assert both.approval
        assert both.approval.quorum >= each.quorum
        assert both.approval.ttl_s <= each.ttl_s
        assert not each.approvers or {*both.approval.approvers} <= {*each.approvers}
        assert not each.approvers or both.approval.approvers


def test_what_the_first_takes_out_whole_is_not_looked_for_again() -> None:
    first = Verdict(effect=Effect.SANITIZE, redactions=(Redaction(path="/a", replacement="[x]"),))
    more = (Redaction(path="/a/b", replacement="-"), Redaction(path="/ab", replacement="-"))
    united = strictest(first, Verdict(effect=Effect.SANITIZE, redactions=more))
    assert carried_out({"a": {"b": "secret"}, "ab": "x"}, united.redactions) == {"a": "[x]", "ab": "-"}


@given(verdicts(), verdicts(), verdicts())
def test_three_verdicts_come_to_the_same_however_they_are_joined(one: Verdict, two: Verdict, three: Verdict) -> None:
    left, right = strictest(strictest(one, two), three), strictest(one, strictest(two, three))
    assert (happens(left), left.risk, left.charges) == (happens(right), right.risk, right.charges)


@given(ARGUMENTS, st.lists(REDACTIONS, min_size=1, max_size=3), st.lists(REDACTIONS, min_size=1, max_size=3))
def test_what_the_first_redacts_is_redacted_whatever_the_second_changes(
    arguments: dict[str, object], some: list[Redaction], more: list[Redaction]
) -> None:
    """Were both one plan, the second could break a text up before the first looks for its pattern in it."""
    base = Verdict(effect=Effect.SANITIZE, redactions=tuple(some))
    united = strictest(base, Verdict(effect=Effect.SANITIZE, redactions=tuple(more)))
    mine = [each for each in united.redactions if each.stage == 0]
    rest = [each for each in united.redactions if each.stage]
    assert mine == some
    assert carried_out(arguments, united.redactions) == carried_out(carried_out(arguments, mine), rest)
