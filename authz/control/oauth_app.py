"""OAuth's endpoints on the HTTP listener: forms in, JSON out, exactly as the RFCs have them.

Decides status, headers and bodies (RFC 6749 section 5, RFC 7009, RFC 7662, RFC 8414, RFC 7517). Nothing that holds a
token or an error may be cached; keys and metadata may. Every refusal is on record and counted. The endpoints know
their clients themselves (`authorization_server`). Must never answer a token request that is not a POST, or that has a
query: both end in logs. What fails and is no refusal is `server_error`, logged and told to nobody.
"""

from __future__ import annotations

import hashlib
import logging
from typing import TYPE_CHECKING, Any, Final

import orjson
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response
from starlette.routing import Route

from authz.control.actions_sql import DONE, Action
from authz.control.client_authentication import Shown
from authz.control.http_server import CLIENT_CERTIFICATE
from authz.encoding import encode_base64url
from authz.errors import UnavailableError
from authz.identity.oauth import metadata
from authz.identity.oauth.clients import parse_client_id
from authz.identity.oauth.refusals import OAuthError
from authz.identity.oauth.requests import parameters
from authz.model import PLATFORM
from authz.reasons import SYS_INTERNAL

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from starlette.requests import Request

    from authz.control.actions_sql import Actions
    from authz.control.authorization_server import AuthorizationServer
    from authz.identity.signing_keys_sql import SigningKeys
    from authz.model import JsonObject

    Work = Callable[[Mapping[str, str], Shown], JsonObject | None]

log: Final = logging.getLogger(__name__)
MAX_AGE_S: Final = 300
RETRY_S: Final = 60
_UNCACHED: Final = {"cache-control": "no-store", "pragma": "no-cache", "x-content-type-options": "nosniff"}
_CACHED: Final = {"cache-control": f"public, max-age={MAX_AGE_S}", "x-content-type-options": "nosniff"}
_ANY_METHOD: Final = ["DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"]
_METHOD_NOT_ALLOWED: Final = 405
_TOO_MANY: Final = 429
_UNAUTHORIZED: Final = 401


