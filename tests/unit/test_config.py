"""Configuration: what is unknown, missing or unsafe refuses to start and says what to do (K4)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from authz.config import Config, Control, Issuer, Listen, Policy, Revocation, Route, load
from authz.errors import ConfigError
from authz.model import Protocol
from tests.fakes import ISSUER, configuration


def refused(path: Path | None = None, overrides: dict[str, Any] | None = None) -> str:
    with pytest.raises(ConfigError) as raised:
        load(path, overrides)
    return str(raised.value)


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "authz.yaml"
    path.write_text(text)
    return path


def test_the_defaults_are_these() -> None:
    config = Config()
    assert (config.listen.check, config.listen.diagnostics, config.listen.socket_mode) == (
        "127.0.0.1:9191",
        "127.0.0.1:8282",
        0o660,
    )
    assert (config.limits.deadline_s, config.limits.max_body_bytes, config.limits.leeway_s) == (0.12, 262_144, 30.0)
    assert (config.limits.token_lifetime_s, config.limits.json_depth) == (900.0, 32)
    assert (config.audit.sync, config.audit.record_inputs, config.revocation.source) == ("group", "masked", "none")
    assert (config.policy.rule, Policy(contract="envoy").rule) == ("authz/decision", "envoy/authz/allow")
    assert not config.listen.insecure_plaintext


def test_a_control_plane_brings_its_kills_unless_told_otherwise(tmp_path: Path) -> None:
    control = {"control.url": "https://control.example:8443", "control.state": str(tmp_path)}
    assert load().revocation.mode == "none"
    assert load(overrides=control).revocation.mode == "control"
    assert load(overrides=control | {"revocation.source": "none"}).revocation.mode == "none"
    elsewhere = load(overrides=control | {"revocation.source": "rediss://u:s3cret@redis:6379"}).revocation
    assert elsewhere.mode == "redis"


@pytest.mark.parametrize(
    ("source", "url", "told"),
    [
        ("control", "", "set control.url"), ("redis://r", "", "set control.url"),
        ("https://r", "https://c", "rediss://"), ("redis", "https://c", "rediss://"),
    ],
)  # fmt: skip
def test_kills_that_could_not_be_followed_refuse_to_start(tmp_path: Path, source: str, url: str, told: str) -> None:
    config = Config(
        policy=Policy(paths=(tmp_path,)),
        issuers=(Issuer(issuer="i", audience="a", jwks="k"),),
        revocation=Revocation(source=source),
        control=Control(url=url, state=tmp_path),
    )
    with pytest.raises(ConfigError) as refused:
        config.verify()
    assert told in refused.value.remedy


def test_without_routes_mcp_is_served_at_mcp_and_envoys_contract_checks_none() -> None:
    assert [(route.path, route.protocol) for route in load().routes] == [("/mcp", Protocol.MCP)]
    assert load(overrides={"policy.contract": "envoy"}).routes == ()


def test_overrides_win_over_the_file_and_the_file_over_defaults(tmp_path: Path) -> None:
    path = written(tmp_path, "version: 1\nlisten: {check: '127.0.0.1:1', diagnostics: '127.0.0.1:2'}\n")
    config = load(path, {"listen.check": "127.0.0.1:3"})
    assert (config.listen.check, config.listen.diagnostics) == ("127.0.0.1:3", "127.0.0.1:2")


def test_k4_an_unknown_key_is_refused_with_the_nearest_known_one(tmp_path: Path) -> None:
    message = refused(written(tmp_path, "version: 1\nlisten: {chek: '127.0.0.1:1'}\n"))
    assert "authz.yaml" in message
    assert "`listen.chek`" in message
    assert "did you mean `check`" in message


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("version: 2\n", "version"),
        ("- a\n", "not a mapping"),
        ("a: [\n", "not YAML"),
        ("version: 1\nversion: 1\n", "set twice"),
        ("routes: [{path: /a, path_prefix: /b}]\n", "exactly one of path and path_prefix"),
        ("routes: [{protocol: mcp}]\n", "exactly one of path and path_prefix"),
        ("routes: [{path: /a, protocol: soap}]\n", "routes.0.protocol"),
        ("routes: [{path: /a, deny_status: 404}]\n", "routes.0.deny_status"),
        ("limits: {deadline_s: 0}\n", "limits.deadline_s"),
        ("limits: {token_lifetime_s: 901}\n", "limits.token_lifetime_s"),
        ("limits: {leeway_s: 61}\n", "limits.leeway_s"),
        ("issuers: [{issuer: a}]\n", "issuers.0.audience"),
        ("audit: {sync: maybe}\n", "audit.sync"),
        ("listen: text\n", "listen"),
    ],
)
def test_k4_a_wrong_value_is_refused_by_name(tmp_path: Path, text: str, says: str) -> None:
    assert says in refused(written(tmp_path, text))


def test_a_refusal_never_repeats_the_value(tmp_path: Path) -> None:
    assert "hunter2" not in refused(written(tmp_path, "issuers: [{issuer: hunter2, jwks: {secret: hunter2}}]\n"))


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    assert "No such file" in refused(tmp_path / "absent.yaml")


@pytest.mark.parametrize("address", ["0.0.0.0:1", "[::]:1", "192.168.0.1:1", "example.com:1", ":9191"])
def test_plaintext_elsewhere_is_refused_unless_named_insecure(address: str) -> None:
    assert "listen.tls" in refused(overrides={"listen.check": address})
    assert load(overrides={"listen.check": address, "listen.insecure_plaintext": True}).listen.check == address


@pytest.mark.parametrize(
    ("groups", "says"),
    [
        ({}, "no policy"),
        ({"policy": Policy(paths=(Path("p"),)), "issuers": ()}, "no token issuer"),
        ({"policy": Policy(paths=(Path("p"),), dry_run=True)}, "dry_run"),
    ],
)
def test_what_decisions_rest_on_must_be_there(groups: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        configuration(**groups).verify()


def test_a20_the_message_limit_stands_above_every_body_limit(tmp_path: Path) -> None:
    route = Route(path="/mcp", max_body_bytes=5 * 1024 * 1024)
    with pytest.raises(ConfigError, match="max_message_bytes"):
        configuration(tmp_path, routes=(route,)).verify()


def test_contract_envoy_needs_no_issuer(tmp_path: Path) -> None:
    Config(policy=Policy(paths=(tmp_path,), contract="envoy")).verify()


def test_a_verified_configuration_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        setattr(Listen(), "check", "0.0.0.0:1")  # noqa: B010 - the type checker refuses it too


def test_refusals_are_200_on_mcp_and_403_elsewhere() -> None:
    assert Route(path="/mcp").refusal_status == 200
    assert Route(path="/a", protocol=Protocol.HTTP).refusal_status == 403
    assert Route(path="/mcp", deny_status=403).refusal_status == 403


def test_an_issuer_is_known_by_its_exact_name() -> None:
    assert ISSUER.typ == "at+jwt"
    assert ISSUER.tenants is None


def test_a_drop_in_waits_for_policies_that_ask_others_unless_told_otherwise() -> None:
    limits = load(overrides={"policy.contract": "envoy"}).limits
    assert limits.deadline_s == 10.0
    chosen = load(overrides={"policy.contract": "envoy", "limits.deadline_s": 0.1, "policy.evaluation_s": 0.05})
    assert (chosen.limits.deadline_s, chosen.policy.evaluation_s) == (0.1, 0.05)


def test_unsafe_settings_warn_by_name_and_safe_ones_do_not(tmp_path: Path) -> None:
    safe = {"audit.directory": tmp_path, "policy.contract": "envoy"}
    assert load(overrides=safe).warnings() == ()
    unsafe = safe | {"listen.insecure_plaintext": True, "policy.dry_run": True, "audit.sync": "none"}
    told = " ".join(load(overrides=unsafe).warnings())
    for name in ("insecure_plaintext", "dry_run", "audit.sync"):
        assert name in told
    assert "no kill" in " ".join(load().warnings())
    assert "no record is kept" in " ".join(load().warnings())


def pinned_archive(**policy: Any) -> Config:
    settings: dict[str, Any] = {"paths": ["b.tar.gz"], "state": "state", "trust": {"keys": {"release": "release.pem"}}}
    return Config.model_validate({"issuers": [ISSUER.model_dump()], "policy": settings | policy})


@pytest.mark.parametrize(
    ("policy", "says"),
    [
        ({"paths": ["policy/"]}, "one bundle archive"),
        ({"paths": ["a.tar.gz", "b.tar.gz"]}, "one bundle archive"),
        ({"opa_url": "http://127.0.0.1:8181"}, "one bundle archive"),
        ({"state": None}, "needs policy.state"),
    ],
    ids=["folder", "two", "server", "no-state"],
)
def test_k4_pins_that_could_not_hold_do_not_start(policy: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        pinned_archive(**policy).verify()


def test_an_archive_with_pins_starts_without_a_warning() -> None:
    pinned = pinned_archive()
    pinned.verify()
    assert not any("not verified" in warning for warning in pinned.warnings())


def test_an_archive_without_pins_warns() -> None:
    unpinned = pinned_archive(trust=None)
    unpinned.verify()
    assert any("bundle archive is not verified" in warning for warning in unpinned.warnings())
    assert not any("not verified" in warning for warning in pinned_archive(trust=None, paths=["policy/"]).warnings())
