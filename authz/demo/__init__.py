"""The demonstration: a real MCP server, the real stack, real clients, and a table of what was promised."""
