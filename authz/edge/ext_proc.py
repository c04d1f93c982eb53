"""`envoy.service.ext_proc.v3.ExternalProcessor/Process`: carries out what a decision left to do to bodies.

Two legs, told apart by the stream's `x-leg` (see envoy/sidecar.yaml). `request`: redact the buffered request body, if
it is the very body that was judged. `duplex`: show the tool's answer as the policy allows, whole where it is JSON,
event by event where it is a stream; or, where nobody judges it, pass it on until its call is stopped (E12).

Decides nothing about policy: the decision is found by the id in ext_authz's own dynamic metadata, which neither a
client nor a tool can write, and `pdp.py` judges answers. A stream is a state machine over bytes that performs no I/O:
any transport can drive it. Must never let a byte through by default: in Envoy an empty answer, or one of the wrong
kind, may mean *continue unchanged* (B3), so whatever is not expected here ends the request with an error.

Trusts that the peer is a proxy of ours, as `ext_authz.py` does.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
import threading
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

from google.protobuf.message import DecodeError

from authz._gen.envoy.service.ext_proc.v3.external_processor_pb2 import ProcessingRequest
from authz.edge import processing, watched
from authz.edge.inspection import Inspection, refusal
from authz.errors import DenialError, UnavailableError
from authz.model import Check, Phase
from authz.protocol import envelope, redaction
from authz.protocol.sse import Event, EventReader
from authz.reasons import BODY_CHANGED, REDACT_FAILED, SYS_CALLER, SYS_INTERNAL

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from authz.config import Limits
    from authz.edge.exchanges import Exchanges
    from authz.edge.inspection import Inspected
    from authz.model import Principal, ToolCall
    from authz.pdp import Answered, PolicyDecisionPoint
    from authz.reasons import Reason

log: Final = logging.getLogger(__name__)

Fields: TypeAlias = "Mapping[str, Any]"
"""ext_authz's dynamic metadata of one request: name to `google.protobuf.Value`."""
LEG: Final = "x-leg"
NAMESPACE: Final = "envoy.filters.http.ext_authz"
"""ext_authz's own dynamic metadata; Envoy lets no request or response write to it."""
_JSON: Final = re.compile(r"application/(?:[\w.+-]+\+)?json(?:\s*;.*)?", re.IGNORECASE)
_EVENT_STREAM: Final = re.compile(r"text/event-stream(?:\s*;.*)?", re.IGNORECASE)
PATIENCE_S: Final = 0.05
"""How long to wait for the message that a stream is judging before it is asked again to end."""
_SUCCESS: Final = range(200, 300)
_STALE: Final = ("content-digest", "content-md5", "digest", "repr-digest", "etag")
"""Headers that describe a body's bytes, and are wrong once those change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one message of a stream leads to."""

    answers: tuple[bytes, ...] = ()
    judged: tuple[Answered, ...] = ()
    """Their records must be durable before the answers go out."""
    end: bool = False
    """Close the stream after the answers."""


NOTHING: Final = Outcome()


class _State(Enum):
    HEADERS = auto()
    BODY = auto()
    EVENTS = auto()
    DONE = auto()


class ExtProc:
    """Opens streams. Thread-safe; a stream is not."""

    def __init__(self, pdp: PolicyDecisionPoint, exchanges: Exchanges, limits: Limits) -> None:
        self.pdp = pdp
        self.exchanges = exchanges
        self.limits = limits

    def open(self, metadata: Mapping[str, str]) -> Stream:
        """A stream for one leg of one request."""
        return Stream(self, LEGS.get(metadata.get(LEG, "")))

    def failed(self, reason: Reason) -> Outcome:
        """The end, on record, of a stream whose exchange is not known."""
        answered = self.pdp.failed(Check(), reason, lambda *_: b"")
        return Outcome(answers=(immediate(answered),), judged=(answered,), end=True)


