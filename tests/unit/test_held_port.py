"""A port that is held is given to nobody else, and to the program that it is held for."""

from __future__ import annotations

import socket
from contextlib import ExitStack

import pytest

from authz.errors import ConfigError
from authz.held_port import HeldPort

MANY = 500


def test_a_busy_address_is_refused_with_a_remedy() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as busy,
        pytest.raises(ConfigError, match="cannot listen") as raised,
    ):
        HeldPort("127.0.0.1", busy.getsockname()[1])
    assert "--listen" in raised.value.remedy


@pytest.mark.parametrize("host", ["192.0.2.1", "not an address"])
def test_an_address_of_another_machine_is_refused(host: str) -> None:
    with pytest.raises(ConfigError, match="cannot listen"):
        HeldPort(host)


@pytest.mark.parametrize(("host", "shown"), [("127.0.0.1", "127.0.0.1:"), ("::1", "[::1]:")])
def test_it_answers_nobody_and_can_be_listened_on_again_and_again(host: str, shown: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with HeldPort(host) as held:
        assert held.address == f"{shown}{held.number}"
        for _ in range(2):
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection((host, held.number))
            with socket.create_server((host, held.number), family=family):
                socket.create_connection((host, held.number)).close()


def test_nobody_else_is_given_it() -> None:
    with HeldPort() as held, ExitStack() as others:
        assert held.number not in {others.enter_context(HeldPort()).number for _ in range(MANY)}
