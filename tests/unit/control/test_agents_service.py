from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy.exc import IntegrityError

from authz._gen.authz.control.v1 import agents_pb2 as pb
from authz._gen.authz.control.v1 import keys_pb2
from authz.control.keys_service import KeysService
from authz.control.refusals import Code, RefusedError
from authz.database import Database
from tests.identity_fakes import signing_key
from tests.token_desk import ADMIN, TokenDesk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def desk(sqlite_url: str) -> Iterator[TokenDesk]:
    database = Database(sqlite_url)
    yield TokenDesk(database)
    database.close()


def refused(call: Callable[[Any, Any], object], request: Any) -> tuple[Code, str]:
    with pytest.raises(RefusedError) as caught:
        call(request, ADMIN)
    return caught.value.code, caught.value.reason.code


def update(**fields: Any) -> pb.UpdateAgentRequest:
    return pb.UpdateAgentRequest(**({"tenant": "acme", "id": "planner"} | fields))


def test_an_agent_is_answered_as_it_stands(desk: TokenDesk) -> None:
    made = desk.register(purpose="plans", autonomy=pb.AUTONOMY_OBSERVE, memory_writes_paused=True)
    read = desk.issuer.agents.read_agent(pb.ReadAgentRequest(tenant="acme", id="planner"), ADMIN)
    assert made == read
    assert (read.lifecycle, read.autonomy, read.version) == (pb.LIFECYCLE_ACTIVE, pb.AUTONOMY_OBSERVE, 1)
    assert read.memory_writes_paused
    assert json.loads(read.credentials[0].public_jwk)["alg"] == "EdDSA"
    assert not read.ceiling.HasField("tools")


@pytest.mark.parametrize(
    ("agent", "code", "reason"),
    [
        ({"id": "Planner"}, Code.ALREADY_EXISTS, "AGENT_EXISTS"),
        ({"id": ""}, Code.INVALID_ARGUMENT, "AGENT_INVALID"),
        ({"owner": ""}, Code.INVALID_ARGUMENT, "AGENT_INVALID"),
        ({"tenant": ""}, Code.INVALID_ARGUMENT, "AGENT_INVALID"),
        ({"lifecycle": pb.LIFECYCLE_PAUSED}, Code.INVALID_ARGUMENT, "AGENT_INVALID"),
        ({"autonomy": 99}, Code.INVALID_ARGUMENT, "AGENT_INVALID"),
        ({"parents": ["nobody"]}, Code.FAILED_PRECONDITION, "AGENT_PARENT"),
        ({"credentials": [pb.Credential()]}, Code.INVALID_ARGUMENT, "CREDENTIAL_INVALID"),
        ({"credentials": [pb.Credential(public_jwk="{}")]}, Code.INVALID_ARGUMENT, "CREDENTIAL_INVALID"),
        ({"credentials": [pb.Credential(certificate_sha256="x")]}, Code.INVALID_ARGUMENT, "CREDENTIAL_INVALID"),
    ],
)
def test_what_may_not_be_registered_is_refused_by_its_reason(
    desk: TokenDesk, agent: dict[str, Any], code: Code, reason: str
) -> None:
    desk.register()
    wanted = pb.Agent(**({"tenant": "acme", "id": "other", "owner": "carol"} | agent))
    assert refused(desk.issuer.agents.create_agent, pb.CreateAgentRequest(agent=wanted)) == (code, reason)


def test_what_the_service_sets_itself_is_not_taken_from_the_request(desk: TokenDesk) -> None:
    made = desk.register(version=9)
    assert made.version == 1
    assert made.credentials[0].id


def test_a_change_of_an_agent_that_changed_meanwhile_is_aborted(desk: TokenDesk) -> None:
    desk.register()
    agents = desk.issuer.agents
    assert agents.update_agent(update(version=1, owner="ben"), ADMIN).version == 2
    assert refused(agents.update_agent, update(version=1, owner="cid")) == (Code.ABORTED, "AGENT_CHANGED")
    assert agents.update_agent(update(owner="cid"), ADMIN).version == 3


