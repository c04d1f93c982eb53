"""Routes are compared on raw bytes; whatever looks like a route only after normalising is none."""

from __future__ import annotations

import pytest

from authz.config import Route
from authz.errors import InvalidRequestError
from authz.model import Check, Protocol
from authz.protocol import routes

MCP = Route(path="/mcp")
API = Route(path_prefix="/api/", protocol=Protocol.HTTP)
PROXY = Route(path_prefix="/", host="proxy.test", protocol=Protocol.PROXY)


def check(path: str, *, host: str = "tools.test", method: str = "POST") -> Check:
    return Check(method=method, path=path, host=host)


def refusal(request: Check, *configured: Route) -> str:
    with pytest.raises(InvalidRequestError) as caught:
        routes.match(request, configured)
    return caught.value.reason.code


@pytest.mark.parametrize("path", ["/mcp", "/mcp?", "/mcp?a=/../b"])
def test_the_query_takes_no_part_in_the_match(path: str) -> None:
    assert routes.match(check(path), (API, MCP)) is MCP


@pytest.mark.parametrize(
    "path",
    [
        "", "/", "*", "//mcp", "/mcp/", "/mcp/..;/", "/mcp%2f", "/mcp%00", "/%6dcp", "/mcp;a=b", "/MCP", "/mcp\\",
        "/./mcp", "/x/../mcp", "/mcp#f", "/mcp ", " /mcp", "mcp", "http://tools.test/mcp",
    ],
)  # fmt: skip
def test_a16_only_the_exact_path_is_a_route(path: str) -> None:
    assert refusal(check(path), MCP) == "PATH_UNKNOWN"


@pytest.mark.parametrize("rest", ["", "v1/accounts", "v1/caf%C3%A9", "v1/a%20b/"])
def test_a_prefix_takes_what_begins_with_it(rest: str) -> None:
    assert routes.match(check("/api/" + rest), (MCP, API)) is API


@pytest.mark.parametrize(
    "rest",
    ["..;/admin", "../admin", "%2e%2e/admin", "a//b", "a%2fb", "a%5cb", "a\\b", "a;v=1", "a%00", "a%252fb", "%zz",
     "%c0%af", "caf\xe9", "."],
)  # fmt: skip
def test_a16_behind_a_prefix_nothing_ambiguous_is_taken(rest: str) -> None:
    assert refusal(check("/api/" + rest), API) == "HTTP_PATH"


def test_a16_a_prefix_is_compared_byte_for_byte() -> None:
    assert refusal(check("/API/x"), API) == "PATH_UNKNOWN"


def test_the_first_route_that_fits_is_taken() -> None:
    wide = Route(path_prefix="/")
    assert routes.match(check("/mcp"), (MCP, wide)) is MCP
    assert routes.match(check("/mcp"), (wide, MCP)) is wide


def test_a_host_is_compared_without_case_and_without_guessing() -> None:
    hosted = Route(path="/mcp", host="Tools.Test:8443")
    assert routes.match(check("/mcp", host="tools.test:8443"), (hosted,)) is hosted
    assert refusal(check("/mcp", host="tools.test"), hosted) == "PATH_UNKNOWN"
    assert refusal(check("/mcp", host=""), hosted) == "PATH_UNKNOWN"


def test_a9_connect_without_a_path_goes_to_a_proxy_only() -> None:
    assert routes.match(check("", host="proxy.test", method="CONNECT"), (MCP, PROXY)) is PROXY
    assert refusal(check("", method="CONNECT"), MCP, API, PROXY) == "PATH_UNKNOWN"
    assert refusal(check("/mcp", method="CONNECT"), MCP) == "PATH_UNKNOWN"


def test_no_routes_match_nothing() -> None:
    assert refusal(check("/mcp")) == "PATH_UNKNOWN"


@pytest.mark.parametrize(
    ("method", "scheme", "host", "named"),
    [
        ("CONNECT", "", "DB.test.:5432", "db.test:5432"), ("GET", "http", "db.test", "db.test:80"),
        ("GET", "https", "db.test", "db.test:443"), ("GET", "", "db.test:8080", "db.test:8080"),
        ("GET", "", "db.test", "db.test"), ("CONNECT", "", "0xa9fea9fe:80", "169.254.169.254:80"),
    ],
)  # fmt: skip
def test_e10_a_proxy_is_asked_for_one_destination_however_it_is_spelt(
    method: str, scheme: str, host: str, named: str
) -> None:
    request = Check(method=method, scheme=scheme, host=host)
    assert str(routes.destination_of(request, PROXY)) == named


@pytest.mark.parametrize(
    ("method", "host"),
    [
        ("CONNECT", "db.test"),
        ("CONNECT", ""),
        ("GET", ""),
        ("GET", "a b"),
        ("GET", "user@db.test"),
        ("GET", "1.2.3.999"),
    ],
)
def test_e10_a_host_that_can_be_read_in_two_ways_is_refused(method: str, host: str) -> None:
    with pytest.raises(InvalidRequestError, match="HTTP_HOST"):
        routes.destination_of(Check(method=method, host=host), PROXY)


def test_elsewhere_the_operator_says_where_calls_lead() -> None:
    request = check("/mcp", host="anything at all")
    assert routes.destination_of(request, MCP) is None
    led = routes.destination_of(request, Route(path="/mcp", destination="Tools.Example.:443"))
    assert str(led) == "tools.example:443"
