"""Replaying records through two policies: what flips, what is the same, and what nobody can tell (P6)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz.audit.masking import Masker
from authz.authoring.disagreement import Disagreement
from authz.authoring.replay import (
    Passed,
    Sameness,
    Side,
    UnreadableError,
    compare,
    read_record,
    replay,
)
from authz.authoring.replay_page import page
from authz.native import Library
from authz.policy import agent_contract
from authz.policy.engine import PolicySource
from authz.policy.opa_native import NativeEngine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from authz.policy.opa_native import NativePolicy

    Open = Callable[[str], Side]

CAREFUL = """
default decision := {"effect": "deny", "reason": "not_granted"}

decision := {"effect": "allow", "reason": "granted", "rules": ["small"], "risk": "write"} if input.args.amount <= 100
"""
GENEROUS = CAREFUL.replace("<= 100", "<= 1000").replace('"small"', '"large"')
IBAN = "DE89370400440532013000"


@pytest.fixture
def open_policy(tmp_path: Path) -> Iterator[Open]:
    opened: list[NativePolicy] = []

    def one(rules: str) -> Side:
        file = tmp_path / f"{len(opened)}.rego"
        file.write_text(f"package authz\n{rules}")
        opened.append(NativeEngine(Library.load()).open(PolicySource(paths=(file,))))
        return Side(opened[-1].query("authz/decision"), agent_contract.interpret)

    yield one
    for policy in opened:
        policy.close()


def line(number: int = 0, **fields: Any) -> bytes:
    asked = {"agent": {"id": "a"}, "args": {"amount": 5}} | fields.pop("input", {})
    record = {"decision_id": f"d{number}", "tenant": "t", "agent": "a", "tool": {"server": "s", "name": "pay"}}
    return orjson.dumps({**record, "input": asked, **fields})


def pay(amount: int, number: int = 0) -> bytes:
    return line(number, input={"args": {"amount": amount}})


def compared(before: Side, after: Side, text: bytes) -> Sameness:
    recorded = read_record(text)
    assert recorded
    return compare(before, after, recorded).sameness


def test_a_call_that_would_run_now_is_a_flip_that_loosens(open_policy: Open) -> None:
    found, passed = Disagreement(), Passed()
    for one in replay(
        open_policy(CAREFUL), open_policy(GENEROUS), [pay(50), pay(500, 1), pay(5000)], passed, threads=2
    ):
        found.add(one)
    report = found.document()
    assert (report["total"], report["same"], report["flip"]) == (3, 2, 1)
    assert (report["loosened"], report["tightened"]) == (1, 0)
    assert report["transitions"] == [{"before": "deny", "after": "allow", "calls": 1}]
    assert report["groups"]["rule"] == [{"before": "deny", "after": "allow", "rule": "large", "calls": 1}]
    assert report["groups"]["agent"][0]["agent"] == "t/a"
    assert report["groups"]["tool"][0]["tool"] == "s/pay"
    assert [example["decision_id"] for example in report["examples"]] == ["d1"]


def test_a_call_that_would_be_stopped_now_is_a_flip_that_tightens(open_policy: Open) -> None:
    recorded = read_record(pay(500))
    assert recorded
    one = compare(open_policy(GENEROUS), open_policy(CAREFUL), recorded)
    assert (one.sameness, one.tightens, one.loosens) == (Sameness.FLIP, True, False)


def test_what_is_only_flagged_differs_from_what_is_stopped(open_policy: Open) -> None:
    stops = 'decision := {"effect": "deny", "reason": "r"}'
    flags = 'decision := {"effect": "deny", "reason": "r", "mode": "flag"}'
    recorded = read_record(pay(1))
    assert recorded
    one = compare(open_policy(stops), open_policy(flags), recorded)
    assert (one.sameness, one.loosens) == (Sameness.FLIP, True)


def test_another_redaction_is_another_duty_and_no_flip(open_policy: Open) -> None:
    sanitize = '{"effect": "sanitize", "reason": "r", "redactions": [{"path": "/note", "replacement": "%s"}]}'
    before, after = (open_policy(f"decision := {sanitize % text}") for text in ("x", "y"))
    assert compared(before, after, pay(1)) is Sameness.DUTY
    assert compared(before, before, pay(1)) is Sameness.SAME


def test_a_policy_that_fails_is_a_denial_with_our_reason(open_policy: Open) -> None:
    recorded = read_record(pay(50))
    assert recorded
    one = compare(open_policy(CAREFUL), open_policy("decision := 7"), recorded)
    assert one.sameness is Sameness.FLIP
    assert one.after
    assert one.after.reason == "POLICY_TYPE"


def test_what_a_rule_reads_and_the_record_masks_is_undecidable(open_policy: Open) -> None:
    reads = open_policy(
        CAREFUL + f'\nreads if input.args.iban == "{IBAN}"\n' + GENEROUS[GENEROUS.index("decision := ") :]
    )
    blind = open_policy(CAREFUL)
    asks = open_policy(
        f'default decision := {{"effect": "deny", "reason": "n"}}\n'
        f'decision := {{"effect": "allow", "reason": "g"}} if input.args.iban == "{IBAN}"'
    )
    masked = line(input={"args": {"amount": 5, "iban": "[MASKED:iban:x]"}}, masked=["/input/args/iban", "/reason"])
    assert compared(blind, asks, masked) is Sameness.UNDECIDABLE
    assert compared(blind, reads, masked) is not Sameness.UNDECIDABLE, "no rule of the decision reads it"
    found = Disagreement()
    recorded = read_record(masked)
    assert recorded
    found.add(compare(blind, asks, recorded))
    assert found.document()["undecidable_by_place"] == {"args.iban": 1}


@pytest.mark.parametrize(
    ("lost", "why"),
    [
        ({"masked": ["/input/args/[MASKED:iban:x]"]}, "a masked name may be the one that a rule asks for"),
        ({"erased": ["/input/args/iban"]}, "OPA's decision logs erase"),
        ({"masked": ["/input"]}, "an input that could not be walked"),
    ],
)
def test_what_is_gone_altogether_is_undecidable_too(open_policy: Open, lost: dict[str, Any], why: str) -> None:
    asks = open_policy('default decision := {"effect": "deny", "reason": "n"}\ndecision := 1 if input.args.iban')
    assert compared(asks, asks, line(**lost)) is Sameness.UNDECIDABLE, why


RULES = (
    (
        'default decision := {"effect": "deny", "reason": "n"}\n'
        'decision := {"effect": "allow", "reason": "g"} if {input.args.a == "x"; input.args.amount > 3}\n'
    ),
    (
        'default decision := {"effect": "deny", "reason": "n"}\n'
        'decision := {"effect": "allow", "reason": "g"} if {some word in input.args.list; startswith(word, "x")}\n'
    ),
    (
        'decision := {"effect": "deny", "reason": "n"} if input.args.amount > 3\n'
        'else := {"effect": "allow", "reason": input.args.a}\n'
    ),
    (
        '_hits contains word if {walk(input.args, [_, word]); word == "x"}\n'
        'decision := {"effect": "allow", "reason": sprintf("%d", [count(_hits)])}\n'
    ),
    (
        '_small(args, name) if args[name] < 4\n_named("x") := 1\n_named("y") := 2\n'
        'decision := {"effect": "allow", "reason": "g"} if _small(input.args, "amount")\n'
        'else := {"effect": "deny", "reason": sprintf("%d", [_named(input.args.a)])}\n'
    ),
    (
        "_a := input.args.a\n_words contains word if some word in input.args.list\n"
        'decision := {"effect": "deny", "reason": "a"} if {input.args.amount > 3; _a == "x"}\n'
        'else := {"effect": "deny", "reason": "b"} if {input.args.amount > 2; "y" in _words}\n'
        'else := {"effect": "allow", "reason": "c"} if _a\n'
    ),
)


@pytest.mark.parametrize("rules", RULES)
def test_g8_what_is_decided_without_a_value_is_decided_alike_with_every_value(open_policy: Open, rules: str) -> None:
    side = open_policy(rules)
    words = st.sampled_from(["x", "xy", "y", ""])

    @given(st.integers(0, 6), words, st.lists(words, max_size=3), st.sampled_from(["a", "list", "list/0"]), words)
    def holds(amount: int, a: str, items: list[str], place: str, other: str) -> None:
        args: dict[str, Any] = {"amount": amount, "a": a, "list": items}
        recorded = read_record(line(input={"args": args}, masked=[f"/input/args/{place}"]))
        assert recorded
        answer = side.answer(recorded)
        if answer is None:
            return
        match place:
            case "a":
                args["a"] = other
            case "list":
                args["list"] = [other]
            case _ if items:
                items[0] = other
        true = read_record(line(input={"args": args}))
        assert true
        assert side.answer(true) == answer

    holds()


def test_what_our_masker_masks_is_what_a_replay_does_not_know() -> None:
    masked, pointers = Masker(key=bytes(32)).mask(line(input={"args": {"to": IBAN, IBAN: 1, "n": 1}}))
    record = orjson.loads(masked) | {"masked": pointers}
    recorded = read_record(orjson.dumps(record))
    assert recorded
    assert set(recorded.unknown) == {("args", "to"), ("args",)}


def test_lines_that_are_no_question_are_counted_by_why(open_policy: Open) -> None:
    side, passed = open_policy(CAREFUL), Passed()
    lines = [b"{", b"[]", b'{"a":1}', b'{"decision_id":"d","masked":7,"input":{}}', b'{"decision_id":"d"}', pay(1)]
    lines[3] = line(masked=["no pointer"])
    assert len(list(replay(side, side, lines, passed, threads=1))) == 1
    assert (passed.unreadable, passed.without_input) == (4, 1)


@given(st.binary(max_size=60) | st.recursive(st.none() | st.text() | st.floats(), st.lists).map(orjson.dumps))
def test_any_line_is_a_record_or_refused(text: bytes) -> None:
    try:
        read_record(text)
    except UnreadableError:
        return


def test_the_order_of_the_records_is_kept_over_threads(open_policy: Open) -> None:
    side = open_policy(CAREFUL)
    lines = [pay(number, number) for number in range(500)]
    ids = [one.recorded.id for one in replay(side, side, lines, Passed(), threads=4)]
    assert ids == [f"d{number}" for number in range(500)]


def test_j12_a_page_shows_what_a_caller_wrote_as_text_alone(open_policy: Open) -> None:
    evil = '<script>alert(1)</script>"><img src=x>'
    found = Disagreement()
    recorded = read_record(line(tenant=evil, agent=evil, tool={"server": evil, "name": evil}, input={"x": evil}))
    assert recorded
    rule = f'decision := {{"effect": "deny", "reason": {orjson.dumps(evil).decode()}}}'
    found.add(compare(open_policy(CAREFUL), open_policy(rule), recorded))
    told = page({"before": evil, "after": "b", **found.document(), "unreadable": 0, "without_input": 0})
    assert "<script" not in told
    assert "<img" not in told
    assert "default-src 'none'" in told
    assert not re.search(r"(?:src|href)\s*=", re.sub(r"&lt;.*?&gt;", "", told))
