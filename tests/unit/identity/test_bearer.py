from __future__ import annotations

import pytest

from authz.identity.bearer import from_headers, is_dpop
from authz.reasons import TOKEN_MALFORMED, TOKEN_MISSING, TOKEN_MULTIPLE
from tests.identity_fakes import reason_of


@pytest.mark.parametrize("value", ["Bearer a.b.c", "bearer a.b.c", "BEARER a.b.c", "Bearer  a.b.c", "Bearer a.b.c "])
def test_one_bearer_token_is_read(value: str) -> None:
    assert from_headers({"authorization": value}, "/mcp") == "a.b.c"


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "bearer  ",
        "Basic dXNlcjpwYXNz",
        "Bearera.b.c",
        "Bearer\ta.b.c",
        "DPoP",
        "DPoP ",
        "DPoPa",
    ],
)
def test_no_bearer_token_is_missing(value: str | None) -> None:
    headers = {} if value is None else {"authorization": value}
    assert reason_of(lambda: from_headers(headers, "/mcp")) is TOKEN_MISSING


@pytest.mark.parametrize("value", ["DPoP a.b.c", "dpop a.b.c", "DPOP  a.b.c"])
def test_a_bound_token_is_told_by_its_scheme(value: str) -> None:
    assert from_headers({"authorization": value}, "/mcp") == "a.b.c"
    assert is_dpop({"authorization": value})


@pytest.mark.parametrize("value", [None, "Bearer a.b.c", "DPoPa.b.c", "Bearer DPoP", "dpop"])
def test_any_other_scheme_is_not_that_of_bound_tokens(value: str | None) -> None:
    assert not is_dpop({} if value is None else {"authorization": value})


@pytest.mark.parametrize("value", ["Bearer a.b.c d.e.f", "Bearer a Bearer b"])
def test_more_than_one_word_is_malformed(value: str) -> None:
    assert reason_of(lambda: from_headers({"authorization": value}, "/mcp")) is TOKEN_MALFORMED


@pytest.mark.parametrize(
    "value",
    ["Bearer a,Bearer b", "Bearer a, Bearer a", "Basic x,Bearer a", "Bearer a,", ",Bearer a", "Bearer a,b"],
)
def test_a11_repeated_authorization_is_refused(value: str) -> None:
    assert reason_of(lambda: from_headers({"authorization": value}, "/mcp")) is TOKEN_MULTIPLE


@pytest.mark.parametrize(
    "query",
    [
        "access_token=x",
        "a=1&access_token=x",
        "a=1;access_token=x",
        "access_token",
        "ACCESS_TOKEN=x",
        "%61ccess_token=x",
        "access%5Ftoken=x",
        "authorization=Bearer+x",
        "a=b?c&access_token=x",
    ],
)
def test_a11_a_second_token_in_the_query_is_refused(query: str) -> None:
    headers = {"authorization": "Bearer a.b.c"}
    assert reason_of(lambda: from_headers(headers, f"/mcp?{query}")) is TOKEN_MULTIPLE


@pytest.mark.parametrize("cookie", ["access_token=x", "a=1; access_token=x", "a=1;Authorization=x", "a=1, bearer=x"])
def test_a11_a_second_token_in_a_cookie_is_refused(cookie: str) -> None:
    headers = {"authorization": "Bearer a.b.c", "cookie": cookie}
    assert reason_of(lambda: from_headers(headers, "/mcp")) is TOKEN_MULTIPLE


@pytest.mark.parametrize("path", ["/mcp?page_token=x", "/mcp?q=access_token", "/access_token", "/mcp?", "", "/mcp#x"])
def test_names_that_are_no_tokens_do_not_matter(path: str) -> None:
    headers = {"authorization": "Bearer a.b.c", "cookie": "theme=dark; access_token_expires=1"}
    assert from_headers(headers, path) == "a.b.c"


def test_a_token_only_in_the_query_or_a_cookie_is_no_token() -> None:
    assert reason_of(lambda: from_headers({}, "/mcp?access_token=x")) is TOKEN_MISSING
    assert reason_of(lambda: from_headers({"cookie": "access_token=x"}, "/mcp")) is TOKEN_MISSING


@pytest.mark.parametrize(
    "name",
    ["x-jwt-payload", "jwt_payload", "x-authz-agent", "x-forwarded-client-cert", "proxy-authorization", "x-tenant"],
)
def test_a15_identity_beside_the_authorization_header_is_not_read(name: str) -> None:
    assert reason_of(lambda: from_headers({name: "Bearer a.b.c"}, "/mcp")) is TOKEN_MISSING
