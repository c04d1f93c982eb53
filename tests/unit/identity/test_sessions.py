"""An MCP session is one caller's (C21)."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz.identity.sessions import Sessions
from authz.reasons import SESSION_OWNER
from tests.fakes import PRINCIPAL, FakeClock
from tests.identity_fakes import reason_of

if TYPE_CHECKING:
    from authz.model import Principal

DAY_S = 24 * 3600


def owned_by(sessions: Sessions, principal: Principal, session: str = "s", server: str = "default") -> bool:
    """Whether this caller may go on with the session."""
    reason = reason_of(lambda: sessions.require(principal, server, session))
    assert reason in (None, SESSION_OWNER)
    return reason is None


@pytest.mark.parametrize(
    "change", [{"issuer": "x"}, {"tenant": "x"}, {"subject": "x"}, {"agent": "x"}, {"client": "x"}]
)
def test_c21_a_session_is_of_one_issuer_tenant_subject_agent_and_client(change: dict[str, Any]) -> None:
    sessions = Sessions(FakeClock())
    sessions.take(PRINCIPAL, "default", "s")
    other = replace(PRINCIPAL, **change)
    assert not owned_by(sessions, other)
    assert reason_of(lambda: sessions.take(other, "default", "s")) is SESSION_OWNER
    assert owned_by(sessions, PRINCIPAL)


def test_a_renewed_token_with_other_scopes_is_the_same_caller() -> None:
    sessions = Sessions(FakeClock())
    sessions.take(PRINCIPAL, "default", "s")
    assert owned_by(sessions, replace(PRINCIPAL, jti_sha256="cd" * 32, scopes=("a",), session="x", expires_at=9.0))


def test_equal_ids_of_two_servers_are_two_sessions() -> None:
    sessions = Sessions(FakeClock())
    sessions.take(PRINCIPAL, "a", "bc")
    assert owned_by(sessions, other := replace(PRINCIPAL, agent="x"), "bc", "b")
    assert owned_by(sessions, other, "c", "ab")


@given(st.tuples(st.text(), st.text()), st.tuples(st.text(), st.text()))
def test_no_two_pairs_of_server_and_id_are_one(one: tuple[str, str], two: tuple[str, str]) -> None:
    sessions = Sessions(FakeClock())
    sessions.take(PRINCIPAL, *one)
    assert owned_by(sessions, replace(PRINCIPAL, agent="x"), two[1], two[0]) is (one != two)


def test_an_idle_session_is_forgotten_after_a_day_and_one_in_use_is_not() -> None:
    clock = FakeClock()
    sessions, other = Sessions(clock), replace(PRINCIPAL, agent="x")
    for name in ("idle", "used"):
        sessions.take(PRINCIPAL, "default", name)
    clock.advance(DAY_S)
    sessions.take(PRINCIPAL, "default", "used")
    clock.advance(1)
    assert owned_by(sessions, other, "idle")
    assert not owned_by(sessions, other, "used")
    sessions.take(PRINCIPAL, "default", "new")
    assert len(sessions) == 2


def test_c21_who_opens_many_sessions_loses_their_own_and_nobody_elses() -> None:
    sessions = Sessions(FakeClock(), max_per_owner=2)
    flooding = replace(PRINCIPAL, agent="x")
    sessions.take(PRINCIPAL, "default", "s")
    for serial in range(50):
        sessions.take(flooding, "default", str(serial))
    assert len(sessions) == 3
    assert not owned_by(sessions, flooding, "s")
    assert owned_by(sessions, PRINCIPAL, "0")
    assert not owned_by(sessions, PRINCIPAL, "49")


def test_the_table_is_bounded() -> None:
    sessions = Sessions(FakeClock(), max_sessions=10)
    for serial in range(50):
        sessions.take(replace(PRINCIPAL, agent=str(serial)), "default", str(serial))
    assert len(sessions) == 10


def test_c21_of_many_callers_at_once_one_takes_a_session() -> None:
    sessions = Sessions(FakeClock())

    def take(serial: int) -> bool:
        return reason_of(lambda: sessions.take(replace(PRINCIPAL, agent=str(serial)), "default", "s")) is None

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(take, range(100))) == 1
