"""`authz init`: a policy to begin with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from authz.authoring import starter
from authz.authoring.tool_server import Listing, list_tools
from authz.cli.output import Output, OutputOption, document, line

EXAMPLES = """
Examples:

  authz init

  authz init policy/ --from http://127.0.0.1:3000/mcp
"""
NO_SERVER = Listing(tools=(), skipped=0)


def init(
    directory: Annotated[Path, typer.Argument(help="Folder to write to; made if need be.")] = Path("policy"),
    server: Annotated[
        str | None, typer.Option("--from", envvar="AUTHZ_FROM", help="URL of an MCP server, whose tools are listed.")
    ] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Write a policy with its data and its tests. With --from, every tool of the server stands in it, none granted."""
    listing = list_tools(server) if server else NO_SERVER
    written = starter.write(directory, starter.for_tools(listing.tools) if server else starter.template())
    if output is Output.JSON:
        tools = [{"name": tool.name, "says_read_only": tool.says_read_only} for tool in listing.tools]
        document({"directory": directory, "files": written, "tools": tools, "skipped": listing.skipped})
        return
    for path in written:
        line(f"wrote {path}")
    if server:
        line(f"{len(listing.tools)} tools, none granted yet: grant them in {directory / 'data.yaml'}")
    if listing.skipped:
        line(f"{listing.skipped} entries of the server's list have no name that a tool can have, and are left out")
    line(f"next: authz lint {directory}, authz test {directory}")
