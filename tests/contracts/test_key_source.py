"""What every `KeySource` promises: the fake, a file, and a real HTTP server."""

from __future__ import annotations

import gzip
import threading
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Protocol

import pytest
import urllib3

from authz.clock import SystemClock
from authz.config import Issuer
from authz.identity import jwks
from authz.identity.clock_guard import ClockGuard
from authz.identity.jwks_source import JwksFile, JwksSource, JwksTiming, JwksUrl
from authz.identity.tokens import TokenVerifier, TrustedIssuer
from authz.reasons import JWKS_UNAVAILABLE, TOKEN_HEADER, TOKEN_KID
from tests.identity_fakes import FakeKeys, Forge, SteppingClock, document, key_set, reason_of, signing_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from authz.identity.keys import KeySource
    from authz.reasons import Reason

OLD, NEW = Forge(signing_key("EdDSA")), Forge(signing_key("ES256"), kid="k2")
OLD_ONLY = document(OLD.key.jwk("k1"))
OVERLAP = document(OLD.key.jwk("k1"), NEW.key.jwk("k2"))
NEW_ONLY = document(NEW.key.jwk("k2"))


class Publisher(Protocol):
    """A key source together with the means to publish."""

    @property
    def keys(self) -> KeySource: ...
    def publish(self, octets: bytes) -> None: ...
    def settle(self) -> None:
        """Return once what was published is in force."""


@dataclass
class FakePublisher:
    keys: FakeKeys = field(default_factory=lambda: FakeKeys(key_set()))

    def publish(self, octets: bytes) -> None:
        self.keys.published = jwks.parse(octets)

    def settle(self) -> None:
        self.keys.refreshed_key_set()


@dataclass
class FilePublisher:
    path: Path

    def __post_init__(self) -> None:
        self.keys = JwksSource(JwksFile(path=self.path), clock=SteppingClock(), timing=JwksTiming())

    def publish(self, octets: bytes) -> None:
        draft = self.path.with_suffix(".draft")
        draft.write_bytes(octets)
        draft.replace(self.path)

    def settle(self) -> None:
        self.keys.refresh()


Answer = tuple[int, dict[str, str], bytes]


class Server:
    """An HTTP server on loopback whose answer a test sets."""

    def __init__(self) -> None:
        self.answer: Answer | Callable[[BaseHTTPRequestHandler], None] = (200, {}, OLD_ONLY)
        self.requests: list[str] = []
        server = self

        class Pages(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.requests.append(self.path)
                if callable(server.answer):
                    server.answer(self)
                    return
                status, headers, body = server.answer
                self.send_response(status)
                for name, value in ({"content-length": str(len(body))} | headers).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Pages)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/jwks"

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@dataclass
class HttpPublisher:
    server: Server

    def __post_init__(self) -> None:
        self.clock = SteppingClock()
        url = JwksUrl(url=self.server.url, clock=SystemClock(), pool=urllib3.PoolManager(), deadline_s=0.5)
        self.keys = JwksSource(url, clock=self.clock, timing=JwksTiming())

    def publish(self, octets: bytes) -> None:
        self.server.answer = (200, {}, octets)

    def settle(self) -> None:
        self.keys.refresh()


@pytest.fixture
def http() -> Iterator[HttpPublisher]:
    server = Server()
    yield HttpPublisher(server)
    server.stop()


@pytest.fixture(params=["fake", "file", "http"])
def publisher(request: pytest.FixtureRequest, tmp_path: Path) -> Publisher:
    if request.param == "fake":
        return FakePublisher()
    if request.param == "file":
        return FilePublisher(tmp_path / "jwks.json")
    found: HttpPublisher = request.getfixturevalue("http")
    return found


def verifier_over(publisher: Publisher) -> TokenVerifier:
    issuer = Issuer(issuer=OLD.issuer, audience=OLD.audience, jwks="unused")
    trusted = TrustedIssuer(issuer=issuer, keys=publisher.keys)
    return TokenVerifier([trusted], clock=ClockGuard(SteppingClock()))


def outcomes(verifier: TokenVerifier, tokens: Iterable[str]) -> list[Reason | None]:
    return [reason_of(partial(verifier.verify, token)) for token in tokens]


def test_what_is_published_is_what_verifies(publisher: Publisher) -> None:
    publisher.publish(OLD_ONLY)
    publisher.settle()
    assert [key.kid for key in publisher.keys.key_set().keys] == ["k1"]
    assert publisher.keys.key_set() is publisher.keys.key_set()
    assert publisher.keys.age_s() == 0


def test_a_change_is_another_object(publisher: Publisher) -> None:
    publisher.publish(OLD_ONLY)
    publisher.settle()
    before = publisher.keys.key_set()
    publisher.publish(OVERLAP)
    publisher.settle()
    assert publisher.keys.key_set() is not before


