"""Each part is looked at for itself: good, worth knowing, or what would keep the service from serving."""

from __future__ import annotations

import json
import socket
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import SecretStr

from authz.clock import SystemClock
from authz.config import (
    Audit,
    BundleTrust,
    Config,
    Control,
    Issuer,
    Limits,
    Listen,
    Policy,
    PublishedBundle,
    Revocation,
    Route,
    Telemetry,
)
from authz.control.certificates import issue_sidecar, new_authority
from authz.edge.diagnostics import Diagnostics
from authz.enrolment.folder import IdentityFolder
from authz.enrolment.identity import Identity, RedisAccess, new_key
from authz.identity.development_issuer import AUDIENCE, ISSUER, open_issuer
from authz.readiness import State, Subject, examine
from authz.resources import shared
from authz.revocation.follower import Follower
from tests.fakes import FakeClock
from tests.publisher import RELEASE, public_pem
from tests.replication import both

if TYPE_CHECKING:
    from pathlib import Path

    from authz.identity.development_issuer import DevelopmentIssuer
    from authz.readiness import Part


@pytest.fixture
def signer(tmp_path: Path) -> DevelopmentIssuer:
    return open_issuer(tmp_path / "state")


@pytest.fixture
def config(tmp_path: Path, signer: DevelopmentIssuer) -> Config:
    (tmp_path / "records").mkdir()
    return Config(
        listen=Listen(check=f"unix://{tmp_path}/authz.sock", diagnostics="127.0.0.1:0"),
        routes=(Route(path="/mcp"),),
        issuers=(Issuer(issuer=ISSUER, audience=AUDIENCE, jwks=str(signer.jwks_path)),),
        policy=Policy(paths=(shared("bundles/template"),)),
        audit=Audit(directory=tmp_path / "records"),
    )


def look(config: Config, name: str, **changes: Any) -> list[Part]:
    subject = replace(Subject(config=config, clock=SystemClock()), **changes)
    return [part for part in examine(subject) if part.name == name]


def only(config: Config, name: str, **changes: Any) -> tuple[State, str]:
    part, *_ = look(config, name, **changes)  # a slow disk adds a warning
    return part.state, part.found


def changed(config: Config, **groups: Any) -> Config:
    return config.model_copy(update=groups)


def test_a_sound_installation_lacks_nothing(config: Config) -> None:
    states = {part.name: part.state for part in examine(Subject(config=config, clock=SystemClock()))}
    assert {name for name, state in states.items() if state is State.FAILED or state is State.UNAVAILABLE} == set()
    assert {"python", "library", "policy", "keys", "token", "records", "listen", "clock"} <= states.keys()


def test_the_absence_of_kills_is_said_plainly(config: Config) -> None:
    state, found = only(config, "revocation")
    assert state is State.WARNING
    assert "can be killed" in found


def test_kills_that_are_kept_are_told_with_their_age(config: Config, tmp_path: Path) -> None:
    state = tmp_path / "state"
    following = changed(config, revocation=Revocation(source="redis://r:s3cret@r"), control=Control(state=state))
    kept, found = only(following, "revocation")
    assert (kept, "s3cret" in found) == (State.WARNING, False)
    follower = Follower(state / "kills", SystemClock())
    for ledger in both():
        follower.trust(ledger.stream, ledger.keys)
        follower.take_snapshot(ledger.stream, *ledger.snapshot())
    assert only(following, "revocation")[0] is State.WARNING
    for ledger in both():
        follower.take(ledger.stream, ledger.heartbeat())
    follower.close()
    kept, found = only(following, "revocation")
    assert (kept, "0 kills" in found) == (State.OK, True)


def test_a_configuration_that_would_not_start_is_told_with_its_remedy(config: Config) -> None:
    (part,) = look(changed(config, issuers=()), "configuration")
    assert (part.state, "issuer" in part.found) == (State.FAILED, True)
    assert "--jwks" in part.remedy


def test_other_parts_are_looked_at_although_one_is_broken(config: Config) -> None:
    broken = changed(config, policy=Policy(paths=(shared("rego") / "nowhere",)))
    assert only(broken, "policy")[0] is State.FAILED
    assert only(broken, "keys")[0] is State.OK


def test_a_policy_is_opened_and_asked(config: Config, tmp_path: Path) -> None:
    assert "authz/decision" in only(config, "policy")[1]
    (tmp_path / "p.rego").write_text("package authz\n\ndecision := nowhere\n")
    state, found = only(changed(config, policy=Policy(paths=(tmp_path / "p.rego",))), "policy")
    assert state is State.FAILED
    assert "p.rego:3" in found


