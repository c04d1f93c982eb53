"""A sidecar and its control plane, both real, with a real Valkey between them or none: what is killed stops."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from google.protobuf.duration_pb2 import Duration

from authz._gen.authz.control.v1 import kills_pb2, sidecars_pb2
from authz.clock import SystemClock
from authz.config import Config, Revocation
from authz.enrolment.folder import IdentityFolder
from authz.enrolment.membership import join
from authz.following import Following
from authz.model import Principal, Risk
from authz.telemetry.metrics import Metrics
from tests.control_planes import control_plane
from tests.e2e.stack import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from authz.enrolment.membership import Membership
    from tests.control_planes import Running
    from tests.redis_servers import RedisServer

PRINCIPAL = Principal(issuer="i", tenant="acme", agent="agent-1", subject="a", jti_sha256="ab" * 32)
SCOPE = kills_pb2.Scope(kind=kills_pb2.SCOPE_KIND_AGENT, tenant="acme", value="agent-1")


@contextmanager
def following(member: Membership, metrics: Metrics | None = None, **revocation: Any) -> Iterator[Following]:
    metrics = metrics or Metrics(contract="agent", revocation="control")
    config = Config(revocation=Revocation(**({"source": "control"} | revocation)))
    running = Following(config, member, SystemClock(), metrics)
    running.start()
    try:
        yield running
    finally:
        running.stop()


def kill(control: Running) -> kills_pb2.KillReceipt:
    request = kills_pb2.CreateKillRequest(scope=SCOPE, reason="it sends mail to strangers", wait=Duration(seconds=10))
    return control.ask("Kills/CreateKill", request, kills_pb2.KillReceipt)


def lift(control: Running, made: kills_pb2.KillReceipt) -> None:
    request = kills_pb2.LiftKillRequest(id=made.kill.id, tenant="acme", reason="the owner has explained it")
    control.ask("Kills/LiftKill", request, kills_pb2.KillReceipt)


@pytest.mark.parametrize("through", ["redis", "control"])
def test_a_kill_is_confirmed_by_the_sidecar_in_which_it_bites(
    redis_server: RedisServer, tmp_path: Path, through: str
) -> None:
    redis = redis_server.url if through == "redis" else ""
    with control_plane(tmp_path / "control", redis=redis) as control:
        member = control.joined(tmp_path / "sidecar" / "identity", "acme")
        with following(member) as running:
            assert eventually(lambda: (running.unready(), running.degraded()) == ("", ""))
            made = kill(control)
            assert [confirmed.sidecar for confirmed in made.confirmed] == [member.identity.sidecar]
            assert list(made.unreached) == []
            assert running.kills.covering(PRINCIPAL, None) is not None
            lift(control, made)
            eventually(lambda: running.kills.covering(PRINCIPAL, None) is None)


def test_a_sidecar_that_serves_has_said_so_and_is_waited_for(tmp_path: Path) -> None:
    with control_plane(tmp_path / "control") as control:
        member = control.joined(tmp_path / "sidecar" / "identity", "acme")
        with following(member):
            request = sidecars_pb2.ListSidecarsRequest(tenant="acme")
            (known,) = control.ask("Sidecars/ListSidecars", request, sidecars_pb2.ListSidecarsResponse).sidecars
            assert known.HasField("last_report_at")
            assert [each.sidecar for each in kill(control).confirmed] == [member.identity.sidecar]


def test_e14_a_sidecar_that_starts_without_its_control_plane_still_knows(tmp_path: Path) -> None:
    folder = tmp_path / "sidecar" / "identity"
    with control_plane(tmp_path / "control") as control:
        member = control.joined(folder, "acme")
        with following(member) as running:
            eventually(lambda: running.kills.oldest_s() < 1)
            kill(control)
    again = join(IdentityFolder(folder), url="", token="", clock=SystemClock())
    try:
        with following(again) as running:
            assert running.kills.covering(PRINCIPAL, None) is not None
            assert running.unready() == ""
            assert running.degraded() == "KILL_STALE"
            assert running.kills.admit(PRINCIPAL, Risk.READ)
        with following(again, stale_reads_s=0.0) as running:
            assert running.unready() != ""
    finally:
        again.stop()


def test_e14_a_sidecar_that_knows_nothing_is_not_ready(tmp_path: Path) -> None:
    folder = tmp_path / "sidecar" / "identity"
    with control_plane(tmp_path / "control") as control:
        control.joined(folder, "acme")
    again = join(IdentityFolder(folder), url="", token="", clock=SystemClock())
    try:
        with following(again) as running:
            assert running.unready() == "nothing is known of them"
    finally:
        again.stop()


def test_operators_see_how_old_and_how_far_it_is_and_how_soon_each_kill_took_effect(tmp_path: Path) -> None:
    metrics = Metrics(contract="agent", revocation="control")
    with control_plane(tmp_path / "control") as control:
        member = control.joined(tmp_path / "sidecar" / "identity", "acme")
        with following(member, metrics) as running:
            eventually(lambda: running.kills.oldest_s() < 1)
            kill(control)
            _, exposed = metrics.exposition()
            seen = {(reading.metric.name, *reading.labels): reading.value for reading in running.readings()}
    assert b"authz_kill_effect_seconds_count 1.0\n" in exposed
    assert seen["authz_kills_known",] == 1
    assert 0 <= seen["authz_kill_replica_age_seconds", "tenants"] < 60
    assert seen["authz_kill_replica_epoch", "tenants"] == 1
    assert seen["authz_kill_replica_sequence", "tenants"] >= 1
    assert ("authz_kill_replica_age_seconds", "platform") in seen
