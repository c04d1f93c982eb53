"""A desk for rollouts over any migrated database: operators on one side, sidecars that say anything on the other."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from authz._gen.authz.control.v1 import rollouts_pb2 as pb
from authz.clock import SystemClock, random_hex
from authz.control.callers import Caller, Grant, Kind, Role
from authz.control.rollout_judge import RolloutJudge
from authz.control.rollout_keeper import RolloutKeeper
from authz.control.rollouts_service import RolloutsService
from authz.database import Election, Lease
from authz.policy.findings import Findings, encode
from authz.policy.gates import Answers, Pairs, Window
from authz.policy.rollout_reports_sql import Counted, RolloutReports, Standing
from authz.policy.rollout_sql import RolloutBook

if TYPE_CHECKING:
    from authz.database import Database

REASON = "a lower limit for payments"
CANDIDATE, OTHER, THIRD = "b" * 64, "c" * 64, "d" * 64


def operator(name: str, role: Role = Role.SECURITY_LEAD, tenant: str = "acme", **changes: Any) -> Caller:
    return Caller(kind=Kind.OPERATOR, id=name, grants=(Grant(role, tenant),), **changes)


LEAD, SECOND_LEAD = operator("lead"), operator("second-lead")
AUTHOR = operator("author", Role.POLICY_AUTHOR)
RESPONDER = operator("responder", Role.RESPONDER)


def plan(**fields: Any) -> pb.RolloutPlan:
    """A plan whose stages may be short."""
    made = pb.RolloutPlan(**({"waves": [0.2, 0.5]} | fields))
    made.stage.FromNanoseconds(0)
    return made


@dataclass
class RolloutDesk:
    """The service, the keeper and the reports of one database."""

    database: Database
    sidecars: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.book = RolloutBook(self.database)
        self.reports = RolloutReports(self.database)
        judge = RolloutJudge(self.reports, lambda _connection, _scope: self.sidecars)
        self.service = RolloutsService(self.database, self.book, judge, new_id=random_hex, new_salt=random_hex)
        self.lease = Lease(self.database, "rollouts", random_hex(), clock=SystemClock(), life_s=60)
        self.keeper = RolloutKeeper(self.database, self.book, self.reports, judge, Election(self.lease))

    def start(self, caller: Caller = LEAD, tenant: str = "acme", **changes: Any) -> pb.Rollout:
        fields: dict[str, Any] = {"candidate": CANDIDATE, "plan": plan(), "reason": REASON} | changes
        return self.service.start_rollout(pb.StartRolloutRequest(tenant=tenant, **fields), caller)

    def promote(self, caller: Caller = LEAD, tenant: str = "acme", **fields: Any) -> pb.Rollout:
        return self.service.promote_rollout(pb.PromoteRolloutRequest(tenant=tenant, **fields), caller)

    def roll_back(self, caller: Caller = LEAD, to: str = "", tenant: str = "acme") -> pb.Rollout:
        return self.service.roll_back(pb.RollBackRequest(tenant=tenant, reason=REASON, to=to), caller)

    def activate(self, caller: Caller = RESPONDER, tenant: str = "acme", **changes: Any) -> pb.Rollout:
        shown: dict[str, Any] = {"replayed": pb.Replayed(calls=9, stricter=2), "reason": REASON}
        fields: dict[str, Any] = {"candidate": CANDIDATE} | shown | changes
        return self.service.activate_stricter(pb.ActivateStricterRequest(tenant=tenant, **fields), caller)

    def change(self, what: str, caller: Caller = LEAD, tenant: str = "acme") -> pb.Rollout:
        changed: pb.Rollout = getattr(self.service, what)(pb.ChangeRolloutRequest(tenant=tenant, reason=REASON), caller)
        return changed

    def status(self, tenant: str = "acme") -> pb.RolloutStatus:
        return self.service.read_rollout(pb.ReadRolloutRequest(tenant=tenant), LEAD)

    def steps(self, tenant: str = "acme") -> list[str]:
        listed = self.service.list_transitions(pb.ListTransitionsRequest(tenant=tenant), LEAD)
        return [step.action for step in reversed(listed.transitions)]

    def enforce(self, candidate: str = CANDIDATE) -> pb.Rollout:
        self.start(candidate=candidate, plan=plan(waves=[1.0], no_shadow=True))
        return self.promote()

    def look(self) -> list[str]:
        """What the keeper does now."""
        self.lease.take()
        return [step.after.stage for step in self.keeper.look()]

    def report(self, sidecar: str = "one", tenant: str = "acme", number: int = 1, **pairs: int) -> None:
        """A sidecar that is ready, and compared 1,000 calls in a window of the present stage."""
        with self.database.write() as connection:
            held = self.book.read(connection, tenant)
            standing = Standing(sidecar=sidecar, rollout=held.id, version=held.version, is_ready=True)
            bins = (0, 0, 1_000, *Answers().latency[3:])
            answers = Answers(calls=1_000, latency=bins)
            window = Window(baseline=answers, candidate=answers, pairs=Pairs(**({"compared": 1_000} | pairs)))
            counted = Counted(
                since_ns=held.since_ns,
                run=f"run-{sidecar}",
                number=number,
                document=encode(Findings(window=window, rankings={})),
            )
            self.reports.put(connection, tenant, standing, [counted])

    def stand(self, sidecar: str = "one", tenant: str = "acme", **changes: Any) -> None:
        """A sidecar that says something of itself alone."""
        with self.database.write() as connection:
            held = self.book.read(connection, tenant)
            told: dict[str, Any] = {"rollout": held.id, "version": held.version, "is_ready": True} | changes
            self.reports.put(connection, tenant, Standing(sidecar=sidecar, **told), [])
