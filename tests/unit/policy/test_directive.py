"""What sidecars take for a rollout's directive, and what they do not."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from authz.errors import BundleError
from authz.policy import directive, findings
from authz.policy.directive import DOMAIN, Directive, Mode, Statement
from authz.policy.findings import KINDS, MAX_NAMES, NOTHING, OTHERS, Example, Findings
from authz.policy.gates import Answers, Pairs, Window

KEY = Ed25519PrivateKey.from_private_bytes(b"\1" * 32)
STRANGER = Ed25519PrivateKey.from_private_bytes(b"\2" * 32)
KEYS = {"kid": KEY.public_key()}
CANARY = Directive(
    rollout="rollout-1",
    scope="acme",
    version=7,
    mode=Mode.CANARY,
    baseline="a" * 64,
    candidate="b" * 64,
    share=0.2,
    salt="salt",
    wave="canary-1",
    since_ns=5,
    guarded=True,
)


def test_what_was_signed_is_read_as_it_was() -> None:
    for each in (
        CANARY,
        replace(CANARY, mode=Mode.STRICTER),
        replace(CANARY, mode=Mode.BASELINE, baseline="", candidate="", share=0.0),
    ):
        assert directive.read(directive.sign(each, KEY, "kid"), "acme", KEYS) == each
    assert directive.claimed_scope(directive.sign(CANARY, KEY, "kid")) == "acme"


def test_a_directive_of_another_key_scope_or_purpose_is_refused() -> None:
    signed = directive.sign(CANARY, KEY, "kid")
    of_a_kill = replace(signed, signature=KEY.sign(b"authz-kills-v1\0" + signed.body))
    for statement, scope in (
        (directive.sign(CANARY, STRANGER, "kid"), "acme"),
        (replace(signed, kid="other"), "acme"),
        (replace(signed, body=signed.body.replace(b"0.2", b"0.9")), "acme"),
        (signed, "rival"),
        (of_a_kill, "acme"),
    ):
        with pytest.raises(BundleError, match="refused"):
            directive.read(statement, scope, KEYS)


@pytest.mark.parametrize(
    "change",
    [
        {"v": 2},
        {"type": "batch"},
        {"mode": "everything"},
        {"share": 1},
        {"share": 1.5},
        {"share": float("nan")},
        {"version": 0},
        {"version": True},
        {"baseline": "../../etc/passwd"},
        {"candidate": ""},
        {"candidate": "B" * 64},
        {"rollout": "a b"},
        {"guarded": "yes"},
        {"more": 1},
        {"salt": None},
        {"salt": "x" * 5000},
    ],
)
def test_a_signed_directive_that_is_not_one_whole_is_refused_whole(change: dict[str, Any]) -> None:
    body = orjson.dumps(orjson.loads(directive.sign(CANARY, KEY, "kid").body) | change)
    signed = Statement(body=body, signature=KEY.sign(DOMAIN + body), kid="kid")
    with pytest.raises(BundleError, match="refused"):
        directive.read(signed, "acme", KEYS)


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_or_a_directive(body: bytes) -> None:
    with pytest.raises(BundleError):
        directive.read(Statement(body=body, signature=KEY.sign(DOMAIN + body), kid="kid"), "acme", KEYS)


def test_an_older_directive_or_the_same_again_takes_nobodys_place() -> None:
    assert directive.follows(CANARY, None)
    assert directive.follows(replace(CANARY, version=8), CANARY)
    assert not directive.follows(CANARY, CANARY)
    assert not directive.follows(replace(CANARY, version=6), CANARY)


COUNTS = st.integers(0, 1000)
FOUND = st.builds(
    Findings,
    window=st.builds(
        Window,
        baseline=st.builds(Answers, calls=COUNTS, errors=COUNTS),
        candidate=st.builds(Answers, denied=COUNTS),
        pairs=st.builds(Pairs, compared=COUNTS, would_allow=COUNTS, shed=COUNTS),
    ),
    rankings=st.fixed_dictionaries({kind: st.dictionaries(st.text(max_size=5), COUNTS, max_size=4) for kind in KINDS}),
    examples=st.lists(
        st.builds(
            Example,
            decision_id=st.text(max_size=9),
            agent=st.text(max_size=9),
            tool=st.just("t"),
            baseline=st.just("allow"),
            candidate=st.just("deny"),
            rules=st.just(("r",)),
        ),
        max_size=5,
    ).map(tuple),
)


@given(FOUND)
def test_findings_are_read_as_they_were_written(found: Findings) -> None:
    assert findings.decode(findings.encode(found)) == found


@given(st.lists(FOUND, max_size=4))
def test_findings_add_up_in_any_grouping(found: list[Findings]) -> None:
    whole = findings.together(found)
    halves = findings.together([findings.together(found[:2]), findings.together(found[2:])])
    assert whole.window == halves.window
    assert {kind: +_counter(ranking) for kind, ranking in whole.rankings.items()} == {
        kind: +_counter(ranking) for kind, ranking in halves.rankings.items()
    }


def _counter(ranking: Any) -> Any:
    return Counter(ranking)


@given(st.binary(max_size=200))
def test_any_bytes_are_findings_or_refused(document: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        findings.decode(document)


def test_rankings_do_not_grow_with_what_callers_send() -> None:
    many = Findings(window=Window(), rankings={"tool": {f"tool-{n}": 2 for n in range(300)}})
    ranked = findings.together([many, many]).rankings["tool"]
    assert len(ranked) == MAX_NAMES + 1
    assert (sum(ranked.values()), ranked[OTHERS]) == (1200, 1200 - 4 * MAX_NAMES)
    together = findings.together([many])
    assert findings.decode(findings.encode(together)) == together
    assert findings.together([]).window == NOTHING.window


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("window", "pairs", "compared"), -1),
        (("window", "pairs", "compared"), 1.0),
        (("window", "pairs", "compared"), 2**60),
        (("window", "baseline", "latency"), [1]),
        (("window", "baseline", "more"), 1),
        (("rankings",), []),
        (("rankings",), {"tool": {"x" * 300: 1}}),
        (("examples",), [{"decision_id": 1}]),
        (("examples",), [{}] * 6),
    ],
)
def test_findings_out_of_shape_are_refused(path: tuple[str, ...], value: Any) -> None:
    told = orjson.loads(findings.encode(findings.together([])))
    inner = told
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = value
    with pytest.raises(ValueError, match=r"."):
        findings.decode(orjson.dumps(told))
