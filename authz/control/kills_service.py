"""Kills over the API: asked for, confirmed, lifted, read, and waited for until every sidecar has them.

Decides what a request means, whether its signers may sign, and when it is answered: once the ledger has it, and where
the caller waits, once every sidecar that is alive has said that it applied it; the others are named. Must never answer
before the commit, nor say that a sidecar was reached that did not say so itself.

Trusts the dispatcher: the caller may read or kill in the tenant that the request names.
"""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import TYPE_CHECKING, Final, Protocol

from sqlalchemy.exc import IntegrityError

from authz import reasons
from authz._gen.authz.control.v1 import kills_pb2 as pb
from authz.control import kill_messages
from authz.control.callers import Permission
from authz.control.refusals import Code, RefusedError, malformed
from authz.errors import InvalidRequestError
from authz.model import PLATFORM
from authz.revocation import publication_sql
from authz.revocation.guard import KillRecord, KillState, Signer
from authz.revocation.kills_sql import Repeat

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from sqlalchemy import Connection

    from authz.clock import Clock
    from authz.control.callers import Caller
    from authz.database import Database
    from authz.revocation.guard import Guard, Hit
    from authz.revocation.kills_sql import KillBook
    from authz.revocation.ledger_sql import Ledger
    from authz.revocation.reports_sql import Reports
    from authz.revocation.scopes import Scope

POLL_S: Final = 0.01
WATCH_S: Final = 0.1
MAX_WAIT_S: Final = 60.0
WAITERS: Final = 16
"""Calls that wait for sidecars at a time, half of what is served: others are answered at once, as if not waited for."""
PAGE: Final = 50
MAX_PAGE: Final = 500
MAX_INCIDENT: Final = 256
MAX_KEY: Final = 128
_NS: Final = 1_000_000_000

_CODES: Final = {
    reasons.KILL_SCOPE: Code.INVALID_ARGUMENT,
    reasons.KILL_REASON: Code.INVALID_ARGUMENT,
    reasons.KILL_AUTOMATIC: Code.PERMISSION_DENIED,
    reasons.KILL_SAME_SIGNER: Code.FAILED_PRECONDITION,
    reasons.KILL_LAPSED: Code.FAILED_PRECONDITION,
    reasons.KILL_STATE: Code.FAILED_PRECONDITION,
    reasons.KILL_UNKNOWN: Code.NOT_FOUND,
    reasons.KILL_QUOTA: Code.RESOURCE_EXHAUSTED,
    reasons.KILL_REPEATED: Code.ALREADY_EXISTS,
}


class _OfTenant(Protocol):
    """A request that names a tenant."""

    @property
    def tenant(self) -> str: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Stores:
    """Where kills stand, and what is known of who has them."""

    database: Database
    ledger: Ledger
    book: KillBook
    reports: Reports


