from __future__ import annotations

import json
from typing import Any

import pytest

from authz import reasons
from authz.config import Config, Issuer, Route
from authz.identity import metadata
from authz.model import Check, Protocol
from tests.identity_fakes import reason_of

WELL_KNOWN = "/.well-known/oauth-protected-resource"
ROUTE = Route(path="/mcp", resource="https://tools.example/mcp", scopes=("read", "write"))
ISSUERS = tuple(Issuer(issuer=f"https://{name}.example", audience="authz", jwks="unused") for name in ("one", "two"))


def check(path: str = "/mcp", **changes: Any) -> Check:
    return Check(**({"method": "GET", "path": path, "host": "tools.example", "scheme": "https"} | changes))


def document(path: str, *routes: Route, **changes: Any) -> Any:
    answer = metadata.answer(check(path, **changes), Config(routes=routes, issuers=ISSUERS))
    return None if answer is None else json.loads(answer.body)


# --- the document


def test_the_document_names_resource_servers_and_scopes() -> None:
    assert document(f"{WELL_KNOWN}/mcp", ROUTE) == {
        "resource": "https://tools.example/mcp",
        "authorization_servers": ["https://one.example", "https://two.example"],
        "bearer_methods_supported": ["header"],
        "dpop_signing_alg_values_supported": ["ES256", "EdDSA", "PS256", "RS256"],
        "scopes_supported": ["read", "write"],
    }


def test_the_answer_is_json_that_nobody_stores() -> None:
    answer = metadata.answer(check(f"{WELL_KNOWN}/mcp"), Config(routes=(ROUTE,), issuers=ISSUERS))
    assert answer is not None
    assert answer.http_status == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"


def test_without_scopes_none_are_published() -> None:
    assert "scopes_supported" not in document(f"{WELL_KNOWN}/mcp", Route(path="/mcp"))


def test_head_gets_no_body_and_post_gets_nothing() -> None:
    config = Config(routes=(ROUTE,), issuers=ISSUERS)
    head = metadata.answer(check(WELL_KNOWN, method="HEAD"), config)
    assert head is not None
    assert head.body == b""
    for method in ("POST", "get", "", "OPTIONS"):
        asked = check(WELL_KNOWN, method=method)
        assert reason_of(lambda asked=asked: metadata.answer(asked, config)) is reasons.METHOD_UNKNOWN  # type: ignore[misc]


def test_each_route_has_its_own_document() -> None:
    routes = (ROUTE, Route(path="/other"), Route(path_prefix="/api/", protocol=Protocol.HTTP))
    found = [document(f"{WELL_KNOWN}{path}", *routes)["resource"] for path in ("/mcp", "/other", "/api", "/api/", "")]
    assert found == [
        "https://tools.example/mcp",
        "https://tools.example/other",
        "https://tools.example/api",
        "https://tools.example/api",
        "https://tools.example/mcp",
    ]


@pytest.mark.parametrize(
    "path",
    [
        "/mcp",
        "/",
        "",
        "/.well-known/oauth-protected-resourcex",
        f"{WELL_KNOWN}/unknown",
        f"{WELL_KNOWN}/mcp/",
        f"{WELL_KNOWN}/MCP",
        f"/x{WELL_KNOWN}",
        f"{WELL_KNOWN}/%6dcp",
        f"{WELL_KNOWN}//mcp",
    ],
)
def test_a16_any_other_path_is_not_answered_here(path: str) -> None:
    assert document(path, ROUTE) is None


def test_a_query_does_not_matter() -> None:
    assert document(f"{WELL_KNOWN}/mcp?x=1", ROUTE) is not None


def test_a_route_of_another_host_is_not_described() -> None:
    assert document(f"{WELL_KNOWN}/mcp", Route(path="/mcp", host="other.example")) is None
    assert document(WELL_KNOWN, Route(path="/mcp", host="other.example")) is None
    assert document(f"{WELL_KNOWN}/mcp", Route(path="/mcp", host="Tools.Example")) is not None


def test_a_forward_proxy_is_no_resource() -> None:
    assert document(WELL_KNOWN, Route(path="/", protocol=Protocol.PROXY)) is None


# --- where it lies


@pytest.mark.parametrize(
    ("resource", "url"),
    [
        ("https://a.example", f"https://a.example{WELL_KNOWN}"),
        ("https://a.example/", f"https://a.example{WELL_KNOWN}"),
        ("https://a.example/mcp", f"https://a.example{WELL_KNOWN}/mcp"),
        ("https://a.example:8443/a/b/", f"https://a.example:8443{WELL_KNOWN}/a/b"),
        ("https://a.example/mcp?tenant=x", f"https://a.example{WELL_KNOWN}/mcp?tenant=x"),
        ("", ""),
    ],
)
def test_well_known_goes_between_host_and_path(resource: str, url: str) -> None:
    assert metadata.metadata_url(resource) == url


