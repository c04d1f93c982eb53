"""The token endpoint over any migrated database: what agents ask, what operators do, and what came of it."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette

from authz._gen.authz.control.v1 import agents_pb2 as pb
from authz._gen.authz.control.v1 import keys_pb2
from authz.clock import SystemClock
from authz.config import Issuer
from authz.control.actions_sql import Actions
from authz.control.authentication import Authentication
from authz.control.callers import Caller, Grant, Kind, Role
from authz.control.config import Tokens
from authz.control.http_server import CLIENT_CERTIFICATE
from authz.control.operators_sql import Operators
from authz.control.token_issuer import TokenIssuer
from authz.encoding import decode_base64url
from authz.identity import jose, jwks
from authz.identity.clock_guard import ClockGuard
from authz.identity.oauth.clients import ASSERTION_TYPE
from authz.identity.oauth.requests import ACCESS_TOKEN_TYPE, TOKEN_EXCHANGE
from authz.identity.tokens import TokenVerifier, TrustedIssuer
from authz.revocation.guard import Guard, KillRecord, Signer
from authz.revocation.kills_sql import KillBook, Quota
from authz.revocation.ledger_sql import Ledger
from authz.revocation.scopes import parse
from authz.sealing import KeyEncryptionKey
from tests.identity_fakes import FakeKeys, signing_key
from tests.ledgers import read_lines
from tests.registry_fakes import SERVER, assertion, form

if TYPE_CHECKING:
    from collections.abc import Mapping

    from authz.database import Database
    from authz.model import Principal
    from authz.revocation.entries import Entry
    from tests.identity_fakes import SigningKey

ADMIN = Caller(kind=Kind.OPERATOR, id="alice", grants=(Grant(Role.ADMIN, "*"),))
Json = dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """What an endpoint answered."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Json:
        return dict(json.loads(self.body))

    @property
    def error(self) -> str:
        return str(self.json["error"])


def claims_of(token: str) -> Json:
    """What a token says; its signature is another test's."""
    return dict(json.loads(decode_base64url(token.split(".")[1])))


def refused(answer: Answer, error: str, status: int = 400) -> None:
    """That `answer` is this refusal, in the RFC's form and for nobody's cache."""
    assert (answer.status, answer.error) == (status, error), answer.body
    assert answer.headers["cache-control"] == "no-store"
    assert answer.json.keys() == {"error", "error_description"}


def taken(desk: TokenDesk, token: str, audience: str = "authz") -> Principal:
    """Who the decision service takes the bearer of `token` for."""
    keys = FakeKeys(jwks.parse(desk.issuer.key_set().encode()))
    trusted = TrustedIssuer(issuer=Issuer(issuer=SERVER, audience=audience, jwks="unused"), keys=keys)
    return TokenVerifier([trusted], clock=ClockGuard(SystemClock())).verify(token)


