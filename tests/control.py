"""A control plane for tests: the real dispatcher, servers and database, with services that answer anything."""

from __future__ import annotations

import base64
import json
import secrets
import struct
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import grpc
import urllib3
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from google.protobuf import descriptor_pool, json_format
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2, status_pb2

from authz.clock import SystemClock, random_id
from authz.control import certificates
from authz.control.actions_sql import Actions
from authz.control.authentication import Authentication, credential_sha256
from authz.control.callers import Caller, Grant, Kind, Role
from authz.control.dispatcher import Dispatcher
from authz.control.grpc_server import GrpcServer, server_credentials
from authz.control.http_app import http_app
from authz.control.http_server import HttpServer
from authz.control.metrics import ControlMetrics
from authz.control.operators_service import OperatorsService, new_credential
from authz.control.operators_sql import Operator, Operators
from authz.control.permissions import METHODS, PACKAGE
from authz.enrolment.names import SERVER_NAME, alternative_names, sidecar_named

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from google.protobuf.descriptor import MethodDescriptor
    from google.protobuf.message import Message

    from authz.control.actions_sql import Action
    from authz.control.operator_tokens import OperatorTokens
    from authz.database import Database

HOUR_NS = 3_600_000_000_000
NOW = datetime.now(UTC)
SERVICES = tuple(sorted({name.partition("/")[0] for name in METHODS}))


def described(method: str) -> MethodDescriptor:
    """The descriptor of SERVICE/METHOD."""
    service, _, name = method.partition("/")
    found = descriptor_pool.Default().FindServiceByName(f"{PACKAGE}.{service}")
    return found.methods_by_name[name]


def request_class(method: str) -> type[Message]:
    return GetMessageClass(described(method).input_type)


class Anything:
    """Any service of the API: remembers what was called and answers with empty messages."""

    def __init__(self, name: str, called: list[str]) -> None:
        self._methods = descriptor_pool.Default().FindServiceByName(f"{PACKAGE}.{name}").methods
        self._called = called

    def __getattr__(self, name: str) -> Any:
        for method in self._methods:
            if method.name.lower() == name.replace("_", ""):
                return lambda _request, _caller: self._answer(method)
        raise AttributeError(name)

    def _answer(self, method: MethodDescriptor) -> Any:
        self._called.append(f"{method.containing_service.name}/{method.name}")
        answer = GetMessageClass(method.output_type)()
        return iter([answer, answer]) if method.server_streaming else answer


@dataclass(frozen=True)
class Answer:
    """What came back: Connect's word (`ok` where it was served), our reason, and the message or messages."""

    code: str
    reason: str = ""
    messages: tuple[bytes, ...] = ()


@dataclass
class Plane:
    """A running control plane over a migrated database."""

    database: Database
    operators: Operators
    actions: Actions
    dispatcher: Dispatcher
    called: list[str]
    grpc: GrpcServer
    http: HttpServer
    mutual: GrpcServer
    authority: certificates.Authority
    staff: Authority
    metrics: ControlMetrics = field(default_factory=ControlMetrics)

    def operator(self, *grants: tuple[str, str], life_ns: int = HOUR_NS, **changes: Any) -> str:
        """A new operator with these (role, tenant); returns its credential."""
        return self.named(random_id(), *grants, life_ns=life_ns, **changes)

    def named(self, name: str, *grants: tuple[str, str], life_ns: int = HOUR_NS, **changes: Any) -> str:
        credential = new_credential(secrets.token_bytes)
        given = {"credential_sha256": credential_sha256(credential)} | changes
        held = tuple(Grant(Role(role), tenant) for role, tenant in grants)
        expires = SystemClock.unix_ns() + life_ns
        self.operators.add(Operator(id=name, grants=held, expires_at_ns=expires, **given))
        return credential

    def last_action(self) -> Action:
        return self.actions.page(None, before=None, size=1)[0]

    def grpc_call(
        self, method: str, request: Message, *authorization: str, pair: tuple[bytes, bytes] | None = None
    ) -> Answer:
        return self.grpc_bytes(f"/{PACKAGE}.{method}", request.SerializeToString(), *authorization, pair=pair)

    def grpc_bytes(
        self, path: str, body: bytes, *authorization: str, pair: tuple[bytes, bytes] | None = None, **more: Any
    ) -> Answer:
        """Call over gRPC; over the listener that demands certificates where a pair (key, chain) is given."""
        metadata = tuple(("authorization", value) for value in authorization)
        streams = self.dispatcher.is_streaming(path)
        with self.channel(pair) as channel:
            try:
                if streams:
                    answers = tuple(channel.unary_stream(path)(body, metadata=metadata, timeout=30, **more))
                else:
                    answers = (channel.unary_unary(path)(body, metadata=metadata, timeout=30, **more),)
            except grpc.RpcError as error:
                return grpc_refusal(error)
        return Answer("ok", messages=answers)

    @contextmanager
    def channel(self, pair: tuple[bytes, bytes] | None = None) -> Iterator[Any]:
        if pair is None:
            channel = grpc.insecure_channel(self.grpc.address)
        else:
            roots = pem(self.authority.certificate)
            shown = grpc.ssl_channel_credentials(roots, *pair)
            named = (("grpc.ssl_target_name_override", SERVER_NAME),)
            channel = grpc.secure_channel(self.mutual.address, shown, named)
        with channel:
            yield channel

    def http_call(self, method: str, request: Message, *authorization: str) -> Answer:
        body = json_format.MessageToJson(request).encode()
        return self.http_bytes(f"/{PACKAGE}.{method}", body, *authorization)

    def http_bytes(self, path: str, body: bytes, *authorization: str) -> Answer:
        streams = self.dispatcher.is_streaming(path)
        headers = urllib3.HTTPHeaderDict(
            {"content-type": "application/connect+json" if streams else "application/json"}
        )
        for value in authorization:
            headers.add("authorization", value)
        envelope = struct.pack(">BI", 0, len(body)) + body if streams else body
        response = urllib3.request("POST", f"{self.http.url}{path}", body=envelope, headers=headers, retries=False)
        if response.status != 200:
            return http_refusal(response.json())
        return self._frames(response.data) if streams else Answer("ok", messages=(response.data,))

    @staticmethod
    def _frames(content: bytes) -> Answer:
        messages: list[bytes] = []
        while content:
            flags, length = struct.unpack_from(">BI", content)
            frame, content = content[5 : 5 + length], content[5 + length :]
            if flags == 2:
                error = json.loads(frame).get("error")
                return http_refusal(error) if error else Answer("ok", messages=tuple(messages))
            messages.append(frame)
        return Answer("cut off")

    def sidecar(self, name: str) -> tuple[bytes, bytes]:
        """A sidecar's key and certificate; its tenants are the parts of its id."""
        key = generate_private_key(SECP256R1())
        certificate = certificates.issue_sidecar(self.authority, key.public_key(), name, NOW)
        return key_pem(key), pem(certificate)


