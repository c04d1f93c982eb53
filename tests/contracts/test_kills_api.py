"""Kills through a running control plane: operators over HTTP, sidecars over mutual TLS, Redis between them."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import grpc
import httpx2 as httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from google.protobuf.duration_pb2 import Duration

from authz._gen.authz.control.v1 import kills_pb2, operators_pb2
from authz._gen.authz.control.v1 import sidecars_pb2 as pb
from authz.enrolment.control_plane import REPLICATION
from authz.errors import ConfigError
from authz.revocation import redis_streams
from authz.revocation.entries import Batch, Heartbeat, KillEntry, Signed, Snapshot, read
from tests.control_planes import control_plane
from tests.e2e.stack import eventually
from tests.ledgers import REASON, read_content

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from authz.enrolment.membership import Membership
    from authz.revocation.entries import Message
    from tests.control_planes import Running
    from tests.redis_servers import RedisServer


@dataclass
class Sidecar:
    """One that has joined and says what it is told to."""

    member: Membership

    @property
    def name(self) -> str:
        return self.member.identity.sidecar

    def message(self, signed: pb.SignedBatch, stream: str = "acme") -> Message:
        """As a sidecar believes it: by the keys that it was given."""
        trust = self.member.control.call("ReadTrust", pb.ReadTrustRequest(), pb.Trust)
        (keys,) = [
            {key.kid: Ed25519PublicKey.from_public_bytes(key.public_key) for key in each.keys}
            for each in trust.streams
            if each.stream == stream
        ]
        return read(Signed(body=signed.body, signature=signed.signature, kid=signed.kid), stream, keys)

    def entries(self, after: int = 0, epoch: int = 1, stream: str = "acme") -> pb.PullEntriesResponse:
        pull = self.member.control.channel.unary_unary(
            REPLICATION + "PullEntries",
            request_serializer=pb.PullEntriesRequest.SerializeToString,
            response_deserializer=pb.PullEntriesResponse.FromString,
        )
        request = pb.PullEntriesRequest(stream=stream, epoch=epoch, after_sequence=after)
        answer: pb.PullEntriesResponse = pull(request, timeout=20)
        return answer

    def snapshot(self, stream: str = "acme") -> tuple[Message, bytes]:
        pull = self.member.control.channel.unary_stream(
            REPLICATION + "PullSnapshot",
            request_serializer=pb.PullSnapshotRequest.SerializeToString,
            response_deserializer=pb.SnapshotChunk.FromString,
        )
        first, *rest = pull(pb.PullSnapshotRequest(stream=stream), timeout=20)
        return self.message(first.description, stream), b"".join(chunk.content for chunk in rest)

    def report(self, sequence: int, epoch: int = 1, stream: str = "acme") -> None:
        applied = pb.Applied(stream=stream, epoch=epoch, sequence=sequence)
        self.member.control.call("Report", pb.ReportRequest(applied=[applied]), pb.ReportResponse)


@pytest.fixture(scope="module")
def control(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with control_plane(tmp_path_factory.mktemp("control") / "state", kills_per_minute=50) as running:
        yield running


@pytest.fixture
def tenant(request: pytest.FixtureRequest) -> str:
    """One for each test: the control plane is shared."""
    return f"t-{abs(hash(request.node.name))}"


@pytest.fixture
def sidecar(control: Running, tmp_path: Path, tenant: str) -> Sidecar:
    return Sidecar(control.joined(tmp_path, tenant, name="edge"))


def scope(tenant: str, value: str = "billing", kind: Any = kills_pb2.SCOPE_KIND_AGENT) -> kills_pb2.Scope:
    return kills_pb2.Scope(kind=kind, tenant=tenant, value=value)


def kill(control: Running, tenant: str, wait_s: int = 0, **fields: Any) -> kills_pb2.KillReceipt:
    request = kills_pb2.CreateKillRequest(scope=scope(tenant), reason=REASON, wait=Duration(seconds=wait_s), **fields)
    return control.ask("Kills/CreateKill", request, kills_pb2.KillReceipt)


def operator(control: Running, name: str, tenant: str, role: Any, *, automatic: bool = False) -> str:
    """The credential of a new operator."""
    made = operators_pb2.Operator(
        id=name, credential=True, grants=[operators_pb2.Grant(role=role, tenant=tenant)], automatic=automatic
    )
    request = operators_pb2.CreateOperatorRequest(operator=made, reason=REASON)
    return control.ask("Operators/CreateOperator", request, operators_pb2.CreateOperatorResponse).credential


def status(call: Callable[[], object]) -> grpc.StatusCode:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    assert isinstance(caught.value, grpc.Call)
    return caught.value.code()


def test_a_sidecar_pulls_signed_entries_and_a_heartbeat(control: Running, sidecar: Sidecar, tenant: str) -> None:
    made = kill(control, tenant).kill
    pulled = sidecar.entries(stream=tenant)
    (batch,) = [sidecar.message(signed, tenant) for signed in pulled.batches]
    assert isinstance(batch, Batch)
    (entry,) = batch.entries
    assert isinstance(entry, KillEntry)
    assert (entry.id, entry.scope.value, entry.scope.tenant) == (made.id, "billing", tenant)
    beat = sidecar.message(pulled.heartbeat, tenant)
    assert isinstance(beat, Heartbeat)
    assert (beat.sequence, beat.epoch, pulled.more) == (1, 1, False)
    assert list(sidecar.entries(after=1, stream=tenant).batches) == []


def test_a_place_that_the_ledger_does_not_have_needs_a_snapshot(
    control: Running, sidecar: Sidecar, tenant: str
) -> None:
    kill(control, tenant)
    for after, epoch in ((2, 1), (-1, 1), (1, 2), (0, 0)):
        assert status(partial(sidecar.entries, after, epoch, tenant)) is grpc.StatusCode.OUT_OF_RANGE


def test_a_snapshot_holds_everything_in_force_and_is_signed(control: Running, sidecar: Sidecar, tenant: str) -> None:
    made = kill(control, tenant).kill
    described, content = sidecar.snapshot(tenant)
    assert isinstance(described, Snapshot)
    assert (described.sequence, described.entries) == (1, 1)
    assert described.sha256 == sha256(content).hexdigest()
    assert read_content(content, tenant).keys() == {made.id}


def test_a_kill_is_confirmed_by_the_sidecar_that_applied_it(control: Running, sidecar: Sidecar, tenant: str) -> None:
    sidecar.report(0, stream=tenant)
    receipts: list[kills_pb2.KillReceipt] = []
    asking = threading.Thread(target=lambda: receipts.append(kill(control, tenant, wait_s=30)))
    asking.start()
    eventually(lambda: sidecar.entries(stream=tenant).batches)
    sidecar.report(1, stream=tenant)
    asking.join(30)
    (receipt,) = receipts
    assert [(each.sidecar, each.applied_sequence) for each in receipt.confirmed] == [(sidecar.name, 1)]
    assert (list(receipt.unreached), receipt.redis) == ([], "none")


def test_e7_a_sidecar_that_knows_more_than_a_restored_ledger_makes_it_begin_anew(
    control: Running, sidecar: Sidecar, tenant: str, caplog: pytest.LogCaptureFixture
) -> None:
    kill(control, tenant)
    sidecar.report(7, stream=tenant)
    assert status(lambda: sidecar.entries(after=1, stream=tenant)) is grpc.StatusCode.OUT_OF_RANGE
    assert "KILL_EPOCH_REGRESS" in caplog.text
    described, _ = sidecar.snapshot(tenant)
    assert (described.epoch, described.sequence) == (2, 2)  # type: ignore[union-attr]
    sidecar.report(9_000, epoch=2, stream=tenant)
    described, _ = sidecar.snapshot(tenant)
    assert described.epoch == 2, "one that lies cannot end epoch after epoch"


@pytest.mark.parametrize(("epoch", "believed"), [(3, True), (1 << 40, False)])
def test_e7_a_sidecar_of_a_later_epoch_makes_a_restored_ledger_begin_a_later_one(
    control: Running, sidecar: Sidecar, tenant: str, epoch: int, *, believed: bool
) -> None:
    kill(control, tenant)
    sidecar.report(1, epoch=epoch, stream=tenant)
    described, _ = sidecar.snapshot(tenant)
    assert described.epoch == (epoch + 1 if believed else 1)


def test_two_people_kill_a_tenant_over_the_api(control: Running, tenant: str) -> None:
    lead = operators_pb2.ROLE_SECURITY_LEAD
    anna, ben = (operator(control, f"{name}-{tenant}", tenant, lead) for name in ("anna", "ben"))
    program = operator(control, f"detector-{tenant}", tenant, lead, automatic=True)
    responder = operator(control, f"rita-{tenant}", tenant, operators_pb2.ROLE_RESPONDER)
    asked = kills_pb2.CreateKillRequest(scope=scope(tenant, "", kills_pb2.SCOPE_KIND_TENANT), reason=REASON)
    for credential in (program, responder):
        assert control.post("Kills/CreateKill", asked, credential).status_code == 403
    receipt = control.post("Kills/CreateKill", asked, anna).json()
    assert receipt["kill"]["state"] == "KILL_STATE_AWAITING_CONFIRMATION"
    confirm = kills_pb2.ConfirmKillRequest(id=receipt["kill"]["id"], tenant=tenant)
    again = control.post("Kills/ConfirmKill", confirm, anna)
    assert (again.status_code, again.json()["code"]) == (400, "failed_precondition")
    for credential in (program, responder):
        assert control.post("Kills/ConfirmKill", confirm, credential).status_code == 403
    confirmed = control.post("Kills/ConfirmKill", confirm, ben).json()
    assert confirmed["kill"]["state"] == "KILL_STATE_IN_FORCE"


def test_e9_an_operators_kills_are_bounded(control: Running, tenant: str) -> None:
    busy = operator(control, f"busy-{tenant}", tenant, operators_pb2.ROLE_RESPONDER)
    asked = kills_pb2.CreateKillRequest(scope=scope(tenant), reason=REASON)
    answers = [control.post("Kills/CreateKill", asked, busy) for _ in range(51)]
    assert [answer.status_code for answer in answers] == [200] * 50 + [429]
    assert answers[-1].json()["code"] == "resource_exhausted"


# With Redis


def test_a_kill_goes_to_redis_and_every_instance_says_how_it_fares(redis_server: RedisServer, tmp_path: Path) -> None:
    with control_plane(tmp_path / "state", redis=redis_server.url) as control:
        made = kill(control, "acme").kill
        key = redis_streams.entries_key("acme")
        with redis_server.client as client:
            ((entry_id, _),) = eventually(lambda: client.xrange(key))
            assert entry_id == f"{made.epoch}-{made.sequence}".encode()
            assert eventually(lambda: kill(control, "acme").redis == "ok")
            client.config_set("maxmemory", "1")
            assert eventually(lambda: kill(control, "acme").redis == "failed")
            assert 'authz_kill_publication{state="failed"} 1.0' in httpx.get(f"{control.url}/metrics").text
            client.config_set("maxmemory", "0")
        assert eventually(lambda: kill(control, "acme").redis == "ok")
    with control_plane(tmp_path / "state") as control:
        assert kill(control, "acme").redis == "none"


def test_e4_the_control_plane_does_not_start_on_a_redis_that_evicts(redis_server: RedisServer, tmp_path: Path) -> None:
    with redis_server.client as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
    with pytest.raises(ConfigError, match="noeviction"), control_plane(tmp_path / "state", redis=redis_server.url):
        pass


def test_the_control_plane_starts_and_kills_while_redis_is_down(redis_server: RedisServer, tmp_path: Path) -> None:
    redis_server.kill()
    with control_plane(tmp_path / "state", redis=redis_server.url) as control:
        assert kill(control, "acme").kill.sequence == 1
        assert eventually(lambda: kill(control, "acme").redis == "failed")
        redis_server.start()
        assert eventually(lambda: kill(control, "acme").redis == "ok")
