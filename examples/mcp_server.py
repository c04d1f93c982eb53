"""An MCP server to try policies on: five tools that do nothing but say what they were asked.

    python examples/mcp_server.py --port 3000 --seen calls.jsonl

Made with the official SDK and without a thought about authorization: that is what stands in front of it. It listens on
loopback alone, since whoever reaches it directly has got around the policy. `--seen` keeps each call's arguments as they
arrived, one JSON object a line, so that a redaction can be looked at from the tool's side. Must never be used for more
than examples and tests.
"""

from __future__ import annotations

import argparse
import json
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn
from mcp.server import MCPServer
from mcp.types import ToolAnnotations

if TYPE_CHECKING:
    from collections.abc import Callable

READS = ToolAnnotations(read_only_hint=True)
DESTROYS = ToolAnnotations(destructive_hint=True)


def build(see: Callable[[str, dict[str, object]], None]) -> MCPServer:
    """The server; `see` is told of each call."""
    server = MCPServer("example-tools")

    @server.tool(annotations=READS)
    def read_document(path: str) -> str:
        """Read a document."""
        see("read_document", {"path": path})
        return f"The text of {path}. Questions to jane.doe@acme.example."

    @server.tool(annotations=READS)
    def search_web(query: str) -> str:
        """Search the web."""
        see("search_web", {"query": query})
        return f"Three pages about {query}."

    @server.tool()
    def transfer_payment(amount: float, currency: str, recipient: str, note: str = "") -> str:
        """Transfer money."""
        see("transfer_payment", {"amount": amount, "currency": currency, "recipient": recipient, "note": note})
        return f"{amount:.2f} {currency} are on their way to {recipient}."

    @server.tool()
    def send_email(to: str, subject: str, body: str) -> str:
        """Send an e-mail."""
        see("send_email", {"to": to, "subject": subject, "body": body})
        return f"Sent to {to}."

    @server.tool(annotations=DESTROYS)
    def delete_records(table: str) -> str:
        """Delete every record of a table."""
        see("delete_records", {"table": table})
        return f"Every record of {table} is gone."

    return server


def main() -> None:
    """Serve until interrupted. The first line on stdout is the address."""
    parser = argparse.ArgumentParser(description="An MCP server to try policies on.")
    parser.add_argument("--port", type=int, default=3000, help="0 takes a free one")
    parser.add_argument("--seen", type=Path, help="file that gets each call as a line of JSON")
    parser.add_argument("--json", action="store_true", help="answer with JSON bodies instead of event streams")
    options = parser.parse_args()

    def see(tool: str, arguments: dict[str, object]) -> None:
        if options.seen is not None:
            with options.seen.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"tool": tool, "arguments": arguments}) + "\n")

    listener = socket.create_server(("127.0.0.1", options.port))
    print(f"http://127.0.0.1:{listener.getsockname()[1]}/mcp", flush=True)
    app = build(see).streamable_http_app(json_response=options.json)
    uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listener])


if __name__ == "__main__":
    main()
