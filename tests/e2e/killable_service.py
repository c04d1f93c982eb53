"""`authz serve` whose kills stand in a file, one `TENANT/AGENT` a line.

Run as `python -m tests.e2e.killable_service CONFIGURATION KILLS`.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from authz.cli.output import Output
from authz.cli.serve import run
from authz.config import load
from authz.revocation.kills import Kill
from authz.wiring import Sidecar

if TYPE_CHECKING:
    from authz.model import AgentFacts, Principal, Risk, ToolCall
    from authz.pdp import Ports


class FileKills:
    """Kills of agents, read anew each time."""

    source = "file"

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def sequence(self) -> int:
        return self._path.stat().st_size

    def covering(self, principal: Principal, call: ToolCall | None) -> Kill | None:  # noqa: ARG002 - the port's shape
        is_killed = f"{principal.tenant}/{principal.agent}" in self._path.read_text().splitlines()
        return Kill(id="k1", scope=f"agent {principal.agent}", kind="agent") if is_killed else None

    def facts(self, principal: Principal) -> AgentFacts | None:  # noqa: ARG002 - the port's shape
        return None

    def admit(self, principal: Principal, risk: Risk) -> bool:  # noqa: ARG002 - the port's shape
        return False


class KillableSidecar(Sidecar):
    """The real one, but for where kills come from."""

    kills = Path()

    def _ports(self) -> Ports:
        return replace(super()._ports(), kills=FileKills(self.kills))


if __name__ == "__main__":
    KillableSidecar.kills = Path(sys.argv[2])
    run(load(Path(sys.argv[1])), Output.TABLE, KillableSidecar)
