"""How the token endpoint takes requests: proofs, forms, documents, and any bytes."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from authz._gen.authz.control.v1 import agents_pb2 as pb
from authz.control.authentication import credential_sha256
from authz.control.callers import Grant, Role
from authz.control.operators_sql import Operator
from authz.database import Database
from authz.encoding import encode_base64url
from authz.identity.oauth.clients import ASSERTION_TYPE, client_id
from authz.identity.oauth.requests import ACCESS_TOKEN_TYPE, TOKEN_EXCHANGE
from tests.identity_fakes import ABSENT, signing_key
from tests.registry_fakes import SERVER, dpop_proof, form
from tests.token_desk import TokenDesk, claims_of, refused

if TYPE_CHECKING:
    from collections.abc import Iterator


OTHER = signing_key("EdDSA", 9)


@pytest.fixture
def database(sqlite_url: str) -> Iterator[Database]:
    """SQLite alone: what is judged here is no database's matter."""
    opened = Database(sqlite_url)
    yield opened
    opened.close()


@pytest.fixture
def desk(database: Database) -> TokenDesk:
    return TokenDesk(database)


@pytest.fixture
def planner(desk: TokenDesk) -> TokenDesk:
    """A desk with one registered agent."""
    desk.register()
    return desk


# --- proofs of clients


def test_a_replayed_assertion_is_refused(planner: TokenDesk) -> None:
    proof = planner.proof()
    body = form(grant_type="client_credentials", **proof)
    assert planner.send("/token", body).status == 200
    refused(planner.send("/token", body), "invalid_client", 401)


def test_an_assertion_is_spent_by_a_request_that_is_refused(planner: TokenDesk) -> None:
    proof = planner.proof()
    refused(planner.send("/token", form(grant_type="password", **proof)), "unsupported_grant_type")
    refused(planner.send("/token", form(grant_type="client_credentials", **proof)), "invalid_client", 401)


def test_an_assertion_shown_at_one_endpoint_is_spent_at_every_one(planner: TokenDesk) -> None:
    proof = planner.proof()
    assert planner.send("/introspect", form(token="x", **proof)).status == 200
    refused(planner.send("/token", form(grant_type="client_credentials", **proof)), "invalid_client", 401)


def test_an_assertion_raced_for_is_good_once(planner: TokenDesk) -> None:
    body = form(grant_type="client_credentials", **planner.proof())
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: planner.send("/token", body).status, range(12)))
    assert sorted(answers) == [200] + [401] * 11


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": "https://other.example"},
        {"aud": [SERVER, "https://other.example"]},
        {"exp": 1},
        {"exp": ABSENT},
        {"jti": ABSENT},
        {"iss": "acme/other"},
        {"sub": "acme/other"},
        {"key": OTHER},
        {"key": signing_key("ES256")},
        {"header": {"alg": "none"}},
        {"header": {"alg": "HS256"}},
        {"header": {"typ": "at+jwt"}},
        {"header": {"jwk": OTHER.jwk()}, "key": OTHER},
        {"tenant": "globex"},
    ],
)
def test_d1_to_d10_an_assertion_that_is_not_whole_is_refused_in_one_way(
    planner: TokenDesk, changes: dict[str, Any]
) -> None:
    answer = planner.send("/token", form(grant_type="client_credentials", **planner.proof(**changes)))
    refused(answer, "invalid_client", 401)
    assert answer.json["error_description"] == "the client is unknown or did not prove itself"
    assert answer.headers["www-authenticate"]


def test_an_unknown_agent_is_answered_as_a_known_one_with_a_wrong_key(planner: TokenDesk) -> None:
    unknown = planner.ask("nobody")
    wrong = planner.ask(key=OTHER)
    assert (unknown.status, unknown.body, unknown.headers) == (wrong.status, wrong.body, wrong.headers)


def test_another_tenants_agent_of_the_same_name_is_another_client(planner: TokenDesk) -> None:
    planner.register(tenant="globex", key=OTHER)
    assert claims_of(planner.token())["tenant"] == "acme"
    refused(planner.ask(key=OTHER), "invalid_client", 401)


def test_a_client_id_beside_the_assertion_must_be_the_same(planner: TokenDesk) -> None:
    assert planner.ask(client_id="acme/planner").status == 200
    refused(planner.ask(client_id="acme/other"), "invalid_client", 401)


@pytest.mark.parametrize("headers", [{"authorization": "Basic YWNtZS9wbGFubmVyOng="}, {"authorization": "Bearer abc"}])
def test_a_secret_in_a_header_is_no_proof(planner: TokenDesk, headers: dict[str, str]) -> None:
    answer = planner.send("/token", form(grant_type="client_credentials", **planner.proof()), headers=headers)
    refused(answer, "invalid_client", 401)
    assert answer.headers["www-authenticate"].split()[0] == headers["authorization"].split()[0]


