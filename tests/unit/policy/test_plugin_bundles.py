"""`services`, `keys` and `bundles` of OPA's configuration: what is followed as it says, and what cannot be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from authz.bundles import origin
from authz.clock import SystemClock
from authz.config import load
from authz.errors import ConfigError
from authz.policy.admission import pinned
from authz.policy.plugin_bundles import _KNOWN
from authz.policy.plugin_configuration import plugin_configuration
from tests.publisher import RELEASE, public_pem

DOCUMENT: dict[str, Any] = {
    "services": {"acmecorp": {"url": "https://bundles.example/v1/", "credentials": {"bearer": {"token": "${TOKEN}"}}}},
    "bundles": {"authz": {"service": "acmecorp", "resource": "payments.tar.gz", "signing": {"keyid": RELEASE.name}}},
    "keys": {RELEASE.name: {"algorithm": "ES256", "key": public_pem(RELEASE.private).decode()}},
}


NAMES = sorted({"authz", "acmecorp", RELEASE.name, *(name for known in _KNOWN.values() for name in known)})
PLACES = [
    "",
    *("bundles", "bundles.authz", "services", "services.acmecorp", "keys", f"keys.{RELEASE.name}", "discovery"),
    *("services.acmecorp.credentials", "services.acmecorp.credentials.bearer", "services.acmecorp.tls", "labels"),
    *("bundles.authz.polling", "bundles.authz.signing", "bundles.authz.resource", "bundles.authz.size_limit_bytes"),
    *("decision_logs", "persistence_directory", "bundles.authz.persist", "services.acmecorp.url"),
]


def read(document: dict[str, Any], *, has_policy: bool = False) -> dict[str, Any]:
    text = yaml.safe_dump(document)
    return dict(plugin_configuration(text, {"TOKEN": "hunter2"}, has_policy=has_policy).overrides)


def changed(path: str, value: Any) -> dict[str, Any]:
    """The document with another value at a dotted path."""
    copied: dict[str, Any] = yaml.safe_load(yaml.safe_dump(DOCUMENT))
    target, *names = copied, *path.split(".")
    for name in names[:-1]:
        target = target.setdefault(name, {})
    target[names[-1]] = value
    return copied


def test_a_signed_bundle_of_a_service_is_followed_by_its_key_and_its_token(tmp_path: Path) -> None:
    config = load(None, read(DOCUMENT) | {"policy.state": tmp_path})
    config.verify()
    (bundle,) = config.policy.bundles
    assert (bundle.source, bundle.token.get_secret_value()) == ("https://bundles.example/v1/payments.tar.gz", "hunter2")
    assert (bundle.poll_s, bundle.wait_s) == (90.0, 0.0)
    assert "hunter2" not in repr(config)
    assert config.policy.trust is not None
    trust = pinned(config.policy.trust, engine="", input_fields=None)
    assert trust.keys[RELEASE.name].public.public_numbers() == RELEASE.private.public_key().public_numbers()
    assert not [warning for warning in config.warnings() if "bundle" in warning]
    origin(bundle, None, SystemClock(), archive_bytes=1)


def test_without_a_resource_it_is_named_as_opa_names_it() -> None:
    document = changed("bundles.authz.resource", None)
    assert read(document)["policy.bundles"][0]["source"] == "https://bundles.example/v1/bundles/authz"


def test_services_may_be_listed_and_one_alone_need_not_be_named() -> None:
    document = changed("services", [{"name": "s", "url": "https://s"}]) | {"bundles": {"b": {"resource": "b.tar.gz"}}}
    assert read(document)["policy.bundles"][0]["source"] == "https://s/b.tar.gz"


@pytest.mark.parametrize(
    ("path", "value", "setting", "expected"),
    [
        ("bundles.authz.polling", {"min_delay_seconds": 10, "max_delay_seconds": 20}, "poll_s", 15.0),
        ("bundles.authz.polling", {"min_delay_seconds": 0, "max_delay_seconds": 0}, "poll_s", 1.0),
        ("bundles.authz.polling", {"long_polling_timeout_seconds": 30}, "wait_s", 30.0),
        ("services.acmecorp.credentials", {"bearer": {"token_path": "/run/t"}}, "token_file", Path("/run/t")),
        ("services.acmecorp.tls", {"ca_cert": "/run/ca.pem"}, "roots", Path("/run/ca.pem")),
        (
            "services.acmecorp.credentials",
            {"client_tls": {"cert": "/run/c.pem", "private_key": "/run/k.pem"}},
            "client",
            {"certificate": "/run/c.pem", "key": "/run/k.pem"},
        ),
    ],
)
def test_what_opa_says_of_a_bundle_is_kept(path: str, value: Any, setting: str, expected: Any) -> None:
    settings = read(changed(path, value))
    assert settings["policy.bundles"][0][setting] == expected
    load(None, settings)


def test_requests_to_s3_are_signed_for_the_region_of_the_environment() -> None:
    document = changed("services.acmecorp.credentials", {"s3_signing": {"environment_credentials": {}}})
    told = plugin_configuration(yaml.safe_dump(document), {"AWS_REGION": "eu-west-1"})
    assert told.overrides["policy.bundles"][0]["s3_region"] == "eu-west-1"
    load(None, dict(told.overrides))


def test_an_image_of_a_registry_is_followed_there() -> None:
    document = changed("services.acmecorp", {"url": "https://ghcr.io", "type": "oci"})
    document["bundles"]["authz"]["resource"] = "ghcr.io/acme/payments:prod"
    assert read(document)["policy.bundles"][0]["source"] == "oci://ghcr.io/acme/payments:prod"


def test_what_is_to_persist_has_a_folder_and_a_size_is_kept_within_ours() -> None:
    document = changed("bundles.authz", {"service": "acmecorp", "persist": True}) | {
        "persistence_directory": "/var/opa"
    }
    document["bundles"]["authz"]["size_limit_bytes"] = 1 << 40
    told = plugin_configuration(yaml.safe_dump(document), {"TOKEN": "hunter2"})
    assert (told.overrides["policy.state"], told.overrides["policy.bundle_bytes"]) == (Path("/var/opa"), 1 << 28)
    assert any("size_limit_bytes" in warning for warning in told.warnings)
    assert read(changed("bundles.authz", {"service": "acmecorp", "persist": True}))["policy.state"] == Path(".opa")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("bundles.second", {"service": "acmecorp"}),
        ("bundles.second", {"resource": "file:///opt/local.tar.gz"}),
        ("bundles.authz", 1),
        ("bundles.authz.service", "unknown"),
        ("bundles.authz.trigger", "manual"),
        ("bundles.authz.polling", {"min_delay_seconds": "often"}),
        ("bundles.authz.polling", {"min_delay_seconds": True}),
        ("bundles.authz.signing.keyid", "unknown"),
        ("bundles.authz.signing.exclude_files", ["data.json"]),
        ("bundles.authz.unheard", 1),
        (f"keys.{RELEASE.name}.algorithm", "RS256"),
        (f"keys.{RELEASE.name}", {"key": "text"}),
        ("services.acmecorp.url", None),
        ("services.acmecorp.type", "carrier-pigeon"),
        ("services.acmecorp.headers", {"x-token": "hunter2"}),
        ("services.acmecorp.allow_insecure_tls", True),
        ("services.acmecorp.tls", {"ca_cert": "ca.pem", "system_ca_required": True}),
        ("services.acmecorp.credentials", {"oauth2": {"token_url": "https://t"}}),
        ("services.acmecorp.credentials", {"gcp_metadata": {}}),
        ("services.acmecorp.credentials.bearer.scheme", "Basic"),
        ("services.acmecorp.credentials", {"bearer": {"scheme": "Bearer"}}),
        ("services.acmecorp.credentials", {"s3_signing": {"environment_credentials": {}}}),
        ("services.acmecorp.credentials", {"s3_signing": {"metadata_credentials": {}}}),
        ("services.acmecorp.credentials", {"s3_signing": {"environment_credentials": {}, "signature_version": "4a"}}),
    ],
)
def test_what_cannot_be_kept_refuses_and_names_it_without_a_value(path: str, value: Any) -> None:
    with pytest.raises(ConfigError) as refused:
        read(changed(path, value))
    assert "hunter2" not in f"{refused.value} {refused.value.remedy}"


def test_an_unsigned_bundle_is_followed_only_where_the_operator_says_so_and_warned_of() -> None:
    document = changed("bundles.authz.signing", None)
    with pytest.raises(ConfigError, match=r"policy\.trust"):
        load(None, read(document)).verify()
    insecure = load(None, read(document) | {"policy.insecure_unverified_bundles": True})
    insecure.verify()
    assert any("insecure_unverified_bundles" in warning for warning in insecure.warnings())


def test_a_policy_that_a_flag_names_stands_above_the_files_bundles() -> None:
    settings = read(DOCUMENT, has_policy=True)
    assert not {"policy.bundles", "policy.trust", "policy.paths"} & settings.keys()
    told = plugin_configuration(yaml.safe_dump(DOCUMENT), {}, has_policy=True)
    assert any("--policy stands above" in warning for warning in told.warnings)


def test_sections_that_are_read_are_not_warned_of() -> None:
    assert plugin_configuration(yaml.safe_dump(DOCUMENT), {"TOKEN": "hunter2"}).warnings == (
        "`:9191` takes plaintext from the network, which may forge checks: set listen.tls, or a unix socket",
    )


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4),
    max_leaves=12,
)


@given(place=st.sampled_from(PLACES), value=ANYTHING)
def test_any_value_anywhere_is_settings_or_a_refusal(place: str, value: Any) -> None:
    try:
        settings = read(changed(place, value) if place else value)
    except ConfigError:
        return
    try:
        load(None, settings)
    except ConfigError:
        return
