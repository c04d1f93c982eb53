"""Who calls the control plane, and what that lets them do.

Decides which permissions a role has and how far a grant reaches: to one tenant, or with `*` to all of them and to the
platform. Pure. Tenants are compared byte for byte. What a caller may not do and what does not exist have one answer,
so that nobody learns another tenant's names by asking.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from authz.control.refusals import Code, RefusedError
from authz.model import PLATFORM
from authz.reasons import CONTROL_FORBIDDEN

if TYPE_CHECKING:
    from collections.abc import Mapping

ALL_TENANTS: Final = "*"


class Permission(StrEnum):
    """What a method may need."""

    IDENTIFY = "identify"
    """Ask who one is."""
    READ = "read"
    KILL = "kill"
    """Kill and lift what the guard leaves to one person."""
    PAUSE = "pause"
    """Pause and resume agents."""
    SIGN = "sign"
    """Be a signer of a guarded kill or lift."""
    ROTATE = "rotate"
    """Rotate credentials and signing keys."""
    AGENTS = "agents"
    """Register, change and retire agents."""
    POLICY = "policy"
    """Publish and retire policy bundles."""
    HOLD = "hold"
    """Put what was published under legal hold, and release it."""
    ROLL_OUT = "roll_out"
    """Begin rollouts and move them through shadow and canary waves."""
    ROLL_BACK = "roll_back"
    """Bring back a revision that was here before."""
    ACTIVATE = "activate"
    """Have a stricter revision answer at once, beside the one before."""
    ENFORCE = "enforce"
    """Have a candidate answer everybody, and overrule its gates."""
    SIDECARS = "sidecars"
    """Invite and remove sidecars."""
    OPERATORS = "operators"
    """Make and remove operators."""


class Role(StrEnum):
    """What an operator is; each has what its permissions below say."""

    VIEWER = "viewer"
    POLICY_AUTHOR = "policy-author"
    RESPONDER = "responder"
    SECURITY_LEAD = "security-lead"
    ADMIN = "admin"


_VIEWER: Final = frozenset({Permission.IDENTIFY, Permission.READ})
_POLICY_AUTHOR: Final = _VIEWER | {Permission.POLICY, Permission.ROLL_OUT}
_RESPONDER: Final = _VIEWER | {Permission.KILL, Permission.PAUSE, Permission.ROLL_BACK, Permission.ACTIVATE}
_SECURITY_LEAD: Final = _RESPONDER | {
    Permission.SIGN,
    Permission.ROTATE,
    Permission.HOLD,
    Permission.ROLL_OUT,
    Permission.ENFORCE,
}

PERMISSIONS: Final[Mapping[Role, frozenset[Permission]]] = {
    Role.VIEWER: _VIEWER,
    Role.POLICY_AUTHOR: _POLICY_AUTHOR,
    Role.RESPONDER: _RESPONDER,
    Role.SECURITY_LEAD: _SECURITY_LEAD,
    Role.ADMIN: frozenset(Permission),
}


class Kind(StrEnum):
    """How somebody is known."""

    OPERATOR = "operator"
    SIDECAR = "sidecar"
    STRANGER = "stranger"
    """Nobody proved anything; only public methods are open."""


@dataclass(frozen=True, slots=True)
class Grant:
    """A role in one tenant, or with `*` everywhere."""

    role: Role
    tenant: str

    def reaches(self, tenant: str) -> bool:
        """Whether it holds there."""
        return self.tenant == ALL_TENANTS or (tenant == self.tenant and tenant != PLATFORM)


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """One caller of one call.

    Args:
        id: the operator's or the sidecar's; empty for a stranger.
        grants: an operator's.
        tenants: whose streams a sidecar reads; `*` is every tenant's. The platform's is everybody's.
        automatic: a program, which can be no signer of a guarded kill.
    """

    kind: Kind
    id: str = ""
    grants: tuple[Grant, ...] = ()
    tenants: frozenset[str] = frozenset()
    automatic: bool = False
    gone: threading.Event = field(default_factory=threading.Event, compare=False, repr=False)
    """Set once nobody waits for the answer: the client hung up, its deadline passed, or the service stops."""

    def may(self, permission: Permission, tenant: str) -> bool:
        """Whether this operator has the permission there."""
        return any(permission in PERMISSIONS[grant.role] and grant.reaches(tenant) for grant in self.grants)

    def may_somewhere(self, permission: Permission) -> bool:
        """Whether this operator has the permission in any tenant."""
        return any(permission in PERMISSIONS[grant.role] for grant in self.grants)

    def follows(self, stream: str) -> bool:
        """Whether this sidecar reads that stream."""
        return stream == PLATFORM or stream in self.tenants or ALL_TENANTS in self.tenants

    def require(self, permission: Permission, tenant: str) -> None:
        """For what only the service can know to be needed.

        Raises:
            RefusedError: PERMISSION_DENIED.
        """
        if not self.may(permission, tenant):
            raise RefusedError(Code.PERMISSION_DENIED, CONTROL_FORBIDDEN)

    def stays(self, seconds: float) -> bool:
        """Wait so long; whether the caller still waits for an answer then. For methods that wait or stream."""
        return not self.gone.wait(seconds)


STRANGER: Final = Caller(kind=Kind.STRANGER)
