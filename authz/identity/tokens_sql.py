"""Access tokens that are alive, and proofs that were spent.

Decides that a proof (an assertion's or a DPoP proof's `jti`) is good once, whichever instance it reaches, and which
tokens die with a credential or with the token they were exchanged for. Must never hold a token or a `jti`: digests
alone. A row goes when its token has expired.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import BigInteger, Column, Index, Table, Text, and_, delete, func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from authz.database import METADATA

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import ColumnElement, Connection

    from authz.database import Database

_NS: Final = 1_000_000_000
MAX_CHAIN: Final = 64
"""Exchanges that lie behind one token at most; parents are fewer."""

TOKENS: Final = Table(
    "access_tokens",
    METADATA,
    Column("jti_sha256", Text, primary_key=True),
    Column("tenant", Text, nullable=False),
    Column("agent", Text, nullable=False),
    Column("client", Text, nullable=False),
    Column("credential", Text, nullable=False),
    Column("exchanged_sha256", Text, nullable=False),
    Column("expires_ns", BigInteger, nullable=False),
    Column("revoked_ns", BigInteger, nullable=True),
    Index(None, "tenant", "agent"),
    Index(None, "tenant", "client", "credential"),
    Index(None, "exchanged_sha256"),
    Index(None, "expires_ns"),
)
_COLUMNS: Final = tuple(column.name for column in TOKENS.columns if column.name != "revoked_ns")
PROOFS: Final = Table(
    "spent_proofs",
    METADATA,
    Column("digest", Text, primary_key=True),
    Column("until_ns", BigInteger, nullable=False),
    Index(None, "until_ns"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveToken:
    """One token: whose it is, which client asked for it by which credential, and what it was exchanged for, if so."""

    jti_sha256: str
    tenant: str
    agent: str
    client: str
    credential: str
    expires_ns: int
    exchanged_sha256: str = ""


class LiveTokens:
    """The tables, as values. Every method works within the caller's transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._dialect: Any = sqlite if database.is_sqlite else postgresql

    def spend(self, connection: Connection, digest: str, until_s: int) -> bool:
        """Take a proof, to be remembered until then (Unix seconds); whether this is its first time."""
        values = {"digest": digest, "until_ns": until_s * _NS}
        taken = self._dialect.insert(PROOFS).values(values).on_conflict_do_nothing()
        return connection.execute(taken.returning(PROOFS.c.digest)).first() is not None

    def add(self, connection: Connection, token: LiveToken) -> None:
        """A token that was issued."""
        connection.execute(insert(TOKENS).values({name: getattr(token, name) for name in _COLUMNS}))

    def is_alive(self, connection: Connection, jti_sha256: str) -> bool:
        """Whether this server issued the token, and it is neither expired nor revoked."""
        found = select(TOKENS.c.jti_sha256).where(TOKENS.c.jti_sha256 == jti_sha256, self._alive(connection))
        return connection.execute(found).first() is not None

    def count(self, connection: Connection, tenant: str, agent: str) -> int:
        """How many of an agent's tokens are alive."""
        theirs = and_(TOKENS.c.tenant == tenant, TOKENS.c.agent == agent, self._alive(connection))
        return connection.execute(select(func.count()).select_from(TOKENS).where(theirs)).scalar_one()

    def of_client(self, connection: Connection, tenant: str, client: str) -> int:
        """How many tokens that a client got are alive."""
        theirs = and_(TOKENS.c.tenant == tenant, TOKENS.c.client == client, self._alive(connection))
        return connection.execute(select(func.count()).select_from(TOKENS).where(theirs)).scalar_one()

    def revoke_credentials(
        self, connection: Connection, tenant: str, client: str, credentials: Iterable[str]
    ) -> list[LiveToken]:
        """End the tokens that a client got by these credentials, and what was exchanged for them; returns those."""
        named = TOKENS.c.credential.in_([*credentials])
        return self._revoke(connection, and_(TOKENS.c.tenant == tenant, TOKENS.c.client == client, named))

    def revoke(self, connection: Connection, jti_sha256: str) -> list[LiveToken]:
        """End one token, and what was exchanged for it; returns those that were alive."""
        return self._revoke(connection, TOKENS.c.jti_sha256 == jti_sha256)

    def prune(self, connection: Connection) -> int:
        """Forget what has expired; how many tokens."""
        now_ns = self._database.now_ns(connection)
        connection.execute(delete(PROOFS).where(PROOFS.c.until_ns < now_ns))
        return connection.execute(delete(TOKENS).where(TOKENS.c.expires_ns < now_ns)).rowcount

    def _revoke(self, connection: Connection, condition: ColumnElement[bool]) -> list[LiveToken]:
        """Those that fit, then what was exchanged for them, and so on: each row once, since it is no longer alive."""
        now_ns = self._database.now_ns(connection)
        ended: list[LiveToken] = []
        for _ in range(MAX_CHAIN):
            dying = update(TOKENS).where(condition, self._alive(connection)).values(revoked_ns=now_ns)
            rows = connection.execute(dying.returning(*TOKENS.c)).all()
            if not rows:
                break
            ended += [LiveToken(**{name: getattr(row, name) for name in _COLUMNS}) for row in rows]
            condition = TOKENS.c.exchanged_sha256.in_([row.jti_sha256 for row in rows])
        return ended

    def _alive(self, connection: Connection) -> ColumnElement[bool]:
        return and_(TOKENS.c.revoked_ns.is_(None), TOKENS.c.expires_ns > self._database.now_ns(connection))
