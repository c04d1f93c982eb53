"""The one table of who may call what. A method or path that is not in it does not exist.

Decides for each method who it is for, the permission it needs, in which tenants, what the record names as its subject,
and whether a call that succeeded is recorded (refusals always are). `tests/contracts/test_permissions.py` walks it.
Pure; reads requests by their fields and trusts nothing in them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from authz._gen.authz.control.v1.agents_pb2 import LIFECYCLE_RETIRED
from authz.control.callers import Kind, Permission
from authz.control.kill_messages import scope_of
from authz.errors import InvalidRequestError
from authz.model import PLATFORM

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Read: TypeAlias = Callable[[Any], str]
    Tenants: TypeAlias = Callable[[Any], tuple[str, ...]]

PACKAGE: Final = "authz.control.v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What one method asks of its caller.

    Args:
        audience: who may call it.
        permission: of an operator; may depend on the request.
        tenants: where the permission is needed; none at all means that having it anywhere is enough.
        subject: what the record names: an id, never a secret.
        is_recorded: whether it is an action, which is on record before it is carried out.
    """

    audience: Kind
    permission: Permission | Callable[[Any], Permission] = Permission.READ
    tenants: Tenants
    subject: Read
    is_recorded: bool

    def permission_for(self, request: Any) -> Permission:  # noqa: ANN401 - a message of any type
        """The permission that this request needs."""
        return self.permission if isinstance(self.permission, Permission) else self.permission(request)


def _field(path: str) -> Read:
    """The text at a dotted path of fields; an unset one is empty."""
    names = path.split(".")

    def read(request: Any) -> str:  # noqa: ANN401
        for name in names:
            request = getattr(request, name)
        return str(request)

    return read


def _nothing(_: object) -> str:
    return ""


def _named(path: str) -> Read:
    return _field(path) if path else _nothing


def _anywhere(_: object) -> tuple[str, ...]:
    return ()


def _platform(_: object) -> tuple[str, ...]:
    return (PLATFORM,)


def _in(path: str) -> Tenants:
    read = _field(path)
    return lambda request: (read(request),)


def _in_each(path: str, inner: str = "") -> Tenants:
    """Every item of a repeated field, or one field of each; an empty list means the platform."""

    def read(request: Any) -> tuple[str, ...]:  # noqa: ANN401
        items = getattr(request, path)
        return tuple(str(getattr(item, inner) if inner else item) for item in items) or (PLATFORM,)

    return read


def _scope(request: Any) -> str:  # noqa: ANN401 - any request of the table
    """What a kill is of, a token by its digest; nothing where that is no scope, which the service refuses."""
    try:
        return str(scope_of(request.scope))
    except InvalidRequestError:
        return ""


def _action(permission: Permission | Callable[[Any], Permission], tenants: Tenants, subject: str | Read = "") -> Rule:
    return Rule(
        audience=Kind.OPERATOR,
        permission=permission,
        tenants=tenants,
        subject=_named(subject) if isinstance(subject, str) else subject,
        is_recorded=True,
    )


def _reading(tenants: Tenants, subject: str = "", permission: Permission = Permission.READ) -> Rule:
    return Rule(
        audience=Kind.OPERATOR,
        permission=permission,
        tenants=tenants,
        subject=_named(subject),
        is_recorded=False,
    )


def _replication(tenants: Tenants = _platform) -> Rule:
    return Rule(audience=Kind.SIDECAR, tenants=tenants, subject=_nothing, is_recorded=False)


def _lifecycle(request: Any) -> Permission:  # noqa: ANN401
    """Retiring is final, so it is not a responder's."""
    return Permission.AGENTS if request.lifecycle == LIFECYCLE_RETIRED else Permission.PAUSE


def _overruling(request: Any) -> Permission:  # noqa: ANN401 - any request of the table
    """What the gates say is not a policy author's to overrule; the service asks for the same before it enforces."""
    return Permission.ENFORCE if request.overrule else Permission.ROLL_OUT


