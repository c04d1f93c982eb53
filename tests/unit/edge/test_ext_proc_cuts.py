"""A kill reaches answers that are under way (E12): judged ones at their next message, all of them when they are cut."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import orjson
import pytest

from authz.edge import watched
from authz.edge.ext_proc import NOTHING
from authz.errors import UnavailableError
from authz.model import AgentFacts, Autonomy, Check, Effect, Kind, Lifecycle, Phase, Principal, Status
from authz.reasons import KILL_STALE
from tests.desk import ALLOW, EVENTS, RESULT, Desk, headers_then_body, only, refused, sanitizing, shown
from tests.fakes import CALL, PRINCIPAL, Bench, FakeClaim

if TYPE_CHECKING:
    from authz.edge import ext_proc

EVENT = b"data: " + orjson.dumps(RESULT) + b"\n\n"
PROGRESS = b'data: {"jsonrpc":"2.0","method":"notifications/progress","params":{"progress":1}}\n\n'
PAUSED = AgentFacts(lifecycle=Lifecycle.PAUSED, autonomy=Autonomy.AUTONOMOUS, owner="ann")


def streaming(desk: Desk) -> ext_proc.Stream:
    """An event stream whose headers have passed."""
    stream = desk.open("duplex")
    assert only(stream.message(desk.headers("response_headers", EVENTS))).HasField("response_headers")
    return stream


def chunk(desk: Desk, body: bytes, *, is_last: bool = False) -> bytes:
    return desk.message("response_body", {"body": body, "end_of_stream": is_last})


def watching() -> Desk:
    desk = Desk(result=ALLOW)
    desk.watch()
    return desk


# --- answers that nobody judges


def test_what_nobody_judges_passes_as_it_comes() -> None:
    desk = watching()
    stream = streaming(desk)
    assert stream.message(chunk(desk, b"")) == NOTHING
    pieces = [stream.message(chunk(desk, piece)) for piece in (b"any", b" bytes \xff")]
    pieces.append(stream.message(chunk(desk, b"", is_last=True)))
    assert shown(*pieces) == b"any bytes \xff"
    assert not any(outcome.judged or outcome.end for outcome in pieces)


def test_trailers_of_what_nobody_judges_pass() -> None:
    desk = watching()
    stream = streaming(desk)
    answer = only(stream.message(desk.message("response_trailers", {"trailers": {"headers": [{"key": "a"}]}})))
    assert list(answer.response_trailers.header_mutation.remove_headers) == []


@pytest.mark.parametrize("side", ["request_headers", "response_trailers", "response_body"])
def test_b3_what_is_out_of_order_ends_a_watched_answer(side: str) -> None:
    desk = watching()
    assert refused(desk.open("duplex").message(desk.message(side)))[1] == "SYS_CALLER"


@pytest.mark.parametrize("text", ["", "{}", "[]", "nonsense", '{"principal": {}, "tool": {}}'])
def test_a_caller_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(UnavailableError):
        watched.read(text)
    desk = watching()
    desk.decided[watched.METADATA] = text
    assert refused(desk.open("duplex").message(desk.headers("response_headers", EVENTS)))[1] == "SYS_CALLER"


def test_a_caller_comes_back_as_it_was_written() -> None:
    principal = replace(PRINCIPAL, parents=("a", "b"), scopes=("x",), session="s")
    tool = replace(CALL.tool, capabilities=("memory_write",), connector="c")
    found = watched.read(watched.write(principal, tool, None))
    assert (found.principal, found.call.tool) == (principal, tool)
    assert isinstance(found.principal, Principal)


def test_e12_a_kill_while_the_tool_was_thinking_ends_a_watched_answer_at_its_headers() -> None:
    desk = watching()
    desk.bench.kills.kill(PRINCIPAL.agent)
    outcome = desk.open("duplex").message(desk.headers("response_headers", EVENTS))
    assert refused(outcome) == (403, "REVOKED")
    assert (desk.records[-1].reason, desk.records[-1].phase) == ("REVOKED", Phase.RESULT)


# --- cuts


@pytest.mark.parametrize("judged", [True, False])
def test_e12_an_answer_whose_call_was_killed_is_cut_once_and_on_record(*, judged: bool) -> None:
    desk = Desk(result=ALLOW) if judged else watching()
    stream = streaming(desk)
    assert stream.cut() == NOTHING
    desk.bench.kills.kill(PRINCIPAL.agent)
    before = len(desk.records)
    assert refused(stream.cut())[1] == "REVOKED"
    assert stream.cut() == NOTHING
    cut = desk.records[-1]
    assert (cut.reason, cut.status, cut.phase, cut.principal) == ("REVOKED", Status.REVOKED, Phase.RESULT, PRINCIPAL)
    assert len(desk.records) == before + 1


@pytest.mark.parametrize("judged", [True, False])
def test_e12_nothing_follows_a_cut_and_envoy_is_not_told_to_go_on_by_itself(*, judged: bool) -> None:
    desk = Desk(result=ALLOW) if judged else watching()
    stream = streaming(desk)
    desk.bench.kills.kill(PRINCIPAL.agent)
    assert stream.cut().end
    desk.bench.kills.agents.clear()
    assert stream.message(chunk(desk, EVENT)) == NOTHING


def test_e12_pausing_the_agent_cuts_as_well() -> None:
    desk = watching()
    stream = streaming(desk)
    desk.bench.kills.registry[PRINCIPAL.agent] = PAUSED
    assert refused(stream.cut())[1] == "AGENT_PAUSED"


def test_kills_too_old_to_tell_cut_nothing() -> None:
    desk = watching()
    stream = streaming(desk)
    desk.bench.kills.failure = UnavailableError(KILL_STALE)
    assert stream.cut() == NOTHING


def test_a_stream_that_has_said_nothing_yet_is_not_cut() -> None:
    desk = Desk(result=ALLOW)
    desk.bench.kills.kill(PRINCIPAL.agent)
    assert desk.open("duplex").cut() == NOTHING


def test_a_stream_that_is_judging_is_asked_again() -> None:
    desk = Desk(result=ALLOW)
    stream = streaming(desk)
    entered, leave = threading.Event(), threading.Event()

    def wait() -> None:
        entered.set()
        leave.wait(5)

    desk.bench.policies.query.during = wait
    judging = threading.Thread(target=stream.message, args=(chunk(desk, EVENT),))
    judging.start()
    assert entered.wait(5)
    try:
        with pytest.raises(TimeoutError):
            stream.cut()
    finally:
        leave.set()
        judging.join()


# --- later phases


def test_e12_a_result_is_not_shown_once_its_call_is_killed() -> None:
    desk = Desk(result=ALLOW)
    desk.bench.kills.kill(PRINCIPAL.agent)
    asked = len(desk.bench.policies.query.asked)
    outcomes = desk.respond(desk.open("duplex"), {**EVENTS, "content-type": "application/json"}, orjson.dumps(RESULT))
    assert refused(outcomes[-1])[1] == "REVOKED"
    assert len(desk.bench.policies.query.asked) == asked


def test_e12_a_list_is_not_shown_once_its_call_is_killed() -> None:
    desk = Desk(kind=Kind.LIST, read=ALLOW)
    desk.bench.kills.kill(PRINCIPAL.agent)
    tools = {"jsonrpc": "2.0", "id": 7, "result": {"tools": [{"name": "read"}]}}
    outcomes = desk.respond(desk.open("duplex"), {**EVENTS, "content-type": "application/json"}, orjson.dumps(tools))
    assert refused(outcomes[-1])[1] == "REVOKED"
    assert (desk.records[-1].reason, desk.records[-1].phase) == ("REVOKED", Phase.LIST)


def test_e12_a_request_whose_redaction_is_due_goes_nowhere_once_it_is_killed() -> None:
    desk = sanitizing()
    desk.bench.kills.kill(PRINCIPAL.agent)
    assert refused(headers_then_body(desk))[1] == "REVOKED"


def test_what_is_withheld_from_a_stream_is_on_record_all_the_same() -> None:
    """A number in the log that is taken and never used would hold up every record after it."""
    desk = Desk(result={"effect": "deny"})
    outcome = streaming(desk).message(chunk(desk, PROGRESS))
    assert outcome.answers == ()
    assert [answered.decision.effect for answered in outcome.judged] == [Effect.DENY]


# --- what asks for it


@pytest.mark.parametrize(("source", "is_watched"), [("none", False), ("https://control", True)])
def test_answers_are_watched_where_there_are_kills(source: str, *, is_watched: bool) -> None:
    bench = Bench()
    bench.kills.source = source
    check = Check(context={"authz.ext_proc": "true"})
    decision = bench.pdp().decide(check, FakeClaim(), lambda *_: b"").decision
    assert (decision.watch_response, decision.inspect_response) == (is_watched, False)
    assert not bench.pdp().decide(Check(), FakeClaim(), lambda *_: b"").decision.watch_response
    bench.policies.reads_results = True
    decision = bench.pdp().decide(check, FakeClaim(), lambda *_: b"").decision
    assert (decision.watch_response, decision.inspect_response) == (False, True)
