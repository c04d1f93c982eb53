"""Every way around the decision is found, by its id and line; what is shipped has none (A18)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from authz.errors import ConfigError
from authz.policy.lint import Severity
from authz.proxy.lint import lint
from authz.proxy.rules import RULES

SHIPPED = Path(__file__).resolve().parents[3] / "envoy"
BODY = "with_request_body: {max_request_bytes: 1048576, allow_partial_message: false, pack_as_bytes: true}"
TIMEOUT = "{cluster_name: authz}, timeout: 0.2s}"
VERSION = "transport_api_version: V3"
STAT = "stat_prefix: authz"
SANITIZE = "stat_prefix: sanitize_request"
SETTINGS = "                      context_extensions:\n"
INDENT = " " * 22
FILTER = "- name: envoy.filters.http.ext_authz\n"
CLOSED, OPENED = "failure_mode_allow: false", "failure_mode_allow: true"
DEEP = "\n              "
OVERRIDE = "                  envoy.filters.http.ext_authz:\n"
METADATA = "                  metadata_options: {forwarding_namespaces: {untyped: [envoy.filters.http.ext_authz]}}\n"
PIPE = "{pipe: {path: /run/authz/pdp.sock}}"
TUNNEL = """
  - name: tunnel
    address: {socket_address: {address: 127.0.0.1, port_value: 10001}}
    filter_chains:
    - filters:
      - name: tcp
        typed_config:
          '@type': type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy
          cluster: tools
  clusters:
"""
OPEN = """
  - name: open
    filter_chains:
    - filters:
      - name: http
        typed_config:
          '@type': type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          route_config: {virtual_hosts: [{domains: ['*'], routes: [{match: {prefix: /}, route: {cluster: tools}}]}]}
          http_filters: []
  clusters:
