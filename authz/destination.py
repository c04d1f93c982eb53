"""A network destination, read in the one way that leaves no second spelling.

Decides which host and port a text names. Equal hosts come out equal, whatever their case, final dot, Unicode form or
way of writing an address: a kill of `169.254.169.254` must also stop `0xa9fea9fe` and `[::ffff:a9fe:a9fe]` (E10).
Must never resolve a name, and never guess: what could be read as two hosts is refused. Pure. Trusts `idna` for UTS #46.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Final

import idna

MAX_HOST_CHARACTERS: Final = 253
MAX_PORT: Final = 65535

# As in names that are looked up, so with the underscore; the trailing dot is gone by then.
_NAME: Final = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)(?:\.(?!-)[a-z0-9_-]{1,63}(?<!-))*")
_PORT: Final = re.compile(r"[1-9][0-9]{0,4}")
# A name whose last label looks like a number is an address to inet_aton, and so to most that connect.
_NUMERIC: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")
_NUMBERS: Final = (
    (re.compile(r"0x([0-9a-f]*)"), 16),
    (re.compile(r"0([0-7]*)"), 8),
    (re.compile(r"([1-9][0-9]*)"), 10),
)
_OCTETS: Final = 4
_MAX_OCTET: Final = 255


@dataclass(frozen=True, slots=True)
class Destination:
    """A host in canonical form, and a port; 0 is any. Make it with `parse`."""

    host: str
    port: int = 0

    def __str__(self) -> str:
        return f"{self.host}:{self.port}" if self.port else self.host


@functools.lru_cache(maxsize=1024)  # a route's own comes with every call
def parse(text: str) -> Destination:
    """The destination that `HOST` or `HOST:PORT` names.

    Raises:
        ValueError: no host, a port outside 1..65535, or a host that can be read in two ways. The text is not repeated.
    """
    host, port = _split(text)
    if port and (not _PORT.fullmatch(port) or int(port) > MAX_PORT):
        raise ValueError("the port is not a number from 1 to 65535")
    return Destination(canonical_host(host), int(port or 0))


def canonical_host(host: str) -> str:
    """A name in lower-case A-labels without the final dot, an IPv4 address in dotted decimal, or `[IPv6]`.

    Raises:
        ValueError: as `parse`.
    """
    if host.startswith("["):
        return _ipv6(host.removeprefix("[").removesuffix("]") if host.endswith("]") else "")
    name = _ascii(host).removesuffix(".")
    if len(name) > MAX_HOST_CHARACTERS or not _NAME.fullmatch(name):
        raise ValueError("the host is not a name or an address")
    if _NUMERIC.fullmatch(name.rpartition(".")[2]):
        return _ipv4(name)
    return name


def _split(text: str) -> tuple[str, str]:
    host, colon, port = text.rpartition(":")
    if text.endswith("]") or not colon:
        return text, ""
    if not port:
        raise ValueError("a colon without a port")
    return host, port


def _ascii(host: str) -> str:
    if host.isascii():
        return host.lower()
    try:
        return idna.encode(host, uts46=True).decode("ascii").lower()
    except idna.IDNAError:
        raise ValueError("the host is not an internationalised name") from None


def _ipv6(text: str) -> str:
    try:
        address = IPv6Address(text)
    except AddressValueError:
        raise ValueError("not an IPv6 address in brackets") from None
    if address.scope_id is not None:
        raise ValueError("an address with a zone")
    # ::ffff:a.b.c.d reaches a.b.c.d: one host, two families (RFC 4291 section 2.5.5.2).
    return str(address.ipv4_mapped) if address.ipv4_mapped else f"[{address.compressed}]"


def _ipv4(name: str) -> str:
    """Dotted decimal of what inet_aton takes: up to four parts in base 8, 10 or 16, of which the last fills up."""
    *leading, last = [_number(part) for part in name.split(".")]
    open_octets = _OCTETS - len(leading)
    if open_octets < 1 or any(part > _MAX_OCTET for part in leading) or last >= 256**open_octets:
        raise ValueError("a number that is no IPv4 address")
    return str(IPv4Address(bytes(leading) + last.to_bytes(open_octets, "big")))


def _number(part: str) -> int:
    for form, base in _NUMBERS:
        if match := form.fullmatch(part):
            return int(match[1] or "0", base)
    raise ValueError("a number that is no IPv4 address")
