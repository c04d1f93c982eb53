"""The MCP server that the demonstration protects: five tools of an imaginary office, made with the official SDK.

Decides nothing, and trusts whoever reaches it: that is the situation `authz` is for. It writes each call
that arrives to a file, so that the demonstration can show what a tool really received. Loopback only.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from mcp.server.mcpserver import MCPServer

CUSTOMER_FILE = "Ada Example, account DE89370400440532013000, has paid."


def build(seen: Path) -> MCPServer:
    """The server; every call is appended to `seen` as one JSON line."""
    server = MCPServer("office", version="1.0.0")

    def note(tool: str, **args: object) -> None:
        with seen.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"tool": tool, "args": args}) + "\n")

    @server.tool()
    def read_document(path: str) -> str:
        """Read a document of the office."""
        note("read_document", path=path)
        return CUSTOMER_FILE if "customer" in path else f"The contents of {path}."

    @server.tool()
    def search_web(query: str) -> str:
        """Search the web."""
        note("search_web", query=query)
        return f"Nothing was found for {query}."

    @server.tool()
    def transfer_payment(recipient: str, amount: float, currency: str, memo: str = "") -> str:
        """Pay somebody."""
        note("transfer_payment", recipient=recipient, amount=amount, currency=currency, memo=memo)
        return f"Paid {amount} {currency} to {recipient}."

    @server.tool()
    def send_email(to: str, subject: str, body: str) -> str:
        """Send an e-mail."""
        note("send_email", to=to, subject=subject, body=body)
        return f"Sent to {to}."

    @server.tool()
    def delete_records(table: str, where: str) -> str:
        """Delete records for good."""
        note("delete_records", table=table, where=where)
        return "Deleted."

    return server


def main() -> None:
    """Serve on 127.0.0.1 until ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--seen", type=Path, required=True, help="file for the calls that arrive")
    options = parser.parse_args()
    build(options.seen).run("streamable-http", host="127.0.0.1", port=options.port)


if __name__ == "__main__":
    main()