"""

# id, what is replaced in sidecar.yaml, what by
BROKEN = [
    ("failure-mode-allow", f"{CLOSED}{DEEP}status", f"{OPENED}{DEEP}status"),
    ("failure-mode-allow", f"{CLOSED}{DEEP}    message", f"{OPENED}{DEEP}    message"),
    ("body-missing", BODY, ""),
    ("body-missing", SETTINGS, f"{INDENT}disable_request_body_buffering: true\n{SETTINGS}"),
    ("body-partial", "allow_partial_message: false", "allow_partial_message: true"),
    ("body-partial", "request_body_mode: BUFFERED #", "request_body_mode: BUFFERED_PARTIAL #"),
    ("body-text", ", pack_as_bytes: true", ""),
    ("body-text", "pack_as_bytes: true", "pack_as_bytes: false"),
    ("body-limit", "{max_request_bytes: 1048576", "{max_request_bytes: 65536"),
    ("body-too-large", "{max_request_bytes: 1048576", "{max_request_bytes: 16777216"),
    ("timeout-default", TIMEOUT, "{cluster_name: authz}}"),
    ("timeout-long", TIMEOUT, "{cluster_name: authz}, timeout: 0s}"),
    ("timeout-long", TIMEOUT, "{cluster_name: authz}, timeout: 10s}"),
    ("timeout-short", TIMEOUT, "{cluster_name: authz}, timeout: 0.1s}"),
    ("api-version", VERSION, "transport_api_version: V2"),
    ("api-version", VERSION, ""),
    ("http-service", VERSION, f"{VERSION}\n              http_service: {{}}"),
    ("partly-enabled", STAT, f"{STAT}{DEEP}filter_enabled: {{default_value: {{numerator: 99}}}}"),
    ("partly-enabled", STAT, f"{STAT}{DEEP}filter_enabled: {{default_value: {{numerator: 9, denominator: MILLION}}}}"),
    ("partly-enabled", FILTER, f"{FILTER}            disabled: true\n"),
    ("nothing-protected", FILTER, f"{FILTER}            disabled: true\n"),
    ("nothing-protected", "ext_authz.v3.ExtAuthz\n", "lua.v3.Lua\n"),
    ("unprotected", "ext_authz.v3.ExtAuthz\n", "lua.v3.Lua\n"),
    ("unprotected", "\n  clusters:\n", OPEN),
    ("bypass", "\n  clusters:\n", TUNNEL),
    ("shadow-mode", STAT, f"{STAT}\n              shadow_mode: true"),
    ("route-disabled", OVERRIDE, f"{OVERRIDE}                    disabled: true\n"),
    ("route-cache", "clear_route_cache: false", "clear_route_cache: true"),
    ("route-cache", SANITIZE, f"{SANITIZE}\n                  route_cache_action: CLEAR"),
    ("mode-override", SANITIZE, f"{SANITIZE}\n                  allow_mode_override: true"),
    ("observability-mode", SANITIZE, f"{SANITIZE}\n                  observability_mode: true"),
    ("no-immediate-response", SANITIZE, f"{SANITIZE}\n                  disable_immediate_response: true"),
    ("metadata", METADATA, ""),
    ("metadata-forged", "mutations:\n", "metadata_namespace: envoy.filters.http.ext_authz\n              mutations:\n"),
    ("leg", "{key: x-leg, value: request}", "{key: x-leg, value: both}"),
    ("sanitize-promised", "{key: x-leg, value: request}", "{key: x-leg, value: duplex}"),
    ("answers-promised", "{key: x-leg, value: duplex}", "{key: x-leg, value: request}"),
    ("upgrade", "generate_request_id: true", "upgrade_configs: [{upgrade_type: websocket}]"),
    ("upgrade", "timeout: 0s #", "upgrade_configs: [{upgrade_type: CONNECT, connect_config: {}}] #"),
    ("encoding", "request_headers_to_remove: [accept-encoding]", ""),
    ("plaintext", PIPE, "{socket_address: {address: 10.0.0.7, port_value: 9191}}"),
    ("plaintext", PIPE, "{socket_address: {address: pdp.example, port_value: 9191}}"),
    ("not-seen", "{cluster_name: authz}, timeout: 0.2s}", "{cluster_name: elsewhere}, timeout: 0.2s}"),
    ("not-seen", "static_resources:\n", "dynamic_resources: {lds_config: {ads: {}}}\nstatic_resources:\n"),
    ("path-changed", "normalize_path: false", "normalize_path: true"),
    ("path-changed", "merge_slashes: false", "merge_slashes: true"),
    ("path-changed", "KEEP_UNCHANGED", "UNESCAPE_AND_FORWARD"),
    ("validate-mutations", "validate_mutations: true", ""),
    ("encode-raw-headers", "encode_raw_headers: true", "encode_raw_headers: false"),
]  # fmt: skip


def write(folder: Path, text: str) -> Path:
    file = folder / "envoy.yaml"
    file.write_text(text)
    return file


def ids(file: Path) -> set[str]:
    return {finding.rule.id for finding in lint(file)}


@pytest.mark.parametrize("name", ["sidecar", "ext-authz-only", "forward-proxy"])
def test_a18_what_is_shipped_has_no_findings(name: str) -> None:
    assert lint(SHIPPED / f"{name}.yaml") == []


@pytest.mark.parametrize(("rule", "sound", "broken"), BROKEN)
def test_a18_each_broken_variant_is_found_by_its_id(tmp_path: Path, rule: str, sound: str, broken: str) -> None:
    text = (SHIPPED / "sidecar.yaml").read_text()
    assert sound in text
    assert rule in ids(write(tmp_path, text.replace(sound, broken, 1)))


def test_every_rule_but_two_has_a_broken_variant() -> None:
    # `order` and `no-matcher` need filters moved, not text replaced: below.
    assert RULES.keys() - {rule for rule, _, _ in BROKEN} == {"order", "no-matcher"}


def filters(root: dict[str, object]) -> list[dict[str, object]]:
    found: list[dict[str, object]] = root["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0][  # type: ignore[index]
        "typed_config"
    ]["http_filters"]
    return found


def test_a18_filters_in_the_wrong_order_are_found(tmp_path: Path) -> None:
    for moved in (2, -1):
        root = yaml.safe_load((SHIPPED / "sidecar.yaml").read_text())
        chain = filters(root)
        chain.insert(0, chain.pop(moved))
        assert "order" in ids(write(tmp_path, yaml.safe_dump(root)))


def test_an_ext_proc_without_a_matcher_is_found(tmp_path: Path) -> None:
    root = yaml.safe_load((SHIPPED / "sidecar.yaml").read_text())
    chain = filters(root)
    chain[2] = chain[2]["typed_config"]["extension_config"]  # type: ignore[index]
    assert ids(write(tmp_path, yaml.safe_dump(root))) == {"no-matcher"}


def test_a_filter_that_denies_when_it_is_off_may_be_off(tmp_path: Path) -> None:
    partly = "filter_enabled: {default_value: {numerator: 50}}\n              deny_at_disable: {default_value: true}"
    text = (SHIPPED / "sidecar.yaml").read_text().replace(STAT, f"{STAT}\n              {partly}")
    assert ids(write(tmp_path, text)) == set()


def test_a_listener_that_forwards_nothing_needs_no_decision(tmp_path: Path) -> None:
    answered = OPEN.replace("route: {cluster: tools}", "direct_response: {status: 200}")
    text = (SHIPPED / "sidecar.yaml").read_text().replace("\n  clusters:\n", answered)
    assert ids(write(tmp_path, text)) == set()


def test_json_with_camel_case_names_is_read_alike(tmp_path: Path) -> None:
    text = (SHIPPED / "sidecar.yaml").read_text()
    written = json.dumps(yaml.safe_load(text)).replace('"failure_mode_allow": false', '"failureModeAllow": true')
    assert ids(write(tmp_path, written)) == {"failure-mode-allow"}


def test_a_finding_names_its_line_and_a_remedy(tmp_path: Path) -> None:
    text = (SHIPPED / "sidecar.yaml").read_text().replace("clear_route_cache: false", "clear_route_cache: true")
    (finding,) = lint(write(tmp_path, text))
    assert "clear_route_cache" in text.splitlines()[finding.row - 1]
    assert (finding.rule.severity, bool(finding.rule.remedy)) == (Severity.ERROR, True)


@pytest.mark.parametrize("text", ["[]", "a: [", "", "%"])
def test_what_is_no_configuration_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError):
        lint(write(tmp_path, text))


def test_an_empty_configuration_protects_nothing(tmp_path: Path) -> None:
    assert ids(write(tmp_path, "{}")) == {"nothing-protected"}


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml"):
        lint(tmp_path / "none.yaml")
