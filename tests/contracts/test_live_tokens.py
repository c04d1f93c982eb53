"""Live tokens and spent proofs over SQLite and a real PostgreSQL."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from authz.identity.tokens_sql import LiveToken, LiveTokens

if TYPE_CHECKING:
    from authz.database import Database

NS = 1_000_000_000
SOON = 3600


@pytest.fixture
def tokens(database: Database) -> LiveTokens:
    return LiveTokens(database)


def token(name: str, **changes: Any) -> LiveToken:
    base = {"tenant": "acme", "agent": "planner", "client": "planner", "credential": "c-1"}
    times = {"expires_ns": time.time_ns() + SOON * NS}
    return LiveToken(**({"jti_sha256": name} | base | times | changes))


def add(database: Database, tokens: LiveTokens, *made: LiveToken) -> None:
    with database.write() as connection:
        for each in made:
            tokens.add(connection, each)


def alive(database: Database, tokens: LiveTokens, *names: str) -> list[str]:
    with database.read() as connection:
        return [name for name in names if tokens.is_alive(connection, name)]


def test_a_proof_is_good_once_whoever_races_for_it(database: Database, tokens: LiveTokens) -> None:
    def spend(_: int) -> bool:
        with database.write() as connection:
            return tokens.spend(connection, "digest", int(time.time()) + SOON)

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(spend, range(24))) == [False] * 23 + [True]


def test_a_proof_that_was_spent_is_remembered_until_its_end(database: Database, tokens: LiveTokens) -> None:
    with database.write() as connection:
        assert tokens.spend(connection, "old", int(time.time()) - 10)
        assert tokens.spend(connection, "new", int(time.time()) + SOON)
        tokens.prune(connection)
        assert tokens.spend(connection, "old", int(time.time()) - 10)
        assert not tokens.spend(connection, "new", int(time.time()) + SOON)


def test_a_token_is_alive_until_it_expires(database: Database, tokens: LiveTokens) -> None:
    add(database, tokens, token("a"), token("b", expires_ns=time.time_ns() - 1))
    assert alive(database, tokens, "a", "b", "c") == ["a"]
    with database.write() as connection:
        assert tokens.count(connection, "acme", "planner") == 1
        assert tokens.count(connection, "globex", "planner") == 0
        assert tokens.prune(connection) == 1
    assert alive(database, tokens, "a", "b") == ["a"]


def test_a_credentials_tokens_die_with_it_and_what_was_exchanged_for_them(
    database: Database, tokens: LiveTokens
) -> None:
    add(
        database,
        tokens,
        token("own"),
        token("child", agent="reader", exchanged_sha256="own"),
        token("guest", agent="guest", client="guest", credential="g-1", exchanged_sha256="child"),
        token("other-credential", credential="c-2"),
        token("other-client", client="other"),
        token("other-tenant", tenant="globex"),
        token("past", expires_ns=time.time_ns() - 1),
    )
    with database.write() as connection:
        ended = tokens.revoke_credentials(connection, "acme", "planner", ["c-1"])
        assert sorted(each.jti_sha256 for each in ended) == ["child", "guest", "own"]
        assert tokens.revoke_credentials(connection, "acme", "planner", ["c-1"]) == []
    kept = ["other-credential", "other-client", "other-tenant"]
    assert alive(database, tokens, "own", "child", "guest", *kept) == kept


def test_rfc7009_revoking_a_token_ends_what_was_exchanged_for_it(database: Database, tokens: LiveTokens) -> None:
    add(database, tokens, token("a"), token("b", exchanged_sha256="a"), token("c", exchanged_sha256="b"), token("d"))
    with database.write() as connection:
        assert [each.jti_sha256 for each in tokens.revoke(connection, "b")] == ["b", "c"]
        assert tokens.revoke(connection, "nobody's") == []
    assert alive(database, tokens, "a", "b", "c", "d") == ["a", "d"]
