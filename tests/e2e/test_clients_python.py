"""The official Python client and server, unchanged, with `authz up` between them: every mode of both."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from mcp import MCPError

from tests.e2e.clients.agents import POLICY, connected, mcp_server, text
from tests.e2e.stack import up

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.stack import Up

pytestmark = [pytest.mark.e2e, pytest.mark.anyio]

CARD = "4111 1111 1111 1111"
MODES = {"auto": "2026-07-28", "legacy": "2025-11-25", "2026-07-28": "2026-07-28"}
SERVERS = {
    "events": (),
    "json": ("--json-response",),
    "events-stateless": ("--stateless",),
    "json-stateless": ("--json-response", "--stateless"),
}


@pytest.fixture(scope="module", params=SERVERS)
def office(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    folder = tmp_path_factory.mktemp("s")
    with mcp_server(folder / "server.log", *SERVERS[request.param]) as url, up(folder / "u", url, policy=POLICY) as it:
        yield it


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def test_the_newest_revision_of_each_mode_is_agreed(office: Up, mode: str) -> None:
    async with connected(office, mode) as client:
        assert client.protocol_version == MODES[mode]


async def test_listed_tools_are_those_that_the_policy_shows(office: Up, mode: str) -> None:
    async with connected(office, mode) as client:
        names = {tool.name for tool in (await client.list_tools()).tools}
    assert names >= {"read", "pay", "note"}
    assert "delete" not in names


async def test_an_allowed_call_reaches_the_tool(office: Up, mode: str) -> None:
    async with connected(office, mode) as client:
        assert text(await client.call_tool("read", {"path": "/a"})) == "The contents of /a."


async def test_a_denied_call_is_a_typed_error_and_the_session_lives_on(office: Up, mode: str) -> None:
    async with connected(office, mode) as client:
        with pytest.raises(MCPError) as refused:
            await client.call_tool("delete", {"table": "t"})
        assert (refused.value.error.code, refused.value.error.data["code"]) == (4030, "not_granted")
        assert text(await client.call_tool("read", {"path": "/b"})) == "The contents of /b."


async def test_an_approval_is_a_typed_error_that_says_what_to_do(office: Up, mode: str) -> None:
    async with connected(office, mode) as client:
        with pytest.raises(MCPError) as refused:
            await client.call_tool("pay", {"amount": 5000})
        assert (refused.value.error.code, refused.value.error.data["code"]) == (4031, "payment_needs_approval")
        assert refused.value.error.data["next_step"]
        assert text(await client.call_tool("pay", {"amount": 50})) == "Paid 50."


async def test_the_tool_receives_redacted_arguments(office: Up, mode: str) -> None:
    async with connected(office, mode) as client:
        assert text(await client.call_tool("note", {"text": f"Card {CARD}."})) == "12 characters: Card [CARD]."


async def test_the_client_receives_a_redacted_result(office: Up, mode: str) -> None:
    async with connected(office, mode) as client:
        result = await client.call_tool("leak")
    assert text(result) == "Card [CARD]."
    assert CARD not in result.model_dump_json()


async def test_resources_and_prompts_are_served(office: Up, mode: str) -> None:
    async with connected(office, mode) as client:
        assert [resource.name for resource in (await client.list_resources()).resources] == ["plan"]
        assert (await client.read_resource("note://plan")).contents[0].model_dump()["text"] == "The plan."
        assert [prompt.name for prompt in (await client.list_prompts()).prompts] == ["greet"]
        assert "Greet Ada." in (await client.get_prompt("greet", {"name": "Ada"})).model_dump_json()


async def test_a_caller_without_grants_sees_and_does_nothing(office: Up, mode: str) -> None:
    async with connected(office, mode, agent="stranger") as client:
        with pytest.raises(MCPError):
            await client.list_tools()
        with pytest.raises(MCPError):
            await client.call_tool("read", {"path": "/a"})