@dataclass
class TokenDesk:
    """A token issuer with its registry, its ledger and its app."""

    database: Database
    settings: Tokens = field(default_factory=lambda: Tokens(issuer=SERVER))

    def __post_init__(self) -> None:
        self.ledger = Ledger(self.database)
        self.book = KillBook(self.database, self.ledger, guard=Guard(), quota=Quota())
        self.issuer = TokenIssuer(
            self.database,
            self.settings,
            ledger=self.ledger,
            book=self.book,
            sealer=KeyEncryptionKey(b"k" * 32),
            address=lambda: SERVER,
        )
        self.issuer.keeper(SystemClock(), "test")._keys.tend()
        self.operators = Operators(self.database)
        self.actions = Actions(self.database, SystemClock())
        self.observed: list[tuple[str, str]] = []
        routes = self.issuer.routes(
            Authentication(self.operators, SystemClock()), self.actions, lambda *seen: self.observed.append(seen)
        )
        self.app = Starlette(routes=routes)
        self._serial = itertools.count(1)

    # --- operators

    def register(
        self, identifier: str = "planner", *, key: SigningKey | None = None, certificate: str = "", **fields: Any
    ) -> pb.Agent:
        """An agent that proves itself with a key, unless told otherwise."""
        agent = pb.Agent(**({"tenant": "acme", "id": identifier, "owner": "carol"} | fields))
        if certificate:
            agent.credentials.add(certificate_sha256=certificate)
        else:
            agent.credentials.add(public_jwk=json.dumps((key or signing_key("EdDSA")).jwk()))
        return self.issuer.agents.create_agent(pb.CreateAgentRequest(agent=agent, reason="a test"), ADMIN)

    def move(self, lifecycle: pb.Lifecycle, identifier: str = "planner", tenant: str = "acme") -> pb.Agent:
        request = pb.SetLifecycleRequest(tenant=tenant, id=identifier, lifecycle=lifecycle, reason="a test")
        return self.issuer.agents.set_lifecycle(request, ADMIN)

    def rotate(self, key: SigningKey, identifier: str = "planner", *revoke: str) -> pb.Agent:
        credential = pb.Credential(public_jwk=json.dumps(key.jwk()))
        request = pb.RotateCredentialRequest(
            tenant="acme", id=identifier, revoke=revoke, credential=credential, reason="leaked"
        )
        return self.issuer.agents.rotate_credential(request, ADMIN)

    def passport(self, identifier: str = "planner") -> pb.Passport:
        return self.issuer.agents.read_passport(pb.ReadPassportRequest(tenant="acme", id=identifier), ADMIN)

    def rotate_keys(self, *, emergency: bool = False) -> keys_pb2.ListKeysResponse:
        return self.issuer.keys.rotate_keys(keys_pb2.RotateKeysRequest(emergency=emergency), ADMIN)

    def kill(self, kind: str, value: str = "", tenant: str = "acme") -> str:
        with self.database.write() as connection:
            asked = KillRecord(
                id=f"kill-{next(self._serial)}",
                scope=parse(kind, value, tenant),
                is_guarded=False,
                reason="a test",
                created_by="alice",
                created_at_ns=self.database.now_ns(connection),
            )
            return self.book.create(connection, asked, Signer(operator="alice")).id

    def lift(self, kill: str) -> None:
        with self.database.write() as connection:
            self.book.lift(connection, "acme", kill, Signer(operator="alice"), "a test")

    def entries(self, stream: str = "acme") -> list[Entry]:
        with self.database.read() as connection:
            lines = self.ledger.lines(connection, stream, 0, limit=100_000)
        return read_lines(b"".join(line.document for line in lines), stream)

    # --- clients

    def send(
        self,
        path: str,
        body: bytes = b"",
        *,
        method: str = "POST",
        headers: Mapping[str, str] | None = None,
        query: str = "",
        certificate: bytes | None = None,
    ) -> Answer:
        """One HTTP request, straight into the app."""
        sent = {"content-type": "application/x-www-form-urlencoded"} | dict(headers or {})
        scope: Json = {
            "type": "http",
            "http_version": "1.1",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": [(name.lower().encode(), value.encode()) for name, value in sent.items()],
            "scheme": "http",
            "server": ("control.example", 80),
            "client": ("127.0.0.1", 1),
        }
        if certificate is not None:
            scope[CLIENT_CERTIFICATE] = certificate
        return asyncio.run(_asked(self.app, scope, body))

    def proof(self, identifier: str = "planner", **changes: Any) -> Json:
        """The parameters by which a client proves itself, good once."""
        unique: Json = {"jti": f"jti-{next(self._serial)}-{time.time_ns()}", "now": time.time()}
        return {
            "client_assertion_type": ASSERTION_TYPE,
            "client_assertion": assertion(identifier, **(unique | changes)),
        }

    def ask(self, identifier: str = "planner", key: SigningKey | None = None, **parameters: Any) -> Answer:
        """For a token of its own."""
        base = {"grant_type": "client_credentials"} | self.proof(identifier, key=key)
        return self.send("/token", form(**(base | parameters)))

    def token(self, identifier: str = "planner", **parameters: Any) -> str:
        answer = self.ask(identifier, **parameters)
        assert answer.status == 200, answer.body
        return str(answer.json["access_token"])

    def exchange(self, subject: str, child: str = "", *, by: str = "planner", **parameters: Any) -> Answer:
        """For a token of `child`, which `by` spawns; of `by` itself where no child is named."""
        base = {"grant_type": TOKEN_EXCHANGE, "subject_token": subject, "subject_token_type": ACCESS_TOKEN_TYPE}
        named = {"agent_id": child} if child else {}
        return self.send(
            "/token", form(**(base | named | self.proof(by, key=parameters.pop("key", None)) | parameters))
        )

    def spawn(self, subject: str, child: str, **parameters: Any) -> str:
        answer = self.exchange(subject, child, **parameters)
        assert answer.status == 200, answer.body
        return str(answer.json["access_token"])

    def sign(self, claims: Json, typ: str = "at+jwt") -> str:
        """A token that this server's key signs and its endpoint never issued."""
        with self.database.read() as connection:
            return jose.sign(self.issuer._keys.signer(connection), typ=typ, claims=claims)

    def introspect(self, token: str, by: str = "planner", **more: Any) -> Json:
        answer = self.send("/introspect", form(token=token, **self.proof(by, **more)))
        assert answer.status == 200, answer.body
        return answer.json

    def revoke(self, token: str, by: str = "planner", **more: Any) -> Answer:
        return self.send("/revoke", form(token=token, **self.proof(by, **more)))


async def _asked(app: Starlette, scope: Json, body: bytes) -> Answer:
    got: list[Json] = []
    waiting = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Any:
        return waiting.pop() if waiting else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        got.append(message)

    await app(scope, receive, send)
    headers = {name.decode(): value.decode() for name, value in got[0]["headers"]}
    return Answer(got[0]["status"], headers, b"".join(message.get("body", b"") for message in got[1:]))