@pytest.mark.parametrize(
    ("fields", "code", "reason"),
    [
        ({"id": "nobody"}, Code.NOT_FOUND, "AGENT_UNKNOWN"),
        ({"tenant": "globex"}, Code.NOT_FOUND, "AGENT_UNKNOWN"),
        ({"autonomy": pb.AUTONOMY_UNSPECIFIED}, Code.INVALID_ARGUMENT, "AGENT_INVALID"),
        ({"owner": ""}, Code.INVALID_ARGUMENT, "AGENT_INVALID"),
        ({"owner": "ben", "reason": "x" * 2000}, Code.INVALID_ARGUMENT, "CONTROL_REQUEST"),
        ({"owner": "ben", "reason": "a\u202eb"}, Code.INVALID_ARGUMENT, "CONTROL_REQUEST"),
    ],
)
def test_an_update_that_has_no_meaning_is_refused(
    desk: TokenDesk, fields: dict[str, Any], code: Code, reason: str
) -> None:
    desk.register()
    assert refused(desk.issuer.agents.update_agent, update(**fields)) == (code, reason)


def test_a_retired_agent_is_beyond_change(desk: TokenDesk) -> None:
    desk.register()
    desk.move(pb.LIFECYCLE_RETIRED)
    assert refused(desk.issuer.agents.update_agent, update(owner="ben"))[1] == "AGENT_RETIRED"
    request = pb.SetLifecycleRequest(tenant="acme", id="planner", lifecycle=pb.LIFECYCLE_UNSPECIFIED)
    assert refused(desk.issuer.agents.set_lifecycle, request)[1] == "AGENT_INVALID"


def test_agents_are_read_page_by_page(desk: TokenDesk) -> None:
    for number in range(5):
        desk.register(f"a{number}", key=signing_key("EdDSA", number))
    desk.move(pb.LIFECYCLE_PAUSED, "a2")
    agents, seen = desk.issuer.agents, []
    request = pb.ListAgentsRequest(tenant="acme", page_size=2)
    while True:
        answer = agents.list_agents(request, ADMIN)
        seen += [agent.id for agent in answer.agents]
        request.page_token = answer.next_page_token
        if not request.page_token:
            break
    assert seen == ["a0", "a1", "a2", "a3", "a4"]
    paused = agents.list_agents(pb.ListAgentsRequest(tenant="acme", lifecycle=pb.LIFECYCLE_PAUSED), ADMIN)
    assert [agent.id for agent in paused.agents] == ["a2"]
    assert refused(agents.list_agents, pb.ListAgentsRequest(tenant="acme", page_size=-1))[0] is Code.INVALID_ARGUMENT
    assert refused(agents.list_agents, pb.ListAgentsRequest(tenant="acme", lifecycle=9))[1] == "AGENT_INVALID"  # type: ignore[arg-type]


def test_a_passport_names_the_kills_that_cover_the_agent(desk: TokenDesk) -> None:
    desk.register()
    desk.register("reader", parents=["planner"])
    kills = [desk.kill("agent", "planner"), desk.kill("subtree", "planner"), desk.kill("tenant")]
    desk.kill("agent", "somebody-else")
    assert [*desk.passport().kills] == kills
    assert [*desk.passport("reader").kills] == kills
    desk.lift(kills[0])
    assert [*desk.passport().kills] == kills[1:]


def test_a_retired_agents_tokens_die_with_its_credentials(desk: TokenDesk) -> None:
    desk.register()
    desk.token()
    assert desk.passport().live_tokens == 1
    desk.move(pb.LIFECYCLE_RETIRED)
    assert desk.passport().live_tokens == 0
    assert all(each.HasField("revoked_at") for each in desk.passport().agent.credentials)


def test_keys_that_somebody_else_changed_at_once_are_aborted(desk: TokenDesk) -> None:
    class Raced:
        def rotate(self, *_: object, **__: object) -> None:
            raise IntegrityError("insert", {}, ValueError())

    service = KeysService(desk.database, Raced())  # type: ignore[arg-type]
    assert refused(service.rotate_keys, keys_pb2.RotateKeysRequest()) == (Code.ABORTED, "KEYS_CHANGED")
