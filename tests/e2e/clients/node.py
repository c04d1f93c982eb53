"""The npm packages of the tests: exact versions, in a folder of the user's cache, never in the repository."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.clients.agents import CLIENTS, listening

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGES = (
    "@modelcontextprotocol/sdk@1.32.2",
    "@modelcontextprotocol/client@2.4.0",
    "@modelcontextprotocol/server-everything@2026.8.31",
)
INSTALL_S = 180
SESSION_S = 30


def packages() -> Path:
    """`node_modules` with the packages, installed once; skips the test where that is impossible."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("NOT TESTED: the TypeScript clients and servers need node and npm on the PATH")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "authz-tests"
    folder = cache / hashlib.sha256("\n".join(PACKAGES).encode()).hexdigest()[:12]
    if not folder.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(dir=cache))
        flags = ("--no-package-lock", "--no-save", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error")
        done = subprocess.run(
            [npm, "install", *flags, *PACKAGES],
            cwd=made,
            timeout=INSTALL_S,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            shutil.rmtree(made)
            pytest.skip(f"NOT TESTED: npm cannot install the TypeScript clients and servers: {done.stderr[-200:]}")
        try:
            made.rename(folder)
        except OSError:
            shutil.rmtree(made)  # somebody else was quicker
    return folder / "node_modules"


@contextmanager
def everything(log: Path) -> Iterator[str]:
    """The URL of the reference server, which shows everything that MCP has."""
    program = packages() / "@modelcontextprotocol" / "server-everything" / "dist" / "index.js"
    command = ["node", "--require", str(CLIENTS / "loopback.cjs"), str(program), "streamableHttp"]
    with listening(command, log, os.environ | {"PORT": "0"}) as port:
        yield f"http://127.0.0.1:{port}/mcp"


def session(**plan: Any) -> dict[str, Any]:
    """What a TypeScript client saw; see session.cjs."""
    command = ["node", str(CLIENTS / "session.cjs"), json.dumps(plan)]
    environment = os.environ | {"NODE_PATH": str(packages())}
    done = subprocess.run(command, env=environment, timeout=SESSION_S, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    seen: dict[str, Any] = json.loads(done.stdout)
    return seen