def test_rfc8705_a_certificate_proves_its_agent_and_binds_the_token(desk: TokenDesk) -> None:
    der = b"the DER of a certificate"
    thumbprint = encode_base64url(sha256(der).digest())
    desk.register(certificate=thumbprint)
    asked = form(grant_type="client_credentials", client_id="acme/planner")
    answer = desk.send("/token", asked, certificate=der)
    assert claims_of(answer.json["access_token"])["cnf"] == {"x5t#S256": thumbprint}
    refused(desk.send("/token", asked, certificate=b"another"), "invalid_client", 401)
    refused(desk.send("/token", asked), "invalid_client", 401)
    for header in ("x-forwarded-client-cert", "client-cert", "ssl-client-cert"):
        forged = {header: f"Hash={sha256(der).hexdigest()}"}
        refused(desk.send("/token", asked, headers=forged), "invalid_client", 401)


def test_rfc8705_a_key_proves_nothing_by_an_empty_certificate(planner: TokenDesk) -> None:
    refused(
        planner.send("/token", form(grant_type="client_credentials", client_id="acme/planner"), certificate=b""),
        "invalid_client",
        401,
    )


def test_rfc9449_a_token_is_bound_to_the_key_of_its_proof(planner: TokenDesk) -> None:
    shown = dpop_proof(htu=f"{SERVER}/token", iat=int(time.time()))
    body = form(grant_type="client_credentials", **planner.proof())
    answer = planner.send("/token", body, headers={"dpop": shown})
    assert answer.json["token_type"] == "DPoP"
    assert claims_of(answer.json["access_token"])["cnf"]["jkt"]
    body = form(grant_type="client_credentials", **planner.proof())
    refused(planner.send("/token", body, headers={"dpop": shown}), "invalid_dpop_proof")
    body = form(grant_type="client_credentials", **planner.proof())
    refused(planner.send("/token", body, headers={"dpop": "a.b.c"}), "invalid_dpop_proof")


# --- requests


def test_rfc6749_3_2_only_a_post_is_taken(desk: TokenDesk) -> None:
    for path in ("/token", "/revoke", "/introspect"):
        for method in ("GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS"):
            answer = desk.send(path, method=method)
            assert (answer.status, answer.headers["allow"]) == (405, "POST"), (path, method)


def test_parameters_in_the_query_are_refused(planner: TokenDesk) -> None:
    body = form(grant_type="client_credentials", **planner.proof())
    refused(planner.send("/token", body, query="scope=admin"), "invalid_request")


@pytest.mark.parametrize("name", ["grant_type", "client_assertion", "scope", "client_id", "session"])
def test_duplicate_parameters_are_refused(planner: TokenDesk, name: str) -> None:
    parameters: dict[str, Any] = {"grant_type": "client_credentials", "scope": "read"} | planner.proof()
    parameters[name] = [str(parameters.get(name, "a")), "b"]
    refused(planner.send("/token", form(**parameters)), "invalid_request")


def test_a_refusal_is_on_record_and_counted(planner: TokenDesk) -> None:
    planner.ask(key=OTHER)
    planner.ask(scope="  ")
    stranger, known = planner.actions.page(None, before=None, size=2)[::-1]
    assert (stranger.operator, stranger.method, stranger.outcome) == ("", "/token", "CLIENT_ASSERTION_SIGNATURE")
    assert (known.operator, known.tenant, known.outcome) == ("agent:acme/planner", "acme", "OAUTH_INVALID_SCOPE")
    planner.token()
    assert [outcome for _, outcome in planner.observed] == ["CLIENT_ASSERTION_SIGNATURE", "OAUTH_INVALID_SCOPE", "done"]


# --- introspection


def test_rfc7662_2_2_a_live_token_is_described(planner: TokenDesk) -> None:
    own = planner.token(scope="read", session="s-1")
    claims = claims_of(own)
    assert planner.introspect(own) == {"active": True, "token_type": "Bearer"} | {
        name: claims[name]
        for name in ("scope", "client_id", "exp", "iat", "sub", "aud", "iss", "jti", "tenant", "agent_id", "session")
    }


def test_rfc7662_2_2_a_token_that_is_not_the_callers_is_inactive(planner: TokenDesk) -> None:
    planner.register("other", key=OTHER)
    assert planner.introspect(planner.token(), "other", key=OTHER) == {"active": False}


