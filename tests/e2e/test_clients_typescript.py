"""The official TypeScript clients, unchanged, through `authz up`: version 1, and version 2 in both of its eras."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.clients.agents import POLICY, mcp_server, records
from tests.e2e.clients.node import everything, session
from tests.e2e.stack import up

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.stack import Up

pytestmark = pytest.mark.e2e

CARD = "4111 1111 1111 1111"
VERSIONS = {"sdk": "2025-11-25", "legacy": "2025-11-25", "auto": "2026-07-28"}
WORKSHOP: dict[str, list[Any]] = {
    "list": ["listTools"],
    "allow": ["callTool", {"name": "read", "arguments": {"path": "/a"}}],
    "deny": ["callTool", {"name": "delete", "arguments": {"table": "t"}}],
    "after": ["callTool", {"name": "read", "arguments": {"path": "/b"}}],
    "approval": ["callTool", {"name": "pay", "arguments": {"amount": 5000}}],
    "sanitize": ["callTool", {"name": "note", "arguments": {"text": f"Card {CARD}."}}],
    "redact": ["callTool", {"name": "leak", "arguments": {}}],
    "ask": ["callTool", {"name": "colour", "arguments": {}}],
    "sample": ["callTool", {"name": "word", "arguments": {}}],
    "progress": ["callTool", {"name": "count", "arguments": {"steps": 2}}, {"onStep": "proceed"}],
    "cancel": ["callTool", {"name": "wait", "arguments": {}}, {"abortAfter": 300}],
    "read": ["readResource", {"uri": "note://plan"}],
    "prompt": ["getPrompt", {"name": "greet", "arguments": {"name": "Ada"}}],
}
REFERENCE: dict[str, list[Any]] = {
    "list": ["listTools"],
    "allow": ["callTool", {"name": "get-sum", "arguments": {"a": 2, "b": 3}}],
    "deny": ["callTool", {"name": "get-env", "arguments": {}}],
    "sanitize": ["callTool", {"name": "echo", "arguments": {"message": f"Card {CARD}."}}],
    "progress": ["callTool", {"name": "trigger-long-running-operation", "arguments": {"duration": 0.2, "steps": 2}}],
    "ask": ["callTool", {"name": "trigger-elicitation-request", "arguments": {}}],
    "sample": ["callTool", {"name": "trigger-sampling-request", "arguments": {"prompt": "?", "maxTokens": 5}}],
    "prompt": ["getPrompt", {"name": "simple-prompt"}],
    "ping": ["ping"],
}


class Saw:
    """What one client saw of one session, by step."""

    def __init__(self, running: Up, mode: str, steps: dict[str, list[Any]]) -> None:
        self.mode = mode
        before = len(records(running))
        seen = session(url=running.url, token=running.token(), mode=mode, steps=[*steps.values()])
        self.methods = [record["tool"]["method"] for record in records(running)[before:]]
        self.version = seen["version"]
        self.outcomes = dict(zip(steps, seen["outcomes"], strict=True))

    def text(self, step: str) -> str:
        return " ".join(part["text"] for part in self.outcomes[step]["result"]["content"])

    def error(self, step: str) -> dict[str, Any]:
        error: dict[str, Any] = self.outcomes[step]["error"]
        return error


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    folder = tmp_path_factory.mktemp("s")
    with mcp_server(folder / "server.log") as url, up(folder / "u", url, policy=POLICY) as running:
        yield running


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    folder = tmp_path_factory.mktemp("s")
    with everything(folder / "server.log") as url, up(folder / "u", url, policy=POLICY) as running:
        yield running


@pytest.fixture(scope="module", params=VERSIONS)
def saw(request: pytest.FixtureRequest, workshop: Up) -> Saw:
    return Saw(workshop, request.param, WORKSHOP)


@pytest.fixture(scope="module", params=VERSIONS)
def saw_reference(request: pytest.FixtureRequest, reference: Up) -> Saw:
    return Saw(reference, request.param, REFERENCE)


def test_the_newest_revision_of_each_client_is_agreed(saw: Saw) -> None:
    assert saw.version == VERSIONS[saw.mode]


def test_listed_tools_are_those_that_the_policy_shows(saw: Saw) -> None:
    names = {tool["name"] for tool in saw.outcomes["list"]["result"]["tools"]}
    assert names >= {"read", "pay"}
    assert "delete" not in names


def test_an_allowed_call_reaches_the_tool(saw: Saw) -> None:
    assert saw.text("allow") == "The contents of /a."


def test_a_denied_call_is_a_typed_error_and_the_session_lives_on(saw: Saw) -> None:
    error = saw.error("deny")
    assert error["type"] in {"McpError", "ProtocolError"}
    assert (error["code"], error["data"]["code"]) == (4030, "not_granted")
    assert saw.text("after") == "The contents of /b."


def test_an_approval_is_a_typed_error_that_says_what_to_do(saw: Saw) -> None:
    error = saw.error("approval")
    assert (error["code"], error["data"]["code"]) == (4031, "payment_needs_approval")
    assert error["data"]["next_step"]


def test_arguments_and_results_are_redacted(saw: Saw) -> None:
    assert saw.text("sanitize") == "12 characters: Card [CARD]."
    assert saw.text("redact") == "Card [CARD]."


def test_the_server_s_questions_are_answered(saw: Saw) -> None:
    assert saw.text("ask") == "Painted green."
    assert saw.text("sample") == "The word is yes."
    assert ("response" in saw.methods) is (saw.version < "2026-07-28")


def test_progress_arrives_while_the_call_runs(saw: Saw) -> None:
    assert saw.outcomes["progress"]["steps"] == [1, 2]
    assert saw.text("progress") == "Counted to 2."


def test_a_cancelled_call_leaves_the_session_whole(saw: Saw) -> None:
    assert "error" in saw.outcomes["cancel"]
    assert saw.outcomes["read"]["result"]["contents"][0]["text"] == "The plan."


def test_prompts_are_served(saw: Saw) -> None:
    assert saw.outcomes["prompt"]["result"]["messages"][0]["content"]["text"] == "Greet Ada."


def test_a_legacy_session_is_ended_and_a_modern_one_never_was(saw: Saw) -> None:
    assert ("session/delete" in saw.methods) is (saw.version < "2026-07-28")
    assert ("initialize" in saw.methods) is (saw.version < "2026-07-28")


def test_the_reference_server_works_with_each_client(saw_reference: Saw) -> None:
    assert saw_reference.version == "2025-11-25"
    names = {tool["name"] for tool in saw_reference.outcomes["list"]["result"]["tools"]}
    assert "echo" in names
    assert "get-env" not in names
    assert saw_reference.text("allow") == "The sum of 2 and 3 is 5."
    assert saw_reference.error("deny")["code"] == 4030
    assert saw_reference.text("sanitize") == "Echo: Card [CARD]."
    assert saw_reference.outcomes["progress"]["steps"] == [1, 2]


def test_the_reference_server_asks_each_client(saw_reference: Saw) -> None:
    assert "green" in saw_reference.text("ask")
    assert '"yes"' in saw_reference.text("sample")
    assert saw_reference.outcomes["prompt"]["result"]["messages"]
    assert saw_reference.outcomes["ping"]["result"] == {}


@pytest.mark.parametrize("mode", VERSIONS)
def test_a_bad_token_ends_the_connection_attempt_at_once_with_the_reason(workshop: Up, mode: str) -> None:
    refused = session(url=workshop.url, token="bad", mode=mode, steps=[])["refused"]
    assert "TOKEN_" in refused["message"] or "requires authorization (HTTP 401)" in refused["message"]
    assert records(workshop)[-1]["reason"].startswith("TOKEN_")
