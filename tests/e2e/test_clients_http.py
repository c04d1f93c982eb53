"""A plain HTTP API behind `authz up --protocol http`, as an HTTP client meets it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import httpx2 as httpx
import pytest

from tests.e2e.clients.agents import CLIENTS, records
from tests.e2e.stack import PATIENCE_S, ToolServer, up

if TYPE_CHECKING:
    import http.server
    from collections.abc import Iterator

    from tests.e2e.stack import Received, Up

pytestmark = pytest.mark.e2e

CARD = "4111 1111 1111 1111"
LARGE = 8 * 1024 * 1024
proceeding = threading.Event()


def api(request: http.server.BaseHTTPRequestHandler, received: Received) -> None:
    """What stands behind: it says what it got, sends much, or sends bit by bit."""
    if received.path == "/feed":
        feed(request)
        return
    body = b"x" * LARGE if received.path == "/large" else b"" if received.method == "HEAD" else b"{}"
    request.send_response(204 if received.method == "OPTIONS" else 200)
    request.send_header("content-type", "application/json")
    request.send_header("x-tool", "kept")
    if received.method == "OPTIONS":
        request.send_header("allow", "GET, HEAD, OPTIONS")
    else:
        request.send_header("content-length", str(42 if received.method == "HEAD" else len(body)))
    request.end_headers()
    if received.method != "OPTIONS":
        request.wfile.write(body)


def feed(request: http.server.BaseHTTPRequestHandler) -> None:
    """The second half only when somebody has read the first."""
    proceeding.clear()
    request.send_response(200)
    request.send_header("transfer-encoding", "chunked")
    request.end_headers()
    request.wfile.write(b"5\r\nfirst\r\n")
    request.wfile.flush()
    if proceeding.wait(PATIENCE_S):
        request.wfile.write(b"6\r\nsecond\r\n0\r\n\r\n")


@pytest.fixture(scope="module")
def bank() -> Iterator[ToolServer]:
    server = ToolServer()
    server.respond = api
    yield server
    server.close()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, bank: ToolServer) -> Iterator[Up]:
    options = ["--protocol", "http", "--server", "bank", "--template", "/accounts/{id}"]
    upstream = bank.url.replace("/mcp", "/")
    with up(tmp_path_factory.mktemp("s") / "u", upstream, *options, policy=CLIENTS / "accounts.rego") as it:
        yield it


@pytest.fixture
def client(running: Up, bank: ToolServer) -> Iterator[httpx.Client]:
    bank.received.clear()
    headers = {"authorization": f"Bearer {running.token()}"}
    with httpx.Client(base_url=running.url, headers=headers, timeout=PATIENCE_S) as it:
        yield it


def test_a_path_template_names_the_tool_and_its_variable_is_an_argument(client: httpx.Client, running: Up) -> None:
    assert client.get("/accounts/mine-7").status_code == 200
    assert client.get("/accounts/theirs-7").status_code == 403
    tools = [(record["tool"]["name"], record["tool"]["server"], record["effect"]) for record in records(running)[-2:]]
    assert tools == [("GET /accounts/{id}", "bank", "allow"), ("GET /accounts/{id}", "bank", "deny")]


@pytest.mark.parametrize("path", ["/accounts/mine-7/secrets", "/accounts", "/accounts/", "/Accounts/mine-7"])
def test_what_no_template_fits_is_another_tool(client: httpx.Client, bank: ToolServer, path: str) -> None:
    assert client.get(path).status_code == 403
    assert bank.received == []


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_json_bodies_are_judged(client: httpx.Client, bank: ToolServer, method: str) -> None:
    assert client.request(method, "/accounts/mine-7", json={"limit": 100}).status_code == 200
    assert client.request(method, "/accounts/mine-7", json={"limit": 101}).status_code == 403
    assert [received.body for received in bank.received] == [b'{"limit":100}']


@pytest.mark.parametrize("amount", [100, 101])
def test_forms_are_judged(client: httpx.Client, bank: ToolServer, amount: int) -> None:
    answer = client.post("/transfers", data={"amount": str(amount), "to": "Ada & Co"})
    assert answer.status_code == (200 if amount <= 100 else 403)
    expected = [b"amount=100&to=Ada+%26+Co"] if amount <= 100 else []
    assert [received.body for received in bank.received] == expected


@pytest.mark.parametrize("form", [True, False])
def test_bodies_are_redacted(client: httpx.Client, bank: ToolServer, *, form: bool) -> None:
    body = {"amount": "5", "note": f"card {CARD}"}
    answer = client.post("/transfers", data=body) if form else client.post("/transfers", json=body)
    assert answer.status_code == 200
    (received,) = bank.received
    assert CARD.encode() not in received.body
    assert b"4111" not in received.body
    assert b"CARD" in received.body


def test_queries_are_judged_decoded_and_forwarded_as_they_came(client: httpx.Client, bank: ToolServer) -> None:
    assert client.get("/search?q=a%20b%26c").status_code == 200
    assert client.get("/search?q=a%20b%26c&q=everything").status_code == 403
    assert client.get("/search?q=other").status_code == 403
    assert [received.path for received in bank.received] == ["/search?q=a%20b%26c"]


def test_head_and_options_are_methods_of_their_own(client: httpx.Client) -> None:
    head = client.head("/accounts/mine-7")
    assert (head.status_code, head.headers["content-length"], head.content) == (200, "42", b"")
    options = client.options("/accounts/mine-7")
    assert (options.status_code, options.headers["allow"]) == (204, "GET, HEAD, OPTIONS")
    assert client.delete("/accounts/mine-7").status_code == 403
    assert client.head("/accounts/theirs-7").status_code == 403


def test_a_refusal_is_a_problem_document(client: httpx.Client, running: Up) -> None:
    answer = client.get("/accounts/theirs-7")
    problem = answer.json()
    assert (answer.status_code, answer.headers["content-type"]) == (403, "application/problem+json")
    assert (problem["status"], problem["code"], problem["title"]) == (403, "not_granted", "This account is not yours.")
    assert answer.headers["x-authz-reason"] == "not_granted"
    assert answer.headers["x-authz-decision-id"] == problem["decision_id"] == records(running)[-1]["decision_id"]


def test_without_a_token_the_answer_is_a_challenge(running: Up, bank: ToolServer) -> None:
    bank.received.clear()
    answer = httpx.get(running.url + "accounts/mine-7")
    assert (answer.status_code, answer.json()["code"]) == (401, "TOKEN_MISSING")
    assert answer.headers["www-authenticate"].startswith("Bearer ")
    assert bank.received == []


def test_headers_pass_both_ways_but_for_the_token(client: httpx.Client, bank: ToolServer) -> None:
    answer = client.get("/accounts/mine-7", headers={"x-request-tag": "7", "accept-language": "nb"})
    assert answer.headers["x-tool"] == "kept"
    assert answer.headers["x-authz-decision-id"]
    headers = bank.received[0].headers
    assert (headers["x-request-tag"], headers["accept-language"]) == ("7", "nb")
    assert "authorization" not in headers


def test_a_large_answer_arrives_whole(client: httpx.Client) -> None:
    assert client.get("/large").content == b"x" * LARGE


def test_a_download_streams(client: httpx.Client) -> None:
    with client.stream("GET", "/feed") as answer:
        chunks = answer.iter_raw()
        assert next(chunks) == b"first"
        proceeding.set()
        assert b"".join(chunks) == b"second"


def test_one_connection_carries_refusals_and_answers(client: httpx.Client) -> None:
    connections: set[Any] = set()
    for path in ("mine-1", "theirs-1", "mine-2"):
        answer = client.get(f"/accounts/{path}")
        connections.add(answer.extensions["network_stream"].get_extra_info("client_addr"))
    assert len(connections) == 1


@pytest.mark.parametrize(
    ("content_type", "body", "status", "code"),
    [
        ("text/plain", b"limit=1", 415, "CONTENT_TYPE"),
        ("application/json", b'{"limit": 1, "limit": 101}', 400, "JSON_DUP_KEY"),
        ("application/json", b'{"limit": 1', 400, "JSON_SYNTAX"),
        ("application/x-www-form-urlencoded", b"limit=1;limit=101", 400, "HTTP_FORM"),
    ],
)
def test_bodies_that_servers_read_in_two_ways_are_refused(
    client: httpx.Client, bank: ToolServer, content_type: str, body: bytes, status: int, code: str
) -> None:
    answer = client.put("/accounts/mine-7", content=body, headers={"content-type": content_type})
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert bank.received == []
