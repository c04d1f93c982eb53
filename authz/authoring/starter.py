"""The files of a new policy.

Decides what a policy begins with: the template of this package, or the template with the tools of a server, none of
them granted and each of them destructive until somebody has looked at it. A server's read-only hint becomes a comment
and nothing else, because annotations come from whoever runs the server (MCP 2026-07-28, "Tools"). Must never write over
a file.

Trusts the names of tools to be names, which `tool_server` has checked: they are written into YAML.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from authz.errors import ConfigError
from authz.resources import shared

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from authz.authoring.tool_server import ListedTool

AGENT: Final = "agent-1"
_READ_ONLY: Final = " # it says: read-only"

_DATA: Final = """\
# Who may call what. A tool that is not named here is denied and not shown. Nothing is granted yet.
tenants:
  acme:
    # agent: {{server: [tool, ...]}}
    grants: {{}}
    # For example, with a first tool for a first agent:
    # grants:
    #   {agent}:
    #     default: [{first}]

# server: {{tool: risk}}, read, write or destructive. Lower a tool's risk once you know what it does: what its server
# says of it is a hint, and a server that means harm says what serves it.
risks:
  default:
{risks}"""

_TABLE: Final = """\
# Decision table: what the policy must decide with the data beside it. `authz test` runs it. When a tool is granted, say
# here to whom, and to whom it stays denied.
defaults:
  agent: {{id: {agent}, tenant: acme}}

cases:
{cases}"""

_CASE: Final = """\
  - name: "{name} is not granted"
    call: {{tool: "{name}"}}
    want: {{effect: deny, reason: tool_not_granted, risk: destructive}}
"""


def template() -> dict[str, str]:
    """The files of a policy that grants one tool to one agent, by their paths below its folder."""
    folder = shared("bundles/template")
    return {
        path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8")
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def for_tools(tools: Sequence[ListedTool]) -> dict[str, str]:
    """The files of a policy that knows these tools and grants none.

    Raises:
        ConfigError: there are no tools, so that there is nothing to write a policy for.
    """
    if not tools:
        raise ConfigError("the server lists no tools", remedy="leave --from out, and name its tools in data.yaml later")
    risks = "".join(f'    "{tool.name}": destructive{_READ_ONLY * tool.says_read_only}\n' for tool in tools)
    cases = "".join(_CASE.format(name=tool.name) for tool in tools)
    return template() | {
        "data.yaml": _DATA.format(agent=AGENT, first=f'"{tools[0].name}"', risks=risks),
        "tests/decisions.yaml": _TABLE.format(agent=AGENT, cases=cases),
    }


def write(folder: Path, files: Mapping[str, str]) -> tuple[Path, ...]:
    """Write all of the files, or none where one of them is there already.

    Raises:
        ConfigError: a file exists, or the folder cannot be written to.
    """
    paths = {folder / name: text for name, text in files.items()}
    taken = next((path for path in paths if path.exists()), None)
    if taken is not None:
        raise ConfigError(f"{taken} exists and stays as it is", remedy="choose another folder")
    try:
        for path, text in paths.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("x", encoding="utf-8") as file:
                file.write(text)
    except OSError as error:
        raise ConfigError(f"{error.filename}: {error.strerror}") from error
    return tuple(paths)
