"""The golden deny set: inputs that every revision of a bundle must deny, judged before it answers anybody.

Decides what counts as denied: a verdict `deny` that blocks. An undefined decision, an error or a denial in flag mode is
none: a case that only fails to be judged would prove nothing (F11). Must never let an empty or unreadable set pass for
one that held. Trusts the caller to have verified the set with the bundle that it came in.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import jiter
import orjson

from authz.errors import BundleError, PolicyError
from authz.model import Effect, Mode
from authz.reasons import POLICY_TIMEOUT

if TYPE_CHECKING:
    from collections.abc import Callable

    from authz.model import Verdict

MAX_CASES: Final = 1000
MAX_TOLD: Final = 10


def golden_inputs(document: bytes) -> list[bytes]:
    """The inputs of `golden/deny.json`, a list of policy inputs, each as the engine reads it.

    Raises:
        BundleError: BUNDLE_GOLDEN when it is not such a list.
    """
    try:
        cases: Any = jiter.from_json(document, allow_inf_nan=False, cache_mode="none", catch_duplicate_keys=True)
    except ValueError:
        cases = None
    if not isinstance(cases, list) or not cases or not all(isinstance(case, dict) for case in cases):
        raise BundleError("golden/deny.json is not a list of inputs", code="BUNDLE_GOLDEN")
    if len(cases) > MAX_CASES:
        raise BundleError(f"golden/deny.json has over {MAX_CASES} inputs", code="BUNDLE_GOLDEN")
    return [orjson.dumps(case) for case in cases]


def check_golden(document: bytes, judge: Callable[[bytes], Verdict]) -> None:
    """Ask a candidate about its golden inputs.

    Args:
        document: `golden/deny.json`.
        judge: the candidate's verdict on one input.

    Raises:
        BundleError: BUNDLE_GOLDEN, naming the first cases by their positions from 0; BUNDLE_TIMEOUT when one was not
            judged in time, which may be the machine's fault.
    """
    said = ((number, _not_denied(case, judge)) for number, case in enumerate(golden_inputs(document)))
    passed = [*islice((f"case {number}: {how}" for number, how in said if how), MAX_TOLD)]
    if passed:
        raise BundleError("golden inputs are not denied", code="BUNDLE_GOLDEN", problems=passed)


def _not_denied(case: bytes, judge: Callable[[bytes], Verdict]) -> str:
    try:
        verdict = judge(case)
    except PolicyError as error:
        if error.reason is POLICY_TIMEOUT:
            raise BundleError("a golden input was not judged in time", code="BUNDLE_TIMEOUT") from error
        return error.reason.code
    if verdict.effect is Effect.DENY and verdict.mode is Mode.BLOCK:
        return ""
    return f"{verdict.effect} in mode {verdict.mode}"