class Stream:
    """One ext_proc stream. Its messages come one after another; only `cut` may come beside them."""

    def __init__(self, ext_proc: ExtProc, leg: Callable[[ExtProc, Fields], Leg] | None) -> None:
        self._ext_proc = ext_proc
        self._make_leg = leg
        self._leg: Leg | None = None
        self._lock = threading.Lock()
        self._is_over = self._is_cut = False

    def message(self, raw: bytes) -> Outcome:
        """Take one `ProcessingRequest`. Always returns an outcome; nothing passes because something broke."""
        with self._lock:
            # After a cut its last message is on the way. Ending without one would tell Envoy to go on by itself (B3).
            outcome = NOTHING if self._is_cut else self._message(raw)
            self._is_over = self._is_over or outcome.end
            return outcome

    def cut(self) -> Outcome:
        """End an answer under way whose call was stopped, on record and once.

        Raises:
            TimeoutError: a message is being judged; ask again.
        """
        if not self._lock.acquire(timeout=PATIENCE_S):
            raise TimeoutError
        try:
            outcome = NOTHING if self._is_over or self._leg is None else self._leg.cut()
            self._is_cut = self._is_over = self._is_over or outcome.end
            return outcome
        finally:
            self._lock.release()

    def _message(self, raw: bytes) -> Outcome:
        try:
            request = ProcessingRequest.FromString(raw)
        except DecodeError:
            return self.refuse(SYS_CALLER)
        if request.observability_mode:
            return NOTHING  # nobody reads answers: a plan that was due here becomes SANITIZE_NOT_APPLIED
        try:
            return self._take(request)
        except DenialError as error:
            return self.refuse(error.reason)
        except Exception:
            log.exception("an ext_proc message failed")
            return self.refuse(SYS_INTERNAL)

    def refuse(self, reason: Reason) -> Outcome:
        """End the request with an error, on record."""
        return self._leg.refuse(reason) if self._leg else self._ext_proc.failed(reason)

    def _take(self, request: ProcessingRequest) -> Outcome:
        if self._leg is None:
            if self._make_leg is None:
                return self.refuse(SYS_CALLER)
            self._leg = self._make_leg(self._ext_proc, request.metadata_context.filter_metadata[NAMESPACE].fields)
        return self._leg.take(request)


def _text(fields: Fields, name: str) -> str:
    return fields[name].string_value if name in fields else ""


class Leg(Protocol):
    """What one stream is there for."""

    def take(self, request: ProcessingRequest) -> Outcome:
        """Answer one message.

        Raises:
            DenialError: the request must end.
        """
        ...

    def refuse(self, reason: Reason) -> Outcome:
        """End the request with an error, on record."""
        ...

    def cut(self) -> Outcome:
        """The same if its call was stopped since; else nothing."""
        ...


class RequestLeg:
    """Headers, then the whole body: redacted, or the request ends."""

    def __init__(self, ext_proc: ExtProc, fields: Fields) -> None:
        exchange = ext_proc.exchanges.take_plan(_text(fields, "decision_id"))
        if exchange is None:
            raise UnavailableError(REDACT_FAILED, "no plan is known for this request")
        self._exchange = exchange
        self._pdp = ext_proc.pdp
        self._limits = ext_proc.limits
        self._state = _State.HEADERS

    def take(self, request: ProcessingRequest) -> Outcome:
        """Answer one message.

        Raises:
            DenialError: the request must end.
        """
        kind = request.WhichOneof("request")
        if (self._state, kind) == (_State.HEADERS, "request_headers") and not request.request_headers.end_of_stream:
            self._state = _State.BODY
            return Outcome(answers=(processing.continue_headers("request_headers"),))
        if (self._state, kind) == (_State.BODY, "request_body"):
            self._state = _State.DONE
            if (cut := self.cut()).end:
                return cut
            return Outcome(answers=(self._redacted(request.request_body.body),), end=True)
        raise UnavailableError(REDACT_FAILED, f"{kind} is out of order")

    def refuse(self, reason: Reason) -> Outcome:
        """End the request with an error, on record."""
        answered = self._pdp.refuse_later(self._exchange, Phase.CALL, reason)
        return Outcome(answers=(immediate(answered),), judged=(answered,), end=True)

    def cut(self) -> Outcome:
        """End a request whose call was stopped before it reached the tool."""
        return _cut(self._pdp, self._exchange.check, self._exchange.principal, self._exchange.call)

    def _redacted(self, body: bytes) -> bytes:
        call, verdict = self._exchange.call, self._exchange.decision.verdict
        # What was judged and what is rewritten must be the same bytes, or a filter in between decides (B9).
        if not hmac.compare_digest(hashlib.sha256(body).hexdigest(), call.body_sha256):
            raise UnavailableError(BODY_CHANGED)
        if verdict is None:
            raise UnavailableError(REDACT_FAILED, "the decision has no plan")
        is_form = envelope.is_form(self._exchange.check)
        redacted = redaction.apply_to_call(body, call, verdict.redactions, self._limits, is_form=is_form)
        headers = {**redacted.headers, "content-length": str(len(redacted.body))}
        return processing.replace_request_body(redacted.body, headers, _STALE)


@dataclass(slots=True)
class _Head:
    """What the answer's headers say of its body."""

    status: int = 0
    content_type: str = ""
    body: bytearray = field(default_factory=bytearray)


