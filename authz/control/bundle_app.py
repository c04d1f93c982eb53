"""Bundles over HTTP as OPA asks for them, so that a stock OPA follows this control plane.

Decides how OPA's bundle service (https://www.openpolicyagent.org/docs/management-bundles) reads the registry: one GET
with an ETag, 304 where the caller has it, and with `Prefer: wait=SECONDS` an answer that waits for a change. Who may
read is the dispatcher's to say, again each time something changed. A wait holds no thread, and there are so many
waits at a time; past them a caller is answered at once, as if it had not asked to wait.

Below `/deltas` all is the same, but that whoever names the one archive it has, and takes deltas (`Prefer:
modes=snapshot,delta`), is given the delta that makes the newest of it, if there is one. OPA asks everywhere in these
words, and cannot verify a delta: one that must verify refuses it, and asks for it again. So deltas have a place of
their own, for those who were configured to ask there.

What lies beside an archive (further signatures, statements) is read from the same folder, named by the archive's
digest, as sidecars read it anywhere. Must never read a bundle for a caller that the dispatcher has not let in.
"""

from __future__ import annotations

import asyncio
import re
import threading
from typing import TYPE_CHECKING, Final, cast

from starlette.concurrency import iterate_in_threadpool, run_in_threadpool
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from authz._gen.authz.control.v1 import bundles_pb2 as pb
from authz.control.authentication import Presented
from authz.control.dispatcher import Asked
from authz.control.forms import Binary
from authz.control.http_app import refused
from authz.control.permissions import PACKAGE
from authz.control.refusals import Code, RefusedError
from authz.policy.origin_http import LONG_POLL
from authz.policy.registry import Place
from authz.policy.sources import KINDS
from authz.reasons import REVISION_UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from google.protobuf.message import Message
    from starlette.requests import Request

    from authz.clock import Clock
    from authz.control.dispatcher import Dispatcher
    from authz.policy.registry_sql import Registry
    from authz.policy.sources import Beside

DELTAS: Final = "/deltas"
LONGEST_WAIT_S: Final = 300.0
LOOK_S: Final = 0.5
"""How often those who wait look for a change: one question for all of them."""
WAITS: Final = 256
_ARCHIVE: Final = "application/gzip"
_BESIDE: Final = re.compile(rf"([0-9a-f]{{64}})\.({'|'.join(KINDS)})\.json")
_WAIT: Final = re.compile(r"(?:^|[;,\s])wait=([0-9]{1,6})(?:$|[;,\s])")
_MODES: Final = re.compile(r"(?:^|[;,\s])modes=(?:[a-z]+,)*delta(?:$|[;,\s])")
_TAG: Final = re.compile(r'(?:W/)?"sha256:([0-9a-f]{64})"')
_HEADERS: Final = {"cache-control": "private, no-cache", "x-content-type-options": "nosniff"}
_NS: Final = 1_000_000_000


