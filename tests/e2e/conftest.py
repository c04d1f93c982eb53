"""Fixtures of the tests that run Envoy, and of those that break a whole site."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.e2e.site import site
from tests.e2e.stack import ToolServer, service
from tests.redis_servers import running_redis

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.site import Site
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


@pytest.fixture(scope="session")
def running_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running_redis() as server, site(tmp_path_factory.mktemp("site"), server) as made:
        yield made


@pytest.fixture
def whole(running_site: Site) -> Iterator[Site]:
    """A site in which nothing is broken; what a test breaks is mended after it."""
    yield running_site
    running_site.mend()
