"""The HTTP listener: the same calls by the Connect protocol with JSON, and what a service owes its surroundings.

Decides how a refusal reads (https://connectrpc.com/docs/protocol): `{"code", "message", "details"}`, our reason in the
details. Unary calls are plain POSTs; a method that streams answers with enveloped messages, the last of which says how
it ended. Bodies are read whole, within a size and a time, before anything is judged. There are no cookies, so no page
of a browser can act for its user; nothing that is answered may be kept by a cache.

Must never answer a path that is neither a method of the dispatcher nor one of `permissions.PATHS`.
"""

from __future__ import annotations

import asyncio
import base64
import functools
import struct
import threading
from typing import TYPE_CHECKING, Any, Final

import orjson
from starlette.applications import Starlette
from starlette.concurrency import iterate_in_threadpool, run_in_threadpool
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from authz.config import KIB
from authz.control.authentication import Presented
from authz.control.dispatcher import Asked
from authz.control.forms import MAX_BODY_BYTES, Binary, Json
from authz.control.grpc_server import status_of
from authz.control.permissions import PACKAGE, PATHS
from authz.control.refusals import Code, RefusedError, malformed
from authz.errors import ConfigError
from authz.reasons import CONTROL_METHOD, CONTROL_STREAM

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence

    from starlette.requests import Request
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from authz.control.dispatcher import Dispatcher

MAX_HEAD_BYTES: Final = 16 * KIB
BODY_S: Final = 10.0
"""Longest wait for a whole body."""
PUSH: Final = f"/{PACKAGE}.Bundles/PushBundle"
PUSHES: Final = 4
"""Pushes of bundles whose bodies are read at a time."""
PUSH_S: Final = 60.0
"""Longest wait for the whole body of one."""
CALL_S: Final = 60.0
"""Longest unary call; a client may ask for less with `connect-timeout-ms`."""
JSON: Final = "application/json"
PROTO: Final = "application/proto"
"""The other form of a unary call, for what is large: an archive in JSON would take a third more, and be parsed."""
STREAM: Final = "application/connect+json"
_HEADER: Final = struct.Struct(">BI")
_END: Final = 2
_HEADERS: Final = {"cache-control": "no-store", "x-content-type-options": "nosniff"}


def http_app(
    dispatcher: Dispatcher,
    *,
    exposition: Callable[[str], tuple[str, bytes]],
    unready: Callable[[], Mapping[str, str]],
    addresses: Callable[[], Mapping[str, str]],
    routes: Sequence[Route] = (),
    push_bytes: int = MAX_BODY_BYTES,
) -> ASGIApp:
    """The app.

    Args:
        dispatcher: answers the calls.
        exposition: (accept) -> (content type, text) of the metrics.
        unready: why calls are not served, by part; empty means ready.
        addresses: where the listeners are.
        routes: more of them.
        push_bytes: the bound on the body that publishes a bundle.

    Raises:
        ConfigError: a route that no table names.
    """

    async def health(_: Request) -> Response:
        return _json(200, {"status": "alive"})

    async def readiness(_: Request) -> Response:
        waiting = await run_in_threadpool(unready)
        return _json(503 if waiting else 200, {"status": "not_ready" if waiting else "ready", "waiting_for": waiting})

    async def metrics(request: Request) -> Response:
        content_type, text = await run_in_threadpool(exposition, request.headers.get("accept", ""))
        return Response(text, headers=_HEADERS | {"content-type": content_type})

    async def discovery(_: Request) -> Response:
        return _json(200, addresses())

    calls = _Calls(dispatcher)
    fixed = {
        "/healthz": health,
        "/readyz": readiness,
        "/metrics": metrics,
        "/.well-known/authz-control": discovery,
    }
    if unknown := sorted({*fixed, *(route.path for route in routes)} - set(PATHS)):
        raise ConfigError(f"no table of permissions names {', '.join(unknown)}")
    app = Starlette(
        routes=[
            *(Route(path, endpoint, methods=["GET"]) for path, endpoint in fixed.items()),
            Route(f"/{PACKAGE}.{{method:path}}", calls.answer, methods=["POST"]),
            *routes,
        ],
        exception_handlers={404: _no_such_path, 405: _no_such_path},
    )
    app.router.redirect_slashes = False  # a path is one path
    return Bounded(app, push_bytes=push_bytes, is_known=dispatcher.is_known)