def test_d13_a_rotation_with_overlap_loses_no_token(publisher: Publisher) -> None:
    verifier = verifier_over(publisher)
    for phase, (published, signers) in enumerate([(OLD_ONLY, [OLD]), (OVERLAP, [OLD, NEW]), (NEW_ONLY, [NEW])]):
        publisher.publish(published)
        publisher.settle()
        tokens = [signer.token(jti=f"{phase}-{serial}") for signer in signers for serial in range(20)]
        assert outcomes(verifier, tokens) == [None] * len(tokens)
    assert outcomes(verifier, [OLD.token(jti="0-0")]) == [TOKEN_KID]


# --- what a real server can do wrong (D13, F18)


def drip(request: BaseHTTPRequestHandler) -> None:
    """Answer for ever, a byte at a time, each well within a socket's timeout."""
    request.send_response(200)
    request.end_headers()
    stop = threading.Event()
    try:
        while not stop.wait(0.02):
            request.wfile.write(b" ")
            request.wfile.flush()
    except OSError:
        return


def hang(request: BaseHTTPRequestHandler) -> None:
    """Say nothing until the caller has gone."""
    request.connection.settimeout(30)
    request.connection.recv(1)


def flood(request: BaseHTTPRequestHandler) -> None:
    """Answer for ever, as fast as the caller reads."""
    request.send_response(200)
    request.end_headers()
    try:
        while True:
            request.wfile.write(b" " * 65_536)
    except OSError:
        return


FAULTS: dict[str, Answer | Callable[[BaseHTTPRequestHandler], None]] = {
    "500": (500, {}, OVERLAP),
    "404": (404, {}, OVERLAP),
    "204": (204, {}, b""),
    "redirect": (302, {"location": "/elsewhere"}, b""),
    "redirect with keys in it": (301, {"location": "/elsewhere"}, OVERLAP),
    "html": (200, {"content-type": "text/html"}, b"<!doctype html><p>sign in"),
    "empty": (200, {}, b""),
    "cut short": (200, {"content-length": str(len(OVERLAP) + 10)}, OVERLAP),
    "encoded": (200, {"content-encoding": "gzip"}, gzip.compress(OVERLAP)),
    "1,000 keys": (200, {}, document(*[{"kty": "OKP", "kid": str(serial)} for serial in range(1000)])),
    "huge": (200, {}, b" " * 5_000_000),
    "drip": drip,
    "hang": hang,
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_d13_a_fault_keeps_the_last_good_keys_for_an_hour(
    http: HttpPublisher, fault: Answer | Callable[[BaseHTTPRequestHandler], None]
) -> None:
    http.settle()
    before = http.keys.key_set()
    http.server.answer = fault
    assert reason_of(http.settle) is JWKS_UNAVAILABLE
    assert http.keys.key_set() is before
    http.clock.advance(3601)
    assert reason_of(http.keys.key_set) is JWKS_UNAVAILABLE
    http.publish(OVERLAP)
    http.settle()
    assert len(http.keys.key_set().keys) == 2


def test_f18_a_redirect_is_not_followed(http: HttpPublisher) -> None:
    http.server.answer = (302, {"location": "/elsewhere"}, b"")
    assert reason_of(http.settle) is JWKS_UNAVAILABLE
    assert http.server.requests == ["/jwks"]
    assert http.keys.state().last_error == "HTTP status 302"


def test_an_endless_answer_is_cut_off_at_the_size_limit(http: HttpPublisher) -> None:
    http.server.answer = flood
    assert reason_of(http.settle) is JWKS_UNAVAILABLE
    assert http.keys.state().last_error == "the key set is over 256 KiB"


def test_a_server_that_is_not_there_is_unavailable(http: HttpPublisher) -> None:
    http.server.stop()
    assert reason_of(http.settle) is JWKS_UNAVAILABLE
    assert reason_of(http.keys.key_set) is JWKS_UNAVAILABLE


def test_d4_a_token_that_names_a_url_causes_no_request(http: HttpPublisher) -> None:
    verifier = verifier_over(http)
    http.settle()
    seen = len(http.server.requests)
    tokens = [OLD.token({parameter: http.server.url}) for parameter in ("jku", "x5u")]
    assert outcomes(verifier, tokens) == [TOKEN_HEADER] * 2
    assert len(http.server.requests) == seen


def test_d5_a_thousand_random_kids_cause_one_fetch(http: HttpPublisher) -> None:
    verifier = verifier_over(http)
    http.settle()
    http.keys.start()
    try:
        seen = outcomes(verifier, (OLD.token({"kid": f"random-{serial}"}) for serial in range(1000)))
    finally:
        http.keys.close()
    assert seen == [TOKEN_KID] * 1000
    # The test's own, the thread's first, and the one that a thousand strangers may cause.
    assert len(http.server.requests) <= 3
