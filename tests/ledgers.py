"""A ledger with all that stands on it, for tests: over any migrated database."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import orjson

from authz.revocation.entries import KillEntry, LiftEntry, entry_of
from authz.revocation.guard import Guard, KillRecord, Signer
from authz.revocation.kills_sql import KillBook, Quota
from authz.revocation.ledger_sql import Ledger
from authz.revocation.scopes import Scope, ScopeKind
from authz.revocation.standing import Kills, decode
from authz.revocation.stream_keys_sql import StreamKeys
from authz.sealing import KeyEncryptionKey

if TYPE_CHECKING:
    from authz.database import Database
    from authz.revocation.entries import Entry
    from authz.revocation.kills_sql import Repeat
    from authz.revocation.ledger_sql import Head

ANNA, BEN, CARA = (Signer(operator=name) for name in ("anna", "ben", "cara"))
PROGRAM = Signer(operator="detector", is_automatic=True)
REASON = "exfiltration seen in incident 7"
AGENT = Scope(ScopeKind.AGENT, "acme", "billing")
TENANT = Scope(ScopeKind.TENANT, "acme")


def read_content(content: bytes, stream: str) -> dict[str, object]:
    """What a snapshot holds: of a kill that came in columns its value, else the entry, by id or agent."""
    found: dict[str, object] = {}
    for part in decode(content, stream):
        if isinstance(part, Kills):
            found |= dict(zip(part.ids, part.values, strict=True))
        else:
            found |= {getattr(entry, "id", "agent"): entry for entry in part}
    return found


def read_lines(content: bytes, stream: str) -> list[Entry]:
    """The entries that these lines are, each by itself."""
    return [entry_of(orjson.loads(line), stream) for line in content.splitlines()]


@dataclass
class LedgerDesk:
    """What an operator does to a ledger, each in a transaction of its own."""

    database: Database
    ledger: Ledger
    book: KillBook
    keys: StreamKeys
    made: int = 0

    def append(self, stream: str, *entries: Entry) -> Head:
        with self.database.write() as connection:
            return self.ledger.append_all(connection, stream, entries)

    def head(self, stream: str) -> Head:
        with self.database.read() as connection:
            return self.ledger.head(connection, stream)

    def entries(self, stream: str, after: int = 0) -> list[Entry]:
        with self.database.read() as connection:
            lines = self.ledger.lines(connection, stream, after, limit=1_000_000)
        return read_lines(b"".join(line.document for line in lines), stream)

    def standing(self, stream: str) -> dict[str, object]:
        with self.database.read() as connection:
            content = b"".join(line for part in self.ledger.standing(connection, stream) for line in part)
        return read_content(content, stream)

    def kill(
        self, scope: Scope = AGENT, signer: Signer = ANNA, repeat: Repeat | None = None, **fields: Any
    ) -> KillRecord:
        self.made += 1
        with self.database.write() as connection:
            asked = KillRecord(
                id=f"kill-{self.made}",
                scope=scope,
                is_guarded=False,
                reason=REASON,
                created_by=signer.operator,
                created_at_ns=self.database.now_ns(connection),
            )
            asked = replace(asked, **fields)
            return self.book.create(connection, asked, signer, repeat)

    def confirm(self, kill: KillRecord, signer: Signer, tenant: str = "acme") -> KillRecord:
        with self.database.write() as connection:
            return self.book.confirm(connection, tenant, kill.id, signer)

    def lift(self, kill: KillRecord, signer: Signer = ANNA, tenant: str = "acme") -> KillRecord:
        with self.database.write() as connection:
            return self.book.lift(connection, tenant, kill.id, signer, REASON)

    def read(self, kill: KillRecord, tenant: str = "acme") -> KillRecord:
        with self.database.read() as connection:
            return self.book.read(connection, tenant, kill.id)


def ledger_desk(database: Database, *, guard: Guard | None = None, quota: Quota | None = None) -> LedgerDesk:
    """A ledger over `database`, whose keys are sealed with a key of the test's own."""
    ledger = Ledger(database)
    book = KillBook(database, ledger, guard=guard or Guard(), quota=quota or Quota())
    return LedgerDesk(database, ledger, book, StreamKeys(database, ledger, KeyEncryptionKey(b"k" * 32)))


def kill_entry(name: str = "billing", *, version: int = 1, stream: str = "acme", **fields: Any) -> KillEntry:
    """A kill of one agent, which the ledger will number."""
    scope = Scope(ScopeKind.AGENT, stream, name)
    return KillEntry(sequence=0, id=f"kill-{name}", version=version, scope=scope, at_ns=1, **fields)


def lift_entry(name: str = "billing", *, version: int = 2, at_ns: int = 2) -> LiftEntry:
    """The end of that kill."""
    return LiftEntry(sequence=0, id=f"kill-{name}", version=version, at_ns=at_ns)