class _Calls:
    """Calls of the API."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher

    async def answer(self, request: Request) -> Response:
        """One POST."""
        gone = threading.Event()
        presented = Presented(authorization=tuple(request.headers.getlist("authorization")))
        asked = functools.partial(Asked, method=request.url.path, presented=presented, gone=gone)
        content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        streams = self._dispatcher.is_streaming(request.url.path)
        try:
            _require_readable(request, (STREAM,) if streams else (JSON, PROTO), content_type)
            body = await request.body()
            if streams:
                return self._streamed(asked(form=Json(), body=_enveloped(body)), gone)
            form = Binary() if content_type == PROTO else Json()
            return await self._called(asked(form=form, body=body), gone, content_type, _seconds(request))
        except RefusedError as refusal:
            return refused(refusal)

    async def _called(self, asked: Asked, gone: threading.Event, content_type: str, seconds: float) -> Response:
        ending = asyncio.get_running_loop().call_later(seconds, gone.set)
        try:
            answer = await run_in_threadpool(self._dispatcher.call, asked)
        finally:
            ending.cancel()
            gone.set()
        return Response(answer, headers=_HEADERS | {"content-type": content_type})

    def _streamed(self, asked: Asked, gone: threading.Event) -> Response:
        async def frames() -> AsyncIterator[bytes]:
            try:
                async for frame in iterate_in_threadpool(_frames(self._dispatcher, asked)):
                    yield frame
            finally:
                gone.set()

        return _Stream(gone, frames(), headers=_HEADERS | {"content-type": STREAM})


class _Stream(StreamingResponse):
    """A stream that tells its method when the client hangs up: a thread that waits cannot be cancelled."""

    def __init__(self, gone: threading.Event, content: AsyncIterator[bytes], headers: Mapping[str, str]) -> None:
        super().__init__(content, headers=headers)
        self._gone = gone

    async def listen_for_disconnect(self, receive: Receive) -> None:
        """See `StreamingResponse`."""
        await super().listen_for_disconnect(receive)
        self._gone.set()


def _frames(dispatcher: Dispatcher, asked: Asked) -> Iterator[bytes]:
    """Each answer in an envelope, and at last how it ended."""
    end: dict[str, Any] = {}
    try:
        for answer in dispatcher.stream(asked):
            yield _HEADER.pack(0, len(answer)) + answer
    except RefusedError as refusal:
        end = {"error": _error(refusal)}
    said = orjson.dumps(end)
    yield _HEADER.pack(_END, len(said)) + said


def _enveloped(body: bytes) -> bytes:
    """The one message of a request to a streaming method."""
    if len(body) < _HEADER.size or _HEADER.unpack_from(body) != (0, len(body) - _HEADER.size):
        raise malformed("the body is not one enveloped message")
    return body[_HEADER.size :]


def _require_readable(request: Request, wanted: tuple[str, ...], content_type: str) -> None:
    if content_type not in wanted:
        if STREAM in wanted:
            raise RefusedError(Code.UNIMPLEMENTED, CONTROL_STREAM)
        raise malformed(f"the content type is not {' or '.join(wanted)}")
    if request.headers.get("content-encoding", "identity") != "identity" or request.url.query:
        raise malformed("an encoded body, or a query, is not read")


def _seconds(request: Request) -> float:
    """How long the client waits."""
    asked = request.headers.get("connect-timeout-ms", "")
    if not asked:
        return CALL_S
    if not (asked.isascii() and asked.isdecimal() and len(asked) <= 10):  # noqa: PLR2004 - the protocol's own bound
        raise malformed("connect-timeout-ms is not a number")
    return min(int(asked) / 1000, CALL_S)


def _error(refusal: RefusedError) -> dict[str, Any]:
    """Connect's error, with `google.rpc.ErrorInfo` also in readable form."""
    detail = status_of(refusal).details[0]
    told = {"reason": refusal.reason.code, "domain": "authz", "metadata": {"next_step": refusal.reason.next_step}}
    value = base64.b64encode(detail.value).decode().rstrip("=")
    typed = {"type": detail.type_url.rpartition("/")[2], "value": value, "debug": told}
    return {"code": refusal.code.word, "message": refusal.message, "details": [typed]}


