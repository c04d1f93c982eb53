"""What is said to a loopback address or a Unix socket stays on the machine; nothing else does."""

from __future__ import annotations

import pytest

from authz.loopback import is_local, is_loopback

LOCAL = ("127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "localhost:1", "unix:///run/a.sock", "unix://@a")
ELSEWHERE = ("0.0.0.0:1", "[::]:1", "192.168.0.1:1", "localhost.example:1", "LOCALHOST:1", ":9191", "127.0.0.1")


@pytest.mark.parametrize("address", LOCAL)
def test_loopback_and_sockets_are_local(address: str) -> None:
    assert is_local(address)


@pytest.mark.parametrize("address", ELSEWHERE)
def test_everything_else_is_not(address: str) -> None:
    assert not is_local(address)


@pytest.mark.parametrize("host", ["::1", "[::1]", "127.0.0.1", "localhost"])
def test_a_host_is_judged_without_a_port(host: str) -> None:
    assert is_loopback(host)
    assert not is_loopback(f"{host}.example")
