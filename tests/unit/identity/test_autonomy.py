"""What the registry lets an agent do: tables of what passes and what does not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz.identity import autonomy
from authz.model import AgentFacts, Autonomy, Effect, Kind, Lifecycle, Mode, Redaction, Risk, Verdict
from tests.fakes import CALL, TOOL
from tests.identity_fakes import reason_of

FACTS: Final = AgentFacts(lifecycle=Lifecycle.ACTIVE, autonomy=Autonomy.AUTONOMOUS, owner="ann")
ALLOW, DENY, SANITIZE, APPROVAL = Effect.ALLOW, Effect.DENY, Effect.SANITIZE, Effect.APPROVAL_NEEDED
CHANGES: Final = (Risk.WRITE, Risk.DESTRUCTIVE)


def verdict(effect: Effect = ALLOW, risk: Risk = Risk.READ, mode: Mode = Mode.BLOCK) -> Verdict:
    plan = (Redaction(path="/a", replacement="x"),) if effect is SANITIZE else ()
    return Verdict(effect=effect, risk=risk, mode=mode, redactions=plan, reason="said", message="as policy says")


def admitted(facts: AgentFacts, **changes: Any) -> str:
    call = replace(CALL, **changes)
    reason = reason_of(lambda: autonomy.admit(facts, call))
    return reason.code if reason else ""


@pytest.mark.parametrize(
    ("lifecycle", "code"),
    [(Lifecycle.ACTIVE, ""), (Lifecycle.PAUSED, "AGENT_PAUSED"), (Lifecycle.RETIRED, "AGENT_RETIRED")],
)
@pytest.mark.parametrize("kind", list(Kind))
def test_only_an_active_agent_says_anything_at_all(lifecycle: Lifecycle, code: str, kind: Kind) -> None:
    assert admitted(replace(FACTS, lifecycle=lifecycle), kind=kind) == code


@pytest.mark.parametrize(
    ("ceiling", "passes"),
    [
        (None, True),
        ((), False),
        (("default/read_document",), True),
        (("default/other", "default/read_document"), True),
        (("default/*",), True),
        (("default/read_*",), True),
        (("default/read_document*",), True),
        (("default/read",), False),
        (("default/read_documents*",), False),
        (("default/Read_Document",), False),
        (("other/read_document",), False),
        (("defaul*",), False),
        (("*",), False),
        (("*/read_document",), False),
        (("default",), False),
        (("default/",), False),
        (("",), False),
        ((" default/read_document",), False),
        (("default/re\N{CYRILLIC SMALL LETTER A}d_document",), False),
    ],
)
def test_e10_a_ceiling_includes_exactly_what_it_names(ceiling: tuple[str, ...] | None, *, passes: bool) -> None:
    assert admitted(replace(FACTS, tools_ceiling=ceiling)) == ("" if passes else "TOOL_CEILING")


@given(server=st.text(min_size=1), name=st.text(min_size=1))
def test_e10_no_servers_name_reaches_into_another(server: str, name: str) -> None:
    tool = replace(TOOL, server=server, name=name)
    assert autonomy.is_under((f"{server}/{name}",), tool) is ("/" not in server)
    assert not autonomy.is_under((f"{server}x/{name}", f"x{server}/{name}", f"{server}"), tool)


@pytest.mark.parametrize("kind", [Kind.HANDSHAKE, Kind.RESPONSE, Kind.LIST])
def test_a_ceiling_is_about_calls(kind: Kind) -> None:
    assert admitted(replace(FACTS, tools_ceiling=()), kind=kind) == ""


def test_a_call_that_names_nothing_is_under_any_ceiling() -> None:
    assert admitted(replace(FACTS, tools_ceiling=()), tool=replace(TOOL, name="", method="stream/open")) == ""


@pytest.mark.parametrize("paused", [True, False])
@pytest.mark.parametrize("capabilities", [(), ("memory_write",), ("mail", "memory_write"), ("memory_writes",)])
def test_paused_memory_writes_stop_the_tools_that_write_memory(*, paused: bool, capabilities: tuple[str, ...]) -> None:
    facts = replace(FACTS, memory_writes_paused=paused)
    stopped = paused and "memory_write" in capabilities
    assert admitted(facts, tool=replace(TOOL, capabilities=capabilities)) == ("MEMORY_WRITES_PAUSED" if stopped else "")


def narrowed(level: Autonomy, said: Verdict, *, approved: bool = False) -> tuple[Effect, str, Mode] | str:
    facts = replace(FACTS, autonomy=level)
    if reason := reason_of(lambda: autonomy.narrowed(facts, said, approved=approved)):
        return reason.code
    made = autonomy.narrowed(facts, said, approved=approved)
    return made.effect, made.reason, made.mode


def as_said(said: Verdict) -> tuple[Effect, str, Mode]:
    return said.effect, said.reason, said.mode


@pytest.mark.parametrize("level", list(Autonomy))
@pytest.mark.parametrize("effect", list(Effect))
@pytest.mark.parametrize("mode", list(Mode))
def test_what_only_reads_is_the_policys_alone(level: Autonomy, effect: Effect, mode: Mode) -> None:
    said = verdict(effect, Risk.READ, mode)
    assert narrowed(level, said) == as_said(said)


@pytest.mark.parametrize("level", [Autonomy.ACT_WITHIN_LIMITS, Autonomy.AUTONOMOUS])
@pytest.mark.parametrize("effect", list(Effect))
@pytest.mark.parametrize("risk", list(Risk))
def test_who_may_act_alone_is_not_narrowed(level: Autonomy, effect: Effect, risk: Risk) -> None:
    said = verdict(effect, risk)
    assert narrowed(level, said) == as_said(said)


@pytest.mark.parametrize("level", list(Autonomy))
@pytest.mark.parametrize("risk", list(Risk))
def test_a_policys_refusal_keeps_its_words(level: Autonomy, risk: Risk) -> None:
    said = verdict(DENY, risk)
    assert narrowed(level, said) == as_said(said)


@pytest.mark.parametrize("risk", CHANGES)
@pytest.mark.parametrize(
    ("effect", "mode"),
    [(ALLOW, Mode.BLOCK), (SANITIZE, Mode.BLOCK), (APPROVAL, Mode.BLOCK), *((effect, Mode.FLAG) for effect in Effect)],
)
@pytest.mark.parametrize("approved", [True, False])
def test_an_observer_changes_nothing_whoever_approves(
    risk: Risk, effect: Effect, mode: Mode, *, approved: bool
) -> None:
    assert narrowed(Autonomy.OBSERVE, verdict(effect, risk, mode), approved=approved) == "AUTONOMY_EXCEEDED"


@pytest.mark.parametrize("risk", CHANGES)
@pytest.mark.parametrize(
    ("effect", "mode"), [(ALLOW, Mode.BLOCK), (SANITIZE, Mode.BLOCK), *((effect, Mode.FLAG) for effect in Effect)]
)
def test_what_would_change_something_waits_for_a_person(risk: Risk, effect: Effect, mode: Mode) -> None:
    said = verdict(effect, risk, mode)
    assert narrowed(Autonomy.ACT_WITH_APPROVAL, said) == (APPROVAL, "AUTONOMY_APPROVAL", Mode.BLOCK)
    assert narrowed(Autonomy.ACT_WITH_APPROVAL, said, approved=True) == as_said(said)


def test_an_approval_that_the_policy_asks_for_keeps_its_approvers() -> None:
    said = verdict(APPROVAL, Risk.WRITE)
    assert narrowed(Autonomy.ACT_WITH_APPROVAL, said) == as_said(said)


def test_an_unstated_risk_is_the_worst() -> None:
    assert narrowed(Autonomy.OBSERVE, Verdict(effect=ALLOW)) == "AUTONOMY_EXCEEDED"