def refused(refusal: RefusedError) -> Response:
    """A refusal in Connect's form."""
    headers = {"x-authz-reason": refusal.reason.code}
    if refusal.code is Code.UNAUTHENTICATED:
        headers["www-authenticate"] = "Bearer"
    return _json(refusal.code.value.http, _error(refusal), headers)


def _json(status: int, content: Any, headers: Mapping[str, str] | None = None) -> Response:  # noqa: ANN401
    sent = _HEADERS | {"content-type": JSON} | dict(headers or {})
    return Response(orjson.dumps(content), status, headers=sent)


async def _no_such_path(_request: Request, _raised: Exception) -> Response:
    return _json(404, _error(RefusedError(Code.UNIMPLEMENTED, CONTROL_METHOD)))


class Bounded:
    """Reads each request whole before the app sees it: none is larger than the limits, none takes for ever.

    Args:
        push_bytes: the bound on a push of a bundle, by a caller who `is_known`; so few at a time are held in memory.
    """

    def __init__(
        self,
        app: ASGIApp,
        body_s: float = BODY_S,
        *,
        push_bytes: int = MAX_BODY_BYTES,
        is_known: Callable[[Presented], bool] = lambda _: False,
    ) -> None:
        self._app = app
        self._body_s = body_s
        self._push_bytes = push_bytes
        self._is_known = is_known
        self._pushes = asyncio.Semaphore(PUSHES)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if len(scope["raw_path"]) + sum(len(name) + len(value) for name, value in scope["headers"]) > MAX_HEAD_BYTES:
            refusal = {"code": Code.RESOURCE_EXHAUSTED.word, "message": f"the head is over {MAX_HEAD_BYTES} bytes"}
            await _json(431, refusal, {"connection": "close"})(scope, receive, send)
            return
        if scope["path"] == PUSH and await self._may_push(scope):
            async with self._pushes:
                await self._answer(scope, receive, send, self._push_bytes, PUSH_S)
        else:
            await self._answer(scope, receive, send, MAX_BODY_BYTES, self._body_s)

    async def _may_push(self, scope: Scope) -> bool:
        shown = tuple(value.decode("latin-1") for name, value in scope["headers"] if name == b"authorization")
        return bool(shown) and await run_in_threadpool(self._is_known, Presented(authorization=shown))

    async def _answer(self, scope: Scope, receive: Receive, send: Send, most_bytes: int, body_s: float) -> None:
        try:
            body = await asyncio.wait_for(_whole(receive, most_bytes), body_s)
        except TimeoutError:
            await _json(408, {"code": Code.DEADLINE_EXCEEDED.word, "message": "the body came too slowly"})(
                scope, receive, send
            )
            return
        if body is None:
            refusal = {"code": Code.RESOURCE_EXHAUSTED.word, "message": f"the body is over {most_bytes} bytes"}
            await _json(413, refusal, {"connection": "close"})(scope, receive, send)
            return
        await self._app(scope, _replayed(body, receive), send)


async def _whole(receive: Receive, most_bytes: int) -> bytes | None:
    """The body; None where it is over the limit."""
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if len(body) > most_bytes:
            return None
        if message["type"] != "http.request" or not message.get("more_body", False):
            return bytes(body)


def _replayed(body: bytes, receive: Receive) -> Callable[[], Awaitable[Message]]:
    """The body once, then what else comes: that the client is gone."""
    waiting = [body]

    async def replay() -> Message:
        if waiting:
            return {"type": "http.request", "body": waiting.pop(), "more_body": False}
        return await receive()

    return replay
