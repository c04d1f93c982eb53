"""Upstream tokens by exchange (D9): at hand or refused, never waited for, and never another caller's."""

from __future__ import annotations

import json
import threading
from base64 import b64encode
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import pytest

from authz.config import ExchangedAuth, Route, TokenExchange
from authz.edge.exchanged import ExchangedTokens
from authz.edge.upstream import UpstreamCredentials
from authz.errors import ConfigError, UnavailableError
from authz.identity.token_exchange import Issued, TokenEndpoint
from authz.model import Check
from authz.reasons import UPSTREAM_CREDENTIAL as PENDING
from tests.e2e.stack import eventually
from tests.fakes import PRINCIPAL, Bench, FakeClaim, FakeClock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from authz.model import Principal

OTHER = replace(PRINCIPAL, agent="agent-2")
CALLER = Check(headers={"authorization": "Bearer caller.token.1"})


class Later(Executor):
    """Runs what was submitted when a test says so."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], Any]] = []

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.waiting.append(lambda: fn(*args, **kwargs))
        return Future()

    def run(self) -> int:
        due, self.waiting = self.waiting, []
        for work in due:
            work()
        return len(due)


@dataclass
class Counter:
    """Exchanges each token for one that names it, or fails."""

    life_s: float = 100.0
    fails: bool = False
    asked: list[str] = field(default_factory=list)

    def __call__(self, subject: str) -> Issued:
        self.asked.append(subject)
        if self.fails:
            raise UnavailableError(PENDING)
        return Issued(token=f"up-{subject}-{len(self.asked)}", life_s=self.life_s)


class Desk:
    def __init__(self, own: Callable[[], str] | None = None, max_tokens: int = 100) -> None:
        self.clock, self.later, self.exchange = FakeClock(), Later(), Counter()
        self.tokens = ExchangedTokens(self.exchange, self.clock, self.later, own, max_tokens)

    def of(self, principal: Principal = PRINCIPAL, shown: str = "t") -> str:
        try:
            return self.tokens.of(principal, shown)
        except UnavailableError as error:
            return "" if error.reason is PENDING else error.reason.code


def test_a_call_never_waits_and_the_next_finds_what_was_fetched() -> None:
    desk = Desk()
    assert desk.of() == ""
    assert desk.of() == ""
    assert desk.later.run() == 1
    assert desk.of() == "Bearer up-t-1"


def test_no_caller_gets_what_was_issued_for_another() -> None:
    desk = Desk()
    others = [
        OTHER,
        replace(PRINCIPAL, tenant="other"),
        replace(PRINCIPAL, issuer="https://other"),
        replace(PRINCIPAL, subject="bob"),
        replace(PRINCIPAL, session="s-2"),
        replace(PRINCIPAL, scopes=("admin",)),
        replace(PRINCIPAL, parents=("boss",)),
        replace(PRINCIPAL, client="c"),
    ]
    desk.of()
    desk.later.run()
    assert [desk.of(other) for other in others] == [""] * len(others)
    assert desk.of() == "Bearer up-t-1"


def test_a_renewed_token_of_the_same_caller_needs_no_other_exchange() -> None:
    desk = Desk()
    desk.of()
    desk.later.run()
    assert desk.of(replace(PRINCIPAL, jti_sha256="cd" * 32), "t2") == "Bearer up-t-1"
    assert desk.later.waiting == []


def test_a_token_in_use_is_fetched_anew_before_it_expires_with_what_the_caller_showed_last() -> None:
    desk = Desk()
    desk.of()
    desk.later.run()
    desk.clock.advance(76)
    assert desk.of(shown="t2") == "Bearer up-t-1"
    assert desk.later.run() == 1
    assert desk.of(shown="t2") == "Bearer up-t2-2"


def test_a_token_is_not_used_in_its_last_seconds() -> None:
    desk = Desk()
    desk.of()
    desk.later.run()
    desk.clock.advance(94.9)
    assert desk.of() == "Bearer up-t-1"
    desk.clock.advance(0.1)
    assert desk.of() == ""


def test_a_failed_exchange_is_tried_again_after_a_second_and_not_before() -> None:
    desk = Desk()
    desk.exchange.fails = True
    desk.of()
    assert desk.later.run() == 1
    desk.of()
    assert desk.later.run() == 0
    desk.clock.advance(1)
    desk.exchange.fails = False
    assert desk.of() == ""
    assert desk.later.run() == 1
    assert desk.of() == "Bearer up-t-2"


def test_a_token_of_this_services_own_is_there_for_the_first_caller() -> None:
    desk = Desk(own=lambda: "own")
    desk.tokens.start()
    desk.later.run()
    assert desk.of(PRINCIPAL, "") == desk.of(OTHER, "t") == "Bearer up-own-1"


def test_a_caller_without_a_token_has_nothing_to_exchange() -> None:
    desk = Desk()
    assert desk.of(shown="") == ""
    assert desk.later.waiting == []


def test_the_tokens_that_are_kept_are_bounded() -> None:
    desk = Desk(max_tokens=2)
    for agent in "abc":
        desk.of(replace(PRINCIPAL, agent=agent))
    desk.later.run()
    assert [bool(desk.of(replace(PRINCIPAL, agent=agent))) for agent in "cba"] == [True, True, False]


# --- the endpoint


class Endpoint(ThreadingHTTPServer):
    """A token endpoint over HTTP that answers what a test says."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Requests)
        self.status = 200
        self.answer: Any = {"access_token": "up.1", "token_type": "Bearer", "expires_in": 300}
        self.location = ""
        self.answers = threading.Event()
        """Cleared, it keeps whoever asks waiting."""
        self.answers.set()
        self.received: list[tuple[dict[str, str], dict[str, list[str]]]] = []
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/token"


