"""How commands talk to the control plane: where it is, who is asking, and what a refusal ends with."""

from __future__ import annotations

import json
import threading
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from authz._gen.authz.control.v1 import kills_pb2, operators_pb2
from authz.cli.control_client import connect
from authz.cli.duration import span
from authz.errors import AuthzError, ConfigError, ProgramError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Scripted(HTTPServer):
    """Answers every POST with what a test says, and remembers it."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.answer: tuple[int, bytes, dict[str, str]] = (200, b"{}", {})
        self.seen: list[tuple[str, dict[str, str], bytes]] = []
        self.url = f"http://127.0.0.1:{self.server_port}"


class _Answers(BaseHTTPRequestHandler):
    server: Scripted  # type: ignore[mutable-override]  # the one that made it

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.seen.append((self.path, {name.lower(): value for name, value in self.headers.items()}, body))
        status, content, headers = self.server.answer
        self.send_response(status)
        for name, value in {"content-length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Scripted]:
    with Scripted() as scripted:
        thread = threading.Thread(target=scripted.serve_forever)
        thread.start()
        yield scripted
        scripted.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AUTHZ_OPERATOR_CREDENTIAL", "AUTHZ_CONTROL_CA"):
        monkeypatch.delenv(name, raising=False)


def written(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.write_text(text)
    path.chmod(0o600)


def whoami(url: str | None, state: Path) -> operators_pb2.Operator:
    return connect(url, state).call("Operators/WhoAmI", operators_pb2.WhoAmIRequest(), operators_pb2.Operator)


def test_the_address_and_the_credential_are_those_of_the_state_folder(server: Scripted, tmp_path: Path) -> None:
    written(tmp_path, "control.json", json.dumps({"http": server.url}))
    written(tmp_path, "operator", "authz_operator_x\n")
    server.answer = (200, b'{"id": "ana", "added_in_a_later_release": 1}', {})
    assert whoami(None, tmp_path).id == "ana"
    path, headers, body = server.seen[0]
    assert (path, headers["authorization"], json.loads(body)) == (
        "/authz.control.v1.Operators/WhoAmI",
        "Bearer authz_operator_x",
        {},
    )


def test_the_environments_credential_counts_before_the_state_folders(
    server: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tmp_path, "operator", "authz_operator_x\n")
    monkeypatch.setenv("AUTHZ_OPERATOR_CREDENTIAL", "authz_operator_y")
    whoami(server.url, tmp_path)
    assert server.seen[0][1]["authorization"] == "Bearer authz_operator_y"


def test_k4_a_credential_that_others_can_read_is_not_used(tmp_path: Path) -> None:
    written(tmp_path, "operator", "authz_operator_x\n")
    (tmp_path / "operator").chmod(0o644)
    with pytest.raises(ConfigError, match="others may read"):
        connect("http://127.0.0.1:1", tmp_path)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://127.0.0.1:1",
        "127.0.0.1:1",
        "http://control.example:1",
        "http://a:b@127.0.0.1:1",
        "http://127.0.0.1:1/x",
        "",
    ],
)
def test_an_address_that_is_none_or_would_show_the_credential_is_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(ConfigError):
        connect(url, tmp_path)


@pytest.mark.parametrize(
    ("code", "ends_with"),
    [
        ("permission_denied", 1),
        ("unauthenticated", 1),
        ("not_found", 1),
        ("already_exists", 1),
        ("failed_precondition", 1),
        ("aborted", 1),
        ("invalid_argument", 2),
        ("unimplemented", 2),
        ("unavailable", 3),
        ("deadline_exceeded", 3),
        ("resource_exhausted", 3),
        ("internal", 4),
        ("unknown", 4),
    ],
)
def test_each_refusal_has_its_exit_code_and_says_what_to_do(
    server: Scripted, tmp_path: Path, code: str, ends_with: int
) -> None:
    detail = {"type": "google.rpc.ErrorInfo", "value": "", "debug": {"reason": "CONTROL_FORBIDDEN"}}
    server.answer = (403, json.dumps({"code": code, "message": "no", "details": [detail]}).encode(), {})
    with pytest.raises(AuthzError, match="CONTROL_FORBIDDEN: no") as raised:
        whoami(server.url, tmp_path)
    assert raised.value.exit_code == ends_with
    assert "whoami" in raised.value.remedy


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"code": 7}', b'{"details": []}'])
def test_an_answer_of_something_else_is_no_answer(server: Scripted, tmp_path: Path, body: bytes) -> None:
    server.answer = (502, body, {})
    with pytest.raises(AuthzError, match=r"502|7"):
        whoami(server.url, tmp_path)


def test_a_redirect_does_not_take_the_credential_along(server: Scripted, tmp_path: Path) -> None:
    server.answer = (307, b"", {"location": f"{server.url}/elsewhere"})
    with pytest.raises(AuthzError, match="307"):
        whoami(server.url, tmp_path)
    assert len(server.seen) == 1


def test_nobody_there_is_said_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ProgramError, match="no control plane answers") as raised:
        whoami("http://127.0.0.1:9", tmp_path)
    assert "authz control" in raised.value.remedy


def frames(*contents: bytes, end: bytes | None = b"{}") -> bytes:
    last = b"" if end is None else b"\2" + len(end).to_bytes(4, "big") + end
    return b"".join(b"\0" + len(each).to_bytes(4, "big") + each for each in contents) + last


def watched(server: Scripted, state: Path) -> list[str]:
    answers = connect(server.url, state).stream("Kills/WatchKills", kills_pb2.WatchKillsRequest(), kills_pb2.Kill)
    return [kill.id for kill in answers]


def test_a_stream_gives_its_messages_and_ends(server: Scripted, tmp_path: Path) -> None:
    server.answer = (200, frames(b'{"id": "a"}', b'{"id": "b"}'), {})
    assert watched(server, tmp_path) == ["a", "b"]
    assert server.seen[0][2] == frames(b"{}", end=None)


def test_a_stream_that_ends_with_an_error_raises_it(server: Scripted, tmp_path: Path) -> None:
    server.answer = (200, frames(b'{"id": "a"}', end=b'{"error": {"code": "unauthenticated", "message": "gone"}}'), {})
    with pytest.raises(AuthzError, match="unauthenticated: gone"):
        watched(server, tmp_path)


def test_a_stream_that_is_cut_off_is_not_taken_for_its_end(server: Scripted, tmp_path: Path) -> None:
    server.answer = (200, frames(b'{"id": "a"}', end=None), {})
    with pytest.raises(ProgramError, match="hung up"):
        watched(server, tmp_path)


@pytest.mark.parametrize(
    ("text", "means"),
    [
        ("90s", timedelta(seconds=90)),
        ("1.5h", timedelta(minutes=90)),
        ("30d", timedelta(days=30)),
        ("250ms", timedelta(milliseconds=250)),
    ],
)
def test_a_span_of_time_is_a_number_and_a_unit(text: str, means: timedelta) -> None:
    assert span(text) == means


@pytest.mark.parametrize(
    "text", ["", "5", "s", "-5s", "5 s", "5S", "1e3s", "\u0665s", "5s5s", "9999999999s", "999999999d"]
)
def test_anything_else_is_no_span(text: str) -> None:
    with pytest.raises(ConfigError, match="not a span"):
        span(text)
