"""Joining a control plane, over real HTTP and mutual TLS: who gets in, as whom, and who is noticed in between."""

from __future__ import annotations

import hashlib
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import grpc
import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from google.protobuf import json_format
from google.protobuf.duration_pb2 import Duration

from authz._gen.authz.control.v1 import sidecars_pb2 as pb
from authz.clock import SystemClock
from authz.control.certificates import issue_sidecar, new_authority, read_request
from authz.enrolment.control_plane import REPLICATION, ControlChannel
from authz.enrolment.folder import IdentityFolder
from authz.enrolment.identity import new_key, request
from authz.enrolment.invitations import Invitation
from authz.enrolment.membership import join
from authz.enrolment.names import SERVER_NAME
from authz.errors import ConfigError, ProgramError
from tests.control_planes import control_plane

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from google.protobuf.message import Message

    from authz.control.certificates import Authority
    from authz.enrolment.identity import Identity
    from authz.enrolment.membership import Membership
    from tests.control_planes import Running


@pytest.fixture(scope="module")
def control(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with control_plane(tmp_path_factory.mktemp("control") / "state") as running:
        yield running


def trust(member: Membership) -> pb.Trust:
    return member.control.call("ReadTrust", pb.ReadTrustRequest(), pb.Trust)


def test_a_sidecar_joins_with_its_token_and_is_known_by_its_certificate(control: Running, tmp_path: Path) -> None:
    member = control.joined(tmp_path, "acme", name="edge")
    assert member.identity.sidecar.startswith("edge-")
    assert member.identity.tenants == ("acme",)
    assert [stream.stream for stream in trust(member).streams] == ["", "acme"]
    assert 86_000 < member.left_s() <= 86_400


def test_a_token_is_good_once_even_when_many_race(control: Running, tmp_path: Path) -> None:
    token, start = control.invite("acme"), threading.Barrier(8)

    def race(number: int) -> str:
        start.wait()
        try:
            member = join(IdentityFolder(tmp_path / str(number)), url=control.url, token=token, clock=SystemClock())
        except ProgramError as error:
            return str(error)
        member.stop()
        return "joined"

    with ThreadPoolExecutor(8) as racers:
        ends = sorted(racers.map(race, range(8)))
    assert ends.count("joined") == 1
    assert sum("enrolment token" in end for end in ends) == 7


def test_a_token_that_is_over_or_was_made_up_is_refused_and_recorded(control: Running, tmp_path: Path) -> None:
    brief = control.invite("acme", expires_in=Duration(nanos=1000))
    pinned = Invitation.read(brief).fingerprint
    for token in (brief, Invitation.new(pinned, bytes).text):
        with pytest.raises(ProgramError, match="enrolment token"):
            join(IdentityFolder(tmp_path), url=control.url, token=token, clock=SystemClock())
    assert not tmp_path.joinpath("identity.pem").exists()


def test_a_request_that_is_none_does_not_use_the_token_up(control: Running, tmp_path: Path) -> None:
    token = control.invite("acme")
    refused = control.post("Sidecars/Enrol", pb.EnrolRequest(token=token, csr=b"\x30"))
    assert refused.status_code == 400
    member = join(IdentityFolder(tmp_path), url=control.url, token=token, clock=SystemClock())
    member.stop()


def test_no_token_or_password_is_stored(control: Running, tmp_path: Path) -> None:
    token = control.invite("acme")
    secret = Invitation.read(token).secret
    member = join(IdentityFolder(tmp_path), url=control.url, token=token, clock=SystemClock())
    member.stop()
    stored = b"".join(path.read_bytes() for path in control.plane.state.iterdir() if path.name.startswith("control.db"))
    assert hashlib.sha256(secret).hexdigest().encode() in stored
    assert secret.hex().encode() not in stored
    assert secret not in stored


class Between(ThreadingHTTPServer):
    """Somebody who answers enrolments with an authority of their own."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Answers(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        asked = json_format.ParseDict(
            json.loads(self.rfile.read(int(self.headers["content-length"]))), pb.EnrolRequest()
        )
        now = datetime.now(UTC)
        foreign = new_authority(now, now)
        leaf = issue_sidecar(foreign, read_request(asked.csr), "edge-1", now)
        answer = pb.EnrolResponse(
            sidecar="edge-1",
            certificates=[leaf.public_bytes(Encoding.DER)],
            roots=[foreign.certificate.public_bytes(Encoding.DER)],
            replication="127.0.0.1:1",
        )
        body = json_format.MessageToJson(answer).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def test_whoever_stands_between_with_another_authority_is_noticed(control: Running, tmp_path: Path) -> None:
    between = Between()
    try:
        with pytest.raises(ProgramError, match="not the one that the enrolment token names"):
            join(IdentityFolder(tmp_path), url=between.url, token=control.invite("acme"), clock=SystemClock())
    finally:
        between.shutdown()
        between.server_close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "url", ["http://control.example:8443", "ftp://127.0.0.1", "127.0.0.1:8443", "http://u:p@127.0.0.1"]
)
def test_a_token_never_goes_out_in_plaintext_or_to_what_is_no_url(control: Running, tmp_path: Path, url: str) -> None:
    with pytest.raises(ConfigError):
        join(IdentityFolder(tmp_path), url=url, token=control.invite("acme"), clock=SystemClock())


def test_it_starts_again_from_disk_without_network_or_token(control: Running, tmp_path: Path) -> None:
    member = control.joined(tmp_path, "acme")
    again = join(IdentityFolder(tmp_path), url="http://127.0.0.1:1", token="", clock=SystemClock())
    assert again.identity.sidecar == member.identity.sidecar
    assert trust(again).streams
    again.stop()


def test_without_identity_or_token_it_does_not_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has not joined"):
        join(IdentityFolder(tmp_path), url="http://127.0.0.1:1", token="", clock=SystemClock())


def test_a_renewal_has_a_key_of_its_own_and_is_on_disk_before_it_counts(control: Running, tmp_path: Path) -> None:
    member = control.joined(tmp_path, "acme")
    before = member.identity
    member.renew()
    after = member.identity
    assert after.sidecar == before.sidecar
    assert after.key_pem != before.key_pem
    assert after.ends >= before.ends
    kept = IdentityFolder(tmp_path).read()
    assert kept is not None
    assert kept.key_pem == after.key_pem
    assert trust(member).streams


RPCS: dict[str, tuple[Message, type[Message]]] = {
    "Renew": (pb.RenewRequest(csr=request(new_key())), pb.EnrolResponse),
    "ReadTrust": (pb.ReadTrustRequest(), pb.Trust),
    "PullEntries": (pb.PullEntriesRequest(stream="acme"), pb.PullEntriesResponse),
    "PullSnapshot": (pb.PullSnapshotRequest(stream="acme"), pb.SnapshotChunk),
    "ReadNewest": (pb.ReadNewestRequest(tenant="acme", name="payments"), pb.Newest),
    "PullPiece": (pb.PullPieceRequest(tenant="acme", name="payments", sha256="a" * 64), pb.Piece),
    "ReportBundles": (
        pb.ReportBundlesRequest(bundles=[pb.BundleState(tenant="acme", name="payments")]),
        pb.ReportBundlesResponse,
    ),
    "PullCandidate": (pb.PullCandidateRequest(tenant="acme", sha256="a" * 64), pb.PullCandidateResponse),
    "ReportRollouts": (
        pb.ReportRolloutsRequest(reports=[pb.RolloutReport(tenant="acme", rollout="r")]),
        pb.ReportRolloutsResponse,
    ),
    "Report": (pb.ReportRequest(applied=[pb.Applied(stream="acme", epoch=1, sequence=1)]), pb.ReportResponse),
}


def test_the_table_names_every_rpc_of_replication() -> None:
    assert set(RPCS) == {method.name for method in pb.DESCRIPTOR.services_by_name["Replication"].methods}


def code_of(channel: grpc.Channel, method: str, message: Message | None = None) -> grpc.StatusCode:
    """How the control plane answers this RPC on this connection."""
    sent, answer = RPCS[method]
    path, body = REPLICATION + method, (message or sent).SerializeToString()
    try:
        if method == "PullSnapshot":
            list(channel.unary_stream(path, None, answer.FromString)(body, timeout=10))
        else:
            channel.unary_unary(path, None, answer.FromString)(body, timeout=10)
    except grpc.RpcError as error:
        return code(error)
    return grpc.StatusCode.OK


def code(error: grpc.RpcError) -> grpc.StatusCode:
    assert isinstance(error, grpc.Call)
    return error.code()


@pytest.mark.parametrize("method", RPCS)
def test_a_removed_sidecar_is_refused_at_its_next_call(control: Running, tmp_path: Path, method: str) -> None:
    member = control.joined(tmp_path, "acme")
    assert code_of(member.channel, "ReadTrust") is grpc.StatusCode.OK
    removed = control.ask(
        "Sidecars/RemoveSidecar", pb.RemoveSidecarRequest(id=member.identity.sidecar, reason="retired"), pb.Sidecar
    )
    assert removed.HasField("removed_at")
    assert code_of(member.channel, method) is grpc.StatusCode.UNAUTHENTICATED
    with pytest.raises(ProgramError, match="SIDECAR_REMOVED"):
        member.renew()


FOREIGN: dict[str, Callable[[str], Message]] = {
    "ReadNewest": lambda tenant: pb.ReadNewestRequest(tenant=tenant, name="payments"),
    "PullPiece": lambda tenant: pb.PullPieceRequest(tenant=tenant, name="payments", sha256="a" * 64),
    "ReportBundles": lambda tenant: pb.ReportBundlesRequest(
        bundles=[pb.BundleState(tenant="acme", name="a"), pb.BundleState(tenant=tenant, name="a")]
    ),
    "PullCandidate": lambda tenant: pb.PullCandidateRequest(tenant=tenant, sha256="a" * 64),
    "ReportRollouts": lambda tenant: pb.ReportRolloutsRequest(
        reports=[pb.RolloutReport(tenant="acme", rollout="r"), pb.RolloutReport(tenant=tenant, rollout="r")]
    ),
    "PullEntries": lambda stream: pb.PullEntriesRequest(stream=stream),
    "PullSnapshot": lambda stream: pb.PullSnapshotRequest(stream=stream),
    "Report": lambda stream: pb.ReportRequest(
        applied=[pb.Applied(stream="acme", epoch=1, sequence=1), pb.Applied(stream=stream, epoch=1, sequence=1)]
    ),
}


@pytest.mark.parametrize("method", FOREIGN)
@pytest.mark.parametrize("stream", ["globex", "acme2", "acm", "Acme", "acme ", "acme/"])
def test_e10_a_sidecar_reads_and_says_nothing_of_another_tenant(
    control: Running, tmp_path: Path, method: str, stream: str
) -> None:
    control.joined(tmp_path / "theirs", "globex")
    member = control.joined(tmp_path / "ours", "acme")
    assert code_of(member.channel, method, FOREIGN[method](stream)) is grpc.StatusCode.PERMISSION_DENIED


def test_e10_trust_speaks_of_no_other_tenant(control: Running, tmp_path: Path) -> None:
    every = control.joined(tmp_path / "every")
    theirs = control.joined(tmp_path / "theirs", "globex")
    assert {stream.stream for stream in trust(theirs).streams} == {"", "globex"}
    member = control.joined(tmp_path / "ours", "acme")
    told = trust(member)
    assert {stream.stream for stream in told.streams} == {"", "acme"}
    assert "globex" not in str(told)
    streams = {stream.stream for stream in trust(every).streams}
    assert {"", "acme", "globex"} <= streams
    assert "*" not in streams


def test_no_operator_method_is_open_to_a_sidecar(control: Running, tmp_path: Path) -> None:
    member = control.joined(tmp_path)
    for method in ("Operators/WhoAmI", "Operators/CreateOperator", "Sidecars/InviteSidecar", "Sidecars/ListSidecars"):
        begin = member.channel.unary_unary(f"/authz.control.v1.{method}", bytes, bytes)
        with pytest.raises(grpc.RpcError) as refused:
            begin(b"", timeout=10)
        assert code(refused.value) is grpc.StatusCode.PERMISSION_DENIED


@pytest.mark.parametrize("method", RPCS)
def test_replication_is_closed_to_operators_and_strangers(control: Running, method: str) -> None:
    with grpc.insecure_channel(control.plane.addresses["grpc"]) as channel:
        assert code_of(channel, method) is grpc.StatusCode.UNAUTHENTICATED
    for credential in (control.credential, "x"):
        assert control.post(f"Replication/{method}", RPCS[method][0], credential).status_code in (401, 403, 501)


def forged_by(authority: Authority, member: Membership) -> Identity:
    """The member's name in a certificate of another authority."""
    key = new_key()
    leaf = issue_sidecar(authority, key.public_key(), member.identity.sidecar, datetime.now(UTC))
    return replace(member.identity, key=key, certificates=(leaf,))


def test_a21_the_operators_authority_makes_no_sidecars(tmp_path: Path) -> None:
    operators = new_authority(datetime.now(UTC), datetime.now(UTC))
    roots = tmp_path / "operators.pem"
    roots.write_bytes(operators.certificate.public_bytes(Encoding.PEM))
    with control_plane(tmp_path / "state", client_ca=roots) as control:
        member = control.joined(tmp_path / "sidecar", "acme")
        forged = ControlChannel(forged_by(operators, member))
        assert code_of(member.channel, "ReadTrust") is grpc.StatusCode.OK
        assert code_of(forged.channel, "ReadTrust") is grpc.StatusCode.UNAUTHENTICATED
        forged.close()


def test_a21_nobody_connects_without_a_certificate_or_with_anothers_authoritys(
    control: Running, tmp_path: Path
) -> None:
    member = control.joined(tmp_path, "acme")
    address = control.plane.addresses["replication"]
    forged = forged_by(new_authority(datetime.now(UTC), datetime.now(UTC)), member)
    bare = grpc.ssl_channel_credentials(member.identity.roots_pem)
    shown = grpc.ssl_channel_credentials(member.identity.roots_pem, forged.key_pem, forged.chain_pem)
    for credentials in (bare, shown):
        with grpc.secure_channel(address, credentials, [("grpc.ssl_target_name_override", SERVER_NAME)]) as channel:
            assert code_of(channel, "ReadTrust") is grpc.StatusCode.UNAVAILABLE
    with grpc.insecure_channel(address) as channel:
        assert code_of(channel, "ReadTrust") is grpc.StatusCode.UNAVAILABLE


def test_a_sidecars_own_certificate_cannot_stand_in_for_the_control_plane(control: Running, tmp_path: Path) -> None:
    impostor, victim = control.joined(tmp_path / "impostor"), control.joined(tmp_path / "victim")
    server = grpc.server(ThreadPoolExecutor(1))
    pair = (impostor.identity.key_pem, impostor.identity.chain_pem)
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair]))
    server.start()
    try:
        deceived = ControlChannel(replace(victim.identity, replication=f"127.0.0.1:{port}"))
        assert code_of(deceived.channel, "ReadTrust") is grpc.StatusCode.UNAVAILABLE
        deceived.close()
    finally:
        server.stop(0)