def grpc_refusal(error: Any) -> Answer:
    """The error of a call, which is its outcome too."""
    word = error.code().name.lower()
    told = error_details_pb2.ErrorInfo()
    for name, value in error.trailing_metadata() or ():
        if name == "grpc-status-details-bin":
            status_pb2.Status.FromString(value).details[0].Unpack(told)
    return Answer("canceled" if word == "cancelled" else word, told.reason)


def http_refusal(error: dict[str, Any]) -> Answer:
    detail = error["details"][0]
    told = error_details_pb2.ErrorInfo.FromString(base64.b64decode(detail["value"] + "=="))
    assert told.reason == detail["debug"]["reason"]
    return Answer(error["code"], told.reason)


@dataclass(frozen=True)
class Authority:
    """Somebody else's certificate authority, such as the one of the operators."""

    key: EllipticCurvePrivateKey
    certificate: x509.Certificate

    def issue(self, *sans: str) -> tuple[bytes, bytes]:
        key = generate_private_key(SECP256R1())
        names = [x509.UniformResourceIdentifier(san) if "://" in san else x509.DNSName(san) for san in sans]
        builder = _builder(self.certificate.subject, key, "someone", ca=False)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return key_pem(key), pem(builder.sign(self.key, SHA256()))


def new_authority(name: str) -> Authority:
    key = generate_private_key(SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    return Authority(key, _builder(subject, key, name, ca=True).sign(key, SHA256()))


def _builder(issuer: x509.Name, key: EllipticCurvePrivateKey, name: str, *, ca: bool) -> x509.CertificateBuilder:
    day = timedelta(days=1)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - day)
        .not_valid_after(NOW + day)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )
    if not ca:
        builder = builder.add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]), critical=False
        )
    return builder


def key_pem(key: EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.PEM)


def sidecar_caller(certificate: x509.Certificate) -> Caller | None:
    """The sidecar of a certificate: `acme-1` follows `acme`."""
    name = sidecar_named(alternative_names(certificate))
    if name is None:
        return None
    return Caller(kind=Kind.SIDECAR, id=name, tenants=frozenset({name.partition("-")[0]}))


@contextmanager
def running(
    database: Database, *, services: Sequence[str] = SERVICES, tokens: OperatorTokens | None = None, **more: Any
) -> Iterator[Plane]:
    """A control plane that serves; the Operators are real and the others answer anything."""
    clock = SystemClock()
    operators, actions, metrics = Operators(database), Actions(database, clock), ControlMetrics()
    authentication = Authentication(operators, clock, tokens=tokens, sidecar=sidecar_caller)
    dispatcher = Dispatcher(authentication, actions, clock, new_id=random_id, observe=metrics.observe)
    called: list[str] = []
    for name in services:
        dispatcher.add(name, more.get(name) or Anything(name, called))
    if "Operators" in more:
        dispatcher.add("Operators", more["Operators"])
    app = http_app(
        dispatcher, exposition=metrics.exposition, unready=dict, addresses=dict, routes=more.get("routes", ())
    )
    authority, staff = certificates.new_authority(NOW, NOW), new_authority("staff")
    identity = certificates.issue_server(authority, NOW)
    roots = pem(authority.certificate) + pem(staff.certificate)
    demanded = server_credentials(identity.key_pem, pem(identity.certificate), roots)
    plane = Plane(
        database,
        operators,
        actions,
        dispatcher,
        called,
        GrpcServer("127.0.0.1:0", dispatcher),
        HttpServer("127.0.0.1:0", app),
        GrpcServer("127.0.0.1:0", dispatcher, demanded),
        authority,
        staff,
        metrics=metrics,
    )
    servers = (plane.grpc, plane.mutual)
    for server in (*servers, plane.http):
        server.start()
    try:
        yield plane
    finally:
        dispatcher.stop()
        for server in servers:
            server.stop(0)
        plane.http.stop()


def operators_service(database: Database) -> OperatorsService:
    clock = SystemClock()
    return OperatorsService(Operators(database), Actions(database, clock), clock, secrets.token_bytes)


def wait_until(condition: Any, seconds: float = 20.0) -> None:
    """Wait for a condition, with a limit."""
    for _ in range(int(seconds / 0.02)):
        if condition():
            return
        threading.Event().wait(0.02)
    message = "the condition never held"
    raise AssertionError(message)