@pytest.mark.parametrize(
    ("kind", "value"), [("agent", "planner"), ("session", "s-1"), ("tenant", ""), ("subtree", "planner")]
)
def test_a_killed_token_is_inactive(planner: TokenDesk, kind: str, value: str) -> None:
    own = planner.token(session="s-1")
    planner.kill(kind, value)
    assert planner.introspect(own) == {"active": False}


def test_a_paused_agents_token_is_inactive(planner: TokenDesk) -> None:
    own = planner.token()
    planner.move(pb.LIFECYCLE_PAUSED)
    assert planner.introspect(own) == {"active": False}


def test_rfc7662_2_1_who_asks_is_authenticated(planner: TokenDesk) -> None:
    refused(planner.send("/introspect", form(token=planner.token())), "invalid_client", 401)
    bearer = {"authorization": "Bearer authz_operator_nobody"}
    answer = planner.send("/introspect", form(token=planner.token()), headers=bearer)
    refused(answer, "invalid_client", 401)
    assert answer.headers["www-authenticate"].startswith("Bearer")
    refused(planner.send("/introspect", form(**planner.proof())), "invalid_request")


@pytest.mark.parametrize(("tenant", "sees"), [("acme", True), ("*", True), ("globex", False)])
def test_an_operator_sees_the_tokens_of_its_tenants(planner: TokenDesk, tenant: str, sees: Any) -> None:
    credential = "authz_operator_" + "x" * 43
    planner.operators.add(
        Operator(id="ana", grants=(Grant(Role.VIEWER, tenant),), credential_sha256=credential_sha256(credential))
    )
    answer = planner.send("/introspect", form(token=planner.token()), headers={"authorization": f"Bearer {credential}"})
    assert answer.json["active"] is sees


# --- documents


def test_rfc8414_3_the_metadata_is_where_clients_look_and_may_be_cached(desk: TokenDesk) -> None:
    answer = desk.send("/.well-known/oauth-authorization-server", method="GET")
    assert answer.json["issuer"] == SERVER
    assert answer.headers["cache-control"] == "public, max-age=300"


def test_the_authorization_endpoint_refuses_everything(desk: TokenDesk) -> None:
    for method in ("GET", "POST"):
        refused(
            desk.send("/authorize", method=method, query="response_type=code&client_id=a"), "unsupported_response_type"
        )


def test_the_key_set_has_cache_headers_and_no_private_part(desk: TokenDesk) -> None:
    answer = desk.send("/jwks", method="GET")
    assert answer.headers["content-type"] == "application/jwk-set+json"
    assert answer.headers["cache-control"] == "public, max-age=300"
    assert len(answer.json["keys"]) == 2
    assert all("d" not in key for key in answer.json["keys"])
    again = desk.send("/jwks", method="GET", headers={"if-none-match": answer.headers["etag"]})
    assert (again.status, again.body) == (304, b"")
    desk.rotate_keys()
    assert desk.send("/jwks", method="GET", headers={"if-none-match": answer.headers["etag"]}).status == 200


# --- anything


NAMES = """grant_type client_id client_assertion client_assertion_type subject_token scope resource subject_token_type
agent_id session audience expires_in token actor_token"""
FIELDS = st.sampled_from(NAMES.split())
VALUES = st.text(max_size=30) | st.sampled_from(
    ["client_credentials", TOKEN_EXCHANGE, ASSERTION_TYPE, ACCESS_TOKEN_TYPE, client_id("acme", "planner")]
)
BODIES = st.binary(max_size=200) | st.lists(st.tuples(FIELDS, VALUES), max_size=8).map(
    lambda pairs: form(**dict(pairs))
)
PATHS = st.sampled_from(["/token", "/introspect", "/revoke"])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(PATHS, BODIES, st.text(max_size=30).filter(str.isascii))
def test_any_bytes_are_answered_with_an_error_of_the_rfcs(
    planner: TokenDesk, path: str, body: bytes, header: str
) -> None:
    answer = planner.send(path, body, headers={"dpop": header})
    assert answer.status in (400, 401, 413)
    assert answer.error in {"invalid_request", "invalid_client", "unsupported_grant_type"}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(st.dictionaries(FIELDS, VALUES, max_size=5), st.text(max_size=30))
def test_any_request_of_a_known_client_is_answered_by_the_rfcs(
    planner: TokenDesk, parameters: dict[str, str], token: str
) -> None:
    base = {"grant_type": TOKEN_EXCHANGE, "subject_token": token, "subject_token_type": ACCESS_TOKEN_TYPE}
    answer = planner.send("/token", form(**(base | parameters | planner.proof())))
    assert answer.status in (200, 400, 401)
