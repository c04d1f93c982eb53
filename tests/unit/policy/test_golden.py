"""The golden deny set: only an explicit denial that blocks counts as one (F11)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson
import pytest

from authz.errors import BundleError, PolicyError
from authz.model import Effect, Mode, Verdict
from authz.policy.golden import MAX_CASES, MAX_TOLD, check_golden, golden_inputs
from authz.reasons import POLICY_ERROR, POLICY_TIMEOUT, POLICY_UNDEFINED

if TYPE_CHECKING:
    from collections.abc import Callable

SET = b'[{"agent": {"id": "mallory"}}, {"tool": {"name": "drop"}}]'


def judge(*answers: Verdict | PolicyError) -> Callable[[bytes], Verdict]:
    told = iter(answers)

    def answer(_: bytes) -> Verdict:
        said = next(told)
        if isinstance(said, PolicyError):
            raise said
        return said

    return answer


DENY = Verdict(effect=Effect.DENY)


def test_a_set_that_is_denied_holds() -> None:
    check_golden(SET, judge(DENY, DENY))


@pytest.mark.parametrize(
    "said",
    [
        Verdict(effect=Effect.ALLOW),
        Verdict(effect=Effect.SANITIZE),
        Verdict(effect=Effect.APPROVAL_NEEDED),
        Verdict(effect=Effect.DENY, mode=Mode.FLAG),
        PolicyError(POLICY_UNDEFINED),
        PolicyError(POLICY_ERROR),
    ],
    ids=["allow", "sanitize", "approval", "flag", "undefined", "error"],
)
def test_f11_anything_but_a_denial_that_blocks_fails_the_set(said: Verdict | PolicyError) -> None:
    with pytest.raises(BundleError) as refused:
        check_golden(SET, judge(DENY, said))
    assert refused.value.code == "BUNDLE_GOLDEN"
    assert refused.value.problems[0].startswith("case 1: ")


def test_a_case_that_was_not_judged_in_time_is_told_apart() -> None:
    with pytest.raises(BundleError, match="BUNDLE_TIMEOUT"):
        check_golden(SET, judge(DENY, PolicyError(POLICY_TIMEOUT)))


def test_a_set_of_failures_is_not_judged_to_its_end() -> None:
    with pytest.raises(BundleError) as refused:
        check_golden(orjson.dumps([{}] * MAX_CASES), judge(*[Verdict(effect=Effect.ALLOW)] * MAX_TOLD))
    assert len(refused.value.problems) == MAX_TOLD


def test_the_engine_is_asked_about_the_inputs_as_they_stand() -> None:
    assert [orjson.loads(case) for case in golden_inputs(SET)] == orjson.loads(SET)


@pytest.mark.parametrize(
    "document", [b"", b"[]", b"{}", b"[1]", b'[{"a": 1, "a": 2}]', orjson.dumps([{}] * (MAX_CASES + 1))]
)
def test_f11_a_set_that_proves_nothing_is_refused(document: bytes) -> None:
    with pytest.raises(BundleError, match="BUNDLE_GOLDEN"):
        check_golden(document, judge())