class _Requests(BaseHTTPRequestHandler):
    server: Endpoint  # type: ignore[mutable-override]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"])).decode()
        self.server.answers.wait(10)
        self.server.received.append(({k.lower(): v for k, v in self.headers.items()}, parse_qs(body)))
        answer = self.server.answer
        raw = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(self.server.status)
        if self.server.location:
            self.send_header("location", self.server.location)
        self.send_header("content-length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    server = Endpoint()
    yield server
    server.shutdown()
    server.server_close()


def settings(endpoint: Endpoint, **changes: Any) -> TokenExchange:
    return TokenExchange(**({"token_endpoint": endpoint.url, "client_id": "gate:1"} | changes))


def test_the_endpoint_is_asked_as_rfc_8693_says(endpoint: Endpoint) -> None:
    asked = settings(endpoint, audience="bank", resource="https://bank.example/", scopes=("read", "pay"))
    assert TokenEndpoint(asked, "s&cret").exchange("caller") == Issued(token="up.1", life_s=300)
    headers, form = endpoint.received[0]
    assert headers["authorization"] == f"Basic {b64encode(b'gate%3A1:s%26cret').decode()}"
    assert {name: values[0] for name, values in form.items()} == {
        "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
        "subject_token": "caller",
        "subject_token_type": "urn:ietf:params:oauth:token-type:access_token",
        "requested_token_type": "urn:ietf:params:oauth:token-type:access_token",
        "audience": "bank",
        "resource": "https://bank.example/",
        "scope": "read pay",
    }


def test_a_public_client_names_itself(endpoint: Endpoint) -> None:
    TokenEndpoint(settings(endpoint), "").exchange("caller")
    headers, form = endpoint.received[0]
    assert "authorization" not in headers
    assert form["client_id"] == ["gate:1"]


GOOD = {"access_token": "up", "token_type": "bearer", "expires_in": 60}


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"[]",
        b"<html>",
        b'{"access_token":"a","access_token":"b","token_type":"Bearer","expires_in":1}',
        {**GOOD, "access_token": None},
        {**GOOD, "access_token": ""},
        {**GOOD, "access_token": "a\r\nx-evil: 1"},
        {**GOOD, "access_token": "a b"},
        {**GOOD, "access_token": "x" * 20_000},
        {**GOOD, "token_type": "N_A"},
        {**GOOD, "token_type": "DPoP"},
        {**GOOD, "token_type": None},
        {**GOOD, "expires_in": 0},
        {**GOOD, "expires_in": -1},
        {**GOOD, "expires_in": True},
        {**GOOD, "expires_in": "60"},
        {"access_token": "up", "token_type": "bearer"},
        {**GOOD, "more": "x" * 70_000},
    ],
)
def test_what_is_no_credential_is_none(endpoint: Endpoint, answer: Any) -> None:
    endpoint.answer = answer
    with pytest.raises(UnavailableError) as raised:
        TokenEndpoint(settings(endpoint), "").exchange("secret-caller-token")
    assert raised.value.reason is PENDING
    assert "secret-caller-token" not in str(raised.value)


