"""Rollouts over the API: begun, moved, watched and taken back.

Decides what a request means and writes the step that `rollout` makes of it, within one transaction that holds the
scope: of two who move it at once, the second sees what the first did. A caller who may not enforce begins rollouts that
somebody else enforces, so that the gates never do what their owner may not. Must never take a step without its record.

Trusts the dispatcher: the caller may read, roll out or roll back in the tenant that the request names.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from authz import reasons
from authz._gen.authz.control.v1 import rollouts_pb2 as pb
from authz.control import rollout_messages
from authz.control.callers import Permission
from authz.control.refusals import Code, RefusedError, malformed
from authz.errors import InvalidRequestError
from authz.policy import rollout
from authz.policy.rollout import Actor
from authz.policy.rollout_plan import ACTIVE, REVERSIBLE, Plan, Rollout, State
from authz.reasons import ROLLOUT_BASELINE, ROLLOUT_PLAN, ROLLOUT_STATE, ROLLOUT_UNSHOWN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Connection

    from authz.control.callers import Caller
    from authz.control.rollout_judge import RolloutJudge
    from authz.database import Database
    from authz.policy.rollout import Transition
    from authz.policy.rollout_sql import RolloutBook

    Move = Callable[[Rollout, Actor, int], Transition | None]

WATCH_S: Final = 0.25
PAGE: Final = 50
MAX_PAGE: Final = 500
CONFIGURED: Final = "configured"
"""As a revision to go back to: what each sidecar is configured with."""
UNPLANNED: Final = Plan()
SHORT: Final = 12
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_BEGINNING: Final = re.compile(r"[0-9a-f]{12,64}")

_CODES: Final = {
    reasons.ROLLOUT_PLAN: Code.INVALID_ARGUMENT,
    reasons.ROLLOUT_REASON: Code.INVALID_ARGUMENT,
    reasons.ROLLOUT_UNKNOWN: Code.NOT_FOUND,
    reasons.ROLLOUT_HELD: Code.PERMISSION_DENIED,
}
"""Every other is FAILED_PRECONDITION."""


class RolloutsService:
    """`authz.control.v1.Rollouts`.

    Args:
        new_id: of a rollout.
        new_salt: deals the agents' places.
    """

    def __init__(
        self,
        database: Database,
        book: RolloutBook,
        judge: RolloutJudge,
        *,
        new_id: Callable[[], str],
        new_salt: Callable[[], str],
    ) -> None:
        self._database = database
        self._book = book
        self._judge = judge
        self._new_id = new_id
        self._new_salt = new_salt

    def start_rollout(self, request: pb.StartRolloutRequest, caller: Caller) -> pb.Rollout:
        """Draft a rollout, and begin it if its time has come."""
        by, may_enforce = _actor(caller), caller.may(Permission.ENFORCE, request.tenant)
        with _refusals(), self._database.write() as connection:
            last = self._book.hold(connection, request.tenant)
            asked = self._asked(
                connection,
                request.tenant,
                by,
                baseline=_digest(request.baseline) if request.baseline else last.serving if last else "",
                candidate=_digest(request.candidate),
                plan=rollout_messages.plan_of(request.plan, four_eyes=not may_enforce),
            )
            past = self._book.past(connection, request.tenant)
            begun = rollout.draft(asked, by, past, reason=request.reason, overrules=request.overrule)
            made = self._book.begin(connection, begun)
            now_ns = made.created_ns
            if not made.plan.is_frozen(now_ns) and now_ns >= made.plan.not_before_ns:
                made = self._book.take(connection, rollout.start(made, by, now_ns, reason=request.reason))
        return rollout_messages.message(made)

    def read_rollout(self, request: pb.ReadRolloutRequest, _caller: Caller) -> pb.RolloutStatus:
        """Where the scope's last rollout stands."""
        with _refusals(), self._database.read() as connection:
            found = self._book.read(connection, request.tenant)
            return rollout_messages.status(found, self._judge.judge(connection, found))

    def watch_rollout(self, request: pb.ReadRolloutRequest, caller: Caller) -> Iterator[pb.RolloutStatus]:
        """The same, each time it changes, until nobody listens any more."""
        said = None
        while True:
            status = self.read_rollout(request, caller)
            for each in status.sidecars:
                each.ClearField("heard_at")  # that they are heard again is no change
            if status != said:
                said = status
                yield status
            if not caller.stays(WATCH_S):
                return

    def list_transitions(self, request: pb.ListTransitionsRequest, _caller: Caller) -> pb.ListTransitionsResponse:
        """Steps of a scope with their evidence, newest first."""
        size = request.page_size or PAGE
        if not 0 < size <= MAX_PAGE or request.before < 0:
            raise malformed(f"page_size is not 1 to {MAX_PAGE}")
        with self._database.read() as connection:
            steps = self._book.steps(connection, request.tenant, limit=size, before=request.before)
        return pb.ListTransitionsResponse(transitions=map(rollout_messages.transition, steps))

    def pause_rollout(self, request: pb.ChangeRolloutRequest, caller: Caller) -> pb.Rollout:
        """Hold it where it is."""
        return self._moved(request.tenant, caller, lambda *at: rollout.pause(*at, reason=request.reason))

    def resume_rollout(self, request: pb.ChangeRolloutRequest, caller: Caller) -> pb.Rollout:
        """Let it go on."""
        return self._moved(request.tenant, caller, lambda *at: rollout.resume(*at, reason=request.reason))

    def stop_wave(self, request: pb.ChangeRolloutRequest, caller: Caller) -> pb.Rollout:
        """Take back the present wave."""
        return self._moved(request.tenant, caller, lambda *at: rollout.stop_wave(*at, reason=request.reason))

    def abort_rollout(self, request: pb.ChangeRolloutRequest, caller: Caller) -> pb.Rollout:
        """End it before it is enforced."""
        return self._moved(request.tenant, caller, lambda *at: rollout.abort(*at, reason=request.reason))

    def promote_rollout(self, request: pb.PromoteRolloutRequest, caller: Caller) -> pb.Rollout:
        """To the next stage; a draft, to its first."""
        by = _actor(caller)
        with _refusals(), self._database.write() as connection:
            held = self._book.held(connection, request.tenant)
            if request.version and request.version != held.version:
                raise RefusedError(Code.ABORTED, ROLLOUT_STATE, f"it is at version {held.version} by now")
            now_ns = self._database.now_ns(connection)
            if held.state is State.DRAFT:
                step = rollout.start(held, by, now_ns, reason=request.reason)
            else:
                evidence = self._judge.judge(connection, held).judgement
                readings = evidence.readings if evidence else ()
                step = rollout.promote(
                    held, by, now_ns, reason=request.reason, evidence=readings, overrules=request.overrule
                )
            if step.after.state is State.ENFORCED:
                caller.require(Permission.ENFORCE, request.tenant)
            return rollout_messages.message(self._book.take(connection, step))

    def activate_stricter(self, request: pb.ActivateStricterRequest, caller: Caller) -> pb.Rollout:
        """The stricter of two revisions answers everybody from now on."""
        by, plan = _actor(caller), Plan(four_eyes=not caller.may(Permission.ENFORCE, request.tenant))
        with _refusals(), self._database.write() as connection:
            held = self._book.hold(connection, request.tenant)
            candidate = _digest(request.candidate)
            if held is not None and (held.state, held.candidate) == (State.STRICTER, candidate):
                return rollout_messages.message(held)
            evidence = rollout_messages.shown(request.replayed)
            serving = held.serving if held else ""
            if serving and request.baseline != serving:
                raise InvalidRequestError(ROLLOUT_UNSHOWN, f"sha256:{serving[:SHORT]} answers now: compare with that")
            if held is not None and held.state in (State.DRAFT, State.SHADOW):
                # It answers nobody, so that ending it lets nothing happen.
                now_ns = self._database.now_ns(connection)
                self._take(connection, rollout.abort(held, by, now_ns, reason="gives way to a stricter revision"))
            asked = self._asked(connection, request.tenant, by, baseline=serving, candidate=candidate, plan=plan)
            begun = rollout.activate(asked, by, reason=request.reason, evidence=evidence)
            return rollout_messages.message(self._book.begin(connection, begun))

    def _take(self, connection: Connection, step: Transition | None) -> None:
        if step is not None:
            self._book.take(connection, step)

    def roll_back(self, request: pb.RollBackRequest, caller: Caller) -> pb.Rollout:
        """The revision before answers again, or the one that is named."""
        by = _actor(caller)
        with _refusals(), self._database.write() as connection:
            held = self._book.held(connection, request.tenant)
            target = self._target(connection, request, held)
            if held.state in ACTIVE or target != held.serving:
                held = self._back(connection, held, by, request.reason)
            if target != held.serving:
                asked = self._asked(connection, held.scope, by, baseline=target, candidate=held.serving)
                held = self._book.begin(connection, rollout.pin(asked, by, reason=request.reason))
        return rollout_messages.message(held)

    def _back(self, connection: Connection, held: Rollout, by: Actor, reason: str) -> Rollout:
        """`held` ended, if it has not."""
        go = rollout.abort if held.state is State.DRAFT else rollout.roll_back
        if held.state not in ACTIVE | REVERSIBLE:
            return held
        step = go(held, by, self._database.now_ns(connection), reason=reason)
        return self._book.take(connection, step) if step else held

    def _target(self, connection: Connection, request: pb.RollBackRequest, held: Rollout) -> str:
        """The digest to go back to.

        Raises:
            InvalidRequestError: ROLLOUT_BASELINE, it was not here before.
        """
        if not request.to:
            return held.baseline
        if request.to == CONFIGURED:
            return ""
        beginning = request.to.removeprefix("sha256:")
        found = (
            self._book.was_served(connection, request.tenant, beginning) if _BEGINNING.fullmatch(beginning) else None
        )
        if found is None:
            raise InvalidRequestError(ROLLOUT_BASELINE, "no revision that was here before begins like this")
        return found

    def _asked(
        self,
        connection: Connection,
        scope: str,
        by: Actor,
        *,
        baseline: str,
        candidate: str,
        plan: Plan = UNPLANNED,
    ) -> Rollout:
        return Rollout(
            id=f"rollout-{self._new_id()[:16]}",
            scope=scope,
            baseline=baseline,
            candidate=candidate,
            salt=self._new_salt(),
            plan=plan,
            created_by=by.name,
            created_ns=self._database.now_ns(connection),
        )

    def _moved(self, scope: str, caller: Caller, move: Move) -> pb.Rollout:
        with _refusals(), self._database.write() as connection:
            held = self._book.held(connection, scope)
            step = move(held, _actor(caller), self._database.now_ns(connection))
            return rollout_messages.message(self._book.take(connection, step) if step else held)


@contextmanager
def _refusals() -> Iterator[None]:
    """What `rollout` refuses, as the API says it."""
    try:
        yield
    except InvalidRequestError as error:
        code = _CODES.get(error.reason, Code.FAILED_PRECONDITION)
        raise RefusedError(code, error.reason, error.detail) from None


def _actor(caller: Caller) -> Actor:
    return Actor(name=caller.id, is_automatic=caller.automatic)


def _digest(told: str) -> str:
    digest = told.removeprefix("sha256:")
    if not _DIGEST.fullmatch(digest):
        raise InvalidRequestError(ROLLOUT_PLAN, "a revision is named by the SHA-256 of its archive, in hex")
    return digest
