"""The reference MCP server, unchanged, behind `authz up`, with the official Python client before it."""

# mypy: disable-error-code="deprecated"
# This server is a legacy one, and legacy sessions subscribe to resources and set levels.
from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import pytest
from mcp import MCPError
from mcp_types import CreateMessageResult, ElicitResult, ListRootsResult, Root, TextContent

from tests.e2e.clients.agents import POLICY, connected, records, text, until
from tests.e2e.clients.node import everything
from tests.e2e.stack import eventually, up

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.stack import Up

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore::mcp.shared.exceptions.MCPDeprecationWarning"),  # this server is a legacy one
]

CARD = "4111 1111 1111 1111"


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    folder = tmp_path_factory.mktemp("s")
    with everything(folder / "server.log") as url, up(folder / "u", url, policy=POLICY) as running:
        yield running


@pytest.fixture(params=["auto", "legacy"])
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def test_the_handshake_falls_back_to_what_the_server_speaks(reference: Up, mode: str) -> None:
    async with connected(reference, mode) as client:
        assert client.protocol_version == "2025-11-25"
        assert client.server_info is not None
        assert client.server_info.name == "mcp-servers/everything"


async def test_the_tool_that_shows_the_environment_is_hidden(reference: Up, mode: str) -> None:
    async with connected(reference, mode) as client:
        names = {tool.name for tool in (await client.list_tools()).tools}
    assert {"echo", "get-sum", "get-structured-content"} <= names
    assert "get-env" not in names


async def test_calls_are_allowed_denied_and_redacted_in_one_session(reference: Up, mode: str) -> None:
    async with connected(reference, mode) as client:
        assert text(await client.call_tool("get-sum", {"a": 2, "b": 3})) == "The sum of 2 and 3 is 5."
        with pytest.raises(MCPError) as refused:
            await client.call_tool("get-env")
        assert refused.value.error.data["code"] == "not_granted"
        assert text(await client.call_tool("echo", {"message": f"Card {CARD}."})) == "Echo: Card [CARD]."


async def test_structured_and_binary_content_passes_whole(reference: Up, mode: str) -> None:
    async with connected(reference, mode) as client:
        weather = await client.call_tool("get-structured-content", {"location": "New York"})
        image = await client.call_tool("get-tiny-image")
    assert weather.structured_content is not None
    assert {part.type for part in image.content} == {"text", "image"}


async def test_resources_prompts_and_completions_are_served(reference: Up, mode: str) -> None:
    async with connected(reference, mode) as client:
        first = (await client.list_resources()).resources[0]
        assert (await client.read_resource(first.uri)).contents
        assert (await client.list_resource_templates()).resource_templates
        prompts = {prompt.name for prompt in (await client.list_prompts()).prompts}
        assert (await client.get_prompt("simple-prompt")).messages
        await client.subscribe_resource(first.uri)
        await client.unsubscribe_resource(first.uri)
        await client.set_logging_level("debug")
    assert "simple-prompt" in prompts


async def test_progress_of_a_long_operation_arrives_as_it_is_made(reference: Up) -> None:
    steps: list[float] = []

    async def note(progress: float, total: float | None, message: str | None) -> None:  # noqa: ARG001 - the SDK's names
        steps.append(progress)

    async with connected(reference, "auto") as client:
        result = await client.call_tool(
            "trigger-long-running-operation", {"duration": 0.3, "steps": 3}, progress_callback=note
        )
    assert steps == [1, 2, 3]
    assert "completed" in text(result)


async def test_the_server_s_questions_are_answered(reference: Up) -> None:
    async def person(_context: object, _question: object) -> ElicitResult:
        return ElicitResult(action="accept", content={"name": "Ada"})

    async def model(_context: object, _question: object) -> CreateMessageResult:
        return CreateMessageResult(role="assistant", content=TextContent(type="text", text="yes"), model="m")

    async def roots(_context: object) -> ListRootsResult:
        return ListRootsResult(roots=[Root.model_validate({"uri": "file:///work", "name": "work"})])

    answers: dict[str, Any] = {"elicitation_callback": person, "sampling_callback": model, "list_roots_callback": roots}
    async with connected(reference, "auto", **answers) as client:

        async def offered() -> bool:  # once it has read the client's capabilities
            return "get-roots-list" in {tool.name for tool in (await client.list_tools()).tools}

        await until(offered)
        assert "Ada" in text(await client.call_tool("trigger-elicitation-request"))
        assert '"yes"' in text(await client.call_tool("trigger-sampling-request", {"prompt": "?", "maxTokens": 5}))
        assert "file:///work" in text(await client.call_tool("get-roots-list"))


async def test_its_listening_stream_and_the_end_of_its_session_are_on_record(reference: Up) -> None:
    seen = len(records(reference))
    async with connected(reference, "legacy"):
        await anyio.to_thread.run_sync(
            lambda: eventually(lambda: "stream/open" in [each["tool"]["method"] for each in records(reference)[seen:]])
        )
    assert records(reference)[-1]["tool"]["method"] == "session/delete"
