"""The decision: the numbered steps from one check to one answer and one record (design §4).

Decides everything that a caller is told. A refusal is a value: each step may end the decision by raising
a `DenialError`, and none leaves this module. Must never block on a network, never answer allow because
something broke, and never let an answer and its record disagree: the answer is rendered first, then
claimed, then recorded.

Trusts the ports it is given to be local and thread-safe; calls arrive on many threads at once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Protocol

from authz import outcome
from authz.errors import DenialError, InvalidRequestError, UnavailableError
from authz.identity import autonomy
from authz.model import Effect, Kind, Mode, Phase, Risk, Verdict
from authz.outcome import Course
from authz.policy import envoy_contract
from authz.policy.agent_input import NO_FACTS, Facts, agent_facts, input_document
from authz.policy.engine import complete
from authz.reasons import MEMORY_WRITES_PAUSED, POLICY_STALE, REVOKED, SYS_DEADLINE, SYS_INTERNAL
from authz.revocation.kills import MEMORY_WRITES, NoKills
from authz.value import value

if TYPE_CHECKING:
    from collections.abc import Callable

    from authz.approvals.overrides import Overrides
    from authz.budgets.reservations import Budgets
    from authz.clock import Clock
    from authz.config import Config, Route
    from authz.identity.sessions import Sessions
    from authz.model import AgentFacts, Check, Decision, JsonValue, LocalAnswer, Principal, ToolCall
    from authz.policy.activation import ActivePolicy, Policies
    from authz.policy.engine import Steps
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
    sessions: Sessions
    recorder: Recorder
    clock: Clock
    new_id: Callable[[], str]
    credential: Callable[[Check, Route, Principal | None], object]
    """The tool's own credential. Raises UnavailableError, UPSTREAM_CREDENTIAL, where it is not at hand."""
    observe: Callable[[Check, Decision], None]
    """Told of every decision, after its record: spans and metrics. Must only enqueue."""
    is_policy_current: Callable[[], bool] = lambda: True
    """Whether the policy is known to be the newest, or is young enough; what destroys needs one of the two."""


@value
class Exchange:
    """What a later phase needs of the first: the same check, caller and policy revision (contracts §6)."""

    check: Check
    decision: Decision
    policy: ActivePolicy
    principal: Principal
    call: ToolCall
    route: Route | None = None


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
            if not self._ports.is_policy_current():
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
        if not (budgets or approval or course.agent):
            return NO_FACTS
        return Facts(agent=agent_facts(course.agent), budgets=budgets, approval=approval)

    def _ask(self, course: Course, facts: Facts) -> Steps[Verdict]:
        policy = course.policy = self._ports.policies.active(course.principal)
        call = course.call
        shakes = call is not None and call.kind in (Kind.HANDSHAKE, Kind.RESPONSE)
        query = policy.handshake if shakes else policy.decision
        if query is None:
            return HANDSHAKE
        if self._now_ns() > course.deadline_ns:
            raise UnavailableError(SYS_DEADLINE)
        course.input_json = self._input(course, policy, facts)
        result = yield from query.ask(course.input_json, self._evaluation_s)
        course.result_json = result or b""
        if not shakes:
            return policy.interpret(result)
        return HANDSHAKE if result is None else replace(policy.interpret(result), risk=Risk.READ)

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
        verdict, _, _ = self._ask_again(exchange, listed, None, exchange.policy)
        if verdict.effect is Effect.DENY:
            return False
        if verdict.capabilities:
            self._running(exchange.principal, _with_capabilities(called, verdict))
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
            judge = exchange.policy.result_judge or exchange.policy
            verdict, course.input_json, course.result_json = self._ask_again(exchange, call, result, judge)
            course.verdict = verdict
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
        self, exchange: Exchange, call: ToolCall, result: JsonValue, policy: ActivePolicy
    ) -> tuple[Verdict, bytes, bytes]:
        document = input_document(exchange.check, exchange.principal, call, NO_FACTS, self._http_headers, result)
        answer = policy.decision.evaluate(document, self._evaluation_s)
        return policy.interpret(answer), document, answer or b""

    def _later(self, exchange: Exchange, call: ToolCall) -> Course:
        course = self._course(exchange.check)
        course.principal, course.call, course.policy = exchange.principal, call, exchange.policy
        course.route = exchange.route
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
    )
