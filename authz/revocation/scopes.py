"""What a kill can cover, and the one way to write it.

Decides which scopes exist, which belong to a tenant and which to the whole platform, and the canonical form in which
they are signed, stored and compared. Identifiers are compared byte for byte, never by prefix and never folded, so
nothing that looks like a scope is one (E10); destinations alone have a canonical form (`authz.destination`). Must never
repair what an operator typed into something else. Pure; trusts nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from authz import destination
from authz.encoding import token_digest
from authz.errors import InvalidRequestError
from authz.model import Word
from authz.reasons import KILL_SCOPE

MAX_IDENTIFIER_BYTES: Final = 256
"""As a token may carry (identity/claims.py), so whatever can call can be killed."""
MAX_TOOL_BYTES: Final = 1024
"""SERVER/NAME, where the name may be a method and a path template."""
DIGEST_PREFIX: Final = "sha256:"
"""Before the digest of a jti, as an operator copies it from a record, which holds no jti."""
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")


class ScopeKind(Word):
    """What a kill names; spelt as on the command line (contracts §9)."""

    AGENT = "agent"
    SESSION = "session"
    TOKEN = "token"  # noqa: S105 - a word of the command line
    SUBTREE = "subtree"
    OVERRIDE = "override"
    TOOL = "tool"
    CAPABILITY = "capability"
    CONNECTOR = "connector"
    DESTINATION = "destination"
    MEMORY_WRITES = "memory-writes"
    TENANT = "tenant"
    GLOBAL = "global"


WHOLE: Final = frozenset({ScopeKind.TENANT, ScopeKind.GLOBAL})
"""Kinds without a value."""
SHARED: Final = frozenset({ScopeKind.TOOL, ScopeKind.CAPABILITY, ScopeKind.CONNECTOR, ScopeKind.DESTINATION})
"""Kinds that name something of one tenant, or with an empty tenant of every one."""


@dataclass(frozen=True, slots=True)
class Scope:
    """One thing that is stopped, in canonical form. Make it with `parse` from what people write.

    `tenant` is empty for the whole platform. `value` is empty for `tenant` and `global`, the SHA-256 of the jti in
    hexadecimal for `token`, `SERVER/NAME` for `tool`, a canonical `HOST` or `HOST:PORT` for `destination`.

    Raises:
        InvalidRequestError: KILL_SCOPE, the scope is not one, or not in canonical form.
    """

    kind: ScopeKind
    tenant: str
    value: str = ""

    def __post_init__(self) -> None:
        if self.kind is ScopeKind.GLOBAL and self.tenant:
            raise _refusal("`global` is not of one tenant")
        if self.tenant or self.kind not in SHARED | {ScopeKind.GLOBAL}:
            require_identifier(self.tenant, "the tenant")
        if self.kind in WHOLE:
            if self.value:
                raise _refusal(f"`{self.kind}` takes no value")
        else:
            _require_value(self.kind, self.value)

    @property
    def stream(self) -> str:
        """The stream whose entries speak of it: its tenant, or empty for the platform's."""
        return self.tenant

    def __str__(self) -> str:
        """In words, for records and people: the kind and what it names."""
        return f"{self.kind} {self.value}" if self.value else self.kind.value


def parse(kind: str, value: str = "", tenant: str = "") -> Scope:
    """The scope that the words of a command or of a request name.

    Args:
        kind: a `ScopeKind`.
        value: as people write it: a jti or `sha256:` and its digest, a host in any spelling, else the exact identifier.
        tenant: empty for the whole platform.

    Raises:
        InvalidRequestError: KILL_SCOPE; what is wrong is named, what was written is not repeated.
    """
    try:
        known = ScopeKind(kind)
    except ValueError:
        raise _refusal(f"the kind is none of {', '.join(ScopeKind)}") from None
    if value == "*":
        # To the person who types it this means all, and it would stop nobody (E9).
        raise _refusal("`*` is not a pattern: to stop everything, kill `tenant` or `global`")
    return Scope(known, tenant, _canonical(known, value))


def require_identifier(text: str, name: str, limit: int = MAX_IDENTIFIER_BYTES) -> None:
    """Refuse what no token can carry as an identifier: nothing, controls, invisible characters, too much.

    Raises:
        InvalidRequestError: KILL_SCOPE.
    """
    if not text:
        raise _refusal(f"{name} is empty")
    # Printable rules out controls, separators but the space, lone surrogates and bidirectional marks.
    if not text.isprintable() or len(text.encode()) > limit:
        raise _refusal(f"{name} holds a character that cannot be seen, or over {limit} bytes")


def _canonical(kind: ScopeKind, value: str) -> str:
    if kind is ScopeKind.TOKEN:
        digest = value.removeprefix(DIGEST_PREFIX)
        if digest != value and _DIGEST.fullmatch(digest):
            return digest
        require_identifier(value, "the jti")
        return token_digest(value)
    if kind is ScopeKind.DESTINATION:
        try:
            return str(destination.parse(value))
        except ValueError as error:
            raise _refusal(str(error)) from None
    return value


def _require_value(kind: ScopeKind, value: str) -> None:
    require_identifier(value, f"the {kind}", MAX_TOOL_BYTES if kind is ScopeKind.TOOL else MAX_IDENTIFIER_BYTES)
    if kind is ScopeKind.TOKEN and not _DIGEST.fullmatch(value):
        raise _refusal("the token is not the SHA-256 of a jti")
    if kind is ScopeKind.TOOL and not all(value.partition("/")):
        raise _refusal("a tool is SERVER/NAME, neither of them empty")
    if kind is ScopeKind.DESTINATION and _canonical(kind, value) != value:
        raise _refusal("the destination is not in canonical form")


def _refusal(detail: str) -> InvalidRequestError:
    return InvalidRequestError(KILL_SCOPE, detail)
