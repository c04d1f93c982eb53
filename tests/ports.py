"""Ports for programs that tests start: held until this process ends, so that no other test's program is given them."""

from __future__ import annotations

from authz.held_port import HeldPort

_HELD: list[HeldPort] = []


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on, and nobody else will be given."""
    _HELD.append(HeldPort())
    return _HELD[-1].number


def free_address() -> str:
    """The same, as HOST:PORT."""
    return f"127.0.0.1:{free_port()}"