class BundleApp:
    """The endpoints."""

    def __init__(self, dispatcher: Dispatcher, registry: Registry, clock: Clock) -> None:
        self._dispatcher = dispatcher
        self._registry = registry
        self._monotonic_ns = clock.monotonic_ns
        self._waits = 0
        self._seen = (0, 0)

    def routes(self) -> list[Route]:
        """For the HTTP app: the platform's bundles, and a tenant's."""
        paths = [f"{top}/{name}" for top in ("/bundles", DELTAS) for name in ("{name}", "{tenant}/{name}")]
        return [Route(path, self._read, methods=["GET"]) for path in paths]

    async def _read(self, request: Request) -> Response:
        tenant, name = request.path_params.get("tenant", ""), request.path_params["name"]
        try:
            if matched := _BESIDE.fullmatch(name):
                kind = cast("Beside", matched[2])
                return await run_in_threadpool(self._beside, request, tenant, matched[1], kind)
            return await self._bundle(request, pb.ReadBundleRequest(tenant=tenant, name=name))
        except RefusedError as refusal:
            return refused(refusal)

    async def _bundle(self, request: Request, wanted: pb.ReadBundleRequest) -> Response:
        """The newest, or 304 once the wait is over."""
        wait_s = _wait_s(request)
        until_ns = self._monotonic_ns() + int(wait_s * _NS)
        before = await run_in_threadpool(self._changes)
        while True:
            newest = await run_in_threadpool(self._admitted, request, wanted)
            if not _has(request, newest.sha256):
                content_type = LONG_POLL if wait_s else _ARCHIVE
                made = await run_in_threadpool(self._delta, wanted, newest, _base(request))
                return self._content(newest, content_type) if made is None else _sent(newest, content_type, made)
            left_s = (until_ns - self._monotonic_ns()) / _NS
            before = await self._changed(request, before, left_s)
            if before < 0:
                headers = _HEADERS | {"etag": _tag(newest.sha256), "content-type": LONG_POLL if wait_s else _ARCHIVE}
                return Response(status_code=304, headers=headers)

    async def _changed(self, request: Request, before: int, left_s: float) -> int:
        """Wait until something was published; what then counts, or -1 when the time is over or nobody waits."""
        if left_s <= 0 or self._waits >= WAITS:
            return -1
        self._waits += 1
        try:
            while left_s > 0 and not await request.is_disconnected():
                await asyncio.sleep(min(LOOK_S, left_s))
                left_s -= LOOK_S
                now = await run_in_threadpool(self._changes)
                if now != before:
                    return now
        finally:
            self._waits -= 1
        return -1

    def _changes(self) -> int:
        """The registry's count of changes, asked for no more often than `LOOK_S`."""
        asked_ns, changes = self._seen
        now_ns = self._monotonic_ns()
        if not asked_ns or now_ns - asked_ns >= LOOK_S * _NS:
            changes = self._registry.changes()
            self._seen = (now_ns, changes)
        return changes

    def _admitted(self, request: Request, wanted: pb.ReadBundleRequest) -> pb.Revision:
        """The newest, if the caller may read it.

        Raises:
            RefusedError: it may not, or there is none.
        """
        return pb.Revision.FromString(self._dispatcher.call(_asked(request, "ReadBundle", wanted)))

    def _content(self, newest: pb.Revision, content_type: str) -> Response:
        headers = _HEADERS | {
            "etag": _tag(newest.sha256),
            "content-type": content_type,
            "content-length": str(newest.size),
        }
        return StreamingResponse(
            iterate_in_threadpool(_pieces(self._registry.blobs.piece, newest.sha256)), headers=headers
        )

    def _delta(self, wanted: pb.ReadBundleRequest, newest: pb.Revision, base: str) -> bytes | None:
        """What makes the newest archive of the one that the caller has."""
        revision = self._registry.newest(Place(tenant=wanted.tenant, name=wanted.name)) if base else None
        if revision is None or revision.sha256 != newest.sha256:
            return None
        return self._registry.delta(revision, base)

    def _beside(self, request: Request, tenant: str, sha256: str, kind: Beside) -> Response:
        self._dispatcher.call(_asked(request, "ListBundles", pb.ListBundlesRequest(tenant=tenant)))
        content = self._registry.statement(tenant, sha256, kind)
        if content is None:
            raise RefusedError(Code.NOT_FOUND, REVISION_UNKNOWN)
        return Response(content, headers=_HEADERS | {"content-type": "application/json"})


def _asked(request: Request, method: str, message: Message) -> Asked:
    return Asked(
        method=f"/{PACKAGE}.Bundles/{method}",
        body=message.SerializeToString(),
        presented=Presented(authorization=tuple(request.headers.getlist("authorization"))),
        form=Binary(),
        gone=threading.Event(),
    )


def _pieces(read: Callable[[str, int], bytes], sha256: str) -> Iterator[bytes]:
    position = 0
    while piece := read(sha256, position):
        yield piece
        position += 1


def _sent(newest: pb.Revision, content_type: str, delta: bytes) -> Response:
    return Response(delta, headers=_HEADERS | {"etag": _tag(newest.sha256), "content-type": content_type})


def _base(request: Request) -> str:
    """The archive that the caller would take a delta of; empty where it would take none.

    Who names several has but one of them, and does not say which.
    """
    tags, preferred = request.headers.getlist("if-none-match"), ",".join(request.headers.getlist("prefer"))
    takes = request.url.path.startswith(f"{DELTAS}/") and _MODES.search(preferred)
    base = _TAG.fullmatch(tags[0]) if takes and len(tags) == 1 else None
    return base[1] if base else ""


def _tag(sha256: str) -> str:
    return f'"sha256:{sha256}"'


def _has(request: Request, sha256: str) -> bool:
    """Whether the caller has this archive (RFC 9110 section 13.1.2)."""
    tags = ",".join(request.headers.getlist("if-none-match"))
    return _tag(sha256) in {tag.strip().removeprefix("W/") for tag in tags.split(",")}


def _wait_s(request: Request) -> float:
    """How long the caller would wait for a change (RFC 7240), within bounds; 0 where it asks for none."""
    asked = _WAIT.search(",".join(request.headers.getlist("prefer")))
    return min(float(asked[1]), LONGEST_WAIT_S) if asked else 0.0
