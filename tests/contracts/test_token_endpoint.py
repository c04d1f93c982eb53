"""The token endpoint over SQLite and a real PostgreSQL: who gets a token, who gets none, and what ends one."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from authz._gen.authz.control.v1 import agents_pb2 as pb
from authz.control.config import Tokens
from authz.encoding import token_digest
from authz.identity.oauth.requests import ACCESS_TOKEN_TYPE, TOKEN_EXCHANGE
from authz.revocation.entries import AgentEntry, KillEntry
from authz.revocation.scopes import ScopeKind
from tests.identity_fakes import reason_of, signing_key
from tests.registry_fakes import SERVER, assertion, form
from tests.token_desk import ADMIN, TokenDesk, claims_of, refused, taken

if TYPE_CHECKING:
    from authz.database import Database


OTHER = signing_key("EdDSA", 9)


@pytest.fixture
def desk(database: Database) -> TokenDesk:
    return TokenDesk(database)


@pytest.fixture
def planner(desk: TokenDesk) -> TokenDesk:
    """A desk with one registered agent."""
    desk.register()
    return desk


# --- what is granted


def test_rfc6749_5_1_a_client_gets_a_token_that_the_decision_service_takes(planner: TokenDesk) -> None:
    answer = planner.ask(scope="read write", session="s-1")
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert (answer.headers["cache-control"], answer.headers["pragma"]) == ("no-store", "no-cache")
    said = answer.json
    assert (said["token_type"], said["expires_in"], said["scope"]) == ("Bearer", 300, "read write")
    known = taken(planner, said["access_token"])
    assert (known.tenant, known.agent, known.subject, known.client) == ("acme", "planner", "planner", "acme/planner")
    assert (known.session, known.scopes, known.parents) == ("s-1", ("read", "write"), ())


@pytest.mark.parametrize("algorithm", ["EdDSA", "ES256", "RS256", "PS256"])
def test_an_agent_proves_itself_with_any_algorithm_of_the_list(desk: TokenDesk, algorithm: str) -> None:
    desk.register(key=signing_key(algorithm))
    assert taken(desk, desk.token(key=signing_key(algorithm))).agent == "planner"


def test_tokens_are_signed_with_es256_where_that_is_configured(database: Database) -> None:
    desk = TokenDesk(database, Tokens(issuer=SERVER, algorithm="ES256"))
    desk.register()
    assert taken(desk, desk.token()).agent == "planner"


def test_rfc8707_a_resource_becomes_its_audience(database: Database) -> None:
    desk = TokenDesk(database, Tokens(issuer=SERVER, resources={"https://tools.example/mcp": "tools"}))
    desk.register()
    assert taken(desk, desk.token(resource="https://tools.example/mcp"), "tools").agent == "planner"
    refused(desk.ask(resource="https://evil.example"), "invalid_target")
    refused(desk.ask(resource=["https://tools.example/mcp", "https://tools.example/mcp"]), "invalid_target")


def test_a_token_lives_as_long_as_asked_and_900_seconds_at_most(planner: TokenDesk) -> None:
    assert planner.ask(expires_in="60").json["expires_in"] == 60
    assert planner.ask(expires_in="5000").json["expires_in"] == 900


def test_each_token_has_a_jti_of_its_own(planner: TokenDesk) -> None:
    assert claims_of(planner.token())["jti"] != claims_of(planner.token())["jti"]


# --- who gets none


@pytest.mark.parametrize("lifecycle", [pb.LIFECYCLE_PAUSED, pb.LIFECYCLE_RETIRED])
def test_an_agent_that_is_not_active_gets_no_token(planner: TokenDesk, lifecycle: pb.Lifecycle) -> None:
    planner.move(lifecycle)
    if lifecycle == pb.LIFECYCLE_PAUSED:
        refused(planner.ask(), "unauthorized_client")
        planner.move(pb.LIFECYCLE_ACTIVE)
        assert planner.ask().status == 200
    else:
        refused(planner.ask(), "invalid_client", 401)


@pytest.mark.parametrize(
    ("kind", "value"), [("agent", "planner"), ("subtree", "planner"), ("tenant", ""), ("session", "s-1")]
)
def test_a_killed_agent_gets_no_token_until_the_kill_is_lifted(planner: TokenDesk, kind: str, value: str) -> None:
    kill = planner.kill(kind, value)
    refused(planner.ask(session="s-1"), "unauthorized_client")
    planner.lift(kill)
    assert planner.ask(session="s-1").status == 200


def test_a_global_kill_stops_every_agent(planner: TokenDesk) -> None:
    planner.kill("global", tenant="")
    refused(planner.ask(), "unauthorized_client")


@pytest.mark.parametrize(
    ("kind", "value", "tenant"),
    [
        ("agent", "Planner", "acme"),
        ("agent", "plan", "acme"),
        ("agent", "planner", "globex"),
        ("session", "s-2", "acme"),
    ],
)
def test_e10_a_kill_of_something_else_stops_nobody(planner: TokenDesk, kind: str, value: str, tenant: str) -> None:
    planner.kill(kind, value, tenant)
    assert planner.ask(session="s-1").status == 200


def test_an_agents_tokens_are_bounded(database: Database) -> None:
    desk = TokenDesk(database, Tokens(issuer=SERVER, live=2))
    desk.register()
    desk.token()
    desk.token()
    refused(desk.ask(), "invalid_request", 429)


# --- spawned agents


def test_rfc8693_a_parent_spawns_a_child_and_the_child_a_grandchild(planner: TokenDesk) -> None:
    own = planner.token(scope="read write", session="s-1")
    answer = planner.exchange(own, "reader", scope="read")
    assert answer.json["issued_token_type"] == ACCESS_TOKEN_TYPE
    child = taken(planner, answer.json["access_token"])
    assert (child.agent, child.subject, child.parents, child.session) == ("reader", "planner", ("planner",), "s-1")
    assert child.scopes == ("read",)
    grandchild = taken(planner, planner.spawn(answer.json["access_token"], "digger"))
    assert (grandchild.agent, grandchild.parents, grandchild.scopes) == ("digger", ("planner", "reader"), ("read",))
    passport = planner.passport()
    assert [*passport.children] == ["reader"]
    assert planner.passport("digger").agent.parents == ["planner", "reader"]
    assert planner.passport("digger").versions[0].by == "agent:acme/planner"


def test_a_spawned_agent_is_told_to_every_sidecar_with_its_parents_ceilings(desk: TokenDesk) -> None:
    desk.register(ceiling=pb.Ceiling(tools=pb.Ceiling.Names(names=["files/*"])), autonomy=pb.AUTONOMY_OBSERVE)
    desk.spawn(desk.token(), "reader")
    told = desk.entries()[-1]
    assert isinstance(told, AgentEntry)
    assert (told.agent, told.facts.tools_ceiling, told.facts.autonomy.value) == ("reader", ("files/*",), "observe")


def test_a_child_is_spawned_once_and_gets_as_many_tokens_as_it_needs(planner: TokenDesk) -> None:
    own = planner.token()
    planner.spawn(own, "reader")
    planner.spawn(own, "reader")
    assert len(planner.passport("reader").versions) == 1
    assert planner.passport("reader").live_tokens == 2


def test_a_child_with_a_key_of_its_own_exchanges_by_itself_and_asks_for_itself(planner: TokenDesk) -> None:
    planner.register("reader", key=OTHER, parents=["planner"])
    own = planner.token(scope="read")
    answer = planner.exchange(own, by="reader", key=OTHER)
    said = claims_of(answer.json["access_token"])
    assert (said["agent_id"], said["client_id"], said["act"]) == ("reader", "acme/reader", {"sub": "reader"})
    assert taken(planner, planner.token("reader", key=OTHER)).parents == ("planner",)


def test_scopes_only_shrink(planner: TokenDesk) -> None:
    own = planner.token(scope="read")
    refused(planner.exchange(own, "reader", scope="read write"), "invalid_scope")
    child = planner.spawn(own, "reader", scope="read")
    refused(planner.exchange(child, "digger", scope="write"), "invalid_scope")


def test_a_child_inherits_its_parents_ceiling(desk: TokenDesk) -> None:
    desk.register(ceiling=pb.Ceiling(scopes=pb.Ceiling.Names(names=["read"])))
    refused(desk.ask(scope="read write"), "invalid_scope")
    own = desk.token()
    assert claims_of(own)["scope"] == "read"
    desk.issuer.agents.update_agent(
        pb.UpdateAgentRequest(
            tenant="acme", id="planner", ceiling=pb.Ceiling(scopes=pb.Ceiling.Names(names=[])), reason="a test"
        ),
        ADMIN,
    )
    assert "scope" not in claims_of(desk.spawn(own, "reader"))


@pytest.mark.parametrize(
    ("kind", "value"), [("agent", "planner"), ("subtree", "planner"), ("session", "s-1"), ("agent", "reader")]
)
def test_a_killed_parent_spawns_nobody_and_neither_do_its_children(planner: TokenDesk, kind: str, value: str) -> None:
    own = planner.token(session="s-1")
    child = planner.spawn(own, "reader")
    planner.register("root-two", key=OTHER)
    planner.kill(kind, value)
    for token, name in ((own, "reader"), (child, "digger")):
        refused(planner.exchange(token, name), "unauthorized_client")


def test_a_killed_subject_token_is_not_exchanged(planner: TokenDesk) -> None:
    own = planner.token()
    planner.kill("token", claims_of(own)["jti"])
    refused(planner.exchange(own, "reader"), "unauthorized_client")


def test_a_paused_parents_children_get_none(planner: TokenDesk) -> None:
    planner.register("reader", key=OTHER, parents=["planner"])
    planner.move(pb.LIFECYCLE_PAUSED)
    refused(planner.ask("reader", key=OTHER), "unauthorized_client")


def test_a_subject_token_of_another_client_spawns_nobody(planner: TokenDesk) -> None:
    planner.register("thief", key=OTHER)
    stolen = planner.token()
    refused(planner.exchange(stolen, "reader", by="thief", key=OTHER), "invalid_request")
    refused(planner.exchange(stolen, by="thief", key=OTHER), "invalid_request")


def test_d5_another_tenants_token_is_not_exchanged(planner: TokenDesk) -> None:
    planner.register(tenant="globex", key=OTHER)
    foreign = form(
        grant_type=TOKEN_EXCHANGE,
        subject_token=planner.token(),
        subject_token_type=ACCESS_TOKEN_TYPE,
        agent_id="reader",
        **planner.proof(tenant="globex", key=OTHER),
    )
    refused(planner.send("/token", foreign), "invalid_request")


def test_d5_another_tenants_agent_of_a_childs_name_does_not_become_the_child(planner: TokenDesk) -> None:
    stranger = signing_key("EdDSA", 8)
    planner.register("reader", key=OTHER, parents=["planner"])
    planner.register("reader", key=stranger, tenant="globex")
    stolen = form(
        grant_type=TOKEN_EXCHANGE,
        subject_token=planner.token(),
        subject_token_type=ACCESS_TOKEN_TYPE,
        **planner.proof("reader", tenant="globex", key=stranger),
    )
    refused(planner.send("/token", stolen), "invalid_request")


def test_an_agent_that_descends_from_somebody_else_is_not_a_child(planner: TokenDesk) -> None:
    planner.register("other", key=OTHER)
    refused(planner.exchange(planner.token(), "other"), "invalid_request")
    refused(planner.exchange(planner.token(), "OTHER"), "invalid_request")
    planner.move(pb.LIFECYCLE_PAUSED, "other")
    refused(planner.exchange(planner.token(), "other"), "invalid_request")


@pytest.mark.parametrize("token", ["", "a.b.c", "x" * 9000, "é"])
def test_what_is_no_token_is_not_exchanged(planner: TokenDesk, token: str) -> None:
    refused(planner.exchange(token, "reader"), "invalid_request")


def test_a_subject_token_of_another_issuer_or_key_is_not_exchanged(planner: TokenDesk) -> None:
    own = planner.token()
    head, payload, signature = own.split(".")
    forged = f"{head}.{payload}.{signature[:-4]}AAAA"
    refused(planner.exchange(forged, "reader"), "invalid_request")
    refused(planner.exchange(assertion(now=time.time(), header={"typ": "at+jwt"}), "reader"), "invalid_request")


def test_a_token_that_was_signed_and_never_written_down_is_not_exchanged(planner: TokenDesk) -> None:
    """Its key was stolen, or a backup restored."""
    own = claims_of(planner.token())
    refused(planner.exchange(planner.sign(own | {"jti": "never-issued"}), "reader"), "invalid_request")
    assert planner.exchange(planner.sign(own), "reader").status == 200


@pytest.mark.parametrize("typ", ["JWT", "", "dpop+jwt", "token-introspection+jwt"])
def test_d10_a_token_of_another_kind_is_not_exchanged(planner: TokenDesk, typ: str) -> None:
    own = claims_of(planner.token())
    refused(planner.exchange(planner.sign(own, typ=typ), "reader"), "invalid_request")


def test_d9_a_token_of_the_issuers_former_name_is_not_exchanged(planner: TokenDesk) -> None:
    own = claims_of(planner.token())
    refused(planner.exchange(planner.sign(own | {"iss": "https://former.example"}), "reader"), "invalid_request")


def test_depth_is_limited(database: Database) -> None:
    desk = TokenDesk(database, Tokens(issuer=SERVER, spawn_depth=2))
    desk.register()
    token = desk.spawn(desk.spawn(desk.token(), "a"), "b")
    refused(desk.exchange(token, "c"), "invalid_request")


def test_a_spawn_flood_is_limited_and_known_children_still_get_tokens(database: Database) -> None:
    desk = TokenDesk(database, Tokens(issuer=SERVER, spawn_per_minute=3))
    desk.register()
    own = desk.token()
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda number: desk.exchange(own, f"child-{number}"), range(8)))
    assert sorted(answer.status for answer in answers) == [200] * 3 + [429] * 5
    flooded = next(answer for answer in answers if answer.status == 429)
    assert (flooded.error, flooded.headers["retry-after"]) == ("invalid_request", "60")
    known = desk.passport().children[0]
    assert desk.exchange(own, known).status == 200


def test_agents_alive_below_one_root_are_limited(database: Database) -> None:
    desk = TokenDesk(database, Tokens(issuer=SERVER, spawn_alive=2))
    desk.register()
    own = desk.token()
    desk.spawn(desk.spawn(own, "a"), "b")
    refused(desk.exchange(own, "c"), "invalid_request", 429)
    desk.move(pb.LIFECYCLE_RETIRED, "b")
    assert desk.exchange(own, "c").status == 200


# --- rotation and revocation


def test_a_rotated_credential_is_dead_at_once_with_all_its_tokens(planner: TokenDesk) -> None:
    own = planner.token()
    child = planner.spawn(own, "reader")
    planner.rotate(OTHER)
    refused(planner.ask(), "invalid_client", 401)
    assert planner.ask(key=OTHER).status == 200
    killed = {entry.scope.value for entry in planner.entries() if isinstance(entry, KillEntry)}
    assert killed == {token_digest(claims_of(token)["jti"]) for token in (own, child)}
    assert planner.introspect(own, key=OTHER) == planner.introspect(child, key=OTHER) == {"active": False}
    refused(planner.exchange(own, "reader", key=OTHER), "invalid_request")


def test_the_kill_of_a_token_ends_when_no_verifier_takes_the_token_any_more(planner: TokenDesk) -> None:
    own = planner.token()
    planner.revoke(own)
    [kill] = [entry for entry in planner.entries() if isinstance(entry, KillEntry)]
    assert (kill.scope.kind, kill.reason_code) == (ScopeKind.TOKEN, "TOKEN_REVOKED")
    assert kill.expires_at_ns == (claims_of(own)["exp"] + 120) * 1_000_000_000


def test_a_rotation_of_one_credential_leaves_the_other_its_tokens(planner: TokenDesk) -> None:
    second = signing_key("ES256")
    first = planner.passport().agent.credentials[0].id
    old = planner.token()
    planner.rotate(second, "planner", first)
    kept = planner.token(key=second)
    planner.rotate(OTHER, "planner", first)
    assert planner.introspect(kept, key=OTHER)["active"] is True
    assert planner.introspect(old, key=OTHER) == {"active": False}


def test_rfc7009_a_client_revokes_its_token_and_what_was_exchanged_for_it(planner: TokenDesk) -> None:
    own = planner.token()
    child = planner.spawn(own, "reader")
    other = planner.token()
    answer = planner.revoke(own)
    assert (answer.status, answer.body, answer.headers["cache-control"]) == (200, b"", "no-store")
    assert [planner.introspect(token)["active"] for token in (own, child, other)] == [False, False, True]
    assert planner.revoke(own).status == 200


def test_rfc7009_2_2_a_token_that_is_none_is_as_good_as_revoked(planner: TokenDesk) -> None:
    for token in ("nonsense", "a.b.c", assertion()):
        assert planner.revoke(token).status == 200
    refused(planner.send("/revoke", form(**planner.proof())), "invalid_request")
    refused(planner.send("/revoke", form(token=planner.token())), "invalid_client", 401)


def test_rfc7009_2_1_another_clients_token_is_not_revoked(planner: TokenDesk) -> None:
    planner.register("other", key=OTHER)
    own = planner.token()
    refused(planner.revoke(own, "other", key=OTHER), "unauthorized_client")
    assert planner.introspect(own)["active"] is True


def test_an_emergency_rotation_of_keys_ends_every_token_signed_before(planner: TokenDesk) -> None:
    own = planner.token()
    planner.rotate_keys(emergency=True)
    assert planner.introspect(own) == {"active": False}
    assert reason_of(lambda: taken(planner, own)) is not None
    assert taken(planner, planner.token()).agent == "planner"


# --- at once


def test_no_token_outlives_a_rotation_that_was_acknowledged(planner: TokenDesk) -> None:
    """Clients that ask while their key is being rotated: what they got is dead, whoever came first."""
    with ThreadPoolExecutor(5) as pool:
        asked = [pool.submit(planner.ask) for _ in range(12)]
        pool.submit(planner.rotate, OTHER).result()
        answers = [each.result() for each in asked]
    tokens = [answer.json["access_token"] for answer in answers if answer.status == 200]
    assert all(planner.introspect(token, key=OTHER) == {"active": False} for token in tokens)
    killed = {entry.scope.value for entry in planner.entries() if isinstance(entry, KillEntry)}
    assert killed == {token_digest(claims_of(token)["jti"]) for token in tokens}


def test_no_token_is_issued_beside_a_pause_that_was_acknowledged(planner: TokenDesk) -> None:
    with ThreadPoolExecutor(5) as pool:
        before = [pool.submit(planner.ask) for _ in range(6)]
        pool.submit(planner.move, pb.LIFECYCLE_PAUSED).result()
        after = [pool.submit(planner.ask) for _ in range(6)]
    assert {each.result().status for each in before} <= {200, 400}
    assert {each.result().status for each in after} == {400}


def test_two_instances_are_one_issuer(planner: TokenDesk) -> None:
    other = TokenDesk(planner.database)
    token = planner.token()
    assert other.introspect(token)["active"] is True
    planner.rotate_keys()
    fresh = other.token()
    assert {taken(desk, each).agent for desk in (planner, other) for each in (token, fresh)} == {"planner"}
    other.revoke(token)
    assert planner.introspect(token) == {"active": False}
    planner.rotate_keys(emergency=True)
    assert other.introspect(fresh) == {"active": False}
