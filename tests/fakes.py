"""The ports of a decision, implemented in memory: state that a test bends, no patching."""
# ruff: noqa: ARG002 - a fake has its port's shape, used or not

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import orjson

from authz.approvals.overrides import NoOverrides
from authz.budgets.rates import Rates
from authz.budgets.reservations import NoBudgets
from authz.config import Config, Issuer, Policy, Route
from authz.errors import UnavailableError
from authz.identity.sessions import Sessions
from authz.model import Principal, Protocol, Revision, Tool, ToolCall
from authz.pdp import PolicyDecisionPoint, Ports
from authz.policy import agent_contract
from authz.policy.activation import ActivePolicy
from authz.reasons import POLICY_UNAVAILABLE
from authz.revocation import freshness
from authz.revocation.kills import Kill

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from authz.approvals.overrides import Overrides
    from authz.budgets.reservations import Budgets
    from authz.errors import DenialError
    from authz.model import AgentFacts, Charge, Check, Decision, JsonObject, LocalAnswer, Rate, Risk
    from authz.policy.engine import Steps
    from authz.policy.tenants import TenantPolicies

Json = dict[str, Any]

PRINCIPAL = Principal(issuer="https://issuer", tenant="acme", agent="agent-1", subject="agent-1", jti_sha256="ab" * 32)
TOOL = Tool(server="default", name="read_document", protocol=Protocol.MCP, method="tools/call")
CALL = ToolCall(
    tool=TOOL, args={"path": "/docs/a"}, message_id=7, args_pointer="/params/arguments", body_sha256="cd" * 32
)
REVISION = Revision(revision="r1", bundle_id="starter")
ROUTE = Route(path="/mcp")
ISSUER = Issuer(issuer="https://issuer", audience="tools", jwks="keys.json")


def configuration(policy_path: Path | None = None, **groups: Any) -> Config:
    """A configuration that verifies, with some groups replaced."""
    base: dict[str, Any] = {"routes": (ROUTE,), "issuers": (ISSUER,)}
    if policy_path is not None:
        base["policy"] = Policy(paths=(policy_path,))
    return Config(**(base | groups))


@dataclass
class FakeClock:
    """Time that moves when told to."""

    wall_ns: int = 1_800_000_000_000_000_000
    running_ns: int = 0

    def unix_ns(self) -> int:
        return self.wall_ns

    def monotonic_ns(self) -> int:
        return self.running_ns

    def advance(self, seconds: float) -> None:
        self.wall_ns += int(seconds * 1e9)
        self.running_ns += int(seconds * 1e9)


@dataclass
class FakeFront:
    """Steps 1 to 3 with a fixed outcome; a step that is an error raises it."""

    on: Route | None = ROUTE
    local: LocalAnswer | DenialError | None = None
    who: Principal | DenialError | None = PRINCIPAL
    what: ToolCall | DenialError = CALL
    doubt: DenialError | None = None

    def route(self, check: Check) -> Route | None:
        return self.on

    def admit(self, check: Check, route: Route | None) -> LocalAnswer | None:
        if isinstance(self.local, Exception):
            raise self.local
        return self.local

    def principal(self, check: Check, route: Route | None) -> Principal | None:
        if isinstance(self.who, Exception):
            raise self.who
        return self.who

    def vouch(self, check: Check, route: Route | None, principal: Principal) -> None:
        if self.doubt is not None:
            raise self.doubt

    def call(self, check: Check, route: Route | None) -> ToolCall:
        if isinstance(self.what, Exception):
            raise self.what
        return self.what


@dataclass
class FakeQuery:
    """Answers what it is told: a JSON value, undefined, or an error; keeps the inputs it was asked."""

    answer: Json | bytes | Exception | None = None
    asked: list[Json] = field(default_factory=list)
    during: Callable[[], object] = lambda: None

    def ask(self, input_json: bytes, deadline_s: float) -> Steps[bytes | None]:
        yield from ()
        return self.evaluate(input_json, deadline_s)

    def evaluate(self, input_json: bytes, deadline_s: float) -> bytes | None:
        self.asked.append(orjson.loads(input_json))
        self.during()
        if isinstance(self.answer, Exception):
            raise self.answer
        return orjson.dumps(self.answer) if isinstance(self.answer, dict) else self.answer


class FakePolicy:
    """A loaded policy nobody asks about itself."""

    digest = "00" * 32
    revision = "r1"
    metadata: ClassVar[Json] = {}
    warnings = ()

    def close(self) -> None:
        pass