@pytest.mark.parametrize("status", [302, 400, 401, 500])
def test_a_refusal_or_a_redirect_is_none(endpoint: Endpoint, status: int) -> None:
    endpoint.status, endpoint.location = status, endpoint.url
    with pytest.raises(UnavailableError):
        TokenEndpoint(settings(endpoint), "").exchange("caller")
    assert len(endpoint.received) == 1


@pytest.mark.parametrize("url", ["http://issuer.example/token", "ftp://127.0.0.1/", "https://u:p@issuer/", "token"])
def test_no_token_leaves_in_plaintext_or_to_nowhere(url: str) -> None:
    with pytest.raises(ConfigError):
        TokenEndpoint(TokenExchange(token_endpoint=url, client_id="c"), "")


# --- a route


def route(endpoint: Endpoint, **changes: Any) -> Route:
    return Route(path="/mcp", upstream_auth=ExchangedAuth(token_exchange=settings(endpoint, **changes)))


def test_a_call_is_refused_until_its_credential_is_there_and_then_runs_with_it(endpoint: Endpoint) -> None:
    one = route(endpoint)
    credentials = UpstreamCredentials((one,), FakeClock())
    bench = Bench(credential=credentials.of)
    bench.front.on = one
    endpoint.answers.clear()
    refused = bench.pdp().decide(CALLER, FakeClaim(), lambda *_: b"").decision
    assert (refused.reason, refused.http_status, refused.forwards) == ("UPSTREAM_CREDENTIAL", 503, False)
    endpoint.answers.set()
    allowed = eventually(
        lambda: (found := bench.pdp().decide(CALLER, FakeClaim(), lambda *_: b"").decision).forwards and found
    )
    assert credentials.of(CALLER, one, allowed.principal) == ("authorization", "Bearer up.1")
    assert endpoint.received[0][1]["subject_token"] == ["caller.token.1"]
    credentials.stop()


def test_d15_what_the_policy_denies_is_exchanged_for_nobody(endpoint: Endpoint) -> None:
    one = route(endpoint)
    credentials = UpstreamCredentials((one,), FakeClock())
    bench = Bench(credential=credentials.of)
    bench.front.on = one
    bench.policies.query.answer = {"effect": "deny"}
    assert bench.pdp().decide(CALLER, FakeClaim(), lambda *_: b"").decision.reason == "POLICY_DENY"
    credentials.stop()
    assert endpoint.received == []


def test_who_is_known_without_a_token_needs_one_of_the_services_own(endpoint: Endpoint, tmp_path: Path) -> None:
    with pytest.raises(UnavailableError):
        UpstreamCredentials((one := route(endpoint),), FakeClock()).of(Check(), one, PRINCIPAL)
    own = tmp_path / "own"
    own.write_text("own.token\n")
    own.chmod(0o600)
    credentials = UpstreamCredentials((one := route(endpoint, subject_token_file=own),), FakeClock())
    credentials.start()
    eventually(lambda: endpoint.received)

    def value() -> tuple[str, str] | None:
        try:
            return credentials.of(Check(), one, PRINCIPAL)
        except UnavailableError:
            return None

    assert eventually(value) == ("authorization", "Bearer up.1")
    assert endpoint.received[0][1]["subject_token"] == ["own.token"]
    credentials.stop()


def test_a_secret_that_everyone_reads_is_refused_at_the_start(endpoint: Endpoint, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s")
    secret.chmod(0o644)
    with pytest.raises(ConfigError):
        UpstreamCredentials((route(endpoint, client_secret_file=secret),), FakeClock())