class OAuthApp:
    """The endpoints.

    Args:
        new_id: of a record.
        observe: told each request's path and outcome.
    """

    def __init__(
        self,
        server: AuthorizationServer,
        keys: SigningKeys,
        actions: Actions,
        *,
        new_id: Callable[[], str],
        observe: Callable[[str, str], None],
    ) -> None:
        self._server = server
        self._keys = keys
        self._actions = actions
        self._new_id = new_id
        self._observe = observe

    def routes(self) -> list[Route]:
        """For the HTTP app."""
        work = {
            metadata.TOKEN: self._server.token,
            metadata.INTROSPECT: self._server.introspect,
            metadata.REVOKE: self._server.revoke,
        }
        return [
            *(Route(path, self._endpoint(path, does), methods=_ANY_METHOD) for path, does in work.items()),
            Route(metadata.JWKS, self._jwks, methods=["GET"]),
            Route(metadata.WELL_KNOWN, self._metadata, methods=["GET"]),
            Route(metadata.AUTHORIZE, _no_authorization, methods=["GET", "POST"]),
        ]

    def _endpoint(self, path: str, work: Work) -> Callable[[Request], Any]:
        async def endpoint(request: Request) -> Response:
            body = await request.body()
            return await run_in_threadpool(self._answer, path, work, request, body)

        return endpoint

    def _answer(self, path: str, work: Work, request: Request, body: bytes) -> Response:
        """One request, with the one broad `except` of these endpoints."""
        try:
            answer = work(_form(request, body), _shown(request))
            self._observe(path, DONE)
            return _json(200, answer, _UNCACHED) if answer is not None else Response(headers=_UNCACHED)
        except OAuthError as error:
            return self._refused(path, error, request)
        except UnavailableError as error:
            unavailable = OAuthError("temporarily_unavailable", error.reason.summary, reason=error.reason.code)
            return self._refused(path, unavailable, request)
        except Exception:
            log.exception("%s failed: a bug", path)
            failed = OAuthError("server_error", SYS_INTERNAL.summary, reason=SYS_INTERNAL.code)
            return self._refused(path, failed, request)

    def _refused(self, path: str, error: OAuthError, request: Request) -> Response:
        self._observe(path, error.reason)
        self._record(path, error)
        headers = dict(_UNCACHED)
        if error.http_status == _UNAUTHORIZED:
            # RFC 6749 section 5.2: the scheme that the client used; there is none for assertions.
            used = request.headers.get("authorization", "").partition(" ")[0].lower()
            headers["www-authenticate"] = 'Basic realm="authz"' if used == "basic" else 'Bearer realm="authz"'
        if error.http_status == _METHOD_NOT_ALLOWED:
            headers["allow"] = "POST"
        if error.http_status in (_TOO_MANY, 503):
            headers["retry-after"] = str(RETRY_S)
        return _json(error.http_status, error.body(), headers)

    def _record(self, path: str, error: OAuthError) -> None:
        """A refusal answers the same whether it could be written down or not: nothing was done."""
        action = Action(
            id=self._new_id(),
            operator=f"agent:{error.client}" if error.client else "",
            method=path,
            tenant=parse_client_id(error.client)[0] if error.client else PLATFORM,
            outcome=error.reason,
            subject=error.client,
        )
        try:
            self._actions.add(action)
        except UnavailableError:
            log.warning("a refusal of %s could not be recorded", path)

    async def _jwks(self, request: Request) -> Response:
        return await run_in_threadpool(self._key_set, request)

    def _key_set(self, request: Request) -> Response:
        try:
            ring, now_ns = self._keys.published()
        except UnavailableError as error:
            return _json(
                503, {"error": "temporarily_unavailable", "error_description": error.reason.summary}, _UNCACHED
            )
        document = {"keys": [dict(key.public_jwk) for key in ring.published(now_ns)]}
        return _cached(request, document, "application/jwk-set+json")

    async def _metadata(self, request: Request) -> Response:
        return _cached(request, self._server.metadata(), "application/json")


async def _no_authorization(_: Request) -> Response:
    """RFC 6749 section 4.1.2.1, told here: nobody is sent anywhere."""
    refused = {"error": "unsupported_response_type", "error_description": "agents get tokens at the token endpoint"}
    return _json(400, refused, _UNCACHED)


def _form(request: Request, body: bytes) -> Mapping[str, str]:
    if request.method != "POST":
        raise OAuthError("invalid_request", "the method is POST", http_status=_METHOD_NOT_ALLOWED)
    if request.url.query:
        raise OAuthError("invalid_request", "parameters are in the body")
    if request.headers.get("content-encoding", "identity") != "identity":
        raise OAuthError("invalid_request", "the body is encoded")
    return parameters(body, request.headers.get("content-type", ""))


def _shown(request: Request) -> Shown:
    certificate = request.scope.get(CLIENT_CERTIFICATE)
    return Shown(
        certificate_sha256=encode_base64url(hashlib.sha256(certificate).digest()) if certificate else "",
        authorization=tuple(request.headers.getlist("authorization")),
        dpop=tuple(request.headers.getlist("dpop")),
    )


def _cached(request: Request, document: object, media_type: str) -> Response:
    """A document that may be kept for a while, and is not sent again to who has it (RFC 9110 section 13.1.2)."""
    body = orjson.dumps(document, option=orjson.OPT_SORT_KEYS)
    tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    headers = _CACHED | {"content-type": media_type, "etag": tag}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(body, headers=headers)


def _json(status: int, content: object, headers: Mapping[str, str]) -> Response:
    return Response(orjson.dumps(content), status, headers={**headers, "content-type": "application/json"})
