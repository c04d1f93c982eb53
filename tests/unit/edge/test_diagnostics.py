"""The diagnostics port: a few fixed paths, and nothing about any single call."""

from __future__ import annotations

import http.client
import json
from typing import TYPE_CHECKING

import pytest

from authz.edge.diagnostics import Diagnostics

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def waiting() -> dict[str, str]:
    return {}


@pytest.fixture
def address(waiting: dict[str, str]) -> Iterator[str]:
    diagnostics = Diagnostics(
        "127.0.0.1:0",
        lambda accept: ("text/plain", f"for {accept}".encode()),
        lambda: waiting,
        lambda: {"policy": "on the last good one"},
    )
    diagnostics.start()
    yield diagnostics.address
    diagnostics.stop()


def fetch(address: str, path: str, method: str = "GET") -> tuple[int, str, bytes]:
    connection = http.client.HTTPConnection(address, timeout=5)
    connection.request(method, path, headers={"accept": "text/x"})
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response.status, response.getheader("content-type", ""), body


def test_metrics_are_in_the_format_that_was_asked_for(address: str) -> None:
    assert fetch(address, "/metrics") == (200, "text/plain", b"for text/x")


@pytest.mark.parametrize("path", ["/readyz", "/health", "/health?plugins"])
def test_readiness_says_what_is_waited_for(address: str, waiting: dict[str, str], path: str) -> None:
    assert fetch(address, path)[0] == 200
    waiting["policy"] = "none is active"
    status, _, body = fetch(address, path)
    assert status == 503
    told = json.loads(body)
    assert told["waiting_for"] == {"policy": "none is active"}
    assert told["degraded"] == {"policy": "on the last good one"}


def test_a_service_that_is_not_ready_is_alive(address: str, waiting: dict[str, str]) -> None:
    waiting["keys"] = "none"
    assert fetch(address, "/healthz")[0] == 200


@pytest.mark.parametrize("path", ["/", "/metrics/", "/../metrics", "/config", "/debug"])
def test_nothing_else_is_there(address: str, path: str) -> None:
    assert fetch(address, path)[0] == 404


def test_head_has_no_body_and_other_methods_are_refused(address: str) -> None:
    assert fetch(address, "/metrics", "HEAD") == (200, "text/plain", b"")
    assert fetch(address, "/metrics", "POST")[0] == 501
