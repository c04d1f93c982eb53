"""What waits for a later phase is bounded, and a plan that nobody carries out is noticed."""

from __future__ import annotations

from dataclasses import replace

from authz.edge.exchanges import LIFETIME_NS, PLAN_NS, Exchanges
from authz.model import Check, Effect
from authz.pdp import Exchange
from tests.fakes import CALL, PRINCIPAL, Bench, FakeClaim, FakeClock

SECOND = 1_000_000_000


def exchange(decision_id: str, enforced: Effect = Effect.ALLOW, body: bytes = b"{}") -> Exchange:
    bench = Bench()
    decision = bench.pdp().decide(Check(), FakeClaim(), lambda *_: b"answer").decision
    return Exchange(
        check=Check(body=body),
        decision=replace(decision, id=decision_id, enforced=enforced),
        policy=bench.policies.active(),
        principal=PRINCIPAL,
        call=CALL,
    )


def planned(decision_id: str) -> Exchange:
    return exchange(decision_id, Effect.SANITIZE)


def test_an_exchange_is_found_by_its_decision_and_more_than_once() -> None:
    table = Exchanges(FakeClock())
    kept = exchange("d1")
    table.put(kept)
    assert table.find("d1") is table.find("d1") is kept
    assert table.find("d2") is None


def test_an_exchange_expires() -> None:
    clock = FakeClock()
    table = Exchanges(clock)
    table.put(exchange("d1"))
    clock.advance(LIFETIME_NS / SECOND)
    assert table.find("d1") is not None
    clock.advance(1)
    assert table.find("d1") is None


def test_the_oldest_goes_when_there_are_too_many() -> None:
    table = Exchanges(FakeClock(), max_exchanges=2)
    for decision_id in ("d1", "d2", "d3"):
        table.put(exchange(decision_id))
    assert [table.find(decision_id) is None for decision_id in ("d1", "d2", "d3")] == [True, False, False]


def test_the_oldest_goes_when_bodies_are_too_large() -> None:
    table = Exchanges(FakeClock(), max_bytes=100)
    table.put(exchange("d1", body=b"x" * 60))
    table.put(exchange("d2", body=b"x" * 60))
    table.put(exchange("d3", body=b"x" * 40))
    assert [table.find(decision_id) is None for decision_id in ("d1", "d2", "d3")] == [True, False, False]


def test_an_exchange_put_twice_is_counted_once() -> None:
    table = Exchanges(FakeClock(), max_bytes=100)
    for _ in range(3):
        table.put(exchange("d1", body=b"x" * 60))
    assert table.find("d1") is not None


def test_a_plan_is_taken_once() -> None:
    table = Exchanges(FakeClock())
    table.put(planned("d1"))
    assert table.take_plan("d1") is not None
    assert table.take_plan("d1") is None


def test_what_is_not_sanitized_has_no_plan() -> None:
    table = Exchanges(FakeClock())
    table.put(exchange("d1"))
    assert table.take_plan("d1") is None


def test_a_plan_that_nobody_takes_is_overdue_once_and_then_gone() -> None:
    clock = FakeClock()
    table = Exchanges(clock)
    table.put(planned("d1"))
    table.put(planned("d2"))
    assert table.take_plan("d2") is not None
    clock.advance(PLAN_NS / SECOND - 0.001)
    assert table.take_overdue() == []
    clock.advance(0.001)
    assert [late.decision.id for late in table.take_overdue()] == ["d1"]
    assert table.take_overdue() == []
    assert table.take_plan("d1") is None