@pytest.mark.parametrize("host", ["tools.example", "TOOLS.example", "127.0.0.1:10000", "[::1]:8080", "localhost"])
def test_without_a_resource_the_request_names_it(host: str) -> None:
    resource = metadata.resource_of(Route(path="/mcp"), check(host=host, scheme="http"))
    assert resource == f"http://{host.lower()}/mcp"


@pytest.mark.parametrize(
    "host",
    [
        "",
        'a"b',
        "a b",
        "a\r\nset-cookie: x",
        "a/b",
        "a@b",
        "a\\b",
        "a:port",
        "é.example",
        "a?b",
        "a#b",
        "-",
        "[::1",
        "a,b",
    ],
)
def test_a14_a_host_that_is_no_authority_is_not_repeated(host: str) -> None:
    assert metadata.resource_of(Route(path="/mcp"), check(host=host)) == ""
    challenge = metadata.challenge(reasons.TOKEN_MISSING, check(host=host), Route(path="/mcp"))
    assert challenge == "Bearer"


@pytest.mark.parametrize("scheme", ["", "ftp", "javascript", "https\r\n"])
def test_a14_another_scheme_is_not_repeated(scheme: str) -> None:
    assert metadata.resource_of(Route(path="/mcp"), check(scheme=scheme)) == ""


def test_a17_a_configured_resource_is_not_the_requests_to_change() -> None:
    assert metadata.resource_of(ROUTE, check(host="evil.example")) == "https://tools.example/mcp"


# --- the challenge

LOCATION = f'resource_metadata="https://tools.example{WELL_KNOWN}/mcp"'


def test_without_a_token_the_challenge_has_no_error() -> None:
    assert metadata.challenge(reasons.TOKEN_MISSING, check(), ROUTE) == f'Bearer scope="read write", {LOCATION}'
    bare = Route(path="/mcp", resource=ROUTE.resource)
    assert metadata.challenge(reasons.TOKEN_MISSING, check(), bare) == f"Bearer {LOCATION}"


def test_a_bad_token_is_named_invalid() -> None:
    assert metadata.challenge(reasons.TOKEN_EXPIRED, check(), ROUTE) == (
        f'Bearer error="invalid_token", error_description="the token has expired", scope="read write", {LOCATION}'
    )


def test_two_tokens_are_an_invalid_request() -> None:
    challenge = metadata.challenge(reasons.TOKEN_MULTIPLE, check(), ROUTE)
    assert challenge.startswith('Bearer error="invalid_request", ')


def test_d11_a_missing_scope_lists_all_that_are_needed() -> None:
    assert metadata.challenge(reasons.SCOPE, check(), ROUTE) == (
        'Bearer error="insufficient_scope", error_description="the token lacks a scope that this call needs", '
        f'scope="read write", {LOCATION}'
    )


@pytest.mark.parametrize("reason", [reasons.JWKS_UNAVAILABLE, reasons.CLOCK_STEP])
def test_a_token_that_could_not_be_judged_is_not_called_invalid(reason: reasons.Reason) -> None:
    assert "error=" not in metadata.challenge(reason, check(), ROUTE)


@pytest.mark.parametrize("reason", [reasons.POLICY_DENY, reasons.REVOKED, reasons.JSON_SYNTAX, reasons.SYS_INTERNAL])
def test_a_refusal_that_no_token_cures_has_no_challenge(reason: reasons.Reason) -> None:
    assert metadata.challenge(reason, check(), ROUTE) == ""


def test_a_missing_scope_that_nobody_asked_for_has_no_challenge() -> None:
    assert metadata.challenge(reasons.SCOPE, check(), Route(path="/mcp")) == ""


def test_without_a_route_there_is_a_bare_challenge() -> None:
    assert metadata.challenge(reasons.TOKEN_MISSING, check(), None) == "Bearer"


def test_every_401_has_a_challenge_on_one_line() -> None:
    rows = [row for row in reasons.CATALOGUE.values() if row.http_status == 401]
    assert len(rows) > 10
    for row in rows:
        challenge = metadata.challenge(row, check(), ROUTE)
        assert challenge.startswith("Bearer ")
        assert challenge.isprintable()
        assert challenge.count('"') % 2 == 0


@pytest.mark.parametrize("scope", ['a"b', "a\\b", "a\r\nx: y", "é"])
def test_a14_a_scope_that_cannot_be_quoted_is_left_out(scope: str) -> None:
    route = Route(path="/mcp", resource=ROUTE.resource, scopes=(scope,))
    assert metadata.challenge(reasons.TOKEN_MISSING, check(), route) == f"Bearer {LOCATION}"
