"""`envoy.service.auth.v3.Authorization/Check`: bytes in, one answer and one record out.

Decides nothing itself: it reads Envoy's message into a `Check`, lets `pdp.py` decide, and has `reply.py`
write the answer. It is the RPC boundary, and so holds the one broad `except` of the decision path: a bug
becomes an explicit deny `SYS_INTERNAL` with a record, never an exception, which would reach Envoy as an
empty message, that is, as an allow (A1, A2).

Trusts that the peer is a proxy of ours: the transport's socket permissions or mutual TLS see to that.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import orjson
from google.protobuf.message import DecodeError

from authz._gen.envoy.service.auth.v3.external_auth_pb2 import CheckRequest
from authz.errors import InvalidRequestError
from authz.model import EMPTY, Check
from authz.policy.engine import complete
from authz.reasons import HEADER_DUPLICATE, MCP_BODY_AMBIGUOUS, SYS_CALLER, SYS_DEADLINE, SYS_INTERNAL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from authz._gen.envoy.config.core.v3.base_pb2 import HeaderValue
    from authz.clock import Clock
    from authz.edge.reply import Replies
    from authz.model import JsonObject
    from authz.pdp import Answered, Claim, PolicyDecisionPoint
    from authz.policy.engine import Steps
    from authz.reasons import Reason

log: Final = logging.getLogger(__name__)
EMPTY_CHECK: Final = Check()


class ExtAuthz:
    """Answers checks. Thread-safe.

    Args:
        document: makes the opa-envoy-plugin input document from Envoy's message; None under contract `agent`.
    """

    def __init__(
        self,
        pdp: PolicyDecisionPoint,
        replies: Replies,
        clock: Clock,
        document: Callable[[CheckRequest], JsonObject] | None = None,
    ) -> None:
        self._pdp = pdp
        self._render = replies.render
        self._clock = clock
        self._document = document

    def check(self, request: bytes, claim: Claim) -> Answered:
        """Answer one check on this thread; see `answer`."""
        return complete(self.answer(request, claim))

    def answer(self, request: bytes, claim: Claim) -> Steps[Answered]:
        """Answer one check. Always returns a complete answer with a record."""
        check = EMPTY_CHECK
        try:
            check = self._read(request)
            return (yield from self._pdp.deliberate(check, claim, self._render))
        except Exception:
            log.exception("a decision failed")
            # Who lost the claim was answered by the watchdog: the record says what was sent.
            return self.failed(SYS_INTERNAL if claim.commit() else SYS_DEADLINE, check)

    def failed(self, reason: Reason, check: Check = EMPTY_CHECK) -> Answered:
        """The deny and the record of a call that was never decided."""
        return self._pdp.failed(check, reason, self._render)

    def refuse(self, reason: Reason, request: bytes, written: bytes | None = None) -> Answered:
        """The same for a call that the transport gave up: late, crashed, or its record not durable.

        Args:
            reason: why.
            request: what Envoy sent.
            written: a record of this call that says allow, although a denial was sent; the new one amends it.
        """
        amends = orjson.loads(written)["decision_id"] if written else ""
        return self._pdp.failed(self._read(request), reason, self._render, amends)

    def _read(self, request: bytes) -> Check:
        try:
            message = CheckRequest.FromString(request)
        except DecodeError:
            return Check(fault=SYS_CALLER.code, received_ns=self._clock.unix_ns())
        check = read(message, self._clock.unix_ns())
        if self._document is None:
            return check
        try:
            return replace(check, fault="", document=self._document(message))
        except InvalidRequestError as error:
            return replace(check, fault=error.reason.code)


def read(message: CheckRequest, received_ns: int) -> Check:
    """Envoy's message as a `Check`, with lower-case header names and undecoded bytes."""
    attributes = message.attributes
    http = attributes.request.http
    mapped = http.HasField("header_map")
    headers = _raw_headers(http.header_map.headers) if mapped else dict(http.headers)
    fault = HEADER_DUPLICATE.code if mapped and http.headers else ""
    body, body_fault = _body(http.body, http.raw_body)
    return Check(
        request_id=http.id,
        method=http.method,
        path=http.path,
        host=http.host,
        scheme=http.scheme,
        headers=headers,
        body=body,
        source_address=attributes.source.address.socket_address.address,
        source_principal=attributes.source.principal,
        source_certificate=attributes.source.certificate,
        context=dict(attributes.context_extensions) if attributes.context_extensions else EMPTY,
        received_ns=received_ns,
        fault=fault or body_fault,
    )


def _raw_headers(entries: Iterable[HeaderValue]) -> dict[str, str]:
    """Raw header bytes, one character a byte, so that what is not ASCII stays visible to step 1 (A12)."""
    headers: dict[str, str] = {}
    for entry in entries:
        text = entry.raw_value.decode("latin-1") or entry.value
        name = entry.key.lower()
        headers[name] = f"{headers[name]},{text}" if name in headers else text
    return headers


def _body(text: str, raw: bytes) -> tuple[bytes | None, str]:
    """The body's bytes. Envoy replaces what is not UTF-8 in `body`, so only ASCII is believed there (A10)."""
    if not text:
        return raw or None, ""
    if not text.isascii() or (raw and raw != text.encode()):
        return None, MCP_BODY_AMBIGUOUS.code
    return text.encode(), ""
