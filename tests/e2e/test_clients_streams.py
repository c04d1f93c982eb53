"""What an MCP session does besides calls, with `authz up` in between: questions back, progress, listening, cancelling.

The policy reads results, so every answer goes through ext_proc, event by event.
"""

# mypy: disable-error-code="deprecated"
# Legacy sessions still ping.
from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import httpx2
import pytest
from mcp import MCPError
from mcp.client.subscriptions import ToolsListChanged
from mcp_types import CreateMessageResult, ElicitResult, TextContent, ToolListChangedNotification

from tests.e2e.clients.agents import POLICY, connected, mcp_server, records, text, until
from tests.e2e.stack import PATIENCE_S, up

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.stack import Up

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore::mcp.shared.exceptions.MCPDeprecationWarning"),  # legacy sessions still ping
]

MODES = ("legacy", "auto")
LEGACY = {"mcp-protocol-version": "2025-11-25", "accept": "application/json, text/event-stream"}


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    folder = tmp_path_factory.mktemp("s")
    with mcp_server(folder / "server.log") as url, up(folder / "u", url, policy=POLICY) as running:
        yield running


def methods(office: Up) -> list[str]:
    return [record["tool"]["method"] for record in records(office) if record["phase"] == "call"]


async def paint_green(_context: object, _question: object) -> ElicitResult:
    return ElicitResult(action="accept", content={"name": "green"})


async def decline(_context: object, _question: object) -> ElicitResult:
    return ElicitResult(action="decline")


async def say_yes(_context: object, _question: object) -> CreateMessageResult:
    return CreateMessageResult(role="assistant", content=TextContent(type="text", text="yes"), model="m")


@pytest.mark.parametrize("mode", MODES)
async def test_a_person_s_answer_reaches_the_tool(office: Up, mode: str) -> None:
    async with connected(office, mode, elicitation_callback=paint_green) as client:
        assert text(await client.call_tool("colour")) == "Painted green."


@pytest.mark.parametrize("mode", MODES)
async def test_a_person_may_decline(office: Up, mode: str) -> None:
    async with connected(office, mode, elicitation_callback=decline) as client:
        assert (await client.call_tool("colour")).is_error


@pytest.mark.parametrize("mode", MODES)
async def test_a_model_s_answer_reaches_the_tool(office: Up, mode: str) -> None:
    async with connected(office, mode, sampling_callback=say_yes) as client:
        assert text(await client.call_tool("word")) == "The word is yes."


async def test_a_legacy_answer_is_recorded_as_a_response_and_a_modern_retry_as_a_call(office: Up) -> None:
    seen = len(methods(office))
    async with connected(office, "legacy", elicitation_callback=paint_green) as client:
        await client.call_tool("colour")
    assert methods(office)[seen:].count("response") == 1
    seen = len(methods(office))
    async with connected(office, "auto", elicitation_callback=paint_green) as client:
        await client.call_tool("colour")
    assert methods(office)[seen:].count("tools/call") == 2
    assert "response" not in methods(office)[seen:]


@pytest.mark.parametrize("mode", MODES)
async def test_progress_arrives_while_the_call_runs(office: Up, mode: str) -> None:
    """The tool waits for what only somebody who has seen the last step can send: a buffered step would stop all."""
    steps: list[str | None] = []
    answered: list[str] = []
    async with connected(office, mode) as client:

        async def proceed(progress: float, total: float | None, message: str | None) -> None:  # noqa: ARG001 - the SDK's
            steps.append(message)
            answered.append(text(await client.call_tool("proceed")))

        async def all_answered() -> bool:
            return len(answered) == len(steps)

        with anyio.fail_after(PATIENCE_S):
            result = await client.call_tool("count", {"steps": 3}, progress_callback=proceed)
        await until(all_answered)  # a client that leaves before its answers come stumbles over them
    assert text(result) == "Counted to 3."
    assert steps == ["step 1", "step 2", "step 3"]


@pytest.mark.parametrize("mode", MODES)
async def test_cancelling_reaches_the_tool(office: Up, mode: str) -> None:
    async with connected(office, mode) as client:

        async def cancelled() -> int:
            return text(await client.call_tool("waited")).count("cancelled")

        async def one_more() -> bool:
            return await cancelled() == before + 1

        before = await cancelled()
        with anyio.move_on_after(0.3) as scope:
            await client.call_tool("wait")
        assert scope.cancelled_caught
        await until(one_more)


async def test_a_legacy_client_hears_its_listening_stream(office: Up) -> None:
    heard = anyio.Event()

    async def listen(message: Any) -> None:
        if isinstance(message, ToolListChangedNotification):
            heard.set()

    async with connected(office, "legacy", message_handler=listen) as client:

        async def told() -> bool:  # the server tells those whose stream has reached it
            await client.call_tool("change")
            return heard.is_set()

        await until(told)
    assert "stream/open" in methods(office)


async def test_a_modern_client_hears_its_subscription(office: Up) -> None:
    async with connected(office, "auto") as client, client.listen(tools_list_changed=True) as subscription:
        await client.call_tool("change")
        with anyio.fail_after(PATIENCE_S):
            assert isinstance(await anext(aiter(subscription)), ToolsListChanged)
    assert "subscriptions/listen" in methods(office)


async def test_a_legacy_session_lives_from_initialize_to_delete(office: Up) -> None:
    seen = len(methods(office))
    async with connected(office, "legacy") as client:
        await client.send_ping()
    assert methods(office)[seen] == "initialize"
    assert {"notifications/initialized", "ping"} <= {*methods(office)[seen:]}
    assert methods(office)[-1] == "session/delete"


async def test_a_deleted_session_is_gone(office: Up) -> None:
    sessions: list[str] = []

    async def note(request: httpx2.Request) -> None:
        sessions.append(request.headers.get("mcp-session-id", ""))

    async with connected(office, "legacy", hooks={"request": [note]}) as client:
        await client.send_ping()
    (session,) = {*sessions} - {""}
    headers = {"authorization": f"Bearer {office.token()}", "mcp-session-id": session} | LEGACY
    ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
    assert httpx2.post(office.url, json=ping, headers=headers).status_code == 404


async def test_a_stranger_may_shake_hands_but_not_listen(office: Up) -> None:
    async with connected(office, "legacy", agent="stranger") as client:
        await client.send_ping()
        with pytest.raises(MCPError):
            await client.call_tool("read", {"path": "/a"})
    stranger = [record for record in records(office) if record["agent"] == "stranger"]
    outcome = {record["tool"]["method"]: record["effect"] for record in stranger}
    assert outcome["initialize"] == outcome["ping"] == "allow"
    assert outcome["stream/open"] == outcome["tools/call"] == "deny"