def test_a_policy_without_the_entrypoint_fails(config: Config, tmp_path: Path) -> None:
    (tmp_path / "p.rego").write_text("package other\n\ndecision := 1\n")
    assert only(changed(config, policy=Policy(paths=(tmp_path / "p.rego",))), "policy")[0] is State.FAILED


def test_an_opa_that_does_not_answer_is_unavailable(config: Config) -> None:
    absent = Policy(paths=(), opa_url="http://127.0.0.1:1")
    assert only(changed(config, policy=absent), "policy")[0] is State.UNAVAILABLE


@pytest.mark.parametrize("document", [None, "", "{}", '{"keys": []}'])
def test_keys_that_cannot_be_read_fail(config: Config, tmp_path: Path, document: str | None) -> None:
    keys = tmp_path / "keys.json"
    if document is not None:
        keys.write_text(document)
    issuer = Issuer(issuer="https://issuer", audience="tools", jwks=str(keys))
    assert only(changed(config, issuers=(issuer,)), "keys")[0] is State.FAILED


def test_each_published_bundle_is_looked_for_on_the_disk(config: Config, tmp_path: Path) -> None:
    (tmp_path / "release.pem").write_bytes(public_pem(RELEASE.private))
    trust = BundleTrust(keys={"release": tmp_path / "release.pem"})
    bundles = (PublishedBundle(name="base"), PublishedBundle(name="own", tenant="acme"))
    published = Policy(bundles=bundles, trust=trust, state=tmp_path / "state")
    found = [(part.state, part.found) for part in look(changed(config, policy=published), "policy")]
    assert found == [(State.WARNING, f"no copy of {path} is kept here yet") for path in ("base", "acme/own")]


def test_keys_behind_a_url_that_does_not_answer_are_unavailable(config: Config) -> None:
    issuer = Issuer(issuer="https://issuer", audience="tools", jwks="http://127.0.0.1:1/keys")
    assert only(changed(config, issuers=(issuer,)), "keys")[0] is State.UNAVAILABLE


def test_a_key_that_is_not_used_is_named(config: Config, signer: DevelopmentIssuer) -> None:
    document = json.loads(signer.jwks_path.read_text())
    weak = {"kty": "oct", "k": "c2VjcmV0", "kid": "weak"}
    signer.jwks_path.write_text(json.dumps({"keys": [*document["keys"], weak]}))
    assert [part.state for part in look(config, "keys")] == [State.OK, State.WARNING]


def test_a_token_is_tried_and_never_shown(config: Config, signer: DevelopmentIssuer) -> None:
    good = signer.mint(agent="ann", tenant="acme")
    assert only(config, "token", token=good) == (State.OK, "accepted: agent ann of tenant acme")
    for bad in (good[:-8], "not.a.token", "x" * 9000):
        state, found = only(config, "token", token=bad)
        assert state is State.FAILED
        assert bad not in found


def test_the_development_issuer_s_own_token_is_tried(config: Config) -> None:
    assert "agent doctor" in only(config, "token")[1]


