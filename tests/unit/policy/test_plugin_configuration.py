"""OPA's configuration file runs unchanged: what it sets, what it only warns of, what it cannot mean."""

from __future__ import annotations

from pathlib import Path

import pytest

from authz.config import load
from authz.errors import ConfigError
from authz.policy.plugin_configuration import plugin_configuration

README_EXAMPLE = """
plugins:
  envoy_ext_authz_grpc:
    addr: :9191
    path: envoy/authz/allow
    dry-run: false
    enable-reflection: true
    grpc-max-recv-msg-size: 8388608
    grpc-max-send-msg-size: 2147483647
    skip-request-body-parse: true
    enable-performance-metrics: true
decision_logs:
  console: true
"""


def read(text: str, **environment: str) -> dict[str, object]:
    return dict(plugin_configuration(text, environment).overrides)


def warnings(text: str) -> str:
    return "\n".join(plugin_configuration(text, {}).warnings)


def block(text: str) -> str:
    return f"plugins: {{envoy_ext_authz_grpc: {{{text}}}}}"


def test_the_plugins_block_becomes_our_settings() -> None:
    assert read(README_EXAMPLE) == {
        "policy.contract": "envoy",
        "policy.entrypoint": "envoy/authz/allow",
        "policy.dry_run": False,
        "policy.skip_request_body_parse": True,
        "listen.check": ":9191",
        "listen.insecure_plaintext": True,
        "listen.reflection": True,
        "limits.max_message_bytes": 8_388_608,
    }


def test_what_is_read_is_a_configuration_that_verifies(tmp_path: Path) -> None:
    settings = read(README_EXAMPLE) | {"policy.paths": (tmp_path,)}
    config = load(None, settings)
    config.verify()
    assert config.policy.contract == "envoy"
    assert config.policy.rule == "envoy/authz/allow"


def test_an_empty_file_is_the_plugin_with_its_defaults() -> None:
    overrides = read("{}")
    assert overrides["listen.check"] == ":9191"
    assert load(None, overrides).policy.rule == "envoy/authz/allow"


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("127.0.0.1:9191", "127.0.0.1:9191"),
        ("grpc://127.0.0.1:9191", "127.0.0.1:9191"),
        ("unix:///run/opa/auth.sock", "unix:///run/opa/auth.sock"),
        ("unix://@abstract", "unix://@abstract"),
    ],
)
def test_local_addresses_are_taken_without_a_warning(address: str, expected: str) -> None:
    configuration = plugin_configuration(block(f'addr: "{address}"'), {})
    assert configuration.overrides["listen.check"] == expected
    assert "listen.insecure_plaintext" not in configuration.overrides
    assert not configuration.warnings


@pytest.mark.parametrize("address", [":9191", "0.0.0.0:9191", "10.0.0.1:9191", "grpc://opa:9191"])
def test_plaintext_from_the_network_is_allowed_as_the_plugin_does_and_warned_of(address: str) -> None:
    text = block(f'addr: "{address}"')
    assert read(text)["listen.insecure_plaintext"] is True
    assert "plaintext" in warnings(text)


def test_a_query_is_an_entrypoint() -> None:
    assert read(block("query: data.istio.authz.allow"))["policy.entrypoint"] == "istio/authz/allow"


@pytest.mark.parametrize("query", ["data.a.b == true", "x := data.a", "input.x", "data"])
def test_a_query_that_is_more_than_a_reference_is_refused(query: str) -> None:
    with pytest.raises(ConfigError, match="query"):
        read(block(f'query: "{query}"'))


def test_path_and_query_together_are_refused_as_the_plugin_does() -> None:
    with pytest.raises(ConfigError, match="both"):
        read(block("path: a/b, query: data.a.b"))


@pytest.mark.parametrize(
    "text",
    ['dry-run: "true"', "dry-run: 1", "grpc-max-recv-msg-size: true", "grpc-max-recv-msg-size: 4MiB", "path: [a]"],
)
def test_a_value_of_another_type_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="is not of type"):
        read(block(text))


@pytest.mark.parametrize(
    "text", ["- a", "plugins: []", "plugins: {envoy_ext_authz_grpc: x}", "bundles: 1", "a: [", "x"]
)
def test_a_file_of_another_shape_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        read(text)


def test_a_file_that_does_not_parse_is_not_repeated() -> None:
    with pytest.raises(ConfigError) as caught:
        read("services:\n  s: {credentials: {bearer: {token: hunter2}}\n  x: [")
    assert "hunter2" not in str(caught.value)


def test_a_dry_run_is_warned_of() -> None:
    assert "no denial" in warnings(block("dry-run: true"))
    assert "no denial" not in warnings(block("dry-run: false"))


def test_unknown_keys_warn_with_the_nearest_known_and_never_refuse() -> None:
    said = warnings("plugin: {}\nplugins: {envoy_ext_authz_grpc: {dry_run: true}, my_plugin: {}}")
    assert "plugin: unknown key, ignored; did you mean `plugins`?" in said
    assert "plugins.envoy_ext_authz_grpc.dry_run: unknown key, ignored; did you mean `dry-run`?" in said
    assert "plugins.my_plugin: unknown key, ignored" in said
    assert "policy.dry_run" not in read(block("dry_run: true"))


@pytest.mark.parametrize("section", ["services", "decision_logs", "status", "keys", "distributed_tracing"])
def test_sections_without_effect_say_so_whatever_their_shape(section: str) -> None:
    assert f"{section}: no effect" in warnings(f"{section}: [x]")


def test_local_bundles_are_policy_paths() -> None:
    text = 'bundles: {local: {resource: "file:///opt/a%20b.tar.gz"}, other: {resource: "file:///opt/c.rego"}}'
    assert read(text)["policy.paths"] == (Path("/opt/a b.tar.gz"), Path("/opt/c.rego"))


def test_f19_no_discovery_re_points_anything() -> None:
    with pytest.raises(ConfigError, match="re-point"):
        read("discovery: {name: example, resource: /configuration/authz.tar.gz}")


@pytest.mark.parametrize("where", ["service: log", "plugin: my_logs"])
def test_records_that_would_be_missed_where_they_are_looked_for_warn(where: str) -> None:
    assert "decision_logs: no effect: records are not uploaded" in warnings(f"decision_logs: {{{where}}}")


def test_labels_go_into_the_records() -> None:
    assert read("labels: {region: eu, n: 1}")["audit.labels"] == {"region": "eu", "n": "1"}


def test_variables_are_replaced_and_missing_ones_are_empty() -> None:
    text = block('addr: "127.0.0.1:${PORT}", path: "${NONE}envoy/${NAME}"')
    overrides = read(text, PORT="9300", NAME="allow")
    assert overrides["listen.check"] == "127.0.0.1:9300"
    assert overrides["policy.entrypoint"] == "envoy/allow"


@pytest.mark.parametrize(("given", "used"), [(1024, 524_289), (10**9, 67_108_864), (4_194_304, 4_194_304)])
def test_a_message_limit_stays_within_our_own(given: int, used: int) -> None:
    assert read(block(f"grpc-max-recv-msg-size: {given}"))["limits.max_message_bytes"] == used
    load(None, {"limits.max_message_bytes": used})