class KillsService:
    """`authz.control.v1.Kills`.

    Args:
        hit: which of a tenant's agents a scope stops, beside those that other scopes stop.
        followers: ids of the sidecars that follow a stream.
        new_id: of a kill.
    """

    def __init__(
        self,
        stores: Stores,
        guard: Guard,
        *,
        hit: Callable[[Connection, Scope, Iterable[Scope]], Hit],
        followers: Callable[[str], Iterable[str]],
        clock: Clock,
        new_id: Callable[[], str],
    ) -> None:
        self._database = stores.database
        self._ledger = stores.ledger
        self._book = stores.book
        self._reports = stores.reports
        self._guard = guard
        self._hit = hit
        self._followers = followers
        self._monotonic_ns = clock.monotonic_ns
        self._new_id = new_id
        self._waiters = threading.BoundedSemaphore(WAITERS)

    def create_kill(self, request: pb.CreateKillRequest, caller: Caller) -> pb.KillReceipt:
        """Put a kill in the ledger, or let it await its second signer."""
        with _refusals():
            scope = kill_messages.scope_of(request.scope)
        asked = KillRecord(
            id=f"kill-{self._new_id()[:16]}",
            scope=scope,
            is_guarded=False,
            reason=request.reason,
            incident=_short(request.incident, MAX_INCIDENT, "incident"),
            expires_in_ns=_life_ns(request),
            created_by=caller.id,
            created_at_ns=0,
        )
        repeat = _repeat(asked, _short(request.idempotency_key, MAX_KEY, "idempotency_key"))
        try:
            kill = self._create(asked, caller, repeat)
        except IntegrityError:
            if repeat is None:
                raise
            kill = self._create(asked, caller, repeat)  # the same request came first by a moment: now it is there
        return self._receipt(kill, request.wait.ToNanoseconds() / _NS, caller)

    def confirm_kill(self, request: pb.ConfirmKillRequest, caller: Caller) -> pb.KillReceipt:
        """The second signer's word."""
        with _refusals(), self._database.write() as connection:
            kill = self._book.confirm(connection, _tenant(request), request.id, _signer(caller))
        return self._receipt(kill, request.wait.ToNanoseconds() / _NS, caller)

    def lift_kill(self, request: pb.LiftKillRequest, caller: Caller) -> pb.KillReceipt:
        """End a kill, or let its lift await the second signer."""
        with _refusals(), self._database.write() as connection:
            if self._book.read(connection, _tenant(request), request.id).is_guarded:
                caller.require(Permission.SIGN, request.tenant)
            kill = self._book.lift(connection, _tenant(request), request.id, _signer(caller), request.reason)
        return self._receipt(kill, request.wait.ToNanoseconds() / _NS, caller)

    def read_kill(self, request: pb.ReadKillRequest, _caller: Caller) -> pb.Kill:
        """One kill."""
        with _refusals(), self._database.read() as connection:
            kill = self._book.read(connection, _tenant(request), request.id)
            return kill_messages.message(kill, self._database.now_ns(connection))

    def list_kills(self, request: pb.ListKillsRequest, _caller: Caller) -> pb.ListKillsResponse:
        """A page of a tenant's kills, newest first."""
        size = request.page_size or PAGE
        if not 0 < size <= MAX_PAGE:
            raise malformed(f"page_size is not 1 to {MAX_PAGE}")
        before = kill_messages.place_of(request.page_token)
        with self._database.read() as connection:
            page = self._book.page(connection, _tenant(request), limit=size, is_over=request.all, before=before)
            now_ns = self._database.now_ns(connection)
        token = kill_messages.token(page[-1]) if len(page) == size else ""
        return pb.ListKillsResponse(kills=[kill_messages.message(kill, now_ns) for kill in page], next_page_token=token)

    def watch_kills(self, request: pb.WatchKillsRequest, caller: Caller) -> Iterator[pb.Kill]:
        """Each kill as an entry of the ledger changes it, until nobody listens any more."""
        with self._database.read() as connection:
            heads = {head.stream: head.sequence for head in self._ledger.heads(connection)}
        after = heads if request.sequence < 0 else {}
        while True:
            drawn = 0
            with self._database.read() as connection:
                streams = [head.stream for head in self._ledger.heads(connection)]
            for stream in streams if request.tenant == PLATFORM else [request.tenant]:
                place = after.get(stream, max(0, request.sequence))
                after[stream], changed = self._changed(stream, place)
                drawn += len(changed)
                yield from changed
            if not drawn and not caller.stays(WATCH_S):
                return

    def _changed(self, stream: str, after: int) -> tuple[int, list[pb.Kill]]:
        """Kills that the next entries of `stream` changed, and where those entries end."""
        with self._database.read() as connection:
            lines = self._ledger.lines(connection, stream, after, MAX_PAGE)
            kills = self._book.entered(connection, stream, [line.document for line in lines])
            now_ns = self._database.now_ns(connection)
        return lines[-1].sequence if lines else after, [kill_messages.message(kill, now_ns) for kill in kills]

    def _create(self, asked: KillRecord, caller: Caller, repeat: Repeat | None) -> KillRecord:
        with _refusals(), self._database.write() as connection:
            if repeat is not None and (earlier := self._book.earlier(connection, caller.id, repeat)):
                return earlier
            alone = self._book.signed_alone(connection, asked.scope)
            is_guarded = self._guard.guards(asked.scope, self._hit(connection, asked.scope, alone))
            if is_guarded:
                caller.require(Permission.SIGN, asked.scope.tenant)
            asked = replace(asked, is_guarded=is_guarded, created_at_ns=self._database.now_ns(connection))
            return self._book.create(connection, asked, _signer(caller), repeat)

    def _receipt(self, kill: KillRecord, wait_s: float, caller: Caller) -> pb.KillReceipt:
        """What became of it, once it has reached everybody or `wait_s` is over."""
        self._ledger.wake()
        with self._database.read() as connection:
            committed_ns = self._database.now_ns(connection)
        receipt = pb.KillReceipt(kill=kill_messages.message(kill, committed_ns))
        if kill.sequence and receipt.kill.state != kill_messages.STATES[KillState.AWAITING_LIFT_CONFIRMATION]:
            with self._place(wait_s > 0) as has_place:
                self._await(kill, receipt, committed_ns, min(wait_s, MAX_WAIT_S) if has_place else 0.0, caller)
        with self._database.read() as connection:
            receipt.redis = publication_sql.read(connection).state
        return receipt

    @contextmanager
    def _place(self, is_wanted: bool) -> Iterator[bool]:  # noqa: FBT001 - what it is for stands in its caller
        """One of the places of those who wait, where it is wanted and there is one."""
        has_place = is_wanted and self._waiters.acquire(blocking=False)
        try:
            yield has_place
        finally:
            if has_place:
                self._waiters.release()

    def _await(
        self, kill: KillRecord, receipt: pb.KillReceipt, committed_ns: int, wait_s: float, caller: Caller
    ) -> None:
        """Fill in who has it and who has not. Who was not heard lately is not waited for."""
        followers = set(self._followers(kill.scope.stream))
        until_ns = self._monotonic_ns() + int(wait_s * _NS)
        first_seen: dict[str, pb.Confirmation] = {}
        while True:
            with self._database.read() as connection:
                reports = self._reports.of(connection, kill.scope.stream)
                alive = followers & self._reports.heard(connection)
            for sidecar in followers & reports.keys() - first_seen.keys():
                report = reports[sidecar]
                if report.has(kill.epoch, kill.sequence):
                    ms = max(0, report.applied_ns - committed_ns) / 1_000_000
                    first_seen[sidecar] = pb.Confirmation(sidecar=sidecar, applied_sequence=report.sequence, ms=ms)
            is_over = self._monotonic_ns() >= until_ns or first_seen.keys() >= alive
            if is_over or not caller.stays(POLL_S):
                break
        receipt.confirmed.extend(first_seen[sidecar] for sidecar in sorted(first_seen))
        receipt.unreached.extend(sorted(followers - first_seen.keys()))


