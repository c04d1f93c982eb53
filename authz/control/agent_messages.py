"""Agents as messages of the API, and back.

Decides how each field reads, and refuses what has no meaning. Pure; what an agent may be is the registry's to say.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from authz._gen.authz.control.v1 import agents_pb2 as pb
from authz.errors import InvalidRequestError
from authz.identity import credentials
from authz.identity.registry import Agent, Ceiling, Update
from authz.model import Autonomy, Lifecycle
from authz.reasons import AGENT_INVALID, CREDENTIAL_INVALID

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from authz.identity.credentials import Credential
    from authz.identity.registry import Version

AUTONOMIES: Final = {
    pb.AUTONOMY_OBSERVE: Autonomy.OBSERVE,
    pb.AUTONOMY_ACT_WITH_APPROVAL: Autonomy.ACT_WITH_APPROVAL,
    pb.AUTONOMY_ACT_WITHIN_LIMITS: Autonomy.ACT_WITHIN_LIMITS,
    pb.AUTONOMY_AUTONOMOUS: Autonomy.AUTONOMOUS,
}
LIFECYCLES: Final = {
    pb.LIFECYCLE_ACTIVE: Lifecycle.ACTIVE,
    pb.LIFECYCLE_PAUSED: Lifecycle.PAUSED,
    pb.LIFECYCLE_RETIRED: Lifecycle.RETIRED,
}
_AUTONOMY_NUMBERS: Final = {word: number for number, word in AUTONOMIES.items()}
_LIFECYCLE_NUMBERS: Final = {word: number for number, word in LIFECYCLES.items()}


def lifecycle_of(number: int) -> Lifecycle:
    """The lifecycle of its number.

    Raises:
        InvalidRequestError: `AGENT_INVALID`; none is named.
    """
    found = LIFECYCLES.get(number)  # type: ignore[call-overload]  # any number may be sent
    if found is None:
        raise InvalidRequestError(AGENT_INVALID, "`lifecycle` is not one")
    return Lifecycle(found)


def autonomy_of(number: int) -> Autonomy:
    """The autonomy of its number.

    Raises:
        InvalidRequestError: `AGENT_INVALID`; none is named.
    """
    found = AUTONOMIES.get(number)  # type: ignore[call-overload]  # any number may be sent
    if found is None:
        raise InvalidRequestError(AGENT_INVALID, "`autonomy` is not one")
    return Autonomy(found)


def new_agent(message: pb.Agent, new_id: Callable[[], str], now_ns: int) -> Agent:
    """The agent to register; what the service sets itself is not read.

    Raises:
        InvalidRequestError: `AGENT_INVALID`, `AGENT_PARENT` or `CREDENTIAL_INVALID`.
    """
    if message.lifecycle not in (pb.LIFECYCLE_UNSPECIFIED, pb.LIFECYCLE_ACTIVE):
        raise InvalidRequestError(AGENT_INVALID, "a new agent is active")
    return Agent(
        tenant=message.tenant,
        id=message.id,
        owner=message.owner,
        purpose=message.purpose,
        autonomy=autonomy_of(message.autonomy) if message.autonomy else Autonomy.ACT_WITHIN_LIMITS,
        memory_writes_paused=message.memory_writes_paused,
        ceiling=ceiling_of(message.ceiling),
        credentials=tuple(new_credential(each, new_id, now_ns) for each in message.credentials),
        parents=tuple(message.parents),
    )


def new_credential(message: pb.Credential, new_id: Callable[[], str], now_ns: int) -> Credential:
    """The credential to take.

    Raises:
        InvalidRequestError: `CREDENTIAL_INVALID`.
    """
    if message.WhichOneof("form") == "public_jwk":
        return credentials.of_key(message.public_jwk, identifier=new_id(), now_ns=now_ns)
    if message.WhichOneof("form") == "certificate_sha256":
        return credentials.of_certificate(message.certificate_sha256, identifier=new_id(), now_ns=now_ns)
    raise InvalidRequestError(CREDENTIAL_INVALID, "a credential is a public_jwk or a certificate_sha256")


def update_of(request: pb.UpdateAgentRequest) -> Update:
    """What the request sets.

    Raises:
        InvalidRequestError: `AGENT_INVALID`.
    """
    return Update(
        owner=request.owner if request.HasField("owner") else None,
        purpose=request.purpose if request.HasField("purpose") else None,
        autonomy=autonomy_of(request.autonomy) if request.HasField("autonomy") else None,
        memory_writes_paused=request.memory_writes_paused if request.HasField("memory_writes_paused") else None,
        ceiling=ceiling_of(request.ceiling) if request.HasField("ceiling") else None,
    )


def ceiling_of(message: pb.Ceiling) -> Ceiling:
    """A ceiling; a list that is absent is none."""
    return Ceiling(
        scopes=tuple(message.scopes.names) if message.HasField("scopes") else None,
        tools=tuple(message.tools.names) if message.HasField("tools") else None,
    )


def agent_message(agent: Agent) -> pb.Agent:
    """An agent as the API says it."""
    message = pb.Agent(
        tenant=agent.tenant,
        id=agent.id,
        owner=agent.owner,
        purpose=agent.purpose,
        autonomy=_AUTONOMY_NUMBERS[agent.autonomy],
        lifecycle=_LIFECYCLE_NUMBERS[agent.lifecycle],
        memory_writes_paused=agent.memory_writes_paused,
        credentials=map(_credential_message, agent.credentials),
        version=agent.version,
        parents=agent.parents,
    )
    if agent.ceiling.scopes is not None:
        message.ceiling.scopes.CopyFrom(pb.Ceiling.Names(names=agent.ceiling.scopes))
    if agent.ceiling.tools is not None:
        message.ceiling.tools.CopyFrom(pb.Ceiling.Names(names=agent.ceiling.tools))
    message.created_at.FromNanoseconds(agent.created_ns)
    message.updated_at.FromNanoseconds(agent.updated_ns)
    return message


def version_messages(versions: Iterable[Version]) -> list[pb.AgentVersion]:
    """An agent's history as the API says it."""
    said = []
    for version in versions:
        message = pb.AgentVersion(
            version=version.version, by=version.by, reason=version.reason, changed=version.changed
        )
        message.at.FromNanoseconds(version.at_ns)
        said.append(message)
    return said


def _credential_message(credential: Credential) -> pb.Credential:
    message = pb.Credential(id=credential.id)
    if credential.public_jwk:
        message.public_jwk = credential.public_jwk
    else:
        message.certificate_sha256 = credential.certificate_sha256
    message.created_at.FromNanoseconds(credential.created_ns)
    if credential.revoked_ns is not None:
        message.revoked_at.FromNanoseconds(credential.revoked_ns)
    return message
