"""The tool's own credential: from its file, to its tool, and nowhere else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from authz.config import Route, UpstreamAuth
from authz.edge.upstream import UpstreamCredentials
from authz.errors import ConfigError, UnavailableError
from authz.model import Check
from tests.fakes import FakeClock

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "credential"
    path.write_text("Bearer tool-1\n")
    path.chmod(0o600)
    return path


def route(file: Path) -> Route:
    return Route(path="/mcp", upstream_auth=UpstreamAuth(header="Authorization", file=file))


def test_a_route_has_the_credential_of_its_file(file: Path) -> None:
    one = route(file)
    assert UpstreamCredentials((one,), FakeClock()).of(Check(), one, None) == ("authorization", "Bearer tool-1")


@pytest.mark.parametrize("kind", ["none", "pass"])
def test_a_route_without_one_has_none(kind: str) -> None:
    plain = Route.model_validate({"path": "/mcp", "upstream_auth": kind})
    assert UpstreamCredentials((plain,), FakeClock()).of(Check(), plain, None) is None


def test_a_rotated_credential_is_used_within_a_second(file: Path) -> None:
    clock, one = FakeClock(), route(file)
    credentials = UpstreamCredentials((one,), clock)
    file.write_text("Bearer tool-2\n")
    assert credentials.of(Check(), one, None) == ("authorization", "Bearer tool-1")
    clock.advance(1.1)
    assert credentials.of(Check(), one, None) == ("authorization", "Bearer tool-2")


def test_k4_a_credential_that_others_can_read_refuses_to_start(file: Path) -> None:
    file.chmod(0o644)
    with pytest.raises(ConfigError, match="readable by everyone"):
        UpstreamCredentials((route(file),), FakeClock())


@pytest.mark.parametrize("text", ["", "\n", "a\nb", "a\x00b", "é"])
def test_a_credential_that_is_no_header_value_refuses_to_start(file: Path, text: str) -> None:
    file.write_text(text)
    with pytest.raises(ConfigError) as raised:
        UpstreamCredentials((route(file),), FakeClock())
    assert "Bearer" not in str(raised.value)


def test_a_credential_that_vanishes_refuses_the_call_instead_of_sending_none(file: Path) -> None:
    clock, one = FakeClock(), route(file)
    credentials = UpstreamCredentials((one,), clock)
    file.unlink()
    clock.advance(1.1)
    with pytest.raises(UnavailableError):
        credentials.of(Check(), one, None)
