"""What counts as the configuration in force, what is shown of it, and when its files have drifted from it."""

from __future__ import annotations

import gc
import json
import sys
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from authz import effective
from authz.clock import SystemClock
from authz.config import load
from authz.effective import Effective
from authz.identity.development_issuer import AUDIENCE, ISSUER, open_issuer
from authz.wiring import Sidecar
from tests.e2e.stack import eventually
from tests.fakes import FakeClock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from authz.config import Config

POLICY = 'package authz\n\nimport rego.v1\n\ndecision := {"effect": "allow", "reason": "any", "risk": "read"}\n'


class Site:
    """A configuration file and what it names."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "authz.yaml"
        self.policy = folder / "policy.rego"
        self.roots = folder / "roots.pem"
        self.policy.write_text(POLICY)
        self.roots.write_text("roots")
        self.document: dict[str, Any] = {
            "version": 1,
            "listen": {"check": "127.0.0.1:0", "diagnostics": "127.0.0.1:0"},
            "issuers": [
                {"issuer": ISSUER, "audience": AUDIENCE, "jwks": str(open_issuer(folder / "issuer").jwks_path)}
            ],
            "policy": {"paths": [str(self.policy)]},
            "revocation": {"roots": str(self.roots)},
        }
        self.write()

    def write(self, **changes: Any) -> None:
        self.file.write_text(yaml.safe_dump(self.document | changes))

    def read(self) -> Config:
        return load(self.file)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def looked(clock: FakeClock, running: Effective) -> tuple[str, ...]:
    clock.advance(61)
    running.look()
    return running.drift


def test_f19_a_file_that_points_elsewhere_is_drift_until_it_says_the_same_again(site: Site) -> None:
    clock = FakeClock()
    running = Effective(site.read(), site.read, clock)
    assert looked(clock, running) == ()
    site.write(audit={"directory": "/elsewhere"}, telemetry={"otlp_endpoint": "http://sink"})
    running.look()
    assert running.drift == (), "it is looked at once a minute"
    assert looked(clock, running) == ("audit.directory", "telemetry.otlp_endpoint")
    site.write()
    assert looked(clock, running) == ()


def test_f19_a_pinned_root_that_is_exchanged_in_its_file_is_drift(site: Site) -> None:
    clock = FakeClock()
    running = Effective(site.read(), site.read, clock)
    site.roots.write_text("others")
    assert looked(clock, running) == ("revocation.roots",)


def test_f19_pinned_keys_belong_to_it_and_their_digest_tells_them_apart(site: Site) -> None:
    site.document["policy"]["trust"] = {"keys": {"ours": str(site.roots)}}
    site.write()
    before = effective.settings(site.read())
    site.roots.write_text("theirs")
    after = effective.settings(site.read())
    assert effective.differing(before, after) == ("policy.trust.keys.ours", "revocation.roots")
    assert effective.digest(before) != effective.digest(after)


@pytest.mark.parametrize("text", ["version: 2\n", "version: 1\nrouts: []\n", "a: [", None])
def test_f19_files_that_cannot_be_used_any_more_are_drift(site: Site, text: str | None) -> None:
    clock = FakeClock()
    running = Effective(site.read(), site.read, clock)
    if text is None:
        site.file.unlink()
    else:
        site.file.write_text(text)
    assert looked(clock, running) == (effective.UNREADABLE,)


def test_f19_a_look_that_fails_is_drift_and_ends_nothing(site: Site) -> None:
    def fails() -> Config:
        raise RuntimeError("a bug")

    clock = FakeClock()
    assert looked(clock, Effective(site.read(), fails, clock)) == (effective.UNREADABLE,)


def test_what_the_service_reads_again_by_itself_is_no_drift(site: Site) -> None:
    clock = FakeClock()
    running = Effective(site.read(), site.read, clock)
    site.policy.write_text(POLICY + "# another\n")
    site.write(control={"enrol": "used-once"})
    assert looked(clock, running) == ()


def test_without_files_there_is_nothing_to_drift_from(site: Site) -> None:
    clock = FakeClock()
    assert looked(clock, Effective(site.read(), None, clock)) == ()


@pytest.mark.parametrize(
    "secret", ["https://ana:hunter2@bundles/", "https://bundles/a?sig=hunter2", "rediss://:hunter2@redis:6379"]
)
def test_no_credential_can_be_guessed_from_the_digest(secret: str) -> None:
    found = {"telemetry.otlp_endpoint": secret}
    other = {"telemetry.otlp_endpoint": secret.replace("hunter2", "guess")}
    assert effective.digest(found) == effective.digest(other)
    assert effective.differing(found, other) == ("telemetry.otlp_endpoint",), "it is drift all the same"


def test_equal_configurations_have_one_digest_whatever_wrote_them(site: Site, tmp_path: Path) -> None:
    again = tmp_path / "again.yaml"
    again.write_text(json.dumps({"drift": "not_ready", **site.document}))
    assert effective.digest(effective.settings(load(again))) == effective.digest(effective.settings(site.read()))


class Ahead(SystemClock):
    """A clock that a test may set forward."""

    ahead_ns = 0

    def monotonic_ns(self) -> int:
        return super().monotonic_ns() + self.ahead_ns


@pytest.fixture
def own_process() -> Iterator[None]:
    """What a service arranges for its process, which is the tests' here, is put back."""
    interval = sys.getswitchinterval()
    yield
    sys.setswitchinterval(interval)
    gc.unfreeze()


@pytest.mark.usefixtures("own_process")
@pytest.mark.parametrize(("drift", "status"), [("not_ready", "not_ready"), ("degraded", "ready")])
def test_f19_a_service_whose_files_have_drifted_is_not_ready_and_says_so(site: Site, drift: str, status: str) -> None:
    site.document["drift"] = drift
    site.write()
    clock = Ahead()
    sidecar = Sidecar(site.read(), site.read, clock)
    sidecar.start()

    def told() -> Any:
        with urllib.request.urlopen(f"http://{sidecar.diagnostics_address}/status", timeout=5) as answer:
            return json.loads(answer.read())

    try:
        before = told()
        assert (before["status"], before["configuration"]["drift"]) == ("ready", [])
        assert before["configuration"]["digest"] == f"sha256:{effective.digest(effective.settings(site.read()))}"
        site.write(policy={"paths": ["/elsewhere.rego"]})
        clock.ahead_ns = 2 * effective.LOOK_NS
        eventually(lambda: told()["configuration"]["drift"] == ["policy.paths"])
        after = told()
        assert (after["status"], after["degraded"]["configuration"]) == (status, "CONFIG_DRIFT")
        assert after["configuration"]["digest"] == before["configuration"]["digest"], "it is what runs"
        with urllib.request.urlopen(f"http://{sidecar.diagnostics_address}/metrics", timeout=5) as answer:
            assert b"authz_config_drift 1" in answer.read()
    finally:
        sidecar.stop()
