"""One suite over both engines: OPA as a library, and a real `opa run --server`."""

from __future__ import annotations

import contextlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import orjson
import pytest

from authz.errors import BundleError, ConfigError, PolicyError, UnavailableError
from authz.native import Library
from authz.policy.engine import PolicySource
from authz.policy.opa_native import NativeEngine
from authz.policy.opa_server import ServerEngine
from authz.reasons import POLICY_ERROR, POLICY_TIMEOUT, POLICY_UNAVAILABLE
from tests.contracts.programs import opa_server
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from authz.policy.engine import Engine, Policy

DEADLINE_S = 5.0
REGO = """
package shop

default allow := false

allow if input.who == "ann"

decision := {"allowed": true, "limit": input.limit, "tags": {"b", "a"}} if input.limit

undefined_for_all if false

conflict := 1 if input.one
conflict := 2 if input.two

builtin := time.parse_rfc3339_ns(input.when)

endless := count([x | some x in numbers.range(1, 20000); some y in numbers.range(1, 20000); x == y + input.shift])

cut if input.truncated_body
"""


@pytest.fixture(scope="module")
def policy_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("shop")
    (directory / "shop.rego").write_text(REGO)
    (directory / "data.json").write_text('{"rates": {"eur": 1.10}}')
    return directory


@pytest.fixture(scope="module", params=["native", "server"])
def engine(
    request: pytest.FixtureRequest, policy_directory: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Engine, PolicySource]]:
    if request.param == "native":
        yield NativeEngine(Library.load()), PolicySource(paths=(policy_directory,))
        return
    port = free_port()
    with opa_server(policy_directory, port, tmp_path_factory.mktemp("opa") / "log"):
        yield ServerEngine(f"http://127.0.0.1:{port}"), PolicySource()


@pytest.fixture(scope="module")
def policy(engine: tuple[Engine, PolicySource]) -> Iterator[Policy]:
    opener, source = engine
    with opener.open(source) as opened:
        yield opened


@pytest.fixture
def ask(policy: Policy) -> Callable[..., object]:
    def ask(rule: str, document: bytes = b"{}", deadline_s: float = DEADLINE_S) -> object:
        result = policy.query(f"shop/{rule}").evaluate(document, deadline_s)
        return None if result is None else orjson.loads(result)

    return ask


def test_a_rule_answers_by_its_input(ask: Callable[..., object]) -> None:
    assert ask("allow", b'{"who": "ann"}') is True
    assert ask("allow", b'{"who": "bob"}') is False


def test_objects_and_sets_come_back_as_json(ask: Callable[..., object]) -> None:
    assert ask("decision", b'{"limit": 1.5}') == {"allowed": True, "limit": 1.5, "tags": ["a", "b"]}


def test_g1_an_undefined_rule_is_none_and_never_an_empty_object(ask: Callable[..., object]) -> None:
    assert ask("undefined_for_all") is None
    assert ask("decision") is None


def test_g2_a_conflict_is_an_error_only_on_the_inputs_that_conflict(ask: Callable[..., object]) -> None:
    assert ask("conflict", b'{"one": true}') == 1
    with pytest.raises(PolicyError) as caught:
        ask("conflict", b'{"one": true, "two": true}')
    assert caught.value.reason is POLICY_ERROR


def test_g3_a_failing_builtin_is_an_error_and_not_undefined(ask: Callable[..., object]) -> None:
    with pytest.raises(PolicyError) as caught:
        ask("builtin", b'{"when": "x"}')
    assert caught.value.reason is POLICY_ERROR


def test_g6_an_endless_rule_ends_at_the_deadline_and_the_engine_serves_on(ask: Callable[..., object]) -> None:
    started = time.monotonic()
    with pytest.raises((PolicyError, UnavailableError)) as caught:
        ask("endless", b'{"shift": 1}', 0.05)
    assert time.monotonic() - started < 10.0  # without a deadline it never ends
    # From outside, a server that computes and a server that hangs look alike.
    assert caught.value.reason in (POLICY_TIMEOUT, POLICY_UNAVAILABLE)
    assert ask("allow", b'{"who": "ann"}') is True


