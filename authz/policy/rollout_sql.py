"""The book of rollouts: each with every step that was taken, in an append-only table.

Decides that a scope takes one step at a time: whoever takes one holds the scope's head until the transaction ends, and
the step gets the next version of the scope. A rollout as it stands is what its last step left. Must never take a step
that `rollout` did not make, nor rewrite one.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, Final

import orjson
from sqlalchemy import BigInteger, Boolean, Column, Float, Index, Integer, Table, Text, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from authz.database import METADATA
from authz.errors import InvalidRequestError
from authz.policy.gates import Outcome, Reading, Tolerances
from authz.policy.rollout import Action, Actor, Past, Transition
from authz.policy.rollout_plan import ACTIVE, Plan, Rollout, State
from authz.reasons import ROLLOUT_ACTIVE, ROLLOUT_UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import Connection, Row

    from authz.database import Database

REMEMBERED: Final = 500
"""Steps of a scope that a new rollout is held against."""

ROLLOUTS: Final = Table(
    "rollouts",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("scope", Text, nullable=False),
    Column("baseline", Text, nullable=False),
    Column("candidate", Text, nullable=False),
    Column("salt", Text, nullable=False),
    Column("plan", Text, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("created_ns", BigInteger, nullable=False),
)
HEADS: Final = Table(
    "rollout_heads",
    METADATA,
    Column("scope", Text, primary_key=True),
    Column("version", BigInteger, nullable=False),
)
TRANSITIONS: Final = Table(
    "rollout_transitions",
    METADATA,
    Column("scope", Text, primary_key=True),
    Column("version", BigInteger, primary_key=True, autoincrement=False),
    Column("rollout", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("wave", Integer, nullable=False),
    Column("is_paused", Boolean, nullable=False),
    Column("is_overruled", Boolean, nullable=False),
    Column("since_ns", BigInteger, nullable=False),
    Column("at_ns", BigInteger, nullable=False),
    Column("taken_by", Text, nullable=False),
    Column("is_automatic", Boolean, nullable=False),
    Column("reason", Text, nullable=False),
    Column("evidence", Text, nullable=False),
    Column("share", Float, nullable=False),
    Index(None, "rollout", "version"),
)
_TOGETHER: Final = select(
    ROLLOUTS, *(column for column in TRANSITIONS.columns if column.name not in {"scope", "rollout"})
).join(TRANSITIONS, TRANSITIONS.c.rollout == ROLLOUTS.c.id)


class RolloutBook:
    """Every rollout of one database. Each method works within the caller's transaction."""

    def __init__(self, database: Database) -> None:
        self._dialect: Any = sqlite if database.is_sqlite else postgresql

    def hold(self, connection: Connection, scope: str) -> Rollout | None:
        """The scope's last rollout, if it ever had one; nobody else moves it until the transaction ends."""
        made = self._dialect.insert(HEADS).values(scope=scope, version=0).on_conflict_do_nothing()
        connection.execute(made)
        connection.execute(select(HEADS).where(HEADS.c.scope == scope).with_for_update())
        return self.find(connection, scope)

    def held(self, connection: Connection, scope: str) -> Rollout:
        """The same, where there must be one.

        Raises:
            InvalidRequestError: ROLLOUT_UNKNOWN.
        """
        return _there(self.hold(connection, scope))

    def find(self, connection: Connection, scope: str) -> Rollout | None:
        """The scope's last rollout as it stands, if it ever had one."""
        last = _TOGETHER.where(TRANSITIONS.c.scope == scope).order_by(TRANSITIONS.c.version.desc()).limit(1)
        row = connection.execute(last).one_or_none()
        return _rollout(row) if row else None

    def read(self, connection: Connection, scope: str) -> Rollout:
        """The same, where there must be one.

        Raises:
            InvalidRequestError: ROLLOUT_UNKNOWN.
        """
        return _there(self.find(connection, scope))

    def heads(self, connection: Connection) -> list[Rollout]:
        """Every scope's last rollout as it stands."""
        last = _TOGETHER.join(
            HEADS, (HEADS.c.scope == TRANSITIONS.c.scope) & (HEADS.c.version == TRANSITIONS.c.version)
        )
        return [_rollout(row) for row in connection.execute(last.order_by(TRANSITIONS.c.scope))]

    def begin(self, connection: Connection, begun: Transition) -> Rollout:
        """A new rollout by its first step. The caller holds the scope.

        Raises:
            InvalidRequestError: ROLLOUT_ACTIVE.
        """
        last = self.find(connection, begun.after.scope)
        if last is not None and last.state in ACTIVE:
            raise InvalidRequestError(ROLLOUT_ACTIVE, f"`{last.id}` is in {last.stage}")
        names = [column.name for column in ROLLOUTS.columns if column.name != "plan"]
        plan = orjson.dumps(asdict(begun.after.plan)).decode()
        connection.execute(insert(ROLLOUTS), {name: getattr(begun.after, name) for name in names} | {"plan": plan})
        return self.take(connection, begun)

    def take(self, connection: Connection, step: Transition) -> Rollout:
        """Write a step; answers with the rollout at its version. The caller holds the scope."""
        scope = step.after.scope
        version = connection.execute(select(HEADS.c.version).where(HEADS.c.scope == scope)).scalar_one() + 1
        after = replace(step.after, version=version)
        values = {
            "scope": scope,
            "version": version,
            "rollout": after.id,
            "action": step.action.value,
            "state": after.state.value,
            "wave": after.wave,
            "is_paused": after.is_paused,
            "is_overruled": after.is_overruled,
            "since_ns": after.since_ns,
            "at_ns": step.at_ns,
            "taken_by": step.by.name,
            "is_automatic": step.by.is_automatic,
            "reason": step.reason,
            "evidence": orjson.dumps([asdict(each) for each in step.evidence]).decode(),
            "share": after.share,
        }
        connection.execute(insert(TRANSITIONS), values)
        connection.execute(update(HEADS).where(HEADS.c.scope == scope).values(version=version))
        return after

    def steps(self, connection: Connection, scope: str, *, limit: int, before: int = 0) -> list[Transition]:
        """Steps of a scope, newest first, from before that version on; each without what was before it."""
        found = _TOGETHER.where(TRANSITIONS.c.scope == scope)
        if before:
            found = found.where(TRANSITIONS.c.version < before)
        newest_first = found.order_by(TRANSITIONS.c.version.desc()).limit(limit)
        return [_transition(row) for row in connection.execute(newest_first)]

    def was_served(self, connection: Connection, scope: str, beginning: str) -> str | None:
        """The digest with this beginning that answered everybody here before; None where none or several did."""
        found = {
            digest
            for step in self.steps(connection, scope, limit=REMEMBERED)
            for digest in (step.after.baseline, step.after.serving)
            if digest.startswith(beginning)
        }
        return found.pop() if len(found) == 1 else None

    def past(self, connection: Connection, scope: str) -> list[Past]:
        """How the scope's rollouts ended, newest first."""
        ended = [step for step in self.steps(connection, scope, limit=REMEMBERED) if step.after.state not in ACTIVE]
        return [
            Past(
                candidate=step.after.candidate,
                state=step.after.state,
                is_automatic=step.by.is_automatic,
                ended_ns=step.at_ns,
            )
            for step in ended
        ]