def test_a_folder_for_records_that_cannot_be_written_to_fails(config: Config, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    under_a_file = changed(config, audit=Audit(directory=tmp_path / "file"))
    assert only(under_a_file, "records")[0] is State.FAILED


def test_nothing_is_left_in_the_folder_of_records(config: Config, tmp_path: Path) -> None:
    assert only(config, "records")[0] is State.OK
    assert list((tmp_path / "records").iterdir()) == []


def test_a_folder_for_records_is_not_made(config: Config, tmp_path: Path) -> None:
    assert only(changed(config, audit=Audit(directory=tmp_path / "a" / "b")), "records")[0] is State.OK
    assert not (tmp_path / "a").exists()


def test_no_records_and_records_that_nobody_waits_for_warn(config: Config, tmp_path: Path) -> None:
    assert only(changed(config, audit=Audit()), "records")[0] is State.WARNING
    unsynced = look(changed(config, audit=Audit(directory=tmp_path, sync="none")), "records")
    assert any("does not wait" in part.found for part in unsynced)


def test_an_address_that_somebody_else_has_fails(config: Config) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        assert only(changed(config, listen=Listen(check=address, diagnostics="")), "listen")[0] is State.FAILED
        quiet = changed(config, listen=Listen(check=config.listen.check, diagnostics=address))
        assert [part.state for part in look(quiet, "listen")][-1] is State.FAILED


def test_an_authz_that_runs_here_already_is_known(config: Config) -> None:
    running = Diagnostics("127.0.0.1:0", lambda _: ("text/plain", b""), dict, degraded=dict)
    running.start()
    try:
        ours = changed(config, listen=Listen(check="127.0.0.1:1", diagnostics=running.address))
        state, found = only(ours, "listen")
    finally:
        running.stop()
    assert (state, "runs here already" in found) == (State.OK, True)


def test_a_socket_whose_folder_is_not_there_fails(config: Config, tmp_path: Path) -> None:
    nowhere = Listen(check=f"unix://{tmp_path}/nowhere/authz.sock", diagnostics="")
    assert only(changed(config, listen=nowhere), "listen")[0] is State.FAILED


def test_a_clock_behind_its_own_records_fails(config: Config, tmp_path: Path) -> None:
    (tmp_path / "records" / "decisions-1.jsonl").touch()
    now_ns = SystemClock().unix_ns()
    assert only(config, "clock", clock=FakeClock(wall_ns=now_ns))[0] is State.OK
    assert only(config, "clock", clock=FakeClock(wall_ns=now_ns - 60_000_000_000))[0] is State.FAILED


@pytest.mark.parametrize(
    ("said", "state"),
    [
        ("envoy  version: abc/1.40.3/Clean/RELEASE", State.OK),
        ("envoy  version: abc/1.20.0/Clean/RELEASE", State.WARNING),
        ("something else", State.WARNING),
    ],
)
def test_an_envoy_that_is_not_tested_warns(config: Config, tmp_path: Path, said: str, state: State) -> None:
    program = tmp_path / "envoy"
    program.write_text(f"#!/bin/sh\necho '{said}'\n")
    program.chmod(0o755)
    assert only(config, "envoy", envoy=program)[0] is state


def test_no_envoy_is_no_failure_of_the_service(config: Config, tmp_path: Path) -> None:
    assert only(config, "envoy", envoy=tmp_path / "nowhere")[0] is State.WARNING


@pytest.mark.parametrize(
    ("groups", "named"),
    [
        ({"listen": Listen(check="0.0.0.0:9191", insecure_plaintext=True, diagnostics="")}, "insecure_plaintext"),
        ({"policy": Policy(contract="envoy", paths=(), dry_run=True)}, "dry_run"),
        ({"routes": (Route(path="/mcp", upstream_auth="pass"),)}, "`pass`"),
        ({"telemetry": Telemetry(log_level="debug")}, "debug"),
    ],
)
def test_modes_that_trust_more_than_they_must_warn(config: Config, groups: dict[str, Any], named: str) -> None:
    assert any(named in part.found for part in look(changed(config, **groups), "trust"))


def test_limits_that_let_a_body_through_no_transport_fail(config: Config) -> None:
    narrow = changed(config, limits=Limits(max_message_bytes=1024))
    assert only(narrow, "configuration")[0] is State.FAILED


def test_a_sidecar_that_has_not_joined_is_said(config: Config, tmp_path: Path) -> None:
    control = Control(url="http://127.0.0.1:1", state=tmp_path / "sidecar")
    state, found = only(changed(config, control=control), "control")
    assert (state, found) == (State.FAILED, "this sidecar has not joined its control plane")
    invited = control.model_copy(update={"enrol": SecretStr("token")})
    assert only(changed(config, control=invited), "control plane")[0] is State.OK


def test_a_member_without_its_control_plane_is_a_warning_and_an_ended_one_a_failure(
    config: Config, tmp_path: Path
) -> None:
    control = Control(url="http://127.0.0.1:1", state=tmp_path / "sidecar")
    now = datetime.now(UTC)
    authority, key = new_authority(now, now), new_key()
    leaf = issue_sidecar(authority, key.public_key(), "edge-1", now)
    identity = Identity(
        sidecar="edge-1",
        tenants=("acme",),
        key=key,
        certificates=(leaf,),
        roots=(authority.certificate,),
        replication="127.0.0.1:1",
        redis=RedisAccess(url=""),
    )
    IdentityFolder(tmp_path / "sidecar" / "identity").keep(identity)
    good, away = look(changed(config, control=control), "control plane")
    assert (good.state, away.state) == (State.OK, State.WARNING)
    assert "edge-1, for acme" in good.found
    assert "none of its keys are kept" in away.found
    later = FakeClock(wall_ns=int((now.timestamp() + 90_000) * 1e9))
    state, found = only(changed(config, control=control), "control", clock=later)
    assert state is State.FAILED
    assert "has ended" in found
