"""Whether what is said to an address stays on this machine, so that plaintext shows it to nobody else.

Decides that for hosts and for addresses to listen on. Must never resolve a name: who answers for it could change the
answer. `localhost` alone is taken for what it says (RFC 6761 section 6.3). Pure.
"""

from __future__ import annotations

import ipaddress


def is_loopback(host: str) -> bool:
    """Whether `host`, an address or `[IPv6]` or a name, is this machine's own."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def is_local(address: str) -> bool:
    """Whether `address`, HOST:PORT or `unix:…`, can be reached from this machine alone."""
    return address.startswith("unix:") or is_loopback(address.rpartition(":")[0])
