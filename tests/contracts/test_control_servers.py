"""The control plane's listeners: what clients see of them, and what they bear."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import grpc
import pytest
import urllib3
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from authz._gen.authz.control.v1 import agents_pb2, kills_pb2, operators_pb2, sidecars_pb2
from authz.config import Issuer
from authz.control.config import ServerTls
from authz.control.dispatcher import CALLS, STREAMS
from authz.control.grpc_server import GrpcServer
from authz.control.http_app import Bounded
from authz.control.http_server import HttpServer
from authz.control.operator_tokens import OperatorTokens
from authz.control.permissions import PACKAGE
from authz.database import Database, migrate
from authz.enrolment.names import SERVER_NAME
from authz.errors import ConfigError, ProgramError
from authz.identity.clock_guard import ClockGuard
from authz.identity.tokens import TrustedIssuer
from tests.control import operators_service, pem, running
from tests.control_planes import control_plane
from tests.fakes import FakeClock
from tests.identity_fakes import ABSENT, NOW, FakeKeys, Forge, key_set, signing_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from authz.control.callers import Caller
    from tests.control import Plane

WHOAMI = "Operators/WhoAmI"
ISSUER = "https://login.example"
FORGE = Forge(signing_key("ES256"), issuer=ISSUER, audience="authz-control")


class Watching:
    """Kills whose stream lasts as long as its caller stays."""

    def __init__(self) -> None:
        self.began, self.ended = threading.Event(), threading.Event()
        self.waiting, self.answer = threading.Semaphore(0), threading.Event()

    def read_kill(self, _request: Any, _caller: Caller) -> kills_pb2.Kill:
        self.waiting.release()
        self.answer.wait(30)
        return kills_pb2.Kill()

    def __getattr__(self, name: str) -> Callable[[Any, Caller], Any]:
        return lambda _request, _caller: kills_pb2.KillReceipt()

    def watch_kills(self, _request: Any, caller: Caller) -> Iterator[kills_pb2.Kill]:
        yield kills_pb2.Kill(id="first")
        self.began.set()
        while caller.stays(0.02):
            pass
        self.ended.set()


WATCHING = Watching()


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    database = Database(f"sqlite:///{tmp_path_factory.mktemp('control') / 'control.db'}")
    migrate(database)
    trusted = TrustedIssuer(
        issuer=Issuer(issuer=ISSUER, audience="authz-control", jwks="unused", typ="JWT"),
        keys=FakeKeys(key_set(FORGE.key.jwk("k1"))),
    )
    tokens = OperatorTokens([trusted], clock=ClockGuard(FakeClock(wall_ns=NOW * 1_000_000_000)))
    extra = Route("/token", lambda _: PlainTextResponse("extra"), methods=["GET", "POST"])
    with running(
        database, tokens=tokens, Operators=operators_service(database), Kills=WATCHING, routes=[extra]
    ) as running_plane:
        yield running_plane
    database.close()


@pytest.fixture(scope="module")
def viewer(plane: Plane) -> str:
    return f"Bearer {plane.named('viewer', ('viewer', 'acme'))}"


def post(plane: Plane, path: str, body: bytes = b"{}", **headers: str) -> urllib3.BaseHTTPResponse:
    sent = {"content-type": "application/json"} | {name.replace("_", "-"): value for name, value in headers.items()}
    return urllib3.request("POST", f"{plane.http.url}{path}", body=body, headers=sent, retries=False)


# HTTP


def test_a_call_over_http_is_a_post_of_json(plane: Plane, viewer: str) -> None:
    answer = post(plane, f"/{PACKAGE}.{WHOAMI}", authorization=viewer)
    assert answer.status == 200
    assert answer.json() == {"id": "viewer", "grants": [{"role": "ROLE_VIEWER", "tenant": "acme"}]}
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"


def test_a_refusal_is_connects_error_with_our_reason(plane: Plane) -> None:
    answer = post(plane, f"/{PACKAGE}.{WHOAMI}")
    error = answer.json()
    assert (answer.status, error["code"], answer.headers["www-authenticate"]) == (401, "unauthenticated", "Bearer")
    assert answer.headers["x-authz-reason"] == error["details"][0]["debug"]["reason"] == "CONTROL_UNAUTHENTICATED"
    assert error["details"][0]["type"] == "google.rpc.ErrorInfo"


@pytest.mark.parametrize(
    ("headers", "path"),
    [
        ({"content_type": "text/plain"}, ""),
        ({"content_type": "application/proto"}, ""),
        ({"content_encoding": "gzip"}, ""),
        ({"connect_timeout_ms": "-1"}, ""),
        ({"connect_timeout_ms": "12345678901"}, ""),
        ({}, "?tenant=acme"),
    ],
)
def test_a_request_that_two_readers_could_read_differently_is_refused(
    plane: Plane, viewer: str, headers: dict[str, str], path: str
) -> None:
    answer = post(plane, f"/{PACKAGE}.{WHOAMI}{path}", b"{}", authorization=viewer, **headers)
    assert (answer.status, answer.json()["code"]) == (400, "invalid_argument")


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS", "HEAD", "PATCH", "TRACE"])
def test_calls_are_posts_alone(plane: Plane, method: str) -> None:
    answer = urllib3.request(method, f"{plane.http.url}/{PACKAGE}.{WHOAMI}", retries=False)
    assert answer.status == 404


@pytest.mark.parametrize("path", ["/", "/docs", "/openapi.json", "/healthz/", "//healthz", "/../healthz", "/token/"])
def test_k5_no_other_path_is_answered_nor_redirected(plane: Plane, path: str) -> None:
    answer = urllib3.request("GET", f"{plane.http.url}{path}", retries=False, redirect=False)
    assert answer.status in (404, 200) if path == "/../healthz" else answer.status == 404


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/.well-known/authz-control", "/token"])
def test_open_paths_answer(plane: Plane, path: str) -> None:
    assert urllib3.request("GET", f"{plane.http.url}{path}", retries=False).status == 200


@pytest.mark.parametrize("path", [f"/{PACKAGE}.{WHOAMI}", "/token"])
def test_a_body_over_the_limit_is_cut_off_on_every_path(plane: Plane, path: str) -> None:
    answer = post(plane, path, b" " * (1024 * 1024 + 1))
    assert (answer.status, answer.json()["code"]) == (413, "resource_exhausted")


def test_a_head_over_the_limit_is_refused(plane: Plane) -> None:
    connection = http.client.HTTPConnection(plane.http.address)
    connection.request("GET", "/healthz", headers={"x-long": "a" * 32_768})
    assert connection.getresponse().status == 431
    connection.close()


def test_a_body_that_does_not_come_is_given_up() -> None:
    app = Bounded(PlainTextResponse("reached"), body_s=0.05)
    server = HttpServer("127.0.0.1:0", app)
    server.start()
    try:
        with socket.create_connection(("127.0.0.1", int(server.address.rpartition(":")[2])), 20) as client:
            client.sendall(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\n{")
            assert client.recv(100).startswith(b"HTTP/1.1 408")
    finally:
        server.stop()


@pytest.mark.parametrize(
    "sent",
    [b"", b"GET /healthz HTT", b"GET / HTTP/1.1\r\nhost: a\r\n\r\nGET / HTTP/1.1\r\nho"],
    ids=["nothing", "half a head", "half a second head"],
)
def test_a_connection_whose_head_does_not_come_is_hung_up_on(sent: bytes) -> None:
    server = HttpServer("127.0.0.1:0", PlainTextResponse("ok"), idle_s=1)
    server.start()
    try:
        with socket.create_connection(("127.0.0.1", int(server.address.rpartition(":")[2])), 20) as client:
            client.sendall(sent)
            while client.recv(4096):
                pass  # what was answered before; then the end
    finally:
        server.stop()


def test_a_stream_over_http_ends_with_how_it_ended_and_when_its_client_is_gone(plane: Plane) -> None:
    responder = plane.operator(("responder", "acme"))
    WATCHING.began.clear()
    WATCHING.ended.clear()
    body = json.dumps({"tenant": "acme"}).encode()
    response = urllib3.request(
        "POST",
        f"{plane.http.url}/{PACKAGE}.Kills/WatchKills",
        body=b"\0" + len(body).to_bytes(4, "big") + body,
        headers={"content-type": "application/connect+json", "authorization": f"Bearer {responder}"},
        preload_content=False,
    )
    assert json.loads(response.read(5 + 14)[5:]) == {"id": "first"}
    assert WATCHING.began.wait(20)
    response.close()
    assert WATCHING.ended.wait(20)


def watch(plane: Plane, credential: str) -> urllib3.BaseHTTPResponse:
    """A stream over HTTP, whose first message was read."""
    body = json.dumps({"tenant": "acme"}).encode()
    response = urllib3.PoolManager().request(
        "POST",
        f"{plane.http.url}/{PACKAGE}.Kills/WatchKills",
        body=b"\0" + len(body).to_bytes(4, "big") + body,
        headers={"content-type": "application/connect+json", "authorization": credential},
        preload_content=False,
    )
    assert json.loads(response.read(5 + 14)[5:]) == {"id": "first"}
    return response


def test_whoever_watches_and_waits_holds_up_neither_another_call_nor_a_sidecars_snapshot(
    plane: Plane, viewer: str
) -> None:
    with ExitStack() as stack:
        for _ in range(STREAMS):
            stack.callback(watch(plane, viewer).close)
        waiting = [
            threading.Thread(
                target=post,
                args=(plane, f"/{PACKAGE}.Kills/ReadKill", b'{"tenant": "acme"}'),
                kwargs={"authorization": viewer},
            )
            for _ in range(CALLS - 1)
        ]
        for thread in waiting:
            thread.start()
            stack.callback(thread.join)
        stack.callback(WATCHING.answer.set)
        for _ in waiting:
            assert WATCHING.waiting.acquire(timeout=20)
        assert post(plane, f"/{PACKAGE}.{WHOAMI}", authorization=viewer).status == 200
        snapshot = sidecars_pb2.PullSnapshotRequest(stream="acme")
        assert plane.grpc_call("Replication/PullSnapshot", snapshot, pair=plane.sidecar("acme")).code == "ok"
    WATCHING.answer.clear()


def test_a_stream_asked_for_as_a_plain_call_is_refused_with_how_to_ask(plane: Plane, viewer: str) -> None:
    answer = post(plane, f"/{PACKAGE}.Kills/WatchKills", authorization=viewer)
    assert (answer.status, answer.headers["x-authz-reason"]) == (501, "CONTROL_STREAM")


# gRPC


def test_a_stream_over_grpc_ends_when_its_client_is_gone(plane: Plane, viewer: str) -> None:
    WATCHING.began.clear()
    WATCHING.ended.clear()
    with plane.channel() as channel:
        call = channel.unary_stream(f"/{PACKAGE}.Kills/WatchKills")(
            kills_pb2.WatchKillsRequest(tenant="acme").SerializeToString(), metadata=(("authorization", viewer),)
        )
        assert kills_pb2.Kill.FromString(next(call)).id == "first"
        assert WATCHING.began.wait(20)
        call.cancel()
    assert WATCHING.ended.wait(20)


def test_a_message_over_the_limit_is_refused(plane: Plane, viewer: str) -> None:
    request = agents_pb2.ReadAgentRequest(tenant="acme", id="a" * 1_100_000)
    assert plane.grpc_call("Agents/ReadAgent", request, viewer).code == "resource_exhausted"


def test_health_and_reflection_say_which_services_there_are(plane: Plane) -> None:
    with plane.channel() as channel:
        check = channel.unary_unary("/grpc.health.v1.Health/Check")
        asked = health_pb2.HealthCheckRequest(service=f"{PACKAGE}.Kills").SerializeToString()
        plane.grpc.set_serving(True)
        assert health_pb2.HealthCheckResponse.FromString(check(asked)).status == health_pb2.HealthCheckResponse.SERVING
        plane.grpc.set_serving(False)
        status = health_pb2.HealthCheckResponse.FromString(check(asked)).status
        assert status == health_pb2.HealthCheckResponse.NOT_SERVING
        shown = channel.stream_stream("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")
        wanted = reflection_pb2.ServerReflectionRequest(list_services="").SerializeToString()
        answer = reflection_pb2.ServerReflectionResponse.FromString(next(shown(iter([wanted]))))
    names = {service.name for service in answer.list_services_response.service}
    assert names >= {f"{PACKAGE}.Kills", f"{PACKAGE}.Operators", "grpc.health.v1.Health"}


def test_health_says_so_as_soon_as_a_control_plane_has_started(tmp_path: Path) -> None:
    with control_plane(tmp_path) as running, grpc.insecure_channel(running.plane.addresses["grpc"]) as channel:
        check: Any = channel.unary_unary("/grpc.health.v1.Health/Check", None, None)
        assert health_pb2.HealthCheckResponse.FromString(check(b"")).status == health_pb2.HealthCheckResponse.SERVING


# Who is known by what


def known(plane: Plane, **changes: Any) -> Any:
    token = FORGE.token({"typ": "JWT"}, **({"sub": "ana", "tenant": ABSENT, "jti": ABSENT} | changes))
    return plane.grpc_call(WHOAMI, operators_pb2.WhoAmIRequest(), f"Bearer {token}")


@pytest.fixture(scope="module")
def _ana(plane: Plane) -> None:
    plane.named("ana", ("viewer", "acme"), credential_sha256=None, issuer=ISSUER, subject="ana", life_ns=10**18)


@pytest.mark.usefixtures("_ana")
def test_an_operator_is_known_by_a_token_of_a_configured_issuer(plane: Plane) -> None:
    answer = known(plane)
    assert operators_pb2.Operator.FromString(answer.messages[0]).id == "ana"


@pytest.mark.usefixtures("_ana")
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"sub": "ben"}, "CONTROL_UNAUTHENTICATED"),
        ({"sub": "Ana"}, "CONTROL_UNAUTHENTICATED"),
        ({"sub": ABSENT}, "TOKEN_CLAIMS"),
        ({"sub": 7}, "TOKEN_CLAIMS"),
        ({"iss": "https://other.example"}, "TOKEN_ISSUER"),
        ({"iss": ABSENT}, "TOKEN_CLAIMS"),
        ({"aud": "tools"}, "TOKEN_AUD"),
        ({"aud": ["authz-control", "tools"]}, "TOKEN_AUD"),
        ({"aud": ABSENT}, "TOKEN_AUD"),
        ({"exp": NOW - 31}, "TOKEN_EXPIRED"),
        ({"exp": ABSENT}, "TOKEN_CLAIMS"),
        ({"exp": "9999999999"}, "TOKEN_CLAIMS"),
        ({"exp": True}, "TOKEN_CLAIMS"),
        ({"iat": ABSENT}, "TOKEN_CLAIMS"),
        ({"nbf": NOW + 60}, "TOKEN_NOT_YET"),
        ({"exp": NOW + 13 * 3600}, "TOKEN_LIFETIME"),
        ({"cnf": {"jkt": "a"}}, "TOKEN_BINDING"),
    ],
)
def test_a_token_that_is_not_quite_one_is_refused_and_recorded(
    plane: Plane, changes: dict[str, Any], reason: str
) -> None:
    answer = known(plane, **changes)
    assert (answer.code, answer.reason) == ("unauthenticated", reason)
    assert plane.last_action().outcome == reason


@pytest.mark.usefixtures("_ana")
def test_an_agents_token_and_a_forged_one_are_no_operators(plane: Plane) -> None:
    ask = operators_pb2.WhoAmIRequest()
    agent = FORGE.token({"typ": "at+jwt"}, sub="ana")
    assert plane.grpc_call(WHOAMI, ask, f"Bearer {agent}").reason == "TOKEN_TYP"
    forged = Forge(signing_key("ES256", 1), issuer=ISSUER, audience="authz-control").token({"typ": "JWT"}, sub="ana")
    assert plane.grpc_call(WHOAMI, ask, f"Bearer {forged}").reason == "TOKEN_SIGNATURE"


def test_an_operator_is_known_by_a_name_of_its_certificate(plane: Plane) -> None:
    plane.named("robot", ("viewer", "acme"), credential_sha256=None, certificate_san="spiffe://staff/robot")
    answer = plane.grpc_call(WHOAMI, operators_pb2.WhoAmIRequest(), pair=plane.staff.issue("spiffe://staff/robot"))
    assert operators_pb2.Operator.FromString(answer.messages[0]).id == "robot"


@pytest.mark.parametrize(
    "sans",
    [(), ("spiffe://staff/Robot",), ("spiffe://staff/robot/",), ("other.example",), ("spiffe://authz/sidecar/acme-1",)],
)
def test_a_certificate_that_names_nobody_is_refused(plane: Plane, sans: tuple[str, ...]) -> None:
    """Also one of the operators' authority that calls itself a sidecar: the control plane's own looks closer at it."""
    answer = plane.grpc_call(WHOAMI, operators_pb2.WhoAmIRequest(), pair=plane.staff.issue(*sans))
    assert answer.code in ("unauthenticated", "permission_denied")


def test_a_sidecars_name_is_no_operators_even_where_the_database_says_so(plane: Plane) -> None:
    name = "spiffe://authz/sidecar/ACME"
    plane.named("impostor", ("admin", "*"), credential_sha256=None, certificate_san=name)
    answer = plane.grpc_call(WHOAMI, operators_pb2.WhoAmIRequest(), pair=plane.staff.issue(name))
    assert answer.code == "unauthenticated"


def test_a_certificate_that_names_two_operators_is_nobodys(plane: Plane) -> None:
    for name in ("one", "two"):
        plane.named(name, ("viewer", "acme"), credential_sha256=None, certificate_san=f"{name}.example")
    pair = plane.staff.issue("one.example", "two.example")
    assert plane.grpc_call(WHOAMI, operators_pb2.WhoAmIRequest(), pair=pair).code == "unauthenticated"


def test_a_wrong_credential_is_not_made_up_for_by_a_certificate(plane: Plane) -> None:
    plane.named("careful", ("viewer", "acme"), credential_sha256=None, certificate_san="careful.example")
    pair = plane.staff.issue("careful.example")
    ask = operators_pb2.WhoAmIRequest()
    assert plane.grpc_call(WHOAMI, ask, pair=pair).code == "ok"
    assert plane.grpc_call(WHOAMI, ask, "Bearer authz_operator_AAAA", pair=pair).code == "unauthenticated"


def test_the_mutual_listener_takes_no_connection_without_a_certificate(plane: Plane) -> None:
    roots = grpc.ssl_channel_credentials(pem(plane.authority.certificate))
    named = (("grpc.ssl_target_name_override", SERVER_NAME),)
    with grpc.secure_channel(plane.mutual.address, roots, named) as channel:
        call: Any = channel.unary_unary(f"/{PACKAGE}.{WHOAMI}", None, None)
        with pytest.raises(grpc.RpcError) as raised:
            call(b"", timeout=5)
    assert raised.value.code() is grpc.StatusCode.UNAVAILABLE


# Addresses


def test_k4_plaintext_is_for_loopback_alone(plane: Plane) -> None:
    with pytest.raises(ConfigError, match="would show operators' credentials"):
        GrpcServer("0.0.0.0:0", plane.dispatcher)
    with pytest.raises(ConfigError, match="would show operators' credentials"):
        HttpServer("0.0.0.0:0", PlainTextResponse("ok"))


def test_an_address_that_is_taken_is_named(plane: Plane) -> None:
    with pytest.raises(ProgramError, match="cannot listen"):
        GrpcServer(plane.grpc.address, plane.dispatcher)
    with pytest.raises(ProgramError, match="cannot listen"):
        HttpServer(plane.http.address, PlainTextResponse("ok"))


def test_http_with_a_certificate_is_https(plane: Plane, tmp_path: Path) -> None:
    key, chain = plane.staff.issue("localhost")
    for name, content in (("key.pem", key), ("chain.pem", chain)):
        (tmp_path / name).write_bytes(content)
    tls = ServerTls(certificate=tmp_path / "chain.pem", key=tmp_path / "key.pem")
    server = HttpServer("127.0.0.1:0", PlainTextResponse("ok"), tls)
    server.start()
    try:
        assert server.url.startswith("https://")
        (tmp_path / "roots.pem").write_bytes(pem(plane.staff.certificate))
        with urllib3.PoolManager(ca_certs=str(tmp_path / "roots.pem"), assert_hostname="localhost") as pool:
            assert pool.request("GET", server.url, retries=False).status == 200
    finally:
        server.stop()