class ResponseLeg:
    """Headers are held until the body is judged; of an event stream they go at once, and each event when judged."""

    def __init__(self, ext_proc: ExtProc, fields: Fields) -> None:
        exchange = ext_proc.exchanges.find(_text(fields, "decision_id"))
        if exchange is None:
            raise UnavailableError(REDACT_FAILED, "no exchange is known for this answer")
        self._exchange = exchange
        self._pdp = ext_proc.pdp
        self._max_bytes = ext_proc.limits.max_body_bytes
        self._inspection = Inspection(ext_proc.pdp, exchange, ext_proc.limits)
        self._events = EventReader(self._max_bytes)
        self._head = _Head()
        self._state = _State.HEADERS

    def take(self, request: ProcessingRequest) -> Outcome:
        """Answer one message.

        Raises:
            DenialError: the request must end.
        """
        match self._state, request.WhichOneof("request"):
            case _State.HEADERS, "response_headers":
                headers = processing.headers(request.response_headers)
                return self._headers(headers, is_all=request.response_headers.end_of_stream)
            case _State.BODY, "response_body":
                return self._body(request.response_body.body, is_last=request.response_body.end_of_stream)
            case _State.EVENTS, "response_body":
                return self._stream(request.response_body.body, is_last=request.response_body.end_of_stream)
            case (_State.BODY | _State.EVENTS) as state, "response_trailers":
                return self._trailers(state, [header.key for header in request.response_trailers.trailers.headers])
            case _, kind:
                raise UnavailableError(REDACT_FAILED, f"{kind} is out of order")

    def refuse(self, reason: Reason) -> Outcome:
        """End the request with an error, on record. Envoy resets an answer that has begun."""
        self._state = _State.DONE
        answered = self._pdp.refuse_later(self._exchange, self._inspection.phase, reason)
        return Outcome(answers=(immediate(answered),), judged=(answered,), end=True)

    def cut(self) -> Outcome:
        """End an answer whose call was stopped. Envoy resets one that has begun."""
        return _cut(self._pdp, self._exchange.check, self._exchange.principal, self._exchange.call)

    def _headers(self, headers: Mapping[str, str], *, is_all: bool) -> Outcome:
        # Asked for no encoding, the tool chose one all the same: it cannot be read within bounds (B5).
        if headers.get("content-encoding", "identity").lower() != "identity":
            raise UnavailableError(REDACT_FAILED, "the answer is encoded")
        self._head = _Head(status=int(headers.get(":status", "0")), content_type=headers.get("content-type", ""))
        if is_all:
            self._state = _State.DONE
            return Outcome(answers=(processing.continue_headers("response_headers"),))
        if _EVENT_STREAM.fullmatch(self._head.content_type):
            self._state = _State.EVENTS
            return Outcome(answers=(processing.continue_headers("response_headers"),))
        self._state = _State.BODY
        return NOTHING

    def _body(self, chunk: bytes, *, is_last: bool) -> Outcome:
        self._head.body += chunk
        if len(self._head.body) > self._max_bytes:
            raise UnavailableError(REDACT_FAILED, "the answer is over the limit")
        if not is_last:
            return NOTHING
        self._state = _State.DONE
        return self._whole(is_last=True)

    def _whole(self, *, is_last: bool) -> Outcome:
        body = bytes(self._head.body)
        if not body:
            return _shown(b"", (), (), is_last=is_last)
        is_json = _JSON.fullmatch(self._head.content_type)
        inspected = self._inspection.judge(body) if is_json else self._inspection.refuse()
        judged = _judged(inspected)
        if not inspected.is_refused:
            return _shown(inspected.body, _STALE if inspected.body != body else (), judged, is_last=is_last)
        if self._head.status not in _SUCCESS:
            # A proxy's or server's own error page: its status and headers are the answer, its text is withheld.
            return _shown(b"", (*_STALE, "content-type"), judged, is_last=is_last)
        return Outcome(answers=tuple(map(immediate, judged)), judged=judged, end=True)

    def _stream(self, chunk: bytes, *, is_last: bool) -> Outcome:
        shown = bytearray()
        judged: list[Answered] = []
        for item in self._events.feed(chunk):
            if isinstance(item, bytes) or not item.data:
                shown += item if isinstance(item, bytes) else item.render()
                continue
            inspected = self._inspection.judge(item.data)
            judged += _judged(inspected)
            fields = self._inspection.fields(item.fields, inspected)
            shown += Event(data=inspected.body, fields=fields).render() if inspected.body else b""
        if is_last:
            self._state = _State.DONE
        # What was judged is on record even where nothing of it is shown: its number in the log is taken.
        answers = (processing.response_body(bytes(shown), is_last=is_last),) if shown or is_last else ()
        return Outcome(answers=answers, judged=tuple(judged))

    def _trailers(self, state: _State, names: list[str]) -> Outcome:
        """The end of a body that has trailers. They are dropped: nobody judged them (B7)."""
        self._state = _State.DONE
        whole = self._whole(is_last=False) if state is _State.BODY else NOTHING
        if whole.end:
            return whole
        answers = (*whole.answers, processing.drop_trailers(names))
        return Outcome(answers=answers, judged=whole.judged)


