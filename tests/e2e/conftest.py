"""Fixtures of the tests that run Envoy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.e2e.stack import ToolServer, service

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.stack import Service


@pytest.fixture(scope="module")
def tool_server() -> Iterator[ToolServer]:
    server = ToolServer()
    yield server
    server.close()


@pytest.fixture(scope="module")
def decisions(tmp_path_factory: pytest.TempPathFactory, tool_server: ToolServer) -> Iterator[Service]:
    with service(tmp_path_factory.mktemp("s") / "state", tool_server.url) as running:
        yield running


@pytest.fixture(scope="module")
def envoy(decisions: Service) -> int:
    """The port of an Envoy with the shipped configuration."""
    return decisions.envoy("envoy")
