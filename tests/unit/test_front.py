"""Steps 1 to 3 put together: order, challenges, and what each contract checks."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest

from authz.config import Config, Listen, Route, TrustedPeer
from authz.errors import InvalidRequestError, UnavailableError
from authz.front import ConfiguredFront
from authz.model import Check, Confirmation, Protocol
from authz.reasons import JWKS_UNAVAILABLE, TOKEN_EXPIRED
from tests.fakes import PRINCIPAL, configuration
from tests.possession import OWNER, ROUTE, Desk

if TYPE_CHECKING:
    from authz.errors import DenialError
    from authz.identity.possession import Possession
    from authz.model import Principal

BODY = json.dumps({"jsonrpc": "2.0", "id": 3, "method": "tools/call", "params": {"name": "search_web"}}).encode()
CHECK = Check(
    method="POST",
    path="/mcp",
    host="tools.example",
    scheme="https",
    headers={
        "authorization": "Bearer t",
        "content-type": "application/json",
        "mcp-protocol-version": "2025-11-25",
    },
    body=BODY,
)
API = Route(path_prefix="/v1/", protocol=Protocol.HTTP, server="api", scopes=("payments:write",))


@dataclass
class FakeVerifier:
    """Every token proves this principal, or fails like this."""

    outcome: Principal | DenialError = PRINCIPAL
    age_s: float = 0.0

    def keys_age_s(self, issuer: str) -> float:  # noqa: ARG002 - the shape of a verifier
        return self.age_s

    def verify(self, token: str) -> Principal:  # noqa: ARG002 - the shape of a verifier
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


def front(verifier: FakeVerifier | None = None, possession: Possession | None = None, **groups: Any) -> ConfiguredFront:
    return ConfiguredFront(configuration(**groups), verifier, possession)  # type: ignore[arg-type]


def refused(step: Any, *arguments: Any) -> InvalidRequestError:
    with pytest.raises(InvalidRequestError) as raised:
        step(*arguments)
    return raised.value


def test_the_route_is_known_before_its_envelope_is_judged() -> None:
    upgrade = replace(CHECK, headers={**CHECK.headers, "upgrade": "websocket"})
    route = front().route(upgrade)
    assert route is not None
    assert refused(front().admit, upgrade, route).reason.code == "MCP_BODY_UPGRADE"


@pytest.mark.parametrize("path", ["/", "/mcp/", "//mcp", "/MCP", "/mcp%2f", "", "/mcp;a=b", "/%6dcp"])
def test_a16_another_path_is_no_route(path: str) -> None:
    assert refused(front().route, replace(CHECK, path=path)).reason.code == "PATH_UNKNOWN"


def test_an_unusable_message_is_refused_before_anything_is_read() -> None:
    assert refused(front().route, replace(CHECK, fault="MCP_BODY_AMBIGUOUS")).reason.code == "MCP_BODY_AMBIGUOUS"


def test_the_metadata_document_needs_no_token_and_no_route() -> None:
    check = Check(method="GET", path="/.well-known/oauth-protected-resource/mcp", host="tools.example", scheme="https")
    assert front().route(check) is None
    answer = front().admit(check, None)
    assert answer is not None
    document = json.loads(answer.body)
    assert document["resource"] == "https://tools.example/mcp"
    assert document["authorization_servers"] == ["https://issuer"]


def test_a_refused_token_is_challenged_with_the_way_to_a_better_one() -> None:
    expired = front(FakeVerifier(InvalidRequestError(TOKEN_EXPIRED)))
    error = refused(expired.principal, CHECK, configuration().routes[0])
    assert 'error="invalid_token"' in error.challenge
    assert 'resource_metadata="https://tools.example/.well-known/oauth-protected-resource/mcp"' in error.challenge


def test_keys_that_are_away_do_not_make_a_token_bad() -> None:
    away = front(FakeVerifier(UnavailableError(JWKS_UNAVAILABLE)))
    error = refused(away.principal, CHECK, configuration().routes[0])
    assert (error.reason.code, "invalid_token" in error.challenge) == ("JWKS_UNAVAILABLE", False)


@pytest.mark.parametrize("scopes", [(), ("payments:read",), ("payments:*",), ("payments:writer",)])
def test_d11_a_missing_scope_is_403_and_names_what_is_needed(scopes: tuple[str, ...]) -> None:
    verifier = FakeVerifier(replace(PRINCIPAL, scopes=scopes))
    error = refused(front(verifier, routes=(API,)).principal, CHECK, API)
    assert (error.reason.code, error.reason.http_status) == ("SCOPE", 403)
    assert 'error="insufficient_scope"' in error.challenge
    assert 'scope="payments:write"' in error.challenge


def test_d11_some_of_the_scopes_are_not_all_of_them() -> None:
    route = API.model_copy(update={"scopes": ("payments:write", "payments:large")})
    holder = front(FakeVerifier(replace(PRINCIPAL, scopes=("payments:write",))), routes=(route,))
    assert refused(holder.principal, CHECK, route).reason.code == "SCOPE"


def test_without_a_route_no_scope_is_asked_for() -> None:
    assert front(FakeVerifier(PRINCIPAL)).principal(CHECK, None) == PRINCIPAL


def test_a_plain_http_route_reads_no_json_rpc() -> None:
    check = replace(CHECK, path="/v1/payments")
    tool = front(routes=(API,)).call(check, API).tool
    assert (tool.protocol, tool.server, tool.name.partition(" ")[0]) == (Protocol.HTTP, "api", "POST")


def test_exactly_the_scopes_of_the_route_suffice() -> None:
    holder = replace(PRINCIPAL, scopes=("payments:write", "other"))
    assert front(FakeVerifier(holder), routes=(API,)).principal(CHECK, API) == holder


def test_a17_the_tool_server_is_named_by_envoy_then_the_route_then_the_configuration() -> None:
    route = Route(path="/mcp", server="by-route")
    plain = Route(path="/mcp")
    named = replace(CHECK, context={"authz.server": "by-envoy"}, host="by-host")
    assert front().call(named, route).tool.server == "by-envoy"
    assert front().call(CHECK, route).tool.server == "by-route"
    assert front().call(replace(CHECK, host="by-host"), plain).tool.server == "default"


@pytest.mark.parametrize(
    "claims",
    [
        {"host": "by-envoy"},
        {"headers": {**CHECK.headers, "authz.server": "by-envoy", "x-authz-server": "by-envoy"}},
        {"body": BODY.replace(b'"search_web"', b'"search_web", "server": "by-envoy", "_meta": {"server": "by-envoy"}')},
        {"path": "/mcp?server=by-envoy"},
        {"context": {"AUTHZ.SERVER": "by-envoy", "server": "by-envoy"}},
    ],
    ids=["host", "header", "body", "query", "other extension"],
)
def test_c19_nothing_that_a_caller_sends_moves_its_tool_to_another_server(claims: dict[str, Any]) -> None:
    tool = front().call(replace(CHECK, **claims), Route(path="/mcp", server="by-route")).tool
    assert (tool.server, tool.name) == ("by-route", "search_web")


def test_a_malformed_body_keeps_the_id_it_had() -> None:
    body = BODY.replace(b'"params"', b'"params": [], "x"')
    error = refused(front().call, replace(CHECK, body=body), configuration().routes[0])
    assert error.message_id == 3


def test_contract_envoy_checks_neither_routes_nor_tokens_unless_configured() -> None:
    bare = ConfiguredFront(Config(), None)
    check = Check(method="GET", path="/anything/at/all")
    assert bare.route(check) is None
    assert bare.admit(check, None) is None
    assert bare.principal(check, None) is None
    assert bare.call(check, None).tool.name == ""


PEER = Listen(trusted_peer=TrustedPeer(trust_domain="example.org", tenant="acme"))
BY_CERTIFICATE = replace(
    CHECK,
    headers={name: text for name, text in CHECK.headers.items() if name != "authorization"},
    source_principal="spiffe://example.org/agents/one",
)


def test_envoys_verified_peer_is_an_identity_only_where_configured() -> None:
    known = front(FakeVerifier(), listen=PEER).principal(BY_CERTIFICATE, None)
    assert known is not None
    assert (known.agent, known.tenant, known.issuer) == ("agents/one", "acme", "spiffe://example.org")
    assert refused(front(FakeVerifier()).principal, BY_CERTIFICATE, None).reason.code == "TOKEN_MISSING"


def test_a_token_that_was_sent_is_judged_and_never_replaced_by_the_peer() -> None:
    bad = front(FakeVerifier(InvalidRequestError(TOKEN_EXPIRED)), listen=PEER)
    both = replace(BY_CERTIFICATE, headers=CHECK.headers)
    assert refused(bad.principal, both, None).reason.code == "TOKEN_EXPIRED"


def test_a13_a_forwarded_certificate_is_not_believed_under_envoys_word() -> None:
    claimed = replace(
        BY_CERTIFICATE,
        source_principal="",
        headers={"x-forwarded-client-cert": "URI=spiffe://example.org/agents/one"},
    )
    assert refused(front(FakeVerifier(), listen=PEER).principal, claimed, None).reason.code == "TOKEN_MISSING"


BOUND = replace(PRINCIPAL, confirmation=Confirmation(key=OWNER.jkt))


def proving(proof: str) -> Check:
    return replace(CHECK, headers={**CHECK.headers, "authorization": "DPoP t", "dpop": proof})


def test_a_bound_token_passes_with_its_proof_once() -> None:
    check = proving(OWNER.proof("t"))
    judge = front(FakeVerifier(BOUND), possession=Desk().possession)
    assert judge.principal(check, ROUTE) == BOUND
    assert refused(judge.principal, check, ROUTE).reason.code == "TOKEN_BINDING"


def test_d14_a_bound_token_without_its_proof_is_refused_with_a_challenge_for_one() -> None:
    error = refused(front(FakeVerifier(BOUND), possession=Desk().possession).principal, CHECK, ROUTE)
    assert (error.reason.code, error.challenge.partition(" ")[0]) == ("TOKEN_BINDING", "DPoP")


def test_d14_where_nothing_can_be_proved_no_bound_token_passes() -> None:
    error = refused(front(FakeVerifier(BOUND)).principal, proving(OWNER.proof("t")), ROUTE)
    assert (error.reason.code, error.challenge.partition(" ")[0]) == ("TOKEN_BINDING", "DPoP")


def test_d14_a_bearer_token_under_the_scheme_of_bound_ones_is_refused() -> None:
    judge = front(FakeVerifier(), possession=Desk().possession)
    assert refused(judge.principal, proving(OWNER.proof("t")), ROUTE).reason.code == "TOKEN_BINDING"
    assert judge.principal(CHECK, ROUTE) == PRINCIPAL


def test_a_refusal_is_told_under_the_scheme_that_was_used() -> None:
    judge = front(FakeVerifier(InvalidRequestError(TOKEN_EXPIRED)), possession=Desk().possession)
    challenge = refused(judge.principal, proving(OWNER.proof("t")), ROUTE).challenge
    assert challenge.startswith('DPoP error="invalid_token", ')
    assert refused(judge.principal, CHECK, ROUTE).challenge.startswith('Bearer error="invalid_token", ')


@pytest.mark.parametrize(("age_s", "passes"), [(0.0, True), (600.0, True), (600.1, False), (float("inf"), False)])
def test_destructive_calls_need_keys_of_the_last_ten_minutes(age_s: float, *, passes: bool) -> None:
    judge = front(FakeVerifier(age_s=age_s))
    if passes:
        judge.vouch(CHECK, ROUTE, PRINCIPAL)
    else:
        error = refused(judge.vouch, CHECK, ROUTE, PRINCIPAL)
        assert (error.reason, error.challenge.partition(" ")[0]) == (JWKS_UNAVAILABLE, "Bearer")


def test_who_is_known_without_a_token_needs_no_keys() -> None:
    front(FakeVerifier(age_s=float("inf"))).vouch(CHECK, ROUTE, replace(PRINCIPAL, jti_sha256=""))
    front(None).vouch(CHECK, None, PRINCIPAL)