def test_errors_never_repeat_the_input(ask: Callable[..., object]) -> None:
    with pytest.raises(PolicyError) as caught:
        ask("builtin", b'{"when": "secret-7f3a"}')
    assert "secret-7f3a" not in str(caught.value)


def test_an_entrypoint_that_is_not_there_is_refused_at_start(policy: Policy) -> None:
    with pytest.raises(BundleError):
        policy.query("shop/alow")


@pytest.mark.parametrize(
    "entrypoint", ["", "shop/../../v1/policies", "shop/allow?pretty", "shop//allow", "shop/%61llow"]
)
def test_g9_an_entrypoint_that_is_not_a_path_of_names_is_refused(policy: Policy, entrypoint: str) -> None:
    with pytest.raises(BundleError):
        policy.query(entrypoint)


def test_a_read_of_an_input_field_is_found_and_nothing_else_is(policy: Policy) -> None:
    assert policy.reads("truncated_body")
    assert policy.reads("who")
    assert not policy.reads("parsed_body")
    assert policy.may_read("who")
    assert not policy.may_read("result")


def test_the_same_policy_has_the_same_digest(engine: tuple[Engine, PolicySource], policy: Policy) -> None:
    opener, source = engine
    with opener.open(source) as again:
        assert again.digest == policy.digest
    assert len(policy.digest) == 64


def test_one_query_serves_many_threads(policy: Policy) -> None:
    query = policy.query("shop/allow")
    documents = [b'{"who": "ann"}', b'{"who": "bob"}'] * 50
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda document: query.evaluate(document, DEADLINE_S), documents))
    assert answers == [b"true", b"false"] * 50


def test_the_library_refuses_a_policy_that_does_not_compile_and_names_the_place(tmp_path: Path) -> None:
    (tmp_path / "broken.rego").write_text("package a\n\nallow if unknown(input.x)\n")
    with pytest.raises(BundleError) as caught:
        NativeEngine(Library.load()).open(PolicySource(paths=(tmp_path,)))
    assert any("broken.rego:3" in str(problem) for problem in caught.value.problems)


def test_the_library_refuses_a_source_that_names_nothing() -> None:
    with pytest.raises(BundleError):
        NativeEngine(Library.load()).open(PolicySource())


def test_a_crash_in_the_library_is_unavailable_and_the_next_call_is_answered(policy_directory: Path) -> None:
    library = Library.load()
    with NativeEngine(library).open(PolicySource(paths=(policy_directory,))) as opened:
        query = opened.query("shop/allow")
        library.arm_fault("engine")
        with pytest.raises(UnavailableError) as caught:
            query.evaluate(b'{"who": "ann"}', DEADLINE_S)
        assert caught.value.reason is POLICY_UNAVAILABLE
        assert query.evaluate(b'{"who": "ann"}', DEADLINE_S) == b"true"


