"""The parts of one decision, each timed alone in this process, so that a regression shows where it is.

Decides nothing. Figures are the best of several runs on one thread, without transport, disk or contention; their sum is
less than a decision costs in service, and their use is to be compared with the same table of another day. The rows of a
turn have the parts where they are: Python and engine, each with the processor's caches as the other leaves them.
"""

from __future__ import annotations

import time
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from authz import outcome
from authz._gen.envoy.service.auth.v3.external_auth_pb2 import CheckRequest
from authz.audit.masking import Masker
from authz.audit.record import RecordWriter
from authz.clock import SystemClock, random_id
from authz.config import load
from authz.edge.ext_authz import ExtAuthz, read
from authz.edge.reply import Replies
from authz.front import ConfiguredFront
from authz.identity.clock_guard import ClockGuard
from authz.identity.development_issuer import AUDIENCE, ISSUER
from authz.identity.jwks_source import open_jwks
from authz.identity.tokens import TokenVerifier, TrustedIssuer
from authz.outcome import Course
from authz.policy.agent_contract import interpret
from authz.policy.agent_input import NO_FACTS, input_document
from authz.protocol import canonical, strict_json
from authz.telemetry.metrics import Metrics
from authz.telemetry.spans import observation
from authz.wiring import Sidecar

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from authz.config import Config
    from authz.model import Check, Decision
    from authz.pdp import Answered
    from authz.policy.engine import Evaluation, Steps
    from bench.workload import Workload

RUNS: Final = 7
CALLS: Final = 200
TURNS: Final = (1, 8)
"""Calls that are dealt with together; eight are what comes of 16 in flight."""


class _Committed:
    """A claim that nobody contests."""

    def commit(self) -> bool:
        """Always won: no watchdog runs here."""
        return True


def measure(workload: Workload, folder: Path, seconds: float) -> dict[str, float]:
    """Microseconds of each step, none measured for much longer than `seconds`."""
    config = _config(workload, folder)
    sidecar = Sidecar(config)
    sidecar.start()
    try:
        alone = {name: _best(step, seconds) for name, step in _steps(workload, config, sidecar).items()}
        return alone | _turns(_ext_authz(sidecar), workload.granted)
    finally:
        sidecar.stop()


def _config(workload: Workload, folder: Path) -> Config:
    return load(
        None,
        {
            "policy.paths": (workload.agent_policy,),
            "listen.check": "127.0.0.1:0",
            "listen.diagnostics": "",
            "audit.directory": folder / "micro-records",
            "issuers": [{"issuer": ISSUER, "audience": AUDIENCE, "jwks": str(workload.issuer.jwks_path)}],
        },
    )


def _ext_authz(sidecar: Sidecar) -> ExtAuthz:
    return ExtAuthz(sidecar.pdp, Replies(lambda _check, _route, _principal: None), SystemClock())


def _steps(workload: Workload, config: Config, sidecar: Sidecar) -> dict[str, Callable[[], object]]:
    ext_authz = _ext_authz(sidecar)
    decision = ext_authz.check(workload.granted, _Committed()).decision
    message = CheckRequest.FromString(workload.granted)
    check = read(message, time.time_ns())
    return {
        "parse CheckRequest": lambda: CheckRequest.FromString(workload.granted),
        "read CheckRequest": lambda: read(message, check.received_ns),
        **_front_steps(workload, config, check),
        **_policy_steps(config, sidecar, check, decision),
        **_record_steps(config, check, decision),
        "whole check": lambda: ext_authz.check(workload.granted, _Committed()),
    }


def _front_steps(workload: Workload, config: Config, check: Check) -> dict[str, Callable[[], object]]:
    front, cold = (ConfiguredFront(config, _verifier(config, cache)) for cache in (100, 0))
    route, body = config.routes[0], check.body or b""
    return {
        "envelope": lambda: front.admit(check, front.route(check)),
        "token, seen before": lambda: front.principal(check, route),
        "token, new": lambda: cold.principal(check, route),
        "strict JSON": lambda: strict_json.parse(body, config.limits),
        "protocol, JSON included": lambda: front.call(check, route),
        "SHA-256 of the token": lambda: sha256(workload.token.encode()).digest(),
    }