@dataclass
class FakePolicies:
    """One active revision, or none."""

    query: FakeQuery = field(default_factory=lambda: FakeQuery({"effect": "allow", "reason": "granted"}))
    is_active: bool = True
    handshake: FakeQuery | None = None
    reads_results: bool = False
    revision: Revision = REVISION
    rates: tuple[Rate, ...] = ()

    def active(self, principal: Principal | None = None) -> ActivePolicy:
        if not self.is_active:
            raise UnavailableError(POLICY_UNAVAILABLE)
        return ActivePolicy(
            revision=self.revision,
            decision=self.query,
            handshake=self.handshake,
            interpret=agent_contract.interpret,
            reads_results=self.reads_results,
            reads_truncated_body=False,
            policy=FakePolicy(),  # type: ignore[arg-type]  # only ever closed
            rates=self.rates,
        )


@dataclass
class FakeKills:
    """Kills that a test adds; each addition moves the sequence."""

    source: str = "fake"
    sequence: int = 0
    agents: dict[str, Kill] = field(default_factory=dict)
    capabilities: dict[str, Kill] = field(default_factory=dict)
    registry: dict[str, AgentFacts] = field(default_factory=dict)
    failure: DenialError | None = None
    age_s: float = 0.0

    def kill(self, agent: str) -> None:
        self.sequence += 1
        self.agents[agent] = Kill(id=f"k{self.sequence}", scope=f"agent {agent}", kind="agent")

    def kill_capability(self, capability: str, kind: str = "capability") -> None:
        self.sequence += 1
        self.capabilities[capability] = Kill(id=f"k{self.sequence}", scope=f"{kind} {capability}", kind=kind)

    def covering(self, principal: Principal, call: ToolCall | None) -> Kill | None:
        if self.failure is not None:
            raise self.failure
        covered = (self.capabilities.get(name) for name in (call.tool.capabilities if call else ()))
        return self.agents.get(principal.agent) or next(filter(None, covered), None)

    def facts(self, principal: Principal) -> AgentFacts | None:
        return self.registry.get(principal.agent)

    def admit(self, principal: Principal, risk: Risk) -> bool:
        return freshness.admit(self.age_s, risk)


@dataclass
class FakeBudgets:
    """Can meet every charge or none, and keeps what was taken."""

    failure: DenialError | None = None
    reserved: list[tuple[Charge, ...]] = field(default_factory=list)

    def left(self, principal: Principal) -> JsonObject:
        return {}

    def plan(self, principal: Principal, charges: tuple[Charge, ...]) -> None:
        if self.failure is not None:
            raise self.failure

    def reserve(self, principal: Principal, charges: tuple[Charge, ...]) -> None:
        self.reserved.append(charges)


@dataclass
class FakeRecorder:
    """Keeps what was sealed."""

    sealed: list[tuple[Check, Decision]] = field(default_factory=list)

    def seal(self, check: Check, decision: Decision) -> tuple[bytes, int]:
        self.sealed.append((check, decision))
        return orjson.dumps({"decision_id": decision.id, "reason": decision.reason}), len(self.sealed)


@dataclass
class FakeClaim:
    """A claim that is still open, or that the watchdog took."""

    is_open: bool = True

    def commit(self) -> bool:
        return self.is_open


@dataclass
class Bench:
    """A decision point over fakes, each of them at hand."""

    front: FakeFront = field(default_factory=FakeFront)
    policies: FakePolicies = field(default_factory=FakePolicies)
    kills: FakeKills = field(default_factory=FakeKills)
    overrides: Overrides = field(default_factory=NoOverrides)
    budgets: Budgets = field(default_factory=NoBudgets)
    recorder: FakeRecorder = field(default_factory=FakeRecorder)
    clock: FakeClock = field(default_factory=FakeClock)
    sessions: Sessions = field(init=False)
    rates: Rates = field(init=False)
    observed: list[Decision] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.sessions = Sessions(self.clock)
        self.rates = Rates(self.clock)

    credential: Callable[[Check, Route, Principal | None], object] = lambda *_: None
    is_policy_current: Callable[[Principal], bool] = lambda _: True
    tenant_policies: TenantPolicies | None = None

    def pdp(self, config: Config | None = None) -> PolicyDecisionPoint:
        numbers = itertools.count(1)
        ports = Ports(
            front=self.front,
            policies=self.policies,
            kills=self.kills,
            overrides=self.overrides,
            budgets=self.budgets,
            rates=self.rates,
            recorder=self.recorder,
            clock=self.clock,
            new_id=lambda: f"d{next(numbers)}",
            credential=self.credential,
            sessions=self.sessions,
            observe=lambda _, decision: self.observed.append(decision),
            is_policy_current=self.is_policy_current,
            tenant_policies=self.tenant_policies,
        )
        return PolicyDecisionPoint(config or configuration(), ports)