def test_the_list_shows_a_tenant_its_own_and_no_others_names(control: Running, tmp_path: Path) -> None:
    member = control.joined(tmp_path, "initech", "umbrella")
    member.control.call(
        "Report",
        pb.ReportRequest(applied=[pb.Applied(stream=name, epoch=1, sequence=3) for name in ("initech", "umbrella")]),
        pb.ReportResponse,
    )
    seen = control.ask("Sidecars/ListSidecars", pb.ListSidecarsRequest(tenant="initech"), pb.ListSidecarsResponse)
    ours = next(each for each in seen.sidecars if each.id == member.identity.sidecar)
    assert list(ours.tenants) == ["initech"]
    assert [(each.stream, each.sequence) for each in ours.applied] == [("initech", 3)]
    assert ours.HasField("last_report_at")
    assert "umbrella" not in str(seen)
    whole = control.ask("Sidecars/ListSidecars", pb.ListSidecarsRequest(), pb.ListSidecarsResponse)
    assert list(next(each for each in whole.sidecars if each.id == ours.id).tenants) == ["initech", "umbrella"]


@pytest.mark.parametrize(
    "asked",
    [
        pb.InviteSidecarRequest(tenants=["acme"], expires_in=Duration(seconds=86_401)),
        pb.InviteSidecarRequest(tenants=["acme"], expires_in=Duration()),
        pb.InviteSidecarRequest(tenants=[""]),
        pb.InviteSidecarRequest(tenants=["*"]),
        pb.InviteSidecarRequest(tenants=["acme"], name="A/b"),
        pb.InviteSidecarRequest(tenants=["acme"], name="-" * 3),
        pb.InviteSidecarRequest(tenants=["acme"], name="a" * 41),
    ],
    ids=["too long", "no time", "empty", "star", "name", "dashes", "long name"],
)
def test_invitations_that_are_none_are_refused(control: Running, asked: pb.InviteSidecarRequest) -> None:
    assert control.post("Sidecars/InviteSidecar", asked).status_code in (400, 403)