def _there(found: Rollout | None) -> Rollout:
    if found is None:
        raise InvalidRequestError(ROLLOUT_UNKNOWN)
    return found


def _rollout(row: Row[Any]) -> Rollout:
    return Rollout(
        id=row.id,
        scope=row.scope,
        baseline=row.baseline,
        candidate=row.candidate,
        salt=row.salt,
        plan=_plan(orjson.loads(row.plan)),
        created_by=row.created_by,
        created_ns=row.created_ns,
        state=State(row.state),
        wave=row.wave,
        is_paused=row.is_paused,
        is_overruled=row.is_overruled,
        version=row.version,
        since_ns=row.since_ns,
    )


def _plan(told: dict[str, Any]) -> Plan:
    return Plan(
        **told
        | {
            "waves": tuple(told["waves"]),
            "freezes": tuple(map(tuple, told["freezes"])),
            "tolerances": Tolerances(**told["tolerances"]),
        }
    )


def _transition(row: Row[Any]) -> Transition:
    return Transition(
        action=Action(row.action),
        before=None,
        after=_rollout(row),
        by=Actor(name=row.taken_by, is_automatic=row.is_automatic),
        at_ns=row.at_ns,
        reason=row.reason,
        evidence=_readings(orjson.loads(row.evidence)),
    )


def _readings(told: Iterable[dict[str, Any]]) -> tuple[Reading, ...]:
    return tuple(Reading(gate=each["gate"], outcome=Outcome(each["outcome"]), figures=each["figures"]) for each in told)


def _figures(told: dict[str, float | None]) -> dict[str, float]:
    """JSON has no infinity: a percentile without a bound was written as null."""
    return {name: figure for name, figure in told.items() if figure is not None}
