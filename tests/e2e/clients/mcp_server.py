"""An MCP server made with the official Python SDK: one tool for each way in which a call can go.

Loopback only; it says its port in the first line on stdout.
"""

from __future__ import annotations

import argparse
import asyncio
import socket
from typing import Annotated

import uvicorn
from mcp.server.mcpserver import Context, Elicit, MCPServer, Resolve, Sample  # noqa: TC002 - the SDK reads signatures
from mcp_types import CreateMessageResult, SamplingMessage, TextContent  # noqa: TC002 - likewise
from pydantic import BaseModel

CARD = "4111 1111 1111 1111"

server = MCPServer("workshop", version="1.0.0")
waits: list[str] = []
proceeding = asyncio.Event()


class Colour(BaseModel):
    name: str


def ask_colour() -> Elicit[Colour]:
    return Elicit("Which colour?", Colour)


def ask_model() -> Sample:
    return Sample([SamplingMessage(role="user", content=TextContent(type="text", text="A word?"))], max_tokens=10)


@server.tool()
def read(path: str) -> str:
    """Allowed."""
    return f"The contents of {path}."


@server.tool()
def delete(table: str) -> str:
    """Denied, and hidden."""
    return f"Deleted {table}."


@server.tool()
def pay(amount: int) -> str:
    """Large amounts need an approval."""
    return f"Paid {amount}."


@server.tool()
def note(text: str) -> str:
    """Its arguments are redacted; it says how many characters arrived, which no redaction of the answer can hide."""
    return f"{len(text)} characters: {text}"


@server.tool()
def leak() -> str:
    """Its result is redacted."""
    return f"Card {CARD}."


@server.tool()
async def count(steps: int, context: Context) -> str:
    """Reports each step, and takes the next one only when somebody calls `proceed`."""
    for step in range(1, steps + 1):
        proceeding.clear()
        await context.report_progress(step, steps, f"step {step}")
        await proceeding.wait()
    return f"Counted to {steps}."


@server.tool()
async def proceed() -> str:
    """Lets `count` go on."""
    proceeding.set()
    return "Go."


@server.tool()
async def change(context: Context) -> str:
    """Tells those who listen that the tools changed, in each era's way."""
    if context.protocol_version == "2026-07-28":
        await context.notify_tools_changed()
    else:
        await context.session.send_tool_list_changed()
    return "Changed."


@server.tool()
async def wait() -> str:
    """Ends only by being cancelled."""
    waits.append("begun")
    try:
        await asyncio.Event().wait()
    finally:
        waits.append("cancelled")
    return "never"


@server.tool()
def waited() -> str:
    """What became of the waits so far."""
    return ", ".join(waits)


@server.tool()
def colour(chosen: Annotated[Colour, Resolve(ask_colour)]) -> str:
    """Asks the person behind the client."""
    return f"Painted {chosen.name}."


@server.tool()
def word(sampled: Annotated[CreateMessageResult, Resolve(ask_model)]) -> str:
    """Asks the model behind the client."""
    content = sampled.content
    return f"The word is {content.text if isinstance(content, TextContent) else content}."


@server.resource("note://plan")
def plan() -> str:
    return "The plan."


@server.prompt()
def greet(name: str) -> str:
    return f"Greet {name}."


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--json-response", action="store_true")
    parser.add_argument("--stateless", action="store_true")
    options = parser.parse_args()
    app = server.streamable_http_app(json_response=options.json_response, stateless_http=options.stateless)
    listener = socket.create_server(("127.0.0.1", 0))
    print(f"port {listener.getsockname()[1]}", flush=True)  # noqa: T201 - the parent waits for it
    configuration = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1)
    uvicorn.Server(configuration).run(sockets=[listener])


if __name__ == "__main__":
    main()
