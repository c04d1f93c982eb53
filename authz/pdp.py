"""The decision: the numbered steps from one check to one answer and one record (design §4).

Decides everything that a caller is told. A refusal is a value: each step may end the decision by raising
a `DenialError`, and none leaves this module. Must never block on a network, never answer allow because
something broke, and never let an answer and its record disagree: the answer is rendered first, then
claimed, then recorded.

Trusts the ports it is given to be local and thread-safe; calls arrive on many threads at once.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Protocol

from authz import outcome
from authz.errors import DenialError, InvalidRequestError, PolicyError, UnavailableError
from authz.identity import autonomy
from authz.model import Effect, Kind, Mode, Phase, Risk, Verdict
from authz.outcome import Course
from authz.policy import envoy_contract, tenants
from authz.policy.agent_input import NO_FACTS, Facts, agent_facts, input_document
from authz.policy.engine import complete
from authz.policy.strictest import is_final, strictest
from authz.protocol import redaction
from authz.reasons import (
    MEMORY_WRITES_PAUSED,
    POLICY_STALE,
    POLICY_TENANT_LIMIT,
    REVOKED,
    SYS_DEADLINE,
    SYS_INTERNAL,
)
from authz.revocation.kills import MEMORY_WRITES, NoKills
from authz.value import value

if TYPE_CHECKING:
    from collections.abc import Callable

    from authz.approvals.overrides import Overrides
    from authz.budgets.rates import Rates
    from authz.budgets.reservations import Budgets
    from authz.clock import Clock
    from authz.config import Config, Route
    from authz.identity.sessions import Sessions
    from authz.model import AgentFacts, Check, Decision, JsonObject, JsonValue, LocalAnswer, Principal, Rate, ToolCall
    from authz.policy.activation import ActivePolicy, Policies
    from authz.policy.engine import Steps
    from authz.policy.tenants import TenantPolicies
    from authz.reasons import Reason
    from authz.revocation.kills import Kills

    Render = Callable[[Check, Decision, Route | None], bytes]

HANDSHAKE: Final = Verdict(effect=Effect.ALLOW, reason="handshake", risk=Risk.READ)
"""What a handshake comes to unless the policy speaks about handshakes (contracts §4)."""


class Claim(Protocol):
    """The single right to answer one call (contracts §8)."""

    def commit(self) -> bool:
        """Take it. False when the deadline's watchdog already answered."""
        ...


class Front(Protocol):
    """Steps 1 to 3 for one contract: what was sent, by whom, and what it asks for.

    Each raises InvalidRequestError for what it refuses.
    """

    def route(self, check: Check) -> Route | None:
        """Step 1: which route; None where none are checked."""
        ...

    def admit(self, check: Check, route: Route | None) -> LocalAnswer | None:
        """Step 1: the envelope is whole, or the answer that needs no identity."""
        ...

    def principal(self, check: Check, route: Route | None) -> Principal | None:
        """Step 2. None where no tokens are checked."""
        ...

    def call(self, check: Check, route: Route | None) -> ToolCall:
        """Step 3."""
        ...

    def vouch(self, check: Check, route: Route | None, principal: Principal) -> None:
        """Step 9: what proved this principal is fresh enough for a destructive call."""
        ...


class Recorder(Protocol):
    """Turns a decision into its one record, numbered in the order of the log."""

    def seal(self, check: Check, decision: Decision) -> tuple[bytes, int]:
        """The line and its sequence number."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """What a decision asks. All are local and thread-safe."""

    front: Front
    policies: Policies
    kills: Kills
    overrides: Overrides
    budgets: Budgets
    rates: Rates
    sessions: Sessions
    recorder: Recorder
    clock: Clock
    new_id: Callable[[], str]
    credential: Callable[[Check, Route, Principal | None], object]
    """The tool's own credential. Raises UnavailableError, UPSTREAM_CREDENTIAL, where it is not at hand."""
    observe: Callable[[Check, Decision], None]
    """Told of every decision, after its record: spans and metrics. Must only enqueue."""
    tenant_policies: TenantPolicies | None = None
    """Tenants' own policies, beside the platform's; None where no tenant has any."""
    is_policy_current: Callable[[Principal], bool] = lambda _: True
    """Whether the caller's policies are known to be the newest, or are young enough; what destroys needs one of the
    two."""


