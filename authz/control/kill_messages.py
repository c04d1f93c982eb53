"""Kills as the API writes them, and scopes as it reads them. Decides nothing; what is refused, `scopes` refuses."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from authz._gen.authz.control.v1 import kills_pb2 as pb
from authz.control.refusals import malformed
from authz.revocation.guard import KillState
from authz.revocation.scopes import DIGEST_PREFIX, ScopeKind, parse

if TYPE_CHECKING:
    from authz.revocation.guard import KillRecord
    from authz.revocation.scopes import Scope

KINDS: Final = {
    ScopeKind.AGENT: pb.SCOPE_KIND_AGENT,
    ScopeKind.SESSION: pb.SCOPE_KIND_SESSION,
    ScopeKind.TOKEN: pb.SCOPE_KIND_TOKEN,
    ScopeKind.SUBTREE: pb.SCOPE_KIND_SUBTREE,
    ScopeKind.OVERRIDE: pb.SCOPE_KIND_OVERRIDE,
    ScopeKind.TOOL: pb.SCOPE_KIND_TOOL,
    ScopeKind.CAPABILITY: pb.SCOPE_KIND_CAPABILITY,
    ScopeKind.CONNECTOR: pb.SCOPE_KIND_CONNECTOR,
    ScopeKind.DESTINATION: pb.SCOPE_KIND_DESTINATION,
    ScopeKind.MEMORY_WRITES: pb.SCOPE_KIND_MEMORY_WRITES,
    ScopeKind.TENANT: pb.SCOPE_KIND_TENANT,
    ScopeKind.GLOBAL: pb.SCOPE_KIND_GLOBAL,
}
STATES: Final = {
    KillState.AWAITING_CONFIRMATION: pb.KILL_STATE_AWAITING_CONFIRMATION,
    KillState.IN_FORCE: pb.KILL_STATE_IN_FORCE,
    KillState.AWAITING_LIFT_CONFIRMATION: pb.KILL_STATE_AWAITING_LIFT_CONFIRMATION,
    KillState.LIFTED: pb.KILL_STATE_LIFTED,
    KillState.EXPIRED: pb.KILL_STATE_EXPIRED,
    KillState.LAPSED: pb.KILL_STATE_LAPSED,
}
_KINDS_BY_NUMBER: Final = {number: kind for kind, number in KINDS.items()}
_TOKEN: Final = re.compile(r"(\d{1,19})\.([A-Za-z0-9_-]{1,64})", re.ASCII)


def scope_of(message: pb.Scope) -> Scope:
    """The scope that a request names.

    Raises:
        InvalidRequestError: KILL_SCOPE.
    """
    kind = _KINDS_BY_NUMBER.get(message.kind)
    return parse(kind.value if kind else "", message.value, message.tenant)


def message(kill: KillRecord, now_ns: int) -> pb.Kill:
    """The kill as it stands at `now_ns`."""
    scope = kill.scope
    value = DIGEST_PREFIX + scope.value if scope.kind is ScopeKind.TOKEN else scope.value
    made = pb.Kill(
        id=kill.id,
        scope=pb.Scope(kind=KINDS[scope.kind], tenant=scope.tenant, value=value),
        state=STATES[kill.state(now_ns)],
        reason=kill.reason,
        incident=kill.incident,
        created_by=kill.created_by,
        confirmed_by=kill.confirmed_by,
        lifted_by=kill.lifted_by,
        lift_reason=kill.lift_reason,
        lift_confirmed_by=kill.lift_confirmed_by,
        sequence=kill.sequence,
        epoch=kill.epoch,
    )
    for name in ("created_at", "expires_at", "lifted_at"):
        if instant_ns := getattr(kill, f"{name}_ns"):
            getattr(made, name).FromNanoseconds(instant_ns)
    return made


def token(kill: KillRecord) -> str:
    """The page token after this kill."""
    return f"{kill.created_at_ns}.{kill.id}"


def place_of(page_token: str) -> tuple[int, str] | None:
    """Where a page begins: after the kill of this instant and id.

    Raises:
        RefusedError: INVALID_ARGUMENT; it is none of ours.
    """
    if not page_token:
        return None
    found = _TOKEN.fullmatch(page_token)
    if found is None:
        raise malformed("page_token is not one")
    return int(found[1]), found[2]