def _verifier(config: Config, cache: int) -> TokenVerifier:
    clock, limits = SystemClock(), config.limits.model_copy(update={"token_cache": cache})
    trusted = TrustedIssuer(issuer=config.issuers[0], keys=open_jwks(config.issuers[0], clock=clock, limits=limits))
    return TokenVerifier([trusted], clock=ClockGuard(clock), limits=limits)


def _policy_steps(
    config: Config, sidecar: Sidecar, check: Check, decision: Decision
) -> dict[str, Callable[[], object]]:
    principal, call, verdict = decision.principal, decision.call, decision.verdict
    if principal is None or call is None or verdict is None:
        raise RuntimeError("the granted call was not judged")
    query, replies = sidecar.activation.active().decision, Replies(lambda _check, _route, _principal: None)
    course = Course(
        check=check,
        started_ns=0,
        deadline_ns=0,
        marked_ns=0,
        revision=decision.revision,
        new_id=random_id,
        route=config.routes[0],
        principal=principal,
        call=call,
        verdict=verdict,
    )
    return {
        "input document": lambda: input_document(check, principal, call, NO_FACTS, config.policy.http_headers),
        "engine": lambda: query.evaluate(decision.input_json, 1.0),
        "interpret": lambda: interpret(decision.result_json),
        "outcome": lambda: outcome.judged(course, verdict),
        "reply": lambda: replies.render(check, decision, config.routes[0]),
    }


def _record_steps(config: Config, check: Check, decision: Decision) -> dict[str, Callable[[], object]]:
    masker = Masker(key=bytes(32))
    writer = RecordWriter(
        labels={"id": random_id(), "version": "bench", "revocation": "none"},
        entrypoint=config.policy.rule,
        masker=masker,
        args_digest=lambda call: canonical.digest(call.args, simple=call.simple_json),
    )
    metrics = Metrics(contract="agent", revocation="none")
    return {
        "record, masking included": lambda: writer.record(check, decision),
        "masking": lambda: masker.mask(decision.input_json),
        "metrics": lambda: metrics.observe(decision),
        "span, enqueued": lambda: observation(check, decision),
    }


def _best(step: Callable[[], object], seconds: float) -> float:
    """The least mean of `RUNS` runs: what others on the machine took only adds."""
    step()
    best, until = float("inf"), time.perf_counter() + seconds
    for _ in range(RUNS):
        began = time.perf_counter()
        for _ in range(CALLS):
            step()
        ended = time.perf_counter()
        best = min(best, (ended - began) / CALLS * 1e6)
        if ended > until:
            break
    return best


def _turns(ext_authz: ExtAuthz, request: bytes) -> dict[str, float]:
    """A call's share of a turn of so many, in microseconds: the least of many turns."""
    shares = {}
    for calls in TURNS:
        python, engine = zip(*(_turn(ext_authz, request, calls) for _ in range(CALLS)), strict=True)
        shares[f"Python, {calls} in a turn"] = min(python) / calls * 1e6
        shares[f"engine, {calls} in a turn"] = min(engine) / calls * 1e6
    return shares


def _turn(ext_authz: ExtAuthz, request: bytes, calls: int) -> tuple[float, float]:
    """Seconds of Python and of the engine, for calls that all come to an evaluation before the first is evaluated."""
    python = engine = 0.0
    waiting: list[tuple[Steps[Answered], bytes | None]]
    waiting = [(ext_authz.answer(request, _Committed()), None) for _ in range(calls)]
    while waiting:
        began = time.perf_counter()
        asked = [(steps, question) for steps, result in waiting if (question := _next(steps, result)) is not None]
        between = time.perf_counter()
        waiting = [(steps, question.run()) for steps, question in asked]
        ended = time.perf_counter()
        python, engine = python + between - began, engine + ended - between
    return python, engine


def _next(steps: Steps[Answered], result: bytes | None) -> Evaluation | None:
    """What a call asks next; None where it is answered."""
    try:
        return steps.send(result)
    except StopIteration:
        return None