@contextmanager
def _refusals() -> Iterator[None]:
    """The room's refusals, as the API says them."""
    try:
        yield
    except InvalidRequestError as error:
        raise RefusedError(_CODES[error.reason], error.reason, error.detail) from None


def _tenant(request: _OfTenant) -> str | None:
    """Whose kills are meant. None, anybody's, is for who may see the platform, as the permission table has found."""
    return None if request.tenant == PLATFORM else request.tenant


def _signer(caller: Caller) -> Signer:
    return Signer(operator=caller.id, is_automatic=caller.automatic)


def _life_ns(request: pb.CreateKillRequest) -> int:
    if not request.HasField("expires_in"):
        return 0
    life_ns = request.expires_in.ToNanoseconds()
    if life_ns <= 0:
        raise malformed("expires_in is not a time to come")
    return int(life_ns)


def _short(text: str, most: int, name: str) -> str:
    if len(text) > most or not text.isprintable():
        raise malformed(f"{name} is over {most} characters, or not printable")
    return text


def _repeat(asked: KillRecord, key: str) -> Repeat | None:
    if not key:
        return None
    scope = asked.scope
    said = [scope.kind, scope.tenant, scope.value, asked.reason, asked.incident, asked.expires_in_ns]
    return Repeat(key=key, digest=sha256(json.dumps(said).encode()).hexdigest())