class WatchLeg:
    """An answer that nobody judges: it passes as it comes, until its call is stopped."""

    def __init__(self, ext_proc: ExtProc, fields: Fields) -> None:
        self._watched = watched.read(_text(fields, watched.METADATA))
        self._check = Check(headers={"traceparent": _text(fields, "traceparent")})
        self._opens_session = _is_true(fields, "opens_session")
        self._pdp = ext_proc.pdp
        self._state = _State.HEADERS

    def take(self, request: ProcessingRequest) -> Outcome:
        """Answer one message.

        Raises:
            DenialError: the request must end.
        """
        match self._state, request.WhichOneof("request"):
            case _State.HEADERS, "response_headers":
                if self._opens_session:
                    self._open_session(processing.headers(request.response_headers).get("mcp-session-id", ""))
                # The kill may have come while the tool was thinking.
                self._state = _State.DONE if request.response_headers.end_of_stream else _State.EVENTS
                cut = self.cut()
                return cut if cut.end else Outcome(answers=(processing.continue_headers("response_headers"),))
            case _State.EVENTS, "response_body":
                body = request.response_body
                if not body.body and not body.end_of_stream:
                    return NOTHING
                return Outcome(answers=(processing.response_body(body.body, is_last=body.end_of_stream),))
            case _State.EVENTS, "response_trailers":
                self._state = _State.DONE
                return Outcome(answers=(processing.drop_trailers(()),))
            case _, kind:
                raise UnavailableError(SYS_CALLER, f"{kind} is out of order")

    def refuse(self, reason: Reason) -> Outcome:
        """End the request with an error, on record."""
        return self._ended(UnavailableError(reason))

    def cut(self) -> Outcome:
        """End an answer whose call was stopped. Envoy resets one that has begun."""
        return _cut(self._pdp, self._check, self._watched.principal, self._watched.call)

    def _open_session(self, session: str) -> None:
        if session:
            self._pdp.open_session(self._watched.principal, self._watched.tool.server, session)

    def _ended(self, error: DenialError) -> Outcome:
        return _ended(self._pdp.cut(self._check, self._watched.principal, self._watched.call, error))


def _response_leg(ext_proc: ExtProc, fields: Fields) -> Leg:
    """Judged where the decision asked for that."""
    is_judged = _is_true(fields, "inspect_response") and not _is_true(fields, "opens_session")
    return ResponseLeg(ext_proc, fields) if is_judged or watched.METADATA not in fields else WatchLeg(ext_proc, fields)


def _is_true(fields: Fields, name: str) -> bool:
    return name in fields and bool(fields[name].bool_value)


LEGS: Final[dict[str, Callable[[ExtProc, Fields], Leg]]] = {"request": RequestLeg, "duplex": _response_leg}


def _cut(pdp: PolicyDecisionPoint, check: Check, principal: Principal, call: ToolCall) -> Outcome:
    error = pdp.stopped(principal, call)
    return NOTHING if error is None else _ended(pdp.cut(check, principal, call, error))


def _ended(answered: Answered) -> Outcome:
    return Outcome(answers=(immediate(answered),), judged=(answered,), end=True)


def _judged(inspected: Inspected) -> tuple[Answered, ...]:
    return (inspected.answered,) if inspected.answered else ()


def _shown(body: bytes, remove: tuple[str, ...], judged: tuple[Answered, ...], *, is_last: bool) -> Outcome:
    """The held headers, then the body."""
    headers = processing.continue_headers("response_headers", remove)
    return Outcome(answers=(headers, processing.response_body(body, is_last=is_last)), judged=judged)


def immediate(answered: Answered) -> bytes:
    """The answer that ends the request with a refusal."""
    decision = answered.decision
    content_type = "application/json" if decision.rpc_code else "application/problem+json"
    return processing.immediate_response(decision.http_status, content_type, decision.id, refusal(decision))
