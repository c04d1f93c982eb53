"""The command as people have it: at a terminal, in a shell, and without anything else installed."""

from __future__ import annotations

import os
import pty
import shlex
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.contracts.programs import running
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).resolve().parents[2]
AUTHZ = Path(sys.executable).with_name("authz")
ESCAPE = "\x1b["
BAD = "package authz\n\ndefault allow := true\n"
PAY = '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"transfer_payment","arguments":{}}}'
INPUT = '{"version":1,"phase":"call","agent":{"id":"a","tenant":"t"},"tool":{"server":"s","name":"n","method":"m"}}'
CHECK = '{"attributes":{"request":{"http":{"method":"GET","path":"/health"}}}}'
OFFICE = """
import sys
from mcp.server.mcpserver import MCPServer
from mcp.types import ToolAnnotations

server = MCPServer("office")

@server.tool(annotations=ToolAnnotations(readOnlyHint=True))
def read(path: str) -> str:
    return path

@server.tool()
def delete(path: str) -> str:
    return path

server.run("streamable-http", host="127.0.0.1", port=int(sys.argv[1]))
"""


def environment(**more: str) -> dict[str, str]:
    """Nothing but what a program needs: no settings of ours, no colours asked for."""
    return {"PATH": os.defpath, "HOME": os.environ.get("HOME", "/"), "TERM": "xterm-256color", **more}


def authz(*arguments: object, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    command = [str(AUTHZ), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=env or environment(), check=False)


def at_a_terminal(*arguments: object, **more: str) -> str:
    """What a command shows on a terminal."""
    leader, follower = pty.openpty()
    command = [str(AUTHZ), *map(str, arguments)]
    with subprocess.Popen(command, stdout=follower, stderr=follower, env=environment(**more)) as process:
        os.close(follower)
        shown = b""
        try:
            while chunk := os.read(leader, 4096):
                shown += chunk
        except OSError:
            pass  # the terminal's other end is closed: that is its end of file
        process.wait()
    os.close(leader)
    return shown.decode()


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    (tmp_path / "p.rego").write_text(BAD)
    return tmp_path


def test_colour_is_for_terminals_only(bad: Path) -> None:
    assert ESCAPE in at_a_terminal("lint", bad)
    assert ESCAPE not in authz("lint", bad).stdout


def test_no_color_is_honoured(bad: Path) -> None:
    assert ESCAPE not in at_a_terminal("lint", bad, NO_COLOR="1")


def test_the_shell_completes_commands_and_choices() -> None:
    def completed(words: str, position: int) -> list[str]:
        asked = {"_AUTHZ_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(position)}
        return authz(env=environment(**asked)).stdout.split()

    assert completed("authz d", 1) == ["decide", "doctor", "demo"]
    assert completed("authz lint --contract ", 3) == ["agent", "envoy"]


def test_help_costs_little() -> None:
    before = os.times()
    assert authz("--help").returncode == 0
    after = os.times()
    cpu_s = after.children_user + after.children_system - before.children_user - before.children_system
    assert cpu_s < 1.0  # 0.2 s on a quiet machine; importing every command takes 2 s


def test_policies_are_tested_where_no_opa_is_installed(tmp_path: Path) -> None:
    program = tmp_path / "bin" / "authz"
    program.parent.mkdir()
    program.symlink_to(AUTHZ)
    alone = environment(PATH=str(program.parent))
    assert shutil.which("opa", path=alone["PATH"]) is None
    assert authz("init", tmp_path / "policy", env=alone).returncode == 0
    tested = authz("test", tmp_path / "policy", env=alone)
    assert (tested.returncode, tested.stderr) == (0, "")


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("office")
    (folder / "office.py").write_text(OFFICE)
    port = free_port()
    with running([sys.executable, str(folder / "office.py"), str(port)], port, folder / "log"):
        yield f"http://127.0.0.1:{port}/mcp"


def test_the_policy_of_a_real_server_s_tools_is_sound_and_grants_nothing(office: str, tmp_path: Path) -> None:
    made = authz("init", tmp_path / "policy", "--from", office)
    assert (made.returncode, made.stderr) == (0, "")
    known = (tmp_path / "policy" / "data.yaml").read_text()
    assert '"read": destructive # it says: read-only' in known
    assert '"delete": destructive\n' in known
    assert authz("lint", tmp_path / "policy").stdout == "0 errors, 0 warnings\n"
    assert authz("test", tmp_path / "policy").returncode == 0


ALONE = ("init", "lint", "test", "decide", "token", "doctor", "version")
"""Commands that end by themselves and need nothing that runs. The pages of docs/ run the others;
tests/unit/cli/test_commands.py holds their examples to their options."""


def examples() -> list[tuple[str, str]]:
    """Every example of their help pages that needs no network."""
    found = []
    for name in ALONE:
        module = import_module(f"authz.cli.{name}")
        for text in (value for key, value in vars(module).items() if key.endswith("EXAMPLES")):
            found += [(name, example.strip()) for example in text.replace("|\n", "|").split("\n\n")[1:]]
    return [(name, line) for name, line in found if "http://" not in line and "--control" not in line]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder that has what the examples name."""
    for folder in ("bundles", "envoy", "tests"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    files = {"call.json": PAY, "input.json": INPUT, "check-request.json": CHECK}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "bootstrap.yaml").symlink_to(ROOT / "envoy" / "sidecar.yaml")
    home = {"HOME": str(tmp_path), "PATH": f"{AUTHZ.parent}{os.pathsep}{os.defpath}"}
    token = ["token", "--agent", "a", "--tenant", "acme"]
    subprocess.run([AUTHZ, *token], env=home, check=True, capture_output=True)
    (tmp_path / "authz.yaml").write_text(
        f"listen: {{check: 'unix://{tmp_path}/s', diagnostics: ''}}\npolicy: {{paths: [bundles/starter]}}\n"
        "issuers: [{issuer: https://development-issuer.authz.invalid, audience: authz, "
        f"jwks: {tmp_path}/.local/state/authz/jwks.json}}]\n"
    )
    (tmp_path / ".local" / "state" / "authz" / "authz.yaml").symlink_to(tmp_path / "authz.yaml")
    return tmp_path


@pytest.mark.parametrize(("name", "example"), examples())
def test_every_example_of_the_help_runs(checkout: Path, name: str, example: str) -> None:
    home = {"HOME": str(checkout), "PATH": f"{AUTHZ.parent}{os.pathsep}{os.defpath}"}
    if "policy/" in shlex.split(example.replace(">", " ")) and name != "init":
        subprocess.run([AUTHZ, "init", "policy"], cwd=checkout, env=home, check=True, capture_output=True)
    shell = [shutil.which("bash") or "/bin/bash", "-o", "pipefail", "-c", example]
    ran = subprocess.run(shell, cwd=checkout, env=home, capture_output=True, text=True, check=False)
    # A denied call is a right answer too.
    assert ran.returncode in ((0, 1) if name == "decide" else (0,)), ran.stdout + ran.stderr
    assert "Traceback" not in ran.stderr
