"""A decision depends on its input alone: nothing else can be asked, and a record replays to what it says."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from authz.audit.recorder import Recorder
from authz.errors import BundleError
from authz.model import Check, Phase
from authz.native import Library
from authz.policy import agent_contract
from authz.policy.activation import Activation
from authz.policy.engine import PolicySource
from authz.policy.opa_native import NativeEngine
from authz.resources import shared
from tests.decisions import record_writer
from tests.fakes import CALL, PRINCIPAL, Bench, FakeClaim, configuration

if TYPE_CHECKING:
    from pathlib import Path

    from authz.model import ToolCall

REPLAYED = 1000
DEADLINE_S = 5.0

# Every builtin of this OPA whose answer may differ for the same arguments, and each that reaches a network or the host.
UNDECIDABLE = {
    "http.send": 'http.send({"method": "get", "url": input.url})',
    "io.jwt.decode_verify": "io.jwt.decode_verify(input.token, {})",
    "io.jwt.encode_sign": "io.jwt.encode_sign({}, {}, {})",
    "io.jwt.encode_sign_raw": 'io.jwt.encode_sign_raw("", "", "")',
    "json.match_schema": "json.match_schema(input, {})",
    "json.verify_schema": "json.verify_schema({})",
    "net.lookup_ip_addr": "net.lookup_ip_addr(input.host)",
    "net.cidr_contains": "net.cidr_contains(input.net, input.host)",
    "opa.runtime": "opa.runtime()",
    "rand.intn": 'rand.intn("seed", 100)',
    "time.now_ns": "time.now_ns()",
    "uuid.rfc4122": 'uuid.rfc4122("seed")',
}


def activation() -> Activation:
    return Activation(NativeEngine(Library.load()), "authz/decision", agent_contract.interpret)


@pytest.mark.parametrize("call", UNDECIDABLE.values(), ids=UNDECIDABLE.keys())
@pytest.mark.parametrize(
    "rule",
    [
        'decision := {{"effect": "allow"}} if {call}',
        'decision := {{"effect": "allow"}} if _now with {name} as _fixed\n\n_fixed(_) := 1\n\n_now if {call}',
        'decision := {{"effect": "allow"}} if data.elsewhere.value with data.elsewhere.value as {call}',
        'decision := {{"effect": "allow"}} if [x | x := {call}]',
    ],
    ids=["called", "replaced", "given", "collected"],
)
def test_g7_a_policy_cannot_ask_for_what_a_replay_would_not_find(tmp_path: Path, rule: str, call: str) -> None:
    (tmp_path / "policy.rego").write_text(f"package authz\n\n{rule.format(call=call, name=call.partition('(')[0])}\n")
    with pytest.raises(BundleError) as refused:
        activation().activate(PolicySource(paths=(tmp_path,)))
    unknown = "undefined function", "with keyword target must reference existing input, data, or a function"
    assert any(problem.endswith(unknown) or unknown[0] in problem for problem in refused.value.problems)


def calls() -> itertools.chain[ToolCall]:
    """Calls of every kind that the starter policy tells apart, in all combinations, again and again."""
    # No e-mail addresses: those are masked in records, and a replay must not guess at what they were.
    arguments: dict[str, list[dict[str, Any]]] = {
        "read_document": [{"path": path} for path in ("/docs/a", "/docs/../etc/passwd", "/etc/passwd", "")],
        "search_web": [{"query": "weather"}, {"query": 7}, {}],
        "transfer_payment": [
            {"amount": amount, "recipient": recipient, "currency": "EUR"}
            for amount in (1, 0.1, 1000, 1000.01, 9_007_199_254_740_991, -1)
            for recipient in ("office-supplies", "e\u0301ve", "éve")
        ],
        "send_email": [{"to": "acme.example", "subject": "x"}, {"to": None}],
        "delete_records": [{"table": "t", "where": None}],
    }
    made = [
        replace(CALL, tool=replace(CALL.tool, name=name), args=args, phase=phase)
        for name, several in arguments.items()
        for args in several
        for phase in (Phase.CALL, Phase.LIST)
    ]
    return itertools.chain.from_iterable(itertools.repeat(made))


def test_g7_a_thousand_records_replay_to_what_they_say() -> None:
    source = PolicySource(paths=(shared("bundles/starter"), shared("rego")))
    recorded, replaying = activation(), activation()
    recorded.activate(source)
    bench = Bench(policies=recorded, recorder=Recorder(record_writer().record))  # type: ignore[arg-type]
    pdp = bench.pdp(configuration())
    agents = itertools.cycle(["billing-agent", "research-agent", "support-agent", "stranger"])
    lines = []
    for call in itertools.islice(calls(), REPLAYED):
        bench.front.what, bench.front.who = call, replace(PRINCIPAL, agent=next(agents))
        bench.clock.advance(1.5)
        check = Check(method="POST", path="/mcp", received_ns=bench.clock.unix_ns())
        lines.append(pdp.decide(check, FakeClaim(), lambda *_: b"-").record)
    records = [json.loads(line) for line in lines]

    replaying.activate(source)
    query = replaying.active().decision
    for record in records:
        assert "masked" not in record
        result = query.evaluate(orjson.dumps(record["input"]), DEADLINE_S)
        assert result is not None
        assert orjson.loads(result) == record["result"]
        assert agent_contract.interpret(result).effect == record["effect"]
    assert {record["effect"] for record in records} == {"allow", "deny", "approval_needed"}
