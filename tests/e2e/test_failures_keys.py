"""An issuer whose keys cannot be read any more: cached ones serve for an hour, destructive calls for ten minutes."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
import yaml

from authz.clock import SystemClock
from authz.identity.development_issuer import AUDIENCE, ISSUER, open_issuer
from tests.e2e.site import PATIENCE_S, SERVED, Program, Sidecar
from tests.e2e.stack import TESTS, eventually
from tests.ports import free_address

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from authz.identity.development_issuer import DevelopmentIssuer

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]
MINUTE_S = 60.0
RISKS = ("read", "write", "destructive")
GONE = "JWKS_UNAVAILABLE"


class Later(SystemClock):
    """The time by which a token is made that is used so many seconds later."""

    def __init__(self, seconds: float) -> None:
        self._off_ns = int(seconds * 1e9)

    def unix_ns(self) -> int:
        return SystemClock.unix_ns() + self._off_ns


@dataclass
class KeyServer(Program):
    """A web server with the issuer's keys, of its own process."""

    address: str = ""

    def start(self) -> None:
        host, _, port = self.address.rpartition(":")
        command = [sys.executable, "-m", "http.server", port, "--bind", host, "--directory", str(self.folder)]
        self.process = subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        eventually(self._answers)

    def _answers(self) -> bool:
        host, _, port = self.address.rpartition(":")
        with socket.socket() as tried:
            return tried.connect_ex((host, int(port))) == 0


@dataclass
class Issued:
    """A sidecar that trusts an issuer by the web."""

    sidecar: Sidecar
    keys: KeyServer
    issuer: DevelopmentIssuer

    def comes_to_tell(self, minutes: float, answers: list[str]) -> None:
        """These are the answers when so many minutes have passed, once nothing else keeps the machine busy."""
        self.sidecar.pass_time(minutes * MINUTE_S)
        eventually(lambda: self.told(minutes) == answers, PATIENCE_S)

    def told(self, minutes: float) -> list[str]:
        """What is answered to calls of each risk with tokens of that time."""
        clock = Later(minutes * MINUTE_S)
        tokens = [self.issuer.mint(agent="agent-1", tenant="acme", ttl_s=900, clock=clock) for _ in RISKS]
        return [self.sidecar.answer(token, risk) for token, risk in zip(tokens, RISKS, strict=True)]


@pytest.fixture
def issued(tmp_path: Path) -> Iterator[Issued]:
    issuer = open_issuer(tmp_path / "issuer")
    for name in ("published", "records"):
        (tmp_path / name).mkdir()
    shutil.copy(issuer.jwks_path, tmp_path / "published" / "jwks.json")
    keys = KeyServer([], tmp_path / "published", address=free_address())
    settings = {
        "version": 1,
        "listen": {"check": "127.0.0.1:0", "diagnostics": ""},
        "issuers": [{"issuer": ISSUER, "audience": AUDIENCE, "jwks": f"http://{keys.address}/jwks.json"}],
        "policy": {"paths": [str(TESTS / "risk.rego")]},
        "audit": {"directory": str(tmp_path / "records")},
    }
    (tmp_path / "authz.yaml").write_text(yaml.safe_dump(settings))
    sidecar = Sidecar(["serve", "--config", str(tmp_path / "authz.yaml"), "--output", "json"], tmp_path)
    try:
        keys.start()
        sidecar.start()
        yield Issued(sidecar, keys, issuer)
    finally:
        sidecar.kill()
        keys.thaw()
        keys.kill()


@pytest.mark.parametrize("how", ["killed", "frozen"])
def test_d13_keys_that_cannot_be_read_any_more_serve_for_an_hour_and_destructive_calls_for_ten_minutes(
    issued: Issued, how: str
) -> None:
    issued.comes_to_tell(0, [SERVED] * 3)
    issued.keys.kill() if how == "killed" else issued.keys.freeze()
    issued.comes_to_tell(9, [SERVED] * 3)
    issued.comes_to_tell(11, [SERVED, SERVED, GONE])
    issued.comes_to_tell(59, [SERVED, SERVED, GONE])
    issued.comes_to_tell(61, [GONE] * 3)
    issued.sidecar.kill()
    issued.sidecar.begin()
    issued.keys.start() if how == "killed" else issued.keys.thaw()
    issued.sidecar.wait()
    issued.comes_to_tell(61, [SERVED] * 3)
