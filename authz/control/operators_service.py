"""Operators: who may operate the control plane, and what was done.

Decides what an operator may be known by and that a credential is shown once. The permission table lets admins of all
tenants in alone, so nobody hands out more than is theirs. Must never store a credential, nor let an operator be known
by a sidecar's name.
"""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING, Any, Final

from authz._gen.authz.control.v1 import operators_pb2 as pb
from authz.control.actions_sql import MAX_PAGE
from authz.control.authentication import CREDENTIAL_PREFIX, credential_sha256
from authz.control.callers import ALL_TENANTS, Grant, Role
from authz.control.operators_sql import Operator
from authz.control.refusals import malformed
from authz.enrolment.names import SIDECAR_PREFIX
from authz.model import PLATFORM

if TYPE_CHECKING:
    from collections.abc import Callable

    from authz.clock import Clock
    from authz.control.actions_sql import Action, Actions
    from authz.control.callers import Caller
    from authz.control.operators_sql import Operators

ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,127}")
CREDENTIAL_BYTES: Final = 32
DEFAULT_LIFE_S: Final = 90 * 24 * 3600
PAGE: Final = 50
MAX_GRANTS: Final = 100
MAX_NAME: Final = 256

_ROLES: Final = {
    pb.ROLE_VIEWER: Role.VIEWER,
    pb.ROLE_POLICY_AUTHOR: Role.POLICY_AUTHOR,
    pb.ROLE_RESPONDER: Role.RESPONDER,
    pb.ROLE_SECURITY_LEAD: Role.SECURITY_LEAD,
    pb.ROLE_ADMIN: Role.ADMIN,
}
_NUMBERS: Final = {role: number for number, role in _ROLES.items()}


class OperatorsService:
    """`authz.control.v1.Operators`.

    Args:
        random: so many random bytes.
    """

    def __init__(self, operators: Operators, actions: Actions, clock: Clock, random: Callable[[int], bytes]) -> None:
        self._operators = operators
        self._actions = actions
        self._unix_ns = clock.unix_ns
        self._random = random

    def create_operator(self, request: pb.CreateOperatorRequest, _caller: Caller) -> pb.CreateOperatorResponse:
        """Make one; a credential is in the answer and nowhere else."""
        asked = request.operator
        if not ID.fullmatch(asked.id):
            raise malformed("operator.id is not 1 to 128 letters, digits and ._@+-")
        credential = new_credential(self._random) if asked.WhichOneof("identity") == "credential" else ""
        life_s = request.expires_in.ToSeconds() if request.HasField("expires_in") else 0
        if credential and not life_s:
            life_s = DEFAULT_LIFE_S
        added = self._operators.add(
            Operator(
                id=asked.id,
                **_known_by(asked, credential),
                grants=_grants(asked),
                automatic=asked.automatic,
                expires_at_ns=self._unix_ns() + life_s * 1_000_000_000 if life_s else None,
            )
        )
        return pb.CreateOperatorResponse(operator=_message(added), credential=credential)

    def list_operators(self, _request: pb.ListOperatorsRequest, _caller: Caller) -> pb.ListOperatorsResponse:
        """All of them."""
        return pb.ListOperatorsResponse(operators=map(_message, self._operators.list()))

    def delete_operator(self, request: pb.DeleteOperatorRequest, _caller: Caller) -> pb.Operator:
        """Refuse one from now on."""
        return _message(self._operators.remove(request.id))

    def who_am_i(self, _request: pb.WhoAmIRequest, caller: Caller) -> pb.Operator:
        """The caller."""
        return pb.Operator(id=caller.id, grants=map(_grant, caller.grants), automatic=caller.automatic)

    def list_actions(self, request: pb.ListActionsRequest, _caller: Caller) -> pb.ListActionsResponse:
        """A page of the record; of all tenants, for who may see the platform."""
        size = min(request.page_size or PAGE, MAX_PAGE)
        if size < 1 or not (request.page_token == "" or _is_number(request.page_token)):
            raise malformed("page_size or page_token is not one")
        tenant = None if request.tenant == PLATFORM else request.tenant
        before = int(request.page_token) if request.page_token else None
        page = self._actions.page(tenant, before=before, size=size)
        token = str(page[-1].number) if len(page) == size else ""
        return pb.ListActionsResponse(actions=map(_action, page), next_page_token=token)


def new_credential(random: Callable[[int], bytes]) -> str:
    """A credential to show once."""
    return CREDENTIAL_PREFIX + base64.urlsafe_b64encode(random(CREDENTIAL_BYTES)).rstrip(b"=").decode()


def _known_by(asked: pb.Operator, credential: str) -> dict[str, Any]:
    """The columns of what it is known by."""
    identity = asked.WhichOneof("identity")
    if identity == "credential" and asked.credential:
        return {"credential_sha256": credential_sha256(credential)}
    if identity == "subject" and asked.subject.issuer and asked.subject.subject:
        if max(len(asked.subject.issuer), len(asked.subject.subject)) > MAX_NAME:
            raise malformed(f"operator.subject is over {MAX_NAME} characters")
        return {"issuer": asked.subject.issuer, "subject": asked.subject.subject}
    if identity == "certificate_san" and 0 < len(asked.certificate_san) <= MAX_NAME:
        if asked.certificate_san.startswith(SIDECAR_PREFIX):
            raise malformed("operator.certificate_san is a sidecar's name")
        return {"certificate_san": asked.certificate_san}
    raise malformed("operator is known by exactly one of subject, certificate_san and credential")


def _grants(asked: pb.Operator) -> tuple[Grant, ...]:
    if not 0 < len(asked.grants) <= MAX_GRANTS:
        raise malformed(f"operator.grants are none, or over {MAX_GRANTS}")
    if any(each.role not in _ROLES or not each.tenant for each in asked.grants):
        raise malformed(f"each grant names a role and a tenant, or `{ALL_TENANTS}`")
    return tuple(dict.fromkeys(Grant(_ROLES[each.role], each.tenant) for each in asked.grants))


def _grant(grant: Grant) -> pb.Grant:
    return pb.Grant(role=_NUMBERS[grant.role], tenant=grant.tenant)


def _message(operator: Operator) -> pb.Operator:
    message = pb.Operator(id=operator.id, grants=map(_grant, operator.grants), automatic=operator.automatic)
    message.created_at.FromNanoseconds(operator.created_at_ns)
    if operator.expires_at_ns is not None:
        message.expires_at.FromNanoseconds(operator.expires_at_ns)
    if operator.issuer is not None and operator.subject is not None:
        message.subject.CopyFrom(pb.Subject(issuer=operator.issuer, subject=operator.subject))
    elif operator.certificate_san is not None:
        message.certificate_san = operator.certificate_san
    elif operator.credential_sha256 is not None:
        message.credential = True
    return message


def _action(action: Action) -> pb.Action:
    names = ("operator", "method", "tenant", "outcome", "subject", "reason")
    message = pb.Action(**{name: getattr(action, name) for name in names})
    message.at.FromNanoseconds(action.at_ns)
    return message


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 18  # noqa: PLR2004 - below 2^63
