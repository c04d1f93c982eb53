"""Whose an MCP session is, in the decision (C21)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from authz.model import Check, Kind, Status
from tests.desk import EVENTS, Desk, only, refused, shown
from tests.fakes import CALL, PRINCIPAL, Bench, FakeClaim

if TYPE_CHECKING:
    from authz.model import Decision, Principal

THIEF = replace(PRINCIPAL, agent="thief", subject="thief")
BEHIND_EXT_PROC = Check(context={"authz.ext_proc": "true"})
INITIALIZE = replace(CALL, kind=Kind.HANDSHAKE, tool=replace(CALL.tool, name="", method="initialize"))


def use(bench: Bench, who: Principal, session: str = "s") -> Decision:
    bench.front.who = who
    bench.front.what = replace(CALL, mcp_session=session)
    return bench.pdp().decide(Check(), FakeClaim(), lambda *_: b"").decision


def test_c21_another_callers_session_is_refused_before_policy() -> None:
    bench = Bench()
    assert use(bench, PRINCIPAL).forwards
    asked = len(bench.policies.query.asked)
    decision = use(bench, THIEF)
    assert (decision.reason, decision.http_status, decision.status) == ("SESSION_OWNER", 403, Status.UNAUTHENTICATED)
    assert len(bench.policies.query.asked) == asked
    assert use(bench, PRINCIPAL).forwards


def test_c21_a_call_that_is_denied_takes_no_session() -> None:
    bench = Bench()
    bench.policies.query.answer = {"effect": "deny"}
    use(bench, THIEF)
    bench.policies.query.answer = {"effect": "allow", "reason": "granted"}
    assert use(bench, PRINCIPAL).forwards


def test_c21_of_two_first_calls_at_once_one_runs() -> None:
    bench = Bench()
    bench.policies.query.during = lambda: bench.sessions.take(PRINCIPAL, "default", "s")
    assert use(bench, THIEF).reason == "SESSION_OWNER"


def test_callers_without_sessions_share_nothing() -> None:
    bench = Bench()
    assert use(bench, PRINCIPAL, "").forwards
    assert use(bench, THIEF, "").forwards
    assert len(bench.sessions) == 0


@pytest.mark.parametrize("check", [Check(), BEHIND_EXT_PROC])
def test_what_initialize_answers_is_looked_at_where_ext_proc_can(check: Check) -> None:
    bench = Bench()
    bench.front.what = INITIALIZE
    decision = bench.pdp().decide(check, FakeClaim(), lambda *_: b"").decision
    assert decision.opens_session is (check is BEHIND_EXT_PROC)


def opening() -> Desk:
    desk = Desk(kind=Kind.LIST)
    desk.watch()
    desk.decided |= {"inspect_response": True, "opens_session": True}
    return desk


def test_c21_a_session_is_its_callers_from_the_answer_that_names_it() -> None:
    desk = opening()
    stream = desk.open("duplex")
    headers = {":status": "200", "content-type": "application/json", "mcp-session-id": "s"}
    assert only(stream.message(desk.headers("response_headers", headers))).HasField("response_headers")
    body = stream.message(desk.message("response_body", {"body": b'{"jsonrpc":"2.0"}', "end_of_stream": True}))
    assert shown(body) == b'{"jsonrpc":"2.0"}'
    assert use(desk.bench, THIEF).reason == "SESSION_OWNER"
    assert use(desk.bench, PRINCIPAL).forwards


def test_c21_an_answer_that_names_another_callers_session_is_refused() -> None:
    desk = opening()
    desk.bench.sessions.take(THIEF, "default", "s")
    outcome = desk.open("duplex").message(desk.headers("response_headers", {**EVENTS, "mcp-session-id": "s"}))
    assert refused(outcome) == (403, "SESSION_OWNER")


def test_an_answer_without_a_session_opens_none() -> None:
    desk = opening()
    assert only(desk.open("duplex").message(desk.headers("response_headers", EVENTS))).HasField("response_headers")
    assert len(desk.bench.sessions) == 0
