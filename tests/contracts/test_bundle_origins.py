"""F18: a bundle is read over a network that does its worst, within its bounds or not at all. A real HTTP server."""

from __future__ import annotations

import hashlib
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from authz.bundles import read_token
from authz.clock import SystemClock
from authz.errors import BundleError, ConfigError
from authz.policy import archive, delta
from authz.policy.origin_file import FileOrigin
from authz.policy.origin_http import LONG_POLL, HttpOrigin
from authz.policy.sources import beside
from tests.publisher import Publisher
from tests.unit.policy.test_delta import release
from tests.web_servers import answering

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

ARCHIVE = Publisher().packed()
SHA256 = hashlib.sha256(ARCHIVE).hexdigest()
MOST = 1 << 20


@dataclass
class Shelf:
    """What the server answers, by path; and what it was asked."""

    answers: dict[str, Callable[[BaseHTTPRequestHandler], None]] = field(default_factory=dict)
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    url: str = ""


def sends(body: bytes, status: int = 200, **headers: str) -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        for name, text in {"content-length": str(len(body)), **headers}.items():
            request.send_header(name.replace("_", "-"), text)
        request.end_headers()
        request.wfile.write(body)

    return answer


@contextmanager
def serving(shelf: Shelf) -> Iterator[None]:
    class Answers(BaseHTTPRequestHandler):
        served: ClassVar[Shelf] = shelf

        def do_GET(self) -> None:
            shelf.asked.append((self.path, {name.lower(): text for name, text in self.headers.items()}))
            shelf.answers.get(self.path, sends(b"", 404))(self)

        def log_message(self, *_: Any) -> None: ...

    with answering(Answers) as host:
        shelf.url = f"http://{host}"
        yield


@pytest.fixture
def shelf() -> Iterator[Shelf]:
    made = Shelf()
    with serving(made):
        yield made


def origin(shelf: Shelf, **options: Any) -> HttpOrigin:
    settings: dict[str, Any] = {"archive_bytes": MOST} | options
    return HttpOrigin(f"{shelf.url}/acme/payments", SystemClock(), **settings)


def refusal(shelf: Shelf, **options: Any) -> str:
    with pytest.raises(BundleError) as refused:
        origin(shelf, **options).read("")
    return refused.value.code


def test_an_archive_comes_with_what_lies_beside_it(shelf: Shelf) -> None:
    shelf.answers = {
        "/acme/payments": sends(ARCHIVE, etag='"1"'),
        f"/acme/{SHA256}.sig.json": sends(b"further"),
        f"/acme/{SHA256}.timestamp.json": sends(b"", 403),
    }
    offer = origin(shelf).read("")
    assert (offer.archive, offer.tag, offer.beside) == (ARCHIVE, '"1"', {"sig": b"further"})


def test_what_has_not_changed_is_not_sent_and_what_lies_beside_is_read_again(shelf: Shelf) -> None:
    shelf.answers["/acme/payments"] = sends(ARCHIVE, etag='"1"')
    reader = origin(shelf)
    reader.read("")
    shelf.answers["/acme/payments"] = sends(b"", 304)
    shelf.answers[f"/acme/{SHA256}.timestamp.json"] = sends(b"newer")
    offer = reader.read('"1"')
    assert (offer.archive, offer.tag, offer.beside) == (None, '"1"', {"timestamp": b"newer"})
    assert [headers.get("if-none-match") for path, headers in shelf.asked if path == "/acme/payments"] == [None, '"1"']


def test_a_server_without_etags_is_understood(shelf: Shelf) -> None:
    shelf.answers["/acme/payments"] = sends(ARCHIVE)
    reader = origin(shelf)
    first = reader.read("")
    assert (first.tag, first.archive) == (SHA256, ARCHIVE)
    assert reader.read(first.tag).archive is None


def test_a_304_to_who_has_nothing_is_no_answer(shelf: Shelf) -> None:
    shelf.answers["/acme/payments"] = sends(b"", 304)
    assert refusal(shelf) == "BUNDLE_FETCH"


@pytest.mark.parametrize("content_type", [LONG_POLL, "application/gzip"])
def test_a_wait_is_asked_for_and_known_to_be_understood(shelf: Shelf, content_type: str) -> None:
    shelf.answers["/acme/payments"] = sends(ARCHIVE, content_type=content_type)
    offer = origin(shelf).read("", wait_s=30)
    assert offer.is_held is (content_type == LONG_POLL)
    assert shelf.asked[0][1]["prefer"] == "modes=snapshot;wait=30"