METHODS: Final[Mapping[str, Rule]] = {
    "Agents/CreateAgent": _action(Permission.AGENTS, _in("agent.tenant"), "agent.id"),
    "Agents/ReadAgent": _reading(_in("tenant"), "id"),
    "Agents/ListAgents": _reading(_in("tenant")),
    "Agents/UpdateAgent": _action(Permission.AGENTS, _in("tenant"), "id"),
    "Agents/SetLifecycle": _action(_lifecycle, _in("tenant"), "id"),
    "Agents/RotateCredential": _action(Permission.ROTATE, _in("tenant"), "id"),
    "Agents/ReadPassport": _reading(_in("tenant"), "id"),
    "Bundles/PushBundle": _action(Permission.POLICY, _in("tenant"), "name"),
    "Bundles/ListBundles": _reading(_in("tenant")),
    "Bundles/ReadBundle": _reading(_in("tenant"), "name"),
    "Bundles/ReadHistory": _reading(_in("tenant"), "name"),
    "Bundles/HoldRevision": _action(Permission.HOLD, _in("tenant"), "name"),
    "Bundles/ReleaseRevision": _action(Permission.HOLD, _in("tenant"), "name"),
    "Bundles/RetireRevision": _action(Permission.POLICY, _in("tenant"), "name"),
    "Keys/ListKeys": _reading(_anywhere),
    "Keys/RotateKeys": _action(Permission.ROTATE, _platform),
    "Kills/CreateKill": _action(Permission.KILL, _in("scope.tenant"), _scope),
    "Kills/ConfirmKill": _action(Permission.SIGN, _in("tenant"), "id"),
    "Kills/LiftKill": _action(Permission.KILL, _in("tenant"), "id"),
    "Kills/ReadKill": _reading(_in("tenant"), "id"),
    "Kills/ListKills": _reading(_in("tenant")),
    "Kills/WatchKills": _reading(_in("tenant")),
    "Operators/CreateOperator": _action(Permission.OPERATORS, _platform, "operator.id"),
    "Operators/ListOperators": _reading(_platform, permission=Permission.OPERATORS),
    "Operators/DeleteOperator": _action(Permission.OPERATORS, _platform, "id"),
    "Operators/WhoAmI": _reading(_anywhere, permission=Permission.IDENTIFY),
    "Operators/ListActions": _reading(_in("tenant")),
    "Rollouts/StartRollout": _action(_overruling, _in("tenant"), "candidate"),
    "Rollouts/ReadRollout": _reading(_in("tenant")),
    "Rollouts/WatchRollout": _reading(_in("tenant")),
    "Rollouts/ListTransitions": _reading(_in("tenant")),
    "Rollouts/PauseRollout": _action(Permission.ROLL_OUT, _in("tenant")),
    "Rollouts/ResumeRollout": _action(Permission.ROLL_OUT, _in("tenant")),
    "Rollouts/PromoteRollout": _action(_overruling, _in("tenant")),
    "Rollouts/StopWave": _action(Permission.ROLL_OUT, _in("tenant")),
    "Rollouts/AbortRollout": _action(Permission.ROLL_OUT, _in("tenant")),
    "Rollouts/ActivateStricter": _action(Permission.ACTIVATE, _in("tenant"), "candidate"),
    "Rollouts/RollBack": _action(Permission.ROLL_BACK, _in("tenant"), "to"),
    "Sidecars/InviteSidecar": _action(Permission.SIDECARS, _in_each("tenants"), "name"),
    "Sidecars/ListSidecars": _reading(_in("tenant")),
    "Sidecars/RemoveSidecar": _action(Permission.SIDECARS, _platform, "id"),
    "Sidecars/Enrol": Rule(audience=Kind.STRANGER, tenants=_anywhere, subject=_nothing, is_recorded=True),
    "Replication/Renew": _replication(),
    "Replication/ReadTrust": _replication(),
    "Replication/PullEntries": _replication(_in("stream")),
    "Replication/PullSnapshot": _replication(_in("stream")),
    "Replication/ReadNewest": _replication(_in("tenant")),
    "Replication/PullPiece": _replication(_in("tenant")),
    "Replication/Report": _replication(_in_each("applied", "stream")),
    "Replication/ReportBundles": _replication(_in_each("bundles", "tenant")),
    "Replication/PullCandidate": _replication(_in("tenant")),
    "Replication/ReportRollouts": _replication(_in_each("reports", "tenant")),
}
"""By SERVICE/METHOD, within the package."""

PATHS: Final[Mapping[str, str]] = {
    "/healthz": "says that the process is alive",
    "/readyz": "says whether calls are served, and which part is not well",
    "/metrics": "counts, with labels from fixed sets",
    "/.well-known/authz-control": "the addresses of the listeners",
    "/.well-known/oauth-authorization-server": "the issuer's metadata (RFC 8414)",
    "/authorize": "refuses everything",
    "/jwks": "public keys",
    "/token": "authenticates its clients itself (RFC 6749 section 3.2.1)",
    "/introspect": "authenticates its clients itself (RFC 7662 section 2.1)",
    "/revoke": "authenticates its clients itself (RFC 7009 section 2.1)",
    "/bundles/{name}": "asks the dispatcher for ReadBundle or ListBundles first",
    "/bundles/{tenant}/{name}": "asks the dispatcher for ReadBundle or ListBundles first",
    "/deltas/{name}": "asks the dispatcher for ReadBundle or ListBundles first",
    "/deltas/{tenant}/{name}": "asks the dispatcher for ReadBundle or ListBundles first",
}
"""The other paths of the HTTP listener, open to strangers, and why they may be. The app serves none but these."""


def rule_for(method: str) -> Rule | None:
    """The rule of a full method name such as `/authz.control.v1.Kills/CreateKill`; None where there is no such."""
    package, _, name = method.removeprefix("/").rpartition(".")
    return METHODS.get(name) if package == PACKAGE else None
