"""`authz up` changes addresses and limits of the shipped file, and nothing that keeps the door shut."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from authz.config import Config
from authz.errors import ConfigError
from authz.model import Protocol
from authz.proxy.configuration import ENVOY_BODY_BYTES, Plan, for_envoy, for_service, upstream
from authz.proxy.lint import lint

SHIPPED: dict[str, Any] = yaml.safe_load(
    (Path(__file__).resolve().parents[3] / "envoy" / "sidecar.yaml").read_text(encoding="utf-8")
)
PLAN = Plan(
    policy=(Path("/p"),),
    upstream=upstream("http://127.0.0.1:3000/mcp"),
    protocol=Protocol.MCP,
    host="127.0.0.1",
    port=10_000,
    server="office",
    max_body_bytes=262_144,
    state=Path("/s"),
    socket=Path("/s/authz.sock"),
    admin=Path("/s/admin.sock"),
    diagnostics="127.0.0.1:8282",
    issuer="https://issuer",
    audience="authz",
    jwks=Path("/s/jwks.json"),
    ca_bundle=Path("/ca.pem"),
)


def clusters(plan: Plan) -> dict[str, Any]:
    found = for_envoy(SHIPPED, plan)["static_resources"]["clusters"]
    return {cluster["name"]: cluster for cluster in found}


def address(cluster: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"]
    return found


def towards(url: str) -> Plan:
    return replace(PLAN, upstream=upstream(url))


@pytest.mark.parametrize("plan", [PLAN, towards("https://api.example/v1/"), replace(PLAN, max_body_bytes=4 << 20)])
def test_what_is_made_has_no_findings(tmp_path: Path, plan: Plan) -> None:
    file = tmp_path / "envoy.yaml"
    file.write_text(yaml.safe_dump(for_envoy(SHIPPED, plan)))
    errors = {finding.rule.id for finding in lint(file)}
    # A larger body limit of ours goes with a larger message limit, which the lint of Envoy's file cannot know.
    assert errors <= {"body-too-large"}
    assert not errors or plan.max_body_bytes > 262_144


def test_the_shipped_document_is_not_touched() -> None:
    before = yaml.safe_dump(SHIPPED)
    for_envoy(SHIPPED, towards("https://api.example:8443/v1/"))
    assert yaml.safe_dump(SHIPPED) == before


def test_both_programs_meet_at_the_socket() -> None:
    assert address(clusters(PLAN)["authz"]) == {"pipe": {"path": "/s/authz.sock"}}
    assert for_service(PLAN)["listen"]["check"] == "unix:///s/authz.sock"


def test_an_upstream_by_address_is_static_and_by_name_is_resolved() -> None:
    assert clusters(PLAN)["tools"]["type"] == "STATIC"
    named = clusters(towards("http://tools.example:3000/mcp"))["tools"]
    assert (named["type"], address(named)["socket_address"]["address"]) == ("STRICT_DNS", "tools.example")


def test_an_https_upstream_is_verified_by_name() -> None:
    context = clusters(towards("https://api.example/v1/"))["tools"]["transport_socket"]["typed_config"]
    assert (context["sni"], context["auto_sni_san_validation"]) == ("api.example", True)
    assert context["common_tls_context"]["validation_context"] == {"trusted_ca": {"filename": "/ca.pem"}}


def test_an_https_upstream_by_address_is_verified_by_address() -> None:
    context = clusters(towards("https://10.0.0.1/v1/"))["tools"]["transport_socket"]["typed_config"]
    names = context["common_tls_context"]["validation_context"]["match_typed_subject_alt_names"]
    assert names == [{"san_type": "IP_ADDRESS", "matcher": {"exact": "10.0.0.1"}}]
    assert "sni" not in context


def test_without_ca_certificates_there_is_no_https() -> None:
    with pytest.raises(ConfigError, match="CA certificates"):
        for_envoy(SHIPPED, replace(towards("https://api.example/"), ca_bundle=None))


@pytest.mark.parametrize(
    ("url", "authority"),
    [
        ("http://127.0.0.1:3000/mcp", "127.0.0.1:3000"),
        ("https://api.example/", "api.example"),
        ("https://api.example:8443/", "api.example:8443"),
        ("http://[::1]:3000/mcp", "[::1]:3000"),
    ],
)
def test_the_host_header_is_the_upstream_s_own(url: str, authority: str) -> None:
    listener = for_envoy(SHIPPED, towards(url))["static_resources"]["listeners"][0]
    http = listener["filter_chains"][0]["filters"][0]["typed_config"]
    route = http["route_config"]["virtual_hosts"][0]["routes"][0]["route"]
    assert route["host_rewrite_literal"] == authority


@pytest.mark.parametrize(
    "url",
    [
        "127.0.0.1:3000",
        "ftp://a/",
        "http:///mcp",
        "http://a:x/",
        "http://user@a/",
        "http://a/?q=1",
        "http://a/#f",
        "http://[::1/",
        "",
    ],
)
def test_what_is_no_upstream_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="--upstream"):
        upstream(url)


def test_a_url_without_a_path_is_the_root() -> None:
    assert upstream("http://a").path == "/"


def test_the_service_s_file_is_a_configuration_that_verifies() -> None:
    Config.model_validate(for_service(PLAN)).verify()


def test_an_mcp_server_has_one_path_and_an_api_all_below_one() -> None:
    assert for_service(PLAN)["routes"][0]["path"] == "/mcp"
    api = replace(PLAN, protocol=Protocol.HTTP)
    assert for_service(api)["routes"][0]["path_prefix"] == "/mcp"


@pytest.mark.parametrize("max_body", [1, 262_144, 1 << 20, 8 << 20])
def test_a20_each_limit_stands_above_the_one_inside_it(max_body: int) -> None:
    plan = replace(PLAN, max_body_bytes=max_body)
    listener = for_envoy(SHIPPED, plan)["static_resources"]["listeners"][0]
    filters = listener["filter_chains"][0]["filters"][0]["typed_config"]["http_filters"]
    ext_authz = next(entry for entry in filters if entry["name"] == "envoy.filters.http.ext_authz")
    envoy_limit = ext_authz["typed_config"]["with_request_body"]["max_request_bytes"]
    assert envoy_limit == listener["per_connection_buffer_limit_bytes"] >= ENVOY_BODY_BYTES
    assert max_body < envoy_limit < for_service(plan)["limits"]["max_message_bytes"]
    Config.model_validate(for_service(plan)).verify()


def test_path_templates_reach_the_route_of_an_http_api() -> None:
    plan = replace(PLAN, protocol=Protocol.HTTP, templates=("/accounts/{id}",))
    assert Config.model_validate(for_service(plan)).routes[0].templates == ("/accounts/{id}",)


def test_path_templates_before_an_mcp_server_are_a_mistake() -> None:
    with pytest.raises(ConfigError, match="--template"):
        replace(PLAN, templates=("/accounts/{id}",))