def test_a_delta_is_taken_only_if_it_makes_an_archive_of_the_one_that_is_here(shelf: Shelf) -> None:
    before, after = (release(number, {"limits/data.json": b"[%d]" % number}) for number in (1, 2))
    ours = delta.make(before, after)
    theirs = archive.write({"patch.json": b'{"data":[{"op":"remove","path":"/limits"}]}'})
    blank = archive.write({"patch.json": b'{"data":[]}'})

    def answer(sent: bytes) -> Callable[[BaseHTTPRequestHandler], None]:
        def either(request: BaseHTTPRequestHandler) -> None:
            sends(sent if request.headers.get("prefer") == "modes=snapshot,delta" else after, etag='"2"')(request)

        return either

    for sent, base, whole in ((ours, before, 0), (ours, after, 1), (theirs, before, 1), (blank, before, 1)):
        shelf.asked.clear()
        shelf.answers["/acme/payments"] = answer(sent)
        offer = origin(shelf).read('"1"', base=base)
        assert (offer.archive, offer.tag) == (after, '"2"')
        asked = [headers.get("if-none-match") for path, headers in shelf.asked if path == "/acme/payments"]
        assert asked == ['"1"', *[None] * whole]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("target", ["http://127.0.0.1:1/x", "file:///etc/passwd", "/elsewhere"])
def test_f18_a_redirect_is_never_followed(shelf: Shelf, status: int, target: str) -> None:
    shelf.answers = {"/acme/payments": sends(b"", status, location=target), "/elsewhere": sends(ARCHIVE)}
    assert refusal(shelf) == "BUNDLE_FETCH"
    assert [path for path, _ in shelf.asked] == ["/acme/payments"]


def test_f18_bytes_that_drip_end_at_the_deadline(shelf: Shelf) -> None:
    def drip(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.end_headers()
        for _ in range(100):
            request.wfile.write(b"x")
            request.wfile.flush()
            threading.Event().wait(0.02)

    shelf.answers["/acme/payments"] = drip
    assert refusal(shelf, fetch_s=0.2) == "BUNDLE_FETCH"


def test_f14_no_more_is_read_than_an_archive_may_weigh(shelf: Shelf) -> None:
    shelf.answers["/acme/payments"] = sends(bytes(MOST + 1))
    assert refusal(shelf) == "BUNDLE_SIZE"
    shelf.answers["/acme/payments"] = sends(b"zipped", content_encoding="gzip")
    assert origin(shelf).read("").archive == b"zipped"


@pytest.mark.parametrize("status", [401, 403, 404, 500, 503])
def test_a_server_that_refuses_is_named_by_its_status(shelf: Shelf, status: int) -> None:
    shelf.answers["/acme/payments"] = sends(b"why", status)
    with pytest.raises(BundleError, match=str(status)):
        origin(shelf).read("")


def test_nobody_there_is_no_answer() -> None:
    gone = Shelf(url="http://127.0.0.1:1")
    assert refusal(gone) == "BUNDLE_FETCH"


def test_a_token_is_read_again_for_each_request_and_never_shown(shelf: Shelf, tmp_path: Path) -> None:
    shelf.answers["/acme/payments"] = sends(ARCHIVE)
    token = tmp_path / "token"
    token.write_text("first\n")
    reader = origin(shelf, token=lambda: read_token(token))
    reader.read("")
    token.write_text("second\n")
    reader.read("")
    shown = [headers["authorization"] for path, headers in shelf.asked if path == "/acme/payments"]
    assert shown == ["Bearer first", "Bearer second"]
    shelf.answers["/acme/payments"] = sends(b"", 403)
    with pytest.raises(BundleError) as refused:
        reader.read("")
    assert "second" not in str(refused.value)
    token.unlink()
    with pytest.raises(BundleError, match="BUNDLE_FETCH"):
        reader.read("")


@pytest.mark.parametrize(
    "url",
    [
        "http://mirror.example/bundle.tar.gz",
        "ftp://mirror.example/bundle.tar.gz",
        "https://user:secret@mirror.example/bundle.tar.gz",
        "https://mirror.example/bundle.tar.gz?token=secret",
        "https://mirror.example",
        "mirror.example",
        "http://[::1",
    ],
)
def test_f18_a_url_that_would_show_or_trust_too_much_is_refused(url: str) -> None:
    with pytest.raises(ConfigError) as refused:
        HttpOrigin(url, SystemClock(), archive_bytes=MOST)
    assert "secret" not in str(refused.value)


def test_a_file_is_an_origin_too(tmp_path: Path) -> None:
    archive = tmp_path / "bundle.tar.gz"
    reader = FileOrigin(archive, archive_bytes=MOST)
    with pytest.raises(BundleError, match="BUNDLE_FETCH"):
        reader.read("")
    archive.write_bytes(ARCHIVE)
    beside(archive, ARCHIVE, "sig").write_bytes(b"further")
    offer = reader.read("")
    assert (offer.archive, offer.beside) == (ARCHIVE, {"sig": b"further"})
    assert reader.read(offer.tag).archive is None
    assert offer.tag == reader.tag(ARCHIVE)
