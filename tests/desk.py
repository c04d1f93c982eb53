"""One decided check and ext_proc behind it, over fakes; and what its answers come to."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import orjson

from authz._gen.envoy.service.ext_proc.v3.external_processor_pb2 import ProcessingRequest, ProcessingResponse
from authz.config import Limits
from authz.edge import watched
from authz.edge.exchanges import Exchanges
from authz.edge.ext_proc import NAMESPACE, ExtProc
from authz.model import Check, Kind, Protocol
from tests.fakes import CALL, PRINCIPAL, ROUTE, Bench, FakeClaim, FakeQuery

if TYPE_CHECKING:
    from authz.edge.ext_proc import Outcome, Stream
    from authz.model import Decision
    from authz.pdp import Exchange
    from tests.fakes import Json

SECRET = "4111 1111 1111 1111"
CARD = "[0-9]{4}( [0-9]{4}){3}"
ARGS: dict[str, Any] = {"path": "/docs/a", "note": f"card {SECRET}"}
BODY = orjson.dumps({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": "x", "arguments": ARGS}})
PLAN = [{"path": "/note", "replacement": "[CARD]", "pattern": CARD}]
BEHIND = Check(context={"authz.ext_proc": "true"}, body=BODY)
RESULT = {"jsonrpc": "2.0", "id": 7, "result": {"content": [{"type": "text", "text": SECRET}]}}
JSON = {":status": "200", "content-type": "application/json"}
EVENTS = {":status": "200", "content-type": "text/event-stream"}
MAX_BYTES = 4096
ALLOW: dict[str, Any] = {"effect": "allow"}


@dataclass
class PhaseQuery(FakeQuery):
    """Answers by phase; in phase `list` by the tool's name."""

    phases: dict[str, Json | Exception] = field(default_factory=dict)

    def evaluate(self, input_json: bytes, deadline_s: float) -> bytes | None:
        asked = orjson.loads(input_json)
        key = asked["tool"]["name"] if asked["phase"] == "list" else asked["phase"]
        self.answer = self.phases.get(key, {"effect": "deny", "reason": "no_rule"})
        return super().evaluate(input_json, deadline_s)


class Desk:
    """A decision point over fakes, with one check decided and its exchange kept."""

    def __init__(
        self, *, kind: Kind = Kind.CALL, protocol: Protocol = Protocol.MCP, **phases: Json | Exception
    ) -> None:
        self.bench = Bench()
        self.bench.policies.reads_results = kind is Kind.CALL
        self.bench.policies.query = PhaseQuery(phases={"call": ALLOW, **phases})
        tool = replace(CALL.tool, protocol=protocol)
        digest = hashlib.sha256(BODY).hexdigest()
        self.bench.front.what = replace(CALL, kind=kind, args=ARGS, tool=tool, body_sha256=digest)
        if protocol is Protocol.HTTP:
            self.bench.front.on = ROUTE.model_copy(update={"protocol": protocol})
        self.pdp = self.bench.pdp()
        self.exchanges = Exchanges(self.bench.clock)
        self.ext_proc = ExtProc(self.pdp, self.exchanges, Limits(max_body_bytes=MAX_BYTES))
        answered = self.pdp.decide(BEHIND, FakeClaim(), lambda *_: b"answer")
        assert answered.exchange is not None
        self.exchange: Exchange = answered.exchange
        self.exchanges.put(self.exchange)
        self.decided: dict[str, Any] = {}

    def open(self, leg: str) -> Stream:
        return self.ext_proc.open({"x-leg": leg})

    def watch(self) -> None:
        """From here on messages say that nobody judges the answer, as of a decision that asks for no more."""
        text = watched.write(PRINCIPAL, CALL.tool, None)
        self.decided = {watched.METADATA: text, "watch_response": True, "traceparent": f"00-{'a' * 32}-{'b' * 16}-01"}

    def message(self, side: str, content: object = None, *, decision_id: str = "", is_observed: bool = False) -> bytes:
        oneof: Any = {side: content or {}}
        request = ProcessingRequest(observability_mode=is_observed, **oneof)
        decided = {"inspect_response": not self.decided, **self.decided}
        decided["decision_id"] = decision_id or self.exchange.decision.id
        request.metadata_context.filter_metadata[NAMESPACE].update(decided)
        raw: bytes = request.SerializeToString()
        return raw

    def headers(self, side: str, headers: dict[str, str], *, end: bool = False) -> bytes:
        entries = [{"key": name, "raw_value": text.encode()} for name, text in headers.items()]
        return self.message(side, {"headers": {"headers": entries}, "end_of_stream": end})

    def respond(self, stream: Stream, headers: dict[str, str], *chunks: bytes) -> list[Outcome]:
        outcomes = [stream.message(self.headers("response_headers", headers))]
        for number, chunk in enumerate(chunks, 1):
            body = {"body": chunk, "end_of_stream": number == len(chunks)}
            outcomes.append(stream.message(self.message("response_body", body)))
        return outcomes

    @property
    def records(self) -> list[Decision]:
        return [decision for _, decision in self.bench.recorder.sealed]


def sanitizing() -> Desk:
    return Desk(call={"effect": "sanitize", "redactions": PLAN})


def parsed(outcome: Outcome) -> list[ProcessingResponse]:
    return [ProcessingResponse.FromString(answer) for answer in outcome.answers]


def only(outcome: Outcome) -> ProcessingResponse:
    (answer,) = parsed(outcome)
    return answer


def refused(outcome: Outcome) -> tuple[int, str]:
    """HTTP status and reason code of an ending."""
    answer = only(outcome)
    assert answer.WhichOneof("response") == "immediate_response"
    assert outcome.end
    body = json.loads(answer.immediate_response.body)
    return answer.immediate_response.status.code, body.get("code") or body["error"]["data"]["code"]


def shown(*outcomes: Outcome) -> bytes:
    """The response body that the caller gets."""
    answers = [answer for outcome in outcomes for answer in parsed(outcome)]
    assert not any(answer.HasField("immediate_response") for answer in answers)
    return b"".join(answer.response_body.response.body_mutation.streamed_response.body for answer in answers)


def headers_then_body(desk: Desk, body: bytes = BODY) -> Outcome:
    stream = desk.open("request")
    stream.message(desk.headers("request_headers", {":method": "POST"}))
    return stream.message(desk.message("request_body", {"body": body, "end_of_stream": True}))