def test_a_source_is_paths_or_an_archive_and_not_both(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not from both"):
        PolicySource(paths=(tmp_path,), archive=b"")


# The server alone: what a network can do to an answer.


class _Stub(BaseHTTPRequestHandler):
    """An OPA server gone wrong: it lists one policy, then answers as `server.answer` says."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        head: list[dict[str, str]] = [{"type": "var", "value": "allow"}]
        path = [{"type": "var", "value": "data"}, {"type": "string", "value": "shop"}]
        module = {"id": "a", "raw": "", "ast": {"package": {"path": path}, "rules": [{"head": {"ref": head}}]}}
        self._send(200, orjson.dumps({"result": [module] if "policies" in self.path else {}}))

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.server.paths.append(self.path)  # type: ignore[attr-defined]
        status, body = self.server.answer()  # type: ignore[attr-defined]
        with contextlib.suppress(ConnectionError):  # who asked may have given up
            self._send(status, body)

    def _send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        if status in (301, 307):
            self.send_header("location", "/v1/data/shop/deny")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
        """Say nothing."""


@pytest.fixture
def stub() -> Iterator[ThreadingHTTPServer]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Stub) as server:
        server.daemon_threads = True
        server.paths = []  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def _ask_stub(
    stub: ThreadingHTTPServer, answer: Callable[[], tuple[int, bytes]], deadline_s: float = DEADLINE_S
) -> bytes | None:
    stub.answer = answer  # type: ignore[attr-defined]
    policy = ServerEngine(f"http://127.0.0.1:{stub.server_port}").open(PolicySource())
    return policy.query("shop/allow").evaluate(b'{"path": "../../x"}', deadline_s)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (500, b'{"code": "internal_error", "message": "x"}'),
        (500, b'{"result": true}'),
        (404, b'{"result": true}'),
        (401, b'{"result": true}'),
        (201, b'{"result": true}'),
        (307, b'{"result": true}'),
        (200, b""),
        (200, b"true"),
        (200, b'[{"result": true}]'),
        (200, b'{"result": tru'),
        (200, b"<html>"),
    ],
)
def test_g9_anything_but_a_whole_200_is_unavailable(stub: ThreadingHTTPServer, status: int, body: bytes) -> None:
    with pytest.raises(UnavailableError) as caught:
        _ask_stub(stub, lambda: (status, body))
    assert caught.value.reason is POLICY_UNAVAILABLE


def test_g9_an_empty_object_is_undefined_and_not_a_decision(stub: ThreadingHTTPServer) -> None:
    assert _ask_stub(stub, lambda: (200, b"{}")) is None


def test_g9_a_null_result_is_a_result(stub: ThreadingHTTPServer) -> None:
    assert _ask_stub(stub, lambda: (200, b'{"result": null}')) == b"null"


def test_g9_a_server_that_hangs_is_unavailable_at_the_deadline(stub: ThreadingHTTPServer) -> None:
    released = threading.Event()

    def hang() -> tuple[int, bytes]:
        released.wait(DEADLINE_S)
        return 200, b'{"result": true}'

    started = time.monotonic()
    with pytest.raises(UnavailableError):
        _ask_stub(stub, hang, 0.05)
    released.set()
    assert time.monotonic() - started < 10.0  # without a deadline it never ends


def test_g9_a_question_is_asked_once_and_only_under_its_constant_path(stub: ThreadingHTTPServer) -> None:
    with pytest.raises(UnavailableError):
        _ask_stub(stub, lambda: (500, b"{}"))
    assert stub.paths == ["/v1/data/shop/allow?strict-builtin-errors=true"]  # type: ignore[attr-defined]


def test_g9_a_server_that_restarts_is_unavailable_and_then_answers_again(
    policy_directory: Path, tmp_path: Path
) -> None:
    port = free_port()
    with opa_server(policy_directory, port, tmp_path / "first"):
        query = ServerEngine(f"http://127.0.0.1:{port}").open(PolicySource()).query("shop/allow")
        assert query.evaluate(b'{"who": "ann"}', DEADLINE_S) == b"true"
    with pytest.raises(UnavailableError):
        query.evaluate(b'{"who": "ann"}', DEADLINE_S)
    with opa_server(policy_directory, port, tmp_path / "second"):
        assert query.evaluate(b'{"who": "ann"}', DEADLINE_S) == b"true"


def test_a_server_is_never_given_a_policy_to_load(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        ServerEngine("http://127.0.0.1:1").open(PolicySource(paths=(tmp_path,)))


@pytest.mark.parametrize(
    "url",
    ["http://opa.example.com:8181", "127.0.0.1:8181", "unix:///run/opa.sock", "http://127.0.0.1:1/v1/data", "https://"],
)
def test_an_address_whose_answers_could_be_forged_or_misread_is_refused(url: str) -> None:
    with pytest.raises(ConfigError):
        ServerEngine(url)