@value
class Exchange:
    """What a later phase needs of the first: the same check, caller and policy revision (contracts §6)."""

    check: Check
    decision: Decision
    policy: ActivePolicy
    principal: Principal
    call: ToolCall
    route: Route | None = None
    tenant_policy: ActivePolicy | None = None

    @property
    def reads_results(self) -> bool:
        """Whether one of its policies judges results."""
        return self.policy.reads_results or (self.tenant_policy is not None and self.tenant_policy.reads_results)

    @property
    def result_judges(self) -> tuple[ActivePolicy | None, ActivePolicy | None]:
        """Who of platform and tenant judges results: one that does not speak of them would deny them all."""
        own = self.tenant_policy
        of_tenant = own if own is not None and own.reads_results else None
        of_platform = self.policy if self.policy.reads_results or of_tenant is None else None
        return (
            of_platform and (of_platform.result_judge or of_platform),
            of_tenant and (of_tenant.result_judge or of_tenant),
        )


@value
class Answered:
    """What the transport sends, what must be durable before it does, and what later phases will need."""

    decision: Decision
    answer: bytes
    record: bytes
    sequence: int
    exchange: Exchange | None = None


class PolicyDecisionPoint:
    """Decides checks. One for a process; its methods run on many threads at once."""

    def __init__(self, config: Config, ports: Ports) -> None:
        self._deadline_ns = int(config.limits.deadline_s * 1e9)
        self._evaluation_s = config.policy.evaluation_s
        self._http_headers = config.policy.http_headers
        self._ports = ports
        self._now_ns = ports.clock.monotonic_ns

    def decide(self, check: Check, claim: Claim, render: Render) -> Answered:
        """Answer one check on this thread; see `deliberate`."""
        return complete(self.deliberate(check, claim, render))

    def deliberate(self, check: Check, claim: Claim, render: Render) -> Steps[Answered]:
        """Answer one check: steps 0 to 11, in order. It pauses where the engine evaluates.

        Args:
            check: what Envoy sent.
            claim: the right to answer, shared with the transport's watchdog.
            render: turns a decision into the bytes on the wire.
        """
        # 0. Deadline: the transport's watchdog enforces it; no costly step is begun past it.
        course = self._course(check)
        try:
            decision = yield from self._judge(course)
        except DenialError as error:
            decision = outcome.refused(course, error)
        return self._commit(course, decision, claim, render)

    def failed(self, check: Check, reason: Reason, render: Render, amends: str = "") -> Answered:
        """The answer and record of a call whose decision broke or was never made: always a deny.

        Args:
            check: what is known of the call.
            reason: why it is refused.
            render: as for `decide`.
            amends: the decision whose record says otherwise, where one was already written.
        """
        course = self._course(check)
        decision = replace(outcome.refused(course, UnavailableError(reason)), amends=amends)
        return self._record(course, decision, render(check, decision, None))

    def _judge(self, course: Course) -> Steps[Decision]:
        check, front = course.check, self._ports.front
        # 1. Envelope: nothing is ever judged on a prefix, an encoding or an ambiguous path.
        course.route = front.route(check)
        local = front.admit(check, course.route)
        self._mark(course, "envelope")
        if local is not None:
            return outcome.answered_here(course, local)
        # 2. Identity, before the body is parsed, so that strangers cost little.
        course.principal = front.principal(check, course.route)
        self._mark(course, "identity")
        # 3. Protocol.
        course.call = front.call(check, course.route)
        self._mark(course, "protocol")
        # 4. Revocation: no kill covers the call, and the registry has the agent make it.
        course.kills_sequence = self._ports.kills.sequence
        self._require_session(course)
        course.revocable = self._ports.kills.source != NoKills.source
        self._refuse_stopped(course)
        # 5. Override and 6. Facts: from local replicas only.
        facts = self._facts(course)
        self._mark(course, "facts")
        # 7. Policy and 8. Interpret.
        course.verdict = yield from self._ask(course, facts)
        self._mark(course, "policy")
        # 9. Obligations: one that cannot be met turns the outcome into deny.
        verdict = course.verdict = self._narrowed(course, course.verdict, facts)
        if course.principal is not None:
            course.kills_stale = self._is_stale(course.principal, verdict)
            self._ports.budgets.plan(course.principal, verdict.charges)
        self._require_credential(course, verdict)
        return outcome.judged(course, verdict)

    def _require_session(self, course: Course) -> None:
        if course.principal is not None and course.call is not None and course.call.mcp_session:
            self._ports.sessions.require(course.principal, course.call.tool.server, course.call.mcp_session)

    def open_session(self, principal: Principal, server: str, session: str) -> None:
        """The tool named a session in its answer to this caller.

        Raises:
            InvalidRequestError: SESSION_OWNER, it named that of another.
        """
        self._ports.sessions.take(principal, server, session)

    def _require_credential(self, course: Course, verdict: Verdict) -> None:
        runs = verdict.effect in (Effect.ALLOW, Effect.SANITIZE) or verdict.mode is Mode.FLAG
        if runs and course.route is not None:
            self._ports.credential(course.check, course.route, course.principal)

    def _refuse_stopped(self, course: Course) -> None:
        if course.principal is not None:
            course.agent = self._running(course.principal, course.call)

    def _running(self, principal: Principal, call: ToolCall | None) -> AgentFacts | None:
        """What the registry says of the agent, if it may go on with this call.

        Raises:
            InvalidRequestError: a kill covers the call, or the registry stops its agent.
        """
        kills = self._ports.kills
        kill = kills.covering(principal, call)
        if kill is not None:
            reason = MEMORY_WRITES_PAUSED if kill.kind == MEMORY_WRITES else REVOKED
            raise InvalidRequestError(reason, f"kill {kill.id}: {kill.scope}")
        agent = kills.facts(principal)
        if agent is not None and call is not None:
            autonomy.admit(agent, call)
        return agent

    @property
    def kills_sequence(self) -> int:
        """Grows whenever calls under way may have been stopped."""
        return self._ports.kills.sequence

    def stopped(self, principal: Principal, call: ToolCall) -> DenialError | None:
        """Why a call that was let through must not go on, if anything stopped it since (E12)."""
        try:
            self._running(principal, call)
        except InvalidRequestError as error:
            return error
        except UnavailableError:
            return None  # kills that are too old to tell: new calls answer for that
        return None

    def cut(self, check: Check, principal: Principal, call: ToolCall, error: DenialError) -> Answered:
        """The decision and record of an answer under way that ends because its call was stopped."""
        course = self._course(check)
        course.principal, course.call = principal, replace(call, phase=Phase.RESULT)
        return self._record(course, outcome.refused(course, error), b"")

    def _is_stale(self, principal: Principal, verdict: Verdict) -> bool:
        """Whether what is let through may have been killed within the last seconds; what risks too much is refused."""
        if verdict.effect is Effect.DENY and verdict.mode is Mode.BLOCK:
            return False
        return self._ports.kills.admit(principal, verdict.risk)

    def _narrowed(self, course: Course, verdict: Verdict, facts: Facts) -> Verdict:
        """What is left of the verdict once the registry, and kills of what the policy alone knows, are asked."""
        call = course.call
        if call is None or (verdict.effect is Effect.DENY and verdict.mode is Mode.BLOCK):
            return verdict
        course.call = _with_capabilities(call, verdict)
        if course.call is not call:
            self._refuse_stopped(course)
        if verdict.risk is Risk.DESTRUCTIVE and course.principal is not None:
            if not self._ports.is_policy_current(course.principal):
                raise UnavailableError(POLICY_STALE)
            self._ports.front.vouch(course.check, course.route, course.principal)
        if course.agent is None:
            return verdict
        return autonomy.narrowed(course.agent, verdict, approved=bool(facts.approval))

    def _facts(self, course: Course) -> Facts:
        if course.principal is None or course.call is None:
            return NO_FACTS
        budgets = self._ports.budgets.left(course.principal)
        approval = self._ports.overrides.presented(course.check, course.principal, course.call)
        session = self._counted(course, course.principal, course.call)
        if not (budgets or approval or course.agent or session):
            return NO_FACTS
        return Facts(agent=agent_facts(course.agent), budgets=budgets, session=session, approval=approval)

    def _counted(self, course: Course, principal: Principal, call: ToolCall) -> JsonObject:
        """The rates that policies ask for. A call counts once, as it is judged, and is among those it is told of."""
        asked = self._asked(principal)
        if not asked:
            return {}
        if call.kind is not Kind.CALL:
            return {"rates": self._ports.rates.read(principal, call.tool, asked)}
        course.counted = asked
        return {"rates": self._ports.rates.count(principal, call.tool, asked)}

    def _asked(self, principal: Principal) -> tuple[Rate, ...]:
        asked = self._ports.policies.rates
        own = self._ports.tenant_policies.rates(principal) if self._ports.tenant_policies is not None else ()
        return tuple(sorted({*asked, *own})) if own else asked

    def _ask(self, course: Course, facts: Facts) -> Steps[Verdict]:
        policy = course.policy = self._ports.policies.active(course.principal)
        shakes = course.shakes
        # Both pointers are taken here, once: whatever is activated meanwhile answers later calls.
        if self._ports.tenant_policies is not None and course.principal is not None:
            course.tenant_policy = self._ports.tenant_policies.of(course.principal)
        verdict, query = HANDSHAKE, policy.handshake if shakes else policy.decision
        if query is not None:
            self._require_time(course)
            course.input_json = self._input(course, policy, facts)
            result = yield from query.ask(course.input_json, self._evaluation_s)
            course.result_json = result or b""
            if not shakes:
                verdict = policy.interpret(result)
            elif result is not None:
                verdict = replace(policy.interpret(result), risk=Risk.READ)
        if course.tenant_policy is None or is_final(verdict):
            return verdict
        return (yield from self._ask_tenant(course, course.tenant_policy, verdict, facts))

    def _ask_tenant(self, course: Course, tenant: ActivePolicy, platform: Verdict, facts: Facts) -> Steps[Verdict]:
        """The platform's verdict, narrowed by the tenant's own policy."""
        query = tenant.handshake if course.shakes else tenant.decision
        if query is None:
            return platform
        self._require_time(course)
        course.platform_verdict = platform
        course.input_json = course.input_json or self._input(course, tenant, facts)
        try:
            result = yield from query.ask(course.input_json, self._evaluation_s)
        except DenialError as error:
            raise tenants.failed(error) from error
        course.tenant_result_json = result or b""
        if course.shakes:
            if result is None:
                return platform
            return strictest(platform, replace(tenants.read(tenant, result), risk=Risk.READ))
        course.tenant_verdict = tenants.read(tenant, result)
        both = strictest(platform, course.tenant_verdict)
        if tenants.rewrites(platform, both):
            yield from self._require_covered(course, platform, both, facts)
        return both

    def _require_covered(self, course: Course, platform: Verdict, both: Verdict, facts: Facts) -> Steps[None]:
        """Ask the platform's policy about the call as the tenant's rewrites it: the tool gets that one."""
        call, policy, principal = course.call, course.policy, course.principal
        if call is None or policy is None or principal is None:
            raise UnavailableError(SYS_INTERNAL, "a tenant's policy was asked about no call")
        self._require_time(course)
        args = redaction.apply(call.args, both.redactions).value
        if not isinstance(args, dict):
            raise PolicyError(POLICY_TENANT_LIMIT, f"{POLICY_TENANT_LIMIT.summary}: no arguments are left")
        rewritten = input_document(course.check, principal, replace(call, args=args), facts, self._http_headers)
        result = yield from policy.decision.ask(rewritten, self._evaluation_s)
        tenants.require_covered(platform, policy.interpret(result))

    def _require_time(self, course: Course) -> None:
        if self._now_ns() > course.deadline_ns:
            raise UnavailableError(SYS_DEADLINE)

    def _input(self, course: Course, policy: ActivePolicy, facts: Facts) -> bytes:
        if course.check.document is not None:
            reads = policy.reads_truncated_body
            return envoy_contract.input_json(course.check.document, reads_truncated_body=reads)
        if course.principal is None or course.call is None:
            raise UnavailableError(SYS_INTERNAL, "no principal under contract `agent`")
        return input_document(course.check, course.principal, course.call, facts, self._http_headers)

    def _commit(self, course: Course, decision: Decision, claim: Claim, render: Render) -> Answered:
        # 10. Claim, re-check revocation, spend, record. The answer is rendered before the claim: once
        # the record says what was answered, nothing may fail any more.
        answer = render(course.check, decision, course.route)
        refusal = self._spend(course, decision) if claim.commit() else UnavailableError(SYS_DEADLINE)
        if refusal is not None:
            decision = outcome.refused(course, refusal)
            answer = render(course.check, decision, course.route)
        if course.counted and course.principal is not None and course.call is not None:
            self._ports.rates.ended(course.principal, course.call.tool, course.counted, decision.enforced)
        return self._record(course, decision, answer)

    def _spend(self, course: Course, decision: Decision) -> DenialError | None:
        """What the call costs, unless a kill landed while it was judged (E12)."""
        if not decision.forwards:
            return None
        try:
            if course.kills_sequence != self._ports.kills.sequence:
                self._refuse_stopped(course)
            if course.principal is not None and course.call is not None and course.call.mcp_session:
                self._ports.sessions.take(course.principal, course.call.tool.server, course.call.mcp_session)
            if course.principal is not None and course.verdict is not None:
                self._ports.budgets.reserve(course.principal, course.verdict.charges)
        except DenialError as error:
            return error
        return None

    def _record(self, course: Course, decision: Decision, answer: bytes) -> Answered:
        self._mark(course, "answer")
        course.latency_us["total"] = (course.marked_ns - course.started_ns) // 1000
        exchange = _exchange(course, decision)
        self._ports.observe(course.check, decision)
        # INVARIANT: nothing can fail between the number of a record and its way to the log.
        record, sequence = self._ports.recorder.seal(course.check, decision)
        # 11. Answer. Spans and metrics were enqueued only; they and later phases follow off the path.
        return Answered(decision=decision, answer=answer, record=record, sequence=sequence, exchange=exchange)

    def visible(self, exchange: Exchange, name: str) -> bool:
        """Whether the caller may see this tool: phase `list`, on the revision that judged the call.

        Raises:
            DenialError: a call of it would be stopped, or the policy gave no usable answer; the tool must be hidden.
        """
        call = exchange.call
        tool = replace(call.tool, name=name, method="tools/call")
        listed = replace(call, kind=Kind.LIST, phase=Phase.LIST, tool=tool, args={})
        called = replace(listed, kind=Kind.CALL)
        self._running(exchange.principal, called)
        course = self._later(exchange, listed)
        verdicts = self._ask_again(course, exchange, None, (exchange.policy, exchange.tenant_policy))
        if any(verdict.effect is Effect.DENY for verdict in verdicts):
            return False
        for verdict in verdicts:
            called = _with_capabilities(called, verdict)
        if called.tool.capabilities != tool.capabilities:
            self._running(exchange.principal, called)
        return True

    def filtered(self, exchange: Exchange, hidden: tuple[str, ...], answer: bytes) -> Answered:
        """The decision and record of a list: shown without `hidden`, as `answer`, unless its call was stopped."""
        course = self._later(exchange, replace(exchange.call, phase=Phase.LIST))
        if (error := self.stopped(exchange.principal, exchange.call)) is not None:
            return self._record(course, outcome.refused(course, error), b"")
        decision = outcome.judged(course, Verdict(effect=Effect.ALLOW, reason="list_filtered"))
        return self._record(course, replace(decision, hidden=hidden, inspect_response=False), answer)

    def judge_result(self, exchange: Exchange, result: JsonValue, render: Callable[[Decision], bytes]) -> Answered:
        """Phase `result`: whether and how the tool's result may be shown. Redactions are relative to it.

        Args:
            exchange: the call that the tool answers.
            result: what it answers with.
            render: writes what the caller sees; a DenialError that it raises becomes the decision.
        """
        call = replace(exchange.call, phase=Phase.RESULT)
        course = self._later(exchange, call)
        try:
            if (error := self.stopped(exchange.principal, exchange.call)) is not None:
                raise error
            verdicts = self._ask_again(course, exchange, result, exchange.result_judges)
            verdict = course.verdict = functools.reduce(strictest, verdicts)
            decision = outcome.judged(course, verdict)
            answer = render(decision)
        except DenialError as error:
            decision = outcome.refused(course, error)
            answer = render(decision)
        return self._record(course, replace(decision, inspect_response=False), answer)

    def refuse_later(self, exchange: Exchange, phase: Phase, reason: Reason) -> Answered:
        """The decision and record of a later phase that could not be carried out: always a deny."""
        course = self._later(exchange, replace(exchange.call, phase=phase))
        return self._record(course, outcome.refused(course, UnavailableError(reason)), b"")

    def _ask_again(
        self,
        course: Course,
        exchange: Exchange,
        result: JsonValue,
        judges: tuple[ActivePolicy | None, ActivePolicy | None],
    ) -> list[Verdict]:
        """The verdicts of the platform's policy and the tenant's on a later phase, of one of them at least."""
        (platform, tenant), verdicts = judges, []
        call = course.call or exchange.call
        facts = self._later_facts(exchange.principal, call)
        course.input_json = input_document(exchange.check, exchange.principal, call, facts, self._http_headers, result)
        if platform is not None:
            answer = platform.decision.evaluate(course.input_json, self._evaluation_s)
            course.result_json = answer or b""
            verdicts.append(platform.interpret(answer))
        if tenant is not None and not any(map(is_final, verdicts)):
            verdicts.append(self._ask_tenant_again(course, tenant))
        return verdicts

    def _ask_tenant_again(self, course: Course, tenant: ActivePolicy) -> Verdict:
        try:
            answer = tenant.decision.evaluate(course.input_json, self._evaluation_s)
        except DenialError as error:
            raise tenants.failed(error) from error
        course.tenant_result_json = answer or b""
        return tenants.read(tenant, answer)

    def _later_facts(self, principal: Principal, call: ToolCall) -> Facts:
        """The rates as they stand; a later phase is no further call."""
        asked = self._asked(principal)
        return Facts(session={"rates": self._ports.rates.read(principal, call.tool, asked)}) if asked else NO_FACTS

    def _later(self, exchange: Exchange, call: ToolCall) -> Course:
        course = self._course(exchange.check)
        course.principal, course.call, course.policy = exchange.principal, call, exchange.policy
        course.tenant_policy, course.route = exchange.tenant_policy, exchange.route
        course.behind_ext_proc = True
        return course

    def _course(self, check: Check) -> Course:
        now = self._now_ns()
        return Course(
            check=check,
            started_ns=now,
            deadline_ns=now + self._deadline_ns,
            marked_ns=now,
            revision=self._ports.policies.revision,
            new_id=self._ports.new_id,
        )

    def _mark(self, course: Course, step: str) -> None:
        now = self._now_ns()
        course.latency_us[step] = (now - course.marked_ns) // 1000
        course.marked_ns = now


def _with_capabilities(call: ToolCall, verdict: Verdict) -> ToolCall:
    """`call` with the capabilities that the policy alone knows its tool by; `call` itself where it names none anew."""
    named = tuple(name for name in verdict.capabilities if name not in call.tool.capabilities)
    return replace(call, tool=replace(call.tool, capabilities=(*call.tool.capabilities, *named))) if named else call


def _exchange(course: Course, decision: Decision) -> Exchange | None:
    later = decision.inspect_response or decision.enforced is Effect.SANITIZE
    if not (later and decision.forwards and course.policy and course.principal and course.call):
        return None
    return Exchange(
        check=course.check,
        decision=decision,
        policy=course.policy,
        principal=course.principal,
        call=course.call,
        route=course.route,
        tenant_policy=course.tenant_policy,
    )
