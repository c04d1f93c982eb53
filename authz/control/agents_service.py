"""Agents: registered, changed, paused, given new credentials, and shown whole in their passports.

Decides that what a change means for decisions and for tokens is in the ledger before the change is acknowledged, and
that a rotated credential takes its tokens with it. Who may call is the permission table's; what an agent may be is the
registry's. Must never be given a private key: it would refuse it.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from authz._gen.authz.control.v1 import agents_pb2 as pb
from authz.control.agent_messages import (
    agent_message,
    lifecycle_of,
    new_agent,
    new_credential,
    update_of,
    version_messages,
)
from authz.control.refusals import Code, RefusedError, malformed
from authz.errors import InvalidRequestError
from authz.identity.registry import is_text, moved, rotated, updated
from authz.identity.registry_sql import Because
from authz.reasons import (
    AGENT_CHANGED,
    AGENT_EXISTS,
    AGENT_INVALID,
    AGENT_PARENT,
    AGENT_RETIRED,
    AGENT_UNKNOWN,
    CREDENTIAL_INVALID,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from authz.control.agent_ledger import AgentLedger
    from authz.control.callers import Caller
    from authz.database import Database
    from authz.identity.registry import Agent
    from authz.identity.registry_sql import Registry
    from authz.identity.tokens_sql import LiveTokens

PAGE: Final = 50
MAX_PAGE: Final = 500
ROTATED: Final = "CREDENTIAL_ROTATED"
"""Reason code of the kills of a rotated credential's tokens."""

_CODES: Final = {
    AGENT_CHANGED: Code.ABORTED,
    AGENT_EXISTS: Code.ALREADY_EXISTS,
    AGENT_INVALID: Code.INVALID_ARGUMENT,
    AGENT_PARENT: Code.FAILED_PRECONDITION,
    AGENT_RETIRED: Code.FAILED_PRECONDITION,
    AGENT_UNKNOWN: Code.NOT_FOUND,
    CREDENTIAL_INVALID: Code.INVALID_ARGUMENT,
}


class AgentsService:
    """`authz.control.v1.Agents`.

    Args:
        new_id: of a credential.
    """

    def __init__(
        self,
        database: Database,
        registry: Registry,
        tokens: LiveTokens,
        ledger: AgentLedger,
        new_id: Callable[[], str],
    ) -> None:
        self._database = database
        self._registry = registry
        self._tokens = tokens
        self._ledger = ledger
        self._new_id = new_id

    def create_agent(self, request: pb.CreateAgentRequest, caller: Caller) -> pb.Agent:
        """Register one."""
        with _refusals(), self._database.write() as connection:
            agent = new_agent(request.agent, self._new_id, self._database.now_ns(connection))
            made = self._registry.add(connection, agent, _because(caller, request))
        self._ledger.wake()
        return agent_message(made)

    def read_agent(self, request: pb.ReadAgentRequest, _caller: Caller) -> pb.Agent:
        """One."""
        with _refusals(), self._database.read() as connection:
            return agent_message(self._registry.find(connection, request.tenant, request.id))

    def list_agents(self, request: pb.ListAgentsRequest, _caller: Caller) -> pb.ListAgentsResponse:
        """A page of a tenant's, by id."""
        size = min(request.page_size or PAGE, MAX_PAGE)
        if size < 1:
            raise malformed("`page_size` is negative")
        with _refusals(), self._database.read() as connection:
            lifecycle = lifecycle_of(request.lifecycle) if request.lifecycle else None
            page = self._registry.page(
                connection, request.tenant, after=request.page_token, size=size, lifecycle=lifecycle
            )
            stopped = self._ledger.stopped(connection, page)
        return pb.ListAgentsResponse(
            agents=map(agent_message, page),
            next_page_token=page[-1].id if len(page) == size else "",
            stopped=[pb.StoppedAgent(id=each, kills=kills) for each, kills in stopped.items()],
        )

    def update_agent(self, request: pb.UpdateAgentRequest, caller: Caller) -> pb.Agent:
        """Change what is set."""

        def change(before: Agent, now_ns: int) -> Agent:
            if request.version not in (0, before.version):
                raise InvalidRequestError(AGENT_CHANGED)
            return updated(before, update_of(request), now_ns=now_ns)

        return self._change(request, caller, change)

    def set_lifecycle(self, request: pb.SetLifecycleRequest, caller: Caller) -> pb.Agent:
        """Pause, resume or retire; from the next call on."""
        return self._change(
            request, caller, lambda before, now_ns: moved(before, lifecycle_of(request.lifecycle), now_ns=now_ns)
        )

    def rotate_credential(self, request: pb.RotateCredentialRequest, caller: Caller) -> pb.Agent:
        """Revoke credentials with the tokens that they got, and take a new one."""

        def change(before: Agent, now_ns: int) -> Agent:
            new = new_credential(request.credential, self._new_id, now_ns) if request.HasField("credential") else None
            return rotated(before, new, revoke=request.revoke, now_ns=now_ns)

        return self._change(request, caller, change)

    def read_passport(self, request: pb.ReadPassportRequest, _caller: Caller) -> pb.Passport:
        """Everything that is known of one."""
        tenant, name = request.tenant, request.id
        with _refusals(), self._database.read() as connection:
            line = self._registry.line(connection, tenant, name)
            return pb.Passport(
                agent=agent_message(line[-1]),
                versions=version_messages(self._registry.versions(connection, tenant, name)),
                kills=self._ledger.kills(connection, line),
                live_tokens=self._tokens.count(connection, tenant, name),
                children=self._registry.below(connection, tenant, name, directly=True),
            )

    def _change(
        self,
        request: pb.UpdateAgentRequest | pb.SetLifecycleRequest | pb.RotateCredentialRequest,
        caller: Caller,
        change: Callable[[Agent, int], Agent],
    ) -> pb.Agent:
        with _refusals(), self._database.write() as connection:
            before = self._registry.line(connection, request.tenant, request.id, hold=True)[-1]
            after = change(before, self._database.now_ns(connection))
            dead = {*before.live_credentials} - {*after.live_credentials}
            ended = self._tokens.revoke_credentials(connection, after.tenant, after.id, {each.id for each in dead})
            self._registry.change(connection, before, after, _because(caller, request))
            self._ledger.kill_tokens(connection, ended, ROTATED)
        self._ledger.wake()
        return agent_message(after)


def _because(caller: Caller, request: Any) -> Because:  # noqa: ANN401 - any request with a reason
    if not is_text(request.reason):
        raise malformed("`reason` is too long, or not printable")
    return Because(by=caller.id, reason=request.reason)


@contextmanager
def _refusals() -> Iterator[None]:
    """The registry's refusals as the API's."""
    try:
        yield
    except InvalidRequestError as error:
        raise RefusedError(_CODES.get(error.reason, Code.INVALID_ARGUMENT), error.reason, error.detail) from None
