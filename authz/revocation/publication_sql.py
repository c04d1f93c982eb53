"""How the fast path fares: what the publishing instance last found Redis to be, for every instance to tell.

Decides nothing. A kill is in force by the ledger; whether Redis took it too is said beside it, loudly where it did not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import BigInteger, Column, Table, Text, select
from sqlalchemy.dialects import postgresql, sqlite

from authz.database import METADATA
from authz.model import Word

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from authz.database import Database

_NAME: Final = "redis"

PUBLICATION: Final = Table(
    "publication",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("state", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Column("since_ns", BigInteger, nullable=False),
)


class PublicationState(Word):
    """`NONE`: no Redis is configured. `REFUSED`: it is set up to lose kills. `FAILED`: it takes no entries now."""

    NONE = "none"
    OK = "ok"
    REFUSED = "refused"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """The state of the fast path, what is wrong with it in words, and since when."""

    state: PublicationState = PublicationState.NONE
    detail: str = ""
    since_ns: int = 0


def write(database: Database, state: PublicationState, detail: str = "") -> None:
    """Keep the state that holds from now on.

    Raises:
        UnavailableError: the database cannot be used.
    """
    dialect: Any = sqlite if database.is_sqlite else postgresql
    with database.write() as connection:
        values = {"state": state.value, "detail": detail, "since_ns": database.now_ns(connection)}
        row = dialect.insert(PUBLICATION).values(name=_NAME, **values)
        connection.execute(row.on_conflict_do_update(index_elements=["name"], set_=values))


def read(connection: Connection) -> Publication:
    """The last state that an instance wrote."""
    row = connection.execute(select(PUBLICATION).where(PUBLICATION.c.name == _NAME)).one_or_none()
    if row is None:
        return Publication()
    return Publication(state=PublicationState(row.state), detail=row.detail, since_ns=row.since_ns)
